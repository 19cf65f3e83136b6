"""Many images to one file of vectors: what ``crossreid embed`` does.

    rows = listed(["folder", "more/*.jpg", "boxes.csv"])
    embed_files(rows, Embedder("last.pt"), Path("vectors.npz"))

Vectors are kept in a part file beside the output as they come, so that a run that was stopped goes on where it was;
the output appears whole, at the end. Needs neither torch nor anything else that the embedder does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossreid import memory
from crossreid.data.modality import with_modalities
from crossreid.evaluation.archive import stripes_size, written_metrics
from crossreid.files import check_folder, replacing, stats, write_rows
from crossreid.images.listing import name_of
from crossreid.images.reading import ahead, bar, batches, cut
from crossreid.images.resize import fit
from crossreid.images.tables import BOX_COLUMNS
from crossreid.ops import degenerate
from crossreid.records import Embedding, Image, UserError, by_key

OUTPUTS = (".npz", ".csv", ".npy")
# Names in the output that a table's own columns must not take.
TAKEN = (
    *("file", "allow_pickle", "vectors", "stripes", "box", "feature", "metrics", "fingerprint", "model"),
    *("skipped", "reasons"),
)
_FORM = 1


@dataclass(frozen=True)
class Embedded:
    """What ``embed_files`` did. written: the output. rows: vectors in it; kept: of these, how many an earlier run had
    made already; seconds: it took to make the others. skipped: name and reason of each image left out."""

    written: Path
    rows: int
    kept: int
    seconds: float
    skipped: list[tuple[str, str]]


def check_output(out: Path) -> None:
    """Raise UserError for an output that could not be written, before any work is done for it."""
    if out.suffix.lower() not in OUTPUTS:
        raise UserError(
            f"{out} ends in {out.suffix or 'nothing'}: expected {', '.join(OUTPUTS)}, which says what is written"
        )
    if out.is_dir():
        raise UserError(f"{out} is a folder: give the name of a file to write")
    check_folder(out.parent)


def part_of(out: Path) -> Path:
    """The file that keeps the vectors made so far."""
    return out.with_name(out.name + ".part")


def embed_files(
    images: Sequence[Image],
    embedder,
    out: Path,
    *,
    skip_bad: bool = False,
    batch: int = 64,
    half_stripes: bool = False,
    log: Callable[[str], None] = print,
) -> Embedded:
    """Embed the images in order and write their vectors, with what is known of each, to ``out``.

    images: as ``crossreid.images.listing.listed`` gives them. embedder: a ``crossreid.Embedder``.
    out: ``.npz`` (everything), ``.csv`` (everything but the model's fingerprint) or ``.npy`` (the vectors, with a
        table of the rows beside them).
    skip_bad: leave images out that cannot be read, and list them; otherwise the first one stops the work.
    half_stripes: write the stripes, which a ``.npz`` holds where the model has them, in float16.

    The same call goes on after an interruption: vectors of images that have not changed since are taken from the
    part file. It is removed when the output is written.
    Raises UserError for an image that cannot be read, a part file of another model, and a full disk; what was
    made until then stays in the part file.
    """
    out = Path(out)
    check_output(out)
    check_columns(images)
    if len(embedder.modalities) > 1:
        images = with_modalities(images, needed=True)
    vectors = np.zeros((len(images), embedder.dimension), np.float32)
    stripes = _room_for_stripes(len(images), embedder, out, half_stripes, log)

    with _Part(part_of(out), embedder.fingerprint, embedder.dimension, stripes) as part:
        keys = keys_of(images)
        done = part.fill(vectors, stripes, keys)
        kept, skipped = int(done.sum()), {}
        begun = time.monotonic()
        waiting = np.flatnonzero(~done).tolist()
        with bar("embed", len(images), initial=kept) as progress:
            for good, bad in decoded(images, waiting, embedder, batch):
                skipped.update(bad)
                if bad and not skip_bad:
                    raise UserError(
                        f"{next(iter(bad.values()))}. {int(done.sum())} of {len(images)} vectors are kept in "
                        f"{part.path}: mend the image and give the same command again, or add --skip-bad to leave "
                        "such images out"
                    )
                if good:
                    chosen, embedding = list(good), embedded(images, good, embedder)
                    vectors[chosen], done[chosen] = embedding.feature, True
                    if stripes is not None:
                        stripes[chosen] = embedding.stripes
                    added = [keys[at] for at in chosen], vectors[chosen]
                    part.add(*added, None if stripes is None else stripes[chosen])
                progress.update(len(good) + len(bad))
        seconds = time.monotonic() - begun
        if not done.any():
            raise UserError(f"no image can be read, the first because {skipped[min(skipped)]}")
        listed_bad = [(name_of(images[at]), reason) for at, reason in sorted(skipped.items())]
        rows = np.flatnonzero(done)
        if len(rows) < len(images):
            vectors, stripes = vectors[rows], None if stripes is None else stripes[rows]
        shown = [images[at] for at in rows.tolist()]
        table = table_of(shown, columns_of(shown))
        for note in degenerate.notes(vectors, table["path"]):
            log(f"mind: {note}")
        _write(out, vectors, stripes, table, listed_bad, embedder, part)
    part.remove()
    return Embedded(out, len(rows), kept, seconds, listed_bad)


def decoded(
    images: Sequence[Image], waiting: Sequence[int], embedder, batch: int
) -> Iterator[tuple[dict[int, np.ndarray], dict[int, str]]]:
    """The images at the positions in ``waiting``, so many at once, in order: position -> pixels (H, W, 3) uint8 at the
    model's size, and position -> reason of those that cannot be read."""

    def at_size(frame: np.ndarray, image: Image) -> np.ndarray:
        # Here, and not in the embedder, so that no more than a frame for each thread is held at its full size.
        return fit(cut(frame, image), embedder.size, embedder.interpolation)

    found = zip(waiting, ahead([images[at] for at in waiting], at_size))
    for some in batches(found, batch):
        good = {at: pixels for at, (_, pixels) in some if not isinstance(pixels, UserError)}
        yield good, {at: str(error) for at, (_, error) in some if at not in good}


