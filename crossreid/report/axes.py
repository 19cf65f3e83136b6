"""The axes of charts: their ticks, and where a value lies between their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crossreid.report.drawing import Drawing

WIDTH, PLOT_HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 42


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    ticks: Sequence[float]
    labels: Sequence[str]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)


def axes(sheet: Drawing, x_axis: Axis, y_axis: Axis, x_label: str, y_label: str, right: float):
    """Draws both axes and returns the places of an x and of a y."""
    base, end = TOP + PLOT_HEIGHT, WIDTH - right

    def across(x: float) -> float:
        return LEFT + x_axis.share(x) * (end - LEFT)

    def down(y: float) -> float:
        return TOP + (1 - y_axis.share(y)) * PLOT_HEIGHT

    for tick, label in zip(y_axis.ticks, y_axis.labels):
        y = down(tick)
        sheet.path([(LEFT, y), (end, y)], "line")
        _tick(sheet, LEFT - 7, y + 4, label, "end", y_axis.logarithmic)
    sheet.path([(LEFT, base), (end, base)], "muted")
    for tick, label in zip(x_axis.ticks, x_axis.labels):
        x = across(tick)
        sheet.path([(x, base), (x, base + 4)], "muted")
        _tick(sheet, x, base + 17, label, "middle", x_axis.logarithmic)
    sheet.text((LEFT + end) / 2, base + 35, x_label, "ink", "middle")
    sheet.text(14, TOP + PLOT_HEIGHT / 2, y_label, "ink", "middle", turned=True)
    return across, down


def _tick(sheet: Drawing, x: float, y: float, label: str, anchor: str, logarithmic: bool) -> None:
    if logarithmic:
        sheet.text(x, y, "10", "muted", anchor, power=label)
    else:
        sheet.text(x, y, label, "muted", anchor)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from at most ``low`` to at least ``high``."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def plain_axis(values: Sequence[float]) -> Axis:
    return Axis(values[0], values[-1], values, [f"{value:g}" for value in values])


def whole_axis(xs: Sequence[float], marks: Sequence[float] | None) -> Axis:
    """Counted things, such as epochs and ranks: only whole numbers are marked."""
    low, high = (min(xs), max(xs)) if xs else (0, 1)
    if high == low:
        low, high = low - 0.5, high + 0.5
    shown = marks or [tick for tick in ticks(low, high, 6) if tick == int(tick)]
    shown = [tick for tick in shown if low <= tick <= high]
    return Axis(low, high, shown, [f"{tick:g}" for tick in shown])


def log_axis(low: float, high: float) -> Axis:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    powers = range(first, max(last, first + 1) + 1)
    values = [10.0**power for power in powers]
    return Axis(values[0], values[-1], values, [str(power) for power in powers], logarithmic=True)
