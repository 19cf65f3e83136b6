"""What a gallery holds and answers: Entry, Filter, Hit, Info."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crossreid.images.labels import plain
from crossreid.images.timestamps import check_taken
from crossreid.records import MODALITIES, UserError

Value = str | float | int | bool
# Bytes of UTF-8, so that every store can hold every entry.
LIMITS = {"key": 128, "path": 4096, "camera": 256, "identity": 256, "columns": 32768}
_TEXTS = [(name, LIMITS[name]) for name in ("key", "path", "camera", "identity")]
# Columns of an entry that hold the box of a person in a frame.
EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image in a gallery.

    key: names it; ``crossreid.images.decode.content_key`` makes one of the pixels, so that the same image added twice
        is one entry.
    path: where the image lies, as whoever added it wishes to find it again.
    modality: ``"visible"`` or ``"infrared"``.
    camera, identity: any text, None where not known.
    time: when it was taken, in seconds since 1970 (UTC), None where not known.
    columns: anything else by name; text, numbers or truth values.
    added: when it was added, in seconds since 1970; filled in by the gallery.
    """

    key: str
    path: str = ""
    modality: str = "visible"
    camera: str | None = None
    time: float | None = None
    identity: str | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)
    added: float | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant: those for which every condition given holds. Without one, all entries.

    cameras, identities, keys: one of these; an empty list is refused, which might be meant as none of all.
    modality: this one.
    since, until: taken at or after ``since``, and before ``until`` (seconds since 1970); an entry without a time
        fulfils neither.
    columns: these values in these columns; a tuple means one of its values. Whole and other numbers compare as
        numbers; text, numbers and truth values are never equal to each other, see ``readings``.
    expired: of an ``age`` from before this time. Retention goes by this one.
    """

    cameras: Sequence[str] = ()
    modality: str | None = None
    since: float | None = None
    until: float | None = None
    identities: Sequence[str] = ()
    keys: Sequence[str] = ()
    columns: Mapping[str, Value | tuple[Value, ...]] = field(default_factory=dict)
    expired: float | None = None

    def __post_init__(self):
        for name in ("cameras", "identities", "keys"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise UserError(f"{name} of a filter is {value!r}: expected several, such as ({value!r},)")
            given, value = value, tuple(value) if isinstance(value, Iterable) else (value,)
            if not value and not isinstance(given, tuple):
                raise UserError(
                    f"{name} of a filter are an empty {type(given).__name__}: give some, or leave {name} out where all "
                    "are meant"
                )
            if not all(isinstance(part, str) for part in value):
                raise UserError(f"{name} of a filter are {value!r}: expected text, such as ('1', '2')")
            object.__setattr__(self, name, value)
            for part in value:
                _text(part, name, "a filter")
            if name != "keys":
                object.__setattr__(self, name, tuple(map(plain, value)))
        if self.modality is not None:
            _modality(self.modality, "a filter")
        for name in ("since", "until", "expired"):
            _moment(getattr(self, name), f"{name} of a filter")
        _by_name(self.columns, "a filter")
        if empty := [name for name, value in self.columns.items() if isinstance(value, tuple) and not value]:
            raise UserError(f"column {empty[0]} of a filter has no value: expected one, or a tuple of some")
        for name, value in self.columns.items():
            for each in value if isinstance(value, tuple) else (value,):
                _columns({name: each}, "a filter")

    def marks(self) -> list[list[str]]:
        """For each of the columns, the tags of which an entry must hold one."""
        return [
            sorted({tag(name, each) for each in (value if isinstance(value, tuple) else (value,))})
            for name, value in self.columns.items()
        ]

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return self != Filter()


@dataclass(frozen=True, slots=True)
class Hit:
    """One line of a ranked list.

    rank: from 1. distance: 1 - cosine, 0 to 2; lists that were re-ranked are not in its order.
    """

    rank: int
    distance: float
    entry: Entry


@dataclass(frozen=True)
class Info:
    """What a gallery holds.

    dimension, fingerprint, model: of the vectors and of the model that made them.
    store: ``"memory"``, ``"lancedb"`` or ``"milvus"``. where: its folder or address.
    cameras, modalities, columns: those that occur, sorted. first, last: earliest and latest time.
    recall: share of the true first 20 that approximate search found when its index was built, or None.
    recall_within: the same within a filter, the least of a few that were tried (cameras, modalities, halves of the
        time); None where no index was built since this is measured, or nothing divides the entries.
    pattern: by which names of images were read into it.
    """

    entries: int
    dimension: int
    fingerprint: str
    model: str
    store: str
    where: str
    cameras: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    first: float | None = None
    last: float | None = None
    columns: tuple[str, ...] = ()
    recall: float | None = None
    recall_within: float | None = None
    pattern: str = ""


def checked(entry: Entry, added: float | None) -> Entry:
    """The entry as stores get it. Raises UserError that names what no store could hold."""
    name = f"the entry {entry.path or entry.key!r}"
    if not entry.key:
        raise UserError(f"{name} has no key: crossreid.images.decode.content_key makes one of the pixels")
    _modality(entry.modality, name)
    for what, limit in _TEXTS:
        value = getattr(entry, what)
        if value is not None or what in ("key", "path"):
            _text(value, what, name, limit)
    if entry.time is not None:
        moment = f"the time of {name}"
        _moment(entry.time, moment)
        check_taken(entry.time, moment)
    _columns(entry.columns, name)
    return Entry(
        entry.key,
        entry.path,
        entry.modality,
        None if entry.camera is None else plain(entry.camera),
        entry.time,
        None if entry.identity is None else plain(entry.identity),
        dict(entry.columns),
        added if entry.added is None else entry.added,
    )


def age(entry: Entry) -> float:
    """The time from which the age of an entry counts: when it was taken, or, where that is not known or lies after it,
    when it was added."""
    if entry.added is None:
        return entry.time or 0.0
    return entry.added if entry.time is None else min(entry.time, entry.added)


def box_of(entry: Entry) -> list | None:
    """The box that an entry shows of its frame, None for the whole image."""
    return [entry.columns[edge] for edge in EDGES] if all(edge in entry.columns for edge in EDGES) else None


def tag(name: str, value: Value) -> str:
    """A column and its value as one line of JSON, equal for equal values: what the stores compare."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{json.dumps(name)}: {json.dumps(value)}"


