"""What figures are drawn with: marks on a sheet, written as SVG for the page and for files, and as PNG."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

SERIES = ("#2159c4", "#c9500a", "#0b7d62", "#96309a", "#94700a", "#bd1e56", "#4a760f", "#58616e")
SERIES_DARK = ("#79aaff", "#ff9d57", "#41cfa8", "#da95e6", "#e3bd4f", "#ff86a8", "#a6d25f", "#abb4c0")
# What a saved figure has in place of the page's variables: figures go into papers and slides, which are light.
LIGHT = {
    "ink": "#1b1e23",
    "muted": "#59606a",
    "line": "#dcdfe3",
    "card": "#ffffff",
    "right": "#0b6b45",
    "wrong": "#b3261e",
} | {f"s{index}": colour for index, colour in enumerate(SERIES)}
FONT = "system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif"
SHARPNESS = 3  # a PNG is drawn so many times larger and reduced, which smooths its edges


def variables(palette: Sequence[str]) -> str:
    """The colours of the series as CSS variables ``--s0`` to ``--s7``, which the figures of a page refer to."""
    return "".join(f"--s{index}:{colour};" for index, colour in enumerate(palette))


class Drawing:
    """A sheet of ``width`` by ``height`` units, the origin at its upper left, marks in the order they are laid on.

    Colours are names that the page gives a light and a dark value (``ink``, ``muted``, ``line``, ``card``,
    ``right``, ``wrong``, ``s0`` to ``s7``) or ``#rrggbb``. ``about`` is what a mark says under the pointer.
    """

    def __init__(self, width: float, height: float):
        self.width, self.height = width, height
        self.marks: list[tuple[str, dict]] = []

    def path(self, points, colour: str, width: float = 1.0, dash: str = "") -> None:
        """A line through the points [(x, y), ...]; dash: lengths of lines and gaps in turn, ``"7 3"``."""
        self._add("path", points=list(points), colour=colour, width=width, dash=dash)

    def polygon(self, points, fill: str, alpha: float = 1.0, about: str = "") -> None:
        self._add("polygon", points=list(points), fill=fill, alpha=alpha, about=about)

    def rectangle(self, x, y, width, height, fill="", border="", thickness=1.0, dash="", about="") -> None:
        self._add(
            "rectangle",
            x=x,
            y=y,
            width=width,
            height=height,
            fill=fill,
            border=border,
            thickness=thickness,
            dash=dash,
            about=about,
        )

    def circle(self, x, y, radius, fill="", border="", about="", reach=0.0) -> None:
        """reach: how far from the centre the pointer still meets the mark, where that is more than its radius."""
        self._add("circle", x=x, y=y, radius=radius, fill=fill, border=border, about=about, reach=reach)

    def text(self, x, y, words, colour="muted", anchor="start", size=12, bold=False, turned=False, power=""):
        """Words from (x, y) on, the y of their foot. turned: upwards instead. power: an exponent behind them."""
        self._add(
            "text",
            x=x,
            y=y,
            words=str(words),
            colour=colour,
            anchor=anchor,
            size=size,
            bold=bold,
            turned=turned,
            power=str(power),
        )

    def image(self, x, y, width, height, pixels: np.ndarray, about="") -> None:
        """pixels: (h, w, 3) uint8, stretched over the place."""
        self._add("image", x=x, y=y, width=width, height=height, pixels=pixels, about=about)

    def lay(self, other: Drawing, x: float = 0.0, y: float = 0.0) -> None:
        """Lay all marks of another sheet on this one, moved by (x, y)."""
        for kind, given in other.marks:
            given = dict(given)
            if "points" in given:
                given["points"] = [(left + x, top + y) for left, top in given["points"]]
            else:
                given |= {"x": given["x"] + x, "y": given["y"] + y}
            self.marks.append((kind, given))

    def _add(self, kind: str, **given) -> None:
        self.marks.append((kind, given))


def svg(drawing: Drawing, description: str, standalone: bool = False) -> str:
    """As an SVG element. In a page its colours are the page's variables; ``standalone`` gives a file of its
    own, light, with plain colours that any program can draw."""

    def paint(**roles) -> str:
        parts = []
        for attribute, colour in roles.items():
            if colour:
                plain = colour.startswith("#")
                value = colour if plain else LIGHT[colour] if standalone else f"var(--{colour})"
            else:
                value = "none"
            parts.append(f' {attribute}="{value}"')
        return "".join(parts)

    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    size = f' width="{drawing.width:g}" height="{drawing.height:g}"' if standalone else ""
    parts = [
        f'<svg{namespace}{size} viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" '
        f'aria-label="{escape(description)}" font-family="{FONT}" font-size="12">'
    ]
    if standalone:
        parts.append(f'<rect width="100%" height="100%"{paint(fill="card")}/>')
    for kind, given in drawing.marks:
        parts.append(_ELEMENTS[kind](paint, **given))
    return "".join([*parts, "</svg>"])


def _titled(tag: str, attributes: str, about: str) -> str:
    return (
        f"<{tag}{attributes}>" + (f"<title>{escape(about)}</title></{tag}>")
        if about
        else f"<{tag}{attributes}/>"
    )


def _path(paint, points, colour, width, dash) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    if len(points) == 2:
        (x1, y1), (x2, y2) = points
        place = f' x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"'
        return f'<line{place}{paint(stroke=colour)} stroke-width="{width:g}"{dashed}/>'
    return (
        f'<polyline points="{_points(points)}"{paint(fill="", stroke=colour)} stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def _polygon(paint, points, fill, alpha, about) -> str:
    seen = f' fill-opacity="{alpha:g}"' if alpha < 1 else ""
    return _titled("polygon", f' points="{_points(points)}"{paint(fill=fill)}{seen}', about)


def _rectangle(paint, x, y, width, height, fill, border, thickness, dash, about) -> str:
    place = f' x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    edge = paint(stroke=border) + f' stroke-width="{thickness:g}"' if border else ""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return _titled("rect", place + paint(fill=fill) + edge + dashed, about)


def _circle(paint, x, y, radius, fill, border, about, reach) -> str:
    place = f' cx="{_n(x)}" cy="{_n(y)}"'
    edge = paint(stroke=border) + ' stroke-width="1.4"' if border else ""
    mark = f' r="{radius:g}"' + paint(fill=fill) + edge
    if not reach:
        return _titled("circle", place + mark, about)
    far = f'<circle{place} r="{reach:g}" fill="transparent"/>'
    return f"<g><title>{escape(about)}</title>{far}<circle{place}{mark}/></g>"


def _text(paint, x, y, words, colour, anchor, size, bold, turned, power) -> str:
    place = f' transform="translate({_n(x)} {_n(y)}) rotate(-90)"' if turned else f' x="{_n(x)}" y="{_n(y)}"'
    style = ("" if anchor == "start" else f' text-anchor="{anchor}"') + (
        "" if size == 12 else f' font-size="{size:g}"'
    )
    style += ' font-weight="600"' if bold else ""
    raised = f'<tspan dy="-5" font-size="9">{escape(power)}</tspan>' if power else ""
    return f"<text{place}{style}{paint(fill=colour)}>{escape(words)}{raised}</text>"


def _image(paint, x, y, width, height, pixels, about) -> str:
    return _titled(
        "image",
        f' x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" preserveAspectRatio="none" '
        f'href="{data_uri("image/jpeg", jpeg(pixels))}"',
        about,
    )


_ELEMENTS: dict[str, Callable[..., str]] = {
    "path": _path,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "text": _text,
    "image": _image,
}


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _points(points) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address of its own, such as ``data:image/png;base64,...``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg(pixels: np.ndarray) -> bytes:
    """(h, w, 3) uint8 as a small JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=82)
    return file.getvalue()


