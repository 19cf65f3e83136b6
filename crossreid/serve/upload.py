"""Forms as they are sent by browsers, read into memory and bounded in bytes and in time; nothing is written to disk."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from crossreid.serve.refusal import Refusal

SECONDS = 60
# Fields other than the image.
FIELDS, FIELD_BYTES = 2000, 65536


async def form(request: Request, limit_bytes: int) -> tuple[dict[str, list[str]], bytes | None]:
    """The fields by name, in order, and the bytes of the file ``image`` or None.

    limit_bytes: of the image. Raises Refusal: too large (413), too slow (408), not a form (415), damaged (400).
    """
    content = await body(request, limit_bytes + FIELDS * 64 + FIELD_BYTES)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and len(content) <= FIELD_BYTES:
        try:
            fields = parse_qsl(content.decode("utf-8"), keep_blank_values=True, max_num_fields=FIELDS)
        except ValueError:
            raise Refusal(400, "The form could not be read.") from None
        return _grouped(fields), None
    if kind != "multipart/form-data":
        raise Refusal(
            415, "Expected a form (multipart/form-data) with an image, or with the key of an entry."
        )

    async def once():
        yield content

    parser = MultiPartParser(
        request.headers, once(), max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES
    )
    # Beyond this many bytes the parser would go on in a temporary file.
    parser.spool_max_size = len(content) + 1
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, ValueError):
        raise Refusal(400, "The form could not be read: it is damaged or has too many fields.") from None
    pairs: list[tuple[str, str]] = []
    image: bytes | None = None
    for name, value in parsed.multi_items():
        if not isinstance(value, UploadFile):
            pairs.append((name, value))
        elif name == "image":
            image = await value.read()
            await value.close()
    if image is not None and len(image) > limit_bytes:
        raise _too_large(limit_bytes)
    return _grouped(pairs), image or None


async def body(request: Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes."""
    parts: list[bytes] = []
    count = 0
    declared = request.headers.get("content-length", "0")
    too_large = declared.isdigit() and int(declared) > limit
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                count += len(part)
                too_large = too_large or count > limit
                # A refused body is still received, within reason: most clients read no answer before they have sent
                # all, and closing on them would hide the reason.
                if too_large:
                    parts.clear()
                    if count > 8 * limit:
                        break
                else:
                    parts.append(part)
    except TimeoutError:
        raise Refusal(408, f"The image did not arrive within {SECONDS} seconds.") from None
    except ClientDisconnect:
        raise Refusal(400, "The connection was closed before the image had arrived.") from None
    if too_large:
        raise _too_large(limit)
    return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413, f"The image is larger than the {max(limit // 2**20, 1)} MB allowed: shrink it and try again."
    )


def _grouped(pairs) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields
