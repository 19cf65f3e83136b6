"""Ranked lists for reading: a table, records, a CSV file, a page."""

from __future__ import annotations

import base64
import csv
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.files import cell, path_of, printable, replacing
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
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = [*FIELDS, *(name if name not in FIELDS else f"column {name}" for name in own)]
        writer.writerow(map(cell, heads))
        for hit in hits:
            texts = _texts(hit) | {"distance": f"{hit.distance:.6f}"}
            values = [*(texts[name] for name in FIELDS), *(hit.entry.columns.get(name, "") for name in own)]
            writer.writerow(map(cell, values))


def write_html(
    path: Path,
    title: str,
    query: np.ndarray,
    modality: str | None,
    hits: Sequence[Hit],
    gallery,
    folder: Path | None = None,
) -> None:
    """A page without anything outside of it.

    query: the pixels (H, W, 3) that were looked for. gallery: where small copies of the images are asked for.
    folder: where there is none, the file of an entry is read if it lies below this one: a gallery from elsewhere must
    not bring any other image of this computer into a page that is passed on.
    """
    cards = [_card("query", modality or "", title, thumbnail(query))]
    for hit in hits:
        texts = _texts(hit)
        facts = ", ".join(
            f"{name} {texts[name]}" for name in ("identity", "camera", "modality", "time") if texts[name]
        )
        cards.append(
            _card(
                f"{hit.rank}: {hit.distance:.4f}", facts, hit.entry.path, _image(hit.entry, gallery, folder)
            )
        )
    note = "Nearest first; the number is the distance, 1 - cosine." if hits else "Nothing was found."
    text = PAGE.format(title=html.escape(title), note=note, cards="\n".join(cards))
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Search: {title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; overflow-wrap: anywhere; font-size: .8rem; }}
figure:first-child {{ outline: 2px solid; outline-offset: 6px; }}
img, .none {{ display: grid; place-items: center; height: 12rem; max-width: 100%; background: #8882; }}
strong {{ display: block; font-size: 1rem; }}
small {{ opacity: .7; }}
</style>
<h1>{title}</h1>
<p>{note}</p>
<main>
{cards}
</main>
</html>
"""


def _card(head: str, facts: str, path: str, image: bytes | None) -> str:
    if image is None:
        shown = '<div class="none">no image</div>'
    else:
        kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
        shown = f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(image).decode()}">'
    head, facts, path = map(html.escape, (head, facts, path))
    return f"<figure>{shown}<figcaption><strong>{head}</strong>{facts}<br><small>{path}</small></figcaption></figure>"


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
