"""Row 15: whatever arrives, on either port, is answered or ends its connection, and never more than that.

Messages are made from a grammar of what is valid and damaged at random: most pass the first check and fail a later one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onthefly.hub import client, columns, evaluations, health, websocket
from onthefly.hub.columns import BadColumns, Words, backward_columns, metric_columns, sample_columns
from onthefly.hub.store import Source
from onthefly.link import frames
from onthefly.link.connection import Connection
from onthefly.link.frames import LENGTH, FrameError, decode
from onthefly.protocol import AGENT_KINDS, CommandRequest, Metrics, Records
from tests.conftest import wait_for
from tests.hub.agent import Agent, hello, records
from tests.hub.dashboard import connected
from tests.hub.running import Running, running_hub
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FULL = bool(os.environ.get("ONTHEFLY_FULL"))
DECODED = 1_000_000 if FULL else 3_000
SENT = 20_000 if FULL else 600
SEED = int(os.environ.get("ONTHEFLY_SEED", "0")) or random.randrange(1, 2**31)

INTEGERS = [0, 1, -1, 127, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30]
TEXTS = [
    "",
    "x",
    "last",
    "abcdefgh",
    "../..",
    "\0",
    "\u202e",
    "\ud7ff",
    "\U0001f600",
    "a" * 5000,
    "{}",
    "null",
    "__init__",
]
OTHERS: list[Any] = [None, True, 1.5, -0.0, 1e308, [], {}, [[]], {"": {}}]
NAMES = ["type", "session", "metrics", "points", "id", "name", "args", "by", "", "extra", "\u00e9"]


class Grammar:
    """Valid messages and what becomes of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Anything that JSON and MessagePack can hold."""
        kind = self.random.randrange(6)
        if kind == 0:
            return self.random.choice(INTEGERS)
        if kind == 1:
            return self.random.choice(TEXTS)
        if kind == 2 or depth > 4:
            return self.random.choice(OTHERS)
        if kind == 3:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind == 4:
            return {self.random.choice(NAMES): self.value(depth + 1) for _ in range(self.random.randrange(4))}
        return "".join(chr(self.random.choice([0, 34, 92, 65, 0x7FF, 0xFFFF, 0x10FFFF])) for _ in range(8))

    def damaged(self, message: dict[str, Any]) -> dict[str, Any]:
        """One field changed, removed or added."""
        changed = dict(message)
        name = self.random.choice([*message, self.random.choice(NAMES)])
        if self.random.random() < 0.3:
            changed.pop(name, None)
        else:
            changed[name] = self.value()
        return changed

    def bytes_damaged(self, data: bytes) -> bytes:
        """Some bytes flipped, cut or doubled."""
        how, place = self.random.randrange(4), self.random.randrange(len(data) + 1)
        if how == 0:
            return data[:place]
        if how == 1:
            return data[:place] + self.random.randbytes(self.random.randrange(1, 9)) + data[place:]
        if how == 2:
            return data[:place] + data[place + self.random.randrange(1, 9) :]
        return data[:place] + data[max(0, place - 20) :]

    def client_message(self) -> bytes:
        """What a dashboard might send, as JSON; not always."""
        valid = self.random.choice([
            {"type": "subscribe", "session": "abcdefgh", "metrics": ["loss", "lr"], "points": 100},
            {"type": "subscribe", "session": "last"},
            {"type": "command", "session": "abcdefgh", "id": str(self.random.random()), "name": "resume",
             "args": {"a": [1]}},
            {"type": "command", "session": "abcdefgh", "id": str(self.random.random()), "name": "set",
             "args": {"name": "lr", "value": [0.1, 2], "group": 0}, "by": "x"},
            {"type": "command", "session": "abcdefgh", "id": "same", "name": "trial",
             "args": {"steps": 3, "name": "set", "args": {"name": "lr", "value": 1}}},
            {"type": "ping"},
        ])  # fmt: skip
        special = self.random.randrange(12)
        if special == 0:
            return self.random.choice([b"[", b'{"a":']) * self.random.choice([10, 1000, 12_000])
        if special == 1:
            number = self.random.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-", b"01", b"1e", b"0x1"])
            return b'{"type":"command","session":"last","id":"x","name":"resume","args":{"a":' + number + b"}}"
        if special == 2:
            return b'{"type":"ping","type":"subscribe","type":' + json.dumps(self.value()).encode() + b"}"
        if special == 3:
            return b'{"type":"command","session":"abcdefgh","id":"\\ud800","name":"\\udfff"}'
        data = json.dumps(self.damaged(valid), ensure_ascii=self.random.random() < 0.5).encode("utf-8", "surrogatepass")
        return self.bytes_damaged(data) if special < 7 else data

    def agent_message(self) -> Any:
        """What an agent might send: ``[seq, kind, payload]``."""
        count = self.random.randrange(4)
        time = self.random.choice([1.0, -1e300, float("inf"), float("nan")])
        message: Any = records(self.random.randrange(100), count, self.random.randrange(3))
        kind = self.random.choice([*AGENT_KINDS, "records", "records", "records", "metrics"])  # most of it is columns
        payloads: dict[str, dict[str, Any]] = {
            "records": msgspec.structs.asdict(message),
            "hello": msgspec.structs.asdict(hello()),
            "metrics": {"run": "baseline", "step": bytes(8 * count), "epoch": bytes(4 * count),
                        "time": struct.pack(f"<{count}d", *[time] * count),
                        "values": {f"m{number}": bytes(8 * count) for number in range(self.random.choice([0, 1, 3]))},
                        "complete": self.random.random() < 0.5},
            "state": {"state": "running", "step": 1, "epoch": 0, "time": 1.0},
            "described": {"name": "x", "project": "", "run": self.random.choice(["baseline", "a b", ""])},
            "notice": {"text": "x", "time": 1.0},
            "logged": {"stream": "stdout", "time": time, "text": "x\0\n"},
            "answered": {"answer": {"id": "x", "n": 0, "status": self.random.choice(["accepted", "applied", "busy"]),
                                    "result": {"loss": time, "more": [{}, None, b"x"]}}},
            "controls": {"controls": {
                "pauses": [{"text": "x", "by": "y"}], "keep": {"every": 3, "memory": time},
                "groups": [{"optimizer": 0, "kind": "SGD", "group": 0, "parameters": 9, "values": {"lr": time}}],
                "findings": [{"alarm": "loss", "step": 1, "time": time, "text": "x"}],
                "trial": {"steps": 2, "change": "lr", "phase": "with", "start": 0, "without": [time], "effect": time},
            }},
            "journaled": {"entry": {
                "time": time, "run": "baseline", "step": 1, "epoch": 0, "backward": 1, "point": 1, "name": "set",
                "args": {"lr": time}, "before": {"lr": b"x"}, "after": {}, "by": "ana",
            }},
            "proposed": {"n": self.random.randrange(3), "accepted": True, "step": self.random.choice([0, 5, 2**62])},
            "receipted": {"receipt": {
                "session": "x", "run": "resume1", "from_run": "baseline", "from_step": self.random.choice([0, 2**62]),
                "compared": 3, "equal": self.random.choice([2, 3]), "expected": 3, "text": "x", "time": time,
            }},
            "checked": {"result": {
                "check": self.random.choice(["numerics", "distribution", ""]), "verdict": "warning", "says": "x\0",
                "numbers": {"nonfinite": time, "": "x", "hash": True}, "rows": [{"module": "fc", "zeros": time}],
                "run": "baseline", "step": self.random.choice([1, 2**62]), "time": time, "examination": 1,
            }},
            "evaluated": {"evaluation": {
                "kind": "scan", "label": self.random.choice(["scan_1", "", "x" * 99]), "run": "baseline", "step": 1,
                "epoch": 0, "loader": "loader0", "mode": "eval", "by": "ana", "began": time, "seconds": 1.0, "count": 2,
                "how": "recipe", "result": {"loss": time, "more": [{}, None, b"x"]},
            }},
            "examined": {
                "run": "baseline", "evaluation": "scan_1", "kind": "scan", "step": self.random.choice([1, 2**63]),
                "epoch": 0, "backward": 1, "loader": "loader0", "time": time,
                "first": self.random.choice([0, -1, 2**31]),
                "sample": bytes(8 * count), "loss": bytes(4 * count), "valid": bytes(4 * count),
                "certificate": bytes(count), "identity": bytes(count), "target": bytes(8 * count),
                "keys": ["a"] * count,
                "dimensions": self.random.choice([0, 2, 65]), "vectors": bytes(8 * count),
            },
            "asked": {"name": self.random.choice(["pause", "resume", "x"]), "by": "hub", "reason": "x"},
        }  # fmt: skip
        payload = payloads[kind]
        how = self.random.randrange(4)
        if how == 0:
            payload = self.damaged(payload)
        elif how == 1 and kind in ("records", "metrics", "examined"):
            column = self.random.choice([name for name, data in payload.items() if isinstance(data, bytes)])
            payload = {**payload, column: self.bytes_damaged(payload[column])}
        elif how == 2 and kind in ("records", "metrics"):
            column = self.random.choice([name for name, data in payload.items() if isinstance(data, bytes)])
            payload = {**payload, column: self.random.randbytes(len(payload[column]))}
        return [self.random.choice([self.random.randrange(1, 10**6), self.value()]), kind, payload]

    def agent_body(self) -> bytes:
        """The same as MessagePack; not always."""
        special = self.random.randrange(12)
        if special == 0:  # huge declared lengths, and nothing behind them
            head = self.random.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb"])
            return b"\x93\x01\xa7records" + head + b"\xff\xff\xff\xf0" + self.random.randbytes(8)
        if special == 1:  # deep nesting
            head = b"\x93\x01\xa8answered\x81\xa6answer\x84\xa2id\xa1x\xa1n\x00\xa6status\xa4busy\xa6result"
            return head + self.random.choice([b"\x91", b"\x81\xa1a"]) * self.random.choice([100, 100_000])
        if special == 2:  # bad UTF-8 in a text
            return b"\x93\x01\xa6notice\x82\xa4text\xa2\xff\xfe\xa4time\xcb" + bytes(8)
        try:
            data = msgspec.msgpack.encode(self.agent_message())
        except (OverflowError, UnicodeEncodeError):
            return b"\xc1"
        return self.bytes_damaged(data) if special < 6 else data


def read_as_agent(body: bytes) -> bool:
    """As the agents' port and the store read it: whether it is accepted."""
    try:
        _, message = decode(body, AGENT_KINDS)
        if isinstance(message, Records):
            sample_columns(message, backward_columns(message, 0, Words(), Words(), Words()))
        elif isinstance(message, Metrics):
            metric_columns(message, 0, Words(), Words())
        else:
            health.rows([(Source(0, 1, 1), message)])
            evaluations.Rows([(Source(0, 1, 1), message)], Words(), Words(), Words())
    except (FrameError, BadColumns):
        return False
    return True


