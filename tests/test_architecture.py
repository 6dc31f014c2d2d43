"""The house keeps its shape: floors, who may import what, sizes, docstrings, no broad except."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "onthefly"

FLOORS = [
    {"protocol", "settings", "errors", "version"},
    {"core", "link", "bundle", "patching"},
    {"instruments", "capture", "state", "hub", "alarms", "merging"},
    {"insight", "health"},
    {"runs"},
    {"actions"},
    {"agent"},
    {"sessions"},
    {"launch", "bootstrap", "trainer", "lightning", "notebook"},
    {"cli", "__init__"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

ONLY_IN = {
    "torch": {
        "instruments",
        "capture",
        "state",
        "alarms",
        "merging",
        "insight",
        "health",
        "runs",
        "actions",
        "agent",
        "trainer",
        "lightning",
    },
    "aiohttp": {"hub"},
    "duckdb": {"hub"},
    "numpy": {"hub", "bundle"},
    "psutil": {"hub"},
    "pynvml": {"hub"},
    "pyarrow": {"hub"},
    "msgspec": {"protocol", "link", "hub"},
}
MAX_LINES, MAX_FUNCTION = 400, 60

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[str]:
    """Every module that is imported, at any depth."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def breaches(path: Path, tree: ast.Module) -> list[str]:
    """What this file does that the design forbids."""
    room, found = room_of(path), []
    for module in imported(tree):
        top, *rest = module.split(".")
        if top == "onthefly" and rest and rest[0] != room and FLOOR[rest[0]] >= FLOOR[room]:
            found.append(f"{room} imports {rest[0]}: a room of the same floor or a higher one")
        if top in ONLY_IN and room not in ONLY_IN[top]:
            found.append(f"{top} is imported in {room}")
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            if _lines(node) > MAX_FUNCTION:
                found.append(f"{node.name} has {_lines(node)} lines")
        elif isinstance(node, ast.ExceptHandler) and path.name != "errors.py":
            broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            if broad and not _passes_on(node):
                found.append(f"line {node.lineno}: a broad except")
        elif isinstance(node, ast.Attribute) and node.attr == "environ" and not _may_read_environment(path):
            found.append(f"line {node.lineno}: os.environ")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and room != "cli":
            found.append(f"line {node.lineno}: print")
    return found


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of its body, without what is said to those who call it."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it ends with a bare ``raise``, and so swallows nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _may_read_environment(path: Path) -> bool:
    # Discovery and the trial hand the environment on to what they start; the CLI asks for a display, no setting.
    return path.name in ("settings.py", "launch.py", "discovery.py", "dashboard.py", "trial.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_keeps_to_the_design(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "opens without saying what it is"
    assert text.count("\n") <= MAX_LINES
    assert breaches(path, tree) == []


def test_breaches_are_seen(tmp_path: Path) -> None:
    source = (
        "import aiohttp\nfrom onthefly.hub import server\nprint(1)\n"
        "try:\n    pass\nexcept Exception:\n    pass\nimport os\nos.environ\n"
    )
    assert len(breaches(PACKAGE / "core" / "made_up.py", ast.parse(source))) == 5


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in FILES} <= set(FLOOR)


def test_the_door_says_what_it_offers() -> None:
    import onthefly

    public = {name for name in vars(onthefly) if not name.startswith("_")} - {"TYPE_CHECKING"}
    modules = {name for name in public if type(getattr(onthefly, name)).__name__ == "module"}
    assert public - modules <= set(onthefly.__all__)
    assert all(hasattr(onthefly, name) for name in onthefly.__all__)
    assert not hasattr(onthefly, "nothing_of_that_name")
