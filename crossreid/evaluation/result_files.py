"""Features that other programs leave behind for their own evaluation.

The result file of Person_reID_baseline_pytorch and its many descendants: ``gallery_f`` (G, D), ``gallery_label``,
``gallery_cam``, ``query_f`` (Q, D), ``query_label``, ``query_cam`` in a ``.mat``, or the same in a ``.npz``. Label
-1 is junk, 0 a distractor. Features are compared by cosine.

The text files of AlignedReID++ for Ascend 310: ``feature_data.txt``, ``localfeature_data.txt``, ``savepid.txt`` and
``savecamid.txt`` in ``query_result_Files`` and in ``gallery_result_Files``, one number a line. The first holds the
global features one after another, the second the stripes, channel by channel.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from crossreid import memory
from crossreid.evaluation.feature_tables import between, labelled, text
from crossreid.evaluation.stored import Stored
from crossreid.formats import matlab
from crossreid.records import Embedding, Image, Metric, UserError, counted

SIDES = ("query", "gallery")
RESULT = tuple(f"{side}_{what}" for side in SIDES for what in ("f", "label", "cam"))
_FILES = ("feature_data.txt", "savepid.txt", "savecamid.txt")
_LOCAL = "localfeature_data.txt"


def is_result(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the arrays are meant as a result file."""
    return "gallery_f" in arrays and "query_f" in arrays


def read_result(
    path: Path, same_camera: bool, keep_junk: bool = False, arrays: Mapping[str, np.ndarray] | None = None
) -> Stored:
    """arrays: of a ``.npz``; without them ``path`` is a ``.mat``."""
    if arrays is None:
        arrays = matlab.read_variables(path, RESULT)
    missing = [name for name in RESULT if name not in arrays]
    if missing:
        raise UserError(
            f"{path} holds {', '.join(sorted(arrays))}, but {', '.join(missing)} of the result file is "
            "missing: query and gallery each need their features (f), identities (label) and cameras (cam)"
        )
    labels, embeddings = [], []
    for side in SIDES:
        features, people, cameras = (np.asarray(arrays[f"{side}_{what}"]) for what in ("f", "label", "cam"))
        if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
            raise UserError(
                f"{path}: {side}_f is of the type {features.dtype} and the shape {features.shape}: "
                "numbers (N, D) are expected"
            )
        people, cameras = people.reshape(-1), cameras.reshape(-1)
        for name, values in (("label", people), ("cam", cameras)):
            if len(values) != len(features):
                raise UserError(
                    f"{path}: {side}_{name} has {counted(len(values), 'value')} for "
                    f"{counted(len(features), 'feature')}: one each is expected"
                )
        labels.append(
            [
                labelled(Path(f"{path} {side} {row}"), str(text(who)), text(seen))
                for row, (who, seen) in enumerate(zip(people.tolist(), cameras.tolist()))
            ]
        )
        embeddings.append(Embedding(torch.from_numpy(features.astype(np.float32))))
    if embeddings[0].feature.shape[1] != embeddings[1].feature.shape[1]:
        raise UserError(
            f"{path}: query_f has {embeddings[0].feature.shape[1]} numbers an image and gallery_f "
            f"{embeddings[1].feature.shape[1]}: both must come from one model"
        )
    return between(
        labels,
        embeddings,
        {"vector": Metric("cosine")},
        "vector",
        same_camera=same_camera,
        keep_junk=keep_junk,
        place=str(path),
        about={"method": "unknown", "checkpoint": path.name},
    )


def is_inference(path: Path) -> bool:
    """Whether a folder holds the text files of an inference on Ascend 310."""
    return path.is_dir() and (
        (path / _FILES[0]).is_file() or (path / "query_result_Files" / _FILES[0]).is_file()
    )


def read_inference(path: Path, gallery: Path | None, same_camera: bool, keep_junk: bool = False) -> Stored:
    """path: the folder that holds those of query and gallery, or that of the queries; then the gallery's is
    ``gallery``, or lies beside it."""
    from crossreid.methods.alignedreid import COMPARISONS as METRICS

    if (path / "query_result_Files").is_dir():
        folders = [path / f"{side}_result_Files" for side in SIDES]
    else:
        folders = [path, gallery or path.parent / "gallery_result_Files"]
    labels, embeddings = zip(*(_inference(folder) for folder in folders))
    local = [each.stripes is not None for each in embeddings]
    if local[0] != local[1]:
        raise UserError(f"only one of {folders[0]} and {folders[1]} has {_LOCAL}: both need it, or none")
    metrics = {name: metric for name, metric in METRICS.items() if local[0] or metric.stripes is None}
    return between(
        labels,
        embeddings,
        metrics,
        next(iter(metrics)),
        same_camera=same_camera,
        keep_junk=keep_junk,
        place=f"{folders[0]} and {folders[1]}",
        about={"method": "alignedreid", "checkpoint": path.name},
    )


def _inference(folder: Path) -> tuple[list[Image], Embedding]:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}: the folders query_result_Files and gallery_result_Files "
            f"of an inference are expected, each with {', '.join(_FILES)} and perhaps {_LOCAL}"
        )
    feature, people, cameras = (_numbers(folder / name) for name in _FILES)
    count = len(people)
    if not count or len(cameras) != count or len(feature) % count or not len(feature):
        raise UserError(
            f"{folder} holds {count} identities, {len(cameras)} cameras and {len(feature)} numbers of "
            "features: as many cameras as identities, and for each the same count of numbers, are expected. "
            "Inference adds to the files that it finds: remove them and run it again."
        )
    channels = len(feature) // count
    stripes = None
    if (folder / _LOCAL).is_file():
        local = _numbers(folder / _LOCAL)
        if len(local) % (count * channels) or not len(local):
            raise UserError(
                f"{folder / _LOCAL} holds {len(local)} numbers, which {count} images with {channels} "
                "channels do not divide: stripes of the same images are expected"
            )
        # Channel by channel, with the height last.
        stripes = torch.from_numpy(local.reshape(count, channels, -1).transpose(0, 2, 1).copy())
    labels = [
        labelled(Path(f"{folder} {row}"), str(int(who)), str(int(seen)))
        for row, (who, seen) in enumerate(zip(people, cameras))
    ]
    return labels, Embedding(torch.from_numpy(feature.reshape(count, channels)), stripes)


def _numbers(path: Path) -> np.ndarray:
    # A number has about ten characters, and four bytes.
    memory.require(path.stat().st_size // 2, f"the numbers of {path}", "score a smaller gallery")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromfile(path, np.float32, sep=" ")
        except (OSError, ValueError, DeprecationWarning) as error:
            raise UserError(f"{path} cannot be read as numbers, one a line ({error})") from error