def read_as_client(data: bytes) -> bool:
    """As the WebSocket and the HTTP route read it."""
    good = True
    for read in (websocket._decoder.decode, msgspec.json.Decoder(CommandRequest).decode):
        try:
            read(data.decode())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            good = False
    return good


def decoded(count: int, make: Callable[[], bytes], read: Callable[[bytes], bool]) -> int:
    """Read so many messages, five minutes at most; how many were accepted. Anything but a clean refusal is raised."""
    limit, accepted = time.monotonic() + 150, 0
    for number in range(count):
        data = make()
        try:
            accepted += read(data)
        except BaseException as error:
            raise AssertionError(f"seed {SEED}: message {number} {data[:300]!r} raised {error!r}") from error
        if time.monotonic() > limit:
            break
    return accepted


@pytest.mark.timeout(400)
def test_decoders_refuse_cleanly() -> None:
    print(f"seed {SEED}")
    grammar = Grammar(SEED)
    with_agent = decoded(DECODED // 2, grammar.agent_body, read_as_agent)
    assert 0 < with_agent < DECODED // 2
    decoded(DECODED // 2, grammar.client_message, read_as_client)
    note("F5", messages=DECODED, seed=SEED, crashes=0)


def unchecked(data: bytes, dtype: str, count: int | None, name: str) -> Any:
    """A column as it came."""
    return np.frombuffer(data, dtype)


@pytest.mark.parametrize("protection", ["lengths", "codes", "depth"])
def test_without_its_protection_a_message_gets_through(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if protection == "lengths":
        monkeypatch.setattr(columns, "column_of", unchecked)
    elif protection == "codes":
        monkeypatch.setattr(columns, "codes_of", lambda data, limit, count, name: np.frombuffer(data, "u1"))
    else:
        monkeypatch.setattr(frames, "RecursionError", ZeroDivisionError, raising=False)
    with pytest.raises(AssertionError, match="seed"):
        decoded(3000, Grammar(1).agent_body, read_as_agent)


@settings(max_examples=300, deadline=None, database=None, derandomize=not FULL)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))))
def test_decoders_refuse_anything(data: bytes) -> None:
    read_as_agent(data)
    read_as_client(data)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(client.Bucket, "take", lambda self: True)  # what is refused unread tests nothing
    with running_hub(tmp_path, 47980) as running:
        yield running


