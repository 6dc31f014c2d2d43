"""Reports: all of a run in one file that asks for nothing, whatever its texts are."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from array import array
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.cli.main import main
from onthefly.errors import ExitCode
from onthefly.hub.report.charts import Axis, Curve, bars, lines, number
from onthefly.hub.report.markup import element, text
from onthefly.protocol import (
    SESSION_ALPHABET,
    Checked,
    Controlled,
    Controls,
    Finding,
    Journaled,
    Logged,
    Metrics,
    Noticed,
    StateChanged,
)  # fmt: skip
from tests.hub.agent import Agent, hello, records
from tests.hub.running import Running, running_hub
from tests.hub.test_health import result
from tests.hub.test_journal import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>", "'-alert(1)-'", "<a href=javascript:alert(1)>x</a>", "]]><!--", "&lt;b&gt;",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "\u202eevil\x00\x1b[31m", "<base href=//evil.example>",
    "<style>@import '//evil.example'</style>", "{{constructor}}", "%3Cscript%3E",
)  # fmt: skip
TAGS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "section",
        "footer",
        "h1",
        "h2",
        "p",
        "div",
        "span",
        "b",
        "i",
        "figure",
        "figcaption",
        "svg",
        "g",
        "line",
        "path",
        "rect",
        "circle",
        "text",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "dl",
        "dt",
        "dd",
        "details",
        "summary",
        "pre",
        "code",
    ]
)
ATTRIBUTES = frozenset(
    [
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "viewbox",
        "role",
        "aria-label",
        "d",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "cx",
        "cy",
        "r",
        "width",
        "height",
    ]
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    with running_hub(tmp_path, 47880) as running:
        yield running


class Seen(HTMLParser):
    """What a browser would make of a file."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def feed(agent: Agent, words: str) -> None:
    """A session with something of everything, whose every text is that."""
    agent.say(StateChanged(state="running", step=0, epoch=0, time=time.time(), by=words, reason=words))
    agent.say(Noticed(text=words, remedy=words, time=time.time()))
    losses = array("d", [1.0, 2.0, float("nan"), 4.0]).tobytes()
    agent.say(records(0, 4, 5, loss=losses, reasons=[words], reason=array("h", [0, 0, -1, -1]).tobytes(),
                      loaders=[words]))  # fmt: skip
    for name in (words, "lr", "valid/loss"):
        agent.say(Metrics(run="baseline", step=array("q", range(4)).tobytes(), epoch=bytes(16), time=bytes(32),
                          values={name: array("d", [0.1, 0.2, 0.3, 1e-9]).tobytes()}))  # fmt: skip
    agent.say(Journaled(entry=entry(2, name=words, args={words: words}, before={words: 1}, after={words: 2}, by=words)))
    agent.say(Checked(result=result(words, verdict="bad", says=words, do=words, rows=[{words: words, "n": 3.5}])))
    agent.say(Controlled(controls=Controls(findings=[Finding(alarm=words, step=1, time=time.time(), text=words)])))
    agent.say(Logged(stream="stdout", time=1.0, text=f"{words}\n"))
    agent.say(StateChanged(state="crashed", step=4, epoch=0, time=time.time(), by=words, reason=words))
    agent.saved(agent.seq)


def named(words: str) -> Any:
    return hello(name=words, project=words, script=words, argv=[words], versions={words: words, "torch": words})


def report(hub: Running) -> tuple[dict[str, str], str]:
    status, headers, body = hub.request(path="/api/v1/sessions/last/report")
    assert status == 200, body
    return headers, body.decode()


def test_everything_of_a_run_is_in_it(hub: Running) -> None:
    with Agent(hub.file, named("train.py")) as agent:
        feed(agent, "words")
    headers, page = report(hub)
    assert headers["content-type"].startswith("text/html")
    assert headers["content-disposition"] == 'attachment; filename="onthefly-abcdefgh.html"'
    seen = Seen(page)
    for part in ("train.py", "Curves", "learning rate", "validation loss", "Samples", "Health", "What to do: words",
                 "Interventions", "words words", "What was noticed", "Environment",
                 "The end of what the script wrote", "1 points of loss"):  # fmt: skip
        assert part in seen.text, part
    assert seen.tags["svg"] == 5  # loss, lr, valid/loss, words, histogram
    assert hub.request(path="/api/v1/sessions/last/report", Authorization=None)[0] == 401
    assert hub.request(path="/api/v1/sessions/nosuchid/report")[0] == 404


