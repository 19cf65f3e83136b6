"""A plane map (t-SNE) of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.records import MODALITIES
from crossreid.report.charts import Scatter
from crossreid.report.evidence import Features, identity_numbers
from crossreid.report.figures import Section, slug

POINTS, IDENTITIES = 1000, 30
NO_SKLEARN = "<p>The map of features needs scikit-learn: install <code>crossreid[plot]</code>.</p>"


@dataclass(frozen=True)
class EmbeddingMap:
    """coordinates (N, 2) and labels, name -> (N,), of the images drawn; note: how they were chosen."""

    coordinates: np.ndarray
    labels: dict[str, np.ndarray]
    note: str

    def charts(self, name: str, title: str) -> list[Scatter]:
        """By identity, and by camera, modality and domain where there is more than one of them. Infrared images
        are hollow where there are others."""
        about = [
            ", ".join(f"{key} {values[row]}" for key, values in self.labels.items())
            for row in range(len(self.coordinates))
        ]
        modality = self.labels.get("modality")
        infrared = [] if modality is None else (modality == MODALITIES[1]).tolist()
        mixed = len(set(infrared)) > 1
        charts = []
        for key, values in self.labels.items():
            groups = [str(value) for value in np.unique(values)]
            if len(groups) < 2 and key != "identity":
                continue
            hollow = mixed and key != "modality"
            charts.append(
                Scatter(
                    name=f"{name}-{key}",
                    title=f"{title}, by {key}",
                    x=self.coordinates[:, 0].tolist(),
                    y=self.coordinates[:, 1].tolist(),
                    group=[str(value) for value in values],
                    groups=groups,
                    about=about,
                    columns={label: each.tolist() for label, each in self.labels.items()},
                    note=self.note + ("; hollow: infrared" if hollow else ""),
                    hollow=infrared if hollow else (),
                )
            )
        return charts


def embedding_map(features: Features, identities: int = IDENTITIES, seed: int = 0) -> EmbeddingMap | None:
    """t-SNE (van der Maaten and Hinton 2008) of unit vectors.

    So many of the identities that are searched for are drawn by the seed, then at most 1000 of their
    images. None with fewer than five images. Raises ImportError without scikit-learn.
    """
    rng = np.random.default_rng(seed)
    labels = features.labels
    person, searched = identity_numbers(labels["domain"], labels["identity"]), features.searched()
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


def section(found: Sequence[tuple], identities: int, seed: int) -> Section:
    """Of (run, features) pairs."""
    charts = []
    for run, features in found:
        try:
            drawn = embedding_map(features, identities, seed)
        except ImportError:
            return Section("Embedding map", NO_SKLEARN)
        if drawn is not None:
            title = "t-SNE" if len(found) == 1 else f"t-SNE of {run.name}"
            charts += drawn.charts(f"map-{slug(run.name)}", title)
    if not charts:
        return Section("Embedding map")
    words = (
        "<p>Each point is an image; t-SNE lays images with similar vectors near each other. Distances "
        "between far groups and the axes themselves mean nothing. Hold the pointer over a point to read what it "
        "is.</p>"
    )
    return Section("Embedding map", words, charts)
