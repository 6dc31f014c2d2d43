"""What of a traced step its loss is made of: backwards from the loss, operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onthefly.insight.values import Items, Leaf, Made, Written, marks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from onthefly.insight.operations import Operation


def needed(operations: Sequence[Operation], loss: Any) -> list[int]:
    """Numbers of the operations that it depends on, in their order."""
    found: set[int] = set()
    pending = list(_numbers(loss))
    while pending:
        number = pending.pop()
        if number not in found:
            found.add(number)
            one = operations[number]
            pending += [*_numbers(one.args), *_numbers(one.named)]
    return sorted(found)


def _numbers(given: Any) -> Iterator[int]:
    return (mark.operation for mark in marks(given) if isinstance(mark, (Made, Written)))


def batches_of(operations: Sequence[Operation], numbers: Collection[int], loss: Any) -> set[int]:
    """Places of the batches that go into it."""
    given = [loss, *[part for number in numbers for part in (operations[number].args, operations[number].named)]]
    return {mark.path[0][1] for one in given for mark in marks(one) if isinstance(mark, Leaf)}


def of_batch(given: Any, place: int) -> Any:
    """The same with paths within that batch, where several had been told apart."""
    if isinstance(given, Leaf):
        return Leaf(given.path[1:]) if given.path[:1] == (("batch", place),) else given
    if isinstance(given, Written):
        return Written(of_batch(given.value, place), given.operation)
    if isinstance(given, Items):
        return Items(given.build, [of_batch(part, place) for part in given.parts])
    if hasattr(given, "_replace") and hasattr(given, "named"):
        return given._replace(args=of_batch(given.args, place), named=of_batch(given.named, place))
    return given
