"""A plane map (t-SNE) of stored features."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossreid.records import MODALITIES, UserError
from crossreid.report.charts import Scatter

POINTS, IDENTITIES, SEED = 1000, 30, 0


@dataclass(frozen=True)
class EmbeddingMap:
    """coordinates (N, 2) and labels, name -> (N,), of the images drawn; note: how they were chosen."""

    coordinates: np.ndarray
    labels: dict[str, np.ndarray]
    note: str

    def charts(self, name: str, title: str) -> list[Scatter]:
        """By identity, and by camera, modality and domain where there is more than one of them."""
        about = [
            ", ".join(f"{key} {values[row]}" for key, values in self.labels.items())
            for row in range(len(self.coordinates))
        ]
        charts = []
        for key, values in self.labels.items():
            groups = [str(value) for value in np.unique(values)]
            if len(groups) < 2 and key != "identity":
                continue
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
                    note=self.note,
                )
            )
        return charts


def embedding_map(path: Path, seed: int = SEED) -> EmbeddingMap | None:
    """t-SNE (van der Maaten and Hinton 2008) of the unit vectors of ``features.npz``.

    At most 30 identities are drawn by the seed, then at most 1000 of their images. None with fewer than five
    images. Raises ImportError without scikit-learn, UserError where the file has not the arrays it should
    have.
    """
    from sklearn.manifold import TSNE

    features = _features(path)
    rng = np.random.default_rng(seed)
    people = np.stack([features["domain"], features["identity"]], axis=1)
    kinds, person = np.unique(people, axis=0, return_inverse=True)
    person = person.reshape(-1)
    chosen = rng.permutation(len(kinds))[:IDENTITIES]
    rows = np.flatnonzero(np.isin(person, chosen))
    rows = np.sort(rng.permutation(rows)[:POINTS])
    if len(rows) < 5:
        return None
    vectors = features["vectors"][rows].astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    coordinates = TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(
        vectors
    )
    labels = {
        key: features[key][rows] for key in ("identity", "camera", "modality", "domain") if key in features
    }
    if len(np.unique(features["domain"])) > 1:  # identities of different domains are different people
        labels["identity"] = np.array([f"{number} of domain {domain}" for domain, number in people[rows]])
    split = f"{features['split']} split, " if "split" in features else ""
    people = f"{len(chosen)} of {len(kinds)} identities"
    note = f"{split}{len(rows)} of {len(person)} images, {people}, seed {seed}"
    return EmbeddingMap(coordinates, labels, note)


def _features(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as file:
            features = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}): a NumPy archive with vectors and identity was expected. Write "
            "it again with `crossreid evaluate`, or take it away to have a report without its map."
        ) from error
    count = len(features.get("vectors", ()))
    labels = [key for key in ("identity", "camera", "modality", "domain") if key in features]
    if "identity" not in labels or any(features[key].shape != (count,) for key in labels):
        raise UserError(
            f"{path} does not hold what a map needs: vectors (N, D) and identity (N,), with camera, modality "
            "and domain (N,) where they are known, were expected. Write it again with `crossreid evaluate`, "
            "or take it away."
        )
    features.setdefault("domain", np.zeros(count, np.int64))
    if features.get("modality", np.array("")).dtype.kind in "iu":
        features["modality"] = np.array(MODALITIES)[features["modality"]]
    return features
