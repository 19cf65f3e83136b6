"""What all protocols have in common."""

from __future__ import annotations

from collections.abc import Mapping

from crossreid import data
from crossreid.data import provenance
from crossreid.records import Image, Trial


class Protocol:
    """Who is searched for where. What each has is told in ``crossreid.protocols``."""

    name: str
    description: str
    images: list[Image]
    cmc = "image"
    average = "trials"
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    folds = False
    held_out = True

    @classmethod
    def locate(cls, roots: Mapping[str, str] | None, settings: Mapping) -> object:
        """What it is built from, by the folders of data sets that the user named: the folder of its data set."""
        return data.locate(cls.name, roots)

    @property
    def rendered(self) -> bool:
        """Whether any of its images was rendered, so that its numbers say nothing of real people."""
        return provenance.rendered(self.images) > 0

    def trials(self) -> list[Trial]:
        raise NotImplementedError(f"{type(self).__name__} must say who is searched for where")