def readings(text: str) -> tuple[Value, ...]:
    """All that a text which somebody typed may mean in a column: itself, a number, a truth value."""
    found: list[Value] = [text]
    if text.lower() in ("true", "false"):
        found.append(text.lower() == "true")
    try:
        number = int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return tuple(found)
    return (*found, number) if abs(number) < 1e300 else tuple(found)


def tags(entry: Entry) -> set[str]:
    """All columns of an entry in that form."""
    return {tag(name, value) for name, value in entry.columns.items()}


def _modality(value, where: str) -> None:
    if value not in MODALITIES:
        raise UserError(f"modality of {where} is {value!r}: expected {' or '.join(MODALITIES)}")


def _moment(value, what: str) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
    ):
        raise UserError(f"{what} is {value!r}: expected seconds since 1970, an int or a float of Python")


def _text(value, what: str, where: str, limit: int | None = None) -> None:
    if not isinstance(value, str):
        raise UserError(f"{what} of {where} is {value!r}: expected text")
    try:
        length = len(value if value.isascii() else value.encode("utf-8"))
    except UnicodeEncodeError:
        raise UserError(f"{what} of {where} is {value!r}, which is not valid Unicode: rename it") from None
    if "\0" in value or (limit is not None and length > limit):
        raise UserError(f"{what} of {where} is longer than {limit} bytes or holds a zero byte: shorten it")


def _by_name(columns, where: str) -> None:
    if not isinstance(columns, Mapping):
        raise UserError(
            f"columns of {where} are {columns!r}: expected values by name, such as {{'place': 'hall'}}"
        )


def _columns(columns, where: str) -> None:
    _by_name(columns, where)
    total = 0
    for name, value in columns.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"a column of {where} is named {name!r}: expected text")
        _text(name, "the name of a column", where)
        if isinstance(value, str):
            _text(value, f"column {name}", where)
        elif not isinstance(value, (bool, int, float)) or not abs(value) < 1e300:
            raise UserError(
                f"column {name} of {where} is {value!r}: expected text, a finite number or a truth value, of Python's "
                "own types"
            )
        total += len(tag(name, value).encode("utf-8"))
    if total > LIMITS["columns"]:
        raise UserError(f"the columns of {where} take {total} bytes: at most {LIMITS['columns']} are kept")
