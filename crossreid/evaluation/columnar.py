"""Features in columns: the folder of Parquet fragments that ``crossreid embed --ray`` writes, and a Lance data set
(``NAME.lance``) with the same columns.

    0000000-3f2a....parquet    path, identity, camera, ..., vectors (D numbers), perhaps stripes (S times C numbers)
    _embedding.json            which fragments there are, in order, of which model

What ``_embedding.json`` says of the model stands in each file's schema too, as JSON under ``crossreid``; of a Lance
data set it may be missing. Some rows are in memory at a time; the vectors stay on the disk (``mapped``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossreid import memory
from crossreid.evaluation.mapped import Gathered, with_boxes
from crossreid.files import opened, understood
from crossreid.formats.shape import TEXT, WHOLE, unlike
from crossreid.formats.text import parse_json, read_json
from crossreid.images import lance
from crossreid.images.tables import BOX_COLUMNS, ROW, text_of, unpacked, values_of
from crossreid.records import UserError, pip_install

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch

ABOUT = "_embedding.json"
FRAGMENT = re.compile(r"\d{7,}-[0-9a-f]{32}\.parquet")
# The key under which a schema says what the vectors are.
SAID = b"crossreid"
# All of them must agree.
MODEL = ("fingerprint", "feature", "precision")
_COLUMNS = ("path", "identity", "camera", "modality", "split", *BOX_COLUMNS)
_TOGETHER = 1024
# Characters of a text, and bytes that a number takes while it is read: a small file can hold any number of equal ones.
_LONGEST, _NUMBER = 4096, 12
_ABOUT = {
    "fragments": [lambda value: TEXT(value) and FRAGMENT.fullmatch(value) is not None],
    "rows": lambda value: WHOLE(value) and value > 0,
    **dict.fromkeys(MODEL, TEXT),
}
_SAID = {
    "stripes?": (lambda value: value is None, [lambda value: WHOLE(value) and 0 < value < 2**20]),
    **dict.fromkeys(("fingerprint?", "feature?", "model?"), TEXT),
}


def is_columnar(path: Path) -> bool:
    """Whether the path is meant as features in columns."""
    if path.suffix.lower() == lance.SUFFIX:
        return True
    return path.is_dir() and (
        (path / ABOUT).is_file()
        or any(FRAGMENT.fullmatch(each.name) is not None for each in path.glob("*.parquet"))
    )


def columnar(path: Path) -> dict[str, np.ndarray]:
    """``vectors`` (N, D), perhaps ``stripes`` (N, S, C), each float32; the columns of text; and what is known of the
    model, by the names of an archive.

    Raises UserError for fragments that are missing or of another model, and for vectors that are missing or not of one
    length.
    """
    if path.suffix.lower() == lance.SUFFIX:
        expected = (
            "expected a Lance data set with the columns that `crossreid embed` writes, vectors among them"
        )
        known, count, batches = _lance(path, expected)
    else:
        expected = (
            "expected the Parquet fragments that `crossreid embed --ray` writes; copy the whole folder again, or give "
            "the command again that made it"
        )
        known, count, batches = _fragments(path, expected)
    if wrong := unlike(known, _SAID):
        raise UserError(f"{path} says {wrong} of its model, which is not understood: {expected}")
    memory.require(count * ROW, f"the {count} rows of {path}", "divide the gallery")
    shapes: dict[str, tuple[int, ...]] = {}
    arrays: dict[str, Gathered] = {}
    texts: dict[str, list[str]] = {}
    with understood(path, expected):
        for where, batch in batches:
            if not batch.num_rows:
                continue
            for name in ("vectors", "stripes"):
                if name in batch.schema.names:
                    values = _numbers(where, name, batch.column(name))
                    if name not in arrays:
                        shapes[name] = _shape(path, name, values.shape[1], known)
                        arrays[name] = Gathered((count, *shapes[name]))
                    if values.shape[1] != np.prod(shapes[name]):
                        raise UserError(
                            f"{where}: the {name} of a row have {values.shape[1]} numbers, and those of the rows "
                            f"before {np.prod(shapes[name])}: {expected}"
                        )
                    arrays[name].add(values.reshape(-1, *shapes[name]))
            for name in batch.schema.names:
                if name in _COLUMNS:
                    some = [text_of(value) for value in values_of(batch.column(name))]
                    if (longest := max(map(len, some))) > _LONGEST:
                        raise _too_long(where, name, longest)
                    texts.setdefault(name, []).extend(some)
        if "vectors" not in arrays:
            raise UserError(f"{path} holds no vectors: {expected}")
        found = {name: each.array() for name, each in arrays.items()}
        for name, column in texts.items():
            longest = max(map(len, column))
            size = 4 * longest * len(column)
            what = f"the column {name} of {path}, with texts of up to {longest} characters,"
            memory.require(size, what, "shorten these, or divide the gallery")
        found |= with_boxes({name: np.array(values, dtype=str) for name, values in texts.items()})
    told = {name: known[name] for name in ("fingerprint", "feature", "model") if known.get(name)}
    told |= {"metrics": json.dumps(known["metrics"])} if "metrics" in known else {}
    return found | {name: np.array(value) for name, value in told.items()}


Batches = Iterator[tuple[object, "RecordBatch"]]


def _fragments(folder: Path, expected: str) -> tuple[Mapping, int, Batches]:
    """What the folder says of its model, how many rows it has, and these, with the file that each batch is of."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(f"{folder} needs pyarrow, which is not installed: {pip_install('ray')}") from error
    if not (folder / ABOUT).is_file():
        raise UserError(
            f"{folder} has no {ABOUT}, which is written when all fragments are there: give the `crossreid embed --ray` "
            "command again that made it, which goes on where it was stopped"
        )
    about = read_json(folder / ABOUT, expected)
    if wrong := unlike(about, _ABOUT):
        raise UserError(f"{folder / ABOUT} does not say {wrong}, or not as was expected: {expected}")
    missing = [name for name in about["fragments"] if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of its {len(about['fragments'])} fragments, the first is {missing[0]}: "
            f"{expected}"
        )

    def batches() -> Batches:
        left = about["rows"]
        for name in about["fragments"]:
            with opened(folder / name) as file, understood(folder / name, expected):
                content = pq.ParquetFile(file)
                said = parse_json((content.metadata.metadata or {})[SAID])
                if differs := [key for key in MODEL if said.get(key) != about[key]]:
                    raise UserError(
                        f"{folder / name} is of another {differs[0]} than {ABOUT} says: fragments of two models are "
                        f"mixed; {expected}"
                    )
                left -= content.metadata.num_rows
                if left < 0:
                    break
                names = [
                    field
                    for field in content.schema_arrow.names
                    if field in (*_COLUMNS, "vectors", "stripes")
                ]
                groups = map(content.metadata.row_group, range(content.metadata.num_row_groups))
                count = sum(
                    group.column(at).num_values for group in groups for at in range(group.num_columns)
                )
                size = _NUMBER * count + unpacked(content.metadata, names)
                memory.require(size, f"the rows of {folder / name}", expected)
                content = pq.ParquetFile(file, read_dictionary=[name for name in names if name in _COLUMNS])
                for batch in content.iter_batches(_TOGETHER, columns=names):
                    yield folder / name, batch
        if left:
            raise UserError(
                f"the fragments of {folder} do not have the {about['rows']} rows of {ABOUT}: {expected}"
            )

    return about, about["rows"], batches()


