"""Serve a gallery as a search page in the browser.

examples:
    crossreid serve small --gallery people.gallery
    crossreid serve small --gallery people.gallery --port 8080
"""

from __future__ import annotations

import sys
from pathlib import Path

from crossreid.commands import filters, parsing
from crossreid.records import UserError, pip_install

SHORTEST_TOKEN = 16


def run(words: list[str]) -> None:
    parser = parsing.parser("serve", __doc__, epilog="Stop it with Ctrl-C.")
    parser.add_argument(
        "model", help="the model the gallery was made with: a checkpoint, an exported model, or small"
    )
    parser.add_argument("--gallery", required=True, help="what `crossreid index` made")
    parser.add_argument(
        "--images",
        type=Path,
        help="folder below which the images lie; without it the small copies in the gallery are shown",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: this machine only)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes any that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        help="file with a secret of 16 characters or more that visitors must know; needed for any --host but loopback",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a host name by which the server is reached, besides numeric addresses; may be repeated",
    )
    parsing.add_use(parser, batch=False, feature="as it was given to `crossreid index`")
    chosen = parser.parse_args(words)
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the search page needs {error.name}, which is not installed: {pip_install('serve')}"
        ) from None
    from crossreid.serve import create_app, server

    token = None if chosen.token_file is None else read_token(chosen.token_file)
    filters.check_images(chosen.images)
    listener = server.listen(chosen.host, chosen.port)
    with listener:
        loopback = server.is_loopback(listener)
        if not loopback and token is None:
            raise UserError(
                f"with --host {chosen.host} anyone who reaches this machine could look through the gallery, so a token "
                "is required: write a secret into a file (python -c 'import secrets; print(secrets.token_urlsafe())') "
                "and pass it as --token-file FILE, or leave --host out"
            )
        from crossreid.gallery import Gallery

        embedder = parsing.opened(chosen)
        with Gallery.open(chosen.gallery, fingerprint=embedder.fingerprint, read_only=True) as gallery:
            app = create_app(
                gallery, embedder, images=chosen.images, token=token, names=chosen.name, loopback=loopback
            )
            if not loopback:
                print(
                    "the page is sent unencrypted: put it behind a proxy with TLS where others share the network",
                    file=sys.stderr,
                )
            server.run(
                app, listener, lambda address: print(f"search page: {address}  (Ctrl-C stops it)", flush=True)
            )
    print("stopped.")


def read_token(path: Path) -> str:
    """The first line of the file. Raises UserError when it cannot be read or is too short to be a secret."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: the token cannot be read ({getattr(error, 'strerror', None) or 'it is not text'}); expected a "
            "file with the token on its first line"
        ) from None
    token = lines[0].strip() if lines else ""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UserError(
            f"{path}: the token on the first line must have at least {SHORTEST_TOKEN} plain characters; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token
