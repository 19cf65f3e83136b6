"""Images of people matched stripe by stripe: which stripe meets which on the cheapest path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from crossreid.records import UserError
from crossreid.report.charts import WIDTH, csv_text
from crossreid.report.drawing import Drawing
from crossreid.report.figures import Section, slug
from crossreid.report.runs import Run

COLUMNS, GAP, BETWEEN = 2, 12, 62
NEAR, FAR = (33, 89, 196), (214, 176, 150)


@dataclass(frozen=True)
class Pair:
    """Two images and their stripes.

    pixels: two of (H, W, 3) uint8. stripes: (S, C) and (S', C), of unit length, from top to bottom. words: what the
        pair is, such as ``right, rank 1``. right: whether both show one person.
    """

    pixels: tuple[np.ndarray, np.ndarray]
    stripes: tuple[np.ndarray, np.ndarray]
    words: str
    right: bool


@dataclass(frozen=True)
class StripePath:
    """The cheapest path of a pair, [(i, j, distance of stripe i to stripe j), ...], the sum along it, and the sum over
    stripes at equal height, None where the numbers of stripes differ."""

    path: list[tuple[int, int, float]]
    aligned: float
    unaligned: float | None


def stripe_path(left, right) -> StripePath:
    """left: (S, C), right: (S', C) unit stripes; see ``ops.alignment``."""
    from crossreid.ops import alignment

    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    lengths = np.linalg.norm(left[:, None] - right[None], axis=2)
    steps = np.tanh(lengths / 2)
    path = [(i, j, float(steps[i, j])) for i, j in alignment.alignment_path(left, right)]
    straight = float(np.trace(steps)) if len(left) == len(right) else None
    return StripePath(path, sum(step for _, _, step in path), straight)


@dataclass(frozen=True)
class AlignedStripes:
    """Pairs of images with lines between the stripes that meet; the nearer two stripes, the bluer and thicker
    their line."""

    name: str
    title: str
    pairs: Sequence[Pair]
    note: str = ""

    @property
    def description(self) -> str:
        told = []
        for pair in self.pairs:
            found = stripe_path(*pair.stripes)
            straight = "" if found.unaligned is None else f", unaligned {found.unaligned:.2f}"
            told.append(f"{pair.words}: aligned {found.aligned:.2f}{straight}")
        return f"{self.title}. {'; '.join(told)}."

    def csv(self) -> str:
        rows = []
        for number, pair in enumerate(self.pairs):
            found = stripe_path(*pair.stripes)
            straight = "" if found.unaligned is None else found.unaligned
            for step, (left, right, length) in enumerate(found.path):
                rows.append([number, pair.words, step, left, right, length, found.aligned, straight])
        header = ["pair", "words", "step", "left stripe", "right stripe", "distance", "aligned", "unaligned"]
        return csv_text(header, rows)

    def draw(self) -> Drawing:
        cells = [_draw(pair) for pair in self.pairs]
        lines = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
        height = sum(max(cell.height for cell in line) for line in lines) + GAP * (len(lines) - 1)
        sheet = Drawing(WIDTH, height + (20 if self.note else 0))
        y = 0.0
        for line in lines:
            for column, cell in enumerate(line):
                sheet.lay(cell, column * WIDTH / COLUMNS, y)
            y += max(cell.height for cell in line) + GAP
        if self.note:
            sheet.text(WIDTH / 2, sheet.height - 6, self.note, "muted", "middle", 11)
        return sheet


def _draw(pair: Pair) -> Drawing:
    cell = WIDTH / COLUMNS
    wide = (cell - BETWEEN - 20) / 2
    high = wide * min(2.4, max(each.shape[0] / each.shape[1] for each in pair.pixels))
    top, colour = 22, "right" if pair.right else "wrong"
    found = stripe_path(*pair.stripes)
    sheet = Drawing(cell, top + high + 40)
    sheet.text(10, 14, pair.words, colour, bold=True)
    lefts = (10, 10 + wide + BETWEEN)
    for x, pixels, stripes in zip(lefts, pair.pixels, pair.stripes):
        sheet.image(x, top, wide, high, pixels, pair.words)
        for border in range(1, len(stripes)):
            y = top + high * border / len(stripes)
            sheet.path([(x, y), (x + wide, y)], "#ffffff", 0.7)
        sheet.rectangle(x, top, wide, high, border=colour, thickness=2, dash="" if pair.right else "5 3")
    middles = [
        [top + high * (index + 0.5) / len(stripes) for index in range(len(stripes))]
        for stripes in pair.stripes
    ]
    lengths = [length for _, _, length in found.path]
    low, high_length = min(lengths), max(lengths)
    # The furthest first, so that the nearest lie on top.
    for i, j, length in sorted(found.path, key=lambda step: -step[2]):
        nearness = 1 - (length - low) / max(high_length - low, 1e-9)
        shade = "#" + "".join(f"{round(a + (b - a) * nearness):02x}" for a, b in zip(FAR, NEAR))
        ends = (lefts[0] + wide + 4, middles[0][i]), (lefts[1] - 4, middles[1][j])
        sheet.path(ends, shade, 1.2 + 1.6 * nearness)
        for x, y in ends:
            sheet.circle(x, y, 2.2, shade)
    foot = top + high
    steps = len(found.path)
    sheet.text(10, foot + 17, f"aligned {found.aligned:.2f}", "ink")
    sheet.text(cell - 10, foot + 17, f"{found.aligned / steps:.3f} a step", "muted", "end")
    if found.unaligned is not None:
        sheet.text(10, foot + 33, f"unaligned {found.unaligned:.2f}", "ink")
        sheet.text(
            cell - 10, foot + 33, f"{found.unaligned / len(pair.stripes[0]):.3f} a stripe", "muted", "end"
        )
    return sheet


def section(runs: Sequence[Run], feature: str | None = None) -> Section:
    """For methods with stripes: of the first good, median and worst query, the nearest right and wrong image."""
    from crossreid.report import evidence
    from crossreid.report.activations import first_of_each_kind

    figures, said = [], []
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if not lists or evidence.weights(run) is None:
            continue
        try:
            method = evidence.model(run)
            wanted = [feature, run.evaluation.get("feature"), *method.features]
            named = [name for name in wanted if name in method.features and method.metric(name).stripes]
            if not named:
                continue
            pairs = [
                pair for ranked in first_of_each_kind(lists) for pair in _pairs(run, method, named[0], ranked)
            ]
        except UserError as error:
            said.append(f"<p>No stripes of {escape(run.name)}: {escape(str(error))}</p>")
            continue
        name = f" of {run.name}" if len(runs) > 1 else ""
        figures.append(
            AlignedStripes(
                f"stripes-{slug(run.name)}",
                f"Aligned stripes{name}",
                pairs,
                f"row {lists[0]['subset']}, feature {named[0]}",
            )
        )
    if not figures:
        return Section("Aligned stripes", "".join(said))
    words = (
        "<p>Left the query, right the nearest image of the right and of a wrong person. Lines join the stripes that "
        "meet on the cheapest path from top to bottom; the bluer and thicker, the nearer the two. Below: the sum "
        "along the path, and the sum over stripes at equal height. A path has more steps than there are "
        "stripes, hence also the mean of each.</p>"
    )
    return Section("Aligned stripes", words + "".join(said), figures)


def _pairs(run: Run, method, feature: str, ranked: dict) -> list[Pair]:
    """The query with the nearest right and the nearest wrong image of its list."""
    import torch

    from crossreid.report import evidence

    chosen: dict[bool, tuple[int, dict]] = {}
    for rank, record in enumerate(ranked["gallery"], start=1):
        chosen.setdefault(bool(record["right"]), (rank, record))
    chosen = {right: chosen[right] for right in (True, False) if right in chosen}
    pixels, images, modality = evidence.shown(
        run, [ranked["query"], *(record for _, record in chosen.values())], method
    )
    with torch.no_grad():
        stripes = method.embed(images, modality=modality, feature=feature).stripes.numpy()
    return [
        Pair(
            (pixels[0], pixels[index]),
            (stripes[0], stripes[index]),
            f"{ranked['kind']} query, {'right' if right else 'wrong'} at rank {rank}",
            right,
        )
        for index, (right, (rank, _)) in enumerate(chosen.items(), start=1)
    ]
