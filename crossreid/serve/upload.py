"""Forms as they are sent by browsers, read into memory and bounded in bytes and in time; nothing is written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from crossreid.records import by_key
from crossreid.serve.refusal import Refusal

# For a whole upload; and how long it may take to send nothing, and how much it must send in a second after that.
SECONDS, PATIENCE, BYTES_A_SECOND = 60.0, 10.0, 16 * 1024
# Of all uploads that are under way, in memory.
HELD_BYTES = 2**28
# Fields other than the image.
FIELDS, FIELD_BYTES = 2000, 65536


class Uploads:
    """What all requests that are under way hold of their bodies, bounded together. For the event loop's thread only."""

    def __init__(self, limit: int = HELD_BYTES):
        self.limit, self.held = limit, 0

    @asynccontextmanager
    async def form(
        self, request: Request, limit_bytes: int
    ) -> AsyncIterator[tuple[dict[str, list[str]], bytes | None]]:
        """``form``, whose bytes count while the block runs."""
        own = _Held(self)
        try:
            yield await form(request, limit_bytes, own)
        finally:
            self.held -= own.count


class _Held:
    """What one request holds of it."""

    def __init__(self, all: Uploads):
        self.all, self.count = all, 0

    def take(self, count: int) -> None:
        if self.all.held + count > self.all.limit:
            raise Refusal(503, "The server is busy: it is receiving many images. Try again shortly.", 5)
        self.count += count
        self.all.held += count


async def form(
    request: Request, limit_bytes: int, held: _Held | None = None
) -> tuple[dict[str, list[str]], bytes | None]:
    """The fields by name, in order, and the bytes of the file ``image`` or None.

    limit_bytes: of the image. Raises Refusal: too large (413), too slow (408), not a form (415), damaged (400), or too
    much at once for the server (503).
    """
    content = await body(request, limit_bytes + FIELDS * 64 + FIELD_BYTES, held)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and len(content) <= FIELD_BYTES:
        try:
            fields = parse_qsl(content.decode("utf-8"), keep_blank_values=True, max_num_fields=FIELDS)
        except ValueError:
            raise Refusal(400, "The form could not be read.") from None
        return by_key(fields), None
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
    return by_key(pairs), image or None


async def body(request: Request, limit: int, held: _Held | None = None) -> bytes:
    """The whole body, at most ``limit`` bytes."""
    parts: list[bytes] = []
    count = 0
    declared = request.headers.get("content-length", "0")
    too_large = declared.isdigit() and int(declared) > limit
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(PATIENCE) as time:
            async for part in request.stream():
                count += len(part)
                # What arrives buys time, as much as a slow line needs for it.
                time.reschedule(started + min(SECONDS, PATIENCE + count / BYTES_A_SECOND))
                too_large = too_large or count > limit
                # A refused body is still received, within reason: most clients read no answer before they have sent
                # all, and closing on them would hide the reason.
                if too_large:
                    parts.clear()
                    if count > 8 * limit:
                        break
                else:
                    if held is not None:
                        held.take(len(part))
                    parts.append(part)
    except TimeoutError:
        raise Refusal(
            408,
            f"The image did not arrive in time: at least {BYTES_A_SECOND // 1024} kB a second are needed.",
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "The connection was closed before the image had arrived.") from None
    if too_large:
        raise _too_large(limit)
    return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413, f"The image is larger than the {max(limit // 2**20, 1)} MB allowed: shrink it and try again."
    )
