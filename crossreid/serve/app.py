"""The addresses of the search page and what they answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import anyio
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from crossreid import __version__
from crossreid.embedder import Embedder
from crossreid.evaluation.thresholds import stats_at
from crossreid.gallery import Entry, Gallery, Info
from crossreid.gallery.store import NoAnswer
from crossreid.images.apart import Closed, Decoders
from crossreid.records import MODALITIES, VISIBLE, UserError
from crossreid.serve import upload
from crossreid.serve.describe import SEARCH_BODY, SEARCH_FIELDS, described
from crossreid.serve.filters import boxed, filtered, operating_points, ticked
from crossreid.serve.guard import COOKIE, SESSION_SECONDS, Guard, Sessions, session_of
from crossreid.serve.images import THUMBNAIL, EntryImages
from crossreid.serve.refusal import REFUSALS, Refusal, answer_refusals, sentence
from crossreid.serve.searcher import Search, Searcher

PAGE = Path(__file__).parent / "page"
FILES = {
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/lists.js": "text/javascript",
    "/marker.js": "text/javascript",
    "/path.js": "text/javascript",
    "/icon.svg": "image/svg+xml",
}
LIMIT_BYTES = 10 * 2**20
LIMIT_PIXELS = 50_000_000
LONGEST_LIST, LONGEST_PAGE = 500, 200
# More than any gallery holds, and less than stores can count to.
LAST_ENTRY = 10**12
# A place in the line is waited for no longer than this.
PATIENCE = 120.0
# Counting cameras and times of a large gallery takes a while, and they change little.
INFO_SECONDS = 10.0
DECODERS = 2


def create_app(
    gallery,
    embedder,
    *,
    images: Path | None = None,
    token: str | None = None,
    names: Iterable[str] = (),
    loopback: bool = True,
    limit_bytes: int = LIMIT_BYTES,
    limit_pixels: int = LIMIT_PIXELS,
    waiting: int = 128,
):
    """The search page as an ASGI application, a FastAPI application behind a guard.

    gallery: a ``Gallery``; it is only read. embedder: the ``Embedder`` of the model that made the gallery's vectors.
    images: the folder below which the entries' files lie; None shows the small copies that the gallery keeps.
    token: what to ask for, at a login form or in the header ``Authorization: Bearer``; None asks for nothing.
    names, loopback: see ``Guard``.
    limit_bytes, limit_pixels: of an uploaded image. waiting: searches in the line before more are refused.
    Raises UserError when the gallery holds vectors of another model.
    """
    gallery.require(embedder.fingerprint)
    # Two, so that slow uploads keep nobody from looking at the gallery.
    decoders, looking = Decoders(DECODERS), Decoders(DECODERS)
    parts = _Parts(
        gallery,
        embedder,
        sessions=None if token is None else Sessions(token),
        shown=EntryImages(gallery, images, looking, limit_pixels),
        searcher=Searcher(gallery, embedder, waiting=waiting),
        decoders=decoders,
        limits={"bytes": limit_bytes, "pixels": limit_pixels, "waiting": waiting},
        points=operating_points(embedder),
    )

    @asynccontextmanager
    async def lifespan(app):
        app.state.decoding, app.state.looking = (anyio.CapacityLimiter(DECODERS) for _ in range(2))
        yield
        decoders.close()
        looking.close()
        await anyio.to_thread.run_sync(parts.searcher.close)

    app = FastAPI(
        title="crossreid search",
        version=__version__,
        description="Find images of the same person in a gallery. Everything here only reads.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=REFUSALS,
    )
    _gallery(app, parts)
    _search(app, parts)
    _pages(app, parts)
    answer_refusals(app)
    return Guard(app, names=names, loopback=loopback, sessions=parts.sessions)


@dataclass
class _Parts:
    """What the addresses answer with."""

    gallery: Gallery
    embedder: Embedder
    sessions: Sessions | None
    shown: EntryImages
    searcher: Searcher
    decoders: Decoders
    limits: dict[str, int]
    uploads: upload.Uploads = field(default_factory=upload.Uploads)
    points: list[dict] = field(default_factory=list)
    _kept: tuple[float, Info] | None = field(default=None, init=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.embedder.modalities)

    async def understood(self, fields, content) -> Search:
        unknown = set(fields) - set(SEARCH_FIELDS)
        if unknown:
            raise Refusal(400, f"Unknown field {sorted(unknown)[0][:40]!r} in the form; see /api.")
        one = {name: values[-1].strip() for name, values in fields.items()}
        if bool(one.get("key")) == (content is not None):
            raise Refusal(400, "Send either an image or the key of an entry.")
        try:
            top = int(one.get("top") or 20)
        except ValueError:
            top = 0
        if not 1 <= top <= LONGEST_LIST:
            raise Refusal(400, f"The number of results must be a whole number from 1 to {LONGEST_LIST}.")
        modality = one.get("query_modality") or None
        if modality not in (None, *MODALITIES):
            raise Refusal(400, f"The modality of the image must be {' or '.join(MODALITIES)}.")
        if content is not None and modality is None and len(self.modalities) > 1:
            raise Refusal(
                400, "Say whether the image is visible or infrared: this model treats them differently."
            )
        query = await self.known(one["key"]) if one.get("key") else None
        cameras = [camera for camera in fields.get("camera", []) if camera]
        if ticked(one.get("other_cameras", ""), "other_cameras"):
            cameras = await self.others(query, cameras)
        chosen = filtered(
            cameras,
            one.get("modality", ""),
            one.get("since", ""),
            one.get("until", ""),
            [pair for pair in fields.get("column", []) if pair],
        )
        rerank = ticked(one.get("rerank", ""), "rerank")
        if rerank and not can_rerank():
            raise Refusal(
                400, "Re-ranking needs torch, which is not installed on the server: search without it."
            )
        box = None if not one.get("box") else boxed(one["box"])
        return Search(
            None,
            query,
            query.modality if query else modality,
            chosen,
            top,
            rerank=rerank,
            box=box,
        )

    async def about(self) -> Info:
        """What the gallery holds, as of at most ``INFO_SECONDS`` ago."""
        if self._kept is None or time.monotonic() - self._kept[0] > INFO_SECONDS:
            self._kept = time.monotonic(), await anyio.to_thread.run_sync(self.gallery.info)
        return self._kept[1]

    async def others(self, query: Entry | None, cameras: list[str]) -> list[str]:
        """The cameras, of those asked for or of all, that are not the one of the query."""
        if query is None or query.camera is None:
            raise Refusal(400, "Which camera took the image is not known, so that nothing tells the others.")
        about = await self.about()
        left = [camera for camera in cameras or about.cameras if camera != query.camera]
        if not left:
            raise Refusal(400, "The gallery has no other camera than that of the image.")
        return left

    async def decoded(self, wanted: Search, content: bytes, limiter) -> None:
        """Fill in the pixels of an uploaded image, and a small copy."""
        decode = partial(
            self.decoders,
            content,
            preview=THUMBNAIL,
            box=wanted.box,
            size=self.embedder.size,
            interpolation=self.embedder.interpolation,
            limit_pixels=self.limits["pixels"],
        )
        try:
            wanted.preview, wanted.pixels = await anyio.to_thread.run_sync(
                decode, limiter=limiter, abandon_on_cancel=True
            )
        except UserError as error:
            raise Refusal(422, sentence(error)) from None
        except Closed:
            raise Refusal(503, "The server is being stopped.", 10) from None

    async def known(self, key: str) -> Entry:
        found = await self.looked_up(self.gallery.get, key)
        if found is None:
            raise Refusal(404, "There is no such image in the gallery.")
        return found

    @staticmethod
    async def looked_up(function, key: str, limiter=None):
        """What ``function`` finds for a key, None for what can be no key."""
        try:
            return await anyio.to_thread.run_sync(function, key, limiter=limiter) if len(key) <= 128 else None
        except NoAnswer:
            raise
        except UserError:
            return None

    def worth(self, distance: float, query: str | None, entry: Entry) -> dict | None:
        """The shares of pairs that come as near in the model's own evaluation; None where there is none."""
        found = stats_at(self.points, distance, (query or VISIBLE, entry.modality))
        if not found:
            return None
        # Of several subsets the one that speaks least for the pair.
        least = max(found, key=lambda each: each.false_positive)
        return {
            "of_one_person": round(least.true_positive, 4),
            "of_two_people": round(least.false_positive, 6),
        }

    def record(self, entry: Entry) -> dict:
        return {
            "key": entry.key,
            "name": self.shown.name(entry),
            "modality": entry.modality,
            "camera": entry.camera,
            "time": _iso(entry.time),
            "identity": entry.identity,
            "columns": dict(entry.columns),
        }


