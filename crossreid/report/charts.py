"""Line and scatter charts as SVG, with their data as CSV and, with the extra ``plot``, as PNG."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PLOT_HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 42
LEGEND_LINE = 18
CHARACTER = 7.0  # width of a character of the legend, for laying out its lines

LIGHT = ("#2159c4", "#c9500a", "#0b7d62", "#96309a", "#94700a", "#bd1e56", "#4a760f", "#58616e")
DARK = ("#79aaff", "#ff9d57", "#41cfa8", "#da95e6", "#e3bd4f", "#ff86a8", "#a6d25f", "#abb4c0")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "9 3 2 3 2 3")
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SHAPES = ("circle", "square", "triangle", "cross")

_VARIABLES = "".join(f"--s{index}:{{{index}}};" for index in range(len(LIGHT)))
_STANDALONE = (
    "svg{--ink:#1b1e23;--muted:#59606a;--line:#dcdfe3;--card:#fff;"
    + _VARIABLES.format(*LIGHT)
    + "}@media(prefers-color-scheme:dark){svg{--ink:#e9ebee;--muted:#a7aeb8;--line:#343a42;--card:#1b1f24;"
    + _VARIABLES.format(*DARK)
    + "}}"
)


def colours(palette: Sequence[str]) -> str:
    """The palette as CSS variables ``--s0`` to ``--s7``, which the charts of a page refer to."""
    return _VARIABLES.format(*palette)


@dataclass(frozen=True)
class Line:
    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes.

    percent: y holds fractions, shown from 0 to 100 per cent. logarithmic: the y axis; every y must then be
        positive.
    marks: the x at which points are marked and tell their value, or None for all.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    percent: bool = False
    logarithmic: bool = False
    marks: Sequence[float] | None = None

    @property
    def description(self) -> str:
        ends = "; ".join(
            f"{line.label}: {_value(line.y[0], self.percent)} at {line.x[0]:g}, "
            f"{_value(line.y[-1], self.percent)} at {line.x[-1]:g}"
            for line in self.lines
        )
        return f"{self.title}. {self.y} against {self.x}. {ends}."

    def csv(self) -> str:
        """One line for each x, one column for each line; empty where a line has no point."""
        points = [dict(zip(line.x, line.y)) for line in self.lines]
        rows = [
            [x, *(each.get(x, "") for each in points)] for x in sorted({x for each in points for x in each})
        ]
        return _csv([self.x, *(line.label for line in self.lines)], rows)


@dataclass(frozen=True)
class Scatter:
    """Points in the plane, told apart by group.

    group: name of each point's group. about: what each point says of itself. columns: further columns of the
        CSV file, name -> one value for each point.
    """

    name: str
    title: str
    x: Sequence[float]
    y: Sequence[float]
    group: Sequence[str]
    groups: Sequence[str]
    about: Sequence[str]
    columns: dict[str, Sequence]
    note: str = ""

    @property
    def description(self) -> str:
        return f"{self.title}. {len(self.x)} points in {len(self.groups)} groups. {self.note}"

    def csv(self) -> str:
        rows = zip(self.x, self.y, *self.columns.values())
        return _csv(["x", "y", *self.columns], rows)


def svg(chart: Chart | Scatter, standalone: bool = False) -> str:
    """The chart as an SVG element.

    In a page its colours are the page's variables. ``standalone`` gives a file of its own, with its title and
    with colours for light and dark.
    """
    names = [line.label for line in chart.lines] if isinstance(chart, Chart) else list(chart.groups)
    keys, legend_height = _legend(names, scatter=isinstance(chart, Scatter))
    head = 24 if standalone else 0
    note = 18 if isinstance(chart, Scatter) and chart.note else 0
    plot_height = PLOT_HEIGHT if isinstance(chart, Chart) else WIDTH - LEFT - RIGHT - 60
    body, height = _lines(chart, plot_height) if isinstance(chart, Chart) else _points(chart, plot_height)
    total = head + legend_height + height + note
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    parts = [
        f'<svg{namespace} viewBox="0 0 {WIDTH} {total}" role="img" aria-label="{escape(chart.description)}" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif" font-size="12">'
    ]
    if standalone:
        parts += [
            f"<style>{_STANDALONE}</style>",
            f'<rect width="{WIDTH}" height="{total}" style="fill:var(--card)"/>',
            f'<text x="10" y="18" font-size="14" font-weight="600" '
            f'style="fill:var(--ink)">{escape(chart.title)}</text>',
        ]
    parts.append(f'<g transform="translate(0 {head})">{keys}</g>')
    parts.append(f'<g transform="translate(0 {head + legend_height})">{body}</g>')
    if note:
        parts.append(
            f'<text x="{WIDTH / 2:g}" y="{total - 6}" text-anchor="middle" style="fill:var(--muted)">'
            f"{escape(chart.note)}</text>"
        )
    return "".join([*parts, "</svg>"])


def png(chart: Chart | Scatter) -> bytes | None:
    """The same chart drawn by matplotlib, or None where the extra ``plot`` is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    scatter = isinstance(chart, Scatter)
    figure = Figure(figsize=(6, 6 if scatter else 4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_plain(chart.title))
    if scatter:
        markers = dict(zip(SHAPES, "os^X"))
        for index, name in enumerate(chart.groups):
            rows = [row for row, group in enumerate(chart.group) if group == name]
            axes.scatter(
                [chart.x[row] for row in rows],
                [chart.y[row] for row in rows],
                s=14,
                label=_plain(name),
                color=LIGHT[index % len(LIGHT)],
                marker=markers[_shape(index)],
                linewidths=0,
            )
        axes.set(xticks=[], yticks=[], xlabel=_plain(chart.note))
    else:
        for index, line in enumerate(chart.lines):
            values = [100 * y for y in line.y] if chart.percent else line.y
            dash = [float(length) for length in DASHES[index % len(DASHES)].split()]
            axes.plot(
                line.x,
                values,
                label=_plain(line.label),
                color=LIGHT[index % len(LIGHT)],
                linestyle=(0, dash) if dash else "-",
                marker="o" if len(line.x) == 1 else None,
            )
        axes.set(xlabel=_plain(chart.x), ylabel=_plain(chart.y + (" (%)" if chart.percent else "")))
        axes.grid(alpha=0.3)
        if chart.marks:
            axes.set_xticks(list(chart.marks))
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if chart.percent:
            axes.set_ylim(0, 100)
        if chart.logarithmic:
            axes.set_yscale("log")
    names = chart.groups if scatter else chart.lines
    figure.legend(
        loc="outside lower center",
        ncols=min(len(names), 6 if scatter else 2),
        fontsize="small",
        frameon=False,
    )
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from at most ``low`` to at least ``high``."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _lines(chart: Chart, height: int) -> tuple[str, int]:
    xs = [x for line in chart.lines for x in line.x]
    ys = [y for line in chart.lines for y in line.y if math.isfinite(y)]
    x_low, x_high = (min(xs), max(xs)) if xs else (0, 1)
    if x_high == x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    if chart.percent:
        y_ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    elif chart.logarithmic:
        y_ticks = _decades(min(ys), max(ys))
    else:
        y_ticks = ticks(min(0, *ys, 0), max(*ys, 0, 0)) if ys else [0, 1]
    x_ticks = [tick for tick in ticks(x_low, x_high, 6) if x_low <= tick <= x_high and tick == int(tick)]
    if chart.marks:
        x_ticks = [mark for mark in chart.marks if x_low <= mark <= x_high]

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def scaled(y: float) -> float:
        return math.log10(y) if chart.logarithmic else y

    def down(y: float) -> float:
        low, high = scaled(y_ticks[0]), scaled(y_ticks[-1])
        return TOP + (1 - (scaled(y) - low) / (high - low)) * height

    parts = []
    for tick in y_ticks:
        y = down(tick)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" style="stroke:var(--line)"/>'
        )
        text = f"{100 * tick:g}" if chart.percent else f"{tick:g}"
        if chart.logarithmic:
            text = "10" + str(round(math.log10(tick))).translate(SUPERSCRIPT)
        parts.append(
            f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end" style="fill:var(--muted)">{text}</text>'
        )
    base = TOP + height
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}" style="stroke:var(--muted)"/>'
    )
    for tick in x_ticks:
        x = across(tick)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}" style="stroke:var(--muted)"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle" '
            f'style="fill:var(--muted)">{tick:g}</text>'
        )
    middle = TOP + height / 2
    label = escape(chart.y + (" (%)" if chart.percent else ""))
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{base + 35}" text-anchor="middle" '
        f'style="fill:var(--ink)">'
        f"{escape(chart.x)}</text>"
        f'<text transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle" '
        f'style="fill:var(--ink)">{label}</text>'
    )
    # The first line has no gaps, so that it shows through where a later one lies on it.
    for index, line in enumerate(chart.lines):
        points = [(x, y) for x, y in zip(line.x, line.y) if math.isfinite(y)]
        way = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{way}" fill="none" stroke-width="2" stroke-linejoin="round" '
            f"{_stroke(index)}/>"
        )
        marks = {x for x, _ in points} if chart.marks is None else set(chart.marks)
        for x, y in points:
            if x in marks:
                small = 2.4 if len(points) <= 25 or chart.marks else 0.1
                told = f"{line.label}, {chart.x.lower()} {x:g}: {_value(y, chart.percent)}"
                parts.append(
                    f'<g><title>{escape(told)}</title><circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="7" '
                    f'fill="transparent"/><circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="{small}" '
                    f'style="fill:var(--s{index % len(LIGHT)})"/></g>'
                )
    return "".join(parts), base + BOTTOM


