"""The settings of one process, read from the environment: the only reader of ``ONTHEFLY_*``.

No module is imported at the top: the shim imports this at the start of every interpreter below the launcher, and what
was loaded would hide a file of that name beside the script.
"""

import os
import sys

TYPE_CHECKING = False  # the import of typing loads 20 modules
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PORT = 47621
"""The preferred port of the hub for browsers and commands."""

IDLE_SECONDS = 15 * 60
"""How long a hub stays after its last agent, client and request."""


DATA_BUDGET = 10 << 30
"""Bytes that all sessions may take on the disk."""


class Settings:
    """What the environment asks of us; every attribute is one variable, or follows from several."""

    __slots__ = (
        "_env", "autosave", "data_budget", "disabled", "hold", "idle_seconds", "name", "port", "project", "quiet",
        "rank", "replay", "resume", "resume_expected", "save_on", "session", "steps", "stop_on", "strict",
        "target_pid", "test_after", "world_size",
    )  # fmt: skip

    def __init__(self, env: "Mapping[str, str] | None" = None) -> None:
        env = self._env = dict(os.environ if env is None else env)
        self.disabled: bool = _flag(env, "ONTHEFLY_DISABLE")
        """``ONTHEFLY_DISABLE=1``: nothing of ours runs."""
        self.strict: bool = _flag(env, "ONTHEFLY_STRICT")
        """``ONTHEFLY_STRICT=1``: our own errors are raised instead of reported (for tests)."""
        self.quiet: bool = _flag(env, "ONTHEFLY_QUIET")
        """``ONTHEFLY_QUIET=1`` (``--quiet``): no line when the session opens; faults are still told."""
        self.hold: bool = _flag(env, "ONTHEFLY_HOLD")
        """``ONTHEFLY_HOLD=1`` (``--hold``): a script that has finished stays, paused, until it is told to end."""
        self.test_after: bool = _flag(env, "ONTHEFLY_TEST_AFTER")
        """``ONTHEFLY_TEST_AFTER=1`` (``--test-after``): when the script has come to its end, test the model."""
        self.steps: int = _integer(env, "ONTHEFLY_STEPS", 0)
        """``ONTHEFLY_STEPS``: stop the script after so many optimizer steps (``onthefly doctor``); 0: never."""
        self.session: str = env.get("ONTHEFLY_SESSION", "")
        """``ONTHEFLY_SESSION``: the session that this process belongs to; empty: a new one."""
        self.name: str = env.get("ONTHEFLY_NAME", "")
        """``ONTHEFLY_NAME`` (``--name``): what the session is called; empty: after the script."""
        self.project: str = env.get("ONTHEFLY_PROJECT", "")
        """``ONTHEFLY_PROJECT`` (``--project``): the project that the session is filed under."""
        self.replay: str = env.get("ONTHEFLY_REPLAY", "")
        """``ONTHEFLY_REPLAY`` (``--replay``): a journal whose changes are made again, at the same steps."""
        self.resume: str = env.get("ONTHEFLY_RESUME", "")
        """``ONTHEFLY_RESUME`` (``--resume``): the folder of the checkpoint that this process goes on from."""
        self.resume_expected: str = env.get("ONTHEFLY_RESUME_EXPECTED", "")
        """``ONTHEFLY_RESUME_EXPECTED``: the file that says what the process goes on as (:mod:`onthefly.core.expected`).
        Set without ``ONTHEFLY_RESUME``: it begins anew, as the session's first process did (``onthefly reset``)."""
        self.stop_on: str = env.get("ONTHEFLY_STOP_ON", "")
        """``ONTHEFLY_STOP_ON`` (``--stop-on``): watchdogs, by comma, that hold the script where they find something."""
        self.save_on: str = env.get("ONTHEFLY_SAVE_ON", "")
        """``ONTHEFLY_SAVE_ON`` (``--save-on``): signals, by comma, at which a checkpoint is made first."""
        self.autosave: float = _number(env, "ONTHEFLY_AUTOSAVE", 0.0)
        """``ONTHEFLY_AUTOSAVE`` (``--autosave``): seconds between checkpoints that are made by themselves; 0: none."""
        self.target_pid: int = _integer(env, "ONTHEFLY_TARGET", 0)
        """``ONTHEFLY_TARGET``: pid of the process that the launcher turned into the script; its children differ."""
        self.port: int = _integer(env, "ONTHEFLY_PORT", _integer(env, "ONTHEFLY_DASHBOARD_PORT", PORT))
        """``ONTHEFLY_PORT``, else ``ONTHEFLY_DASHBOARD_PORT``: the hub's preferred port."""
        self.idle_seconds: float = _number(env, "ONTHEFLY_IDLE_SECONDS", IDLE_SECONDS)
        """``ONTHEFLY_IDLE_SECONDS``: how long a hub with nothing to do stays."""
        self.data_budget: int = _bytes(env, "ONTHEFLY_DATA_BUDGET", DATA_BUDGET)
        """``ONTHEFLY_DATA_BUDGET`` (``500M``, ``20G``): what all sessions may take on the disk; 0: no limit."""
        self.rank: int = _integer(env, "RANK", 0)
        """``RANK`` as torchrun sets it."""
        self.world_size: int = _integer(env, "WORLD_SIZE", 1)
        """``WORLD_SIZE`` as torchrun sets it."""

    @property
    def notebook(self) -> str:
        """``JPY_SESSION_NAME``: the path of a notebook, as Jupyter tells its kernel (and all children of that)."""
        return self._env.get("JPY_SESSION_NAME", "")

    @property
    def hash_seed(self) -> "str | None":
        """``PYTHONHASHSEED``; None where it is not set."""
        return self._env.get("PYTHONHASHSEED")

    @property
    def resumes(self) -> bool:
        """Whether this process takes up a session that was there before."""
        return bool(self.resume or self.resume_expected)

    @property
    def start(self) -> str:
        """The ``start.json`` that this process begins as; empty if it is the first of its session."""
        if self.resume:
            return os.path.join(self.resume, "start.json")
        folder = os.path.dirname(os.path.dirname(self.resume_expected))
        return os.path.join(folder, "start.json") if folder else ""

    @property
    def job(self) -> str:
        """Where the ranks of a job meet (``MASTER_ADDR``, ``MASTER_PORT``): the same in all of them."""
        return f"{self._env.get('MASTER_ADDR', '')}:{self._env.get('MASTER_PORT', '')}"

    @property
    def runtime_dir(self) -> "Path":
        """``ONTHEFLY_RUNTIME_DIR``, else ``$XDG_RUNTIME_DIR/onthefly``, else ``<tmp>/onthefly-<uid>``."""
        return _runtime_dir(self._env)

    @property
    def data_dir(self) -> "Path":
        """``ONTHEFLY_DATA_DIR``, else the platform's place for a user's data."""
        return _data_dir(self._env)


