"""Features on disk: written by an evaluation, by ``crossreid embed``, or by the programs of SYSU-MM01.

Three forms are read.

``features.npz`` of an evaluation holds everything: vectors, stripes, who is on each image, and the trials. It is
scored again without the model, the images or the data set.

A ``.npz`` with ``vectors`` (N, D) and, for each of them, ``identity``, perhaps ``camera``, and ``split`` (query or
gallery), as ``crossreid embed`` makes it of a table with these columns; or two such files, one for each. Without
``identity`` the names under ``path`` are read.

``PREFIXcam1.mat`` to ``PREFIXcam6.mat``, the exchange format of SYSU-MM01's own evaluation: a cell ``feature`` (or
``feature_test``) in each, with a matrix for each identity, a row for each image in the order of the names.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crossreid.data import two_folders
from crossreid.files import replacing
from crossreid.formats import matlab
from crossreid.images import labels
from crossreid.images.listing import image_names
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import MODALITIES, VISIBLE, Embedding, Image, Metric, Trial, UserError

_FORM = 1
_LABELS = ("identity", "camera", "modality", "domain")
_MAT = re.compile(r"(.*?)cam([1-6])\.mat")


@dataclass(frozen=True)
class Stored:
    """Features with all that scoring them needs.

    protocol: as in ``crossreid.protocols``. embedding: of its images. metric: how they are compared. about: what
    ``evaluation.json`` says of their origin. settings: those of the evaluation that wrote them, a plain dict, where
    they are known.
    """

    protocol: object
    embedding: Embedding
    metric: Metric
    about: dict
    settings: dict | None = None

    def under(self, protocol) -> Stored:
        """The same features by another protocol, whose images must be among those embedded."""
        known = {_place(image): row for row, image in enumerate(self.protocol.images)}
        missing = [image for image in protocol.images if _place(image) not in known]
        if missing:
            raise UserError(
                f"the features lack {len(missing)} of the {len(protocol.images)} images that this protocol needs, "
                f"the first is {missing[0].path}: evaluate the checkpoint by this protocol, or score the features "
                "by the one they were made for"
            )
        rows = np.array([known[_place(image)] for image in protocol.images])
        about = self.about | {"protocol": {"name": protocol.name, "description": protocol.description}}
        about["notes"] = list(protocol.notes)
        return Stored(protocol, self.embedding[rows], self.metric, about, self.settings)


@dataclass(frozen=True)
class Recorded:
    """A protocol as a file recorded it."""

    name: str
    description: str
    cmc: str
    average: str
    notes: tuple[str, ...]
    images: list[Image]
    recorded: tuple[Trial, ...]

    def trials(self) -> list[Trial]:
        return list(self.recorded)


def write_stored(path: Path, stored: Stored, split: str = "test") -> None:
    """Write ``features.npz``; plain arrays by the names that the module tells, nothing in it is ever executed."""
    protocol, embedding = stored.protocol, stored.embedding
    arrays = {name: np.array([getattr(image, name) for image in protocol.images]) for name in _LABELS}
    arrays["path"] = np.array([str(image.path.resolve()) for image in protocol.images], dtype=str)
    arrays["array_index"] = np.array(
        [-1 if image.array_index is None else image.array_index for image in protocol.images]
    )
    arrays["box"] = np.array([image.box or (-1,) * 4 for image in protocol.images])
    if embedding.stripes is not None:
        arrays["stripes"] = embedding.stripes.numpy()
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
    }
    record["settings"] = stored.settings
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            vectors=embedding.feature.numpy(),
            split=split,
            feature=stored.about["feature"],
            record=json.dumps(record),
            **arrays,
        )


def read_stored(
    path: str | Path,
    gallery: str | Path | None = None,
    *,
    pattern: str | None = None,
    same_camera: bool = True,
    protocol=None,
) -> Stored:
    """Features from one of the forms that the module tells.

    path: a ``.npz``, a ``PREFIXcamN.mat`` or the folder of such files.
    gallery: a second ``.npz``, whose vectors are the gallery of those in ``path``.
    pattern: how names are read where identities are not given, see ``crossreid.data.two_folders.read``.
    same_camera: of the protocol that is made of such files.
    protocol: for ``.mat`` files, the protocol with the images that the rows belong to; for those of an evaluation,
        another one than its own.

    Raises UserError that says what was expected.
    """
    path = Path(path)
    if path.suffix == ".mat" or path.is_dir():
        if protocol is None:
            raise UserError(
                f"{path} holds features by camera, identity and order of the images: name the settings and the data "
                "set they belong to, such as --config agw_sysu_mm01 --data.roots.sysu_mm01 FOLDER"
            )
        return _of_cameras(path, protocol)
    arrays = _arrays(path)
    if "record" in arrays:
        stored = _recorded(arrays, path)
        return stored if protocol is None else stored.under(protocol)
    sides = [(arrays, path)]
    if gallery is not None:
        sides.append((_arrays(Path(gallery)), Path(gallery)))
    return _table(sides, pattern, same_camera)


def is_stored(path: str | Path) -> bool:
    """Whether the path is meant as stored features."""
    path = Path(path)
    return path.suffix in (".npz", ".mat") or (path.is_dir() and bool(_cameras(path)))


def recorded_settings(path: str | Path) -> dict | None:
    """The settings of the evaluation that wrote a ``features.npz``, if that is what it is."""
    path = Path(path)
    arrays = _arrays(path) if path.suffix == ".npz" else {}
    return _recorded(arrays, path).settings if "record" in arrays else None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    expected = (
        "expected a NumPy archive with vectors (N, D), as `crossreid evaluate --evaluate.features true` or "
    )
    expected += "`crossreid embed` writes it"
    if not path.is_file():
        raise UserError(f"there are no features at {path}: {expected}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}): {expected}") from error
    vectors = arrays.get("vectors")
    if vectors is None or vectors.ndim != 2 or vectors.dtype.kind != "f" or not len(vectors):
        held = f"vectors of shape {vectors.shape}" if vectors is not None else ", ".join(arrays) or "nothing"
        raise UserError(f"{path} holds {held}: {expected}")
    for name in (*_LABELS, "path", "array_index"):
        if name in arrays and arrays[name].shape != (len(vectors),):
            raise UserError(
                f"{path}: {name} has the shape {arrays[name].shape}, but there are {len(vectors)} vectors: one value "
                "each was expected"
            )
    return arrays


def _embedding(arrays) -> Embedding:
    stripes = arrays.get("stripes")
    return Embedding(
        torch.from_numpy(arrays["vectors"]).float(),
        None if stripes is None else torch.from_numpy(stripes).float(),
    )


def _recorded(arrays, path: Path) -> Stored:
    try:
        record = json.loads(str(arrays["record"]))
        if record["form"] > _FORM:
            raise UserError(f"{path} was written by a newer crossreid: install that, or evaluate again")
        box = arrays["box"].tolist()
        images = [
            Image(
                Path(str(name)),
                int(identity),
                int(camera),
                str(modality),
                int(domain),
                array_index=None if row < 0 else int(row),
                box=None if edges[0] < 0 else tuple(edges),
            )
            for name, identity, camera, modality, domain, row, edges in zip(
                *(arrays[name] for name in ("path", *_LABELS, "array_index")), box, strict=True
            )
        ]
        trials = []
        for number, row in enumerate(record["trials"]):
            excluded = None
            if f"excluded_query_{number}" in arrays:
                excluded = arrays[f"excluded_query_{number}"], arrays[f"excluded_gallery_{number}"]
            trials.append(Trial(row, arrays[f"query_{number}"], arrays[f"gallery_{number}"], excluded))
        about, metric = record["about"], Metric(**record["about"]["metric"])
        protocol = Recorded(
            about["protocol"]["name"],
            about["protocol"]["description"],
            record["cmc"],
            record["average"],
            tuple(about["notes"]),
            images,
            tuple(trials),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is incomplete ({type(error).__name__}: {error}): write it again with `crossreid evaluate "
            "--evaluate.features true`"
        ) from error
    if metric.stripes and "stripes" not in arrays:
        raise UserError(
            f"{path} was made to compare stripes and holds none: write it again with `crossreid evaluate "
            "--evaluate.features true`"
        )
    return Stored(protocol, _embedding(arrays), metric, about, record.get("settings"))


def _place(image: Image) -> tuple:
    return image.path.resolve(), image.array_index, image.box


def _table(sides, pattern, same_camera) -> Stored:
    """Vectors with columns: one file with the column split, or two files (query, gallery)."""
    people, arrays = [], []
    for table, path in sides:
        people.append(_columns(table, path, pattern))
        arrays.append(table)
    (table, path), names = sides[0], [str(path) for _, path in sides]
    if len(sides) == 1:
        splits = table.get("split")
        if splits is None or splits.shape != (len(table["vectors"]),):
            raise UserError(
                f"{path} does not say which vectors are queries: give the gallery's as a second file with --gallery, "
                "or a column split with the words query and gallery"
            )
        words = np.char.lower(splits.astype(str))
        chosen = [np.flatnonzero(np.isin(words, kind)) for kind in (["query"], ["gallery", "test"])]
        vectors = [table["vectors"][rows] for rows in chosen]
        columns = [[people[0][row] for row in rows] for rows in chosen]
    else:
        vectors, columns = [each["vectors"] for each in arrays], people
        if vectors[0].shape[1] != vectors[1].shape[1]:
            raise UserError(
                f"the vectors in {names[0]} have {vectors[0].shape[1]} numbers and those in {names[1]} "
                f"{vectors[1].shape[1]}: embed both with the same model and feature"
            )
        prints = [str(each["fingerprint"]) for each in arrays if "fingerprint" in each]
        if len(set(prints)) > 1:
            raise UserError(
                f"{names[0]} and {names[1]} were made by different models: embed both with the same"
            )
    kept = [
        labels.not_junk([image.extra["identity"] for image in side], name)
        for side, name in zip(columns, (names * 2)[:2])
    ]
    vectors = [each[rows] for each, rows in zip(vectors, kept)]
    columns = [[side[at] for at in rows] for side, rows in zip(columns, kept)]
    queries, where = len(columns[0]), ", ".join(names)
    both = two_folders.with_cameras([*columns[0], *columns[1]], queries, where, same_camera)
    both = labels.numbered(both, where)
    images = both[:queries], both[queries:]
    protocol = SingleQuery.between(*images, title="Stored features", same_camera=same_camera)
    feature = str(table.get("feature", "")) or "vector"
    method = str(table.get("model", "")) or "unknown"
    about = _about(protocol, "cosine", path, f"stored features, {' and '.join(names)}", method, feature)
    embedding = Embedding(torch.from_numpy(np.concatenate(vectors)).float())
    return Stored(protocol, embedding, Metric("cosine"), about)


def _about(
    protocol, distance: str, path: Path, selection: str, method: str = "unknown", feature: str = "vector"
) -> dict:
    """What ``evaluation.json`` says of vectors alone."""
    return {
        "protocol": {"name": protocol.name, "description": protocol.description},
        "method": method,
        "feature": feature,
        "metric": {"feature": distance, "stripes": None},
        "checkpoint": path.name,
        "epoch": None,
        "selection": selection,
        "notes": list(protocol.notes),
    }


def _columns(table, path: Path, pattern) -> list[Image]:
    """What the table says of each vector; identity and camera as text."""
    count = len(table["vectors"])
    names = [Path(str(name)) for name in table.get("path", [f"{path} {row}" for row in range(count)])]
    modality = [labels.modality(str(word), str(path)) if str(word) else VISIBLE for word in _words(table)]
    boxes = [
        None if edges[0] < 0 else tuple(edges) for edges in table.get("box", np.full((count, 4), -1)).tolist()
    ]
    if "identity" in table:
        identities = [_text(value) for value in table["identity"]]
        if None in identities:
            at = identities.index(None)
            raise UserError(
                f"{path}: row {at} ({names[at]}) has no identity, and so does not say whom it shows: name the person, "
                "or leave the image out"
            )
        cameras = [_text(value) for value in table.get("camera", [""] * count)]
        told = [{"identity": who, "camera": seen or ""} for who, seen in zip(identities, cameras)]
    elif "path" in table:
        expression = labels.compiled(pattern)
        told = [labels.named(expression, name.as_posix(), str(path)) for name in names]
    else:
        raise UserError(
            f"{path} does not say who is on each image: the columns identity and camera were expected, or path, "
            "with names such as 0002_c1s1_000451_03.jpg. For embedding, give a table (.csv) with these columns."
        )
    return [
        Image(name, modality=kind, box=box, extra=extra)
        for name, kind, box, extra in zip(names, modality, boxes, told)
    ]


def _words(table) -> np.ndarray:
    words = table.get("modality", np.full(len(table["vectors"]), VISIBLE))
    return np.array(MODALITIES)[words] if words.dtype.kind in "iu" else words


def _text(value) -> str | None:
    """A label as text, None for an empty one."""
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return None
        value = int(value) if float(value).is_integer() else value
    return str(value).strip() or None


def _cameras(path: Path) -> dict[int, Path]:
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


def _of_cameras(path: Path, protocol) -> Stored:
    files = _cameras(path)
    if not files:
        raise UserError(
            f"{path} is not in the exchange format of SYSU-MM01: files such as NAME_cam1.mat to NAME_cam6.mat were "
            "expected"
        )
    cells, order, vectors = {}, {}, []
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
                f"{files[image.camera]} has the shape {matrix.shape} for identity {image.identity}, of whom "
                f"{folder} holds {count} images: a row for each was expected. Features and data set do not belong "
                "together."
            )
        vectors.append(matrix[order[folder][image.path.name]])
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise UserError(
            f"{path}: vectors of {sorted(lengths)} numbers were found, but all must be equally long"
        )
    about = _about(protocol, "euclidean", path, f"stored features, {path}")
    embedding = Embedding(torch.from_numpy(np.stack(vectors)).float())
    return Stored(protocol, embedding, Metric("euclidean"), about)


def _cell(path: Path) -> list[np.ndarray]:
    for name in ("feature", "feature_test"):
        try:
            cell = matlab.load(path, [name])[name]
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
