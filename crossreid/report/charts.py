"""Charts: lines, points, histograms, tables of colours. Each draws itself and tells its data as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.report.axes import (
    BOTTOM,
    PLOT_HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    axes,
    log_axis,
    plain_axis,
    ticks,
    whole_axis,
)
from crossreid.report.drawing import SERIES, Drawing

LEGEND_LINE = 18
CHARACTER = 6.6  # width of a character, for laying out labels
DIRECT = 20  # labels up to so many characters stand at the ends of their lines, longer ones in a legend

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "9 3 2 3 2 3")
SHAPES = ("circle", "square", "triangle", "cross")
# From 0 over 1/2 to 1: one colour, nearly none, another.
RAMP = ((201, 80, 10), (244, 241, 234), (33, 89, 196))
SHADES = ((246, 246, 243), (140, 172, 226), (22, 62, 143))


@dataclass(frozen=True)
class Line:
    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes.

    percent: y holds fractions, shown from 0 to 100 per cent. logarithmic, logarithmic_x: the axes; every value
        must then be positive.
    marks: the x at which points are marked and tell their value, or None for all.
    note: a line below.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    percent: bool = False
    logarithmic: bool = False
    marks: Sequence[float] | None = None
    logarithmic_x: bool = False
    note: str = ""

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
        return csv_text([self.x, *(line.label for line in self.lines)], rows)

    def draw(self) -> Drawing:
        names = [line.label for line in self.lines]
        direct = len(names) > 1 and max(map(len, names)) <= DIRECT and len(names) <= 8
        right = RIGHT + (max(map(len, names)) * CHARACTER + 4 if direct else 0)
        legend, height = (None, 0) if direct or len(names) < 2 else _legend(names)
        sheet = Drawing(WIDTH, height + TOP + PLOT_HEIGHT + BOTTOM + (16 if self.note else 0))
        if legend:
            sheet.lay(legend)
        plot = self._plot(right, direct)
        sheet.lay(plot, 0, height)
        if self.note:
            _note(sheet, self.note)
        return sheet

    def _plot(self, right: float, direct: bool) -> Drawing:
        xs = [x for line in self.lines for x in line.x]
        ys = [y for line in self.lines for y in line.y if math.isfinite(y)]
        x_axis = log_axis(min(xs), max(xs)) if self.logarithmic_x else whole_axis(xs, self.marks)
        if self.percent:
            y_axis = Axis(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20", "40", "60", "80", "100"])
        elif self.logarithmic:
            y_axis = log_axis(min(ys), max(ys))
        else:
            y_axis = plain_axis(ticks(min(0, *ys, 0), max(*ys, 0, 0)) if ys else [0, 1])
        sheet = Drawing(WIDTH, TOP + PLOT_HEIGHT + BOTTOM)
        label = self.y + (" (%)" if self.percent else "")
        across, down = axes(sheet, x_axis, y_axis, self.x, label, right)
        # The first line has no gaps, so that it shows through where a later one lies on it.
        ends = []
        for index, line in enumerate(self.lines):
            colour = f"s{index % len(SERIES)}"
            points = [(x, y) for x, y in zip(line.x, line.y) if math.isfinite(y)]
            way = [(across(x), down(y)) for x, y in points]
            if len(way) > 1:
                sheet.path(way, colour, 2, DASHES[index % len(DASHES)])
            if way:
                ends.append((index, way[-1][1]))
            marks = {x for x, _ in points} if self.marks is None else set(self.marks)
            for (x, y), place in zip(points, way):
                if x in marks:
                    small = 2.6 if len(points) <= 25 or self.marks else 0.1
                    told = f"{line.label}, {self.x.lower()} {x:g}: {_value(y, self.percent)}"
                    sheet.circle(*place, small, fill=colour, about=told, reach=7)
        if direct:
            for index, y in _spread(ends, TOP + PLOT_HEIGHT):
                left = WIDTH - right + 8
                sheet.text(left, y + 4, self.lines[index].label, f"s{index % len(SERIES)}")
        return sheet


@dataclass(frozen=True)
class Histogram:
    """How often values fall between edges, for several kinds; drawn as shares of each kind.

    edges: (B + 1,). counts: kind -> (B,). looks: colour and dash of each kind, as numbers; each its own by default.
    """

    name: str
    title: str
    x: str
    edges: Sequence[float]
    counts: dict[str, Sequence[int]]
    note: str = ""
    looks: Sequence[tuple[int, int]] = ()

    @property
    def description(self) -> str:
        sums = ", ".join(f"{int(sum(each))} of {kind}" for kind, each in self.counts.items())
        return f"{self.title}. Share of pairs against {self.x.lower()}; {sums}."

    def csv(self) -> str:
        rows = zip(self.edges[:-1], self.edges[1:], *self.counts.values())
        return csv_text(["from", "to", *self.counts], rows)

    def draw(self) -> Drawing:
        looks = self.looks or [(index, index) for index in range(len(self.counts))]
        legend, height = _legend(list(self.counts), looks=looks)
        shares = [100 * np.asarray(each) / max(1, np.sum(each)) for each in self.counts.values()]
        spans = [np.flatnonzero(share)[[0, -1]] + (0, 1) if share.any() else (0, 0) for share in shares]
        sheet = Drawing(WIDTH, height + TOP + PLOT_HEIGHT + BOTTOM + (16 if self.note else 0))
        sheet.lay(legend)
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        low, high = self.edges[first], self.edges[last]
        shown = [tick for tick in ticks(low, high, 6) if low <= tick <= high]
        x_axis = Axis(low, high, shown, [f"{tick:g}" for tick in shown])
        y_axis = plain_axis(ticks(0, max(share.max() for share in shares)))
        plot = Drawing(WIDTH, TOP + PLOT_HEIGHT + BOTTOM)
        across, down = axes(plot, x_axis, y_axis, self.x, "Share of the kind's pairs (%)", RIGHT)
        for share, (first, last), (colour, dash) in zip(shares, spans, looks):
            stairs = [(across(self.edges[first]), down(0))]
            for bar in range(first, last):
                stairs += [(across(edge), down(share[bar])) for edge in self.edges[bar : bar + 2]]
            stairs.append((across(self.edges[last]), down(0)))
            plot.polygon(stairs, f"s{colour}", alpha=0.14)
            plot.path(stairs, f"s{colour}", 1.8, DASHES[dash])
        sheet.lay(plot, 0, height)
        if self.note:
            _note(sheet, self.note)
        return sheet


@dataclass(frozen=True)
class Scatter:
    """Points in the plane, told apart by group.

    group: name of each point's group. about: what each point says of itself. columns: further columns of the
        CSV file, name -> one value for each point. hollow: whether each point is drawn as an outline.
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
    hollow: Sequence[bool] = ()

    @property
    def description(self) -> str:
        return f"{self.title}. {len(self.x)} points in {len(self.groups)} groups. {self.note}"

    def csv(self) -> str:
        return csv_text(["x", "y", *self.columns], zip(self.x, self.y, *self.columns.values()))

    def draw(self) -> Drawing:
        size = WIDTH - 20
        legend, height = _legend(list(self.groups), marks=True)
        sheet = Drawing(WIDTH, height + size + 8 + (18 if self.note else 0))
        sheet.lay(legend)
        top = height + 2
        sheet.rectangle(10, top, size, size, border="line")
        span = max(max(self.x) - min(self.x), max(self.y) - min(self.y)) or 1.0
        centre = (max(self.x) + min(self.x)) / 2, (max(self.y) + min(self.y)) / 2
        scale = (size - 24) / span
        order = {name: index for index, name in enumerate(self.groups)}
        hollow = self.hollow or [False] * len(self.x)
        for x, y, group, about, outline in zip(self.x, self.y, self.group, self.about, hollow):
            left = WIDTH / 2 + (x - centre[0]) * scale
            down = top + size / 2 - (y - centre[1]) * scale
            _mark(sheet, order[group], left, down, about, outline)
        if self.note:
            _note(sheet, self.note)
        return sheet


