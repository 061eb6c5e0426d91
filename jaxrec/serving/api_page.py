"""The web page that documents the server's API, built from its OpenAPI description."""

import json
from html import escape
from typing import Any


def reference(openapi: dict[str, Any]) -> str:
    """Return the page as HTML, given the OpenAPI description."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        "<title>jaxrec: API</title><link rel=stylesheet href=style.css></head><body><main>",
        "<h1>API reference</h1><p>Also as <a href=openapi.json>openapi.json</a>. ",
        "<a href=./>Back to the recommendations</a></p>",
    ]
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            fields = [
                (p["name"], p["schema"], p["required"]) for p in operation.get("parameters", ())
            ]
            fields += _fields(body.get("schema", {}), schemas)
            parts.append(_table(fields))
            parts.append("</section>")
    parts.append("</main></body></html>")
    return "".join(parts)


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[tuple[str, Any, bool]]:
    """Return the name and schema of each field of a schema, and whether it is required."""
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
    required = named.get("required", ())
    return [(name, field, name in required) for name, field in named.get("properties", {}).items()]


def _table(fields: list[tuple[str, Any, bool]]) -> str:
    if not fields:
        return ""
    rows = []
    for name, schema, required in fields:
        default = schema.get("default")
        needed = "required" if required else "optional"
        if default is not None:
            needed = f"default {json.dumps(default)}"
        cells = (f"<code>{escape(name)}</code>", escape(_kind(schema)), escape(needed))
        cells += (escape(schema.get("description", "")),)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table class=fields><tbody>{''.join(rows)}</tbody></table>"


def _kind(schema: dict[str, Any]) -> str:
    """Describe the type of a field with its bounds."""
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(map(_kind, kinds))
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    kind = schema.get("type", "any")
    bounds = [str(schema[name]) for name in ("minimum", "maximum") if name in schema]
    return f"{kind} {' to '.join(bounds)}" if bounds else kind
