"""One part of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crossreid.report.figure import Plot
from crossreid.report.plots import Line


@dataclass
class Section:
    """A heading, a text, and figures.

    template: the text's, in ``crossreid/pages``, which is filled with ``about``; one without is only figures. figures:
    of all runs, or of the only one. folded: figures of each run by its name, folded away where there are several runs.
    saved: figures that the text shows in its own way, which are files only.
    """

    title: str
    template: str = ""
    about: dict = field(default_factory=dict)
    figures: list[Plot] = field(default_factory=list)
    folded: dict[str, list[Plot]] = field(default_factory=dict)
    saved: dict[str, list[Plot]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.template or self.every)

    @property
    def every(self) -> list[Plot]:
        """All figures, as they are written into a folder."""
        apart = (
            figure for by_run in (self.folded, self.saved) for part in by_run.values() for figure in part
        )
        return [*self.figures, *apart]


def mean_line(label: str, parts: Sequence[Mapping[float, float]]) -> Line:
    """The mean of several runs at each x that all of them have, with the standard deviation; of one run, its line."""
    xs = [x for x in parts[0] if all(x in part for part in parts)]
    if len(parts) == 1:
        return Line(label, xs, [parts[0][x] for x in xs])
    means = [sum(part[x] for part in parts) / len(parts) for x in xs]
    spread = [
        (sum((part[x] - mean) ** 2 for part in parts) / len(parts)) ** 0.5 for x, mean in zip(xs, means)
    ]
    return Line(label, xs, means, spread)
