"""What a notebook shows, in a real Chromium: saved output in a page of another origin, with a pass."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from scripts import chromium, node
from tests.conftest import REPOSITORY
from tests.lean import LEAN
from tests.notebook.kernel import FOREVER, TRAINS, running_kernel

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.conftest import Home

pytestmark = [
    pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine"),
    pytest.mark.skipif(not (REPOSITORY / "extension" / "node_modules").exists(), reason="npm ci has not run"),
]

PAGE = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><title>a notebook</title><body style="font-family: system-ui; width: 900px">{}</body>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of its requests."""

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def served(folder: Path) -> Generator[str, None, None]:
    """Another origin, which serves that folder; its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}/page.html"
        server.shutdown()
        thread.join()


def test_the_frame_of_a_notebook(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "notebook"
    folder.mkdir()
    with running_kernel(home) as kernel, served(folder) as address:
        kernel.run(TRAINS)
        outputs = [kernel.run("%load_ext onthefly").html, kernel.run("%onthefly").html]
        kernel.start(f"train({FOREVER}, 0.003)")
        home.wait_step(30)
        # Newer than the kernel's session, and not to be shown.
        home.watched("-c", LEAN + "torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1).step()")
        hub = home.hub()
        command = (shutil.which("node") or "node") if node.from_path() else node.from_wheel()[0][0]
        with subprocess.Popen(
            [command, "e2e/notebook.mjs", address, f"http://127.0.0.1:{hub['port']}", str(REPOSITORY / "screenshots")],
            cwd=REPOSITORY / "extension" / "dashboard", env={**home.environment, "CHROMIUM": chromium.find()},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as browser:  # fmt: skip
            assert browser.stdin is not None
            assert browser.stdout is not None
            for output in outputs:
                assert hub["token"] not in output
                (folder / "page.html").write_text(PAGE.format(output), encoding="utf-8")
                browser.stdin.write("\n")
                browser.stdin.flush()
                said = browser.stdout.readline()
                assert said == "looked\n", said + browser.stdout.read()
            browser.stdin.close()
            rest = browser.stdout.read()
        assert browser.wait(30) == 0, rest