def _gallery(app: FastAPI, parts: _Parts) -> None:
    """What the gallery holds: its summary, its entries and their images."""

    @app.get("/api/info", summary="What the gallery holds, and the limits of this server", tags=["gallery"])
    async def info() -> dict:
        about = await parts.about()
        return {
            "entries": about.entries,
            "cameras": about.cameras,
            "modalities": about.modalities,
            "first": _iso(about.first),
            "last": _iso(about.last),
            "columns": about.columns,
            "store": about.store,
            "model": {
                "name": parts.embedder.name,
                "fingerprint": parts.embedder.fingerprint,
                "dimension": about.dimension,
                "modalities": parts.modalities if len(parts.modalities) > 1 else (),
            },
            "limits": parts.limits | {"top": LONGEST_LIST, "count": LONGEST_PAGE},
            "rerank": can_rerank(),
            "read_only": True,
            "token": parts.sessions is not None,
            "version": __version__,
        }

    @app.get("/api/entries", summary="A page of the gallery", tags=["gallery"])
    async def entries(
        camera: Annotated[list[str], Query(description="only these cameras")] = [],  # noqa: B006
        modality: Annotated[str, Query(description="visible or infrared; empty for both")] = "",
        since: Annotated[str, Query(description="taken at or after: ISO 8601, or seconds since 1970")] = "",
        until: Annotated[str, Query(description="taken before")] = "",
        column: Annotated[list[str], Query(description="only with this text in a column: NAME=TEXT")] = [],  # noqa: B006
        identity: Annotated[str, Query(description="only of this person")] = "",
        start: Annotated[int, Query(ge=0, le=LAST_ENTRY, description="how many entries to pass over")] = 0,
        count: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many to give")] = 48,
    ) -> dict:
        chosen = filtered(camera, modality, since, until, column, identity)
        # One more than asked for tells whether another page follows.
        found = await anyio.to_thread.run_sync(parts.gallery.entries, chosen, start, count + 1)
        return {
            "start": start,
            "entries": [parts.record(entry) for entry in found[:count]],
            "next": start + count if len(found) > count else None,
        }

    @app.get("/api/entries/{key}", summary="One entry", tags=["gallery"])
    async def entry(key: str) -> dict:
        return parts.record(await parts.known(key))

    @app.get(
        "/api/entries/{key}/image",
        summary="Its image",
        tags=["gallery"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Unchanged"}},
    )
    async def image(request: Request, key: str, size: Literal["thumbnail", "full"] = "thumbnail") -> Response:
        # Found before the tag is compared: what was deleted is not to be confirmed as unchanged.
        content = await parts.looked_up(
            partial(parts.shown.jpeg, full=size == "full"), key, request.app.state.looking
        )
        if content is None:
            await parts.known(key)
            raise Refusal(404, "The image of this entry cannot be shown: its file is missing or unreadable.")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=300"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/jpeg", headers=headers)


