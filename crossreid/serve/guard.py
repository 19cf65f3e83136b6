"""Who may ask, checked before anything else looks at a request; and the headers of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse

COOKIE = "crossreid_session"
SESSION_SECONDS = 12 * 3600
SESSIONS = 1000
# Reached without a token: what the login form needs, and nothing about the gallery.
OPEN = frozenset({"/login", "/page.css", "/icon.svg"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Others get no referrer. With "no-referrer" our own forms would be sent with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Sessions:
    """Logins that are valid, in the memory of this process only: a restart ends them all."""

    def __init__(self, token: str):
        self._token = _digest(token)
        self._ends: dict[bytes, float] = {}

    def opens(self, token: str) -> bool:
        """Whether this is the token; takes as long for a nearly right one as for any other."""
        return hmac.compare_digest(_digest(token), self._token)

    def begin(self) -> str:
        """A new session's secret, for the cookie."""
        while len(self._ends) >= SESSIONS:
            self._ends.pop(next(iter(self._ends)))
        secret = secrets.token_urlsafe(32)
        self._ends[_digest(secret)] = time.monotonic() + SESSION_SECONDS
        return secret

    def valid(self, secret: str) -> bool:
        return self._ends.get(_digest(secret), 0.0) > time.monotonic()

    def end(self, secret: str) -> None:
        self._ends.pop(_digest(secret), None)


class Guard:
    """An ASGI application in front of another.

    names: host names, besides numeric addresses and ``localhost``, by which the server may be called. A web page
        whose own name is pointed at this server (DNS rebinding) calls it by another name, and is refused.
    loopback: whether the server listens on this machine only; then numeric addresses must be of loopback too.
    sessions: None where no token is asked for.
    """

    def __init__(self, app, *, names: Iterable[str] = (), loopback: bool = True, sessions: Sessions | None):
        self._app, self._loopback, self._sessions = app, loopback, sessions
        self._names = {name.lower().rstrip(".") for name in names} | {"localhost"}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})

        begun = False

        async def with_headers(message):
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        try:
            await answer(scope, receive, with_headers)
        except (
            asyncio.CancelledError
        ):  # the server is stopped, and its patience with this request has run out
            if not begun:
                await _error(503, "The server is being stopped.", {"Retry-After": "10"})(
                    scope, receive, with_headers
                )

    def _refusal(self, scope):
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(host):
            return _error(
                421, "This server is not known by that name. Whoever runs it can allow the name with --name."
            )
        if not _same_origin(
            headers, host, navigation=scope["method"] == "GET" and scope["path"] in ("/", "/login")
        ):
            return _error(403, "The request comes from another site's page, which is not allowed.")
        if self._sessions is None or scope["path"] in OPEN or _entitled(self._sessions, headers):
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            return RedirectResponse("/login", status_code=303)
        return _error(
            401,
            "A token is needed: log in at /login, or send the header 'Authorization: Bearer TOKEN'.",
            {"WWW-Authenticate": "Bearer"},
        )

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            # A numeric address cannot be rebound.
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


def _entitled(sessions: Sessions, headers: Headers) -> bool:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and sessions.opens(token.strip()):
        return True
    secret = session_of(headers)
    return secret is not None and sessions.valid(secret)


def session_of(headers: Headers) -> str | None:
    """The secret in the cookie.

    Other programs of the same host send their cookies along, whatever they hold: SimpleCookie gives up at the first
    that is out of the ordinary.
    """
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def _same_origin(headers: Headers, host: str, navigation: bool) -> bool:
    """Browsers say where a request comes from; programs such as curl do not, and cannot be misled by a page."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        # Following a link to the page from elsewhere is harmless; it shows nothing to the other page.
        return navigation and headers.get("sec-fetch-mode") == "navigate"
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _error(status: int, text: str, headers: dict[str, str] | None = None):
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
