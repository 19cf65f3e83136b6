"""A figure of the report: matplotlib's own, which also knows its title, its data, and what its marks say.

Functions that draw return a ``Plot``: a ``matplotlib.figure.Figure``, so that a notebook shows it and everything that
matplotlib offers can be done with it. ``write`` saves it as SVG, PNG, PDF and CSV; ``in_page`` is its SVG for a page
that is light or dark.
"""

from __future__ import annotations

import base64
import csv
import io
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from crossreid.files import printable, write_whole
from crossreid.images.decode import decode
from crossreid.report.style import VARIABLES, styled

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
KINDS = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf", "csv": "text/csv"}
WIDTH = 4.8  # inches
_TITLE = 0.26  # inches that each line of a title takes
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]+")


class Plot(Figure):
    """A matplotlib figure with its ``name`` (of files), ``title``, ``description`` in words, and its data.

    header, rows: the CSV file. images: whether it shows images, which make its files large.
    """

    def __init__(
        self,
        name: str,
        title: str,
        height: float,
        *,
        header: Sequence[str],
        rows: Iterable[Sequence],
        width: float = WIDTH,
        images: bool = False,
        layout: Literal["constrained"] | None = "constrained",
    ):
        title = shown(title)
        self.title, self.name, self.shows_images = title, name, images
        self.description = f"{title}."
        self.header, self.rows = list(header), [list(row) for row in rows]
        lines = textwrap.wrap(title, int(13.5 * width))
        self._above = _TITLE * len(lines)
        self._hints: dict[str, Sequence[str]] = {}
        with styled():
            super().__init__(figsize=(width, height + self._above), layout=layout)
            # Where matplotlib lays the figure out, it finds the place of the title, and makes room for it.
            place = {} if layout else {"y": 1 - 0.05 / (height + self._above)}
            look = {"x": 0.015, "ha": "left", "fontsize": 10, "fontweight": "bold"}
            self._heading = self.suptitle("\n".join(lines), **look, **place)
        self._heading.set_gid("heading")

    @property
    def bottom(self) -> float:
        """How far below its title the figure ends, in inches."""
        return float(self.get_figheight()) - self._above

    def tell(self, artist: Artist, texts: Sequence[str]) -> None:
        """What the marks of an artist say under the pointer: one text for each point, or one for all of it."""
        name = f"{self.name}-hint-{len(self._hints)}"
        artist.set_gid(name)
        self._hints[name] = texts

    def csv(self) -> str:
        """The data that is drawn, with lines that end in a line feed."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return file.getvalue()

    def savefig(self, *given, **named) -> None:
        scales = [
            axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis) if axis.get_scale() == "log"
        ]
        powers = {label for axis in scales for label in axis.get_ticklabels(which="both")}
        for text in set(self.findobj(Text)) - powers:
            text.set_text(shown(text.get_text()))
            text.set_parse_math(False)  # a dollar sign in a name is one
        with styled():
            super().savefig(*given, **named)

    def files(self) -> dict[str, bytes]:
        """Ending -> content of ``svg``, ``png``, ``pdf`` and ``csv``."""
        return {
            "svg": _text(self._tree(), xlink=True).encode(),
            "png": self._saved("png"),
            "pdf": self._saved("pdf", metadata={"CreationDate": None, "Title": self.title}),
            "csv": self.csv().encode("utf-8", "backslashreplace"),
        }

    def in_page(self, svg: bytes | None = None) -> str:
        """The SVG element for a page: without its title, which stands above it there, and in the page's colours.

        svg: that of ``files``, where it is there already; None draws it.
        """
        root = self._tree() if svg is None else ElementTree.fromstring(svg)
        above = {part: parent for parent in root.iter() for part in parent}
        for part in [part for part in root.iter() if part.get("id") == f"{self.name}-heading"]:
            above[part].remove(part)
        width, height = (72 * side for side in self.get_size_inches())
        for attribute in ("width", "height", "version"):
            root.attrib.pop(attribute, None)
        top = 72 * self._above
        root.set("viewBox", f"0 {top:g} {width:g} {height - top:g}")
        root.set("role", "img")
        root.set("aria-label", shown(self.description))
        text = _text(root, xlink=False)
        for value, variable in VARIABLES.items():
            text = text.replace(f": {value}", f": var(--{variable})")
        return text

    def _repr_png_(self) -> bytes:
        return self._saved("png")

    def _saved(self, kind: str, **named) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format=kind, **named)
        return file.getvalue()

    def _tree(self) -> ElementTree.Element:
        """The SVG that matplotlib writes, made smaller, with what its marks say and names that no other figure has."""
        content = self._saved("svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        self.set_layout_engine("none")  # as it is laid out now, for the other files too
        text = _PNG.sub(_as_jpeg, content.decode())
        root = ElementTree.fromstring(text)
        parts = {part.get("id"): part for part in root.iter() if part.get("id")}
        used = set(re.findall(r"#([\w.-]+)", text))
        for name, part in parts.items():
            if name in self._hints:
                _hint(part, self._hints[name])
            if name not in used and name != "heading":
                del part.attrib["id"]
        for part in root.iter():
            for attribute, value in part.items():
                if attribute == "id":
                    part.set("id", f"{self.name}-{value}")
                elif attribute in ("d", "x", "y"):
                    part.set(attribute, _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value))
                elif value.startswith(("#", "url(#")) and attribute != "fill":
                    part.set(attribute, value.replace("#", f"#{self.name}-"))
                elif attribute == "style" and "font-family" in value:
                    part.set(
                        "style", re.sub(r"font-family: [^;]*", "font-family: system-ui, sans-serif", value)
                    )
        return root


def shown(text: str) -> str:
    """Text for a figure: names of files and identities may hold characters that no SVG file can, which are written
    out."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _hint(part: ElementTree.Element, texts: Sequence[str]) -> None:
    """Put texts as titles: into each mark of a group of marks, else into the part itself."""
    marks = list(part.iter(f"{{{SVG}}}use"))
    if len(marks) != len(texts):
        _title(part, texts[0])
        return
    for mark, text in zip(marks, texts):
        _title(mark, text)


