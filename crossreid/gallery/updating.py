"""Columns of a gallery's entries, changed by a table or for all entries within a filter; nothing is embedded again."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from crossreid.files import uncelled
from crossreid.gallery.entries import Filter, Value
from crossreid.gallery.gallery import Gallery
from crossreid.images import labels, timestamps
from crossreid.records import UserError

PAGE = 1000


def by_table(gallery: Gallery, table: Path) -> int:
    """Change what a CSV file says of entries, which it names by ``key`` or ``path``; how many were changed.

    Columns are those of entries (``camera``, ``identity``, ``time``, ``modality``) and any others; an empty field takes
    away what the entry has. Raises UserError that names the first line of an entry that is not there.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a CSV file in UTF-8 ({error})") from error
    name = next((each for each in ("key", "path") if lines and each in lines[0][1]), None)
    if name is None:
        raise UserError(f"{table}: a column key or path, and a line for each entry, were expected")
    wanted = {}
    for number, line in lines:
        if None in line or None in line.values():
            raise UserError(f"{table}, line {number}: not as many fields as columns: give each its own")
        where = f"{table}, line {number}"
        text = uncelled(line.pop(name).strip())
        line.pop("path", None)
        wanted[text] = (
            where,
            {column: _value(column, uncelled(given.strip()), where) for column, given in line.items()},
        )
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
    return sum(
        gallery.update(dict.fromkeys(keys[at : at + PAGE], changes)) for at in range(0, len(keys), PAGE)
    )


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