def _search(app: FastAPI, parts: _Parts) -> None:
    """The ranked list."""

    @app.post(
        "/api/search",
        summary="A ranked list for an image, or for an entry of the gallery",
        tags=["search"],
        openapi_extra={"requestBody": SEARCH_BODY},
    )
    async def search(request: Request) -> dict:
        started = time.monotonic()
        async with parts.uploads.form(request, parts.limits["bytes"]) as (fields, content):
            with parts.searcher.place():
                wanted = await parts.understood(fields, content)
                if content is not None:
                    await parts.decoded(wanted, content, request.app.state.decoding)
                answer = await _waited(request, parts.searcher.submit(wanted))
        preview = answer.preview and f"data:image/jpeg;base64,{base64.b64encode(answer.preview).decode()}"
        return {
            "query": {
                "entry": wanted.entry and parts.record(wanted.entry),
                "image": preview,
                "modality": wanted.modality,
            },
            "hits": [
                {
                    "rank": hit.rank,
                    "distance": round(hit.distance, 6),
                    "worth": parts.worth(hit.distance, wanted.modality, hit.entry),
                    "entry": parts.record(hit.entry),
                }
                for hit in answer.hits
            ],
            "seconds": round(time.monotonic() - started, 3),
        }


def _pages(app: FastAPI, parts: _Parts) -> None:
    """The page with its files, the description of the interface, and the way in by a token."""

    @app.get("/", include_in_schema=False)
    async def page():
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/api", include_in_schema=False)
    async def description():
        return HTMLResponse(described(app.openapi()))

    for path, kind in FILES.items():
        app.add_api_route(path, _sender(path, kind), include_in_schema=False)

    @app.get("/login", include_in_schema=False)
    async def login_form():
        return HTMLResponse(_login_page()) if parts.sessions else RedirectResponse("/", status_code=303)

    @app.post("/login", include_in_schema=False)
    async def login(request: Request):
        if parts.sessions is None:
            return RedirectResponse("/", status_code=303)
        async with parts.uploads.form(request, 0) as (fields, _):
            pass
        if not parts.sessions.opens(fields.get("token", [""])[-1].strip()):
            await asyncio.sleep(0.5)
            return HTMLResponse(_login_page("That is not the token."), status_code=401)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE,
            parts.sessions.begin(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            # The server itself speaks plain HTTP; a browser that came through a TLS proxy says so here.
            secure=request.headers.get("origin", "").startswith("https://"),
        )
        return answer

    @app.post("/logout", include_in_schema=False)
    async def logout(request: Request):
        if parts.sessions is not None and (secret := session_of(request.headers)):
            parts.sessions.end(secret)
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(COOKIE)
        answer.headers["Clear-Site-Data"] = '"cache"'
        return answer


def can_rerank() -> bool:
    """Whether what re-ranking needs beyond the search page is installed."""
    return find_spec("torch") is not None


async def _waited(request: Request, answer):
    """The answer, unless the client goes away; its search then leaves the line."""
    future = asyncio.wrap_future(answer)
    ends = time.monotonic() + PATIENCE
    while not (await asyncio.wait({future}, timeout=0.5))[0]:
        if await request.is_disconnected():
            future.cancel()
            raise Refusal(400, "The connection was closed.")
        if time.monotonic() > ends:
            future.cancel()
            raise Refusal(503, f"The server is busy: no result within {PATIENCE:.0f} seconds.", 10)
    return future.result()


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _sender(path: str, kind: str):
    async def send():
        return FileResponse(PAGE / path[1:], media_type=kind, headers={"Cache-Control": "no-cache"})

    return send


def _login_page(error: str = "") -> str:
    text = (PAGE / "login.html").read_text(encoding="utf-8")
    return text.replace("<!--error-->", f'<p class="error" role="alert">{error}</p>' if error else "")
