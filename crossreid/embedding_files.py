"""Many images to one file of vectors: what ``crossreid embed`` does.

    rows = listed(["folder", "more/*.jpg", "boxes.csv"])
    embed_files(rows, Embedder("last.pt"), Path("vectors.npz"))

Vectors are kept in a part file beside the output as they come, so that a run that was stopped goes on where it was;
the output appears whole, at the end. Needs neither torch nor anything else that the embedder does not.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from crossreid.data.own import modality as known_modality
from crossreid.evaluation.archive import stripes_size, written_metrics
from crossreid.files import check_folder, replacing
from crossreid.images.decode import SUFFIXES, check, crop, decode, edges
from crossreid.images.resize import fit
from crossreid.ops import degenerate, memory
from crossreid.records import UserError

OUTPUTS = (".npz", ".csv", ".npy")
EDGES = ("x0", "y0", "x1", "y1")
# Names in the output that a table's own columns must not take.
TAKEN = ("vectors", "stripes", "box", "feature", "metrics", "fingerprint", "model", "skipped", "reasons")
THREADS = max(2, min(8, os.cpu_count() or 2))
_FORM = 1


@dataclass(frozen=True)
class Row:
    """One vector to be made.

    path: the image. name: its path as the user wrote it, or as it was found.
    modality: ``"visible"``, ``"infrared"``, or None where it was not given.
    box: (left, top, right, bottom) in pixels, or None for the whole image.
    columns: further columns of the table it stands in, as text.
    """

    path: Path
    name: str
    modality: str | None = None
    box: tuple[int, int, int, int] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What ``embed_files`` did. written: the output. rows: vectors in it; kept: of these, how many an earlier run had
    made already; seconds: it took to make the others. skipped: name and reason of each image left out."""

    written: Path
    rows: int
    kept: int
    seconds: float
    skipped: list[tuple[str, str]]


def listed(sources: Sequence[str | Path], modality: str | None = None) -> list[Row]:
    """The images that files, folders (with all below them), glob patterns and tables (``.csv``) name.

    modality: of every image whose line in a table does not give one; any of the words for it (rgb, ir, thermal, ...).
    An image that several folders or patterns name counts once; the lines of a table are kept as they are. Hidden
    files, and files that are not named like images, are passed over in folders.
    Raises UserError for a source without any image.
    """
    modality = modality and known_modality(modality, "all images")
    rows: list[Row] = []
    seen: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.suffix.lower() == ".csv":
            rows += _table(path, modality)
            continue
        for found in _found(source):
            if found.absolute() not in seen:
                seen.add(found.absolute())
                rows.append(Row(found, str(found), modality))
    return rows


