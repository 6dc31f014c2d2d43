"""``attach_lightning``: the session of a script that trains with Lightning, and its own test when training has ended.

What is recorded comes by the same hooks as everywhere (:mod:`onthefly.instruments`); with ``python -m onthefly`` this
call is not needed. A callback learns when a ``fit`` begins and ends; ``trainer.fit`` stays what it is, and the model is
never run by us.

**The test after training.** Not in the callback's last hook, inside of ``fit``: there it is before the
module's ``teardown`` and before the loggers are finalized, and Lightning's state must be saved and restored around it.
Not in the place of ``trainer._fit_impl``: a trainer that is sent to spawned ranks must be pickled. So ours stands where
``fit`` calls its last function, ``_call_and_handle_interrupt``: when that has returned, ``fit`` has nothing left to do,
and a test from there is to Lightning what a test from the script's next line is.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import random
import sys
import weakref
from typing import TYPE_CHECKING, Any, Union

import torch

from onthefly.core.test_label import next_test
from onthefly.errors import Guard, UsageError, leave_frame_out, report
from onthefly.instruments.lightning import PACKAGES
from onthefly.patching.slots import Slot
from onthefly.sessions import Unwatched, current, watch
from onthefly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from onthefly.agent import Session

NEEDLESS = {
    "save_dir": "./checkpoints",
    "channel": None,
    "channel_kwargs": None,
    "log_every_n_steps": 1,
    "model_factory": None,
    "embedding_hook": None,
}
"""Arguments of earlier versions that nothing here needs, and what they are when nobody gives them."""

KNOWN = ("trainer", "model", "datamodule", "project", "run_name", "auto_connect", "train_loader", "val_loader",
         "test_loader", "loss_fn", "do_test_after", *NEEDLESS)  # fmt: skip

_said: set[str] = set()
"""Of :data:`NEEDLESS`, those that the user has been told of."""


def attach_lightning(
    *,
    trainer: Any,
    model: Any,
    datamodule: Any = None,
    project: str,
    run_name: str,
    save_dir: str = "./checkpoints",
    auto_connect: bool = True,
    channel: Any = None,
    channel_kwargs: Any = None,
    log_every_n_steps: int = 1,
    train_loader: Any = None,
    val_loader: Any = None,
    test_loader: Any = None,
    loss_fn: Any = None,
    model_factory: Any = None,
    embedding_hook: Any = None,
    do_test_after: bool = False,
    **unknown: Any,
) -> Attached:
    """Record what a Lightning trainer is about to do; call it before ``trainer.fit``.

    Args:
        trainer: a ``Trainer`` of ``lightning`` or ``pytorch_lightning``.
        model: the module that it will fit.
        datamodule: its data module, where the test takes its loader from.
        project: what the session is filed under; ``--project`` wins.
        run_name: what the session and its run are called; ``--name`` wins.
        auto_connect: open a session if there is none; without it, only one that is open already is used.
        train_loader: not needed; the loaders that are trained on are seen.
        val_loader: not needed.
        test_loader: what the test after training runs on.
        loss_fn: not needed; losses are read where they are back-propagated.
        do_test_after: run ``trainer.test`` each time that ``trainer.fit`` has come to its end, with ``test_1``,
            ``test_2``, ... in ``ONTHEFLY_TEST_LABEL``. The random state is afterwards as it was.
        save_dir: no effect.
        channel: no effect.
        channel_kwargs: no effect.
        log_every_n_steps: no effect: metrics are recorded when Lightning logs (``Trainer(log_every_n_steps=)``).
        model_factory: no effect.
        embedding_hook: no effect.
        unknown: refused, with the nearest argument that there is.

    Raises:
        UsageError: an argument is not what it should be, or ``fit`` has begun.
    """
    given = locals()
    _refuse(unknown)
    package = _package_of(trainer)
    _check(given, package)
    attached = Attached(trainer, package.__name__, project, run_name, test_loader, datamodule)
    if auto_connect:
        attached.open(trainer)
    attached.tests_after = do_test_after and attached.can_test(_unwrapped(model))
    _say_needless(attached, given)
    _add(trainer, package, attached)
    return attached


class Attached:
    """A trainer whose runs are recorded: what :func:`attach_lightning` returns."""

    def __init__(
        self, trainer: Any, package: str, project: str, run_name: str, test_loader: Any, datamodule: Any
    ) -> None:
        self.labels: list[str] = []
        """Of the tests that have run after training."""
        self.tests_after = False
        """Whether they do."""
        self.package = package
        self._project, self._run_name = project, run_name
        self._test_loader, self._datamodule = test_loader, datamodule
        self._first = trainer.global_rank == 0
        self._pid = os.getpid()
        self._reached_the_end = self._told = False

    @property
    def session(self) -> Union[Session, Unwatched]:
        """The session of this process now."""
        return current()

    def open(self, trainer: Any) -> None:
        """Have a session in this process."""
        watch(project=self._project, name=self._run_name, rank=trainer.global_rank, world_size=trainer.world_size)

    def tell(self, text: str, remedy: str) -> None:
        """Say something to the user, here and in the dashboard; the first rank does."""
        if self._first:
            report(f"{text} ({remedy})")
            session = self.session
            if not isinstance(session, Unwatched):
                session.notice(text, remedy)

    def can_test(self, model: Any) -> bool:
        """Whether there is something to run as a test; said now, and not after hours of training."""
        if _overridden(model, "test_step", "LightningModule", self.package):
            return True
        self.tell(f"no test will run after training: {type(model).__name__} has no test_step",
                  "give it one, or leave out do_test_after")  # fmt: skip
        return False

    def begins(self, trainer: Any, stage: str) -> None:
        """The callback's first hook."""
        if stage != "fit":
            return
        self._reached_the_end = False
        if self._pid != os.getpid():  # a rank that Lightning has spawned, with a copy of the trainer
            self._pid = os.getpid()
            self.open(trainer)
        session = self.session
        if not isinstance(session, Unwatched):
            session.describe(name=self._run_name, project=self._project)
        if self.tests_after:
            self._loaders(trainer)

    def reached_the_end(self) -> None:
        """The callback's hook at the end of a ``fit`` that nothing has cut short."""
        self._reached_the_end = True

    def ends(self, stage: str) -> None:
        """The callback's last hook."""
        if stage == "fit":
            self.session.flush()

    def returns(self, trainer: Any) -> None:
        """``fit`` is about to return to the script. What the test raises is the script's own fault, and reaches it."""
        spawned = hasattr(trainer.strategy.launcher, "_start_method")  # the callback that saw the end was a copy
        if trainer.state.status != "finished" or not (self._reached_the_end or spawned):
            return
        self._reached_the_end = False
        loaders = self._loaders(trainer)
        if loaders is None:
            return
        with _random_state_put_back(), next_test() as label:
            self.labels.append(label)
            trainer.test(trainer.lightning_module, **loaders)
        self.session.flush()

    def __getstate__(self) -> dict[str, Any]:
        """For ranks that Lightning spawns: they test nothing by themselves, and need no copy of the data."""
        return {**vars(self), "tests_after": False, "_test_loader": None, "_datamodule": None}

    def _loaders(self, trainer: Any) -> dict[str, Any] | None:
        """With which arguments ``trainer.test`` has data; None if it has none, which is said once."""
        if self._test_loader is not None:
            return {"dataloaders": self._test_loader}
        for datamodule in (self._datamodule, trainer.datamodule):
            if datamodule is not None and _overridden(
                datamodule, "test_dataloader", "LightningDataModule", self.package
            ):
                return {"datamodule": datamodule}
        if _overridden(trainer.lightning_module, "test_dataloader", "LightningModule", self.package):
            return {}
        if not self._told:
            self._told = True
            self.tell("no test will run after training: there is no test loader",
                      "pass test_loader, or give the data module or the model a test_dataloader")  # fmt: skip
        return None


