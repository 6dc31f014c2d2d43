"""Scripts that train, run both ways: few, since each imports torch twice."""

from __future__ import annotations

import itertools
import random
import sys
from typing import TYPE_CHECKING

import pytest

from tests.parity.running import FULL, both, differences
from tests.parity.test_product import SEED
from tests.parity.ways import CLOSED_PIPE, PLAIN

if TYPE_CHECKING:
    from tests.conftest import Home

pytestmark = pytest.mark.dear

TRAINS = """
import os, sys, torch
torch.manual_seed(0)
def train(steps=2, workers=0):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.utils.data.TensorDataset(torch.ones(8, 3), torch.zeros(8, dtype=torch.long))
    for _ in range(steps):
        for x, y in torch.utils.data.DataLoader(data, 8, num_workers=workers):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    return loss
if __name__ == "__main__":
    print("trained", train())
"""

ENDINGS: dict[str, str] = {
    "exception": "1 / 0",
    "exit-3": "sys.exit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "os-exit": "sys.stdout.flush(); os._exit(4)",
    "aborts": "sys.stdout.flush(); os.abort()",
    "atexit": "import atexit; atexit.register(print, 1); atexit.register(train); atexit.register(lambda: 1 / 0)",
    "atexit-os-exit": "import atexit; atexit.register(os._exit, 6); sys.stdout.flush()",
    "hooks": "import threading\nsys.excepthook = lambda *a: print('hook', a[0])\nthreading.excepthook = print\n1 / 0",
    "in-thread": "import threading; t = threading.Thread(target=lambda: print(train() * 1)); t.start(); t.join(); t2 = "
                 "threading.Thread(target=lambda: 1 / 0, name='t'); t2.start(); t2.join()",
    "modules": "print(torch.__spec__, torch.__loader__, len(sys.meta_path), torch.autograd.backward.__name__, "
               "torch.autograd.backward.__module__, torch.optim.SGD.step.__name__)",
    "forks": "sys.stdout.flush()\n"
             "if os.fork() == 0: print('child', train()); sys.exit(7)\nprint(os.wait()[1], train())",
    "workers": "print(train(2, workers=2))",
    "execs": "if not os.environ.get('T'): os.environ['T'] = '1'; sys.stdout.flush(); os.execv(sys.executable, "
             "[sys.executable, *sys.argv])",
    "waits-for-a-signal": "import signal; s = {signal.SIGUSR1}; signal.pthread_sigmask(signal.SIG_BLOCK, s); train()\n"
                          "os.kill(os.getpid(), signal.SIGUSR1); print(signal.sigwait(s))",
    "streams": "import io; sys.stdout = io.StringIO(); print('kept'); sys.stderr.write(sys.stdout.getvalue())\n"
               "sys.stdout = sys.__stdout__; sys.stdout.write('a'); sys.stdout.writelines(['b']); print('d', end='')\n"
               "sys.stdout.flush(); os.write(1, b'e'); sys.stdout.buffer.write(b'f'); print(sys.stdout.isatty())\n"
               "sys.stdout.reconfigure(line_buffering=True); print(sys.stdout.write('g')); sys.stdout.close()",
    "traces": "calls = []\nsys.settrace(lambda f, *a: calls.append(f.f_code.co_name) if f.f_globals is globals() "
    "else None)\n"
              "train(); sys.settrace(None); print(calls)",
    "writes-badly": "print('\\udcff')",
    "backward-twice": "train().backward()",
    "children": """
import concurrent.futures, multiprocessing
def child(n): return n, str(train()), len(multiprocessing.active_children())
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            print(method, list(pool.map(child, range(2))))
""",
}  # fmt: skip
"""After two steps of training."""

WAYS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "script": ((), PLAIN, ("s.py",)),
    "-W error -X dev": (("-W", "error::ResourceWarning", "-X", "dev"), PLAIN, ("s.py", "a")),
    "all closed": ((), 'exec "$@" <&- >&- 2>&-', ("s.py",)),
    "closed pipe": ((), f"exec {sys.executable} -c '{CLOSED_PIPE}' \"$@\"", ("s.py",)),
    "full device": ((), 'exec "$@" > /dev/full', ("s.py",)),
    "after-pdb": ((), 'echo q | "$@"', ("-m", "pdb", "-c", "continue", "s.py")),
    "-i": (("-i",), 'echo "print(41 + 1)" | "$@"', ("s.py",)),
    "stdin": (("-u",), 'exec "$@" < s.py', ("-", "a")),
    "module": (("-OO",), PLAIN, ("-m", "s")),
    "folder gone": ((), 'f=$PWD; mkdir x; cd x; rmdir ../x; exec "$@"', ("{here}/s.py",)),
    "no home": ((), 'unset HOME; exec "$@"', ("s.py",)),
}
"""Options, shell, words."""


SAMPLE = 40 if FULL else 2


def _sample() -> list[tuple[str, str]]:
    """Some of them, ways and endings in turn: as many as a test run can spend."""
    chance = random.Random(SEED)
    ways, endings = list(WAYS), list(ENDINGS)
    chance.shuffle(ways)
    endings = list(dict.fromkeys(["waits-for-a-signal", *chance.sample(endings, len(endings))]))
    return list(dict.fromkeys(itertools.islice(zip(itertools.cycle(ways), itertools.cycle(endings)), SAMPLE)))


@pytest.mark.parametrize(("way", "ending"), _sample())
def test_a_script_that_trains(here: Home, way: str, ending: str) -> None:
    (here.folder / "s.py").write_text(TRAINS + ENDINGS[ending] + "\n")
    options, shell, words = WAYS[way]
    arguments = tuple(word.format(here=here.folder) for word in words)
    plain, ours = both(here, arguments, options=options, shell=shell)
    found = differences(plain, ours, lines=len(ours.ours()))
    assert not found, "\n".join([f"seed {SEED}", *found])
    assert len(ours.ours()) <= 1 + ours.err.count(b"again") or ending == "execs"
