"""The people in frames of video: rows of boxes as detectors and trackers write them, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from PIL import Image as PILImage

from crossreid.images.arrays import checked, is_tensor
from crossreid.images.decode import crop, decode
from crossreid.images.reading import read
from crossreid.records import Image, UserError, check_choice

ORDERS = ("rgb", "bgr")
BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
BAD = ("raise", "nan", "random", "skip")


@dataclass(frozen=True, slots=True)
class Crop:
    """One image to embed: of a list, or what a box shows of a frame.

    pixels: (h, w, 3) uint8, or what is wrong with it. blue_first: the order of their channels.
    place: position of its image, or frame, among those given. box: position of its box in the frame, None without.
    source: the image, or frame, as it was given.
    """

    pixels: np.ndarray | UserError
    blue_first: bool
    place: int
    box: int | None
    source: object


def is_one(images) -> bool:
    """Whether this is one image, and not several: an array of texts or objects holds paths, or images."""
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OUT":
        return False
    return (
        isinstance(images, (str, bytes, bytearray, memoryview, PILImage.Image, Image))
        or hasattr(images, "read")
        or hasattr(images, "__fspath__")
        or ((isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim < 4)
    )


def crops(images: Iterable, boxes: Iterable | None, order: str, box_format: str) -> Iterator[Crop]:
    """Each image, or what each box shows of each frame, in order. Nothing is kept of what has been given.

    images: several, or frames with as many lists of ``boxes``; both may be generators. order: of the channels of arrays
        and tensors; files and Pillow images know theirs.
    Raises UserError where the numbers of frames and of lists differ.
    """
    check_choice("order", order, ORDERS)
    check_choice("box_format", box_format, BOX_FORMATS)
    if boxes is None:
        for place, image in enumerate(images):
            yield Crop(*_pixels(image, order), place, None, image)
        return
    missing = object()
    for place, (image, rows) in enumerate(zip_longest(images, boxes, fillvalue=missing)):
        if image is missing or rows is missing:
            what = "frames" if image is missing else "lists of boxes"
            raise UserError(
                f"there are {place} {what} and more of the other: expected a list of boxes, perhaps an "
                "empty one, for each frame"
            )
        frame, blue_first = _pixels(image, order)
        for number, box in enumerate(corners(rows, box_format)):
            found: np.ndarray | UserError = frame
            if isinstance(frame, np.ndarray):
                try:
                    found = crop(frame, box)
                except UserError as error:
                    found = error
            yield Crop(found, blue_first, place, number, image)


def corners(rows, box_format: str = "xyxy") -> np.ndarray:
    """(N, 4) left, top, right and bottom of N boxes.

    rows: N rows of 4 to 8 numbers, of which the first 4 are the box and the others (track, confidence, class, ...) do
        nothing. box_format: ``"xyxy"``, ``"xywh"`` (left, top, width, height) or ``"cxcywh"`` (centre first).
    Raises UserError for rows of another length.
    """
    if is_tensor(rows):
        rows = rows.detach().cpu().numpy()
    try:
        array = np.asarray(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the boxes of a frame were not understood ({error}): expected rows of 4 to 8 numbers, the box first"
        ) from error
    if not array.size:
        return np.zeros((0, 4))
    if array.ndim != 2 or not 4 <= array.shape[1] <= 8:
        raise UserError(
            f"the boxes of a frame have the shape {array.shape}: expected rows of 4 to 8 numbers, the box first"
        )
    boxes = array[:, :4].copy()
    if box_format == "cxcywh":
        boxes[:, :2] -= boxes[:, 2:] / 2
    if box_format != "xyxy":
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def boxes_of_one(images, boxes) -> bool:
    """Whether boxes, given with a list of images, are the rows of a single frame and not a list for each."""
    if not isinstance(images, Sequence) or len(images) != 1 or not hasattr(boxes, "__len__"):
        return False
    return np.ndim(boxes) == 2 if isinstance(boxes, np.ndarray) else len(boxes) > 0 and _is_row(boxes[0])


def _is_row(row) -> bool:
    return hasattr(row, "__len__") and len(row) >= 4 and not hasattr(row[0], "__len__")


def _pixels(image, order: str) -> tuple[np.ndarray | UserError, bool]:
    """The pixels, and whether blue comes first in them."""
    try:
        if isinstance(image, np.ndarray) or is_tensor(image):
            return checked(image), order == "bgr"
        return read(image) if isinstance(image, Image) else decode(image), False
    except UserError as error:
        return error, False
