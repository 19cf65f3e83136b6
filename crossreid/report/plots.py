"""Charts that several figures are made of: lines, histograms, points in a plane, tables of colours.

Each function returns a ``Plot``, a matplotlib figure with its title and data.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator, NullLocator

from crossreid.report import fonts, style
from crossreid.report.figure import WIDTH, Plot, shown

Corner = Literal["best", "lower right", "upper left"]
HEIGHT = 2.8  # inches of a chart without its title
RANKS = (1, 5, 10, 15, 20)
OPERATING = (1e-2, 1e-3, 1e-4)  # false positive rates
# From 0 over 1/2 to 1: one colour, nearly none, another; and from light to dark.
BETWEEN = LinearSegmentedColormap.from_list("between", ["#c9500b", "#f4f1ea", "#2159c5"])
SHADES = LinearSegmentedColormap.from_list("shades", ["#f6f6f3", "#8cace2", "#163e8f"])


@dataclass(frozen=True)
class Line:
    """label, x and y of one line; spread: how far the values behind each y scatter, as a standard deviation."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None


def lines(
    name: str,
    title: str,
    x: str,
    y: str,
    given: Sequence[Line],
    *,
    percent: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    marks: Sequence[float] | None = None,
    note: str = "",
) -> Plot:
    """Lines over one pair of axes.

    percent: y holds fractions, shown from 0 to 100 per cent. log_x, log_y: logarithmic axes; every value must then be
    positive. marks: the x at which points are marked and tell their value; None: all. A line without points, as the
    mean of runs that share no x, is left out.
    """
    given = [line for line in given if len(line.x)]
    header = [x]
    for line in given:
        header += [line.label] if line.spread is None else [line.label, f"{line.label}, standard deviation"]
    columns = [
        dict(zip(line.x, values)) for line in given for values in (line.y, line.spread) if values is not None
    ]
    rows = [
        [at, *(column.get(at, "") for column in columns)]
        for at in sorted({at for each in columns for at in each})
    ]
    figure = Plot(name, title, HEIGHT, header=header, rows=rows)
    ends = "; ".join(
        f"{line.label}: {_value(line.y[0], percent)} at {line.x[0]:g}, {_value(line.y[-1], percent)} at {line.x[-1]:g}"
        for line in given
    )
    figure.description = f"{title}. {y} against {x}. {ends}."
    with style.styled():
        axes = figure.add_subplot()
        for index, line in enumerate(given):
            _line(figure, axes, index, line, x, percent, marks)
        _legend(figure, axes, [line.label for line in given], _corner(given, log_x) if percent else "best")
        axes.set(xlabel=x, ylabel=f"{y} (%)" if percent else y)
        _scales(axes, given, percent, log_x, log_y, marks)
        _note(figure, note)
    return figure


def cmc(curves: Mapping[str, Sequence[float]], name: str = "cmc", title: str = "CMC") -> Plot:
    """Cumulative match characteristics: label -> share of queries found at rank 1, 2, ..., R."""
    given = [Line(label, range(1, len(curve) + 1), list(curve)) for label, curve in curves.items()]
    return ranks(name, title, given)


def ranks(name: str, title: str, given: Sequence[Line]) -> Plot:
    """CMC curves, perhaps with the spread over runs."""
    return lines(name, title, "Rank", "Queries found", given, percent=True, marks=RANKS)


def roc(curves: Mapping[str, tuple], name: str = "roc", title: str = "ROC") -> Plot:
    """label -> false positive rates (above 0) and true positive rates, perhaps with the spread of these over runs."""
    given = [Line(label, *curve) for label, curve in curves.items()]
    axes = ("False positive rate", "True positive rate")
    return lines(name, title, *axes, given, percent=True, log_x=True, marks=OPERATING)


def distances(
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    name: str = "distances",
    title: str = "Distances",
    x: str = "Distance",
    note: str = "",
) -> Plot:
    """Histograms of pairs by kind, each as shares of its kind.

    edges: (B + 1,). counts: kind of pair -> (B,), such as ``genuine`` and ``impostor, across modalities``: impostors
    have another colour, pairs across another line.
    """
    rows = zip(edges[:-1], edges[1:], *counts.values())
    figure = Plot(name, title, HEIGHT, header=["from", "to", *counts], rows=rows)
    sums = ", ".join(f"{int(sum(each))} of {kind}" for kind, each in counts.items())
    figure.description = f"{title}. Share of pairs against {x.lower()}; {sums}."
    with style.styled():
        axes = figure.add_subplot()
        shares = {kind: 100 * np.asarray(each) / max(1, np.sum(each)) for kind, each in counts.items()}
        for kind, share in shares.items():
            colour, dash = style.colour(int("impostor" in kind)), style.dash(int("across" in kind))
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.14)
            axes.stairs(share, edges, color=colour, linestyle=dash, linewidth=1.4, label=kind)
        filled = np.flatnonzero(np.any(list(shares.values()), axis=0))
        if len(filled):
            axes.set_xlim(edges[filled[0]], edges[filled[-1] + 1])
        axes.set_ylim(bottom=0)
        axes.set(xlabel=x, ylabel="Share of the kind's pairs (%)")
        _legend(figure, axes, list(counts), None)
        _note(figure, note)
    return figure


