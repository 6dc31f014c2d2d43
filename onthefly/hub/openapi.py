"""The OpenAPI document: made from the table of routes, the protocol's types and the store's columns, so it is true.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any

import msgspec

from onthefly.hub import schema, tables
from onthefly.hub.auth import BUNDLE_TYPE, ENTRY_ROUTE, OPEN_ROUTES, ORIGIN, UPLOAD_ROUTE
from onthefly.hub.chosen import COLUMNS as SELECTED
from onthefly.hub.commands import MAX_BY, MAX_ID
from onthefly.hub.explore import SUSPECTS
from onthefly.hub.presentations import COLUMNS as DYNAMICS
from onthefly.hub.routes import ROUTES, Route
from onthefly.protocol import COMMANDS, MAX_COMPONENTS, ErrorAnswer, Series
from onthefly.version import __version__

_FAULTS = {
    400: "The request is not understood; the message says what is wrong, the remedy what would be right.",
    401: "It lacks the hub's token.",
    403: "It comes from another page.",
    404: "There is no such session, command or file.",
    408: "The body did not come in time.",
    409: "It was understood, and cannot be done now.",
    413: "The body is over the limit.",
    415: "The body's content type is not application/json.",
    421: "The Host header is none of this hub's.",
    500: "The records cannot be read or written now.",
    503: "The dashboard is not built.",
}
_KINDS = {"VARCHAR": "string", "BIGINT": "integer", "INTEGER": "integer", "SMALLINT": "integer", "REAL": "number",
          "DOUBLE": "number", "TIMESTAMPTZ": "string", "BOOLEAN": "boolean"}  # fmt: skip
_COLUMNS = {"dynamics": DYNAMICS, "suspects": SUSPECTS, "selection": SELECTED}
"""Of tables that are no tables of the store."""

_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The whole of it."""
    types = {route.name: part for route in ROUTES for part in (route.body, route.answer) if isinstance(part, type)}
    bodies = [route.body for route in ROUTES if route.body is not None]
    answers = [route.answer for route in ROUTES if isinstance(route.answer, type)]
    kinds = list(dict.fromkeys([*types.values(), *bodies, *answers, ErrorAnswer, Series, *COMMANDS.values()]))
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "OnTheFly", "version": __version__, "summary": "What training scripts do, and control."},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Of the file hub.json."}},
            "schemas": {**components, **_narrowed(components)},
        },
    }  # fmt: skip


def _narrowed(components: dict[str, Any]) -> dict[str, Any]:
    """Schemas that say more than the types do: a command by its name, and texts that are checked where they arrive."""
    request = components["CommandRequest"]["properties"]
    given = {
        "id": {**request["id"], "minLength": 1, "maxLength": MAX_ID, "description": "Chosen by the client: a uuid."},
        "by": {**request["by"], "maxLength": MAX_BY},
    }  # fmt: skip
    choices = [{
        "title": name, "description": components[kind.__name__]["description"], "type": "object",
        "properties": {"name": {"const": name}, "args": {"$ref": _REF.format(name=kind.__name__)}, **given},
        "required": ["id", "name", *(["args"] if components[kind.__name__].get("required") else [])],
    } for name, kind in COMMANDS.items()]  # fmt: skip
    origin = components["OriginRequest"]
    pattern = {"type": "string", "pattern": f"^{ORIGIN.pattern}$"}
    return {
        "CommandRequest": {"description": components["CommandRequest"]["description"], "oneOf": choices},
        "OriginRequest": {**origin, "properties": {"origin": {**origin["properties"]["origin"], **pattern}}},
    }


def _operation(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.text,
        "responses": _responses(route),
    }
    if route.parameters:
        described["parameters"] = [
            {"name": name, "in": where, "required": where == "path", "description": text, "schema": schema}
            for name, schema, text, where in route.parameters
        ]
    if route.body is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(name=route.body.__name__)}}}
        described["requestBody"] = {"required": True, "content": content}
        if route.name == UPLOAD_ROUTE:
            content[BUNDLE_TYPE] = {"schema": {"type": "string", "contentMediaType": BUNDLE_TYPE}}
    if route.name in OPEN_ROUTES or route.name == ENTRY_ROUTE:
        described["security"] = []
    return described


def _responses(route: Route) -> dict[str, Any]:
    """The answer, and every fault that may come in its place."""
    faults = {400, 403, 421, *route.faults}
    if route.name not in OPEN_ROUTES and route.name != ENTRY_ROUTE:
        faults.add(401)
    if any(parameter.where == "path" for parameter in route.parameters):
        faults.add(404)
    if any(parameter.name == "id" for parameter in route.parameters):
        faults.add(500)
    if route.method != "GET":
        faults |= {408, 413, 415}
    error = {"application/json": {"schema": {"$ref": _REF.format(name="ErrorAnswer")}}}
    answers = {str(code): {"description": _FAULTS[code], "content": error} for code in sorted(faults)}
    if route.answer == "page":
        answers["503"]["content"] = {"text/html": {"schema": {"type": "string"}}}
    if route.answer == "socket":
        return {"101": {"description": "The protocol is switched."}, **answers}
    return {"200": {"description": "Done.", **_content(route.answer)}, **answers}


def _content(answer: Any) -> dict[str, Any]:
    """What a good answer holds."""
    if answer == "empty":
        return {}
    if answer == "bundle":
        return {"content": {BUNDLE_TYPE: {"schema": {"type": "string", "contentMediaType": BUNDLE_TYPE}}}}
    if answer in ("page", "report", "file"):
        return {"content": {"*/*" if answer == "file" else "text/html": {"schema": {"type": "string"}}}}
    if answer in ("done", "document"):
        return {"content": {"application/json": {"schema": {"type": "object"}}}}
    if isinstance(answer, type):
        return {"content": {"application/json": {"schema": {"$ref": _REF.format(name=answer.__name__)}}}}
    table = "metrics" if answer == "series" else answer
    rows: dict[str, Any] = {"type": "array", "items": _row(table)}
    if answer == "series":
        rows = {"oneOf": [{"$ref": _REF.format(name="Series")}, rows]}
    content: dict[str, Any] = {name: {} for name in (kind.partition(";")[0] for kind in tables.TYPES.values())}
    return {"content": {**content, tables.TYPES["json"]: {"schema": rows}}}


def _row(table: str) -> dict[str, Any]:
    """One row of a table as JSON: each column is null where it has no value, a number that is none is said in words."""
    text = _COLUMNS.get(table) or schema.TABLES["metrics_stored" if table == "metrics" else table]
    properties: dict[str, Any] = {}
    for column in text.split(","):
        name, kind = column.split()[:2]
        one: dict[str, Any] = {"type": [_KINDS[kind], "null"]}
        properties[name] = {"anyOf": [one, {"enum": ["nan", "inf", "-inf"]}]} if _KINDS[kind] == "number" else one
    described: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
    if table == "samples":
        described["description"] = (
            f"And where a loss has several terms, at most {MAX_COMPONENTS} columns `{schema.COMPONENT}<component>`."
        )
        return described
    return {**described, "additionalProperties": False}
