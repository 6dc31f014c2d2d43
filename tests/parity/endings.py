"""How scripts end, and what they do to their interpreter on the way: source without torch, each within a second."""

from __future__ import annotations

import signal

ENDINGS: dict[str, str] = {
    "return": "",
    "exception": "raise ValueError('of the script')",
    "chained": "def f(): raise KeyError(1)\ntry: f()\nexcept KeyError as e: raise RuntimeError('b') from e",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "syntax": "exec(compile('def f(:', 'inner.py', 'exec'))",
    "recursion": "def f(): f()\nf()",
    "own-base": "class Odd(BaseException): pass\nraise Odd('x')",
    "bad-repr": "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
    "exit-3": "sys.exit(3)",
    "exit-text": "sys.exit('gone')",
    "exit-none": "sys.exit()",
    "exit-256": "sys.exit(256)",
    "exit-object": "sys.exit([1, 2])",
    "os-exit": "sys.stdout.flush(); os._exit(4)",
    "interrupt": "raise KeyboardInterrupt",
    "abort": "sys.stdout.flush(); os.abort()",
    "segfault": "import ctypes; sys.stdout.flush(); ctypes.string_at(0)",
    "faulthandler": "import faulthandler, ctypes; faulthandler.enable(); sys.stdout.flush(); ctypes.string_at(0)",
    "atexit": "import atexit; [atexit.register(print, n) for n in (1, 2, 3)]",
    "atexit-raises": "import atexit; atexit.register(print, 'bye'); atexit.register(lambda: 1 / 0)",
    "atexit-exits": "import atexit; atexit.register(sys.exit, 5)",
    "atexit-os-exit": "import atexit; atexit.register(os._exit, 6); sys.stdout.flush()",
    "atexit-after-error": "import atexit; atexit.register(print, 'bye'); raise ValueError('x')",
    "thread": "import threading; t = threading.Thread(target=print, args=('in a thread',)); t.start(); t.join()",
    "thread-raises": "import threading; t = threading.Thread(target=lambda: 1 / 0, name='t'); t.start(); t.join()",
    "thread-late": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    "thread-exits": "import threading; threading.Thread(target=sys.exit, args=(5,)).start()",
    "thread-daemon": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "thread-hook": "import threading; threading.excepthook = lambda a: print('hook', a.exc_type)\n"
                   "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    "excepthook": "sys.excepthook = lambda *a: print('hook', a[0])\nraise ValueError(1)",
    "excepthook-raises": "def hook(*a): raise TypeError('in the hook')\nsys.excepthook = hook\nraise ValueError(1)",
    "unraisable": "class Odd:\n    def __del__(self): raise ValueError('in del')\nOdd()",
    "missing-import": "import no_such_module",
    "missing-caught": "try: import no_such_module\nexcept ImportError as e: print(e)",
    "warns": "import warnings; warnings.warn('careful'); warnings.warn('old', DeprecationWarning)",
    "resource": "import socket; socket.socket()",
    "close-stdout": "sys.stdout.close()",
    "close-stderr": "sys.stderr.close(); 1 / 0",
    "close-1": "sys.stdout.flush(); os.close(1); print('lost')",
    "close-2": "os.close(2); 1 / 0",
    "close-all": "sys.stdout.flush(); os.closerange(0, 64); f = open('data', 'w'); f.write('x'); print(1, f.fileno())",
    "replace-stdout": "import io; sys.stdout = io.StringIO(); print('kept'); sys.stderr.write(sys.stdout.getvalue())",
    "redirect-2": "os.dup2(os.open('log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2); print(1, file=sys.stderr); 1 / 0",
    "floods": "for n in range(100000): print(n)",
    "reads": "print(repr(sys.stdin and sys.stdin.read(2)))",
    "breakpoint": "x = 1; breakpoint(); print('after')",
    "fork": "sys.stdout.flush()\nif os.fork() == 0: print('child'); sys.exit(7)\nprint(os.wait()[1])",
    "no-child": "try: os.wait()\nexcept ChildProcessError: print('no child')",
    "subprocess": "import subprocess; print(subprocess.run([sys.executable, '-c', 'import sys; print(sys.path, "
                  "sys.argv); sys.exit(3)'], capture_output=True))",
    "exec": "if not os.environ.get('AGAIN'):\n    os.environ['AGAIN'] = '1'; sys.stdout.flush()\n"
            "    os.execv(sys.executable, [sys.executable, '-c', 'import os, sys; print(sys.path, os.getpid() > 1)'])",
    "runpy": "import runpy; open('other.py', 'w').write('print(__name__, __file__, 1 / 0)')\n"
             "runpy.run_path('other.py', run_name='__main__')",
    "settrace": "calls = []\nsys.settrace(lambda f, *a: calls.append(f.f_code.co_name))\ndef g(): pass\ng()\n"
                "sys.settrace(None); print(calls)",
    "setprofile": "calls = []\ndef g(): len('')\n"
                  "sys.setprofile(lambda f, e, a: f.f_globals is globals() and calls.append((f.f_code.co_name, e)))\n"
                  "g(); import colorsys; sys.setprofile(None); print(calls)",
    "pickle": "import pickle\nclass Thing: pass\n"
              "print(pickle.dumps(Thing()), type(pickle.loads(pickle.dumps(Thing()))))",
    "reload": "import importlib, colorsys; print(importlib.reload(colorsys).__spec__)",
    "no-sitecustomize": "import sitecustomize",
    "cannot-find-torch": "import importlib.abc\nclass No(importlib.abc.MetaPathFinder):\n"
                         "    def find_spec(self, name, *a):\n        if name == 'torch': raise ImportError('none')\n"
                         "sys.meta_path.insert(0, No())\nimport torch",
}  # fmt: skip

for _name, _more in {
    "fork": "fork",
    "spawn": "spawn",
    "forkserver": "forkserver",
}.items():
    ENDINGS[f"process-{_name}"] = f"""
import multiprocessing
class Thing:
    pass
def child(q, thing):
    q.put((sys.argv, __name__, type(thing).__module__, sorted(m for m in sys.modules if m == "torch")))
    sys.exit(3)
if __name__ == "__main__":
    context = multiprocessing.get_context("{_more}")
    q = context.Queue()
    p = context.Process(target=child, args=(q, Thing()))
    p.start(); p.join(10); print(p.exitcode, not q.empty() and q.get())
"""
ENDINGS["pool"] = """
import concurrent.futures
def square(x): return x * x
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(list(pool.map(square, range(4))))
"""

STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_CONTINUED = (
    "import subprocess; subprocess.Popen(['sh', '-c', 'while kill -CONT $0 2>&-; do sleep 0.05; done', "
    "str(os.getpid())], stdout=-3, stderr=-3)\n"
)
for _number in sorted(set(range(1, 32)) & signal.valid_signals()):
    _name = signal.Signals(_number).name
    _kill = f"sys.stdout.flush(); os.kill(os.getpid(), {_number:d}); print('lives')"
    ENDINGS[f"raises-{_name}"] = _CONTINUED + _kill if _number in STOPS else _kill
    ENDINGS[f"handles-{_name}"] = (
        f"import signal; signal.signal({_number:d}, lambda *a: print('caught', a[0]))\n{_kill}"
    )
    ENDINGS[f"exits-on-{_name}"] = f"import signal; signal.signal({_number:d}, lambda *a: sys.exit(9))\n{_kill}"
"""Each signal as Python leaves it, with a handler that goes on, and with one that exits."""
