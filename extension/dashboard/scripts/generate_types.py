"""Writes the dashboard's types from ``onthefly.protocol``: one truth, generated. With ``--check``, only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from onthefly.protocol import CLIENT_TYPES, ClientMessage, HubEvent

TARGET = Path(__file__).resolve().parents[1] / "src" / "protocol.ts"
HEAD = "// Generated from onthefly/protocol.py by `make types`. Do not edit.\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def expression(schema: dict[str, Any]) -> str:
    """A JSON schema as a TypeScript type."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(expression(part) for part in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        inner = expression(schema["items"])
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {expression(values) if isinstance(values, dict) else 'unknown'}>"
    return PLAIN.get(str(kind), "unknown")


def interface(name: str, schema: dict[str, Any]) -> str:
    """A struct as an interface, with its docstring."""
    lines = [f"/** {' '.join(schema.get('description', name).split())} */", f"export interface {name} {{"]
    required = set(schema.get("required", ()))
    for field, part in schema["properties"].items():
        optional = "" if field in required else "?"
        lines.append(f"  {field}{optional}: {expression(part)};")
    return "\n".join([*lines, "}\n"])


def generate() -> str:
    """The whole file."""
    roots, components = msgspec.json.schema_components(CLIENT_TYPES)
    parts = [interface(name, schema) for name, schema in sorted(components.items())]
    for name, union in (("ClientMessage", ClientMessage), ("HubEvent", HubEvent)):
        parts.append(f"export type {name} = {expression({'anyOf': roots[CLIENT_TYPES.index(union)]['anyOf']})};\n")
    return HEAD + "\n" + "\n".join(parts)


def main() -> int:
    """Write the file, or say that it is stale."""
    text = generate()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{TARGET.name} is stale: run make types\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
