"""Many images to a folder of Parquet fragments, by the processes of a Ray cluster: ``crossreid embed --ray``.

    0000000-3f2a....parquet    the rows of 1024 images: what is known of each, and its vector
    _embedding.json            written last: which fragments there are, in order, of which model
    _skipped.csv               path and reason of each image that could not be read

The name of a fragment is made of all that goes into it: the model, and of each image its file's size and time, its
box and what its table says. A fragment that is there is therefore finished and right, whoever finds it. Programs that
read a folder of Parquet files pass over names that begin with _.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossreid import files, on_ray
from crossreid.data.modality import with_modalities
from crossreid.embedding_files import (
    check_columns,
    columns_of,
    decoded,
    embedded,
    keys_of,
    table_of,
)
from crossreid.evaluation.archive import written_metrics
from crossreid.evaluation.columnar import ABOUT, FRAGMENT, MODEL, SAID
from crossreid.images.listing import name_of
from crossreid.images.reading import bar
from crossreid.images.tables import BOX_COLUMNS
from crossreid.ops import degenerate
from crossreid.records import Embedding, Image, UserError

SKIPPED = "_skipped.csv"
_FORM = 1


@dataclass(frozen=True)
class Fragment:
    """One file of the folder. rows: vectors in it. made: whether just now. skipped: name and reason of each image left
    out. notes: what is wrong with its features, sentences."""

    name: str
    rows: int
    made: bool
    skipped: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class Embedded:
    """What ``embed_fragments`` did. fragments: in order. workers: machine and process of each that took part. seconds:
    it took."""

    fragments: list[Fragment]
    workers: set[tuple[str, int]]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(fragment.rows for fragment in self.fragments)

    @property
    def kept(self) -> int:
        """How many of the rows an earlier run had made already."""
        return sum(fragment.rows for fragment in self.fragments if not fragment.made)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        return [each for fragment in self.fragments for each in fragment.skipped]

    @property
    def notes(self) -> list[str]:
        return [each for fragment in self.fragments for each in fragment.notes]


def embed_fragments(
    images: Sequence[Image],
    embedder,
    make: Callable,
    folder: Path,
    *,
    batch: int = 64,
    half_stripes: bool = False,
    accelerators: bool = False,
) -> Embedded:
    """Embed the images on the cluster that ``crossreid.on_ray.connected`` has reached, and write their vectors, with
    what is known of each, into a folder.

    images: as ``crossreid.images.listing.listed`` gives them; all machines must reach them by the same paths.
    embedder: of this process, which says what the model is. make: makes the same one in others.
    folder: empty, new, or begun by the same call; all machines must reach it by the same path.
    half_stripes: write the stripes, where the model has them, in float16.

    Rows are those of ``crossreid.embedding_files.embed_files``, in batches of the same images. The same call goes on
    after an interruption: fragments that are there are passed over. Those of images that have gone or changed are
    removed at the end. An image that cannot be read is left out and listed.
    Raises UserError for a folder that holds anything else or was begun with another model.
    """
    check_columns(images)
    about = {
        "form": _FORM,
        "model": embedder.name,
        "feature": embedder.feature or "",
        "fingerprint": embedder.fingerprint,
        "metrics": json.loads(written_metrics(embedder.metrics)),
        "dimension": embedder.dimension,
        "stripes": embedder.stripes and list(embedder.stripes),
        "precision": "float16" if half_stripes and embedder.stripes else "float32",
        "columns": columns_of(images),
    }
    if len(embedder.modalities) > 1:
        images = with_modalities(images, needed=True)
    _begin(folder, about)
    pieces, work = on_ray.pieces(images, batch), functools.partial(_worker, make, folder, batch, about)
    found, workers, begun = {}, set(), time.monotonic()
    with bar("embed", len(images)) as progress:
        for number, fragment, worker in on_ray.mapped(pieces, work, accelerators):
            found[number] = fragment
            workers.add(worker)
            progress.update(len(pieces[number][1]))
    done = Embedded([found[number] for number in sorted(found)], workers, time.monotonic() - begun)
    if not done.rows:
        raise UserError(f"no image can be read, the first because {done.skipped[0][1]}")
    _end(folder, about, done)
    return done


def _begin(folder: Path, about: dict) -> None:
    """Raise UserError unless the folder is one of fragments of this model, or empty; from here on it is not whole."""
    if not files.is_address(folder):
        files.check_folder(folder)
    there = [name for name in _names(folder) if name not in (ABOUT, SKIPPED)]
    fragments = [name for name in there if FRAGMENT.fullmatch(name)]
    others = [name for name in there if name[:1] != "." and not FRAGMENT.fullmatch(name)]
    if others:
        raise UserError(
            f"{folder} holds {others[0]}, which is no fragment: choose a folder that is empty or does not exist"
        )
    known = next(filter(None, (_read(folder / name) for name in fragments)), None)
    if known is not None and any(known[1].get(name) != about[name] for name in MODEL):
        raise UserError(
            f"{folder} was begun with another model, feature or precision, or by another version of crossreid: remove "
            "it, or choose another folder"
        )
    (folder / ABOUT).unlink(missing_ok=True)


def _names(folder: Any) -> list[str]:
    """What lies in a folder, or at an address, where there need be nothing."""
    if not files.is_address(folder):
        return sorted(path.name for path in folder.iterdir())
    try:
        folder.fs.invalidate_cache()  # others have written
        return sorted(name.rpartition("/")[2] for name in folder.fs.find(folder.path, maxdepth=1))
    except Exception as error:  # each kind of store has its own
        raise UserError(
            f"{folder} cannot be listed ({files.reason_of(error)}): check the address, and whether you may write there"
        ) from error


def _end(folder: Path, about: dict, done: Embedded) -> None:
    """Leave the fragments of these images alone, list what was left out, and say that all is there."""
    names = [fragment.name for fragment in done.fragments]
    kept = set(names)
    for name in _names(folder):
        # What a process that was killed had begun to write, and fragments of images that are not meant any more.
        begun = name.startswith(".") and name.endswith(".part")
        if begun or (FRAGMENT.fullmatch(name) and name not in kept):
            (folder / name).unlink(missing_ok=True)
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows([("path", "reason"), *(map(files.cell, each) for each in done.skipped)])
    if done.skipped:
        files.write_whole(folder / SKIPPED, lines.getvalue().encode())
    else:
        (folder / SKIPPED).unlink(missing_ok=True)
    about = about | {"rows": done.rows, "skipped": len(done.skipped), "fragments": names}
    files.write_whole(folder / ABOUT, json.dumps(about, indent=1).encode() + b"\n")


# In the processes of the cluster


def _worker(make: Callable, folder: Path, batch: int, about: dict) -> Callable[[int, list[Image]], Fragment]:
    return functools.partial(_fragment, make(), folder, batch, about)


def _fragment(embedder, folder: Path, batch: int, about: dict, number: int, images: list[Image]) -> Fragment:
    """The fragment of these images, which is made unless it is there."""
    table = table_of(images, about["columns"])
    digest = hashlib.blake2b(json.dumps([about, table], sort_keys=True).encode(), digest_size=16)
    for key in keys_of(images):
        digest.update(key)
    path = folder / f"{number:07d}-{digest.hexdigest()}.parquet"
    known = _read(path)
    if known is not None:
        rows, said = known
        skipped = [(name, reason) for name, reason in said["skipped"]]
        return Fragment(path.name, rows, False, skipped, said["notes"])
    rows_of: list[int] = []
    parts: list[Embedding] = []
    skipped = []
    for good, bad in decoded(images, range(len(images)), embedder, batch):
        skipped += [(name_of(images[at]), reason) for at, reason in bad.items()]
        if good:
            embedding = embedded(images, good, embedder)
            rows_of += good
            parts.append(embedding)
    none = np.zeros((0, about["dimension"]), np.float32)
    vectors = np.concatenate([none, *(part.feature for part in parts)])
    table = table_of([images[at] for at in rows_of], about["columns"])
    # A few images of one frame may well be alike.
    notes = degenerate.notes(vectors, table["path"], least=10)
    arrays = {name: array for column in table for name, array in _arrays(column, table[column]).items()}
    arrays["vectors"] = _lists(vectors)
    if about["stripes"]:
        none = np.zeros((0, *about["stripes"]), np.float32)
        stripes = np.concatenate([none, *(part.stripes for part in parts)])
        arrays["stripes"] = _lists(stripes.astype(about["precision"]))
    said = about | {"skipped": skipped, "notes": notes}
    content = io.BytesIO()
    # Numbers that are all different only grow in a dictionary.
    pq.write_table(
        pa.table(arrays).replace_schema_metadata({SAID: json.dumps(said)}), content, use_dictionary=False
    )
    files.write_whole(path, content.getvalue())
    return Fragment(path.name, len(vectors), True, skipped, notes)


def _arrays(name: str, values: list) -> dict[str, pa.Array]:
    """A column as the Arrow columns that hold it."""
    if name == "box":
        edges = zip(*(box or [None] * 4 for box in values)) if values else [()] * 4
        return {edge: pa.array(each, pa.int64()) for edge, each in zip(BOX_COLUMNS, edges)}
    if name == "time":
        return {name: pa.array(values, pa.float64())}
    return {name: pa.array(map(files.legible, values), pa.string())}


def _lists(array: np.ndarray) -> pa.Array:
    """(N, ...) as N lists of one length."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), int(np.prod(array.shape[1:])))


def _read(path: Path) -> tuple[int, dict] | None:
    """How many rows a fragment has and what it says of itself; None where there is none, or none that can be read."""
    try:
        with files.opened(path) as file:
            known = pq.read_metadata(file)
        return known.num_rows, json.loads(known.metadata[SAID])
    except (UserError, OSError, pa.ArrowInvalid, LookupError, TypeError, ValueError):
        return None
