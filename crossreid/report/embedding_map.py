"""A plane map (t-SNE) of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crossreid.records import MODALITIES
from crossreid.report import plots
from crossreid.report.evidence import Features
from crossreid.report.figure import Plot, slug
from crossreid.report.section import Section

POINTS, IDENTITIES = 1000, 30


@dataclass(frozen=True)
class EmbeddingMap:
    """coordinates (N, 2) and labels, name -> (N,), of the images drawn; note: how they were chosen."""

    coordinates: np.ndarray
    labels: dict[str, np.ndarray]
    note: str

    def plots(self, name: str, title: str) -> list[Plot]:
        """By identity, and by camera, modality and domain where there is more than one of them. Infrared images
        are hollow where there are others."""
        hints = [
            ", ".join(f"{key} {values[row]}" for key, values in self.labels.items())
            for row in range(len(self.coordinates))
        ]
        modality = self.labels.get("modality")
        infrared = [] if modality is None else (modality == MODALITIES[1]).tolist()
        mixed = len(set(infrared)) > 1
        drawn = []
        for key, values in self.labels.items():
            if len(np.unique(values)) < 2 and key != "identity":
                continue
            hollow = mixed and key != "modality"
            drawn.append(
                plots.scatter(
                    f"{name}-{key}",
                    f"{title}, by {key}",
                    self.coordinates,
                    [str(value) for value in values],
                    hints=hints,
                    columns={label: each.tolist() for label, each in self.labels.items()},
                    hollow=infrared if hollow else (),
                    note=self.note + ("; hollow: infrared" if hollow else ""),
                )
            )
        return drawn


def embedding_map(features: Features, identities: int = IDENTITIES, seed: int = 0) -> EmbeddingMap | None:
    """t-SNE (van der Maaten and Hinton 2008) of unit vectors.

    So many of the identities that are searched for are drawn by the seed, then at most 1000 of their
    images. None with fewer than five images.
    """
    rng = np.random.default_rng(seed)
    labels = features.labels
    person, searched = features.people(), features.searched()
    kinds = np.unique(person[searched])
    chosen = rng.permutation(kinds)[:identities]
    rows = np.flatnonzero(np.isin(person, chosen))
    rows = np.sort(rng.permutation(rows)[:POINTS])
    if len(rows) < 5:
        return None
    coordinates = plane(features.vectors[rows], seed)
    drawn = {key: values[rows] for key, values in labels.items()}
    if len(np.unique(labels["domain"])) > 1:  # identities of different domains are different people
        both = zip(drawn["identity"], drawn["domain"])
        drawn["identity"] = np.array([f"{number} of domain {domain}" for number, domain in both])
    counts = f"{len(rows)} of {len(person)} images, {len(chosen)} of {len(kinds)} identities"
    return EmbeddingMap(
        coordinates, drawn, f"feature {features.name}, {features.split} split, {counts}, seed {seed}"
    )


def plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2): t-SNE of the vectors at unit length, begun from their principal components."""
    from sklearn.manifold import TSNE

    vectors = vectors.astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(vectors)


def section(stored: Mapping[str, Features | None], identities: int, seed: int) -> Section:
    """stored: name of a run -> its features."""
    folded = {}
    for name, features in stored.items():
        drawn = None if features is None else embedding_map(features, identities, seed)
        if drawn is not None:
            title = "t-SNE" if len(stored) == 1 else f"t-SNE of {name}"
            folded[name] = drawn.plots(f"map-{slug(name)}", title)
    return Section("Embedding map", "map.html" if folded else "", folded=folded)
