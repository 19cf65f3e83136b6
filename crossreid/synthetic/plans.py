"""What to render and what lies beside it: the plan of a data set on disk."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossreid.records import VISIBLE
from crossreid.synthetic.keys import generator

# People who are nobody's match are numbered from here, so that they look like nobody else.
STRANGERS = 1_000_000


@dataclass(frozen=True)
class Crop:
    """One file to render.

    path: below the root, with the data set's own name. identity: who is rendered. camera, place: see
    ``cameras.camera``. index: the moment. size: (height, width) in pixels. jitter: strength of box errors,
    times the user's. yaw: orientation in radians where the file's name tells it. occlusion: how likely
    something stands in front.
    """

    path: str
    identity: int
    camera: int
    index: int
    modality: str = VISIBLE
    place: int | None = None
    size: tuple[int, int] = (128, 64)
    jitter: float = 1.0
    yaw: float | None = None
    occlusion: float = 0.12


@dataclass
class Plan:
    """images: what to render. files: path -> bytes to write as they are. folders: to be there even without a file.
    finish: None, or called with the root when all images are there, for containers of images."""

    images: list[Crop] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    finish: Callable[[Path], None] | None = None


def cameras_of(identity: int, seed: int, cameras: int, most: int | None = None) -> list[int]:
    """The cameras, from 1, that one person passes: at least two, at most ``most``."""
    rng = generator("cameras passed", seed, identity)
    count = int(rng.integers(2, (most or cameras) + 1))
    return sorted(int(camera) + 1 for camera in rng.permutation(cameras)[:count])


def lines(rows: Iterable[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def matlab(variables: dict) -> bytes:
    """A MATLAB file of version 5, without the time of writing that its header usually holds."""
    from scipy.io import savemat

    stream: Any = io.BytesIO()  # the stubs know paths alone
    savemat(stream, variables, oned_as="column")
    content = bytearray(stream.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file, synthetic people".ljust(116)
    return bytes(content)


def cells(values: Iterable) -> np.ndarray:
    """A column of MATLAB cells."""
    values = list(values)
    column = np.empty((len(values), 1), object)
    for row, value in enumerate(values):
        column[row, 0] = value
    return column
