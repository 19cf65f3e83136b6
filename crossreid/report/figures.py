"""Figures in the page, and as files beside it.

A figure is anything with a ``name`` (of its files), a ``title``, a ``description`` in words, ``draw()`` and ``csv()``:
the charts, the map, the images with something laid over them. It is drawn once; the page, SVG and PNG are three ways
of writing that drawing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from crossreid.files import replacing
from crossreid.report.drawing import Drawing, data_uri, png, svg

TITLE = 30  # height of the title of a figure that is a file
WIDE = 700  # a figure wider than this has a line of the page to itself


@dataclass
class Section:
    """One part of the page: its heading, HTML, and the figures below that."""

    title: str
    body: str = ""
    figures: list = field(default_factory=list)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "figure"


def titled(figure) -> Drawing:
    """The drawing of a figure under its title, as it stands in a file."""
    drawn = figure.draw()
    sheet = Drawing(drawn.width, drawn.height + TITLE)
    sheet.text(10, 21, figure.title, "ink", size=14, bold=True)
    sheet.lay(drawn, 0, TITLE)
    return sheet


def files(figure) -> dict[str, tuple[str, bytes]]:
    """Ending -> (kind, content) of each file of a figure."""
    sheet = titled(figure)
    return {
        ".svg": (
            "image/svg+xml",
            svg(sheet, figure.description, standalone=True).encode("utf-8", "backslashreplace"),
        ),
        ".png": ("image/png", png(sheet)),
        ".csv": ("text/csv", figure.csv().encode("utf-8", "backslashreplace")),
    }


def write(figures: Sequence, folder: Path) -> list[Path]:
    """Writes ``NAME.svg``, ``NAME.png`` and ``NAME.csv`` of each figure into the folder, and returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures:
        for ending, (_, content) in files(figure).items():
            path = folder / f"{figure.name}{ending}"
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            written.append(path)
    return written


def in_page(figures: Sequence) -> str:
    """The figures as HTML, side by side where there is room. Charts carry their files; images would carry
    themselves three times over and leave that to ``write``."""
    if not figures:
        return ""
    return f'<div class="charts">{"".join(_one(figure) for figure in figures)}</div>'


def _one(figure) -> str:
    sheet = figure.draw()
    shows_images = any(kind == "image" for kind, _ in sheet.marks)
    saved = "" if shows_images else _links(figure)
    wide = ' class="wide"' if sheet.width > WIDE else ""
    return (
        f"<figure{wide}><figcaption>{escape(figure.title)}</figcaption>"
        f"{svg(sheet, figure.description)}{saved}</figure>"
    )


def _links(figure) -> str:
    links = " ".join(
        f'<a href="{data_uri(kind, content)}" download="{escape(figure.name)}{ending}" '
        f'aria-label="{ending[1:].upper()} of {escape(figure.title)}">{ending[1:].upper()}</a>'
        for ending, (kind, content) in files(figure).items()
    )
    return f'<p class="files">Save as {links}</p>'