def test_an_empty_session_has_a_report(hub: Running) -> None:
    with Agent(hub.file) as agent:
        agent.state("ended")
        agent.saved(1)
    seen = Seen(report(hub)[1])
    assert "No step was recorded." in seen.text
    assert "No check was made." in seen.text
    assert "Nothing was changed" in seen.text


def test_no_text_becomes_markup_and_nothing_is_asked_for(hub: Running) -> None:
    with Agent(hub.file, named("plain")) as agent:
        feed(agent, "plain")
    usual = Seen(report(hub)[1])
    for place, words in enumerate(HOSTILE):
        first = hello(f"bbbbbb{SESSION_ALPHABET[place]}b", name=words, project=words, script=words, argv=[words],
                      versions={words: words, "torch": words}, started=time.time() + place)  # fmt: skip
        with Agent(hub.file, first) as agent:
            feed(agent, words)
        seen = Seen(report(hub)[1])
        assert seen.tags == usual.tags, words
        assert set(seen.tags) <= TAGS
        assert {name for _, name, _ in seen.attributes} <= ATTRIBUTES
        shown = re.sub(r"[\x00-\x08\x0b-\x1f\u202e]", "\ufffd", words)
        assert seen.text.count(shown) >= 10


def test_its_policy_lets_nothing_run_and_nothing_load(hub: Running) -> None:
    with Agent(hub.file, named("train.py")) as agent:
        feed(agent, "words")
    page = report(hub)[1]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert ("meta", "content", policy) in Seen(page).attributes
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert not re.search(r"url\(|@import|https?:|src=|href=|style=", page)


def test_a_test_of_the_store_is_shown(hub: Running) -> None:
    with Agent(hub.file, named("train.py")) as agent:
        feed(agent, "words")
        store: Any = hub.hub.registry.find("last").store
        with store.reading() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS evaluations (rank SMALLINT, pid BIGINT, label VARCHAR, "
                           "entry VARCHAR)")  # fmt: skip
            cursor.execute("INSERT INTO evaluations VALUES (0, 1, 'test_1', ?)", [
                '{"kind": "test", "label": "test_1", "run": "baseline", "step": 3, "loader": "loader1", "count": 40, '
                '"result": {"loss": 0.25, "accuracy": 0.875}, "partial": true, "reason": "cancelled", "how": "recipe"}'
            ])  # fmt: skip
        seen = Seen(report(hub)[1])
    assert "Tests" in seen.text
    assert "test_1baseline3loader1400.250.875recipe; partial: cancelled" in seen.text


def test_the_command_line_writes_it(hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("ONTHEFLY_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("ONTHEFLY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    with Agent(hub.file, named("train.py")) as agent:
        feed(agent, "words")
    assert main(["report", "last"]) == ExitCode.DONE
    assert (tmp_path / "onthefly-abcdefgh.html").read_text().startswith("<!doctype html>")
    assert main(["report", "last", "-o", "other.html"]) == ExitCode.DONE
    assert (tmp_path / "other.html").exists()
    assert main(["report", "last", "-o", "nowhere/other.html"]) == ExitCode.FAILED
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_texts_and_attributes_are_escaped() -> None:
    assert element("p", "<b>", [1, None, text("&")], class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;1&amp;</p>'
    assert element("line", x1=3) == '<line x1="3"/>'
    assert element("meta", http_equiv="x") == '<meta http-equiv="x">'


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]), (Axis(-1, 1, 0, 1), [-1, -0.5, 0, 0.5, 1]),
        (Axis(5, 5, 0, 1), [5]), (Axis(0.001, 100, 0, 1, True), [0.001, 0.01, 0.1, 1, 10, 100]),
        (Axis(2, 3, 0, 1, True), [2, 3]),
    ],
)  # fmt: skip
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks(6) == pytest.approx(ticks)
    assert all(axis.start <= axis.place(value) <= axis.end for value in axis.ticks(6))


def test_numbers_are_as_people_write_them() -> None:
    given = [0.0, 1.0, 0.12345678, 1234.5, 1.2e-7, 3e9, -5.0, float("nan")]
    assert list(map(number, given)) == ["0", "1", "0.1235", "1,234", "1.2e-7", "3e9", "-5", "nan"]


def test_a_chart_of_one_point_and_of_equal_values() -> None:
    assert "<circle" in lines("x", [Curve("baseline", [3.0], [1.0], [1.0], [1.0])])
    flat = lines("x", [Curve("baseline", [0.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0])], [(1.0, "set lr 0.1")])
    assert "nan" not in flat
    assert "set lr 0.1" in flat
    assert bars("x", [0.0, 0.0], [5]).count("<rect") == 1
