"""What LanceDB says in errors of its own, as sentences for whoever uses a gallery."""

from __future__ import annotations

import functools
from collections.abc import Callable

from crossreid.files import FULL
from crossreid.records import UserError


def in_sentences(method: Callable):
    """LanceDB's own errors, and what it raises for damaged files, as a UserError."""

    @functools.wraps(method)
    def spoken(self, *arguments, **named):
        try:
            return method(self, *arguments, **named)
        except UserError:
            raise
        except BaseException as error:
            # A panic of the Rust library is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise UserError(sentence(self.where, error)) from error

    return spoken


def sentence(where: str, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if getattr(error, "errno", None) in FULL or "os error 28" in reason or "No space left" in reason:
        return (
            f"the disk of the gallery {where} is full: what was in the gallery before is as it was; make room, and "
            "give the same command again"
        )
    return (
        f"the gallery {where} cannot be read or changed ({reason}): its files are damaged, were changed, or may not be "
        "accessed; copy it again, or index the images again into a new one"
    )