def _package_of(trainer: Any) -> Any:
    """The package that the trainer is from."""
    for kind in type(trainer).__mro__:
        for package in PACKAGES:
            if kind.__name__ == "Trainer" and kind.__module__ == f"{package}.trainer.trainer":
                return sys.modules[package]
    raise UsageError(f"trainer is a {type(trainer).__name__}, and no Trainer of lightning or pytorch_lightning",
                     "pass the object whose fit you call")  # fmt: skip


def _refuse(unknown: dict[str, Any]) -> None:
    for name in unknown:
        near = difflib.get_close_matches(name, KNOWN, 1)
        raise UsageError(f"attach_lightning has no argument {name!r}",
                         f"did you mean {near[0]}?" if near else f"it has: {', '.join(KNOWN)}")  # fmt: skip


def _check(given: dict[str, Any], package: Any) -> None:
    """Whatever can be said of the arguments, before anything is done."""
    trainer, datamodule = given["trainer"], given["datamodule"]
    for name, kind, value in (
        ("model", "LightningModule", _unwrapped(given["model"])), ("datamodule", "LightningDataModule", datamodule),
    ):  # fmt: skip
        if not isinstance(value, getattr(package, kind)) and not (name == "datamodule" and value is None):
            other = any(base.__module__.startswith(PACKAGES) for base in type(value).__mro__)
            raise UsageError(f"{name} is a {type(value).__name__}, and no {kind} of {package.__name__}",
                             f"the trainer is from {package.__name__}: import both from there" if other
                             else f"pass the {kind} that you fit")  # fmt: skip
    for name in ("project", "run_name"):
        if not isinstance(given[name], str):
            raise UsageError(f"{name} is {given[name]!r}, and not text", f'for instance {name}="demo"')
    for name in ("do_test_after", "auto_connect"):
        if not isinstance(given[name], bool):
            raise UsageError(f"{name} is {given[name]!r}, and neither True nor False", f"for instance {name}=True")
    if given["loss_fn"] is not None and not callable(given["loss_fn"]):
        raise UsageError(f"loss_fn is a {type(given['loss_fn']).__name__}, which cannot be called",
                         "pass the function or module itself, or leave it out: losses are read without it")  # fmt: skip
    if any(isinstance(callback, _Marked) for callback in trainer.callbacks):
        raise UsageError("this trainer is attached already", "call attach_lightning once for each trainer")
    if trainer.state.fn == "fit" and trainer.state.status == "running":
        raise UsageError("trainer.fit has begun: what it has done so far is not recorded",
                         "call attach_lightning before trainer.fit")  # fmt: skip


