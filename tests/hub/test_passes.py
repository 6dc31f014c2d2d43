"""The page in a frame of a notebook: only for who has a pass, once, for a minute; and each protection is one."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest

from onthefly.hub import auth, passes
from onthefly.hub.auth import Guardian
from onthefly.hub.passes import MAX_PASSES, PASS_SECONDS, Passes
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def issue(hub: Running, **headers: str | None) -> str:
    """A fresh pass."""
    status, _, body = hub.request("POST", "/api/v1/passes", json.dumps({"pid": 4711}), **headers)
    assert status == 200, body
    given = json.loads(body)
    assert given["seconds"] == PASS_SECONDS
    return given["text"]


def page(hub: Running, query: str) -> Answer:
    """What a frame at that address gets."""
    return hub.request(path=f"/{query}", Authorization=None, Content_Type=None)


def enter(hub: Running, text: str, **headers: str | None) -> Answer:
    """What the page gets for a pass."""
    given: dict[str, str | None] = {"Authorization": None, "Origin": f"http://127.0.0.1:{hub.file.port}", **headers}
    return hub.request("POST", "/api/v1/token", json.dumps({"text": text}), **given)


def framable(answer: Answer) -> bool:
    """Whether a foreign page may frame it."""
    return "frame-ancestors" not in answer[1]["content-security-policy"]


def powerless(answer: Answer) -> bool:
    """Whether it can do nothing: no script, no request, no link, no form."""
    policy, body = answer[1]["content-security-policy"], answer[2]
    return policy.startswith("default-src 'none'; style-src 'sha256-") and "script-src" not in policy and not any(
        part in body for part in (b"<script", b"<a ", b"<form", b"<button", b"<iframe", b"src=", b"href="))  # fmt: skip


def test_a_pass_opens_the_page_in_a_frame_and_is_worth_the_token_once(hub: Running) -> None:
    text = issue(hub)
    shown = page(hub, f"?pass={text}")
    assert framable(shown)
    assert b"/assets/dashboard.js" in shown[2]
    assert hub.file.token.encode() not in shown[2]
    assert "default-src 'none'; script-src 'self'" in shown[1]["content-security-policy"]
    status, headers, body = enter(hub, text)
    assert (status, json.loads(body)) == (200, {"token": hub.file.token, "pid": 4711})
    assert headers["cache-control"] == "no-store"
    assert powerless(page(hub, f"?pass={text}")), "a used pass opens nothing"
    assert enter(hub, text)[0] == 409


def test_without_a_pass_nobody_frames_the_page(hub: Running) -> None:
    issue(hub)
    for query in ("", "?", "?other=1", "?passes=x"):
        assert not framable(page(hub, query)), query
    for query in ("?pass=", "?pass=x", f"?pass={hub.file.token}", "?pass=%F0%28", "?pass=x&pass=y", "?pass=%C3%A9"):
        answer = page(hub, query)
        assert answer[0] == 200
        assert framable(answer), query
        assert powerless(answer), query
        assert b"%onthefly" in answer[2]
    for path in ("/healthz", "/assets/dashboard.js", "/api/v1/sessions", "/no"):
        assert not framable(hub.request(path=f"{path}?pass={issue(hub)}")), path


def test_only_who_has_the_token_is_issued_one(hub: Running) -> None:
    body = json.dumps({"pid": 1})
    for headers, status in (
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer x"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Host": "rebind.it"}, 421),
    ):
        assert hub.request("POST", "/api/v1/passes", body, **headers)[0] == status, headers
    for wrong in ("", "{", "[]", "{}", '{"pid": "x"}', '{"pid": null}'):
        assert hub.request("POST", "/api/v1/passes", wrong)[0] == 400, wrong


def test_only_our_own_page_enters_and_only_with_a_pass(hub: Running) -> None:
    text, port = issue(hub), hub.file.port
    for headers, status in (
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": f"http://localhost:{port}"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": f"rebind.it:{port}", "Origin": f"http://rebind.it:{port}"}, 421),
    ):
        assert enter(hub, text, **headers)[0] == status, headers
    for other in ("", "x", text[:-1], text + "x", text.swapcase(), hub.file.token, "é", "\ud800"):
        assert enter(hub, other)[0] in (400, 409), other
    assert hub.request(path="/api/v1/token")[0] == 405
    assert enter(hub, text)[0] == 200, "what others tried cost it nothing"


def test_passes_are_random_few_and_short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(passes.time, "monotonic", lambda: now[0])
    kept = Passes()
    texts = [kept.issue(number) for number in range(100)]
    assert len(set(texts)) == 100
    assert min(map(len, texts)) >= 43
    assert [kept.good(text) for text in texts] == [False] * (100 - MAX_PASSES) + [True] * MAX_PASSES
    assert kept.use(texts[-1]) == 99
    assert kept.use(texts[-1]) is None
    now[0] = PASS_SECONDS + 1
    assert not kept.good(texts[-2])
    assert kept.use(texts[-2]) is None


def test_nothing_is_logged_of_a_pass(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    text = issue(hub)
    with caplog.at_level("DEBUG"):
        page(hub, f"?pass={text}")
        hub.request(path=f"/api/v1/sessions?pass={text}", Authorization=None)
        hub.request(path=f"/?pass={text}", Host="rebind.it")
        enter(hub, text, Origin="https://evil.example")
        enter(hub, text)
    assert "refused" in caplog.text
    assert text not in caplog.text
    assert hub.file.token not in caplog.text


@pytest.mark.parametrize("part", ["policy", "once", "time", "number", "origin", "comparison"])
def test_without_its_protection_each_attack_succeeds(part: str, hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    if part == "policy":
        monkeypatch.setattr(auth, "HEADERS", {**auth.HEADERS, "Content-Security-Policy": auth.FRAMED_POLICY})
        assert framable(page(hub, ""))
    elif part == "once":
        used: list[Any] = []
        monkeypatch.setattr(Passes, "use", lambda self, text: used.append(text) or self._find(text).pid)
        text = issue(hub)
        assert [enter(hub, text)[0] for _ in range(2)] == [200, 200]
    elif part == "time":
        text = issue(hub)
        monkeypatch.setattr(passes.time, "monotonic", lambda: 0.0)
        assert enter(hub, text)[0] == 200, "however late"
    elif part == "number":
        monkeypatch.setattr(passes, "MAX_PASSES", 1000)
        texts = [issue(hub) for _ in range(100)]
        assert all(framable(page(hub, f"?pass={text}")) and not powerless(page(hub, f"?pass={text}")) for text in texts)
    elif part == "origin":
        refusal = Guardian.refusal

        def weakened(self: Guardian, request: Any) -> Any:
            refused = refusal(self, request)
            return None if refused is not None and refused[1].code == "foreign_origin" else refused

        monkeypatch.setattr(Guardian, "refusal", weakened)
        assert enter(hub, issue(hub), Origin="https://evil.example")[0] == 200
    else:
        compared: list[int] = []
        monkeypatch.setattr(passes.hmac, "compare_digest", lambda a, b: compared.append(1) or hmac_equal(a, b))
        for _ in range(3):
            issue(hub)
        compared.clear()
        page(hub, "?pass=x")
        assert len(compared) >= 3, "every pass is compared, whichever one it is"


hmac_equal = hmac.compare_digest
