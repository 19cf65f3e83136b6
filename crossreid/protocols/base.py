"""What all protocols have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossreid import data
from crossreid.data import provenance
from crossreid.records import Image, Trial


class Protocol:
    """Who is searched for where. What each has is told in ``crossreid.protocols``."""

    name: str
    title: str
    description: str
    images: list[Image]
    cmc = "image"
    average = "trials"
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    folds = False
    held_out = True
    layout = True

    def __init__(self, root: Any, *, split: str = "test", **settings: Any):
        raise NotImplementedError(f"{type(self).__name__} must say how it is built from {root}")

    @classmethod
    def locate(cls, roots: Mapping[str, str] | None, settings: Mapping) -> object:
        """What it is built from, by the folders of data sets that the user named: the folder of its data set."""
        return data.locate(cls.name, roots)

    @property
    def called(self) -> str:
        """What results on its images are called: its title, or what they are instead of that data set."""
        return provenance.title(self.title, self.images, layout=self.layout)

    @property
    def provenance(self) -> str:
        """Where its images come from, if any was rendered: its numbers say nothing of real people. Else empty."""
        return self.called if provenance.rendered(self.images) else ""

    def trials(self) -> list[Trial]:
        raise NotImplementedError(f"{type(self).__name__} must say who is searched for where")
