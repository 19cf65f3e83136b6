"""The nouns that every part of the library shares."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

VISIBLE, INFRARED = MODALITIES = ("visible", "infrared")


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of one person, as a reader of a data set yields it.

    path: the file; with ``row`` a prepared array (``.npy``), with ``box`` a whole frame.
    identity, camera: the data set's own numbers, not class indices.
    modality: ``"visible"`` or ``"infrared"``.
    domain: position of the data set among those in use; identities and cameras of different domains never mix.
    time: seconds, where the data set knows it.
    row: index of the picture in the prepared array.
    box: (left, top, right, bottom) in pixels of the frame.
    """

    path: Path
    identity: int
    camera: int
    modality: str = VISIBLE
    domain: int = 0
    time: float | None = None
    row: int | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Batch:
    """Images with what training needs to know of them; B rows in every field.

    images: (B, 3, H, W) float, normalised.
    target: (B,) int64 class index, 0 to classes - 1.
    camera, domain: (B,) int64.
    modality: (B,) int64, 0 visible and 1 infrared.
    """

    images: torch.Tensor
    target: torch.Tensor
    camera: torch.Tensor
    modality: torch.Tensor
    domain: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device, non_blocking: bool = False) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._each(lambda tensor: tensor.pin_memory())

    def select(self, mask: torch.Tensor) -> Batch:
        """The rows where ``mask`` (B,) is true, or the rows that an index tensor names, in its order."""
        return self._each(lambda tensor: tensor[mask])

    def _each(self, function) -> Batch:
        return replace(self, **{field.name: function(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class Embedding:
    """What a method says of N images.

    vector: (N, D) as the method's own comparison wants it, not necessarily of unit length.
    stripes: (N, S, C), one vector for each horizontal stripe from top to bottom, or None.
    """

    vector: torch.Tensor
    stripes: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.vector)

    def __getitem__(self, rows) -> Embedding:
        return Embedding(self.vector[rows], None if self.stripes is None else self.stripes[rows])


@dataclass(frozen=True)
class Comparison:
    """How two embeddings are compared: the distance of the vectors plus the distance of the stripes.

    vector: ``"cosine"`` (1 - cos), ``"euclidean"``, ``"squared_euclidean_unit"`` (of unit vectors, 2 - 2 cos), or None.
    stripes: ``"aligned"``, ``"unaligned"``, or None.
    """

    vector: str | None = "cosine"
    stripes: str | None = None


@dataclass(frozen=True)
class Trial:
    """Who is searched for where, once.

    row: name of the line in the results table, such as ``all`` or ``visible to infrared``. Trials of one row are
        averaged.
    query (Q,), gallery (G,): indices into the protocol's images.
    forbidden: None, or two integer arrays (Q,) and (G,): a pair whose two numbers are equal is disregarded. This one
        form holds every published rule (same identity and camera, same place, ...).
    """

    row: str
    query: np.ndarray
    gallery: np.ndarray
    forbidden: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Scores:
    """The outcome of one row of a protocol. Fractions from 0 to 1, over queries with at least one valid match.

    cmc: (R,) share of queries with a hit at rank <= 1, 2, ..., R.
    mean_ap, mean_inp: mean average precision; mean inverse negative penalty (Ye et al. 2021).
    verification: name -> true positive rate, such as ``{"TPR@FAR=0.001": 0.42}``.
    per_query: name -> (Q,) values, NaN for a query without a valid match: ``average_precision``,
        ``inverse_negative_penalty``, ``first_rank`` (1-based).
    per_trial: the Scores of each trial when this one is their mean, else empty.
    valid, queries: how many queries had a valid match, and how many there were.
    """

    cmc: np.ndarray
    mean_ap: float
    mean_inp: float
    verification: dict[str, float]
    per_query: dict[str, np.ndarray]
    per_trial: tuple[Scores, ...] = ()
    valid: int = 0
    queries: int = 0


class UserError(ValueError):
    """A mistake that the user can mend: its text is one paragraph that says what is wrong, what was expected and
    what to do. The command line prints it without a traceback and exits with 2."""
