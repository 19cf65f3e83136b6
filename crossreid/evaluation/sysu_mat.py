"""The exchange format of SYSU-MM01's own evaluation.

``PREFIXcam1.mat`` to ``PREFIXcam6.mat``: a cell ``feature`` (or ``feature_test``) in each, with a matrix for each
identity, a row for each image in the order of the names. Features are compared by their Euclidean distance.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from crossreid.evaluation.stored import Stored
from crossreid.formats import matlab
from crossreid.images.listing import image_names
from crossreid.protocols.results import described
from crossreid.records import Embedding, Metric, UserError

_MAT = re.compile(r"(.*?)cam([1-6])\.mat")


def cameras(path: Path) -> dict[int, Path]:
    """Camera -> file. All have one prefix: that of ``path``, or the only one in a folder."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.glob("*.mat")):
        if match := _MAT.fullmatch(file.name):
            found.setdefault(match[1], {})[int(match[2])] = file
    if path.is_dir():
        if len(found) > 1:
            raise UserError(
                f"{path} holds features of several makes ({', '.join(sorted(found))}): give one of the files, "
                f"such as {next(iter(found[min(found)].values()))}"
            )
        return next(iter(found.values()), {})
    match = _MAT.fullmatch(path.name)
    return found.get(match[1], {}) if match else {}


def read(path: Path, protocol) -> Stored:
    """protocol: the one with the images that the rows belong to."""
    files = cameras(path)
    if not files:
        raise UserError(
            f"{path} is not in the exchange format of SYSU-MM01: files such as NAME_cam1.mat to "
            "NAME_cam6.mat were expected"
        )
    cells, order, features = {}, {}, []
    for image in protocol.images:
        if image.camera not in files:
            raise UserError(
                f"{path.parent if path.is_file() else path} has no file for camera {image.camera}, of which the "
                "protocol needs images"
            )
        if image.camera not in cells:
            cells[image.camera] = _cell(files[image.camera])
        folder = image.path.parent
        if folder not in order:
            order[folder] = {name: row for row, name in enumerate(image_names(folder))}
        cell = cells[image.camera]
        matrix = cell[image.identity - 1] if 0 < image.identity <= len(cell) else np.zeros((0, 0))
        count = len(order[folder])
        if matrix.ndim == 2 and matrix.shape[0] != count and matrix.shape[1] == count:
            matrix = matrix.T
        if matrix.ndim != 2 or len(matrix) != count:
            raise UserError(
                f"{files[image.camera]} has the shape {matrix.shape} for identity {image.identity}, of whom {folder} "
                f"holds {count} images: a row for each was expected. Features and data set do not belong together."
            )
        features.append(matrix[order[folder][image.path.name]])
    lengths = {len(each) for each in features}
    if len(lengths) > 1:
        raise UserError(
            f"{path}: features of {sorted(lengths)} numbers were found, but all must be equally long"
        )
    about = {
        "protocol": described(protocol),
        "method": "unknown",
        "checkpoint": path.name,
        "epoch": None,
        "selection": f"stored features, {path}",
        "notes": list(protocol.notes),
    }
    embedding = Embedding(torch.from_numpy(np.stack(features)).float())
    return Stored(protocol, embedding, {"vector": Metric("euclidean")}, "vector", about)


def _cell(path: Path) -> list[np.ndarray]:
    for name in ("feature", "feature_test"):
        try:
            cell = matlab.read_variables(path, [name])[name]
            break
        except UserError as error:
            if "no variable" not in str(error) or name == "feature_test":
                raise
    if cell.dtype != object:
        raise UserError(
            f"{path}: {name} is an array of numbers, but a cell with a matrix for each identity was expected"
        )
    return [
        np.asarray(matrix, np.float64) if np.size(matrix) else np.zeros((0, 0)) for matrix in cell.ravel()
    ]
