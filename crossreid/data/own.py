"""What the readers of own data share: splits where the user gave none, and what may surprise in the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from crossreid.data.source import Finding, first_of
from crossreid.data.splitting import hold_out, query_and_gallery
from crossreid.images.reading import unreadable
from crossreid.records import Image, UserError, counted

SPLITS = ("train", "validation", "query", "gallery", "test")


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


def remarks(splits: Mapping[str, Sequence[Image]]) -> Iterator[Finding]:
    """How much each split holds, and what may surprise in own data: queries without a gallery, images that cannot be
    read, identities with one image, a single camera, queries without a match."""
    for split in filter(splits.__contains__, SPLITS):
        images = splits[split]
        yield Finding(
            "note",
            f"{split}: {counted(len({image.identity for image in images}), 'identity')}, "
            f"{counted(len(images), 'image')}, {counted(len({image.camera for image in images}), 'camera')}",
        )
    sides = [side for side in ("query", "gallery") if splits.get(side)]
    if len(sides) == 1:
        yield Finding(
            "warning",
            f"there are images of the split {sides[0]} alone: a model can be scored where there are both query and "
            "gallery, or test, which is divided into them.",
        )
    yield from _unreadable([image for found in splits.values() for image in found])
    yield from _alone(splits)
    yield from _cameras(splits)


def _unreadable(images: Sequence[Image]) -> Iterator[Finding]:
    reasons = unreadable(images)
    if not reasons:
        return
    yield Finding(
        "error",
        f"{len(reasons)} of {len(images)} images cannot be read, the first because {reasons[min(reasons)]}.",
    )
    left = {image.identity for at, image in enumerate(images) if at not in reasons}
    lost = {
        image.identity: image.extra.get("identity", str(image.identity))
        for at, image in enumerate(images)
        if image.identity not in left
    }
    if lost:
        yield Finding(
            "error",
            f"no image can be read of {counted(len(lost), 'identity')}: {first_of(list(lost.values()))}.",
        )


def _alone(splits: Mapping[str, Sequence[Image]]) -> Iterator[Finding]:
    count = Counter(image.identity for found in splits.values() for image in found)
    alone = sorted(identity for identity, images in count.items() if images == 1)
    if alone:
        yield Finding(
            "warning",
            f"{len(alone)} of {len(count)} identities have a single image, the first is {alone[0]}: such an identity "
            "cannot be found, and in training has no other image to be compared with.",
        )


def _cameras(splits: Mapping[str, Sequence[Image]]) -> Iterator[Finding]:
    cameras = sorted({image.camera for found in splits.values() for image in found})
    if len(cameras) == 1:
        yield Finding(
            "warning",
            f"all images have camera {cameras[0]}: evaluation must then switch the same-camera rule "
            f"off (protocol.same_camera: false), or be given the cameras.",
        )
        return
    by_identity: dict[int, set[int]] = {}
    for image in splits.get("gallery", ()):
        by_identity.setdefault(image.identity, set()).add(image.camera)
    queries = splits.get("query", ())
    lost = [image for image in queries if not by_identity.get(image.identity, set()) - {image.camera}]
    if lost:
        yield Finding(
            "warning",
            f"{len(lost)} of {len(queries)} queries have no image of the same identity from another "
            f"camera in the gallery, the first is {lost[0].path}: they are left out of the scores.",
        )