def embedded(images: Sequence[Image], good: Mapping[int, np.ndarray], embedder) -> Embedding:
    """What the embedder makes of one batch of ``decoded``."""
    modalities = [images[at].modality for at in good]
    return embedder.embed(list(good.values()), modality=modalities if all(modalities) else None)


def _room_for_stripes(count: int, embedder, out: Path, half: bool, log) -> np.ndarray | None:
    """(N, S, C) zeros, None where the model has no stripes or the output cannot hold them; says which."""
    if embedder.stripes is None:
        return None
    if out.suffix.lower() != ".npz":
        log(f"the stripes of this model are left out, which {out.suffix} cannot hold: .npz keeps them")
        return None
    shape = (count, *embedder.stripes)
    log(stripes_size(out, shape, half))
    size = (2 if half else 4) * int(np.prod(shape))
    memory.require(
        size, f"the stripes of {count} images", "write them in float16 (--half), or in several files"
    )
    return np.zeros(shape, np.float16 if half else np.float32)


# The part file


def keys_of(images: Sequence[Image]) -> list[bytes]:
    """Of each image sixteen bytes that change when its file, its place in that, the box or the modality does."""
    known, keys = stats(image.path for image in images), []
    for image in images:
        there = known.get(image.path)
        state = [] if there is None else [there.st_size, there.st_mtime_ns]
        told: list = [str(image.path.absolute()), state, image.box, image.modality]
        if image.array_index is not None:
            told.append(image.array_index)
        keys.append(hashlib.blake2b(json.dumps(told).encode(), digest_size=16).digest())
    return keys


