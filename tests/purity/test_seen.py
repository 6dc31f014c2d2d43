"""What a script sees that looks closely: its modes, the lines that warnings and tracebacks name, what is given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Home

TRAINED = """
import time, warnings
import torch, torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loader = DataLoader(TensorDataset(torch.randn(8, 3), torch.randint(0, 2, (8,))), 4)

def train():
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

def validate():
    with torch.no_grad():
        return sum(F.cross_entropy(model(x), y).item() for x, y in loader)
"""

MODE = (
    TRAINED
    + """
class Named(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        names.append(resolve_name(func) or func.__name__)
        return func(*args, **(kwargs or {}))

for epoch in range(4):  # what is worked off at the end of an epoch is of the one before, without a mode, and of this
    train(), validate()
    names = []
    with Named():
        train(), validate()
        time.sleep(0.25)  # more than what waits is kept for
        train(), validate()
    print(len(names), names)
"""
)

WARNED = (
    TRAINED
    + """
warnings.simplefilter("always")
said = warnings.showwarning = lambda message, category, file, line, *rest: print(file, line, str(message)[:60])
handle = model.register_full_backward_hook(lambda *given: None)
train()
handle.remove()
list(DataLoader(range(4), 2, pin_memory=True))
"""
)

CLOSURE = (
    TRAINED
    + """
import traceback
def closure(factor=1.0):
    loss = F.cross_entropy(model(torch.ones(1, 3)), torch.tensor([0])) * factor
    loss.backward()
    if broken:
        raise ValueError("mine")
    return loss

class Asking(torch.optim.SGD):
    def step(self, closure):
        print(closure.__name__, closure.__module__)
        with torch.enable_grad():
            closure(2.0)
        return super().step(closure)

for optimizer in optimizer, Asking(model.parameters(), 0.1):
    for broken in False, True:
        for call in (lambda: optimizer.step(closure)), (lambda: optimizer.step(closure=closure)):
            try:
                print(call())
            except ValueError:
                print(traceback.format_exc())
for call in (lambda: torch.autograd.backward()), (lambda: torch.autograd.backward(nope=1)):
    try:
        call()
    except TypeError:
        print(traceback.format_exc())
"""
)


def alike(home: Home, source: str) -> bytes:
    (home.folder / "s.py").write_text(source)
    plain, ours = home.python("s.py"), home.watched("s.py")
    assert plain.code == 0, plain.err
    assert (ours.code, ours.out.decode()) == (0, plain.out.decode()), ours.err
    return plain.out


def test_a_mode_sees_nothing_of_ours_while_the_script_trains(home: Home) -> None:
    assert b"torch.nn.functional.cross_entropy" in alike(home, MODE)


def test_warnings_name_the_line_that_they_named(home: Home) -> None:
    said = alike(home, WARNED)
    assert b"s.py" in said, "of a warning that counts the frames up to the script"
    assert b"pin_memory" in said


def test_what_a_closure_raises_and_is_called_with(home: Home) -> None:
    assert alike(home, CLOSURE).count(b"ValueError: mine") == 4


def test_a_call_that_lacks_what_is_back_propagated_is_no_fault_of_ours(home: Home) -> None:
    (home.folder / "s.py").write_text(CLOSURE)
    assert b"failed" not in home.watched("s.py", ONTHEFLY_STRICT="0").err
