"""A map of each branch and view of a method, the runs above each other."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.records import MODALITIES, VISIBLE, UserError
from crossreid.report import evidence
from crossreid.report.charts import csv_text
from crossreid.report.drawing import Drawing
from crossreid.report.embedding_map import NO_SKLEARN, plane
from crossreid.report.evidence import Features, identity_numbers
from crossreid.report.figures import Section
from crossreid.report.runs import Run

POINTS, FEWEST = 600, 5  # images of a panel
PANEL, GAP, LEFT, TOP = 196, 10, 26, 20
JOINT = "joint"
_ORDER = tuple(f"{branch}, {view}" for branch in ("specific", "shared") for view in MODALITIES)


@dataclass(frozen=True)
class Panel:
    """coordinates (N, 2), and of each point its identity and the modality of its view: (N,)."""

    coordinates: np.ndarray
    identity: np.ndarray
    view: np.ndarray


@dataclass(frozen=True)
class Panels:
    """One line of panels for each run: run -> title -> panel. Points have the colour of their identity, in the joint
    panel that of their modality."""

    name: str
    title: str
    lines: dict[str, dict[str, Panel]]
    note: str

    @property
    def description(self) -> str:
        titles = ", ".join(next(iter(self.lines.values())))
        return f"{self.title}. Runs: {', '.join(self.lines)}. Panels: {titles}. {self.note}"

    def csv(self) -> str:
        """One line for each point."""
        rows = [
            [run, title, *point]
            for run, panels in self.lines.items()
            for title, panel in panels.items()
            for point in zip(*panel.coordinates.T.tolist(), panel.identity.tolist(), panel.view.tolist())
        ]
        return csv_text(["run", "panel", "x", "y", "identity", "view"], rows)

    def draw(self) -> Drawing:
        columns = list(next(iter(self.lines.values())))
        line = PANEL + GAP
        sheet = Drawing(LEFT + len(columns) * line, TOP + len(self.lines) * line + 34)
        people = np.unique(
            np.concatenate([p.identity for each in self.lines.values() for p in each.values()])
        )
        for column, title in enumerate(columns):
            sheet.text(LEFT + column * line + PANEL / 2, 14, title, "ink", "middle", 12)
        for row, (run, panels) in enumerate(self.lines.items()):
            top = TOP + row * line
            sheet.text(16, top + PANEL / 2, run, "ink", "middle", 12, turned=True)
            for column, (title, panel) in enumerate(panels.items()):
                sheet.rectangle(LEFT + column * line, top, PANEL, PANEL, border="line")
                self._points(sheet, LEFT + column * line, top, title, panel, people)
        foot = TOP + len(self.lines) * line + 4
        for place, modality in enumerate(MODALITIES):
            if JOINT in columns:
                left = LEFT + columns.index(JOINT) * line + 10 + 90 * place
                sheet.circle(left, foot, 4, f"s{place}")
                sheet.text(left + 8, foot + 4, modality, "muted", size=12)
        sheet.text(LEFT, foot + 22, self.note, "muted", size=12)
        return sheet

    def _points(
        self, sheet: Drawing, left: float, top: float, title: str, panel: Panel, people: np.ndarray
    ) -> None:
        low, high = panel.coordinates.min(0), panel.coordinates.max(0)
        scale = (PANEL - 16) / max(float((high - low).max()), 1e-9)
        for (x, y), identity, view in zip(panel.coordinates - (low + high) / 2, panel.identity, panel.view):
            turn = int(np.searchsorted(people, identity)) / len(people)
            colour = f"s{MODALITIES.index(view)}" if title == JOINT else _hue(turn)
            about = f"identity {identity}, {view}"
            sheet.circle(left + PANEL / 2 + x * scale, top + PANEL / 2 - y * scale, 2.4, colour, "", about)


def section(runs: Sequence[Run], identities: int, seed: int) -> Section:
    """The figures of all kinds of views that the runs' methods have: observations and representations.

    Visible images are drawn in the visible views and infrared images in the infrared ones; where the data have one
    modality, all images in both. Raises UserError for a run whose method has no views.
    """
    lines: dict[str, dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]] = {}
    for run in runs:
        method = evidence.model(run)
        views = method.views()
        if not views:
            name = run.evaluation.get("method") or run.settings.get("method", {}).get("name")
            raise UserError(
                f"{run.folder}: the method {name} has one branch and no views to draw; --views is for runs of MVD. "
                "Leave the run out, or leave --views out and have the map of its feature"
            )
        found = evidence.features(run, method.whole)
        assert found is not None  # as it is for a feature that is named
        for (kind, branch, view), place in views.items():
            rows = _rows(found, view, identities, seed)
            if len(rows) < FEWEST:
                raise UserError(
                    f"{run.folder}: {len(rows)} {view} images are too few for a map, which takes {FEWEST}; draw more "
                    "--identities, or leave --views out"
                )
            panel = (found.vectors[rows][:, place], found.labels["identity"][rows], np.full(len(rows), view))
            lines.setdefault(kind, {}).setdefault(run.name, {})[f"{branch}, {view}"] = panel
    try:
        drawn = [_figure(kind, parts, identities, seed) for kind, parts in lines.items()]
    except ImportError:
        return Section("Branches and views", NO_SKLEARN)
    return Section("Branches and views", _WORDS, drawn)


_WORDS = (
    "<p>A map (t-SNE) of what each branch makes of each view, as the page of MVD shows it: identities by colour, and "
    "at the right both views of the shared branch in one plane, by modality. The better they agree, the nearer the two "
    "colours of a person lie. Distances between far groups and the axes themselves mean nothing.</p>"
)


def _rows(found: Features, view: str, identities: int, seed: int) -> np.ndarray:
    """Indices of the images of a view, of so many of the identities that are searched for."""
    rng = np.random.default_rng(seed)
    person = identity_numbers(found.labels["domain"], found.labels["identity"])
    chosen = rng.permutation(np.unique(person[found.searched()]))[:identities]
    modality = found.labels.get("modality", np.full(len(person), VISIBLE))
    seen = modality == view if len(np.unique(modality)) > 1 else np.ones(len(person), bool)
    rows = np.flatnonzero(np.isin(person, chosen) & seen)
    return np.sort(rng.permutation(rows)[:POINTS])


def _figure(kind: str, drawn: dict, identities: int, seed: int) -> Panels:
    lines = {}
    for run, parts in drawn.items():
        parts = {name: parts[name] for name in _ORDER if name in parts}
        shared = _ORDER[2:]
        parts[JOINT] = tuple(np.concatenate([parts[name][index] for name in shared]) for index in range(3))
        lines[run] = {title: Panel(plane(part[0], seed), *part[1:]) for title, part in parts.items()}
    note = f"{kind}s, t-SNE of unit vectors, at most {identities} identities and {POINTS} images a view, seed {seed}"
    return Panels(f"views-{kind}", f"{kind.capitalize()}s by branch and view", lines, note)


def _hue(turn: float) -> str:
    """A colour of the circle, ``turn`` from 0 to 1, that shows on light and on dark."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(turn, 0.5, 0.65))
