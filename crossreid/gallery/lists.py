"""Ranked lists for reading: a table, records, a CSV file, a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crossreid import pages
from crossreid.files import isolated, path_of, printable, write_rows, write_whole
from crossreid.gallery.entries import Hit, box_of
from crossreid.images.decode import crop, decode
from crossreid.images.thumbnail import thumbnail
from crossreid.images.timestamps import written
from crossreid.records import UserError

FIELDS = ("rank", "distance", "identity", "camera", "modality", "time", "path", "key")


def record(hit: Hit) -> dict:
    """One line as plain values; ``time`` in seconds since 1970."""
    entry = hit.entry
    named = {name: getattr(entry, name) for name in ("identity", "camera", "modality", "time", "path", "key")}
    return {"rank": hit.rank, "distance": round(hit.distance, 6), **named, "columns": dict(entry.columns)}


def hit_table(hits: Sequence[Hit]) -> str:
    """The list in columns of equal width; fields that all entries lack are left out."""
    rows = [{name: printable(text) for name, text in _texts(hit).items()} for hit in hits]
    names = [name for name in FIELDS[:-1] if any(row[name] for row in rows)]
    lines = [dict(zip(names, names)), *rows]
    widths = {name: max(len(line[name]) for line in lines) for name in names}
    return "\n".join(
        "  ".join(
            line[name].rjust(widths[name]) if name in ("rank", "distance") else line[name].ljust(widths[name])
            for name in names
        ).rstrip()
        for line in lines
    )


def write_csv(path: Path, hits: Sequence[Hit]) -> None:
    """All fields, and a column for each of the entries' own columns."""
    own = sorted({name for hit in hits for name in hit.entry.columns})
    heads = [*FIELDS, *(name if name not in FIELDS else f"column {name}" for name in own)]
    rows = []
    for hit in hits:
        texts = _texts(hit) | {"distance": f"{hit.distance:.6f}"}
        rows.append([*(texts[name] for name in FIELDS), *(hit.entry.columns.get(name, "") for name in own)])
    write_rows(path, heads, rows)


def write_html(
    path: Path,
    title: str,
    query: np.ndarray,
    modality: str | None,
    hits: Sequence[Hit],
    gallery,
    folder: Path | None = None,
    *,
    identity: str | None = None,
    links: Mapping[str, str] | None = None,
) -> None:
    """A page without anything outside of it.

    query: the pixels (H, W, 3) that were looked for. gallery: where small copies of the images are asked for.
    folder: where there is none, the file of an entry is read if it lies below this one: a gallery from elsewhere must
    not bring any other image of this computer into a page that is passed on. identity: of the query, where it is known:
    then each image is marked as right or wrong. links: text -> relative address of another page.
    """
    right = [None if identity is None else hit.entry.identity == identity for hit in hits]
    shown = [
        {
            "image": _address(_image(hit.entry, gallery, folder)),
            "words": ", ".join(filter(None, _facts(hit))),
            "lines": [*filter(None, _facts(hit)), *filter(None, [hit.entry.path])],
            "missing": "no image",
            "distance": hit.distance,
            "right": known,
        }
        for hit, known in zip(hits, right)
    ]
    about = {"image": _address(thumbnail(query)), "words": title, "lines": [modality] if modality else []}
    text = pages.render(
        "search.html",
        title=title,
        query=about | {"missing": "no image", "distance": None},
        hits=shown,
        found=None if identity is None else sum(map(bool, right)),
        links=links or {},
    )
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def _facts(hit: Hit) -> list[str]:
    texts = _texts(hit)
    named = [
        f"{word} {isolated(texts[name])}" if texts[name] else ""
        for name, word in (("identity", "id"), ("camera", "camera"))
    ]
    return [*named, texts["modality"], texts["time"]]


def _address(image: bytes | None) -> str | None:
    if image is None:
        return None
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _image(entry, gallery, folder: Path | None) -> bytes | None:
    kept = gallery.image(entry.key)
    if kept is not None or folder is None:
        return kept
    try:
        file = path_of(str(folder / entry.path)).resolve(strict=True)
        if not file.is_relative_to(folder.resolve()):
            return None
        pixels = decode(file)
        if box := box_of(entry):
            pixels = crop(pixels, box)
    except (UserError, OSError, ValueError, RuntimeError):
        return None
    return thumbnail(pixels)


def _texts(hit: Hit) -> dict[str, str]:
    entry = hit.entry
    return {
        "rank": str(hit.rank),
        "distance": f"{hit.distance:.4f}",
        "identity": entry.identity or "",
        "camera": entry.camera or "",
        "modality": entry.modality,
        "time": written(entry.time),
        "path": entry.path,
        "key": entry.key,
    }
