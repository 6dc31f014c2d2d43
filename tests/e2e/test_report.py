"""A report in a real Chromium, from a file: hostile texts stay texts, no policy is violated, nothing is fetched."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from scripts import chromium
from tests.hub.agent import Agent, hello
from tests.hub.running import running_hub
from tests.hub.test_report import HOSTILE, Seen, feed, report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not chromium.find(), reason="no Chromium on this machine")


def opened(folder: Path, page: str) -> tuple[str, str]:
    """What Chromium makes of that file: its document after loading, and what it says on its console."""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [chromium.find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_a_report_of_hostile_texts_is_a_page_of_texts(tmp_path: Path) -> None:
    words = " ".join(HOSTILE)
    with running_hub(tmp_path, 47890) as hub:
        with Agent(hub.file, hello(name=words, project=words, script=words, argv=[words], versions={words: words})) as (
            agent
        ):
            feed(agent, words)
        page = report(hub)[1]
    document, said = opened(tmp_path, page)
    assert Seen(document).tags == Seen(page).tags
    assert said == ""


def test_a_page_that_would_run_or_load_is_found_out(tmp_path: Path) -> None:
    """The policy of the report stops what gets into the page in spite of all; and the look above would see it."""
    with running_hub(tmp_path, 47891) as hub:
        with Agent(hub.file) as agent:
            feed(agent, "words")
        page = report(hub)[1]
    planted = page.replace("<main>", "<main><script>document.title='ran'</script><img src='https://example.org/x'>"
                           "<p style='color: red'>x</p>")  # fmt: skip
    document, said = opened(tmp_path, planted)
    assert Seen(document).tags != Seen(page).tags
    assert "<title>ran</title>" not in document
    assert said.count("Content Security Policy") >= 3
