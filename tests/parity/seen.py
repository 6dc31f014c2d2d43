"""What a script can see of the interpreter that runs it: source that each compared script opens with."""

SEEN = """
def _see():
    import os, sys
    names, modules = sorted(globals()), sorted(m for m in sys.modules if m.split(".")[0] != "onthefly")
    import json, signal, threading, warnings
    main = globals()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ONTHEFLY_")}
    path, shim = environment.pop("PYTHONPATH", ""), os.environ.get("ONTHEFLY_SHIM")
    if shim:
        assert path.split(os.pathsep)[0] == shim
        path = path[len(shim) + 1:]
    children, command = "/proc/self/task/%d/children" % os.getpid(), "/proc/self/cmdline"
    with open(children) as one, open(command, "rb") as two:
        children, command = len(one.read().split()), two.read().decode("latin1")
    fds = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            fds.append([fd, os.readlink("/proc/self/fd/%d" % fd).split(":")[0], os.get_inheritable(fd)])
        except OSError:
            continue
    streams = [stream and [stream.encoding, stream.errors, stream.line_buffering, stream.isatty(), stream.name]
               for stream in (sys.stdin, sys.stdout, sys.stderr)]
    seen = {
        "names": names, "modules": modules, "argv": sys.argv, "orig_argv": getattr(sys, "orig_argv", None),
        "path": sys.path, "name": __name__, "file": main.get("__file__"), "package": __package__,
        "spec": repr(__spec__), "loader": repr(__loader__), "cached": repr(main.get("__cached__")),
        "flags": repr(sys.flags), "xoptions": sys._xoptions, "warnoptions": sys.warnoptions,
        "filters": repr(warnings.filters), "executable": sys.executable, "prefix": sys.prefix, "cwd": os.getcwd(),
        "environ": environment, "PYTHONPATH": path, "streams": streams, "fds": fds, "umask": os.umask(0o22),
        "signals": [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "threads": [t.name for t in threading.enumerate()], "hooks": [repr(sys.excepthook), repr(sys.displayhook),
        repr(threading.excepthook), repr(sys.unraisablehook), repr(sys.breakpointhook), repr(sys.gettrace())],
        "finders": [repr(f) for f in sys.meta_path if not type(f).__module__.startswith("onthefly")],
        "ids": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()], "recursion": sys.getrecursionlimit(),
        "fsencoding": sys.getfilesystemencoding(), "interactive": hasattr(sys, "ps1"), "dont": sys.dont_write_bytecode,
        "children": children, "command": command,
    }
    with open(os.environ["SEEN"], "w", encoding="utf-8") as file:
        json.dump(seen, file, default=repr)
if __name__ == "__main__":
    _see()
del _see
import os, sys
print("begins")
"""
"""Writes what it saw to the file named by the variable ``SEEN``, so that it works with every stream closed."""
