"""What LanceDB says in errors of its own, as sentences for whoever uses a gallery."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crossreid.files import FULL
from crossreid.records import UserError

# Of object stores: what their errors hold, what that means, and what to do.
_BUCKETS = (
    ("NoSuchBucket", "there is no such bucket", "make it, or correct its name"),
    (
        "AWS credentials|NoCredentials|CredentialsNotLoaded",
        "no credentials were found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    (
        r"status: 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch",
        "the server refuses the credentials, or does not let them do this",
        "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights on the bucket",
    ),
    (
        "status: 301|PermanentRedirect|AuthorizationHeaderMalformed",
        "the bucket lies in another region",
        "set AWS_REGION to that",
    ),
    (
        "Failed to resolve region",
        "nothing says in which region its bucket lies",
        "set AWS_REGION, and look at the name of the bucket and at the network",
    ),
    (
        "ConnectError|connect error|dns error|timed out|TimedOut",
        "the server does not answer",
        "look at the network, and at AWS_ENDPOINT, which names a server other than Amazon's (and wants "
        "AWS_ALLOW_HTTP=true where it starts with http:)",
    ),
)


def in_sentences(method: Callable):
    """LanceDB's own errors, and what it raises for damaged files, as a UserError."""

    @functools.wraps(method)
    def spoken(self, *arguments, **named):
        with speaking(self.where):
            return method(self, *arguments, **named)

    return spoken


@contextmanager
def speaking(where: str) -> Iterator[None]:
    """The same of a block that works at the gallery in that place."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # A panic of the Rust library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(sentence(where, error)) from error


def sentence(where: str, error: BaseException) -> str:
    whole = " ".join(str(error).split())
    reason = whole[:200] or type(error).__name__
    if "://" in where:
        for pattern, meaning, mend in _BUCKETS:
            if re.search(pattern, whole):
                return f"the gallery {where} cannot be reached, since {meaning}: {mend}"
    if getattr(error, "errno", None) in FULL or "os error 28" in reason or "No space left" in reason:
        return (
            f"the disk of the gallery {where} is full: what was in the gallery before is as it was; make room, and "
            "give the same command again"
        )
    return (
        f"the gallery {where} cannot be read or changed ({reason}): its files are damaged, were changed, or may not be "
        "accessed; copy it again, or index the images again into a new one"
    )
