"""What an expression is with regard to the items of a batch.

One batch is looked at, with *n* items. A value of the item at hand exists only while a loop or comprehension goes over
all items, one by one.
"""

from __future__ import annotations

from typing import Any, Optional, Union


class Doubt(Exception):
    """It cannot be shown that rows come in the order of items; the message says why, and at which line."""


class Plain:
    """The same for all items, and no data of any one: a constant, a setting, a length."""

    def __init__(self, *, number: bool = False, count: bool = False, fixed: bool = False) -> None:
        self.number = number or count
        """Certainly a Python number."""
        self.count = count
        """Certainly *n*."""
        self.fixed = fixed or self.number
        """Certainly not a thing that items may have been put into."""


class Known(Plain):
    """A real object that the code refers to: a module, a function, a setting."""

    def __init__(self, thing: Any) -> None:
        super().__init__(number=type(thing) in (int, float, bool))
        self.fixed = False  # a function that is called in between may put something else there
        self.thing = thing


class Shape(Plain):
    """The sizes of a tensor."""

    def __init__(self, *, of_rows: bool) -> None:
        super().__init__(fixed=True)
        self.of_rows = of_rows
        """The first of them is *n*."""


class Method(Plain):
    """A function of a known object's class, bound to it."""

    def __init__(self, owner: Any, function: Any) -> None:
        super().__init__()
        self.owner = owner
        self.function = function


class Closure(Plain):
    """A function that the code defines itself."""

    def __init__(self, node: Any, frame: Any) -> None:
        super().__init__()
        self.node = node
        self.frame = frame


class Item:
    """Of the item at hand and of no other: the item, a part of it, or what was computed of it."""

    def __init__(self, *, number: bool = False, row: bool = False, place: bool = False) -> None:
        self.number = number
        """Certainly a Python number or a shape."""
        self.row = row
        """Certainly a tensor with one row."""
        self.place = place
        """The item's place in the batch itself."""


class Other:
    """Of some item that is not the one at hand, or of several."""


class Items:
    """A list or tuple with one entry an item, in their order; what iterates over it gives :class:`Item`."""

    def __init__(self, *, number: bool = False, row: bool = False, place: bool = False, lazy: bool = False) -> None:
        self.number = number
        self.row = row
        self.place = place
        self.lazy = lazy
        """An iterator: good once, and evaluated later than written."""
        self.spent = False
        self.listed = False
        """Certainly a list: a tuple means something else as an index."""


class Pairs(Items):
    """``zip`` and ``enumerate`` of all items: each entry has known parts."""

    def __init__(self, entries: list[Value]) -> None:
        super().__init__(lazy=True)
        self.entries = entries


class Rows:
    """A tensor or array: without dimensions, or of *n* rows, of which row *i* is of item *i* alone."""


class Tree:
    """A nest of containers in which every tensor is as :class:`Rows`."""


class Joined:
    """What torch-geometric makes of all items: it says itself what has a row an item."""


class Many:
    """A sequence of unknown length whose entries are all like this one; ``zip(*items)`` for example."""

    def __init__(self, entry: Value, *, lazy: bool = False) -> None:
        self.entry = entry
        self.lazy = lazy
        self.spent = False


class Entries:
    """A list or tuple of which each entry is known."""

    def __init__(self, entries: list[Value]) -> None:
        self.entries = entries


class Table:
    """A dictionary."""

    def __init__(self, entries: dict[Any, Value], rest: Optional[Value] = None) -> None:
        self.entries = entries
        self.rest = rest
        """What stands under keys that are not written out; None: there are no others."""


class Growing:
    """A list that the code fills, as the variable that holds it; read, it is one of the above."""

    def __init__(self, node: Any, entries: list[Value], loops: tuple[Any, ...]) -> None:
        self.node = node
        """The expression that made it."""
        self.entries = entries
        self.loops = loops
        """Those under way where it was made."""
        self.filled: Optional[Union[Items, Many]] = None
        self.by: Any = None
        """The loop that fills it, or has."""
        self.read = False
        """It goes by another name too: whatever is appended now would be missed there."""

    def settled(self) -> Entries:
        """What it holds while no loop has filled it."""
        return Entries(self.entries)


Value = Union[Plain, Item, Other, Items, Rows, Tree, Joined, Many, Entries, Table, Growing]
