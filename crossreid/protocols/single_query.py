"""Queries search a gallery of other images, without those of the same person by the same camera.

Zheng et al. 2015 introduced it with Market-1501; it serves any data set with the splits query and gallery,
own data included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crossreid import data
from crossreid.data import provenance
from crossreid.data.splitting import query_and_gallery
from crossreid.files import place
from crossreid.protocols.base import Protocol
from crossreid.protocols.rules import identity_and_camera
from crossreid.records import Image, Trial, UserError, counted

SAME_CAMERA_OFF = (
    "The same-camera rule is off: images of a person by the query's own camera count as matches."
)


class SingleQuery(Protocol):
    """The protocol of Zheng et al. 2015.

    source: name of a data set that has, or is given, the splits query and gallery.
    settings: of its reader.
    same_camera: the rule that images of the query's person by the query's camera are excluded. Without
        it only the query's own file is.
    split: ``"test"``, or ``"validation"``: the validation identities, divided into query and gallery.
    images: training images held out for validation (``data.validation``); None takes the data set's own
        validation split.
    """

    name = "single_query"
    settings = ("source", "settings", "same_camera")

    def __init__(
        self,
        root: str | Path,
        *,
        source: str = "market1501",
        settings: dict | None = None,
        same_camera: bool = True,
        split: str = "test",
        images: Sequence[Image] | None = None,
    ):
        if split not in ("test", "validation"):
            raise UserError(f"protocol {self.name}: split is {split!r}, expected test or validation.")
        title = data.get(source).title
        root = place(root)
        if split == "test":
            splits = data.read(source, root, **(settings or {}))
            query, gallery = splits.get("query", []), splits.get("gallery", [])
        else:
            if images is None:
                images = data.read(source, root, **(settings or {})).get("validation", [])
            query, gallery = query_and_gallery(images)
        own = source in ("folder", "csv")
        if not query or not gallery:
            more = "Give images for both, or fewer people to training (train_share)"
            more = more if own else f"Complete the copy (crossreid data check {source})"
            raise UserError(
                f"{title} in {root} cannot be searched: its {split} part has {len(query)} queries and "
                f"{len(gallery)} gallery images. {more}; to validate, hold out training identities "
                f"(data.validation)."
            )
        self.layout = not own
        self._set(query, gallery, title, root.name if own and root.name else title, same_camera, split)

    @classmethod
    def locate(cls, roots: Mapping[str, str] | None, settings: Mapping) -> Path:
        return data.locate(settings.get("source", "market1501"), roots)

    @classmethod
    def between(
        cls, query: Sequence[Image], gallery: Sequence[Image], *, title: str, same_camera: bool = True
    ) -> SingleQuery:
        """The protocol for queries and a gallery that are given. title: what the results call them."""
        protocol = cls.__new__(cls)
        if not query or not gallery:
            raise UserError(
                f"{title}: {counted(len(query), 'query')} and {counted(len(gallery), 'gallery image')}, at "
                "least one of each is needed"
            )
        protocol.layout = False
        protocol._set(query, gallery, title, title, same_camera, "test")
        return protocol

    def _set(self, query, gallery, title, row, same_camera, split):
        self.title, self.images = title, [*query, *gallery]
        self._queries = len(query)
        self._row = provenance.title(row, self.images, layout=self.layout)
        self.notes = () if same_camera else (SAME_CAMERA_OFF,)
        self._excluded = _same_file(query, gallery)
        if same_camera:
            key = identity_and_camera(self.images)
            self._excluded = key[: len(query)], key[len(query) :]
        without = _without_match(query, gallery, same_camera)
        if without == len(query):
            raise UserError(_no_match(title, query, gallery, same_camera))
        self.description = _words(self.called, query, gallery, same_camera, split, without)

    def trials(self) -> list[Trial]:
        query = np.arange(self._queries)
        gallery = np.arange(self._queries, len(self.images))
        return [Trial(self._row, query, gallery, self._excluded)]


def _same_file(query: Sequence[Image], gallery: Sequence[Image]) -> tuple[np.ndarray, np.ndarray] | None:
    numbers: dict[tuple, int] = {}
    codes = [numbers.setdefault(_file(image), len(numbers)) for image in [*query, *gallery]]
    if len(numbers) == len(codes):
        return None
    return np.array(codes[: len(query)]), np.array(codes[len(query) :])


def _file(image: Image) -> tuple:
    return image.path, image.array_index, image.box


def _without_match(query: Sequence[Image], gallery: Sequence[Image], same_camera: bool) -> int:
    """How many queries have no gallery image of their person that the rule leaves them."""
    offered: dict[tuple[int, int], set] = {}
    for image in gallery:
        offered.setdefault((image.domain, image.identity), set()).add(
            image.camera if same_camera else _file(image)
        )
    return sum(
        not offered.get((image.domain, image.identity), set())
        - {image.camera if same_camera else _file(image)}
        for image in query
    )


def _no_match(title: str, query: Sequence[Image], gallery: Sequence[Image], same_camera: bool) -> str:
    identities = {image.identity for image in query}, {image.identity for image in gallery}
    counts = (
        f"none of the {len(query)} queries ({len(identities[0])} identities) of {title} has a valid match "
        f"among the {len(gallery)} gallery images ({len(identities[1])} identities)"
    )
    shared = len(identities[0] & identities[1])
    if not shared or not same_camera:
        return (
            f"{counts}: query and gallery have {shared} identities in common, apart from a query's own file. The same "
            "person needs the same name or number in both; correct the folders, the pattern or the table."
        )
    cameras = Counter(image.camera for image in [*query, *gallery])
    found = ", ".join(
        f"{camera} ({counted(number, 'image')})" for camera, number in sorted(cameras.items())[:10]
    )
    return (
        f"{counts}, because images of the same person by the same camera are excluded; cameras found: "
        f"{found}. Either switch the rule off (protocol.same_camera: false), or give each image the number "
        f"of its camera (the group camera of the pattern, or the column camera of the table)."
    )


def _words(
    title: str, query: Sequence[Image], gallery: Sequence[Image], same_camera: bool, split: str, without: int
) -> str:
    part = "" if split == "test" else ", validation identities"
    rule = (
        "Gallery images of the same person by the same camera are excluded."
        if same_camera
        else "Images of the same person by the same camera count as matches (the same-camera rule is off)."
    )
    lost = f" Queries without a match, left out: {without}." if without else ""
    images = Counter(image.identity for image in [*query, *gallery])
    alone = sum(count == 1 and identity > 0 for identity, count in images.items())
    single = f" Identities with a single image: {alone}." if alone else ""
    return (
        f"{title}{part}: {len(query)} queries search {len(gallery)} gallery images. {rule}{lost}{single} "
        f"The curve and the average precision count images."
    )
