"""The start-up shim: takes itself off the path, calls one function, and lets the sitecustomize that it hides run.

It ends as plain Python's attempt to import ``sitecustomize`` would, by the error that the user's own raises or by the
one that says there is none, which ``site`` expects: afterwards ``sys.modules`` shows no trace of this file.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != _here]
_ours = sys.modules.pop("sitecustomize")  # named, since Python 2 empties a module that nobody holds
try:
    import sitecustomize  # noqa: F401 - the user's own, which ours came before
finally:
    try:
        from onthefly.bootstrap import start
    except (ImportError, SyntaxError):
        # Another interpreter than OnTheFly's: run unobserved. The script's process says so, its children do not.
        resumes = bool(os.environ.get("ONTHEFLY_RESUME_EXPECTED"))
        if os.environ.get("ONTHEFLY_TARGET") == str(os.getpid()) and sys.stderr:
            end = "not resumed" if resumes else "the script runs unobserved"
            sys.stderr.write("onthefly: " + sys.executable + " does not have OnTheFly installed; " + end + "\n")
        if resumes:  # the script was to go on where it was, and would begin again
            os._exit(5)
    else:
        start()
