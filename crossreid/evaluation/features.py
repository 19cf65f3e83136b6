"""Stored features: written by an evaluation, by ``crossreid embed``, or by the programs of others.

``features.npz`` of an evaluation holds everything: features, stripes, who is on each image, and the trials. It is
scored again without the model, the images or the data set.

A ``.npz`` of ``crossreid embed`` holds ``vectors`` (N, D), perhaps ``stripes``, and columns: ``feature_tables``
reads it, and likewise a ``.npy`` with its table of rows (``mapped``), and Parquet fragments and Lance data sets
(``columnar``), whose vectors stay on the disk.
``result_files`` reads what other programs leave behind, ``sysu_mat`` the exchange format of SYSU-MM01.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossreid.evaluation import feature_tables, result_files, sysu_mat
from crossreid.evaluation.archive import (
    LABELS,
    archive,
    check_archive,
    read_metrics,
    stripes_size,
    written_metrics,
)
from crossreid.evaluation.columnar import columnar, is_columnar
from crossreid.evaluation.mapped import mapped
from crossreid.evaluation.stored import Recorded, Stored, embedding_of
from crossreid.files import replacing, understood
from crossreid.formats.shape import TEXT, unlike
from crossreid.formats.text import parse_json
from crossreid.records import Image, Trial, UserError

_FORM = 1
_TABLES = (".csv", ".tsv", ".parquet")


def write_stored(
    path: Path,
    stored: Stored,
    split: str = "test",
    *,
    half_stripes: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Write ``features.npz``; plain arrays by the names that the module tells, nothing in it is ever executed.

    half_stripes: in float16.
    """
    protocol, embedding = stored.protocol, stored.embedding
    arrays: dict[str, Any] = {
        name: np.array([getattr(image, name) for image in protocol.images]) for name in LABELS
    }
    arrays["path"] = np.array([str(image.path.resolve()) for image in protocol.images], dtype=str)
    arrays["array_index"] = np.array(
        [-1 if image.array_index is None else image.array_index for image in protocol.images]
    )
    arrays["box"] = np.array([image.box or (-1,) * 4 for image in protocol.images])
    if embedding.stripes is not None:
        log(stripes_size(path, embedding.stripes.shape, half_stripes))
        arrays["stripes"] = embedding.stripes.numpy().astype(np.float16 if half_stripes else np.float32)
    names = []
    for number, trial in enumerate(protocol.trials()):
        names.append(trial.subset)
        arrays[f"query_{number}"], arrays[f"gallery_{number}"] = trial.query, trial.gallery
        if trial.excluded is not None:
            arrays[f"excluded_query_{number}"], arrays[f"excluded_gallery_{number}"] = trial.excluded
    record = {
        "form": _FORM,
        "cmc": protocol.cmc,
        "average": protocol.average,
        "trials": names,
        "about": stored.about,
        "settings": stored.settings,
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            **arrays,
            vectors=embedding.feature.numpy(),
            split=np.array(split),
            feature=np.array(stored.feature),
            metrics=written_metrics(stored.metrics),
            record=np.array(json.dumps(record)),
        )


def read_stored(
    path: str | Path,
    gallery: str | Path | None = None,
    *,
    pattern: str | None = None,
    same_camera: bool = True,
    protocol=None,
    keep_junk: bool = False,
) -> Stored:
    """Features from one of the forms that the module tells.

    path: a ``.npz``, a ``.npy``, a ``.mat``, a folder of Parquet fragments, a Lance data set, or a folder of ``.mat``
        or text files.
    gallery: a second one, but no ``.mat``, whose features are the gallery of those in ``path``.
    pattern: how names are read where identities are not given, see ``crossreid.data.two_folders.read``.
    same_camera: of the protocol that is made of such files.
    protocol: for the exchange format of SYSU-MM01, the protocol with the images that the rows belong to; for those
        of an evaluation, another one than its own.
    keep_junk: whether identity -1 is an identity like any other; else what has it is left out.

    Raises UserError that says what was expected.
    """
    path = Path(path)
    if result_files.is_inference(path):
        return result_files.read_inference(path, Path(gallery) if gallery else None, same_camera, keep_junk)
    if not is_columnar(path) and (path.is_dir() or sysu_mat.cameras(path)):
        if protocol is None:
            raise UserError(
                f"{path} holds features by camera, identity and order of the images: name the settings and the data "
                "set they belong to, such as --config agw_sysu_mm01 --data.roots.sysu_mm01 FOLDER"
            )
        return sysu_mat.read(path, protocol)
    if path.suffix == ".mat":
        return result_files.read_result(path, same_camera, keep_junk)
    arrays = _arrays(path)
    if "record" in arrays:
        stored = _recorded(arrays, path)
        return stored if protocol is None else stored.under(protocol)
    if result_files.is_result(arrays):
        return result_files.read_result(path, same_camera, keep_junk, arrays)
    check_archive(arrays, path)
    sides = [(arrays, path)]
    if gallery is not None:
        other = _arrays(Path(gallery))
        check_archive(other, Path(gallery))
        sides.append((other, Path(gallery)))
    return feature_tables.read(sides, pattern, same_camera, keep_junk)


