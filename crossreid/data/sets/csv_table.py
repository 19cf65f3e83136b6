"""Own images listed in a table: a CSV file with one line for each image."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from crossreid.data import own
from crossreid.data.source import IMAGE_SUFFIXES, Source
from crossreid.records import VISIBLE, Image, UserError

NEEDED = ("path", "identity", "camera")
OPTIONAL = ("modality", "split", "time")


def read(root: Path, *, train_share: float = 0.5, seed: int = 0) -> dict[str, list[Image]]:
    """Images by split, in the order of the table.

    root: the table, or the folder that holds it as its only CSV file. Its first line names the columns
        ``path`` (relative to the table), ``identity``, ``camera`` and perhaps ``modality`` (visible or
        infrared), ``split`` (train, validation, query, gallery, or test, which is divided into query and
        gallery) and ``time`` (seconds). Identities and cameras that are not all whole numbers are numbered
        in sorted order.
    train_share: share of the identities, chosen by ``seed``, to train on where there is no column ``split``.
    Raises UserError that gives the line.
    """
    table = _table(root)
    rows, lines = [], {}
    for line, row in _lines(table):
        where = f"{table}, line {line}"
        path = _path(table, row["path"], where)
        first = lines.setdefault(path, line)
        if first != line:
            raise UserError(
                f"{where}: {row['path']} was listed on line {first} already. Remove one of the lines."
            )
        for column in ("identity", "camera"):
            if not row[column]:
                raise UserError(f"{where}: no {column} is given. Fill it in, or remove the line.")
        word = row.get("modality")
        modality = own.modality(word, where) if word else VISIBLE
        split = row.get("split", "").lower()
        if "split" in row and split not in own.SPLITS:
            raise UserError(
                f"{where}: split {row['split']!r} is not known, expected {', '.join(own.SPLITS)}."
            )
        rows.append((split, path, row["identity"], row["camera"], modality, _seconds(row.get("time"), where)))
    if not rows:
        raise UserError(
            f"{table} lists no images: a line for each is expected below the line of the columns."
        )
    identities = own.numbers(row[2] for row in rows)
    cameras = own.numbers(row[3] for row in rows)
    images: dict[str, list[Image]] = {}
    for split, path, identity, camera, modality, time in rows:
        image = Image(path, identities[identity], cameras[camera], modality, time=time)
        images.setdefault(split, []).append(image)
    return own.splits_of(images, train_share, seed)


def _table(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.exists():
        raise UserError(f"the table {root} does not exist: give a CSV file, or the folder that holds one.")
    tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    tables = [name for name in tables if name[0] != "."]
    if len(tables) != 1:
        raise UserError(
            f"{root} holds {len(tables)} CSV files ({', '.join(tables) or 'none'}), but one was expected: "
            f"give the path of the table itself."
        )
    return root / tables[0]


def _lines(table: Path):
    """(line number, column -> text) for each line that is not blank."""
    try:
        # Spreadsheets begin with a byte order mark, and some separate by semicolons.
        with open(table, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=";" if header.count(";") > header.count(",") else ",")
            columns = [column.strip().lower() for column in next(reader, [])]
            _check_columns(table, columns)
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(columns):
                    raise UserError(
                        f"{table}, line {reader.line_num}: {len(fields)} fields, but {len(columns)} columns "
                        f"({', '.join(columns)}). Put quotation marks around a field that holds a comma."
                    )
                yield reader.line_num, dict(zip(columns, (field.strip() for field in fields)))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(
            f"{table} cannot be read as a CSV file in UTF-8 ({error}): save it again as such."
        ) from error


def _check_columns(table: Path, columns: list[str]) -> None:
    missing = [column for column in NEEDED if column not in columns]
    unknown = [column for column in columns if column not in NEEDED + OPTIONAL]
    twice = [column for column in columns if columns.count(column) > 1]
    if missing or unknown or twice:
        wrong = ", ".join(
            f"{what} {', '.join(dict.fromkeys(names))}"
            for what, names in (("missing", missing), ("unknown", unknown), ("twice", twice))
            if names
        )
        raise UserError(
            f"{table}, line 1: the columns are {', '.join(columns) or '(none)'} ({wrong}); expected are "
            f"{', '.join(NEEDED)} and, if wanted, {', '.join(OPTIONAL)}. Name the columns in the first line."
        )


def _path(table: Path, text: str, where: str) -> Path:
    path = table.parent / text
    if "\\" in text and not path.exists():
        path = table.parent / text.replace("\\", "/")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f"{where}: {text!r} is not the name of an image ({', '.join(sorted(IMAGE_SUFFIXES))})."
        )
    if not path.is_file():
        raise UserError(f"{where}: there is no image {path}; paths are relative to the folder of the table.")
    return path


def _seconds(text: str | None, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"{where}: time {text!r} is not a number of seconds.")
    return seconds


SOURCE = Source(
    name="csv",
    title="own images in a table",
    paper="",
    obtain="Your own images.",
    licence="yours",
    caveats="A CSV file in UTF-8 with a line of column names.",
    layout="""images.csv with the columns path, identity, camera
  and, if wanted, modality, split, time; paths relative to the table""",
    folder="csv",
    settings=("train_share", "seed"),
    read=read,
    protocol="single_query",
    remarks=own.remarks,
)