def _title(part: ElementTree.Element, text: str) -> None:
    title = ElementTree.Element(f"{{{SVG}}}title")
    title.text = shown(text)
    part.insert(0, title)


def _text(root: ElementTree.Element, *, xlink: bool) -> str:
    """xlink: as a file of its own, which older programs read too; else as part of a page."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    if xlink:
        return text
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2).replace(" xlink:href=", " href=")
    return re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)


def _as_jpeg(found: re.Match) -> str:
    """matplotlib writes images as PNG, in which photographs take ten times the room."""
    from PIL import Image

    file = io.BytesIO()
    pixels = decode(base64.b64decode(found[0].partition(",")[2]))
    Image.fromarray(pixels).save(file, format="JPEG", quality=85)
    return data_uri("image/jpeg", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address of its own, such as ``data:image/png;base64,...``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "figure"


def write(
    figures: Sequence[Plot], folder: Path | str, drawn: Mapping[Plot, Mapping[str, bytes]] | None = None
) -> list[Path]:
    """Writes ``NAME.svg``, ``NAME.png``, ``NAME.pdf`` and ``NAME.csv`` of each figure into the folder, and returns the
    paths. A name that comes again has a number behind it. drawn: figure -> its ``files``, where they are there already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    seen: Counter[str] = Counter()
    for figure in figures:
        seen[figure.name] += 1
        name = figure.name if seen[figure.name] == 1 else f"{figure.name}-{seen[figure.name]}"
        files = drawn[figure] if drawn is not None else figure.files()
        for ending, content in files.items():
            path = folder / f"{name}.{ending}"
            write_whole(path, content)
            written.append(path)
    return written
