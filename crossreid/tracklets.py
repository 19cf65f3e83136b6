"""Tracklets: what one camera saw of one person at a stretch, as one vector.

    made = build(tracks, frames, embedder, camera="1", rate=25.0)
    save(Path("camera1.npz"), made)

A vector is the mean of a tracklet's k best crops, of unit length: best by their size, by how sharp they are, and by how
far they agree with the others.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from crossreid.evaluation import thresholds
from crossreid.files import replacing, several, understood
from crossreid.formats.arrays import read_npz
from crossreid.formats.shape import NOTHING, NUMBER, TEXT, WHOLE, unlike
from crossreid.formats.text import parse_json
from crossreid.images import video
from crossreid.images.decode import crop
from crossreid.images.labels import whole_number
from crossreid.images.mot import Track
from crossreid.images.reading import ahead, bar, batches
from crossreid.images.resize import fit
from crossreid.images.thumbnail import thumbnail
from crossreid.records import MODALITIES, VISIBLE, Image, UserError, counted

# Crops that are embedded for each of those that count.
CANDIDATES = 3
# Share of boxes that may lie outside of the frames before their resolution is doubted.
OUTSIDE = 0.1


def _crop_form(value) -> bool:
    """A path, and a box or none."""
    if not isinstance(value, list) or len(value) != 2 or not TEXT(value[0]):
        return False
    return value[1] is None or (not unlike(value[1], [WHOLE]) and len(value[1]) == 4)


_CURVE = {"false_positive": [NUMBER], "true_positive": [NUMBER], "threshold": [NUMBER]}
_POINT = {
    "subset": TEXT,
    "modalities": [TEXT],
    **{kind: {"pairs": WHOLE} for kind in ("genuine", "impostor")},
    "curve": _CURVE,
}
_FORM = {
    "model": TEXT,
    "fingerprint": TEXT,
    "operating_points": [_POINT],
    "tracklets": [
        {
            "camera": TEXT,
            "name": TEXT,
            **dict.fromkeys(("start", "end"), (NUMBER, NOTHING)),
            "frames": WHOLE,
            "modality": lambda value: value in MODALITIES,
            "crops": lambda value: isinstance(value, list) and bool(value) and all(map(_crop_form, value)),
        }
    ],
}


@dataclass(frozen=True)
class Tracklet:
    """camera, name: of the track. start, end: seconds, since 1970 where the beginning of the video is known; not a
    number where no time is. frames: how many it was seen in. crops: the best, best first. small: a JPEG of the first.
    """

    camera: str
    name: str
    start: float
    end: float
    frames: int
    crops: tuple[Image, ...]
    modality: str = VISIBLE
    small: bytes = b""


@dataclass(frozen=True)
class Tracklets:
    """Tracklets with their unit vectors (N, D), and the model that made them. points: its operating points, see
    ``crossreid.evaluation.thresholds``."""

    items: tuple[Tracklet, ...]
    vectors: np.ndarray
    model: str = ""
    fingerprint: str = ""
    points: Sequence[dict] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def keys(self) -> list[str]:
        """A name for each that is the same whenever it is made of the same images by the same model."""
        return [
            hashlib.sha256(
                f"{each.camera}\0{each.name}\0{each.start}\0{each.end}".encode("utf-8", "surrogateescape")
                + vector.tobytes()
            ).hexdigest()
            for each, vector in zip(self.items, self.vectors)
        ]


@dataclass
class _Growing:
    """What is known of a tracklet until its last candidate has been embedded."""

    left: int
    found: list[tuple[Image, float, float, bytes]] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    tracklet: int
    image: Image
    pixels: np.ndarray
    area: float
    sharpness: float
    small: bytes


def of_tracks(
    tracks: Sequence[Track],
    frames: Path,
    embedder,
    *,
    camera: str,
    rate: float,
    start: float | None = None,
    size: tuple[int, int] | None = None,
    k: int = 5,
    modality: str | None = None,
) -> Tracklets:
    """Tracklets of the boxes of one camera.

    tracks: see ``crossreid.images.mot.read``; frames are counted from 0 where one has that number, else from 1. frames:
        its folder or video, see ``crossreid.images.video.frames``.
    embedder: a ``crossreid.Embedder``. rate: frames a second; start: seconds since 1970 of the first one, None counts
        from 0. size: (width, height) of the frames that the boxes were made on, where the frames here have another.
    k: crops that make a vector. modality: of the camera.

    A frame that cannot be decoded costs its own crops. Tracks of which no crop is left are left out, with a warning.
    Raises UserError where many boxes lie outside of the frames, which then have another resolution.
    """
    wanted: dict[int, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    counts = []
    for number, track in enumerate(tracks):
        chosen = _spread([_area(box) for box in track.boxes], k)
        counts.append(len(chosen))
        for at in chosen:
            wanted[track.frames[at]].append((number, track.boxes[at]))
    bad: list[str] = []
    first_frame = min([1, *(track.frames[0] for track in tracks)])

    def candidates() -> Iterator[_Candidate | int]:
        checked = size is None
        outside = seen = 0
        for number, given in video.frames(frames, set(wanted), first_frame):
            boxes = wanted.pop(number)
            try:
                pixels = video.pixels(given)
            except UserError as error:
                bad.append(str(error))
                yield from (tracklet for tracklet, _ in boxes)
                continue
            height, width = pixels.shape[:2]
            x, y = (1.0, 1.0) if size is None else (width / size[0], height / size[1])
            for tracklet, box in boxes:
                box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
                seen += 1
                outside += not (0 <= (box[0] + box[2]) / 2 <= width and 0 <= (box[1] + box[3]) / 2 <= height)
                path = given if isinstance(given, Path) else Path(f"{frames}#{number}")
                try:
                    yield _candidate(tracklet, Image(path), pixels, box, embedder)
                except UserError as error:
                    bad.append(f"frame {number}, track {tracks[tracklet].name}: {error}")
                    yield tracklet
            if checked and seen >= 50 and outside > OUTSIDE * seen:
                raise UserError(_resolution(frames, outside, seen, width, height))
        if checked and outside > OUTSIDE * seen:
            raise UserError(_resolution(frames, outside, seen, width, height))
        # Frames that are not there.
        missing = [number for number, boxes in wanted.items() if boxes]
        if missing:
            bad.append(f"{len(missing)} frames with boxes are not in {frames}, the first is {min(missing)}")
        for number in missing:
            yield from (tracklet for tracklet, _ in wanted[number])

    def tracklet_of(number: int, crops: tuple[Image, ...], small: bytes) -> Tracklet:
        track = tracks[number]
        first, last = (
            ((start or 0.0) + (frame - first_frame) / rate)
            for frame in (track.frames[0], track.frames[-1] + 1)
        )
        return Tracklet(camera, track.name, first, last, len(track.frames), crops, modality or VISIBLE, small)

    made = _embedded(candidates(), counts, embedder, k, modality)
    return _finished(made, tracklet_of, len(tracks), bad, embedder)


def of_crops(
    images: Sequence[Image],
    embedder,
    *,
    camera: str = "",
    k: int = 5,
    modality: str | None = None,
) -> Tracklets:
    """Tracklets of images that are crops already.

    images: whose ``extra`` tells their ``track`` and perhaps their ``camera``, else the one given, and perhaps their
        ``frame``. Images without a track are one each.
    """
    groups: dict[tuple[str, str], list[Image]] = defaultdict(list)
    for number, image in enumerate(images):
        track = image.extra.get("track", "") or f"image {number + 1}"
        groups[image.extra.get("camera", "") or camera, track].append(image)
    if alone := sum(not image.extra.get("track") for image in images):
        warnings.warn(
            f"{alone} of {counted(len(images), 'image')} say no track, and each of them becomes a tracklet of its own; "
            "a group track of the pattern tells which belong together",
            stacklevel=2,
        )
    names, backwards = list(groups), 0
    for name in names:
        ordered = sorted(groups[name], key=lambda image: (_moment(image), image.path))
        by_name = sorted(
            groups[name], key=lambda image: (whole_number(image.extra.get("frame", "")) or 0, image.path)
        )
        times = [image.time for image in by_name if image.time is not None]
        backwards += any(after < before for before, after in pairwise(times))
        groups[name] = ordered
    if backwards:
        warnings.warn(
            f"the times of {backwards} tracks run backwards along their frames: they begin at their earliest time and "
            "end at their latest; look at the camera's clock",
            stacklevel=2,
        )
    some = []
    counts = []
    for number, name in enumerate(names):
        chosen = _spread([1.0] * len(groups[name]), k)
        counts.append(len(chosen))
        some += [(groups[name][at], number) for at in chosen]
    number_of = {id(image): number for image, number in some}
    bad: list[str] = []

    def candidates() -> Iterator[_Candidate | int]:
        def made(frame: np.ndarray, image: Image) -> _Candidate:
            height, width = frame.shape[:2]
            return _candidate(
                number_of[id(image)], image, frame, image.box or (0, 0, width, height), embedder
            )

        for image, found in ahead((image for image, _ in some), made):
            if isinstance(found, UserError):
                bad.append(str(found))
                yield number_of[id(image)]
            else:
                yield found

    def tracklet_of(number: int, crops: tuple[Image, ...], small: bytes) -> Tracklet:
        times = [moment for image in groups[names[number]] if np.isfinite(moment := _moment(image))]
        # A crop takes its moment: two of one moment before one camera are two people.
        span = (min(times), float(np.nextafter(max(times), np.inf))) if times else (np.nan, np.nan)
        name = names[number]
        return Tracklet(*name, *span, len(groups[name]), crops, modality or VISIBLE, small)

    made = _embedded(candidates(), counts, embedder, k, modality)
    return _finished(made, tracklet_of, len(names), bad, embedder)


def mean_of_best(
    vectors: np.ndarray, area: np.ndarray, sharpness: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) of the k best of N crops' unit vectors, of unit length, and their positions, best first.

    The third that agrees least with the others is left out, as far as k remain; the best of the rest are those that are
    large and sharp, by the sum of the two ranks.
    """
    agreement = vectors @ vectors.sum(axis=0)
    kept = np.sort(np.argsort(-agreement, kind="stable")[: max(k, len(vectors) - len(vectors) // CANDIDATES)])
    ranks = sum(np.argsort(np.argsort(-values[kept], kind="stable")) for values in (area, sharpness))
    best = kept[np.argsort(ranks, kind="stable")[:k]]
    mean = vectors[best].sum(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    return (mean / length if length > 0 else vectors[best[0]]).astype(np.float32), best


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian of the grey values of (H, W, 3) uint8: small where the image is blurred."""
    grey = pixels.mean(axis=2, dtype=np.float32)
    inner, beside = grey[1:-1, 1:-1], grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1]
    return float((4 * inner - beside).var()) if inner.size else 0.0


def _spread(areas: Sequence[float], k: int) -> list[int]:
    """Positions of up to ``CANDIDATES`` x k of a track's boxes, the largest in each of k parts of its time."""
    chosen: list[int] = []
    for part in np.array_split(np.arange(len(areas)), min(k, len(areas))):
        largest = sorted(part.tolist(), key=lambda at: -areas[at] if np.isfinite(areas[at]) else 0.0)
        chosen += sorted(largest[:CANDIDATES])
    return chosen


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _moment(image: Image) -> float:
    return np.nan if image.time is None else image.time


def _candidate(number: int, image: Image, frame: np.ndarray, box, embedder) -> _Candidate:
    part = crop(frame, box)
    pixels = fit(part, embedder.size, embedder.interpolation)
    left, top, right, bottom = (round(float(edge)) for edge in box)
    whole = (left, top, right, bottom) == (0, 0, *frame.shape[1::-1])
    shown = image if whole else replace(image, box=(left, top, right, bottom))
    return _Candidate(
        number, shown, pixels, part.shape[0] * part.shape[1], sharpness(pixels), thumbnail(part)
    )


def _embedded(
    candidates: Iterable[_Candidate | int], counts: Sequence[int], embedder, k: int, modality
) -> dict[int, tuple[np.ndarray, tuple[Image, ...], bytes]]:
    """Vector, crops and a small image of each tracklet that has any; a number stands for a crop that is none."""
    growing = {number: _Growing(count) for number, count in enumerate(counts)}
    made = {}

    def looked_at(number: int) -> None:
        growing[number].left -= 1
        if growing[number].left:
            return
        own = growing.pop(number)
        if own.found:
            images, areas, sharp, small = zip(*own.found)
            vector, best = mean_of_best(np.stack(own.vectors), np.array(areas), np.array(sharp), k)
            made[number] = vector, tuple(images[at] for at in best), small[best[0]]

    with bar("tracklets", sum(counts)) as shown:
        for batch in batches(candidates, getattr(embedder, "batch", 64)):
            good = [each for each in batch if isinstance(each, _Candidate)]
            vectors = embedder([one.pixels for one in good], modality=modality) if good else ()
            for one, vector in zip(good, vectors):
                growing[one.tracklet].found.append((one.image, one.area, one.sharpness, one.small))
                growing[one.tracklet].vectors.append(vector)
            for each in batch:
                looked_at(each.tracklet if isinstance(each, _Candidate) else each)
            shown.update(len(batch))
    return made


def _finished(made: dict, tracklet_of, total: int, bad: list[str], embedder) -> Tracklets:
    if bad:
        warnings.warn(f"{counted(len(bad), 'crop')} left out: {several(bad, 3)}", stacklevel=3)
    if not made:
        raise UserError(f"none of {total} tracks has a crop that can be used{': ' + bad[0] if bad else ''}")
    if len(made) < total:
        warnings.warn(
            f"{total - len(made)} of {total} tracks have no crop left and are left out", stacklevel=3
        )
    numbers = sorted(made)
    points, _ = thresholds.known(embedder.path, embedder.fingerprint, embedder.feature)
    return Tracklets(
        tuple(tracklet_of(number, *made[number][1:]) for number in numbers),
        np.stack([made[number][0] for number in numbers]),
        embedder.name,
        embedder.fingerprint,
        points,
    )


def _resolution(frames: Path, outside: int, seen: int, width: int, height: int) -> str:
    return (
        f"{outside} of {seen} boxes lie outside of the frames in {frames}, which are {width} x {height}: the boxes "
        "were made on frames of another resolution. Say which, with --resolution WIDTH HEIGHT"
    )


def save(path: Path, tracklets: Tracklets) -> None:
    """Keep tracklets in an ``.npz`` file."""
    items = [
        {
            "camera": each.camera,
            "name": each.name,
            "start": None if np.isnan(each.start) else each.start,
            "end": None if np.isnan(each.end) else each.end,
            "frames": each.frames,
            "modality": each.modality,
            "crops": [[str(crop.path), crop.box] for crop in each.crops],
        }
        for each in tracklets.items
    ]
    about = {
        "form": 1,
        "model": tracklets.model,
        "fingerprint": tracklets.fingerprint,
        "operating_points": list(tracklets.points),
        "tracklets": items,
    }
    small = [each.small for each in tracklets.items]
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            vectors=tracklets.vectors,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            small=np.frombuffer(b"".join(small), np.uint8),
            ends=np.cumsum([len(each) for each in small], dtype=np.int64),
        )


def load(path: Path) -> Tracklets:
    """What ``save`` kept. Raises UserError for any other file."""
    expected = "a file that `crossreid tracklets` wrote was expected"
    with understood(path, expected):
        arrays = read_npz(path, expected)
        missing = [name for name in ("vectors", "about", "small", "ends") if name not in arrays]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        about = parse_json(bytes(arrays["about"]).decode())
        if wrong := unlike(about, _FORM):
            raise ValueError(f"look at {wrong}")
        content, ends = bytes(arrays["small"]), arrays["ends"].tolist()
        items = []
        for at, each in enumerate(about["tracklets"]):
            for text in (each["camera"], each["name"], *(name for name, _ in each["crops"])):
                text.encode("utf-8", "surrogateescape")
            first, last = (np.nan if each[name] is None else float(each[name]) for name in ("start", "end"))
            crops = tuple(
                Image(Path(name), box=None if box is None else tuple(box)) for name, box in each["crops"]
            )
            small = content[ends[at - 1] if at else 0 : ends[at]]
            items.append(
                Tracklet(
                    each["camera"], each["name"], first, last, each["frames"], crops, each["modality"], small
                )
            )
        vectors = np.asarray(arrays["vectors"], np.float32)
        if vectors.ndim != 2 or len(vectors) != len(items) or not np.isfinite(vectors).all():
            raise ValueError("it has not a vector for each tracklet")
        points = about["operating_points"]
        thresholds.thresholds(points, 1.0)
    return Tracklets(tuple(items), vectors, about["model"], about["fingerprint"], points)


def joined(parts: Sequence[Tracklets]) -> Tracklets:
    """Tracklets of several files, of one model, as one."""
    first = parts[0]
    for other in parts[1:]:
        if other.fingerprint != first.fingerprint:
            raise UserError(
                f"tracklets of two models cannot be compared ({first.model} and {other.model}): make them again by one"
            )
    return replace(
        first,
        items=tuple(each for part in parts for each in part.items),
        vectors=np.concatenate([part.vectors for part in parts]),
    )