def scatter(
    name: str,
    title: str,
    points: np.ndarray,
    group: Sequence[str],
    *,
    hints: Sequence[str],
    columns: Mapping[str, Sequence],
    hollow: Sequence[bool] = (),
    note: str = "",
) -> Plot:
    """Points (N, 2) in the plane, told apart by group.

    hints: what each says of itself. columns: further columns of the CSV file. hollow: whether each is an outline.
    """
    rows = zip(points[:, 0].tolist(), points[:, 1].tolist(), *columns.values())
    groups = sorted(set(group), key=lambda each: (len(each), each) if each.isdigit() else (99, each))
    entries = min(len(groups), max(1, int(60 / (4 + max(map(len, groups))))))
    high = WIDTH + 0.17 * math.ceil(len(groups) / entries)
    figure = Plot(name, title, high, header=["x", "y", *columns], rows=rows)
    figure.description = f"{title}. {len(points)} points in {len(groups)} groups. {note}"
    member, outline = np.asarray(group), np.asarray(hollow or [False] * len(points))
    with style.styled():
        axes = figure.add_subplot()
        for index, each in enumerate(groups):
            colour, shape = style.colour(index), style.marker(index)
            axes.scatter([], [], s=16, color=colour, marker=shape, label=each)
            for only in (False, True):
                chosen = np.flatnonzero((member == each) & (outline == only))
                if len(chosen):
                    face = style.CARD if only else colour
                    drawn = axes.scatter(
                        points[chosen, 0],
                        points[chosen, 1],
                        s=14,
                        marker=shape,
                        facecolors=face,
                        edgecolors=colour,
                        linewidths=0.9,
                    )
                    figure.tell(drawn, [hints[int(number)] for number in chosen])
        _plane(axes)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=entries, handletextpad=0.1, columnspacing=0.7
        )
        _note(figure, note)
    return figure


def heatmap(
    name: str,
    title: str,
    x: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    key: tuple[str, str],
    data: tuple[Sequence[str], Sequence[Sequence]],
    *,
    beside: Sequence[str] = (),
    beside_title: str = "",
    edges: bool = False,
    middle: bool = False,
) -> Plot:
    """A table of values from 0 to 1 as colours, one line for each thing with its name at the left.

    values: (rows, columns). columns: name of each column; with ``edges`` names stand at the borders of the columns, one
    more than there are. key: what 0 and 1 mean. beside: a word at the end of each row. middle: whether 1/2 is the
    colour that two others part from. data: header and rows of the CSV file.
    """
    line = 0.165 if len(rows) <= 40 else 0.12
    figure = Plot(name, title, 1.1 + line * len(rows), header=data[0], rows=data[1])
    size = f"{len(rows)} rows by {values.shape[1]} columns"
    figure.description = f"{title}. {size}, from {key[0]} to {key[1]}."
    with style.styled():
        axes = figure.add_subplot()
        drawn = axes.pcolormesh(
            np.ma.masked_invalid(values),
            cmap=BETWEEN if middle else SHADES,
            vmin=0,
            vmax=1,
            edgecolors=style.CARD,
            linewidth=0.6,
        )
        axes.invert_yaxis()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        small = 7.5 if line > 0.15 else 6
        axes.set_yticks(np.arange(len(rows)) + 0.5, list(map(shown, rows)), fontsize=small, color=style.INK)
        every = max(1, math.ceil(len(columns) / 10))
        every = next(step for step in (1, 2, 5, 10, 20, 50, every) if step >= every)
        places = np.arange(0 if edges else every - 1, len(columns), every)
        axes.set_xticks(places + (0 if edges else 0.5), [shown(columns[int(at)]) for at in places])
        axes.set_xlabel(x)
        if beside:
            other = axes.secondary_yaxis("right")
            other.set_yticks(
                np.arange(len(rows)) + 0.5, list(map(shown, beside)), fontsize=small, color=style.INK
            )
            other.spines[:].set_visible(False)
            axes.set_title(beside_title, loc="right", fontsize=small)
        bar = figure.colorbar(
            drawn, ax=axes, location="top", fraction=0.05, shrink=0.4, anchor=(0, 0), aspect=12
        )
        bar.outline.set_visible(False)
        bar.set_ticks([0, 1], labels=list(map(shown, key)))
    return figure


