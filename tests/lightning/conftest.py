"""Both packages of Lightning, and a session that ``attach_lightning`` finds open."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import onthefly.sessions
from tests.watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.watching import Kept

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def package(name: str) -> Any:
    """Lightning, which warns of what others deprecate while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@pytest.fixture(params=PACKAGES)
def pl(request: pytest.FixtureRequest) -> Any:
    """``lightning.pytorch`` and ``pytorch_lightning``, one after the other."""
    return package(request.param)


@pytest.fixture
def lightning() -> Any:
    """``lightning.pytorch``."""
    return package(PACKAGES[0])


def slots() -> list[tuple[Any, str]]:
    """What we fill in Lightning, as far as it is loaded."""
    found: list[tuple[Any, str]] = []
    for name in PACKAGES:
        if name in sys.modules:
            module: Any = sys.modules[f"{name}.trainer.connectors.logger_connector.logger_connector"]
            found += [(module._LoggerConnector, "log_metrics"), (module._LoggerConnector, "on_batch_start")]
            found.append((sys.modules[f"{name}.trainer.call"], "_call_and_handle_interrupt"))
    return found


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    """Every slot in Lightning is as it was, when trainers are gone."""
    for name in PACKAGES:
        package(name)
    before = [vars(owner)[name] for owner, name in slots()]
    yield
    if [vars(owner)[name] for owner, name in slots()] != before:
        gc.collect()  # 0.3 s with so much imported
    assert [vars(owner)[name] for owner, name in slots()] == before


@pytest.fixture
def session() -> Callable[[], Any]:
    """A context in which a session is the one of this process, its messages kept."""

    @contextlib.contextmanager
    def opened(**environment: str) -> Generator[Kept, None, None]:
        with watched(**environment) as kept:
            onthefly.sessions._session = kept.session
            try:
                yield kept
            finally:
                onthefly.sessions._session = None

    return opened
