"""What the two readers of own data share: names to numbers, and splits where the user gave none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from crossreid.data.source import Finding
from crossreid.data.splitting import hold_out, query_and_gallery
from crossreid.records import INFRARED, VISIBLE, Image, UserError

SPLITS = ("train", "validation", "query", "gallery", "test")
_MODALITIES = {
    **dict.fromkeys(("visible", "vis", "rgb", "v"), VISIBLE),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal", "t"), INFRARED),
}


def numbers(labels: Iterable[str]) -> dict[str, int]:
    """A number for each label: itself if every label is a whole number, else 1, 2, ... in sorted order."""
    labels = set(labels)
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels):
        return {label: int(label) for label in labels}
    return {label: number for number, label in enumerate(sorted(labels), 1)}


def modality(word: str, where: str) -> str:
    """``"visible"`` or ``"infrared"`` for the words in use (rgb, vis, ir, nir, thermal, ...)."""
    found = _MODALITIES.get(word.strip().lower())
    if found is None:
        raise UserError(
            f"{where}: modality {word!r} is not known, expected visible or infrared (or "
            f"{', '.join(_MODALITIES)})."
        )
    return found


def splits_of(images: Mapping[str, Sequence[Image]], train_share: float, seed: int) -> dict[str, list[Image]]:
    """Splits of own data. images: by split of ``SPLITS``; ``""`` holds images of which no split is known.

    Images without a split are divided by identity: ``train_share`` of the identities, chosen by ``seed``, are
    for training (0: none, 1: all), the others for testing. Test images without roles become query and
    gallery.
    """
    if not 0 <= train_share <= 1:
        raise UserError(
            f"train_share is the share of identities to train on, 0 to 1, but {train_share} was given."
        )
    splits = {split: list(found) for split, found in images.items() if split and found}
    undivided = images.get("")
    if undivided:
        if train_share == 1:
            splits["train"] = list(undivided)
        elif train_share == 0:
            splits["test"] = list(undivided)
        else:
            # The training identities are the ones chosen, so that the share means them.
            splits["test"], splits["train"] = hold_out(undivided, train_share, seed)
    if "test" in splits:
        if "query" in splits or "gallery" in splits:
            raise UserError(
                "own data is given either as test, which is divided into query and gallery, or as query and "
                "gallery, but both were found: rename or remove one of them."
            )
        splits["query"], splits["gallery"] = query_and_gallery(splits.pop("test"))
    return splits


def remarks(splits: Mapping[str, Sequence[Image]]) -> list[Finding]:
    """What may surprise in own data: identities with one image, a single camera, queries without a match."""
    findings = []
    images = Counter(image.identity for found in splits.values() for image in found)
    alone = sorted(identity for identity, count in images.items() if count == 1)
    if alone:
        findings.append(
            Finding(
                "warning",
                f"{len(alone)} of {len(images)} identities have a single image, the first is "
                f"{alone[0]}: such a person cannot be found, and in training has no other image to be "
                f"compared with.",
            )
        )
    cameras = sorted({image.camera for found in splits.values() for image in found})
    if len(cameras) == 1:
        findings.append(
            Finding(
                "warning",
                f"all images have camera {cameras[0]}: evaluation must then switch the same-camera rule "
                f"off (protocol.same_camera: false), or be given the cameras.",
            )
        )
    by_identity: dict[int, set[int]] = {}
    for image in splits.get("gallery", ()):
        by_identity.setdefault(image.identity, set()).add(image.camera)
    queries = splits.get("query", ())
    lost = [image for image in queries if not by_identity.get(image.identity, set()) - {image.camera}]
    if lost and len(cameras) > 1:
        findings.append(
            Finding(
                "warning",
                f"{len(lost)} of {len(queries)} queries have no image of the same person from another "
                f"camera in the gallery, the first is {lost[0].path}: they are left out of the scores.",
            )
        )
    return findings
