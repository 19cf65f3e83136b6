"""From records of images to their pixels: one at a time, or many by threads ahead of who takes them."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import numpy as np

from crossreid.formats.arrays import map_npy
from crossreid.images import lance, tars
from crossreid.images.decode import check, crop, frame
from crossreid.images.listing import name_of
from crossreid.records import Image, UserError, counted

# Files in which images lie as their files are, and what gives their bytes by ``Image.array_index``.
_PACKED = {tars.SUFFIX: tars.content, lance.SUFFIX: lance.content}
THREADS = max(2, min(8, os.cpu_count() or 2))

T = TypeVar("T")


def read(image: Image) -> np.ndarray:
    """The pixels of one image as (h, w, 3) uint8 RGB, the EXIF orientation applied and the box cut out.

    What becomes of palettes, CMYK, 16 bits and transparency: see ``decode``. A box reaching over the edge of its frame
    is cut at the edge. Arrays come from a memory map. Raises UserError naming the file when it cannot be read.
    """
    with frame_of(image) as pixels:
        return cut(pixels, image)


@contextmanager
def frame_of(image: Image) -> Iterator[np.ndarray]:
    """The whole frame that an image lies in, (H, W, 3) uint8 RGB, whose memory counts while the block runs, see
    ``crossreid.images.decode.frame``."""
    if image.array_index is None:
        with frame(image.path) as pixels:
            yield pixels
    elif packed := _PACKED.get(image.path.suffix.lower()):
        with frame(
            packed(image.path, image.array_index), name=_named(image.path, image.array_index)
        ) as pixels:
            yield pixels
    else:
        yield _from_array(image.path, image.array_index)


def cut(frame: np.ndarray, image: Image) -> np.ndarray:
    """What the box of an image shows of its frame, a view."""
    if image.box is None:
        return frame
    try:
        return crop(frame, image.box)
    except UserError as error:
        raise UserError(f"{name_of(image)}: {error}") from error


def ahead(
    images: Iterable[Image], work: Callable[[np.ndarray, Image], T]
) -> Iterator[tuple[Image, T | UserError]]:
    """Each image, in order, with what ``work(frame, image)`` gives for it, or with the error that it raised.

    Frames are decoded by threads a little ahead of who takes the results, and one that neighbours share is decoded
    once; only so much ahead that few frames are held. ``work`` is called by the threads, too: what it gives should be
    small beside a frame.
    """

    def several(group: list[Image]) -> list[tuple[Image, T | UserError]]:
        found: list[tuple[Image, T | UserError]] = []
        try:
            with frame_of(group[0]) as pixels:
                for image in group:
                    try:
                        found.append((image, work(pixels, image)))
                    except UserError as error:
                        found.append((image, error))
        except UserError as error:
            return [(image, error) for image in group]
        return found

    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[Future] = deque()
    try:
        for _, group in groupby(images, key=lambda image: (image.path, image.array_index)):
            waiting.append(pool.submit(several, list(group)))
            if len(waiting) > 4 * THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """What comes, in lists of ``size``; the last may be shorter."""
    batch: list[T] = []
    for each in found:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def unreadable(images: Sequence[Image]) -> dict[int, str]:
    """Position -> reason of images whose headers already show that they cannot be read: a look ahead of long work."""
    places = list(
        dict.fromkeys(
            (image.path, image.array_index)
            for image in images
            if image.array_index is None or image.path.suffix.lower() in _PACKED
        )
    )
    with ThreadPoolExecutor(THREADS) as pool, bar("check", len(places), leave=False) as progress:
        reasons: dict[tuple, str] = {}
        for place, found in zip(places, pool.map(_reason, places)):
            reasons[place] = found
            progress.update(1)
    return {
        at: reason
        for at, image in enumerate(images)
        if (reason := reasons.get((image.path, image.array_index)))
    }


def bar(title: str, total: int, shown: bool | None = None, **settings):
    """Progress with the time left; nothing where an exported model is used without the rest. shown: None shows it on a
    terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return nullcontext(SimpleNamespace(update=lambda count: None))
    return tqdm(
        desc=title, total=total, unit="image", disable=None if shown is None else not shown, **settings
    )


def _named(path: Path, index: int) -> str:
    return f"{path}, the image at {index}"


def _reason(place: tuple[Path, int | None]) -> str:
    path, index = place
    try:
        if index is None:
            check(path)
        else:
            check(_PACKED[path.suffix.lower()](path, index), name=_named(path, index))
    except UserError as error:
        return str(error)
    return ""


def _from_array(path: Path, position: int) -> np.ndarray:
    try:
        changed = os.stat(path).st_mtime_ns
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: is not a readable array of prepared images ({error}); prepare it again"
        ) from error
    array = _memory_map(str(path), changed)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3):
        raise UserError(
            f"{path}: holds {array.dtype} of shape {array.shape}; expected uint8 of shape (images, height, width, 3)"
        )
    if not 0 <= position < len(array):
        raise UserError(
            f"{path}: has {counted(len(array), 'image')} but number {position} was asked for; prepare it again"
        )
    pixels = array[position]
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


@functools.lru_cache(maxsize=16)
def _memory_map(path: str, changed: int) -> np.ndarray:
    """``changed``, the time of the last change, makes a rewritten file a different entry of the cache."""
    return map_npy(Path(path), "an array of prepared images was expected; prepare it again")