def png(drawing: Drawing, scale: float = 2.0) -> bytes:
    """The same marks as a PNG in the light colours, ``scale`` pixels a unit."""
    canvas = _Canvas(drawing, scale)
    for kind, given in drawing.marks:
        getattr(canvas, kind)(**given)
    file = io.BytesIO()
    canvas.sheet.reduce(SHARPNESS).save(file, format="PNG")
    return file.getvalue()


class _Canvas:
    """The marks of a drawing in Pillow, at ``SHARPNESS`` times the scale."""

    def __init__(self, drawing: Drawing, scale: float):
        from PIL import Image, ImageDraw

        self.scale = scale * SHARPNESS
        whole = [math.ceil(side * scale) * SHARPNESS for side in (drawing.width, drawing.height)]
        self.sheet = Image.new("RGB", whole, LIGHT["card"])
        self.draw = ImageDraw.Draw(self.sheet)

    def path(self, points, colour, width, dash) -> None:
        points = [(x * self.scale, y * self.scale) for x, y in points]
        thick = max(1, round(width * self.scale))
        lengths = [float(length) * self.scale for length in dash.split()]
        for piece in _dashes(points, lengths) if lengths else [points]:
            self.draw.line(piece, fill=_colour(colour), width=thick, joint="curve")

    def polygon(self, points, fill, alpha, about) -> None:
        points = [(x * self.scale, y * self.scale) for x, y in points]
        if alpha == 1:
            self.draw.polygon(points, fill=_colour(fill))
            return
        from PIL import Image, ImageDraw

        mask = Image.new("L", self.sheet.size)
        ImageDraw.Draw(mask).polygon(points, fill=round(255 * alpha))
        self.sheet.paste(_colour(fill), (0, 0, *self.sheet.size), mask)

    def rectangle(self, x, y, width, height, fill, border, thickness, dash, about) -> None:
        left, top, right, bottom = (round(value * self.scale) for value in (x, y, x + width, y + height))
        if fill and right > left and bottom > top:
            self.draw.rectangle((left, top, right - 1, bottom - 1), fill=_colour(fill))
        if border:
            corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
            self.path(corners, border, thickness, dash)

    def circle(self, x, y, radius, fill, border, about, reach) -> None:
        box = [value * self.scale for value in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(
            box,
            fill=_colour(fill) if fill else None,
            outline=_colour(border) if border else None,
            width=round(1.4 * self.scale) if border else 1,
        )

    def text(self, x, y, words, colour, anchor, size, bold, turned, power) -> None:
        from PIL import Image, ImageDraw

        pieces = [(words, size, 0.0)] + ([(power, 9, 5.0)] if power else [])
        fonts = [_font(piece.isascii(), round(high * self.scale)) for piece, high, _ in pieces]
        widths = [font.getlength(piece) for font, (piece, _, _) in zip(fonts, pieces)]
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * sum(widths)
        heavy = {"stroke_width": 0.02 * size * self.scale} if bold else {}
        if turned:
            high = round(1.6 * size * self.scale)
            strip = Image.new("L", (math.ceil(sum(widths)) + 2, high))
            ImageDraw.Draw(strip).text((0, 0.75 * high), words, fill=255, font=fonts[0], anchor="ls", **heavy)
            strip = strip.rotate(90, expand=True)
            left = round(x * self.scale - 0.75 * high)
            top = round(y * self.scale + shift - strip.height)
            self.sheet.paste(_colour(colour), (left, top, left + strip.width, top + strip.height), strip)
            return
        at = x * self.scale - shift
        for font, wide, (piece, _, raised) in zip(fonts, widths, pieces):
            foot = (y - raised) * self.scale
            self.draw.text((at, foot), piece, fill=_colour(colour), font=font, anchor="ls", **heavy)
            at += wide

    def image(self, x, y, width, height, pixels, about) -> None:
        from PIL import Image

        size = round(width * self.scale), round(height * self.scale)
        shown = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        self.sheet.paste(shown, (round(x * self.scale), round(y * self.scale)))


def _colour(name: str) -> str:
    return name if name.startswith("#") else LIGHT[name]


def _dashes(points, lengths: Sequence[float]):
    """The pieces of a line that are drawn where lines and gaps of these lengths take turns."""
    drawn, left, index, piece = True, lengths[0], 0, [points[0]]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        whole = math.hypot(x2 - x1, y2 - y1)
        done = 0.0
        while whole - done > left:
            done += left
            corner = (x1 + (x2 - x1) * done / whole, y1 + (y2 - y1) * done / whole)
            if drawn:
                yield [*piece, corner]
            index += 1
            drawn, left, piece = not drawn, lengths[index % len(lengths)], [corner]
        left -= whole - done
        piece.append((x2, y2))
    if drawn and len(piece) > 1:
        yield piece


@functools.cache
def _font(plain: bool, size: int):
    """Pillow's own font, the same on every machine; the system's for letters that it may lack."""
    from PIL import ImageFont

    if not plain:
        for name in ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf"):
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)