@dataclass(frozen=True)
class Heatmap:
    """A table of values from 0 to 1 as colours, one line for each thing with its name at the left.

    values: (rows, columns). columns: the name of each column; edges: the names stand at the borders of the
        columns, one more than there are. beside: a word at the end of each row. middle: whether 1/2 is the
        colour that two others part from, else colours go from light to dark.
    """

    name: str
    title: str
    x: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    key: tuple[str, str]
    beside: Sequence[str] = ()
    beside_title: str = ""
    edges: bool = False
    middle: bool = False
    note: str = ""
    data: tuple[Sequence[str], Sequence[Sequence]] | None = None

    @property
    def description(self) -> str:
        size = f"{len(self.rows)} rows by {self.values.shape[1]} columns"
        return f"{self.title}. {size}, from {self.key[0]} to {self.key[1]}."

    def csv(self) -> str:
        if self.data is not None:
            return csv_text(*self.data)
        rows = [[name, *values] for name, values in zip(self.rows, self.values.tolist())]
        return csv_text(["", *self.columns], rows)

    def draw(self) -> Drawing:
        line = 16 if len(self.rows) <= 40 else 12
        left = 12 + min(170, max(len(name) for name in self.rows) * (CHARACTER if line == 16 else 5.6))
        right = WIDTH - (14 if not self.beside else 52)
        top, foot = 40, 40 + line * len(self.rows)
        sheet = Drawing(WIDTH, foot + 40 + (16 if self.note else 0))
        ramp = RAMP if self.middle else SHADES
        self._key(sheet, left, right, ramp)
        if self.beside_title:
            sheet.text(WIDTH - 6, 32, self.beside_title, "muted", "end", 11)
        wide = (right - left) / self.values.shape[1]
        for row, (name, values) in enumerate(zip(self.rows, self.values)):
            y = top + row * line
            sheet.text(left - 6, y + line - 4, name, "ink", "end", 11 if line == 16 else 9.5)
            for column, value in enumerate(values):
                if math.isfinite(value):
                    # Cells overlap by a hair, or the seams between them would show.
                    sheet.rectangle(left + column * wide, y, wide + 0.3, line - 1, fill=_shade(value, ramp))
            if self.beside:
                sheet.text(WIDTH - 6, y + line - 4, self.beside[row], "ink", "end", 11 if line == 16 else 9.5)
        every = max(1, math.ceil(len(self.columns) / 10))
        every = next(step for step in (1, 2, 5, 10, 20, 50, every) if step >= every)
        for column in range(0 if self.edges else every - 1, len(self.columns), every):
            x = left + (column + (0 if self.edges else 0.5)) * wide
            sheet.text(x, foot + 15, self.columns[column], "muted", "middle")
        sheet.text((left + right) / 2, foot + 34, self.x, "ink", "middle")
        if self.note:
            _note(sheet, self.note)
        return sheet

    def _key(self, sheet: Drawing, left: float, right: float, ramp) -> None:
        low, high = self.key
        start = left + len(low) * CHARACTER + 6
        end = min(right, start + 110)
        sheet.text(left, 17, low, "muted")
        for step in range(40):
            wide = (end - start) / 40
            sheet.rectangle(start + step * wide, 8, wide + 0.3, 11, fill=_shade((step + 0.5) / 40, ramp))
        sheet.text(end + 6, 17, high, "muted")


