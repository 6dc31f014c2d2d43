"""Which loaders a script has, and what they are called: as we number them, and as its variables name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import DataLoader

from onthefly.errors import Refused
from onthefly.insight.split import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TESTS, _VALID = ("test",), ("val", "dev", "eval", "holdout")


class Known(NamedTuple):
    """One loader."""

    loader: Any
    names: tuple[str, ...]
    """What it may be asked for by; the first is what its records carry."""
    trained: bool
    """Batches of it were trained on, as far as known."""


def known(seen: Iterable[tuple[str, Any]], variables: Mapping[str, Any]) -> list[Known]:
    """``seen``: those that were iterated, by our names, the one that is trained on first; ``variables``: the script's.

    Of a loader that nobody holds but its iterator, one over the same data set stands in.
    """
    named: dict[int, list[str]] = {}
    held: dict[int, Any] = {}
    for name, value in variables.items():
        for inner, one in _loaders(name, value):
            named.setdefault(id(one), []).append(inner)
            held[id(one)] = one
    found: list[Known] = []
    for place, (name, one) in enumerate(seen):
        loader = one if isinstance(one, DataLoader) else _again(one)
        if loader is not None:
            found.append(Known(loader, (name, *named.pop(id(loader), [])), not place))
    found += [Known(held[number], tuple(names), False) for number, names in named.items()]
    return found


def _loaders(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, DataLoader):
        yield name, value
    elif isinstance(value, dict):
        for key, one in list(value.items()):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            if isinstance(one, DataLoader):
                yield f"{name}[{key!r}]", one
    elif isinstance(value, (list, tuple)):
        for place, one in enumerate(value[:64]):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            if isinstance(one, DataLoader):
                yield f"{name}[{place}]", one
    elif not isinstance(value, type):
        attributes = getattr(value, "__dict__", None)
        for key, one in list(attributes.items()) if type(attributes) is dict else ():
            if isinstance(one, DataLoader):
                yield f"{name}.{key}", one


def _again(iterator: Any) -> Any:
    try:
        return DataLoader(iterator._dataset, BATCH_SIZE, collate_fn=iterator._collate_fn)
    except (AttributeError, TypeError, ValueError):  # an iterator of somebody's own
        return None


def chosen(loaders: list[Known], name: str, *, test: bool) -> tuple[str, Any]:
    """Name and object of the loader that is asked for; without a name, the one to test on, or the one trained on."""
    listed = ", ".join("/".join(one.names) for one in loaders)
    remedy = f"there are: {listed}" if listed else "the script has made no DataLoader that is there still"
    if name:
        for one in loaders:
            if name in one.names:
                return name if not one.names[0].startswith("loader") else one.names[0], one.loader
        raise Refused(f"there is no loader {name!r}", remedy)
    if not test:
        found = next((one for one in loaders if one.trained), None)
        if found is None:
            raise Refused("no loader is known that is trained on", remedy)
        return found.names[0], found.loader
    for words in (_TESTS, _VALID):
        for one in loaders:
            if any(word in known.rpartition(".")[2].lower() for known in one.names for word in words):
                return one.names[0], one.loader
    others = [one for one in loaders if not one.trained]
    if len(others) == 1:
        return others[0].names[0], others[0].loader
    if others:
        raise Refused("which loader to test on is not told", remedy)
    raise Refused("there is no loader to test on but the one that is trained on", f"name one ({listed}), or register "
                  "a function: onthefly.session().register(test=fn)")  # fmt: skip
