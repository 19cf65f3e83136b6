"""Where on the body a network looks: maps of its activation, and of what makes two images alike, over images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape

import numpy as np

from crossreid.records import UserError
from crossreid.report.charts import WIDTH, csv_text
from crossreid.report.drawing import Drawing
from crossreid.report.figures import Section, slug
from crossreid.report.runs import Run

LISTED = 4  # how many of the gallery stand beside a query
LEFT, GAP = 74, 5
KINDS = {"good": "a good query", "median": "a median query", "worst": "the worst query"}
# From nothing to most: dark violet over red to yellow, even in lightness.
HEAT = ((10, 7, 35), (78, 18, 108), (158, 42, 99), (222, 81, 58), (251, 155, 6), (247, 225, 85))


@dataclass(frozen=True)
class MappedImage:
    """One image with what lies over it.

    pixels: (H, W, 3) uint8. maps: name -> (h, w) from 0 to 1. words: lines above it. right: whether it shows the
        query's person, None for the query itself.
    """

    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    words: Sequence[str]
    right: bool | None = None


@dataclass(frozen=True)
class Activations:
    """A query and its nearest images in the first line, their maps below."""

    name: str
    title: str
    seen: Sequence[MappedImage]
    note: str = ""
    maps: Sequence[str] = field(default=())

    @property
    def description(self) -> str:
        words = "; ".join(" ".join(each.words) for each in self.seen)
        return f"{self.title}. Images: {words}. Below each: {', '.join(self.maps)}."

    def csv(self) -> str:
        rows = [
            [number, " ".join(each.words), name, y, x, f"{value:.4f}"]
            for number, each in enumerate(self.seen)
            for name, values in each.maps.items()
            for (y, x), value in np.ndenumerate(values)
        ]
        return csv_text(["image", "role", "map", "row", "column", "value"], rows)

    def draw(self) -> Drawing:
        wide = (WIDTH - LEFT - 10) / (LISTED + 1) - GAP
        height, width = self.seen[0].pixels.shape[:2]
        high = min(wide * height / width, 2.4 * wide)
        top = 32
        sheet = Drawing(WIDTH, top + (len(self.maps) + 1) * (high + GAP) + (18 if self.note else 4))
        for line, name in enumerate(("image", *self.maps)):
            middle = top + line * (high + GAP) + high / 2
            words = name.split(", ")
            for index, word in enumerate(words):
                sheet.text(LEFT - 8, middle + 14 * (index - (len(words) - 1) / 2) + 4, word, "ink", "end")
        for column, each in enumerate(self.seen):
            x = LEFT + column * (wide + GAP)
            colour = "ink" if each.right is None else "right" if each.right else "wrong"
            for index, word in enumerate(each.words):
                sheet.text(x + wide / 2, 12 + 14 * index, word, colour, "middle", bold=not index)
            laid = [each.pixels, *(overlay(each.pixels, each.maps[name]) for name in self.maps)]
            for line, pixels in enumerate(laid):
                about = f"{' '.join(each.words)}: {('image', *self.maps)[line]}"
                y = top + line * (high + GAP)
                sheet.image(x, y, wide, high, pixels, about)
                if not line and each.right is not None:
                    sheet.rectangle(
                        x, y, wide, high, border=colour, thickness=2.4, dash="" if each.right else "5 3"
                    )
        if self.note:
            sheet.text(WIDTH / 2, sheet.height - 6, self.note, "muted", "middle", 11)
        return sheet


def overlay(pixels: np.ndarray, values: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """A map (h, w) of 0 to 1 laid over an image (H, W, 3) uint8, which turns grey below it."""
    from PIL import Image

    size = pixels.shape[1], pixels.shape[0]
    smooth = Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BICUBIC)
    place = np.clip(np.asarray(smooth), 0, 1) * (len(HEAT) - 1)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    ramp, part = np.asarray(HEAT, float), (place - low)[..., None]
    colour = ramp[low] * (1 - part) + ramp[low + 1] * part
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return np.round(strength * colour + (1 - strength) * grey).astype(np.uint8)


def energy(maps) -> np.ndarray:
    """(N, C, h, w) features -> (N, h, w) length of each place's feature, from 0 to 1 over each image."""
    return _scaled(maps.float().square().sum(1).sqrt().numpy())


def branches(method) -> dict:
    """Name -> the part of the method that has a feature map of its own; the method itself where no part has."""
    parts = {
        name.rpartition(".")[2]: part
        for name, part in method.named_modules()
        if part is not method and callable(getattr(part, "feature_map", None))
    }
    return parts or {"": method}