def _points(chart: Scatter, height: int) -> tuple[str, int]:
    span = max(max(chart.x) - min(chart.x), max(chart.y) - min(chart.y)) or 1.0
    centre = (max(chart.x) + min(chart.x)) / 2, (max(chart.y) + min(chart.y)) / 2
    scale = (height - 16) / span
    order = {name: index for index, name in enumerate(chart.groups)}
    parts = [
        f'<rect x="10" y="4" width="{WIDTH - 20}" height="{height}" rx="6" '
        f'style="fill:none;stroke:var(--line)"/>'
    ]
    for x, y, group, about in zip(chart.x, chart.y, chart.group, chart.about):
        left = WIDTH / 2 + (x - centre[0]) * scale
        top = 4 + height / 2 - (y - centre[1]) * scale
        parts.append(_mark(order[group], left, top, f"<title>{escape(about)}</title>"))
    return "".join(parts), height + 12


def _legend(names: Sequence[str], scatter: bool) -> tuple[str, int]:
    """The names in as many lines as they need, and the height of that."""
    parts, x, y = [], 10.0, 14
    swatch = 14 if scatter else 30
    for index, name in enumerate(names):
        shown = name if len(name) <= 60 else name[:59] + "…"
        width = swatch + 4 + len(shown) * CHARACTER + 12
        if x + width > WIDTH and x > 10:
            x, y = 10.0, y + LEGEND_LINE
        if scatter:
            parts.append(_mark(index, x + 6, y - 4, ""))
        else:
            parts.append(
                f'<line x1="{x:g}" x2="{x + 24:g}" y1="{y - 4}" y2="{y - 4}" stroke-width="2.5" '
                f"{_stroke(index)}/>"
            )
        parts.append(f'<text x="{x + swatch:g}" y="{y}" style="fill:var(--ink)">{escape(shown)}</text>')
        x += width
    return "".join(parts), y + 8


def _mark(index: int, x: float, y: float, inside: str) -> str:
    colour = f'style="fill:var(--s{index % len(LIGHT)})" fill-opacity=".85"'
    if _shape(index) == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" {colour}>{inside}</circle>'
    if _shape(index) == "square":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" {colour}>{inside}</rect>'
    if _shape(index) == "triangle":
        return f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z" {colour}>{inside}</path>'
    way = f"M{x - 1.2:.1f} {y - 4:.1f}h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z"
    return f'<path d="{way}" {colour}>{inside}</path>'


def _shape(index: int) -> str:
    """Neighbouring groups differ in colour and in shape; 8 colours by 4 shapes make 32 different marks."""
    return SHAPES[(index + index // len(LIGHT)) % len(SHAPES)]


def _stroke(index: int) -> str:
    dash = DASHES[index % len(DASHES)]
    return f'style="stroke:var(--s{index % len(LIGHT)})"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is and not as a formula."""
    return text.replace("$", r"\$")


def _csv(header: Sequence[str], rows) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
