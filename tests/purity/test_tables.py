"""Torch's own tables that know functions by identity, and its count of hooks, are as they would be without us."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from tests.conftest import REPOSITORY
from tests.watching import watched

if TYPE_CHECKING:
    from tests.conftest import Home

LAZY = """
import torch
from torch import nn
model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)).to("cpu").float().half().float().cpu()
print(model(torch.zeros(1, 3, 5, 5)).shape, model)
"""

HOLDERS = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from onthefly.instruments import copies, evaluated, functions
named = [*copies.FUNCTIONS, *functions.LOSSES, *evaluated.SLOTS, (torch.nn.functional, "one_hot"),
         *[(torch.Tensor, name) for name in (*copies.METHODS, *functions.REDUCTIONS, "index_select")],
         *[(torch, name) for name in (*functions.REDUCTIONS, "index_select")]]
ours = {id(getattr(owner, name)) for owner, name in named}
kinds = (list, dict, set, frozenset)
for module in list(sys.modules.values()):
    if not module.__name__.startswith("torch."):
        continue
    places = [(module.__name__, vars(module))]
    places += [(f"{module.__name__}.{k}", vars(v)) for k, v in vars(module).items() if isinstance(v, type)]
    for where, space in places:
        for name, table in list(space.items()):
            if type(table) in kinds and name != "__builtins__":
                held = [*table, *(table.values() if isinstance(table, dict) else ())]
                if any(id(one) in ours for one in held):
                    print(f"{where}.{name}")
"""

KNOWN = {
    "torch.nn.parameter.UninitializedTensorMixin._allowed_methods": "ours are put into it",
    "torch.masked.maskedtensor.reductions.TORCH_REDUCE_MAP": "what is not in it is done by the operator, masked",
    "torch.masked.maskedtensor.reductions.TENSOR_REDUCE_MAP": "the same",
    "torch.masked.maskedtensor.reductions.TORCH_REDUCE_FNS": "the same",
    "torch.masked.maskedtensor.reductions.TENSOR_REDUCE_FNS": "the same",
    "torch.ao.quantization.utils.func_list": "of a function that nobody calls any more, as is said there",
    "torch.ao.quantization.utils.method_list": "the same",
}
"""Tables of ``import torch`` with functions in them that have a slot."""


def test_a_lazy_module_is_cast_and_moved_before_it_has_parameters(home: Home) -> None:
    (home.folder / "s.py").write_text(LAZY)
    plain, ours = home.python("-W", "ignore", "s.py"), home.watched("-W", "ignore", "s.py")
    assert plain.code == 0, plain.err
    assert (ours.code, ours.out) == (0, plain.out), ours.err


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_may_be_called_of_a_lazy_parameter_is_put_back() -> None:
    table: list[object] = getattr(UninitializedParameter, "_allowed_methods")  # noqa: B009 - not in its type stub
    before = list(table)
    with watched():
        nn.LazyLinear(4).to("cpu").double().half().cpu()
        with pytest.raises(ValueError, match="uninitialized"):
            nn.LazyLinear(4).weight.clone()
    assert table == before


def test_hooks_of_the_script_have_the_numbers_that_they_had() -> None:
    """They are keys in what is pickled of a module."""
    before = RemovableHandle.next_id
    with watched():
        assert RemovableHandle.next_id == before
        model = nn.Linear(2, 2)
        assert model.register_forward_hook(print).id == before
        assert list(pickle.loads(pickle.dumps(model))._forward_hooks) == [before]
        seen: list[object] = []
        handle = register_optimizer_step_post_hook(lambda *given: seen.append(given[0]))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.step()
        handle.remove()
        assert seen == [optimizer]


def test_no_other_table_of_torchs_knows_functions_by_identity(home: Home) -> None:
    """A new release of torch may have more of them: see that a call that is looked up there ends as it did."""
    (home.folder / "s.py").write_text(HOLDERS)
    ended = home.python("-W", "ignore", "s.py", str(REPOSITORY))
    assert ended.code == 0, ended.err
    assert set(ended.out.decode().split()) <= set(KNOWN)
    assert next(iter(KNOWN)).encode() in ended.out, "or this test would prove nothing"
