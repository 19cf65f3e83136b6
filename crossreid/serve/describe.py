"""The description of the HTTP interface: for machines as OpenAPI, for people as one plain page."""

from __future__ import annotations

from html import escape

SEARCH_FIELDS = {
    "image": {"type": "string", "format": "binary", "description": "the image; or give a key"},
    "key": {
        "type": "string",
        "description": "key of an entry to search with; it is left out of its own list",
    },
    "query_modality": {
        "type": "string",
        "enum": ["visible", "infrared"],
        "description": "of the image; needed where the model tells them apart (see /api/info)",
    },
    "camera": {
        "type": "array",
        "items": {"type": "string"},
        "description": "only entries of these cameras; give the field once for each",
    },
    "modality": {
        "type": "string",
        "enum": ["visible", "infrared"],
        "description": "only entries of this modality",
    },
    "other_cameras": {
        "type": "boolean",
        "description": "with a key: only entries of other cameras than that of the entry; leave out for all",
    },
    "column": {
        "type": "array",
        "items": {"type": "string"},
        "description": "only entries with this text in a column, NAME=TEXT; give the field once for each",
    },
    "box": {
        "type": "string",
        "description": "where in the image the person is: left,top,right,bottom in pixels",
    },
    "rerank": {
        "type": "boolean",
        "description": "order the first 200 by k-reciprocal re-ranking; leave out for none",
    },
    "since": {
        "type": "string",
        "description": "only entries taken at or after: ISO 8601, UTC unless it says otherwise, or seconds since 1970",
    },
    "until": {"type": "string", "description": "only entries taken before"},
    "top": {
        "type": "integer",
        "minimum": 1,
        "maximum": 500,
        "default": 20,
        "description": "length of the list",
    },
}
SEARCH_BODY = {
    "required": True,
    "content": {"multipart/form-data": {"schema": {"type": "object", "properties": SEARCH_FIELDS}}},
}
NOTES = """<p>Every answer is JSON but images, which are JPEG. An error has a status from 400 and the form
<code>{"error": "what is wrong"}</code>. <b>503</b> with <code>Retry-After</code> means that the line of searches is
full: wait that many seconds and ask again. Where a token is set, send <code>Authorization: Bearer TOKEN</code>.</p>
<p>For programs: <a href="/api/openapi.json">openapi.json</a>.</p>"""


def described(openapi: dict) -> str:
    """An HTML page that lists what ``openapi`` describes."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(openapi['info']['title'])}: interface</title>",
        '<link rel="stylesheet" href="/page.css"><link rel="icon" href="/icon.svg">',
        f'<body class="text"><main><p><a href="/">Search page</a></p><h1>{escape(openapi["info"]["title"])}: '
        f"interface</h1><p>{escape(openapi['info']['description'])} "
        f"Version {escape(openapi['info']['version'])}.</p>{NOTES}",
    ]
    for path, methods in openapi["paths"].items():
        for method, about in methods.items():
            parts.append(
                f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(about['summary'])}.</p>"
            )
            rows = [
                (
                    given["name"],
                    given.get("description") or given["schema"].get("description", ""),
                    given["schema"],
                )
                for given in about.get("parameters", ())
            ]
            for body in about.get("requestBody", {}).get("content", {}).values():
                fields = body["schema"].get("properties", {})
                rows += [(name, field.get("description", ""), field) for name, field in fields.items()]
            if rows:
                lines = "".join(
                    f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{escape(_kind(schema))}</td>"
                    f"<td>{escape(text)}</td></tr>"
                    for name, text, schema in rows
                )
                parts.append(f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>')
            parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>"])


def _kind(schema: dict) -> str:
    kind = " or ".join(schema["enum"]) if "enum" in schema else schema.get("format") or schema.get("type", "")
    if "minimum" in schema:
        kind += f" from {schema['minimum']:g}"
    if "maximum" in schema:
        kind += f" to {schema['maximum']:g}"
    default = schema.get("default")
    return kind if default in (None, "", []) else f"{kind}, {default} if not given"
