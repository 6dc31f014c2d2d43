"""Where checkpoints come from: a checkpoint's own folder, a session's folder, or a bundle.

All give the same: the path of a folder of which every byte is verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.bundle import checks, files, folder, sealed
from onthefly.bundle.archive import Bundle
from onthefly.bundle.refusals import Damaged, NoSuchBundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NEWEST = "newest"
FOLDER = "checkpoints"


def checkpoint_folder(source: Path, name: str = NEWEST, *, owner: str = "", into: Path | None = None) -> Path:
    """The folder of a checkpoint, every byte of it verified. No pickled part is taken.

    Args:
        source: a checkpoint's folder, a session's folder, or an ``.otf`` file.
        name: of the checkpoint; ``newest``: the one that was made last. Of no use with a checkpoint's own folder.
        owner: whose, where several processes trained: ``rank1``; empty: rank 0's.
        into: the folder in which one that comes from a bundle is put, under its name.

    Raises :class:`~onthefly.bundle.refusals.BundleError`, :class:`~onthefly.errors.UsageError`.
    """
    if source.is_dir():
        if (source / folder.MANIFEST).exists():
            path = source
        else:
            parent = source / owner / FOLDER
            path = folder.path_in(parent, _newest(name, source, {
                one: folder.manifest(parent / one) for one in folder.names(parent)
            }))  # fmt: skip
        verify(path)
        return path
    if into is None:
        raise ValueError("where a checkpoint of a bundle is put has to be said")
    with Bundle(source) as bundle:
        prefix = f"{owner}/{FOLDER}/" if owner else f"{FOLDER}/"
        there = sorted({member.split("/")[-2] for member in bundle.members if member.startswith(prefix)})
        chosen = _newest(name, source, {one: _manifest(bundle, f"{prefix}{one}/") for one in there})
        path = folder.path_in(into, chosen)
        if path.is_dir() and not path.is_symlink():
            verify(path)
            return path
        take(bundle, f"{prefix}{chosen}/", path)
    return path


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint's folder after every byte was verified, and that its tensors fill their files."""
    listed = folder.verify(path)
    for member in listed["members"]:
        checks.checkpoint_member(path / member["name"])
    return listed


def take(bundle: Bundle, prefix: str, path: Path) -> None:
    """Make the folder ``path`` of a checkpoint in a bundle, verified."""
    members = [member for member in bundle.members if member.startswith(prefix)]

    def fill(temporary: Path) -> None:
        for member in members:
            bundle.extract(member, temporary / member.rpartition("/")[2])
        check_against(temporary, {
            member.rpartition("/")[2]: bundle.members[member][1:3] for member in members
        })  # fmt: skip

    pickled = [member for member in members if bundle.members[member].kind == "pickle"]
    if pickled:
        raise Damaged(f"{pickled[0]} is pickled: to load it is to run what its maker put there",
                      "take another checkpoint")  # fmt: skip
    files.make_folder(path, fill)


def check_against(path: Path, copied: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """The manifest of a folder just copied, whose own hashes are those of the copies: nothing is hashed twice.

    A folder that was put together from two checkpoints has hashes that are right, and not its manifest's.
    """
    listed = folder.manifest(path)
    own = {member["name"]: (member["bytes"], member["sha256"]) for member in listed["members"]}
    if own != {name: found for name, found in copied.items() if name != folder.MANIFEST}:
        raise Damaged(f"{path.name} is put together from parts of several checkpoints")
    for name in own:
        checks.checkpoint_member(path / name)
    return listed


def _manifest(bundle: Bundle, prefix: str) -> dict[str, Any]:
    return sealed.read(bundle.read(f"{prefix}{folder.MANIFEST}", folder.MAX_MANIFEST), prefix, folder.FORMAT)


def _newest(name: str, source: Path, manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """That name, or the checkpoint made last, if there is one."""
    if name == NEWEST and manifests:
        return max(manifests, key=lambda one: float(manifests[one].get("time", 0.0)))
    if name not in manifests:
        raise NoSuchBundle(f"there is no checkpoint {name!r} in {source}", f"there are: {_known(manifests)}")
    return name


def _known(found: Iterable[str]) -> str:
    return ", ".join(found) or "none"
