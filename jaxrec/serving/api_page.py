"""The page that shows what a server answers, from its OpenAPI description; nothing is fetched."""

from html import escape
from typing import Any


def reference(openapi: dict[str, Any]) -> str:
    """One HTML page."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        "<title>jaxrec: requests</title><link rel=stylesheet href=style.css></head><body><main>",
        "<h1>Requests</h1><p>For programs: <a href=openapi.json>openapi.json</a>. ",
        "<a href=./>Back to the lists</a></p>",
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
    found = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
    required = found.get("required", ())
    return [(name, of, name in required) for name, of in found.get("properties", {}).items()]


def _table(fields: list[tuple[str, Any, bool]]) -> str:
    if not fields:
        return ""
    rows = []
    for name, schema, required in fields:
        needed = "needed" if required else f"default {schema.get('default')!r}"
        cells = (f"<code>{escape(name)}</code>", escape(_kind(schema)), escape(needed))
        cells += (escape(schema.get("description", "")),)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table class=fields><tbody>{''.join(rows)}</tbody></table>"


def _kind(schema: dict[str, Any]) -> str:
    """The type of a field in words, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"several: {_kind(schema.get('items', {}))}"
    kind = schema.get("type", "any")
    bounds = [str(schema[name]) for name in ("minimum", "maximum") if name in schema]
    return f"{kind} {' to '.join(bounds)}" if bounds else kind