def _spread(ends: Sequence[tuple[int, float]], foot: float) -> list[tuple[int, float]]:
    """Heights of labels near the ends of their lines, moved apart where they would cover each other."""
    placed = sorted(ends, key=lambda end: end[1])
    heights = [y for _, y in placed]
    for _ in range(60):
        for at in range(len(heights) - 1):
            near = 14 - (heights[at + 1] - heights[at])
            if near > 0:
                heights[at] -= near / 2
                heights[at + 1] += near / 2
        heights = [min(max(y, TOP), foot) for y in heights]
    return [(index, y) for (index, _), y in zip(placed, heights)]


def _legend(names: Sequence[str], marks: bool = False, looks=None) -> tuple[Drawing, int]:
    """The names in as many lines as they need, and the height of that; before each a line, a mark, or a box with the
    colour and dash that ``looks`` gives."""
    sheet, x, y = Drawing(WIDTH, 0), 10.0, 14
    swatch = 14 if marks else 22 if looks else 30
    for index, name in enumerate(names):
        shown = name if len(name) <= 60 else name[:59] + "…"
        width = swatch + 4 + len(shown) * CHARACTER + 12
        if x + width > WIDTH and x > 10:
            x, y = 10.0, y + LEGEND_LINE
        if marks:
            _mark(sheet, index, x + 6, y - 4)
        elif looks:
            colour, dash = looks[index]
            box = [(x, y + 1), (x, y - 9), (x + 16, y - 9), (x + 16, y + 1)]
            sheet.polygon(box, f"s{colour}", alpha=0.14)
            sheet.path([*box, box[0]], f"s{colour}", 1.6, DASHES[dash])
        else:
            dash = DASHES[index % len(DASHES)]
            sheet.path([(x, y - 4), (x + 24, y - 4)], f"s{index % len(SERIES)}", 2.5, dash)
        sheet.text(x + swatch, y, shown, "ink")
        x += width
    return sheet, y + 8


def _mark(sheet: Drawing, index: int, x: float, y: float, about: str = "", hollow: bool = False) -> None:
    colour, shape = f"s{index % len(SERIES)}", mark_shape(index)
    if shape == "circle":
        sheet.circle(x, y, 3.2, "card" if hollow else colour, colour if hollow else "", about)
        return
    if shape == "square":
        corners = [(x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3)]
    elif shape == "triangle":
        corners = [(x, y - 4), (x + 4, y + 3), (x - 4, y + 3)]
    else:
        a, b = 1.2, 4
        corners = [
            (x - a, y - b),
            (x + a, y - b),
            (x + a, y - a),
            (x + b, y - a),
            (x + b, y + a),
            (x + a, y + a),
        ]
        corners += [
            (x + a, y + b),
            (x - a, y + b),
            (x - a, y + a),
            (x - b, y + a),
            (x - b, y - a),
            (x - a, y - a),
        ]
    sheet.polygon(corners, "card" if hollow else colour, about=about)
    if hollow:
        sheet.path([*corners, corners[0]], colour, 1.2)


def mark_shape(index: int) -> str:
    """Neighbouring groups differ in colour and in shape; 8 colours by 4 shapes make 32 different marks."""
    return SHAPES[(index + index // len(SERIES)) % len(SHAPES)]


def _note(sheet: Drawing, words: str) -> None:
    sheet.text(sheet.width / 2, sheet.height - 6, words, "muted", "middle", 11)


def _shade(value: float, ramp) -> str:
    """A colour of a ramp of three, for a value from 0 to 1."""
    place = min(max(value, 0.0), 1.0) * 2
    low, high = (ramp[0], ramp[1]) if place <= 1 else (ramp[1], ramp[2])
    part = place if place <= 1 else place - 1
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high))


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def csv_text(header: Sequence[str], rows) -> str:
    """CSV with lines that end in a line feed."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