def look(method, images, modality, feature: str | None = None) -> dict[str, np.ndarray]:
    """What the network makes of images, the first of them a query and the others compared with it.

    images: (N, 3, H, W) normalised. modality: (N,) indices.

    Returns name -> (N, h, w) from 0 to 1: ``activation``, the length of the feature at each place, one for each branch
    of the method; and ``similarity``, where the method embeds by way of its feature maps: the places whose features
    raise the cosine of image and query more than the image's mean feature does, weighed by the gradient of the
    cosine (as in Grad-CAM, Selvaraju et al. 2017); for the query itself its cosine with the second image.
    """
    import torch

    parts = branches(method)
    found = {}
    with torch.no_grad():
        for name, part in parts.items():
            maps = part.feature_map(images, modality) if part is method else part.feature_map(images)
            found[f"activation, {name}" if name else "activation"] = energy(maps)
    with _kept(parts.values()) as kept, torch.enable_grad():
        vectors = torch.nn.functional.normalize(
            method.embed(images, modality=modality, feature=feature).feature
        )
        if kept and len(vectors) > 1:
            others = torch.cat([vectors[1:2], vectors[:1].expand(len(vectors) - 1, -1)]).detach()
            slopes = torch.autograd.grad((vectors * others).sum(), kept)
            # An image's places are compared with each other: what all of them have in common tells none apart.
            alike = sum(
                (slope.mean((2, 3), keepdim=True) * (maps - maps.mean((2, 3), keepdim=True))).sum(1)
                for slope, maps in zip(slopes, kept)
            )
            found["similarity"] = _scaled(alike.detach().relu().numpy(), from_zero=True)
    return found


@contextmanager
def _kept(parts):
    """Inside, the feature maps that ``parts`` make are gathered in a list, and gradients reach them and end there."""
    kept = []

    def keeping(original):
        def feature_map(*given, **named):
            kept.append(original(*given, **named).detach().requires_grad_())
            return kept[-1]

        return feature_map

    parts = list(parts)
    for part in parts:
        part.feature_map = keeping(part.feature_map)
    try:
        yield kept
    finally:
        for part in parts:
            del part.feature_map


def _scaled(values: np.ndarray, from_zero: bool = False) -> np.ndarray:
    low = 0.0 if from_zero else values.min(axis=(1, 2), keepdims=True)
    values = values - low
    return values / np.maximum(values.max(axis=(1, 2), keepdims=True), 1e-12)


def section(runs: Sequence[Run], feature: str | None = None) -> Section:
    """Of the first good, median and worst query of each run's first row."""
    from crossreid.report import evidence

    figures, said = [], []
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if not lists or evidence.weights(run) is None:
            continue
        try:
            method = evidence.model(run)
            chosen = feature if feature in method.features else run.evaluation.get("feature")
            chosen = chosen if chosen in method.features else None
            for ranked in first_of_each_kind(lists):
                figures.append(_figure(run, method, chosen, ranked, len(runs) > 1))
        except UserError as error:
            said.append(f"<p>No maps of {escape(run.name)}: {escape(str(error))}</p>")
    if not figures:
        return Section("Activation", "".join(said))
    words = (
        "<p>Activation: how long the network's last feature is at each place, from least (dark) to most (yellow) "
        "within each image. Similarity: the places that bring an image and the query together more than the rest "
        "of the image does, and for the query those that bring it to the first of the list. The maps have few "
        "cells; they are smoothed for the eye, and the CSV holds them as they are. <code>crossreid report RUN "
        "--figures FOLDER</code> saves these figures.</p>"
    )
    return Section("Activation", words + "".join(said), figures)


def first_of_each_kind(lists: Sequence[dict]) -> list[dict]:
    first = [each for each in lists if each["subset"] == lists[0]["subset"]]
    return list({each["kind"]: each for each in reversed(first)}.values())[::-1]


def _figure(run: Run, method, feature, ranked: dict, several: bool) -> Activations:
    from crossreid.report import evidence

    gallery = ranked["gallery"][:LISTED]
    pixels, images, modality = evidence.shown(run, [ranked["query"], *gallery], method)
    maps = look(method, images, modality, feature)
    words = [("query", f"id {ranked['query'].get('identity')}")]
    words += [
        (f"rank {rank}", "right" if each["right"] else "wrong") for rank, each in enumerate(gallery, start=1)
    ]
    seen = [
        MappedImage(each, {name: values[index] for name, values in maps.items()}, words[index], right)
        for index, (each, right) in enumerate(zip(pixels, [None, *(bool(each["right"]) for each in gallery)]))
    ]
    who = run.name if several else "the network"
    return Activations(
        f"activation-{slug(run.name)}-{slug(str(ranked['kind']))}",
        f"What {who} looks at: {KINDS.get(ranked['kind'], ranked['kind'])}",
        seen,
        f"row {ranked['subset']}, feature {feature or method.features[0]}",
        tuple(maps),
    )
