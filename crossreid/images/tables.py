"""Images listed in a table: the one reader of CSV files, for training, evaluation, embedding and indexing."""

from __future__ import annotations

import csv
import difflib
import io
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from crossreid import files, memory
from crossreid.images import decode, labels, lance, tars, timestamps
from crossreid.records import Image, UserError, counted, pip_install

BOX_COLUMNS = ("x0", "y0", "x1", "y1")
KNOWN = ("path", "identity", "camera", "modality", "split", "time", *BOX_COLUMNS, "offset")
SUFFIXES = (".csv", ".tsv", ".parquet", lance.SUFFIX)
# Bytes that an image of a table takes at least: a small Parquet file can hold any number of equal rows.
ROW = 1000
# Bytes of a text in a Lance data set, about as many as a field of a CSV file may have.
LONGEST = 2**17
# Stores of objects to which a line of a table may lead, wherever the table lies.
STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss")
# What is told by fields of an image is not repeated as text.
_FIELDS = ("modality", "time", *BOX_COLUMNS, "offset", lance.ROW)


def read(table: Path, needed: Sequence[str] = ("path",), modality: str = "") -> list[tuple[int, Image]]:
    """The number of the line and the image of each line that is not blank, in the order of the table.

    table: a text file in UTF-8 whose first line names the columns, with commas, semicolons or tabs between them; a
        Parquet file; or a Lance data set. Of the last two, lines are numbered from 1.
        ``path`` (relative to the table) must be there; ``identity``, ``camera``, ``modality``, ``split``, ``time`` and
        a box in pixels, ``x0``, ``y0``, ``x1``, ``y1``, may be; ``offset`` where the path is that of a tar, see
        ``crossreid.images.tars``. Other columns are kept in ``Image.extra``, and a warning names them. A Lance data set
        without ``path`` may have a column ``image``, the bytes of each file.
    needed: columns that must be there, with something in every line.
    modality: of images whose line does not give one.

    Identities and cameras that are not all whole numbers are numbered in sorted order; as they were written they stand
    in ``extra``, like ``path`` and ``split``. Raises UserError that gives the line.
    """
    packed = lance.holds_images(table)
    if packed:
        needed = [column for column in needed if column != "path"]
    lines = list(lines_of(table, lambda columns: _check_columns(table, columns, needed)))
    if not lines:
        raise UserError(
            f"{table} lists no images: a line for each is expected below the line of the columns."
        )
    found = []
    for number, line in lines:
        where = f"{table}, line {number}"
        for column in needed:
            if not line[column]:
                raise UserError(f"{where}: no {column} is given. Fill it in, or remove the line.")
        word, when = line.get("modality"), line.get("time")
        path = table if packed else path_of(table, line["path"])
        image = Image(
            path,
            modality=labels.modality(word, where) if word else modality,
            time=timestamps.taken(when, f"{where}: time") if when else None,
            array_index=int(line[lance.ROW]) if packed else _offset(path, line.get("offset", ""), where),
            box=_box(line, where),
            extra={name: text for name, text in line.items() if name not in _FIELDS},
        )
        found.append((number, image))
    numbered = labels.numbered([image for _, image in found], str(table))
    return [(number, image) for (number, _), image in zip(found, numbered)]


def path_of(table: Path, text: str) -> Path:
    """The file that a line of a table names, or the address of an object; backslashes are those of Windows where no
    file has them in its name."""
    if text.partition("://")[0] in STORES and files.is_address(text) and "::" not in text:
        return files.place(text)
    if files.is_address(table):
        if "://" in text or "::" in text:
            raise UserError(
                f"{table}: the path {text!r} leads elsewhere than the table: expected one below it, or an address that "
                f"begins with one of {', '.join(STORES)}"
            )
        return table.parent / text.replace("\\", "/")
    path = table.parent / text
    if "\\" not in text or path.exists():
        return path
    known = files.path_of(str(path))
    return known if known != path else table.parent / text.replace("\\", "/")