def _say_needless(attached: Attached, given: dict[str, Any]) -> None:
    names = [name for name, default in NEEDLESS.items() if given[name] != default and name not in _said]
    _said.update(names)
    if names:
        have, hint = "have" if len(names) > 1 else "has", ""
        if "log_every_n_steps" in names:
            hint = ", metrics are recorded when Lightning logs them: Trainer(log_every_n_steps=)"
        attached.tell(f"{', '.join(names)} {have} no effect in attach_lightning", f"nothing to do{hint}")
    if given["trainer"].state.fn == "fit":
        attached.tell("trainer.fit has run before attach_lightning: what it did is not recorded",
                      "call attach_lightning first")  # fmt: skip


def _unwrapped(model: Any) -> Any:
    """The module inside of a compiled one."""
    return getattr(model, "_orig_mod", model)


def _overridden(thing: Any, name: str, kind: str, package: str) -> bool:
    """Whether it has a method of its own where Lightning's class has one that does nothing, or raises."""
    base = getattr(sys.modules[package], kind)
    method = getattr(thing, name, None)
    return callable(method) and getattr(method, "__func__", method) is not getattr(base, name, None)


class _Marked:
    """What all callbacks of ours are, whatever package their other base is from."""

    attached: Attached


@functools.cache
def _callback_class(package: str) -> Any:
    """A callback of that package's; its methods are short, since Lightning calls them with nothing around."""

    def __init__(self: Any, attached: Attached) -> None:
        self.attached = attached

    def guarded(do: Callable[..., None], attached: Attached, *given: Any) -> None:
        strict = Settings().strict
        Guard("following Lightning", strict=strict).around(do)(attached, *given)

    return type("OnTheFly", (_Marked, sys.modules[package].Callback), {
        "__doc__": "Tells OnTheFly when a fit begins and ends.",
        "__init__": __init__,
        "__reduce__": lambda self: (_again, (package, self.attached)),
        "setup": lambda self, trainer, module, stage: guarded(Attached.begins, self.attached, trainer, stage),
        "on_fit_end": lambda self, trainer, module: self.attached.reached_the_end(),
        "teardown": lambda self, trainer, module, stage: guarded(Attached.ends, self.attached, stage),
    })  # fmt: skip


def _again(package: str, attached: Attached) -> Any:
    """A callback in another process, from its parts: a class that is made here cannot be found by its name."""
    __import__(package)
    return _callback_class(package)(attached)


def _add(trainer: Any, package: Any, attached: Attached) -> None:
    """Add the callback; Lightning wants those that save checkpoints last."""
    checkpoint, callbacks = package.callbacks.Checkpoint, trainer.callbacks
    place = next((n for n, known in enumerate(callbacks) if isinstance(known, checkpoint)), len(callbacks))
    callbacks.insert(place, _callback_class(attached.package)(attached))
    if attached.tests_after:
        _call_when_fit_returns(trainer, attached)


_testing: dict[str, weakref.WeakSet[Any]] = {package: weakref.WeakSet() for package in PACKAGES}
"""Trainers that live, and that test after they have fitted, by package."""

_slots: dict[str, Slot] = {}
"""By package."""


def _call_when_fit_returns(trainer: Any, attached: Attached) -> None:
    """Fill the slot of this package for as long as such a trainer lives."""
    package = attached.package
    calls = sys.modules.get(f"{package}.trainer.call")
    if not callable(getattr(calls, "_call_and_handle_interrupt", None)):
        attached.tests_after = False
        attached.tell("no test will run after training: how this version of Lightning ends it is not known here",
                      "call trainer.test after trainer.fit")  # fmt: skip
        return
    _testing[package].add(trainer)
    if package not in _slots:
        _slots[package] = Slot(calls, "_call_and_handle_interrupt", _wrap)
    weakref.finalize(trainer, _release, package).atexit = False


def _release(package: str) -> None:
    if package in _slots and not list(_testing[package]):  # the set still counts the one that dies
        _slots.pop(package).restore()


def _wrap(slot: Slot, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _call_and_handle_interrupt(trainer: Any, function: Any, *args: Any, **named: Any) -> Any:
        fitting = trainer.state.fn == "fit"
        try:
            result = original(trainer, function, *args, **named)
        except BaseException as error:
            leave_frame_out(error)
            raise
        if fitting and slot.enabled:
            for callback in trainer.callbacks:
                if isinstance(callback, _Marked) and callback.attached.tests_after:
                    callback.attached.returns(trainer)
        return result

    return _call_and_handle_interrupt


@contextlib.contextmanager
def _random_state_put_back() -> Generator[None, None, None]:
    """Python's, NumPy's and torch's random numbers go on after the block as if it had not been."""
    numpy: Any = sys.modules.get("numpy")
    python, numpys = random.getstate(), numpy.random.get_state() if numpy else None
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        if numpys is not None:
            numpy.random.set_state(numpys)
