"""Where on the body a network looks: maps of its activation, and of what makes two images alike, over images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np

from crossreid.records import UserError
from crossreid.report import evidence
from crossreid.report.figure import Plot, slug
from crossreid.report.images import MappedImage, activation_maps
from crossreid.report.runs import Run
from crossreid.report.section import Section

LISTED = 4  # how many of the gallery stand beside a query
KINDS = {"good": "a good query", "median": "a median query", "worst": "the worst query"}


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
    """Of the first good, median and worst query of each run's first subset."""
    folded: dict[str, list[Plot]] = {}
    failed: dict[str, str] = {}
    for run, lists in evidence.with_model(runs):
        try:
            method = evidence.model(run)
            chosen = feature if feature in method.features else run.evaluation.get("feature")
            chosen = chosen if chosen in method.features else None
            folded[run.name] = [
                _figure(run, method, chosen, ranked, len(runs) > 1)
                for ranked in evidence.first_of_each_kind(lists)
            ]
        except UserError as error:
            failed[run.name] = str(error)
    about = {"failed": failed, "drawn": bool(folded)}
    return Section("Activation", "activation.html" if folded or failed else "", about, folded=folded)


def _figure(run: Run, method, feature, ranked: dict, several: bool) -> Plot:
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
    return activation_maps(
        seen,
        f"activation-{slug(run.name)}-{slug(str(ranked['kind']))}",
        f"What {who} looks at: {KINDS.get(ranked['kind'], ranked['kind'])}",
        f"subset {ranked['subset']}, feature {feature or method.features[0]}",
    )
