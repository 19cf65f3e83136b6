"""Columns of a gallery's entries, changed by a table or for all entries within a filter; nothing is embedded again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crossreid.gallery.entries import Filter, Value
from crossreid.gallery.gallery import Gallery
from crossreid.images import labels, tables, timestamps
from crossreid.records import UserError

PAGE = 1000


def by_table(gallery: Gallery, table: Path) -> int:
    """Change what a table says of entries, which it names by ``key`` or ``path``; how many were changed.

    Columns are those of entries (``camera``, ``identity``, ``time``, ``modality``) and any others; an empty field takes
    away what the entry has. Raises UserError that names the first line of an entry that is not there.
    """
    name, wanted = "", {}

    def check(columns: list[str]) -> None:
        nonlocal name
        name = next((each for each in ("key", "path") if each in columns), "")
        if not name or "" in columns or len(set(columns)) < len(columns):
            raise UserError(
                f"{table}, line 1: the columns are {', '.join(columns) or '(none)'}: expected key or path and the "
                "columns to change, each once"
            )

    for number, line in tables.lines_of(table, check):
        where = f"{table}, line {number}"
        text = line.pop(name)
        line.pop("path", None)
        wanted[text] = (where, {column: _value(column, given, where) for column, given in line.items()})
    known = _keys(gallery, set(wanted), by_path=name == "path")
    missing = next((text for text in wanted if text not in known), None)
    if missing is not None:
        raise UserError(f"{wanted[missing][0]}: no entry of the gallery has the {name} {missing!r}")
    return gallery.update({key: wanted[text][1] for text, keys in known.items() for key in keys})


def by_filter(gallery: Gallery, condition: Filter, texts: Mapping[str, str]) -> int:
    """Change these columns of all entries within a filter; how many they were. An empty text takes a column away."""
    changes = {name: _value(name, text, f"--set {name}") for name, text in texts.items()}
    keys, start = [], 0
    while entries := gallery.entries(condition, start, PAGE):
        keys += [entry.key for entry in entries]
        start += len(entries)
    return gallery.update(dict.fromkeys(keys, changes))


def _keys(gallery: Gallery, texts: set[str], by_path: bool) -> dict[str, list[str]]:
    """The keys of the entries that have one of these keys, or paths; an image may hold several people."""
    if not by_path:
        return {key: [key] for key in gallery.known(sorted(texts))}
    found: dict[str, list[str]] = {}
    start = 0
    while entries := gallery.entries(start=start, count=PAGE):
        start += len(entries)
        for entry in entries:
            if entry.path in texts:
                found.setdefault(entry.path, []).append(entry.key)
    return found


def _value(name: str, text: str, where: str) -> Value | None:
    if name == "modality":
        return labels.modality(text, where)
    if not text:
        return None
    return timestamps.taken(text, f"{where}: time") if name == "time" else text
