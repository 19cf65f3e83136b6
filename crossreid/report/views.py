"""A map of each branch and view of a method, the runs above each other."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.records import MODALITIES, VISIBLE, UserError
from crossreid.report import evidence, style
from crossreid.report.embedding_map import plane
from crossreid.report.evidence import Features
from crossreid.report.figure import Plot
from crossreid.report.images import panels
from crossreid.report.runs import Run
from crossreid.report.section import Section

POINTS, FEWEST = 600, 5  # images of a panel
JOINT = "joint"
_ORDER = tuple(f"{branch}, {view}" for branch in ("specific", "shared") for view in MODALITIES)


@dataclass(frozen=True)
class Panel:
    """coordinates (N, 2), and of each point its identity and the modality of its view: (N,)."""

    coordinates: np.ndarray
    identity: np.ndarray
    view: np.ndarray


def draw(name: str, title: str, lines: Mapping[str, Mapping[str, Panel]], note: str) -> Plot:
    """One line of panels for each run: run -> title -> panel. Points have the colour of their identity, in the joint
    panel that of their modality."""
    identities = np.unique(np.concatenate([p.identity for each in lines.values() for p in each.values()]))
    drawn = {}
    for run, parts in lines.items():
        drawn[run] = {
            panel: (
                part.coordinates,
                [style.colour(MODALITIES.index(view)) for view in part.view]
                if panel == JOINT
                else [_hue(np.searchsorted(identities, each) / len(identities)) for each in part.identity],
                [f"identity {identity}, {view}" for identity, view in zip(part.identity, part.view)],
            )
            for panel, part in parts.items()
        }
    rows = [
        [run, panel, *point]
        for run, parts in lines.items()
        for panel, part in parts.items()
        for point in zip(*part.coordinates.T.tolist(), part.identity.tolist(), part.view.tolist())
    ]
    key = {modality: style.colour(number) for number, modality in enumerate(MODALITIES)}
    header = ["run", "panel", "x", "y", "identity", "view"]
    return panels(drawn, name, title, (header, rows), key=key, note=note)


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
    drawn = [_figure(kind, parts, identities, seed) for kind, parts in lines.items()]
    return Section("Branches and views", "views.html", figures=drawn)


def _rows(found: Features, view: str, identities: int, seed: int) -> np.ndarray:
    """Indices of the images of a view, of so many of the identities that are searched for."""
    rng = np.random.default_rng(seed)
    person = found.people()
    chosen = rng.permutation(np.unique(person[found.searched()]))[:identities]
    modality = found.labels.get("modality", np.full(len(person), VISIBLE))
    seen = modality == view if len(np.unique(modality)) > 1 else np.ones(len(person), bool)
    rows = np.flatnonzero(np.isin(person, chosen) & seen)
    return np.sort(rng.permutation(rows)[:POINTS])


def _figure(kind: str, drawn: dict, identities: int, seed: int) -> Plot:
    lines = {}
    for run, parts in drawn.items():
        parts = {name: parts[name] for name in _ORDER if name in parts}
        shared = _ORDER[2:]
        parts[JOINT] = tuple(np.concatenate([parts[name][index] for name in shared]) for index in range(3))
        lines[run] = {title: Panel(plane(part[0], seed), *part[1:]) for title, part in parts.items()}
    note = f"{kind}s, t-SNE of unit vectors, at most {identities} identities and {POINTS} images a view, seed {seed}"
    return draw(f"views-{kind}", f"{kind.capitalize()}s by branch and view", lines, note)


def _hue(turn: float) -> str:
    """A colour of the circle, ``turn`` from 0 to 1, that shows on light and on dark."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(turn, 0.5, 0.65))