def claim_rank() -> bool:
    """Whether this process is a rank of a job itself (``RANK`` is set), and not a child that inherited the variable.

    The first process of a rank that comes here is; it leaves its pid in ``ONTHEFLY_RANK`` for its children.
    """
    if "RANK" not in os.environ or os.environ.get("ONTHEFLY_RANK", str(os.getpid())) != str(os.getpid()):
        return False
    os.environ["ONTHEFLY_RANK"] = str(os.getpid())
    return True


def claim_resume() -> None:
    """The process that resumes has read what it goes on from: its children are told nothing of that."""
    for name in ("ONTHEFLY_RESUME", "ONTHEFLY_RESUME_EXPECTED"):
        os.environ.pop(name, None)


def claim_hash_seed() -> None:
    """Python has read the seed of text's hashes that the launcher drew: the script and its children see none."""
    if os.environ.pop("ONTHEFLY_HASH_SEED", ""):
        os.environ.pop("PYTHONHASHSEED", None)


def put(name: str, value: str) -> "Callable[[], None]":
    """Set a variable of this process, for its children and the script's own hooks; what is returned puts it back."""
    before = os.environ.get(name)
    os.environ[name] = value

    def put_back() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    return put_back


def _flag(env: "Mapping[str, str]", name: str) -> bool:
    return env.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def _number(env: "Mapping[str, str]", name: str, default: float) -> float:
    try:
        return float(env[name])
    except (KeyError, ValueError):
        return default


def _integer(env: "Mapping[str, str]", name: str, default: int) -> int:
    return int(_number(env, name, default))


def _bytes(env: "Mapping[str, str]", name: str, default: int) -> int:
    """A number of bytes: ``1000000``, ``500M``, ``20G``."""
    text = env.get(name, "").strip().upper().rstrip("B")
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:], 0)
    try:
        return max(0, int(float(text[:-1] if unit else text) * (1 << unit)))
    except (ValueError, OverflowError):
        return default


def _runtime_dir(env: "Mapping[str, str]") -> "Path":
    import tempfile
    from pathlib import Path

    if env.get("ONTHEFLY_RUNTIME_DIR"):
        return Path(env["ONTHEFLY_RUNTIME_DIR"])
    if env.get("XDG_RUNTIME_DIR"):
        return Path(env["XDG_RUNTIME_DIR"]) / "onthefly"
    user = str(os.getuid()) if hasattr(os, "getuid") else env.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"onthefly-{user}"


def _data_dir(env: "Mapping[str, str]") -> "Path":
    from pathlib import Path

    if env.get("ONTHEFLY_DATA_DIR"):
        return Path(env["ONTHEFLY_DATA_DIR"])
    if env.get("XDG_DATA_HOME"):
        return Path(env["XDG_DATA_HOME"]) / "onthefly"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "onthefly"
    if sys.platform == "win32":
        return Path(env.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local"))) / "onthefly"
    return Path.home() / ".local" / "share" / "onthefly"
