"""What the server says when it does not do what was asked."""

from __future__ import annotations

import sys
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from crossreid.gallery.store import NoAnswer
from crossreid.records import UserError

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
# What any address may answer, besides what it is asked for.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in {
        400: "Not understood",
        401: "A token is needed",
        403: "Asked from another site's page",
        404: "Not there",
        408: "The image did not arrive in time",
        413: "The image is too large",
        415: "Not a form",
        421: "The server is not known by that name",
        422: "The image cannot be read",
        500: "The server failed",
        503: "The server is busy or is being stopped, or the gallery does not answer",
    }.items()
}
STATUS = {404: "There is nothing at this address.", 405: "This address does not answer to that method."}


class Refusal(Exception):
    """Ends a request with a status and one sentence for whoever asked; it names nothing of this machine.

    retry: seconds after which asking again makes sense, or None.
    """

    def __init__(self, status: int, text: str, retry: int | None = None):
        super().__init__(text)
        self.status, self.text, self.retry = status, text, retry

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry is None else {"Retry-After": str(self.retry)}


def answer_refusals(app: FastAPI) -> None:
    """Whatever goes wrong is one sentence."""

    @app.exception_handler(Refusal)
    async def refused(request, error):
        return JSONResponse({"error": error.text}, status_code=error.status, headers=error.headers)

    @app.exception_handler(NoAnswer)
    async def unanswered(request, error):
        return await refused(request, without_answer(error))

    @app.exception_handler(RequestValidationError)
    async def misunderstood(request, error):
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}. See /api."}, status_code=400)

    @app.exception_handler(HTTPException)
    async def missing(request, error):
        text = STATUS.get(error.status_code, "The request was not understood.")
        return JSONResponse({"error": text}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def failed(request, error):
        return JSONResponse({"error": "The server failed; its own window says why."}, status_code=500)


def without_answer(error: NoAnswer) -> Refusal:
    """What is said where the gallery cannot be asked; the whole of it is printed here."""
    print(f"crossreid: {error}", file=sys.stderr, flush=True)
    return Refusal(
        503, "The gallery does not answer: its server may be down or starting. Try again shortly.", 10
    )


def sentence(error: UserError) -> str:
    """What the decoder says of "The image", as a sentence."""
    return f"{str(error).replace('The image: the file ', 'The image ').replace('The image: ', 'The image ')}."
