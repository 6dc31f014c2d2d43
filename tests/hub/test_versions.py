"""Versions and hosts meet: an older hub makes room, another DuckDB reads the store, two hosts share a home."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest

from onthefly.errors import StoreUnavailable
from onthefly.hub import schema
from onthefly.link.client import Client
from onthefly.link.discovery import read_hub, runtime_folder
from onthefly.settings import Settings
from onthefly.version import __version__, release
from tests.conftest import FULL, wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.running import running_hub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home

OTHER_HOST = "import platform; platform.node = lambda: 'elsewhere'\n"
HUB = "from onthefly.hub import server\nfrom onthefly.settings import Settings\n{change}\nserver.run(Settings())\n"


def test_releases_compare_as_numbers() -> None:
    assert release("1.10.0") > release("1.9.3")
    assert release("2.13.0+cpu") == (2, 13, 0)
    assert release("1.0.0.dev0") == (1, 0, 0)


@pytest.mark.parametrize(("version", "replaced"), [("0.9.1", True), (__version__, False), ("99.0", False)])
def test_an_older_hub_makes_room_for_ours(home: Home, version: str, replaced: bool) -> None:
    hub = home.start(sys.executable, "-c", HUB.format(change=f"server.__version__ = {version!r}"))
    first = home.hub()
    assert first["version"] == version
    assert home.watched("-c", "import torch; print(torch.ones(1).item())").code == 0
    wait_for("a session", lambda: (now := home.session()) is not None and now["state"] == "ended")
    assert (home.hub()["pid"] != first["pid"]) == replaced
    assert (hub.poll() == 0) == replaced


def test_the_store_is_in_the_oldest_format_that_is_read(tmp_path: Path) -> None:
    """Python 3.9 gets DuckDB 1.4, which reads this storage version and none that is newer."""
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.say(records(0, 5, 4))
        agent.saved(1)
        agent.state("ended")
    path = tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"
    database = duckdb.connect()
    database.execute(f"ATTACH '{path}' AS store (READ_ONLY)")
    row = database.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'store'").fetchone()
    assert row is not None
    assert row[0].get("storage_version", "v1.2.0+").startswith(schema.STORAGE_VERSION.rpartition(".")[0])


@FULL
def test_an_older_duckdb_reads_and_goes_on_with_the_store(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.say(records(0, 5, 4))
        agent.saved(1)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path / "older"), "duckdb==1.4.*"],
                   check=True)  # fmt: skip
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\nimport duckdb\nfrom pathlib import Path\n"
        "from onthefly.hub.store import Source, Store\nfrom tests.hub.agent import records\n"
        "store = Store(Path(sys.argv[1]), 'abcdefgh')\nassert store.set_aside is None\n"
        "store.write([(Source(0, 1, 99), records(5, 5, 4))])\nprint(duckdb.__version__, store.backward_rows)\n"
        "store.close()\n"
    )
    path = tmp_path / "data" / "sessions" / "abcdefgh" / "store.duckdb"
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "older")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.4")
    assert done.stdout.split()[1] == "10"
    with running_hub(tmp_path) as hub:
        assert len(hub.json("sessions/abcdefgh/backwards")) == 10


def test_hosts_that_share_a_runtime_folder_each_have_their_hub(home: Home) -> None:
    home.start(sys.executable, "-c", HUB.format(change=OTHER_HOST))
    there = home.hub()
    assert there["node"] == "elsewhere"
    assert home.watched("-c", "import torch").code == 0
    settings = Settings(home.environment)
    here = wait_for("a hub of this host", lambda: read_hub(settings))
    assert here.node == platform.node()
    assert runtime_folder(settings).parent == home.runtime
    assert runtime_folder(settings).stat().st_mode & 0o777 == 0o700
    assert home.hub() == there, "the other host's file is left alone"


def test_what_runs_on_another_host_is_shown_and_left_alone(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub, Agent(hub.file, hello("abcdefgh")) as agent:
        agent.say(records(0, 5, 4))
        agent.saved(1)
        agent.state("running")
        wait_for("the state", lambda: hub.json("sessions/last")["state"] == "running")
        file = tmp_path / "data" / "sessions" / "abcdefgh" / "session.json"
        wait_for("it on disk", lambda: json.loads(file.read_bytes())["session"]["state"] == "running")
        content = json.loads(file.read_bytes())
    content["node"] = "elsewhere"
    for rank in content["session"]["ranks"]:
        rank["node"] = "elsewhere"
    content["session"]["state"] = "running"
    file.write_text(json.dumps(content))
    before = file.read_bytes()
    with running_hub(tmp_path) as hub:
        assert hub.json("sessions/abcdefgh")["state"] == "running"
        environment = {"ONTHEFLY_RUNTIME_DIR": str(tmp_path / "runtime"), "ONTHEFLY_DATA_DIR": str(tmp_path / "data")}
        with Client(Settings(environment)) as client:
            answer = client.command("abcdefgh", {"id": "x", "name": "pause"})
            assert answer["status"] == "refused"
            assert "elsewhere" in answer["reason"]
            with pytest.raises(Exception, match="kept by the hub on elsewhere"):
                client.json("sessions/abcdefgh/samples")
        assert StoreUnavailable.code in hub.request(path="/api/v1/sessions/abcdefgh/samples")[2].decode()
    assert file.read_bytes() == before
