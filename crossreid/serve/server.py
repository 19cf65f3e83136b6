"""Answers at an address until it is stopped."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable

from crossreid.records import UserError

# How long answers that are under way get to finish when the server is stopped; the rest of the three seconds that are
# promised is for what runs in threads.
GRACE = 2


def run(app, listener: socket.socket, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve ``app`` on a socket that ``listen`` gave, until an interrupt or SIGTERM; then finish what is under way
    and return.

    ready: called with the address, such as ``http://127.0.0.1:8000``, once it can be opened.
    """
    import uvicorn

    from crossreid.serve.connection import Connection

    settings = uvicorn.Config(
        app,
        http=Connection,
        log_level="critical",  # what strangers send that is no request is not worth a line each
        access_log=False,  # who searched for whom is written nowhere
        server_header=False,
        proxy_headers=False,
        ws="none",
        # A client that is slow to send its next request over an open line would find it closed in that moment.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    ready(address_of(listener))
    main = threading.current_thread() is threading.main_thread()
    # uvicorn raises the signal again after an orderly end; SIGTERM would then end the process before we have.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main else None
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError when the address is not of this machine or the port is taken."""
    if not 0 <= port <= 65535:
        raise UserError(f"the port {port} is none: expected 0 to 65535, where 0 takes any that is free")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise UserError(
            f"the host {host!r} with port {port} is no address: expected such as --host 127.0.0.1 --port 8000"
        ) from None
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen at {host} port {port} ({error.strerror or error}): choose another with --port or --host, "
            "or stop the program that has it"
        ) from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
