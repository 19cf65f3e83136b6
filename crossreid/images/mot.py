"""Boxes that a tracker wrote, in the text format of MOTChallenge, as tracks that are of one person each."""

from __future__ import annotations

import configparser
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from crossreid import files
from crossreid.formats.text import read_text
from crossreid.records import UserError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Track:
    """name: the tracker's number, with ``.2``, ``.3``, ... where it was given again. frames: numbers, ascending.
    boxes: (left, top, right, bottom) in pixels in each of them."""

    name: str
    frames: tuple[int, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class MOTSequence:
    """What ``seqinfo.ini`` of a MOTChallenge folder says. boxes: the text. images: the folder. rate: frames a second.
    size: (width, height) of the frames."""

    name: str
    boxes: Path
    images: Path
    rate: float | None
    size: tuple[int, int] | None


def read(path: Path, pause: int) -> list[Track]:
    """The tracks of a text whose lines begin ``frame, id, left, top, width, height``, with commas or blanks between;
    what follows does nothing, but a confidence of 0, by which MOTChallenge marks what is not to be counted.

    pause: a track that is away for more than so many frames and comes back is another one: trackers use numbers again.
    Lines may come in any order. Raises UserError that names the first line which is none.
    """
    found: dict[str, dict[int, Box]] = defaultdict(dict)
    twice = ignored = 0
    for line, (frame, name, box, counted) in _lines(path):
        if name == "-1":
            raise UserError(
                f"{path}, line {line}: the id is -1: these are detections that no tracker has followed; give the text "
                "that your tracker wrote"
            )
        if not counted:
            ignored += 1
        elif frame in found[name]:
            twice += 1
        else:
            found[name][frame] = box
        if frame < 0:
            raise UserError(
                f"{path}, line {line}: the frame {frame} is none: frames are counted from 1, or from 0"
            )
    if twice:
        warnings.warn(
            f"{path}: {twice} lines give a track a second box in one frame, and the first counts",
            stacklevel=2,
        )
    if ignored:
        warnings.warn(f"{path}: {ignored} lines have the confidence 0 and are left out", stacklevel=2)
    tracks = [track for name, boxes in found.items() for track in _parts(name, boxes, pause)]
    if not tracks:
        raise UserError(
            f"{path} holds no boxes: lines such as 1,7,100,50,40,90 were expected (frame, id, box)"
        )
    return tracks


def sequence(folder: Path) -> MOTSequence:
    """A folder of MOTChallenge: ``seqinfo.ini``, and tracks in ``gt`` or beside it; those in ``det`` have no ids."""
    parser = configparser.ConfigParser(interpolation=None)
    expected = "expected a folder of MOTChallenge, or the text of the boxes and --frames"
    with files.understood(folder / "seqinfo.ini", expected):
        parser.read_string(read_text(folder / "seqinfo.ini", expected))
        about = parser["Sequence"]
        rate = about.getfloat("frameRate", fallback=None)
        width, height = (about.getint(name, fallback=0) for name in ("imWidth", "imHeight"))
        images = folder / about.get("imDir", fallback="img1")
        if not images.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{folder}: seqinfo.ini names frames outside of it, {images}: give them by --frames"
            )
    boxes = [folder / "gt" / "gt.txt", folder / f"{folder.name}.txt"]
    found = next((path for path in boxes if path.is_file()), None)
    if found is None:
        raise UserError(
            f"{folder} holds neither gt/gt.txt nor {folder.name}.txt: give the text that your tracker wrote"
        )
    return MOTSequence(
        about.get("name", fallback=folder.name),
        found,
        images,
        rate if rate and rate > 0 else None,
        (width, height) if width > 0 and height > 0 else None,
    )


def _lines(path: Path):
    with files.opened(path) as file:
        content = file.read()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not text ({error}): lines such as 1,7,100,50,40,90 were expected"
        ) from error
    for number, line in enumerate(lines, 1):
        fields = [field for field in re.split(r"[,;\s]+", line.strip()) if field]
        if not fields or fields[0].startswith("#"):
            continue
        try:
            frame, name = int(float(fields[0])), str(int(float(fields[1])))
            left, top, width, height = map(float, fields[2:6])
            counted = len(fields) < 7 or float(fields[6]) != 0
        except (ValueError, OverflowError, IndexError) as error:
            raise UserError(
                f"{path}, line {number}: {line[:80]!r} was not understood: expected frame, id, left, top, width, height"
            ) from error
        yield number, (frame, name, (left, top, left + width, top + height), counted)


def _parts(name: str, boxes: dict[int, Box], pause: int) -> list[Track]:
    frames = sorted(boxes)
    parts: list[list[int]] = [[]]
    for frame in frames:
        if parts[-1] and frame - parts[-1][-1] > pause:
            parts.append([])
        parts[-1].append(frame)
    return [
        Track(name if number == 1 else f"{name}.{number}", tuple(part), tuple(boxes[frame] for frame in part))
        for number, part in enumerate(parts, 1)
    ]
