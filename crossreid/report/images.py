"""Figures of images: ranked lists, what a network looks at, stripes that meet.

Each function takes pixels and what is known of them, and returns a ``Plot``, a matplotlib figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from crossreid.report import style
from crossreid.report.figure import WIDTH, Plot

# From nothing to most: dark violet over red to yellow, even in lightness.
HEAT = ((10, 7, 35), (78, 18, 108), (158, 42, 99), (222, 81, 58), (251, 155, 6), (247, 225, 85))
_HEAT = LinearSegmentedColormap.from_list("heat", [tuple(part / 255 for part in each) for each in HEAT])
_NEARNESS = LinearSegmentedColormap.from_list("nearness", ["#d6b096", "#2159c5"])
WIDE = 7.2  # inches of a ranked list


@dataclass(frozen=True)
class Ranked:
    """One image of a ranked list.

    pixels: (H, W, 3) uint8, None where the image cannot be shown. right: whether it shows the identity of the query;
    None for the query itself. distance: to the query. about: lines below it, such as ``id 6``.
    """

    pixels: np.ndarray | None
    right: bool | None = None
    distance: float | None = None
    about: Sequence[str] = ()


@dataclass(frozen=True)
class MappedImage:
    """One image with what lies over it.

    pixels: (H, W, 3) uint8. maps: name -> (h, w) from 0 to 1. words: lines above it. right: whether it shows the
        query's identity, None for the query itself.
    """

    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    words: Sequence[str]
    right: bool | None = None


def ranked_lists(
    lists: Sequence[Sequence[Ranked]],
    names: Sequence[str] = (),
    name: str = "ranked-lists",
    title: str = "Ranked lists",
) -> Plot:
    """The figure of every paper: a line for each query, which stands first, then its nearest images.

    names: a word for each line, at its left. A right image has a solid frame and its rank in a green box, a wrong one a
    dashed frame and red.
    """
    columns = max(map(len, lists))
    below = max((len(each.about) + (each.distance is not None) for one in lists for each in one), default=0)
    left, gap = 0.85 if any(names) else 0.1, 0.07
    wide = min(0.75, (WIDE - left - 0.25) / columns - gap)
    high, step = 2 * wide, 2 * wide + 0.18 + 0.125 * below
    header = ["list", "rank", "right", "distance", "about"]
    rows = [
        [names[line] if line < len(names) else line, rank, *_cells(each)]
        for line, one in enumerate(lists)
        for rank, each in enumerate(one)
    ]
    width = left + 0.25 + columns * (wide + gap)
    figure = Plot(
        name,
        title,
        0.1 + step * len(lists),
        header=header,
        rows=rows,
        width=width,
        images=True,
        layout=None,
    )
    right = [sum(each.right is True for each in one) for one in lists]
    figure.description = f"{title}. " + "; ".join(
        f"{names[line] if line < len(names) else f'list {line + 1}'}: {found} of {len(one) - 1} right"
        for line, (one, found) in enumerate(zip(lists, right))
    )
    with style.styled():
        for line, one in enumerate(lists):
            top = 0.1 + line * step
            if line < len(names):
                _text(figure, left - 0.1, top + high / 2, names[line], ha="right", va="center")
            for rank, each in enumerate(one):
                at = left + rank * (wide + gap) + (0.15 if rank else 0)
                _ranked(figure, each, rank, (at, top, wide, high))
    return figure


def _cells(each: Ranked) -> list:
    right = "" if each.right is None else "yes" if each.right else "no"
    return [right, "" if each.distance is None else each.distance, ", ".join(each.about)]


def _ranked(figure: Plot, each: Ranked, rank: int, box: tuple[float, float, float, float]) -> None:
    word = "query" if each.right is None else f"rank {rank}, {'right' if each.right else 'wrong'}"
    hint = f"{word}: {', '.join(each.about)}"
    if each.distance is not None:
        hint += f", distance {each.distance:.3f}"
    axes = _image(figure, box, each.pixels, hint)
    colour = style.MUTED if each.right is None else style.RIGHT if each.right else style.WRONG
    _frame(axes, colour, dashed=each.right is False)
    sign = "query" if each.right is None else f"✓ {rank}" if each.right else f"✗ {rank}"
    mark = {"facecolor": colour, "edgecolor": "none", "pad": 1.6}
    axes.text(
        0.02,
        0.985,
        sign,
        transform=axes.transAxes,
        color=style.CARD,
        fontsize=6.5,
        va="top",
        bbox=mark,
        weight="bold",
    )
    left, top, wide, high = box
    lines = [] if each.distance is None else [f"{each.distance:.3f}"]
    for number, text in enumerate([*lines, *each.about]):
        shade = style.INK if number < len(lines) else style.MUTED
        at = top + high + 0.1 + 0.125 * number
        _text(figure, left + wide / 2, at, text, ha="center", va="center", fontsize=6.2, color=shade)


def activation_maps(
    seen: Sequence[MappedImage],
    name: str = "activation",
    title: str = "Activation",
    note: str = "",
) -> Plot:
    """A query and its nearest images in the first line, their maps below."""
    maps = list(seen[0].maps)
    left, gap, top = 0.85, 0.06, 0.36
    wide = (WIDTH - left - 0.1) / len(seen) - gap
    height, width = seen[0].pixels.shape[:2]
    high = min(wide * height / width, 2.4 * wide)
    rows = [
        [number, " ".join(each.words), of, y, x, f"{value:.4f}"]
        for number, each in enumerate(seen)
        for of, values in each.maps.items()
        for (y, x), value in np.ndenumerate(values)
    ]
    figure = Plot(
        name,
        title,
        top + (len(maps) + 1) * (high + gap) + (0.22 if note else 0.05),
        header=["image", "role", "map", "row", "column", "value"],
        rows=rows,
        images=True,
        layout=None,
    )
    words = "; ".join(" ".join(each.words) for each in seen)
    figure.description = f"{title}. Images: {words}. Below each: {', '.join(maps)}."
    with style.styled():
        for line, row in enumerate(("image", *maps)):
            middle = top + line * (high + gap) + high / 2
            _text(figure, left - 0.1, middle, row.replace(", ", "\n"), ha="right", va="center")
        for column, each in enumerate(seen):
            x = left + column * (wide + gap)
            colour = style.INK if each.right is None else style.RIGHT if each.right else style.WRONG
            for number, word in enumerate(each.words):
                at = 0.1 + 0.15 * number
                weight = "normal" if number else "bold"
                _text(figure, x + wide / 2, at, word, ha="center", va="center", color=colour, weight=weight)
            laid = [each.pixels, *(overlay(each.pixels, each.maps[of]) for of in maps)]
            for line, pixels in enumerate(laid):
                hint = f"{' '.join(each.words)}: {('image', *maps)[line]}"
                axes = _image(figure, (x, top + line * (high + gap), wide, high), pixels, hint)
                if not line and each.right is not None:
                    _frame(axes, colour, dashed=not each.right)
        if note:
            _text(figure, WIDTH / 2, figure.bottom - 0.1, note, ha="center", fontsize=7.5, color=style.MUTED)
    return figure


def overlay(pixels: np.ndarray, values: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """A map (h, w) of 0 to 1 laid over an image (H, W, 3) uint8, which turns grey below it."""
    from PIL import Image

    size = pixels.shape[1], pixels.shape[0]
    smooth = Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BICUBIC)
    colour = 255 * _HEAT(np.clip(np.asarray(smooth), 0, 1))[..., :3]
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return np.round(strength * colour + (1 - strength) * grey).astype(np.uint8)


def stripe_pairs(
    pairs: Sequence, name: str = "stripes", title: str = "Aligned stripes", note: str = ""
) -> Plot:
    """Pairs of images (``crossreid.report.stripes.Pair``) with lines between the stripes that meet; the nearer two
    stripes, the bluer and thicker their line."""
    from crossreid.report.stripes import stripe_path

    found = [stripe_path(*pair.stripes) for pair in pairs]
    rows, told = [], []
    for number, (pair, path) in enumerate(zip(pairs, found)):
        straight = "" if path.unaligned is None else path.unaligned
        told.append(
            f"{pair.words}: aligned {path.aligned:.2f}" + (f", unaligned {straight:.2f}" if straight else "")
        )
        for step, (left, right, length) in enumerate(path.path):
            rows.append([number, pair.words, step, left, right, length, path.aligned, straight])
    header = ["pair", "words", "step", "left stripe", "right stripe", "distance", "aligned", "unaligned"]
    ratio = min(2.4, max(each.shape[0] / each.shape[1] for pair in pairs for each in pair.pixels))
    wide = (WIDTH / 2 - 0.85) / 2
    step = 0.3 + wide * ratio + 0.5
    lines = -(-len(pairs) // 2)
    high = step * lines + (0.2 if note else 0)
    figure = Plot(name, title, high, header=header, rows=rows, images=True, layout=None)
    figure.description = f"{title}. {'; '.join(told)}."
    with style.styled():
        for number, (pair, path) in enumerate(zip(pairs, found)):
            place = (number % 2 * WIDTH / 2 + 0.1, number // 2 * step + 0.3, wide, wide * ratio)
            _stripes(figure, pair, path, place)
        if note:
            _text(figure, WIDTH / 2, figure.bottom - 0.1, note, ha="center", fontsize=7.5, color=style.MUTED)
    return figure


def _stripes(figure: Plot, pair, path, place: tuple[float, float, float, float]) -> None:
    x, top, wide, high = place
    between = 0.6
    colour = style.RIGHT if pair.right else style.WRONG
    _text(figure, x, top - 0.12, pair.words, color=colour, weight="bold")
    lefts = (x, x + wide + between)
    for left, pixels, stripes in zip(lefts, pair.pixels, pair.stripes):
        axes = _image(figure, (left, top, wide, high), pixels, pair.words)
        for border in range(1, len(stripes)):
            axes.axhline(pixels.shape[0] * border / len(stripes) - 0.5, color="#ffffff", linewidth=0.6)
        _frame(axes, colour, dashed=not pair.right)
    axes = _axes(figure, (x + wide, top, between, high))
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()
    lengths = [length for _, _, length in path.path]
    low, most = min(lengths), max(lengths)
    # The furthest first, so that the nearest lie on top.
    for i, j, length in sorted(path.path, key=lambda each: -each[2]):
        nearness = 1 - (length - low) / max(most - low, 1e-9)
        ends = [(i + 0.5) / len(pair.stripes[0]), (j + 0.5) / len(pair.stripes[1])]
        axes.plot(
            [0.08, 0.92], ends, color=_NEARNESS(nearness), linewidth=0.8 + 1.4 * nearness, marker="o", ms=2.6
        )
    foot, end = top + high, lefts[1] + wide
    sums = [("aligned", path.aligned, f"{path.aligned / len(path.path):.3f} a step")]
    if path.unaligned is not None:
        sums.append(("unaligned", path.unaligned, f"{path.unaligned / len(pair.stripes[0]):.3f} a stripe"))
    for number, (word, total, mean) in enumerate(sums):
        at = foot + 0.14 + 0.16 * number
        _text(figure, x, at, f"{word} {total:.2f}", va="center")
        _text(figure, end, at, mean, ha="right", va="center", color=style.MUTED)


def panels(
    rows: Mapping[str, Mapping[str, tuple[np.ndarray, Sequence[str], Sequence[str]]]],
    name: str,
    title: str,
    data: tuple[Sequence[str], Sequence[Sequence]],
    *,
    key: Mapping[str, str] | None = None,
    note: str = "",
) -> Plot:
    """Maps in a grid: a line for each run, a column for each panel.

    rows: run -> panel -> points (N, 2), colour of each, what each says. key: name -> colour below the last column.
    """
    columns = list(next(iter(rows.values())))
    size, left, gap = 1.75, 0.3, 0.1
    width = left + len(columns) * (size + gap)
    high = 0.3 + len(rows) * (size + gap) + 0.42
    figure = Plot(name, title, high, header=data[0], rows=data[1], width=width, layout=None)
    figure.description = f"{title}. Runs: {', '.join(rows)}. Panels: {', '.join(columns)}. {note}"
    with style.styled():
        for line, (run, one) in enumerate(rows.items()):
            top = 0.3 + line * (size + gap)
            _text(figure, 0.15, top + size / 2, run, ha="center", va="center", rotation=90)
            for column, (panel, (points, colours, hints)) in enumerate(one.items()):
                x = left + column * (size + gap)
                if not line:
                    _text(figure, x + size / 2, 0.15, panel, ha="center", va="center")
                axes = _axes(figure, (x, top, size, size))
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.spines[:].set(visible=True, color=style.LINE)
                axes.set_aspect("equal", adjustable="datalim")
                figure.tell(axes.scatter(points[:, 0], points[:, 1], s=7, c=colours, linewidths=0), hints)
        foot = 0.3 + len(rows) * (size + gap)
        for number, (word, colour) in enumerate((key or {}).items()):
            at = width - size - gap + 0.1 + 0.9 * number
            _text(figure, at, foot + 0.08, f"● {word}", va="center", color=colour)
        _text(figure, left, foot + 0.28, note, va="center", color=style.MUTED)
    return figure


def _axes(figure: Plot, box: tuple[float, float, float, float]) -> Axes:
    """Axes at (left, top, width, height) in inches from the upper left of the figure, below its title."""
    left, top, wide, high = box
    full, tall = figure.get_size_inches()
    return figure.add_axes((left / full, (figure.bottom - top - high) / tall, wide / full, high / tall))


def _image(figure: Plot, box, pixels: np.ndarray | None, hint: str) -> Axes:
    axes = _axes(figure, box)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if pixels is None:
        axes.text(
            0.5,
            0.5,
            "image\nnot found",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=style.MUTED,
        )
    else:
        figure.tell(axes.imshow(pixels, aspect="auto"), [hint])
    return axes


def _frame(axes: Axes, colour: str, dashed: bool) -> None:
    line = (0, (3, 1.6)) if dashed else "solid"
    axes.add_patch(
        Rectangle(
            (0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=colour, linewidth=1.8, linestyle=line,
            clip_on=False,
        )
    )  # fmt: skip


def _text(figure: Plot, x: float, y: float, text: str, **given) -> None:
    """At (x, y) in inches from the upper left, below the title."""
    wide, high = figure.get_size_inches()
    look: dict[str, Any] = {"fontsize": 7.5, "color": style.INK} | given
    figure.text(x / wide, (figure.bottom - y) / high, text, **look).set_in_layout(False)
