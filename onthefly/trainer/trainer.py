"""``Trainer``: what it is asked for, and the session that it trains in; the loop is :mod:`onthefly.trainer.loop`."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Optional, Union

from onthefly.core.kernel import is_interactive
from onthefly.errors import UsageError, report
from onthefly.sessions import Unwatched, current, is_own, watch
from onthefly.trainer.loop import train
from onthefly.trainer.plan import check_unknown, merged, plan_of, say_ineffective

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from onthefly.agent import Session
    from onthefly.trainer.loop import Step

_open: Optional[weakref.ref[Trainer]] = None
"""The trainer of this process that is not closed."""


class Trainer:
    """Trains a model as a loop written by hand would, watched by OnTheFly.

    ``fit`` opens a session, or uses the one that is open (``python -m onthefly``). Nothing is reseeded, clipped or
    reordered that was not asked for, and the program ends when training ends.
    """

    def __init__(
        self,
        *,
        project: str = "",
        run_name: Optional[str] = None,
        max_epochs: Optional[int] = None,
        max_steps: Optional[int] = None,
        do_test_after: bool = False,
        val_every_n_epochs: Optional[int] = None,
        session_defaults: Optional[Mapping[str, Any]] = None,
        dashboard_host: str = "127.0.0.1",
        dashboard_port: Optional[int] = None,
        auto_connect: bool = True,
        connect_timeout: float = 1.0,
        reconnect_interval: float = 2.0,
        backlog_limit: int = 20000,
        **unknown: Any,
    ) -> None:
        """Say what is trained for how long; :meth:`fit` does it.

        Args:
            project: what the session is filed under.
            run_name: what the session and its run are called; the script's name by default.
            max_epochs: epochs to train, counted by :meth:`fit`.
            max_steps: training steps (batches) to train. Without either, training goes on until it is stopped.
            do_test_after: evaluate on ``test_loader`` when training has ended.
            val_every_n_epochs: evaluate on ``val_loader`` after every so many epochs; None or 0: never.
            session_defaults: values for arguments of :meth:`fit` that are not given there.
            dashboard_host: only the loopback interface is served (see ``onthefly hub --host``).
            dashboard_port: the port that the hub is to prefer, if it has to be started.
            auto_connect: False: do not open a session; train unobserved unless one is open.
            connect_timeout: without effect here, as are the next two: the link needs no such settings.
            reconnect_interval: see there.
            backlog_limit: see there.
            unknown: anything else is refused, with the nearest known name.

        Raises:
            UsageError: an argument that cannot be, or another trainer of this process is not closed.
        """
        global _open
        say_ineffective(locals(), self.__init__)
        check_unknown("Trainer", unknown, self.__init__)
        other = _open() if _open is not None else None
        if other is not None and is_interactive():
            other.close()  # a cell that makes one is run again
        elif other is not None:
            raise UsageError("this process has a Trainer already, and one process is one session",
                             "call close() on that one first, or train this one in a process of its own")  # fmt: skip
        self.project = project
        self.run_name = (run_name or "").strip()
        self.max_epochs, self.max_steps = max_epochs, max_steps
        self.do_test_after = do_test_after
        self.val_every_n_epochs = val_every_n_epochs
        self._defaults = dict(session_defaults or {})
        self._port = dashboard_port or 0
        self._watched = auto_connect
        self._session: Union[Session, Unwatched, None] = None
        self._joins = False
        """The session is one that the script has opened around this, and ends with that."""
        self._steps: dict[str, Step] = {}
        self._tests = 0
        _open = weakref.ref(self)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def training_step(self, step: Step) -> Step:
        """Decorator: train on a batch by ``step(batch, state)``, which does all there is to do, ``backward`` included.

        ``state`` is a dictionary with ``model``, ``optimizer``, ``loss_fn``, ``device``, ``autocast``, ``scaler``,
        ``scheduler``, ``train_loader``, ``grad_clip_norm``, ``epoch`` and ``step`` (the number of the batch). A
        dictionary of numbers that it returns becomes metrics.
        """
        self._steps["train"] = step
        return step

    def validation_step(self, step: Step) -> Step:
        """Decorator: evaluate a batch of ``val_loader`` by ``step(batch, state)``; what it returns is averaged."""
        self._steps["val"] = step
        return step

    def test_step(self, step: Step) -> Step:
        """Decorator: evaluate a batch of ``test_loader`` by ``step(batch, state)``; what it returns is averaged."""
        self._steps["test"] = step
        return step

    def fit(
        self,
        *,
        model: Optional[nn.Module] = None,
        optimizer: Any = None,
        loss_fn: Optional[Callable[..., Any]] = None,
        train_loader: Any = None,
        val_loader: Any = None,
        test_loader: Any = None,
        scheduler: Any = None,
        scheduler_interval: str = "epoch",
        run_name: Optional[str] = None,
        device: Any = None,
        amp: bool = False,
        grad_clip_norm: Optional[float] = None,
        seed: Optional[int] = None,
        val_every_n_epochs: Optional[int] = None,
        data_order_policy: str = "user",
        embedding_hook: Any = None,
        model_factory: Any = None,
        deterministic_pauses: bool = True,
        enforce_sampler_state: bool = True,
        save_dir: Optional[str] = None,
        ckpt_keep: Optional[int] = None,
        ckpt_every_steps: Optional[int] = None,
        **unknown: Any,
    ) -> Union[Session, Unwatched]:
        """Train.

        Args:
            model: the module to train; moved to ``device``.
            optimizer: of its parameters.
            loss_fn: see :class:`~onthefly.trainer.step.DefaultStep`; a training step of one's own may do without.
            train_loader: the batches of an epoch.
            val_loader: those of a validation.
            test_loader: those of the test after training.
            scheduler: stepped after each epoch, or each batch with ``scheduler_interval="step"``.
            scheduler_interval: ``epoch`` or ``step``.
            run_name: instead of the one that the constructor was given.
            device: by default where the model lies, or the accelerator if that is the CPU and there is one.
            amp: mixed precision: float16 with a scaler on CUDA, bfloat16 on the CPU.
            grad_clip_norm: clip the gradients' norm at that; None: no clipping.
            seed: seed the generators of Python, NumPy and torch before training; None: leave them as they are.
            val_every_n_epochs: instead of what the constructor was given.
            data_order_policy: ``user``, ``epoch_reseed`` or ``fixed_order``, see :class:`~onthefly.trainer.data.Order`.
            embedding_hook: makes an embedding of what a module gave: ``embedding_hook(output)``, for
                ``onthefly ctl SESSION scan --module NAME``.
            model_factory: without effect: runs are forked and merged on the model itself.
            deterministic_pauses: without effect, as is ``enforce_sampler_state``.
            enforce_sampler_state: see there.
            save_dir: without effect: checkpoints lie in the session's folder, bounded by the command ``keep``.
            ckpt_keep: see there.
            ckpt_every_steps: make a checkpoint every so many steps; None: none but those that are asked for.
            unknown: anything else is refused, with the nearest known name.

        Returns:
            The session. It stays open until :meth:`close` or the end of the process.

        Raises:
            UsageError: an argument is missing, unknown or of a wrong kind, or ``fit`` was called before.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "unknown")}
        check_unknown("fit", unknown, self.fit)
        if self._session is not None:
            raise UsageError("this Trainer has been fitted already",
                             "raise max_epochs, or close() it and make another Trainer")  # fmt: skip
        given = merged(given, self._defaults, self.fit)
        say_ineffective(given, self.fit)
        plan = plan_of(given, max_epochs=self.max_epochs, max_steps=self.max_steps, tests=self.do_test_after,
                       val_every_n_epochs=self.val_every_n_epochs)  # fmt: skip
        name = given["run_name"] or self.run_name
        if self.max_epochs is None and self.max_steps is None:
            report("neither max_epochs nor max_steps is given: training goes on until it is stopped")
        self._joins = not self._watched or is_own()
        session = watch(project=self.project, name=name, port=self._port) if self._watched else current()
        self._session = session
        session.register(embed=given["embedding_hook"])
        if given["ckpt_every_steps"]:
            session.keep(every=given["ckpt_every_steps"])
        try:
            train(plan, self._steps, session)
        finally:
            session.flush()
        return session

    def close(self) -> None:
        """End the session, unless it is that of a block around this or, under the launcher, of the whole script."""
        global _open
        if _open is not None and _open() is self:
            _open = None
        if self._session is not None and not self._joins:
            self._session.__exit__(None, None, None)
