"""Many images into a gallery: what ``crossreid index`` does.

    fill(gallery, embedder, listed(["shop"]))

An image that is in the gallery already is recognised by its pixels, before anything is embedded, so that the same call
goes on where it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from crossreid.data.modality import with_modalities
from crossreid.files import legible
from crossreid.gallery.entries import EDGES, Entry, checked
from crossreid.gallery.gallery import Gallery
from crossreid.gallery.store import Existing, NoGallery
from crossreid.images import labels, listing
from crossreid.images.decode import content_key
from crossreid.images.reading import ahead, bar, batches, cut
from crossreid.images.resize import fit
from crossreid.images.thumbnail import thumbnail
from crossreid.ops import degenerate
from crossreid.records import INFRARED, VISIBLE, Image, UserError

BATCH, ADD = 64, 512
# An entry with its vector and small image. Of some images those that are new, path and reason of those that cannot be
# read, and how many there were.
Ready = tuple[Entry, np.ndarray, bytes | None]
Found = tuple[list[Ready], list[tuple[str, str]], int]
# Of what ``Image.extra`` may hold, what an entry has fields for.
_FIELDS = ("path", "identity", "camera")


@dataclass(frozen=True)
class Filled:
    """What ``fill`` did.

    new: images that were added. known: that were there before, or twice among those given.
    bad: path and reason of each that was left out. notes: what is wrong with the features, sentences.
    """

    new: int
    known: int
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def opened(place: str, *, dimension: int, fingerprint: str, model: str) -> tuple[Gallery, bool]:
    """The gallery at a place, and whether it was made just now; any number of processes may ask for it at once. Raises
    UserError where it is of another model."""
    try:
        return Gallery.open(place, fingerprint=fingerprint), False
    except NoGallery:
        try:
            return Gallery.create(place, dimension=dimension, fingerprint=fingerprint, model=model), True
        except Existing:  # since another process has made it
            return Gallery.open(place, fingerprint=fingerprint), False


def listed(
    sources: Sequence[str | Path],
    *,
    modality: str | None = None,
    camera: str | None = None,
    time: float | None = None,
    identity: str | None = None,
    keep_junk: bool = False,
    pattern: str = "",
    strict: bool = True,
) -> list[Image]:
    """The images that files, folders (with all below them), patterns and tables name, see
    ``crossreid.images.listing.listed``.

    modality, camera, time, identity: of all images of which no table and no name says another.
    pattern: what the names of images that no table lists say, see ``crossreid.images.labels.compiled_pattern``.
    strict: whether a name that it does not fit is an error; otherwise a warning counts them.
    """
    images = listing.listed(sources, None if pattern else modality, keep_junk)
    if pattern:
        images = labels.without_junk(_read_names(images, pattern, strict), "the images given", keep_junk)
        word = labels.modality(modality, "all images") if modality else ""
        images = [image if image.modality else replace(image, modality=word) for image in images]
    given = {name: text for name, text in (("camera", camera), ("identity", identity)) if text}
    return [
        replace(
            image,
            time=time if image.time is None else image.time,
            extra={**given, **{name: text for name, text in image.extra.items() if text}},
        )
        for image in images
    ]


def _read_names(images: Sequence[Image], pattern: str, strict: bool) -> list[Image]:
    expression, found, missed = labels.compiled_pattern(pattern, own=True), [], 0
    for image in images:
        if "path" not in image.extra:  # else a table says it
            try:
                image = listing.with_labels(image, expression)
            except UserError:
                if strict:
                    raise
                missed += 1
        found.append(image)
    if missed:
        warnings.warn(
            f"{missed} of {len(images)} names do not fit the pattern {pattern!r} that the gallery remembers, and say "
            "nothing; --pattern gives another",
            stacklevel=3,
        )
    return found


def of_images(splits: Mapping[str, Sequence[Image]]) -> list[Image]:
    """The images of a data set as ``crossreid.data.read`` gives them; the column ``split`` says which split each is
    of. Cameras and identities are those that own data names, or the data set's own numbers."""
    return [
        replace(
            image,
            extra={
                "identity": str(image.identity),
                "camera": str(image.camera),
                **{name: text for name, text in image.extra.items() if text},
                "split": split,
            },
        )
        for split, images in splits.items()
        for image in images
    ]


def fill(
    gallery: Gallery,
    embedder,
    images: Sequence[Image],
    *,
    root: Path | None = None,
    thumbnails: bool = True,
    progress: bool | None = None,
) -> Filled:
    """Embed what is new among the images and add it.

    embedder: a ``crossreid.Embedder``. images: as ``listed`` or ``of_images`` gives them; identity and camera of an
    entry are those in ``Image.extra``, whose further columns it keeps.
    root: paths in the gallery are relative to this folder; without it they are absolute.
    thumbnails: also keep a JPEG of at most 96 x 192 pixels of each.
    progress: a bar with the time left; None shows it on a terminal.

    An image that cannot be read is left out, and listed in what is returned. What was added stays when this is
    interrupted. Raises UserError when the gallery is of another model, or the model must be told modalities and cannot.
    """
    images = _told_apart(images, embedder)
    found = _found(images, embedder, gallery.known, root, thumbnails)
    return _add(gallery, embedder, len(images), found, progress)


