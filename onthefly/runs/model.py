"""The model that the script's step trains: its tensors by name, whose values are those of any run.

A run that is not the current one is a checkpoint in memory: what each living tensor held then, by its ``id``. So no
model is built anew; the living one lends its structure, and its tensors other values while that is needed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from onthefly.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from onthefly.merging.parents import State

Values = dict[int, Tensor]
"""What tensors of the model hold, by the ``id`` of those that live."""


class Model:
    """Outermost modules of a step."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """Refused where nothing in them is trained."""
        inner = {id(one) for module in modules for one in module.modules() if one is not module}
        outer = [
            module for module in modules if id(module) not in inner and next(module.parameters(), None) is not None
        ]
        if not outer:
            raise Refused("the step calls no module that has parameters", "it can be forked, and not merged")
        self.modules = outer
        self.whole: nn.Module = outer[0] if len(outer) == 1 else nn.ModuleList(outer)
        """One module with all of them in it; they do not know of it."""
        self.tensors: dict[str, Tensor] = dict(self.whole.named_parameters(remove_duplicate=False))
        self.tensors.update(self.whole.named_buffers(remove_duplicate=False))
        """Parameters and buffers by name, tied ones under each of their names."""

    def state(self, values: Values | None = None) -> State:
        """Copies of what they hold; with ``values``, of what these say. Refused where a parameter is not among them."""
        if values is None:
            return self._by_name({id(tensor): tensor.detach().clone() for tensor in self.tensors.values()})
        parameters = {id(one) for one in self.whole.parameters()}
        held: Values = {}
        for name, tensor in self.tensors.items():
            found = values.get(id(tensor))
            if found is None and id(tensor) in parameters:
                raise Refused(f"the run's checkpoint does not hold {name}", "the model is another one since")
            if found is not None and found.shape != tensor.shape:
                raise Refused(f"{name} has another shape in the run's checkpoint")
            held.setdefault(id(tensor), (tensor if found is None else found).detach().to(tensor.device))
        return self._by_name(held)

    def values(self, state: State) -> Values:
        """The other way round."""
        return {id(tensor): state[name] for name, tensor in self.tensors.items()}

    def _by_name(self, held: Values) -> State:
        return {name: held[id(tensor)] for name, tensor in self.tensors.items()}

    def put(self, state: State) -> None:
        """Have the living tensors hold that, in place."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(state[name])

    @contextlib.contextmanager
    def lent(self, state: Mapping[str, Tensor]) -> Generator[None, None, None]:
        """While the block lasts they hold that, elsewhere in memory: a graph that is being made keeps its tensors."""
        before = {id(tensor): (tensor, tensor.data) for tensor in self.tensors.values()}
        try:
            for name, tensor in self.tensors.items():
                tensor.data = state[name]
            yield
        finally:
            for tensor, data in before.values():
                tensor.data = data