def _lance(path: Path, expected: str) -> tuple[Mapping, int, Batches]:
    if not path.is_dir():
        raise UserError(f"there are no features at {path}: {expected}")
    rows = lance.latest(path.absolute())
    from pyarrow import types

    with understood(path, expected):
        known = parse_json((rows.schema.metadata or {}).get(SAID, b"{}"))
        count = rows.count_rows()
        names = [name for name in rows.schema.names if name in (*_COLUMNS, "vectors", "stripes")]
        for name in {"vectors", "stripes"}.intersection(names):
            kind = rows.schema.field(name).type
            length = kind.list_size if types.is_fixed_size_list(kind) else 0
            if types.is_list(kind) or types.is_large_list(kind):
                length = lance.length_of_lists(rows, name)
                if not length and count:
                    raise _not_of_one_length(path, name)
            size = _NUMBER * length * min(count, _TOGETHER)
            memory.require(size, f"{min(count, _TOGETHER)} rows of the {name} of {path}", expected)
        # In UTF-8 a character takes at most four bytes.
        if long := lance.long_text(rows, [name for name in names if name in _COLUMNS], 4 * _LONGEST):
            raise _too_long(path, long, f"more than {_LONGEST}")
        found = rows.search().select(names).to_batches(_TOGETHER) if names else iter(())
    return known, count, ((path, batch) for batch in found)


def _not_of_one_length(where: object, name: str) -> UserError:
    return UserError(
        f"{where}: the {name} are missing in some rows, or are not of one length: embed the images again, or leave out "
        "rows without them"
    )


def _too_long(where: object, name: str, length: object) -> UserError:
    return UserError(
        f"{where}: a text in the column {name} has {length} characters, where at most {_LONGEST} were expected: "
        "shorten it, or leave the column out"
    )


def _numbers(where: object, name: str, column: Array) -> np.ndarray:
    """A column of lists of one length as (N, length) float32."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = column.type, pa.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise UserError(
            f"{where}: the column {name} is of the type {kind}, where lists of numbers were expected"
        )
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    flat = column.flatten()
    if (
        column.null_count
        or flat.null_count
        or not len(lengths)
        or (lengths != lengths[0]).any()
        or not lengths[0]
    ):
        raise _not_of_one_length(where, name)
    return flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(column), -1)


def _shape(path: Path, name: str, length: int, known: Mapping[str, Any]) -> tuple[int, ...]:
    """Of what each row has: stripes lie one behind the other."""
    if name == "vectors":
        return (length,)
    stripes = known.get("stripes")
    if not stripes or len(stripes) != 2 or np.prod(stripes) != length:
        raise UserError(
            f"{path} has stripes, {length} numbers a row, and does not say how many they are: write it with the "
            "metadata of the fragments that it was made of, or without the column stripes"
        )
    return tuple(stripes)