class _Part:
    """Vectors made so far: a line that names the model, then records of a key, a vector and a checksum.

    Records are only ever added, each batch by one write; what a killed process left half written has a wrong checksum
    and is cut off.
    """

    def __init__(self, path: Path, fingerprint: str, dimension: int, stripes: np.ndarray | None):
        self.path = path
        fields: list[tuple] = [("key", "S16"), ("vector", "<f4", (dimension,))]
        about = {"crossreid part file": _FORM, "fingerprint": fingerprint, "dimension": dimension}
        if stripes is not None:
            fields.append(("stripes", stripes.dtype.newbyteorder("<"), stripes.shape[1:]))
            about |= {"stripes": list(stripes.shape[1:]), "precision": stripes.dtype.name}
        self.head = json.dumps(about).encode() + b"\n"
        self.record = np.dtype([*fields, ("sum", "<u4")])

    def __enter__(self) -> _Part:
        try:
            self.file = open(self.path, "a+b", buffering=0)
            self.file.seek(0)
            head = self.file.read(len(self.head))
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror or error}): choose another place for the output"
            ) from error
        if head != self.head and head:
            if self.head.startswith(head):  # killed while the first line was written
                self.file.truncate(0)
                head = b""
            else:
                self.file.close()
                raise UserError(
                    f"{self.path} was begun with another model, or by another version of crossreid: remove it, or "
                    "choose another name for the output"
                )
        if not head:
            self._write(self.head)
        return self

    def __exit__(self, *_):
        empty = self.file.seek(0, os.SEEK_END) <= len(self.head)
        self.file.close()
        if empty:
            self.remove()

    def fill(self, vectors: np.ndarray, stripes: np.ndarray | None, keys: Sequence[bytes]) -> np.ndarray:
        """Put the vectors, and stripes, that are there in their rows; (N,) bool of the rows that were filled."""
        self.file.seek(len(self.head))
        size = self.record.itemsize
        rows = by_key((key, number) for number, key in enumerate(keys))
        done, sound = np.zeros(len(keys), bool), len(self.head)
        while len(content := self.file.read(size)) == size:
            body, checksum = content[:-4], int.from_bytes(content[-4:], "little")
            if zlib.crc32(body) != checksum:
                break
            sound += size
            found = np.frombuffer(content, self.record)[0]
            for number in rows.get(body[:16], ()):
                vectors[number] = found["vector"]
                if stripes is not None:
                    stripes[number] = found["stripes"]
                done[number] = True
        self.file.truncate(sound)
        return done

    def add(self, keys: Sequence[bytes], vectors: np.ndarray, stripes: np.ndarray | None) -> None:
        records = np.zeros(len(keys), self.record)
        records["key"], records["vector"] = keys, vectors
        if stripes is not None:
            records["stripes"] = stripes
        for number, record in enumerate(records):
            records["sum"][number] = zlib.crc32(record.tobytes()[:-4])
        self._write(records.tobytes())

    def _write(self, content: bytes) -> None:
        try:
            written = self.file.write(content)
            if written != len(content):
                raise OSError(f"only {written} of {len(content)} bytes were written")
        except OSError as error:
            raise UserError(
                f"{self.path} could not be written ({error.strerror or error}): what was written before is kept; make "
                "room and give the same command again"
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


# Writing


def check_columns(images: Sequence[Image]) -> None:
    """Raise UserError where a table has a column with a name that the output needs."""
    taken = sorted({name for image in images for name in image.extra if name in TAKEN})
    if taken:
        raise UserError(
            f"the table has a column {taken[0]!r}, which the output needs for itself: rename the column"
        )


def columns_of(images: Sequence[Image]) -> list[str]:
    """The columns of which something is known."""
    known = {
        "path": True,
        "modality": any(image.modality for image in images),
        "box": any(image.box for image in images),
        "time": any(image.time is not None for image in images),
    }
    return list(
        dict.fromkeys(
            [
                *(name for name, there in known.items() if there),
                *(name for image in images for name in image.extra),
            ]
        )
    )


def table_of(images: Sequence[Image], columns: Sequence[str]) -> dict[str, list]:
    """What is known of each image, by column."""
    fields: dict[str, Callable[[Image], Any]] = {
        "path": name_of,
        "modality": lambda image: image.modality,
        "box": lambda image: image.box,
        "time": lambda image: image.time,
    }
    return {
        name: [fields[name](image) if name in fields else image.extra.get(name, "") for image in images]
        for name in columns
    }


def _array(name: str, values: list) -> np.ndarray:
    """A column for an archive: a box of -1 is a whole image, a time that is not known is not a number."""
    if name == "box":
        return np.array([box or (-1, -1, -1, -1) for box in values], np.int64).reshape(-1, 4)
    if name == "time":
        return np.array([np.nan if time is None else time for time in values], np.float64)
    return np.array(values, dtype=str) if name in ("path", "modality") else _numbers(values)


def _numbers(texts: Sequence[str]) -> np.ndarray:
    """Whole numbers, else fractions, else the texts themselves; different names stay different: Python reads 1_2 as 12,
    and long numbers do not fit."""
    words = np.array(texts, dtype=str)
    if any("_" in text for text in texts):
        return words
    for kind in (int, float):
        try:
            return np.array([kind(text) for text in texts], np.int64 if kind is int else np.float64)
        except ValueError:
            continue
        except OverflowError:
            break
    return words


def _write(
    out: Path,
    vectors: np.ndarray,
    stripes: np.ndarray | None,
    table: dict,
    skipped: list,
    embedder,
    part: _Part,
) -> None:
    kind = out.suffix.lower()
    try:
        if kind != ".npz":
            list_of_skipped = Path(f"{out}.skipped.csv")
            if skipped:
                write_rows(list_of_skipped, ("path", "reason"), skipped)
            else:
                list_of_skipped.unlink(missing_ok=True)
        if kind == ".npz":
            arrays: dict[str, Any] = {name: _array(name, values) for name, values in table.items()}
            about: dict[str, Any] = {
                "feature": embedder.feature or "",
                "fingerprint": embedder.fingerprint,
                "model": embedder.name,
                "metrics": written_metrics(embedder.metrics),
                "skipped": np.array([name for name, _ in skipped], dtype=str),
                "reasons": np.array([reason for _, reason in skipped], dtype=str),
            }
            with replacing(out) as temporary, open(temporary, "wb") as file:
                if stripes is not None:
                    arrays["stripes"] = stripes
                np.savez(file, vectors=vectors, **arrays, **about)
        elif kind == ".npy":
            names, lines = _lines(table)
            write_rows(Path(f"{out}.rows.csv"), names, lines)
            with replacing(out) as temporary, open(temporary, "wb") as file:
                np.save(file, vectors)
        else:
            names, lines = _lines(table)
            numbers = [f"v{number}" for number in range(vectors.shape[1])]
            # Nine digits give every float32 back exactly.
            wide = (
                [*line, *(f"{value:.9g}" for value in vector)]
                for line, vector in zip(lines, vectors.tolist())
            )
            write_rows(out, [*names, *numbers], wide)
    except OSError as error:
        raise UserError(
            f"{out} could not be written ({error.strerror or error}): the vectors are kept in {part.path}; make room "
            "and give the same command again"
        ) from error


def _lines(table: dict) -> tuple[list[str], Iterator[list]]:
    names = [part for name in table for part in (BOX_COLUMNS if name == "box" else (name,))]

    def lines():
        for number in range(len(table["path"])):
            line: list = []
            for name, values in table.items():
                value = values[number]
                line += (value or [""] * 4) if name == "box" else ["" if value is None else value]
            yield line

    return names, lines()
