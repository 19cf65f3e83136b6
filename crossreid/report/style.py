"""How figures look: colours that are told apart in light and in dark, line styles, marks, and matplotlib's settings.

Figures are drawn in the light colours. Each of these stands for one role and for nothing else, so that a page can put a
variable in its place, which has a dark value too (``crossreid.report.figure``).
"""

from __future__ import annotations

from typing import Any

from matplotlib import rc_context

from crossreid.report import fonts

SERIES = ("#2159c4", "#c9500a", "#0b7d62", "#96309a", "#94700a", "#bd1e56", "#4a760f", "#58616e")
INK, MUTED, LINE, CARD = "#1b1e23", "#59606a", "#dcdfe3", "#fefefe"
RIGHT, WRONG = "#0b6b45", "#b3261e"
# Colour of a figure -> the page's variable.
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", CARD: "card", RIGHT: "right", WRONG: "wrong"} | {
    colour: f"s{index}" for index, colour in enumerate(SERIES)
}
# Lengths of line and gap in points: lines differ by more than their colour.
DASHES: tuple[str | tuple[float, tuple[float, ...]], ...] = (
    "solid",
    (0, (5, 2)),
    (0, (1.5, 2)),
    (0, (6, 2, 1.5, 2)),
    (0, (9, 3)),
    (0, (3, 1.5)),
    (0, (1, 3)),
    (0, (6, 2, 1.5, 2, 1.5, 2)),
)
MARKERS = ("o", "s", "^", "P")

STYLE: dict[Any, Any] = {
    "figure.facecolor": CARD,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 8.5,
    "text.color": INK,
    "axes.facecolor": CARD,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.7,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.borderaxespad": 0.3,
    # Text that can be searched and edited, images as they are.
    "svg.fonttype": "none",
    "svg.hashsalt": "crossreid",
    "pdf.fonttype": 42,
    "image.interpolation": "none",
    "image.composite_image": False,
}


def styled():
    """Inside, matplotlib draws and saves in this look."""
    return rc_context(STYLE | {"font.family": fonts.family()})


def colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def dash(index: int):
    """Lines of one colour differ in their dashes: 8 colours by 8 ways make 64 different lines."""
    return DASHES[(index + index // len(SERIES)) % len(DASHES)]


def marker(index: int) -> str:
    """Neighbouring groups differ in colour and in shape; 8 colours by 4 shapes make 32 different marks."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]
