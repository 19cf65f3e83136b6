"""Many images into a gallery: what ``crossreid index`` does.

    fill(gallery, embedder, listed(["shop"]))

An image that is in the gallery already is recognised by its pixels, before anything is embedded, so that the same call
goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from crossreid import embedding_files
from crossreid.files import legible
from crossreid.gallery.entries import Entry, Value, checked
from crossreid.gallery.gallery import Gallery
from crossreid.gallery.moments import moment
from crossreid.gallery.thumbnails import EDGES, thumbnail
from crossreid.images.decode import content_key, crop, decode
from crossreid.records import INFRARED, VISIBLE, Image, UserError

THREADS, BATCH, ADD = embedding_files.THREADS, 64, 512


@dataclass(frozen=True)
class Candidate:
    """An image that may go into a gallery.

    file: where it lies. box: (left, top, right, bottom) of the person in it, or None for all of it. row: its place in a
        prepared array, or None.
    modality: None where nobody said. The rest is as in ``Entry``.
    """

    file: Path
    path: str
    modality: str | None = None
    camera: str | None = None
    time: float | None = None
    identity: str | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None
    array_index: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What ``fill`` did.

    new: images that were added. known: that were there before, or twice among those given.
    assumed: of which nothing said whether they are visible or infrared, and that count as visible.
    bad: path and reason of each that was left out.
    """

    new: int
    known: int
    assumed: int
    bad: tuple[tuple[str, str], ...]


def listed(
    sources: Sequence[str | Path],
    *,
    modality: str | None = None,
    camera: str | None = None,
    time: float | None = None,
    identity: str | None = None,
    root: Path | None = None,
) -> list[Candidate]:
    """The images that files, folders (with all below them), patterns and tables name.

    A table (``.csv``) has the column ``path`` (relative to the table) and perhaps ``camera``, ``time``, ``identity``,
    ``modality``, ``x0``, ``y0``, ``x1``, ``y1`` (a box in pixels), and any others, which are kept as text.
    modality, camera, time, identity: of all images of which no table says another.
    root: paths in the gallery are relative to this folder; without it they are absolute.
    """
    candidates = []
    for row in embedding_files.listed(sources, modality):
        columns = dict(row.columns)
        when = columns.pop("time", "")
        candidates.append(
            Candidate(
                row.path,
                _path(row.path, root),
                row.modality,
                columns.pop("camera", "") or camera,
                moment(when, f"the time of {row.name}") if when else time,
                columns.pop("identity", "") or identity,
                {name: text for name, text in columns.items() if text},
                row.box,
            )
        )
    return candidates


def of_images(splits: Mapping[str, Sequence[Image]], root: Path | None = None) -> list[Candidate]:
    """The images of a data set as ``crossreid.data.read`` gives them; the column ``split`` says which split each is
    of. Cameras and identities keep the data set's own numbers."""
    return [
        Candidate(
            image.path,
            _path(image.path, root),
            image.modality,
            str(image.camera),
            image.time,
            str(image.identity),
            {"split": split} | ({} if image.array_index is None else {"row": image.array_index}),
            image.box,
            image.array_index,
        )
        for split, images in splits.items()
        for image in images
    ]


