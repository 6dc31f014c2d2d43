"""A home of its own for each compared script, and one hub for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Home

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Where the hub runs, so that not every case starts one."""
    home = Home(tmp_path_factory.mktemp("ground"))
    assert home.watched("-c", "").code == 0
    home.hub()
    yield home
    home.close()


@pytest.fixture
def here(ground: Home, home: Home) -> Home:
    """A folder of its own, under the common hub."""
    (home.folder / "w").mkdir()
    home.folder = home.folder / "w"
    home.environment.update({name: ground.environment[name] for name in ground.environment if "_DIR" in name})
    return home