def unreadable(rows: Sequence[Row]) -> dict[int, str]:
    """Row -> reason for images that their headers already show to be unreadable: a look ahead of long work."""
    paths = list(dict.fromkeys(row.path for row in rows))
    reasons = {}
    with ThreadPoolExecutor(THREADS) as pool, _bar(desc="check", total=len(paths), leave=False) as bar:
        for path, reason in zip(paths, pool.map(_reason, paths)):
            reasons[path] = reason
            bar.update(1)
    return {number: reasons[row.path] for number, row in enumerate(rows) if reasons[row.path]}


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
    rows: Sequence[Row],
    embedder,
    out: Path,
    *,
    skip_bad: bool = False,
    batch: int = 64,
    half_stripes: bool = False,
    log: Callable[[str], None] = print,
) -> Outcome:
    """Embed the images in order and write their vectors, with what is known of each, to ``out``.

    embedder: a ``crossreid.Embedder``.
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
    _check_columns(rows)
    modalities = _modalities(rows, embedder)
    vectors = np.zeros((len(rows), embedder.dimension), np.float32)
    stripes = _room_for_stripes(len(rows), embedder, out, half_stripes, log)
    with _Part(part_of(out), embedder.fingerprint, embedder.dimension, stripes) as part:
        keys = [_key(row, modality) for row, modality in zip(rows, modalities)]
        done = part.fill(vectors, stripes, keys)
        kept, skipped = int(done.sum()), {}
        begun = time.monotonic()
        waiting = [(number, rows[number]) for number in np.flatnonzero(~done)]
        with _bar(desc="embed", total=len(rows), initial=kept) as bar:
            for numbers, arrays, bad in _batches(_decoded(waiting, embedder), batch):
                skipped.update(bad)
                if bad and not skip_bad:
                    raise UserError(
                        f"{next(iter(bad.values()))}. {int(done.sum())} of {len(rows)} vectors are kept in "
                        f"{part.path}: mend the image and give the same command again, or add --skip-bad to leave "
                        "such images out"
                    )
                if numbers:
                    given = [modalities[number] for number in numbers]
                    found = embedder.embed(arrays, modality=None if None in given else given)
                    vectors[numbers] = found.feature
                    if stripes is not None:
                        stripes[numbers] = found.stripes
                    some = None if stripes is None else stripes[numbers]
                    part.add([keys[number] for number in numbers], vectors[numbers], some)
                    done[numbers] = True
                bar.update(len(numbers) + len(bad))
        seconds = time.monotonic() - begun
        if not done.any():
            raise UserError(
                f"none of the {len(rows)} images can be read, the first because {skipped[min(skipped)]}"
            )
        listed_bad = [(rows[number].name, reason) for number, reason in sorted(skipped.items())]
        chosen = np.flatnonzero(done)
        table = _columns([rows[number] for number in chosen], [modalities[number] for number in chosen])
        if len(chosen) < len(rows):
            vectors, stripes = vectors[chosen], None if stripes is None else stripes[chosen]
        for note in degenerate.notes(vectors, [rows[number].name for number in chosen]):
            log(f"mind: {note}")
        _write(out, vectors, stripes, table, listed_bad, embedder, part)
    part.remove()
    return Outcome(out, len(chosen), kept, seconds, listed_bad)


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


class _NoBar:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count: int) -> None:
        pass


def _bar(**words):
    """Progress with the time left, on a terminal; nothing where an exported model is used without the rest."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    return tqdm(disable=None, unit="image", **words)


# Finding images


def _found(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = list(_walk(path, set()))
        if not found:
            raise UserError(
                f"{path} holds no images, nor do the folders in it: expected files that end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        return found
    if path.exists():
        return [path]
    if glob.has_magic(str(source)):
        found = sorted(
            Path(name) for name in glob.glob(str(source), recursive=True) if not os.path.isdir(name)
        )
        found = [each for each in found if each.suffix.lower() in SUFFIXES]
        if found:
            return found
        raise UserError(f"no image fits the pattern {source}: check it, from the folder {Path.cwd()}")
    raise UserError(f"there is nothing at {path}: expected an image, a folder, a pattern or a table (.csv)")


def _walk(folder: Path, above: set) -> Iterator[Path]:
    """Images below a folder, sorted; links are followed unless they lead back up."""
    try:
        real = folder.resolve()
        if real in above:
            return
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror or error}): check whether you may read it"
        ) from error
    for entry in entries:
        if entry.name[0] == ".":
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, above | {real})
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            yield folder / entry.name


