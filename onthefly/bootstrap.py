"""What the shim calls at the start of each interpreter below the launcher: is there something to watch here?

No module but our own is imported, and nothing of the process is touched but ``sys.meta_path``, until the script imports
torch: what we loaded would hide a file of that name beside the script. Then the session is armed; whatever fails on the
way is one line, and the script runs on.
"""

import os
import sys

from onthefly.core import start as first_line
from onthefly.patching.imports import when_imported
from onthefly.settings import Settings, claim_hash_seed, claim_rank, claim_resume
from onthefly.version import release

TYPE_CHECKING = False  # the import of typing loads 20 modules
if TYPE_CHECKING:
    from collections.abc import Sequence

OLDEST_TORCH = (2, 2)

NEEDED = ("decimal", "hmac", "msgspec", "secrets")
"""What the session loads and torch does not."""

opened: "list[int]" = []
"""The process in which torch was imported."""


def start() -> None:
    """Wait for torch, unless we are switched off."""
    settings = Settings()
    if not settings.disabled and settings.target_pid:
        target = settings.target_pid == os.getpid()
        main = claim_rank() or target
        claim_hash_seed()
        path = tuple(sys.path)  # before the script's folder comes to its head
        if target and settings.resumes:
            claim_resume()
            _hold_outputs(settings)
            _must_come_to(settings)
        if main:
            reason = first_line.begin(when_imported, settings.hash_seed, settings.start)
            if reason:
                _give_up(reason)
        when_imported("torch", lambda: _torch_imported(settings, path, target, main))


def _torch_imported(settings: Settings, path: "Sequence[str]", target: bool, main: bool) -> None:
    from onthefly.errors import Guard, report

    opened.append(os.getpid())
    resumes = target and settings.resumes
    says = "the script runs unobserved" if not resumes else "it is not resumed"

    def arm() -> None:
        reason = _hidden(path) or _arm(settings, main)
        if reason and resumes:
            _give_up(reason)
        elif reason:
            first_line.rest()
            if target:
                report(f"the script runs unobserved: {reason}")

    guard = Guard(f"{says}: opening its session", strict=settings.strict)
    guard.around(arm)()
    if guard.failures:
        first_line.rest()
        if resumes:
            _give_up("its session could not be opened")


def _hold_outputs(settings: Settings) -> None:
    """From the first line on, what a script prints and writes that is on its way to a checkpoint has no effect."""
    if settings.resume:
        from onthefly.core.early import early_hold

        session = os.path.dirname(os.path.dirname(settings.resume))
        early_hold(os.path.join(session, "resumes", f"backup-{os.getpid()}"), [os.path.dirname(session)])


def _must_come_to(settings: Settings) -> None:
    """A script that ends without torch has resumed nothing: its exit code must not say that it did."""
    import atexit

    def ended() -> None:
        if os.getpid() == settings.target_pid and not opened:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
            _give_up("the script ended without importing torch")

    atexit.register(ended)


def _give_up(reason: str) -> None:
    """End the process, which was to resume and cannot: run on, the script would begin again from its first line."""
    from onthefly.errors import ExitCode, report

    report(f"not resumed: {reason}")
    os._exit(ExitCode.REFUSED)


def _hidden(path: "Sequence[str]") -> str:
    """Which file of the script's would be run by our imports, in the place of a module that has its name."""
    from importlib.machinery import PathFinder

    for name in NEEDED:
        if name not in sys.modules:
            ours, theirs = PathFinder.find_spec(name, path), PathFinder.find_spec(name)
            if ours is not None and theirs is not None and ours.origin != theirs.origin:
                return f"{theirs.origin} has the name of a module that OnTheFly needs"
    return ""


def _arm(settings: Settings, main: bool) -> str:
    """Watch the script or a rank of it, or wait in a child until it trains; why not, if that cannot be done."""
    version = getattr(sys.modules["torch"], "__version__", "0")
    if release(version) < OLDEST_TORCH:
        return f"torch {version} is older than {'.'.join(map(str, OLDEST_TORCH))}"
    try:
        if main:
            from onthefly.core.collecting import imported

            imported("onthefly.sessions").open_session(settings)
        else:
            await_training(settings)
    except ImportError as error:
        return f"{error} (pip install onthefly-ai in the environment that runs the script)"
    except SystemExit as error:  # a module of that name beside the script, which ends the process that imports it
        return f"a module that OnTheFly needs ended with {error!r}"
    return ""


def await_training(settings: Settings) -> None:
    """In a child: join the session when it trains, and not before (most children never do)."""
    from onthefly.errors import Guard
    from onthefly.instruments.first_use import FirstUse

    def join() -> None:
        from onthefly.sessions import join_session

        join_session(settings)

    FirstUse(join, Guard("watching a child of the script", strict=settings.strict))