def is_stored(path: str | Path) -> bool:
    """Whether the path is meant as stored features."""
    path = Path(path)
    return (
        path.suffix in (".npz", ".npy", ".mat")
        or path.suffix.lower() in _TABLES
        or is_columnar(path)
        or (path.is_dir() and (result_files.is_inference(path) or bool(sysu_mat.cameras(path))))
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() in _TABLES:
        raise UserError(
            f"{path} is a table, from which no features are scored: give them as .npz or .npy, which `crossreid embed "
            "--out` writes, as .mat or .lance, or as the folder that `crossreid embed --ray` writes"
        )
    if is_columnar(path):
        return columnar(path)
    return mapped(path) if path.suffix == ".npy" else archive(path)


def recorded_settings(path: str | Path) -> dict | None:
    """The settings of the evaluation that wrote a ``features.npz``, if that is what it is."""
    path = Path(path)
    arrays = archive(path) if path.suffix == ".npz" else {}
    return _recorded(arrays, path).settings if "record" in arrays else None


_RECORDED = {
    "name": TEXT,
    "description": TEXT,
    "cmc": lambda value: value in ("image", "identity"),
    "average": lambda value: value in ("trials", "queries"),
    "notes": lambda value: all(map(TEXT, value)),
    "provenance": TEXT,
}


def _recorded(arrays, path: Path) -> Stored:
    again = "write it again with `crossreid evaluate --evaluate.features true`"
    check_archive(arrays, path)
    with understood(path, again):
        record = parse_json(str(arrays["record"]))
        if record["form"] > _FORM:
            raise UserError(f"{path} was written by a newer crossreid: install that, or evaluate again")
        boxes = arrays["box"].tolist()
        images = [
            Image(
                Path(str(name)),
                int(identity),
                int(camera),
                str(modality),
                int(domain),
                array_index=None if index < 0 else int(index),
                box=None if box[0] < 0 else tuple(box),
            )
            for name, identity, camera, modality, domain, index, box in zip(
                *(arrays[name] for name in ("path", *LABELS, "array_index")), boxes, strict=True
            )
        ]
        trials = []
        for number, subset in enumerate(record["trials"]):
            excluded = None
            if f"excluded_query_{number}" in arrays:
                excluded = arrays[f"excluded_query_{number}"], arrays[f"excluded_gallery_{number}"]
            trials.append(Trial(subset, arrays[f"query_{number}"], arrays[f"gallery_{number}"], excluded))
            _check_trial(trials[-1], len(images))
        about, feature = record["about"], str(arrays["feature"])
        protocol = Recorded(
            about["protocol"]["name"],
            about["protocol"]["description"],
            record["cmc"],
            record["average"],
            tuple(about["notes"]),
            images,
            tuple(trials),
            about["protocol"].get("provenance", ""),
        )
        if wrong := unlike(vars(protocol), _RECORDED):
            raise ValueError(f"{wrong} of the protocol is not known")
    metrics = read_metrics(arrays, path)
    if feature not in metrics:
        raise UserError(
            f"{path} was made to compare the feature {feature!r}, and does not hold what that needs: {again}"
        )
    return Stored(protocol, embedding_of(arrays), metrics, feature, about, record.get("settings"))


def _check_trial(trial: Trial, count: int) -> None:
    """Raise ValueError for a trial that asks for images that are not there."""
    sides = trial.query, trial.gallery
    if not isinstance(trial.subset, str) or any(
        side.ndim != 1
        or side.dtype.kind not in "iu"
        or not len(side)
        or side.min() < 0
        or side.max() >= count
        for side in sides
    ):
        raise ValueError("a trial does not name images")
    if trial.excluded is not None and any(
        keys.shape != side.shape or keys.dtype.kind not in "iu" for keys, side in zip(trial.excluded, sides)
    ):
        raise ValueError("a trial does not say which pairs to exclude")
