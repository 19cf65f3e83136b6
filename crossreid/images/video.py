"""Frames of a camera by their numbers: images in a folder, or a video file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from crossreid.images.decode import decode
from crossreid.images.listing import image_names
from crossreid.records import UserError, pip_install

_NUMBER = re.compile(r"\d+")


def frames(path: Path, wanted: set[int], first: int = 1) -> Iterator[tuple[int, np.ndarray | Path]]:
    """The number and the pixels (H, W, 3) uint8 RGB of each wanted frame, in order; what a folder has is given by its
    path, for it to be found again. Frames that are not there, or of a video that cannot be decoded, are passed over.

    path: a folder of images, whose last number in the name is that of the frame (or whose place is, where names have no
        numbers); or a video, which needs PyAV. first: the number of the first frame, 1 or 0; where it is 0 and the
        names in a folder begin at 1, these count one less.
    Raises UserError where there is no frame at all.
    """
    if path.is_dir():
        numbered = folder_frames(path, first)
        yield from ((number, numbered[number]) for number in sorted(wanted & numbered.keys()))
        return
    yield from _video(path, wanted, first)


def folder_frames(folder: Path, first: int = 1) -> dict[int, Path]:
    """The images of a folder by the numbers of their frames, see ``frames``."""
    names = image_names(folder)
    if not names:
        raise UserError(
            f"{folder} holds no images: the frames of the camera are expected there, such as 000001.jpg"
        )
    found = [_NUMBER.findall(Path(name).stem) for name in names]
    numbers = [int(each[-1]) if each else None for each in found]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(first, len(names) + first))
    known = [(number, name) for number, name in zip(numbers, names) if number is not None]
    less = 1 if first == 0 and min(known)[0] == 1 else 0
    return {number - less: folder / name for number, name in known}


def rate(path: Path) -> float | None:
    """Frames a second of a video, None where it does not say. Raises UserError for a file that is no video."""
    with _opened(path) as (_, stream):
        return float(stream.average_rate) if stream.average_rate else None


def _video(path: Path, wanted: set[int], first: int) -> Iterator[tuple[int, np.ndarray]]:
    last, number, lost = max(wanted, default=0), first - 1, 0
    with _opened(path) as (video, stream):
        from av.error import FFmpegError

        stream.thread_type = "AUTO"
        speed, begin = float(stream.average_rate or 0), None
        for packet in video.demux(stream):
            try:
                decoded = packet.decode()
            except FFmpegError:
                lost += 1
                continue
            for frame in decoded:
                number += 1
                # By its time, so that one that was lost does not move those after it.
                if frame.time is not None and speed:
                    begin = frame.time if begin is None else begin
                    number = max(number, round((frame.time - begin) * speed) + first)
                if number in wanted:
                    yield number, frame.to_ndarray(format="rgb24")
            if number >= last:
                break
    if number < first:
        raise UserError(f"{path} has no frames: it is empty, or none of it can be decoded")
    if lost:
        warnings.warn(
            f"{path}: {lost} parts of the video cannot be decoded and are passed over", stacklevel=2
        )


@contextmanager
def _opened(path: Path):
    """The video and its stream of pictures."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"{path} is a video, which needs PyAV, not installed here: {pip_install('video')}; or write its "
            "frames into a folder"
        ) from error
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise UserError(f"{path} has no picture: expected a video")
            yield video, video.streams.video[0]
    except av.error.FFmpegError as error:
        raise UserError(
            f"{path} cannot be read as a video ({error}): copy it again, or write its frames into a folder"
        ) from error


def pixels(frame: np.ndarray | Path) -> np.ndarray:
    """What ``frames`` gave, decoded. Raises UserError for an image that cannot be."""
    return decode(frame) if isinstance(frame, Path) else frame