def assert_clean(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The hub answers, and has logged no traceback."""
    assert hub.request(path="/api/v1/sessions")[0] == 200
    tracebacks = [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]
    assert not tracebacks, [(record.getMessage(), record.exc_info) for record in tracebacks]


@pytest.mark.timeout(400)
def test_every_message_of_a_dashboard_gets_one_answer(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    print(f"seed {SEED}")
    grammar = Grammar(SEED)

    async def scene() -> None:
        sent = 0
        while sent < SENT:
            async with connected(hub.file) as one:
                while sent < SENT:
                    data = grammar.client_message()
                    try:
                        text = data.decode()
                    except UnicodeDecodeError:
                        await one.socket._writer.send_frame(data, aiohttp.WSMsgType.TEXT)
                        sent += 1
                        while await one.take() is not None:
                            pass
                        assert one.closed == 1007
                        break
                    await one.socket.send_str(text)
                    sent += 1
                    await answer_to(one, text)

    async def answer_to(one: Any, text: str) -> None:
        one.events.clear()
        await one.send(type="ping")
        pongs = 2 if wanted(text) == "pong" else 1
        await one.read(lambda: sum(event["type"] == "pong" for event in one.events) == pongs)
        if wanted(text) == "error":
            assert [event["type"] for event in one.events].count("error") == 1, text

    with Agent(hub.file) as agent, caplog.at_level(logging.INFO):
        agent.state("running")
        agent.saved(1)
        asyncio.run(asyncio.wait_for(scene(), 300))
        agent.state("ended")
    assert_clean(hub, caplog)
    note("F5", over_websocket=SENT, tracebacks=0, hangs=0)


def wanted(text: str) -> str:
    """What kind of answer a message must get."""
    try:
        message = websocket._decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return "error"
    return {"Ping": "pong", "Subscribe": "", "SendCommand": ""}[type(message).__name__]


@pytest.mark.timeout(400)
def test_every_frame_of_an_agent_is_taken_or_ends_it(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    print(f"seed {SEED}")
    grammar = Grammar(SEED)
    with caplog.at_level(logging.INFO):
        for number in range(SENT // 10):
            with contextlib.suppress(OSError):
                connection = Connection(hub.file)
                with contextlib.closing(connection):
                    connection.send(framed(msgspec.msgpack.encode([0, "hello", hello()])))
                    for _ in range(10):
                        body = grammar.agent_body()
                        connection.send(framed(body))
                        if grammar.random.random() < 0.05:  # torn, or with a length that is not its own
                            connection.send(framed(body)[: grammar.random.randrange(len(body) + 1)])
                            break
            if number % 20 == 0:
                assert hub.request(path="/api/v1/sessions")[0] == 200
        with Agent(hub.file, hello("zzzzzzzz")) as agent:
            agent.say(records(0, 2, 2))
            agent.saved(1)
            agent.state("ended")
            agent.saved(2)
    assert_clean(hub, caplog)
    note("F5", over_the_agents_port=SENT)


def framed(body: bytes) -> bytes:
    """With its length."""
    return LENGTH.pack(len(body)) + body


ODD_HELLOS: dict[str, dict[str, Any]] = {
    "a mebibyte of name": {"name": "x" * 2**20},
    "arguments without end": {"argv": ["x" * 1000] * 5000},
    "a time that is none": {"started": float("nan")},
    "a time without end": {"started": float("inf")},
    "a million ranks": {"world_size": 10**6},
    "no ranks": {"world_size": -5},
    "controls and bidi": {"name": "\0\x1b[31m\u202e", "project": "\ufeff", "script": "\n" * 100},
}


@pytest.mark.parametrize("kind", ODD_HELLOS)
def test_an_odd_hello_costs_nobody_anything(hub: Running, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with connected(hub.file) as one:
            await one.send(type="subscribe", session="zzzzzzzz", metrics=["loss"])
            await one.read(lambda: one.steps.get("loss") == [0, 1])

    with contextlib.suppress(OSError, AssertionError), Agent(hub.file, hello(**ODD_HELLOS[kind])) as odd:
        odd.state("running")
        odd.saved(1)
    with Agent(hub.file, hello("zzzzzzzz")) as agent:
        agent.say(records(0, 2, 2))
        agent.saved(1)
        asyncio.run(scene())
        agent.state("ended")
        agent.saved(2)
    assert_clean(hub, caplog)


def test_thousands_of_metric_names(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.suppress(OSError), Agent(hub.file) as agent:
        agent.say(Metrics(run="baseline", step=bytes(8), epoch=bytes(4), time=bytes(8),
                          values={f"name {number}": bytes(8) for number in range(20_000)}))  # fmt: skip
        agent.saved(1)
        assert len(hub.json("sessions/abcdefgh")["metrics"]) <= 20_000
        agent.state("ended")
    assert_clean(hub, caplog)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"id":1}', b"null", b"9" * 9999, b"NaN"])
def test_bodies_of_commands(hub: Running, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with Agent(hub.file) as agent:
        agent.state("running")
        agent.saved(1)
        status, _, answer = hub.request("POST", "/api/v1/sessions/last/commands", body.decode("latin-1"))
        assert status == 400, answer
        assert json.loads(answer)["error"]["message"]
        agent.state("ended")
    assert_clean(hub, caplog)


def test_noise_where_a_browser_would_speak(hub: Running, caplog: pytest.LogCaptureFixture) -> None:
    noise = random.Random(SEED)
    lines = [b"GET / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
             b"GET " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n",
             b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
             b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
             b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]  # fmt: skip
    for data in [*lines, *(noise.randbytes(100) for _ in range(50))]:
        answer = b""
        with socket.create_connection(("127.0.0.1", hub.file.port), timeout=5) as peer, contextlib.suppress(OSError):
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            answer = peer.recv(65536)
        assert not answer or answer.split()[1] in (b"400", b"421"), answer[:80]
    wait_for("the hub", lambda: hub.request(path="/healthz", Authorization=None)[0] == 200)
    assert_clean(hub, caplog)
