"""What the server says when it does not do what was asked."""

from __future__ import annotations


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
