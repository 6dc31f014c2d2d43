"""The start-up shim: stands aside for the sitecustomize that it hides, and calls one function. It has no logic."""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != _here]
_ours = sys.modules.pop("sitecustomize")
try:
    import sitecustomize  # noqa: F401 - the user's own, which ours came before
except ImportError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = _ours  # the import of this very module wants to find it there
try:
    from onthefly.bootstrap import start
except ImportError:
    # Another interpreter than OnTheFly's: run unobserved. The script's process says so, its children do not.
    if os.environ.get("ONTHEFLY_TARGET") == str(os.getpid()):
        sys.stderr.write(f"onthefly: {sys.executable} does not have OnTheFly installed; the script runs unobserved\n")
else:
    start()
