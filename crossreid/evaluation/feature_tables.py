"""Features with columns, as ``crossreid embed`` writes them: who is on each image, and which are the queries.

A ``.npz`` with ``vectors`` (N, D), perhaps ``stripes`` (N, S, C), and for each of them ``identity``, perhaps
``camera``, and ``split`` (query or gallery); or two such files, one for each. Without ``identity`` the names under
``path`` are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossreid.data import two_folders
from crossreid.evaluation.archive import read_metrics
from crossreid.evaluation.mapped import gathered
from crossreid.evaluation.stored import Stored, embedding_of
from crossreid.images import labels
from crossreid.protocols.results import described
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import MODALITIES, VISIBLE, Embedding, Image, Metric, UserError, counted


def labelled(path: Path, identity: str, camera: str | None) -> Image:
    """The image of one feature, with identity and camera as text; None where nothing tells the camera."""
    return Image(path, extra={"identity": identity, "camera": camera or ""})


def read(sides, pattern: str | None, same_camera: bool, keep_junk: bool = False) -> Stored:
    """sides: (arrays, path) of one file with the column split, or of two, queries and gallery."""
    (table, path), names = sides[0], [str(path) for _, path in sides]
    images = [_images(each, place, pattern) for each, place in sides]
    if len(sides) == 1:
        rows = _by_split(table, path)
        arrays = [table, table]
        images = images * 2
    else:
        arrays = [each for each, _ in sides]
        rows = [np.arange(len(each["vectors"])) for each in arrays]
        _alike(arrays, names)
    embeddings = [embedding_of(table)] * 2 if len(sides) == 1 else [embedding_of(each) for each in arrays]
    metrics = read_metrics(table, path) or {"vector": Metric("cosine")}
    feature = str(table.get("feature", "")) or "vector"
    if feature not in metrics:
        metrics = {feature: Metric("cosine")}
    return between(
        [[side[row] for row in chosen] for side, chosen in zip(images, rows)],
        embeddings,
        metrics,
        feature,
        rows=rows,
        same_camera=same_camera,
        keep_junk=keep_junk,
        place=" and ".join(names),
        about={"method": str(table.get("model", "")) or "unknown", "checkpoint": path.name},
    )


def between(
    images: Sequence[Sequence[Image]],
    embeddings: Sequence[Embedding],
    metrics: dict[str, Metric],
    feature: str,
    *,
    rows: Sequence[np.ndarray] | None = None,
    same_camera: bool,
    keep_junk: bool,
    place: str,
    about: dict,
) -> Stored:
    """Features of queries and of a gallery, with the protocol of Market-1501 between them.

    rows: where the features of these images are in their embeddings, by default in order.
    images: with identity and camera as text in ``extra``. Junk (identity -1) is left out unless ``keep_junk``, and how
    much is noted. Queries and gallery of which no camera is told are of two.
    """
    kept = [labels.not_junk([image.extra["identity"] for image in side], place, keep_junk) for side in images]
    junk = sum(len(side) - len(each) for side, each in zip(images, kept))
    places = rows or [np.arange(len(side)) for side in images]
    chosen = [[side[at] for at in each] for side, each in zip(images, kept)]
    kept_rows = [place[each] for place, each in zip(places, kept)]
    queries = len(chosen[0])
    both = two_folders.with_cameras([*chosen[0], *chosen[1]], queries, place, same_camera)
    both = labels.numbered(both, place)
    sides = both[:queries], both[queries:]
    protocol = SingleQuery.between(*sides, title="Stored features", same_camera=same_camera)
    if junk:
        protocol.notes = (*protocol.notes, f"junk (identity -1) was left out: {counted(junk, 'image')}.")
    stripes = [each.stripes for each in embeddings if each.stripes is not None]
    embedding = Embedding(
        gathered(list(zip([each.feature for each in embeddings], kept_rows))),
        gathered(list(zip(stripes, kept_rows))) if stripes else None,
    )
    recorded = {
        "protocol": described(protocol),
        "epoch": None,
        "selection": f"stored features, {place}",
        "notes": list(protocol.notes),
    }
    return Stored(protocol, embedding, metrics, feature, recorded | about)


def _alike(arrays, names: Sequence[str]) -> None:
    """Raise UserError where two files cannot be compared with each other."""
    sizes = [each["vectors"].shape[1] for each in arrays]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the vectors in {names[0]} have {sizes[0]} numbers and those in {names[1]} {sizes[1]}: embed "
            "both with the same model and feature"
        )
    prints = [str(each["fingerprint"]) for each in arrays if "fingerprint" in each]
    if len(set(prints)) > 1:
        raise UserError(f"{names[0]} and {names[1]} were made by different models: embed both with the same")
    shapes = [each["stripes"].shape[1:] if "stripes" in each else None for each in arrays]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{names[0]} and {names[1]} hold different stripes ({shapes[0]} and {shapes[1]}): embed both alike"
        )


def _by_split(table, path: Path) -> list[np.ndarray]:
    splits = table.get("split")
    if splits is None or splits.shape != (len(table["vectors"]),):
        raise UserError(
            f"{path} does not say which vectors are queries: give the gallery's as a second file with --gallery, "
            "or a column split with the words query and gallery"
        )
    words = np.char.lower(splits.astype(str))
    for row in np.flatnonzero(~np.isin(words, ["query", "gallery", "test", "train", "validation"])):
        raise UserError(
            f"{path}: the split of row {row} is {str(splits[row])!r}, but query and gallery (or test) are scored, and "
            "train and validation left out: correct the column split"
        )
    return [np.flatnonzero(np.isin(words, kind)) for kind in (["query"], ["gallery", "test"])]


def _images(table, path: Path, pattern: str | None) -> list[Image]:
    """What the table says of each feature."""
    count = len(table["vectors"])
    names = [file_path(str(name)) for name in table.get("path", [f"{path} {row}" for row in range(count)])]
    modality = [labels.modality(str(word), str(path)) if str(word) else VISIBLE for word in _words(table)]
    boxes = [
        None if left < 0 else (left, top, right, bottom)
        for left, top, right, bottom in table.get("box", np.full((count, 4), -1)).tolist()
    ]
    if "identity" in table:
        people: list[str] = []
        for row, value in enumerate(table["identity"]):
            if (who := text(value)) is None:
                raise UserError(
                    f"{path}: row {row} ({names[row]}) has no identity, and so does not say whom it shows: name the "
                    "person, or leave the image out"
                )
            people.append(who)
        cameras = [text(value) for value in table.get("camera", [""] * count)]
        images = list(map(labelled, names, people, cameras))
    elif "path" in table:
        expression = labels.compiled_pattern(pattern)
        images = [Image(name, extra=labels.named(expression, name.as_posix(), str(path))) for name in names]
    else:
        raise UserError(
            f"{path} does not say who is on each image: the columns identity and camera were expected, or path, "
            "with names such as 0002_c1s1_000451_03.jpg. For embedding, give a table (.csv) with these columns."
        )
    return [replace(image, modality=kind, box=box) for image, kind, box in zip(images, modality, boxes)]


def file_path(name: str) -> Path:
    """A path as it was written down, perhaps on Windows, where folders are separated by the other stroke."""
    return Path(name.replace("\\", "/") if "/" not in name else name)


def text(value) -> str | None:
    """A label as text, None for an empty one."""
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return None
        value = int(value) if float(value).is_integer() else value
    return str(value).strip() or None


def _words(table) -> np.ndarray:
    words = table.get("modality", np.full(len(table["vectors"]), VISIBLE))
    return np.array(MODALITIES)[words] if words.dtype.kind in "iu" else words