def fill_on_ray(
    gallery: Gallery,
    embedder,
    make: Callable,
    place: str,
    images: Sequence[Image],
    *,
    root: Path | None = None,
    thumbnails: bool = True,
    progress: bool | None = None,
    accelerators: bool = False,
) -> Filled:
    """The same on the Ray cluster that ``crossreid.on_ray.connected`` has reached, whose processes embed and this one
    adds.

    make: makes the embedder in other processes. place: of the gallery; all machines must reach it, and the images,
    by the same name.
    """
    from crossreid import on_ray

    images = _told_apart(images, embedder)
    pieces = on_ray.pieces(images, embedder.batch)
    work = partial(_worker, make, place, root and root.absolute(), thumbnails)
    found = (each for _, each, _ in on_ray.mapped(pieces, work, accelerators))
    return _add(gallery, embedder, len(images), found, progress)


def _worker(
    make: Callable, place: str, root: Path | None, thumbnails: bool
) -> Callable[[int, list[Image]], Found]:
    embedder = make()

    def work(number: int, images: list[Image]) -> Found:
        with Gallery.open(place, read_only=True) as gallery:
            parts = list(_found(images, embedder, gallery.known, root, thumbnails))
        return (
            [row for part in parts for row in part[0]],
            [each for part in parts for each in part[1]],
            len(images),
        )

    return work


def _told_apart(images: Sequence[Image], embedder) -> list[Image]:
    return with_modalities(images, len(embedder.modalities) > 1 or embedder.modalities == (INFRARED,))


def _found(
    images: Sequence[Image],
    embedder,
    known: Callable[[Sequence[str]], set[str]],
    root: Path | None,
    thumbnails: bool,
) -> Iterator[Found]:
    """What is new among the images, a batch at a time."""
    paths = {image.path: _path(image.path, root) for image in images}

    def made(frame: np.ndarray, image: Image) -> tuple[Entry, np.ndarray, bytes | None]:
        entry = checked(_entry(frame, image, paths[image.path]), None)
        part = cut(frame, image)
        small = thumbnail(part) if thumbnails else None
        return entry, fit(part, embedder.size, embedder.interpolation), small

    for batch in batches(ahead(images, made), getattr(embedder, "batch", BATCH)):
        bad = [(paths[image.path], str(error)) for image, error in batch if isinstance(error, UserError)]
        good = [each for _, each in batch if not isinstance(each, UserError)]
        there = known([entry.key for entry, _, _ in good])
        fresh = [each for each in good if each[0].key not in there]
        rows: list[Ready] = []
        if fresh:
            features = embedder(
                [pixels for _, pixels, _ in fresh], modality=[entry.modality for entry, _, _ in fresh]
            )
            rows = [(entry, feature, small) for (entry, _, small), feature in zip(fresh, features)]
        yield rows, bad, len(batch)


def _add(gallery: Gallery, embedder, count: int, found: Iterable[Found], progress: bool | None) -> Filled:
    """Add what is found, in portions."""
    gallery.require(embedder.fingerprint)
    ready: list[Ready] = []
    bad: list[tuple[str, str]] = []
    notes: list[str] = []
    new = 0

    def add() -> int:
        if not ready:
            return 0
        entries, features, small = zip(*ready)
        ready.clear()
        stacked = np.stack(features)
        # A few images of one frame may well be alike.
        notes.extend(degenerate.notes(stacked, [entry.path for entry in entries], least=10))
        return gallery.add(entries, stacked, small)

    with bar("index", count, progress) as shown:
        for rows, lost, seen in found:
            ready += rows
            bad += lost
            if len(ready) >= ADD:
                new += add()
            shown.update(seen)
        new += add()
    return Filled(new, count - new - len(bad), tuple(bad), tuple(notes))


def _entry(frame: np.ndarray, image: Image, path: str) -> Entry:
    columns: dict = {name: text for name, text in image.extra.items() if name not in _FIELDS}
    if image.array_index is not None:
        columns["array_index"] = image.array_index
    if image.box is not None:
        columns |= dict(zip(EDGES, map(int, image.box)))
    return Entry(
        content_key(frame, image.box),
        path,
        image.modality or VISIBLE,
        image.extra.get("camera"),
        image.time,
        image.extra.get("identity"),
        columns,
    )


def _path(path: Path, root: Path | None) -> str:
    if root is None:
        return legible(str(path.absolute()))
    try:
        return legible(path.resolve().relative_to(root.resolve()).as_posix())
    except (ValueError, TypeError, NotImplementedError):  # the last two: one of them is an address
        raise UserError(
            f"{path} does not lie below {root}: give a folder that holds all images, or leave it out"
        ) from None