def fill(
    gallery: Gallery,
    embedder,
    candidates: Sequence[Candidate],
    *,
    thumbnails: bool = True,
    progress: bool | None = None,
) -> Outcome:
    """Embed what is new among the candidates and add it.

    embedder: a ``crossreid.Embedder``. thumbnails: also keep a JPEG of at most 96 x 192 pixels of each.
    progress: a bar with the time left; None shows it on a terminal.

    An image that cannot be read is left out, and listed in the outcome. What was added stays when this is
    interrupted. Raises UserError when the gallery is of another model, or the model must be told modalities and cannot.
    """
    from tqdm import tqdm

    gallery.require(embedder.fingerprint)
    candidates, assumed = _with_modalities(candidates, embedder)
    waiting: list[tuple[Entry, np.ndarray, bytes | None]] = []
    ready: list[tuple[Entry, np.ndarray, bytes | None]] = []
    bad, new, seen = [], 0, 0
    batch = getattr(embedder, "batch", BATCH)

    def embed() -> None:
        known = gallery.known([entry.key for entry, _, _ in waiting])
        fresh = [each for each in waiting if each[0].key not in known]
        if fresh:
            vectors = embedder(
                [array for _, array, _ in fresh], modality=[entry.modality for entry, _, _ in fresh]
            )
            ready.extend((entry, vector, small) for (entry, _, small), vector in zip(fresh, vectors))
        waiting.clear()

    def add() -> int:
        count = 0
        if ready:
            entries, vectors, small = zip(*ready)
            count = gallery.add(entries, np.stack(vectors), small)
        ready.clear()
        return count

    with tqdm(
        total=len(candidates),
        desc="index",
        unit="image",
        disable=None if progress is None else not progress,
    ) as bar:
        for found in _decoded(candidates, thumbnails):
            seen += 1
            if isinstance(found, tuple) and isinstance(found[1], str):
                bad.append(found)
            else:
                waiting.append(found)
            if len(waiting) >= batch:
                embed()
            if len(ready) >= ADD:
                new += add()
            bar.update(1)
        embed()
        new += add()
    return Outcome(new, seen - new - len(bad), assumed, tuple(bad))


def _path(path: Path, root: Path | None) -> str:
    if root is None:
        return legible(str(path.absolute()))
    try:
        return legible(path.resolve().relative_to(root.resolve()).as_posix())
    except ValueError:
        raise UserError(
            f"{path} does not lie below {root}: give a folder that holds all images, or leave it out"
        ) from None


def _with_modalities(candidates: Sequence[Candidate], embedder) -> tuple[list[Candidate], int]:
    """Candidates that all have a modality, and how many got theirs for want of anything better."""
    if all(each.modality is not None for each in candidates):
        return list(candidates), 0
    from crossreid.embedder import modality_of

    found, unknown = [], []
    for each in candidates:
        modality = each.modality
        if modality is None:
            try:
                modality = modality_of(each.file)
            except UserError:
                unknown.append(each.path)
        found.append(replace(each, modality=modality or VISIBLE))
    if unknown and (len(embedder.modalities) > 1 or embedder.modalities == (INFRARED,)):
        others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise UserError(
            f"this model treats visible and infrared images differently, and of {unknown[0]}{others} nothing says "
            "which they are: give --modality visible or --modality infrared, or list the images in a table with the "
            "columns path and modality"
        )
    return found, len(unknown)


def _decoded(candidates: Sequence[Candidate], thumbnails: bool) -> Iterator:
    """(entry, pixels, thumbnail) of each candidate, or (path, reason)."""
    groups = (list(group) for _, group in groupby(candidates, key=lambda each: (each.file, each.array_index)))
    return embedding_files.ahead_of(_parts, groups, thumbnails)


def _parts(candidates: list[Candidate], thumbnails: bool) -> list:
    """What one file holds for its candidates."""
    try:
        frame = _pixels(candidates[0])
    except UserError as error:
        return [(each.path, str(error)) for each in candidates]
    found = []
    for each in candidates:
        try:
            part = frame if each.box is None else crop(frame, each.box)
        except UserError as error:
            found.append((each.path, str(error)))
            continue
        columns = dict(each.columns)
        if each.box is not None:
            columns |= dict(zip(EDGES, map(int, each.box)))
        key = content_key(frame, each.box)
        try:
            entry = checked(
                Entry(key, each.path, each.modality, each.camera, each.time, each.identity, columns), None
            )
        except UserError as error:
            found.append((each.path, str(error)))
            continue
        # A copy, so that a part does not keep its whole frame.
        found.append((entry, np.array(part), thumbnail(part) if thumbnails else None))
    return found


def _pixels(candidate: Candidate) -> np.ndarray:
    if candidate.array_index is None:
        return decode(candidate.file)
    from crossreid.data.loading import read_image

    return read_image(Image(candidate.file, 0, 0, array_index=candidate.array_index))