def lines_of(table: Path, check: Callable[[list[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column -> text) for each line that is not blank; columns in small letters.

    check: is given the columns first, and raises UserError where they will not do. Raises UserError for a file that is
    no such table.
    """
    if table.suffix.lower() in (".parquet", ".lance"):
        yield from _rows(table, check)
        return
    try:
        # Spreadsheets begin with a byte order mark.
        with files.opened(table) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=header.count))
            columns = [column.strip().lower() for column in next(reader, [])]
            check(columns)
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(columns):
                    mend = (
                        "Fill in what is missing; an empty field needs its separator too."
                        if len(fields) < len(columns)
                        else "Put quotation marks around a field that holds a separator."
                    )
                    raise UserError(
                        f"{table}, line {reader.line_num}: {counted(len(fields), 'field')}, but "
                        f"{counted(len(columns), 'column')} ({', '.join(columns)}). {mend}"
                    )
                yield reader.line_num, dict(zip(columns, (files.uncelled(field.strip()) for field in fields)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{table} cannot be read as a CSV file in UTF-8 ({error}): save it again as such."
        ) from error
    except OSError as error:
        raise UserError(f"{table} cannot be opened ({error.strerror or error}): check the path") from error


def _rows(table: Path, check: Callable[[list[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a Parquet file or a Lance data set, as somebody would write them into a CSV file; columns of lists
    or bytes are left out."""
    number, columns = 0, None
    for batch in _batches(table):
        if columns is None:
            columns = [name.strip().lower() for name in batch.schema.names]
            check([name for name in columns if name != lance.ROW])
        for values in zip(*map(values_of, batch.columns)):
            number += 1
            yield number, {name: text_of(value) for name, value in zip(columns, values)}


def _batches(table: Path) -> Iterator:
    expected = "expected a table with a column path; write it again, or give a CSV file"
    if table.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise UserError(f"{table} needs pyarrow, which is not installed: {pip_install('ray')}") from error
        with files.opened(table) as file, files.understood(table, expected):
            content = pyarrow.parquet.ParquetFile(file)
            rows, names = content.metadata.num_rows, told(content.schema_arrow)
            size = rows * ROW + unpacked(content.metadata, names)
            memory.require(size, f"the {rows} rows of {table}", "divide the table")
            content = pyarrow.parquet.ParquetFile(file, read_dictionary=names)
            yield from content.iter_batches(columns=names)
        return
    with files.understood(table, f"{expected}, and a folder that Lance wrote"):
        rows = lance.opened(table)
        names = told(rows.schema)
        if long := lance.long_text(rows, names, LONGEST):
            raise UserError(
                f"{table}: a text in the column {long} has more than {LONGEST} bytes: shorten it, or leave the "
                "column out"
            )
        count = rows.count_rows()
        what = f"the {count} rows of {table}"
        memory.require(count * ROW, what, "divide the table")
        for batch in rows.search().select(names).with_row_id(lance.holds_images(table)).to_batches():
            memory.require(batch.nbytes, what, "divide the table")
            yield batch


def unpacked(metadata, names: Collection[str]) -> int:
    """Bytes of these columns of a Parquet file when they are no longer compressed; of a dictionary each text counts
    once, however often it occurs."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    columns = (group.column(at) for group in groups for at in range(group.num_columns))
    return sum(each.total_uncompressed_size for each in columns if each.path_in_schema.split(".")[0] in names)


def values_of(column) -> list:
    """The values of an Arrow column; those that are equal in a dictionary are one object."""
    from pyarrow import types

    if not types.is_dictionary(column.type):
        return column.to_pylist()
    words = column.dictionary.to_pylist()
    return [None if at is None else words[at] for at in column.indices.to_pylist()]


def told(schema) -> list[str]:
    """The columns that hold neither lists nor bytes."""
    from pyarrow import types

    kinds = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return [field.name for field in schema if not any(kind(field.type) for kind in kinds)]


def text_of(value: object) -> str:
    """A value of a column, as somebody would write it into a CSV file."""
    # pandas makes fractions of a column of whole numbers of which one is missing, which then is not a number.
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.isoformat() if isinstance(value, datetime) else str(value).strip()


def _offset(path: Path, text: str, where: str) -> int | None:
    """Where in a tar the image lies."""
    if path.suffix.lower() != tars.SUFFIX:
        if text:
            raise UserError(
                f"{where}: an offset is given, but {path.name} is not a tar: give the path of one, or leave it empty"
            )
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise UserError(
            f"{where}: the offset in {path.name} is {text!r}, but a whole number was expected: make the table with "
            "`crossreid data index`"
        )
    return int(text)


def _check_columns(table: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    missing = [column for column in needed if column not in columns]
    edges = [edge for edge in BOX_COLUMNS if edge not in columns]
    missing += edges if len(edges) < 4 else []
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    wrong = [
        f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("twice", twice)) if names
    ]
    if "" in columns:
        wrong.append(
            "one without a name" + ("; pandas: to_csv(..., index=False)" if columns[0] == "" else "")
        )
    if wrong:
        optional = [name for name in KNOWN if name not in needed and name not in BOX_COLUMNS]
        raise UserError(
            f"{table}, line 1: the columns are {_some(columns) or '(none)'} ({'; '.join(wrong)}); expected are "
            f"{', '.join(needed)} and, if wanted, {', '.join(optional)}, {', '.join(BOX_COLUMNS)} (a box in pixels) "
            "and any others, each once. Name the columns in the first line."
        )
    free = [name for name in KNOWN if name not in columns]
    others = []
    for column in columns:
        if column not in KNOWN:
            near = difflib.get_close_matches(column, free, 1)
            others.append(f"{column} (did you mean {near[0]}?)" if near else column)
    if others:
        warnings.warn(
            f"{table}: {', '.join(others)}: columns of your own, which are kept with each image as text",
            stacklevel=2,
        )


def _some(columns: Sequence[str]) -> str:
    """The first columns, as far as a message goes; what is no table may have any number."""
    shown = ", ".join(column[:40] for column in columns[:12])
    return f"{shown} and {len(columns) - 12} more" if len(columns) > 12 else shown


def _box(line: Mapping[str, str], where: str) -> tuple[int, int, int, int] | None:
    given = [line.get(edge, "") for edge in BOX_COLUMNS]
    if not any(given):
        return None
    try:
        left, top, right, bottom = decode.edges([float(edge) for edge in given])
    except (UserError, ValueError) as error:
        raise UserError(
            f"{where}: the box {', '.join(given)} was not understood; expected four numbers of pixels, or nothing"
        ) from error
    if right <= left or bottom <= top:
        raise UserError(
            f"{where}: the box {', '.join(given)} is empty: expected x0 < x1 and y0 < y1, the edges in "
            "pixels; of boxes with width and height, x1 is x0 + width and y1 is y0 + height"
        )
    return left, top, right, bottom
