"""What all protocols have in common."""

from __future__ import annotations

from crossreid.records import Image, Trial


class Protocol:
    """Who is searched for where. What each has is told in ``crossreid.protocols``."""

    name: str
    description: str
    images: list[Image]
    cmc = "image"
    average = "trials"
    notes: tuple[str, ...] = ()

    def trials(self) -> list[Trial]:
        raise NotImplementedError(f"{type(self).__name__} must say who is searched for where")