def _line(figure: Plot, axes: Axes, index: int, line: Line, x: str, percent: bool, marks) -> None:
    colour, factor = style.colour(index), 100 if percent else 1
    values = np.asarray(line.y, float) * factor
    # The first line has no gaps, so that it shows through where a later one lies on it.
    axes.plot(line.x, values, color=colour, linestyle=style.dash(index), label=line.label)
    if line.spread is not None:
        wide = np.asarray(line.spread, float) * factor
        axes.fill_between(line.x, values - wide, values + wide, color=colour, alpha=0.15, linewidth=0)
    chosen = [
        at
        for at, place in enumerate(line.x)
        if math.isfinite(values[at]) and (marks is None or any(math.isclose(place, mark) for mark in marks))
    ]
    if not chosen:
        return
    across, up = [line.x[at] for at in chosen], values[chosen]
    if marks is not None or len(line.x) <= 25:
        axes.plot(across, up, linestyle="none", marker=style.marker(index), color=colour)
    hints = [
        f"{line.label}, {x.lower()} {line.x[at]:g}: {_value(line.y[at], percent)}"
        + ("" if line.spread is None else f" ± {_value(line.spread[at], percent)}")
        for at in chosen
    ]
    (reach,) = axes.plot(across, up, linestyle="none", marker="o", markersize=11, color=colour, alpha=0)
    figure.tell(reach, hints)


def _scales(axes: Axes, given: Sequence[Line], percent: bool, log_x: bool, log_y: bool, marks) -> None:
    if log_x:
        axes.set_xscale("log")
    elif marks is not None:
        axes.xaxis.set_major_locator(FixedLocator(list(marks)))
    else:  # counted things, such as epochs: only whole numbers are marked
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    if percent:
        axes.set_ylim(0, 101.5)
        axes.yaxis.set_major_locator(FixedLocator([0, 20, 40, 60, 80, 100]))
    elif log_y:
        axes.set_yscale("log")
    else:
        finite = [value for line in given for value in line.y if math.isfinite(value)]
        axes.set_ylim(bottom=min(0, *finite, 0), top=None if any(finite) else 1)
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    if not log_x:
        axes.xaxis.set_minor_locator(NullLocator())
        places = [at for line in given for at in line.x]
        margin = 0.02 * (max(places) - min(places)) or 0.5
        axes.set_xlim(min(places) - margin, max(places) + margin)


def _corner(given: Sequence[Line], log_x: bool) -> Corner | None:
    """The corner that rising curves of shares leave free, None where they run through both."""
    if min((line.y[-1] for line in given), default=0) > 0.45:
        return "lower right"
    middles = [
        np.interp(
            math.sqrt(line.x[0] * line.x[-1]) if log_x else (line.x[0] + line.x[-1]) / 2, line.x, line.y
        )
        for line in given
    ]
    return "upper left" if max(middles, default=0) < 0.7 else None


def _legend(figure: Plot, axes: Axes, labels: Sequence[str], inside: Corner | None) -> None:
    """At ``inside`` of the axes where that is a place and the names are few and short, else above, in as many columns
    as there is room for."""
    if len(labels) < 2:
        return
    if inside and len(labels) <= 4 and max(map(len, labels)) <= 28:
        axes.legend(loc=inside, handlelength=3)
        return
    handles, names = axes.get_legend_handles_labels()
    # Points, beside the names: the axis and what is written at it, the line before each name, what parts columns.
    room, before, between = 72 * figure.get_figwidth() - 65, 31, 16
    longest = max(map(_width, names))
    columns = max(1, min(len(names), int((room + between) / (before + longest + between))))
    names = [textwrap.fill(name, max(10, int(len(name) * (room - before) / _width(name)))) for name in names]
    axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=3)
    lines = [name.count("\n") + 1 for name in names]
    high = sum(lines) if columns == 1 else math.ceil(len(names) / columns)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.17 * high)


def _width(name: str) -> float:
    """Points that a name takes in a legend."""
    letters = FontProperties(family=fonts.family(), size=style.STYLE["legend.fontsize"])
    return max(1.0, text_to_path.get_text_width_height_descent(shown(name), letters, ismath=False)[0])


def _plane(axes: Axes) -> None:
    """Axes of a map: without numbers, equal in both directions."""
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color=style.LINE)


def _note(figure: Plot, note: str) -> None:
    if note:
        figure.supxlabel(note, fontsize=7.5, color=style.MUTED)


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"