def _table(table: Path, modality: str | None) -> list[Row]:
    """Rows of a table with the column ``path`` (relative to the table), perhaps ``modality`` and the box's edges in
    pixels ``x0,y0,x1,y1``, and any others."""
    rows = []
    try:
        # Spreadsheets begin with a byte order mark, and some separate by semicolons.
        with open(table, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=";" if header.count(";") > header.count(",") else ",")
            columns = [column.strip() for column in next(reader, [])]
            known = {column.lower(): column for column in columns}
            twice = len(known) < len(columns)
            some_edges = 0 < sum(edge in known for edge in EDGES) < 4
            if "path" not in known or twice or some_edges or "" in known:
                raise UserError(
                    f"{table}, line 1: the columns are {', '.join(columns) or '(none)'}; expected is path, perhaps "
                    f"modality and {', '.join(EDGES)} (a box in pixels), and any others, each once and with a name"
                )
            special = {known.get(name) for name in ("path", "modality", *EDGES)}
            for fields in reader:
                where = f"{table}, line {reader.line_num}"
                if not any(text.strip() for text in fields):
                    continue
                if len(fields) != len(columns):
                    raise UserError(
                        f"{where}: {len(fields)} fields, but {len(columns)} columns ({', '.join(columns)}). Put "
                        "quotation marks around a field that holds a comma."
                    )
                line = dict(zip(columns, (text.strip() for text in fields)))
                own = {
                    known_name: line[known[known_name]]
                    for known_name in ("path", "modality", *EDGES)
                    if known_name in known
                }
                if not own["path"]:
                    raise UserError(f"{where}: no path is given. Fill it in, or remove the line.")
                rest = {name.lower(): text for name, text in line.items() if name not in special}
                given = known_modality(own["modality"], where) if own.get("modality") else modality
                rows.append(Row(table.parent / own["path"], own["path"], given, _box(own, where), rest))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{table} cannot be read as a CSV file in UTF-8 ({error}): save it again as such."
        ) from error
    except OSError as error:
        raise UserError(f"{table} cannot be opened ({error.strerror or error}): check the path") from error
    if not rows:
        raise UserError(
            f"{table} lists no images: a line for each is expected below the line of the columns."
        )
    return rows


def _box(line: Mapping[str, str], where: str) -> tuple[int, int, int, int] | None:
    given = [line.get(edge, "") for edge in EDGES]
    if not any(given):
        return None
    try:
        return edges(given)
    except UserError as error:
        raise UserError(
            f"{where}: the box {', '.join(given)} was not understood; expected four numbers of pixels, or nothing"
        ) from error


# Decoding ahead of the network


def _reason(path: Path) -> str | None:
    try:
        check(path)
    except UserError as error:
        return str(error)
    return None


def _cuts(rows: list[tuple[int, Row]], size, interpolation) -> list[tuple[int, np.ndarray | str]]:
    """The pixels of all rows of one image at the model's size, or the reason why there are none."""
    try:
        frame = decode(rows[0][1].path)
    except UserError as error:
        return [(number, str(error)) for number, _ in rows]
    cuts = []
    for number, row in rows:
        try:
            part = frame if row.box is None else crop(frame, row.box)
            # Here, and not in the embedder, so that no more than a frame for each thread is held at its full size.
            cuts.append((number, fit(part, size, interpolation)))
        except UserError as error:
            cuts.append((number, f"{row.name}: {error}"))
    return cuts


def ahead_of(function, groups: Iterable, *others) -> Iterator:
    """All that ``function(group, *others)`` gives for each group, in order, made by threads a little ahead of who takes
    it; so much ahead only that few frames are held."""
    pool = ThreadPoolExecutor(THREADS)
    ahead: deque = deque()
    try:
        for group in groups:
            ahead.append(pool.submit(function, group, *others))
            if len(ahead) > 4 * THREADS:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(rows: list[tuple[int, Row]], embedder) -> Iterator[tuple[int, np.ndarray | str]]:
    """Each row's pixels, or the reason why there are none."""
    groups = (list(group) for _, group in groupby(rows, key=lambda each: each[1].path))
    return ahead_of(_cuts, groups, embedder.size, embedder.interpolation)


def _batches(pixels, size: int) -> Iterator[tuple[list[int], list[np.ndarray], dict[int, str]]]:
    numbers, arrays, bad = [], [], {}
    for number, each in pixels:
        if isinstance(each, str):
            bad[number] = each
        else:
            numbers.append(number)
            arrays.append(each)
        if len(numbers) + len(bad) == size:
            yield numbers, arrays, bad
            numbers, arrays, bad = [], [], {}
    if numbers or bad:
        yield numbers, arrays, bad


