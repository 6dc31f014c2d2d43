"""The version of this package, and versions compared, readable without importing anything else."""

__version__ = "1.0.0.dev0"


def release(version: str) -> "tuple[int, ...]":
    """The numbers that a version begins with: ``(2, 13, 0)`` of ``2.13.0+cpu``, ``(1, 0, 0)`` of ``1.0.0.dev0``."""
    numbers: list[int] = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
