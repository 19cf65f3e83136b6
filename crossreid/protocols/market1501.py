"""Queries search a gallery of other pictures, without those of the same person by the same camera.

Zheng et al. 2015 introduced it with Market-1501; it serves any data set with the splits query and gallery,
own data included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid import data
from crossreid.data.splitting import query_and_gallery
from crossreid.records import Image, Trial, UserError


class Market1501:
    """The protocol of Zheng et al. 2015.

    source: name of a data set that has, or is given, the splits query and gallery.
    settings: of its reader.
    same_camera: the rule that pictures of the query's person by the query's camera are disregarded. Without
        it only the query's own file is.
    split: ``"test"``, or ``"validation"``: the data set's own or, where it has none, a share ``held_out`` of
        the training identities, divided into query and gallery.
    """

    name = "market1501"
    cmc = "image"

    def __init__(
        self,
        root: str | Path,
        *,
        source: str = "market1501",
        settings: dict | None = None,
        same_camera: bool = True,
        held_out: float = 0.1,
        split: str = "test",
    ):
        if split not in ("test", "validation"):
            raise UserError(f"protocol market1501: split is {split!r}, expected test or validation.")
        title = data.get(source).title
        root = Path(root)
        if split == "test":
            splits = data.read(source, root, **(settings or {}))
            query, gallery = splits.get("query", []), splits.get("gallery", [])
        else:
            splits = data.read(source, root, held_out=held_out, **(settings or {}))
            query, gallery = query_and_gallery(splits.get("validation", []))
        if not query or not gallery:
            raise UserError(
                f"{title} in {root} cannot be searched: the {split} part has {len(query)} queries and "
                f"{len(gallery)} gallery pictures. Give pictures for both, or fewer identities to training "
                f"(train_share); for split validation, name a share held_out of the training identities."
            )
        own = source in ("folder", "csv")
        self.images: list[Image] = [*query, *gallery]
        self._queries = len(query)
        self._row = root.name if own and root.name else title
        self._forbidden = (
            _same_person_and_camera(query, gallery) if same_camera else _same_file(query, gallery)
        )
        without = _without_match(query, gallery, same_camera)
        if without == len(query):
            raise UserError(_no_match(title, query, gallery, same_camera))
        self.words = _words(title, query, gallery, same_camera, split, without)

    def trials(self) -> list[Trial]:
        query = np.arange(self._queries)
        gallery = np.arange(self._queries, len(self.images))
        return [Trial(self._row, query, gallery, self._forbidden)]


def _same_person_and_camera(
    query: Sequence[Image], gallery: Sequence[Image]
) -> tuple[np.ndarray, np.ndarray]:
    return _coded([(image.domain, image.identity, image.camera) for image in query + gallery], len(query))


def _same_file(query: Sequence[Image], gallery: Sequence[Image]) -> tuple[np.ndarray, np.ndarray] | None:
    keys = [(image.path, image.row, image.box) for image in query + gallery]
    return _coded(keys, len(query)) if set(keys[: len(query)]) & set(keys[len(query) :]) else None


def _coded(keys: list[tuple], queries: int) -> tuple[np.ndarray, np.ndarray]:
    codes: dict[tuple, int] = {}
    numbers = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    return numbers[:queries], numbers[queries:]


def _without_match(query: Sequence[Image], gallery: Sequence[Image], same_camera: bool) -> int:
    cameras: dict[int, set] = {}
    for image in gallery:
        cameras.setdefault(image.identity, set()).add(image.camera if same_camera else image.path)
    return sum(
        not cameras.get(image.identity, set()) - {image.camera if same_camera else image.path}
        for image in query
    )


def _no_match(title: str, query: Sequence[Image], gallery: Sequence[Image], same_camera: bool) -> str:
    identities = {image.identity for image in query}, {image.identity for image in gallery}
    counts = (
        f"none of the {len(query)} queries ({len(identities[0])} identities) of {title} has a valid match "
        f"among the {len(gallery)} gallery pictures ({len(identities[1])} identities)"
    )
    shared = len(identities[0] & identities[1])
    if not shared or not same_camera:
        return (
            f"{counts}: query and gallery have {shared} identities in common, apart from a query's own file. "
            f"The same person needs the same name or number in both; correct the folders, the pattern or the "
            f"table."
        )
    cameras = Counter(image.camera for image in [*query, *gallery])
    found = ", ".join(f"{camera} ({number} pictures)" for camera, number in sorted(cameras.items())[:10])
    return (
        f"{counts}, because pictures of the same person by the same camera are disregarded; cameras found: "
        f"{found}. Either switch the rule off (protocol.same_camera: false), or give each picture the number "
        f"of its camera (the group camera of the pattern, or the column camera of the table)."
    )


def _words(
    title: str, query: Sequence[Image], gallery: Sequence[Image], same_camera: bool, split: str, without: int
) -> str:
    part = "" if split == "test" else ", validation identities"
    rule = (
        "Gallery pictures of the same person by the same camera are disregarded."
        if same_camera
        else "Pictures of the same person by the same camera count as matches (the same-camera rule is off)."
    )
    lost = f" {without} queries without a match are left out." if without else ""
    pictures = Counter(image.identity for image in [*query, *gallery])
    alone = sum(count == 1 and identity > 0 for identity, count in pictures.items())
    single = f" {alone} identities have a single picture." if alone else ""
    return (
        f"{title}{part}: {len(query)} queries search {len(gallery)} gallery pictures. {rule}{lost}{single} "
        f"The curve and the average precision count pictures."
    )
