"""The API's document: every route and nothing else, true of what the hub answers, whatever is asked."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from onthefly.hub import auth, dispatch, openapi
from onthefly.protocol import COMMANDS, Controlled, Controls, Journaled, Logged, Metrics
from tests.hub.agent import Agent, records
from tests.hub.running import Running, running_hub
from tests.hub.test_journal import entry, send
from tests.reporting import note

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = "ONTHEFLY_FULL" in os.environ
EXAMPLES = 150 if FULL else 8
SEED = 7
PHASES = tuple(Phase) if FULL else (Phase.generate,)
"""To shorten what fails takes longer than to find it."""

UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis needs Python 3.11")

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document()))
OPERATIONS = sorted(
    f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub with a session that has something of everything, and answers no command."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dispatch, "ANSWER_SECONDS", 0.001)
    with running_hub(tmp_path_factory.mktemp("hub"), 47660) as running, Agent(running.file) as agent:
        agent.state("running")
        agent.say(records(0, 3, 4, loss=b"\0" * 16 + b"\0\0\0\0\0\0\xf8\x7f"))
        agent.say(Metrics(run="baseline", step=bytes(8), epoch=bytes(4), time=bytes(8), values={"lr": bytes(8)}))
        agent.say(Logged(stream="stdout", time=1.0, text="x\n"))
        agent.say(Journaled(entry=entry(1)))
        agent.say(Controlled(controls=Controls(clip="norm 1")))
        agent.saved(6)
        send(running, "first", "set", name="lr", value=1)
        yield running
        agent.state("ended")
    patch.undo()


def test_every_route_is_in_it_and_nothing_else(hub: Running) -> None:
    served = {
        f"{route.method} {route.resource.canonical}" for route in hub.hub.app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }  # fmt: skip
    assert served == set(OPERATIONS)
    assert len(OPERATIONS) > 20
    assert hub.json("openapi.json") == DOCUMENT
    assert hub.request(path="/api/v1/openapi.json", Authorization=None)[0] == 401


def test_it_says_what_is_open_and_what_needs_the_token() -> None:
    open_ones = {
        operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()
        if operation.get("security") == []
    }  # fmt: skip
    assert open_ones == {*auth.OPEN_ROUTES, auth.ENTRY_ROUTE}
    assert DOCUMENT["security"] == [{"token": []}]


def test_commands_are_told_by_their_names() -> None:
    choices = DOCUMENT["components"]["schemas"]["CommandRequest"]["oneOf"]
    assert [choice["properties"]["name"]["const"] for choice in choices] == list(COMMANDS)
    value = DOCUMENT["components"]["schemas"]["Set"]["properties"]["value"]
    assert value == {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}
    assert [choice["title"] for choice in choices if "args" in choice["required"]] == [
        "set", "freeze", "subset", "drop", "trial", "choose", "watch", "show", "switch", "compare", "merge",
    ]  # fmt: skip


ASKED = [
    operation for operation in OPERATIONS
    if operation.split()[0] in ("GET", "POST") and not operation.endswith(("/ws", "/api/v1/token"))
]  # fmt: skip


_OF_SESSION = "/api/v1/sessions/{id}"
BY_CHANCE = {f"{what.replace(' ', f' {_OF_SESSION}/')}" for what in
             ("GET map", "GET selection", "POST tags", "GET comparison")}  # fmt: skip
"""Whose good requests are not met by chance: there are no embeddings and no tests, and few words are a selection."""


def fault(hub: Running) -> str:
    """What is found to be untrue of the answers about one session."""
    with pytest.raises(BaseException) as caught:
        test_what_is_answered_is_what_it_says(hub, "GET /api/v1/sessions/{id}")
    return "".join(traceback.format_exception(caught.type, caught.value, caught.tb))


def test_a_document_that_is_not_true_is_found_out(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = DOCUMENT["paths"]["/api/v1/sessions/{id}"]["get"]["responses"]
    monkeypatch.delitem(hidden, "404")
    assert "404" in fault(hub)
    monkeypatch.undo()
    monkeypatch.setitem(DOCUMENT["components"]["schemas"]["Session"]["properties"], "step", {"type": "string"})
    assert "is not of type" in fault(hub)


@pytest.mark.parametrize("operation", ASKED)
def test_what_is_answered_is_what_it_says(hub: Running, operation: str) -> None:
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    schema: Any = schemathesis.openapi.from_dict(DOCUMENT)
    method, path = operation.split()
    wanted = [
        not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    headers = {"Authorization": f"Bearer {hub.file.token}"}
    operations: Any = [one.ok() for one in schema.get_all_operations()]
    found = next(one for one in operations if (one.method.upper(), one.path) == (method, path))
    statuses: dict[int, int] = {}
    fixed = {name: value for name, value in {"id": "abcdefgh", "n": 0}.items() if f"{{{name}}}" in path}

    def ask(mode: Any, fixed: dict[str, Any]) -> None:
        @seed(SEED)
        @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=UNHURRIED, phases=PHASES)
        @given(case=found.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            case.path_parameters.update(fixed)
            answer = case.call(base_url=f"http://127.0.0.1:{hub.file.port}", headers=headers)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            case.validate_response(answer, checks=wanted)

        run()

    ask(GenerationMode.POSITIVE, fixed)
    ask(GenerationMode.POSITIVE, {})
    if found.body or found.query:
        ask(GenerationMode.NEGATIVE, fixed)
    note("openapi", operation=operation, **{str(status): count for status, count in sorted(statuses.items())})
    assert 200 in statuses or operation.endswith(("/assets/{name}", "/import")) or operation in BY_CHANCE, statuses