def _modalities(rows: Sequence[Row], embedder) -> list[str | None]:
    """What was given for each row; where the model needs to know, what the place of its file says."""
    if len(embedder.modalities) < 2:
        return [row.modality for row in rows]
    from crossreid.embedder import modality_of

    found: list[str | None] = []
    unknown = []
    for row in rows:
        try:
            found.append(row.modality or modality_of(row.path))
        except UserError:
            unknown.append(row.name)
    if unknown:
        others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise UserError(
            f"this model treats visible and infrared images differently, and of {unknown[0]}{others} nothing says "
            "which they are: they do not lie as SYSU-MM01, RegDB or LLCM have them. Give --modality visible or "
            "--modality infrared, or list the images in a table with the columns path and modality"
        )
    return found


# The part file


def _key(row: Row, modality: str | None) -> bytes:
    """Sixteen bytes that change when the image's file, the box or the modality does."""
    try:
        known = row.path.stat()
        state = [known.st_size, known.st_mtime_ns]
    except OSError:
        state = []
    text = json.dumps([str(row.path.absolute()), state, row.box, modality])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class _Part:
    """Vectors made so far: a line that names the model, then records of a key, a vector and a checksum.

    Records are only ever added, each batch by one write; what a killed process left half written has a wrong checksum
    and is cut off.
    """

    def __init__(self, path: Path, fingerprint: str, dimension: int, stripes: np.ndarray | None):
        self.path = path
        fields = [("key", "S16"), ("vector", "<f4", (dimension,))]
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
        rows: dict[bytes, list[int]] = {}
        for number, key in enumerate(keys):
            rows.setdefault(key, []).append(number)
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


def _check_columns(rows: Sequence[Row]) -> None:
    taken = sorted({name for row in rows for name in row.columns if name in TAKEN})
    if taken:
        raise UserError(
            f"the table has a column {taken[0]!r}, which the output needs for itself: rename the column"
        )


def _columns(rows: Sequence[Row], modalities: Sequence[str | None]) -> dict[str, list]:
    """What is known of each row, by column; only columns of which something is known."""
    table: dict[str, list] = {"path": [row.name for row in rows]}
    if any(modalities):
        table["modality"] = [modality or "" for modality in modalities]
    if any(row.box for row in rows):
        table["box"] = [row.box for row in rows]
    for name in dict.fromkeys(name for row in rows for name in row.columns):
        table[name] = [row.columns.get(name, "") for row in rows]
    return table


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
            _write_list(Path(f"{out}.skipped.csv"), ("path", "reason"), skipped)
        if kind == ".npz":
            arrays = {
                name: np.array([box or (-1, -1, -1, -1) for box in values], np.int64).reshape(-1, 4)
                if name == "box"
                else _numbers(values)
                if name not in ("path", "modality")
                else np.array(values, dtype=str)
                for name, values in table.items()
            }
            about = {
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
            _write_list(Path(f"{out}.rows.csv"), names, lines, always=True)
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
            _write_list(out, [*names, *numbers], wide, always=True)
    except OSError as error:
        raise UserError(
            f"{out} could not be written ({error.strerror or error}): the vectors are kept in {part.path}; make room "
            "and give the same command again"
        ) from error


def _lines(table: dict) -> tuple[list[str], Iterator[list]]:
    names = [part for name in table for part in (EDGES if name == "box" else (name,))]
    boxes = table.get("box")
    rest = {name: values for name, values in table.items() if name != "box"}

    def lines():
        for number in range(len(table["path"])):
            line = []
            for name in table:
                line += (boxes[number] or [""] * 4) if name == "box" else [rest[name][number]]
            yield line

    return names, lines()


def _write_list(path: Path, names: Sequence[str], lines: Iterable[Sequence], always: bool = False) -> None:
    """A CSV file; without a line there is none, and an earlier one goes."""
    lines = iter(lines)
    first = next(lines, None)
    if first is None and not always:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        if first is not None:
            writer.writerow(first)
        writer.writerows(lines)
