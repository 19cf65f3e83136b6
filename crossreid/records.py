"""The nouns that every part of the library shares."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

# What an Embedding holds: tensors where a network made it, arrays where it has left torch behind.
Array = TypeVar("Array", "np.ndarray", "torch.Tensor")

Key = TypeVar("Key")
Item = TypeVar("Item")

VISIBLE, INFRARED = MODALITIES = ("visible", "infrared")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of one person, as a reader of a data set yields it.

    path: the file; with ``array_index`` one that holds many images, with ``box`` a whole frame.
    identity, camera: the data set's own numbers, not class indices; 0 where nobody told them.
    modality: ``"visible"`` or ``"infrared"``; ``""`` where nobody told it, which readers of data sets never give.
    domain: position of the data set among those in use; identities and cameras of different domains never mix.
    time: when it was taken, in seconds since 1970 (UTC), where it is known.
    array_index: where in that file: the row of a prepared array (``.npy``), the offset of the header in a tar, the row
        id in a Lance data set (``.lance``).
    box: (left, top, right, bottom) in pixels of the frame.
    others: further files of the tracklet that this one begins, where tracklets and not images are evaluated.
    extra: what else its table or name tells, as text by column: ``path``, ``identity`` and ``camera`` as they were
        written, and columns of its owner (clothes, attributes, track, ...). Not looked at when images are compared.
    """

    path: Path
    identity: int = 0
    camera: int = 0
    modality: str = VISIBLE
    domain: int = 0
    time: float | None = None
    array_index: int | None = None
    box: tuple[int, int, int, int] | None = None
    others: tuple[Path, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Batch:
    """Images with what training needs to know of them; B rows in every field.

    images: (B, 3, H, W) float, normalised.
    target: (B,) int64 class index, 0 to classes - 1.
    camera, domain: (B,) int64.
    modality: (B,) int64, 0 visible and 1 infrared.
    labels: the last four on the host, where they are known; see ``on_host``.
    extra: column -> (B,) int64, of the columns that the method asks for, see ``coded``.
    """

    images: torch.Tensor
    target: torch.Tensor
    camera: torch.Tensor
    modality: torch.Tensor
    domain: torch.Tensor
    labels: Labels | None = None
    extra: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def on_host(self) -> Labels:
        """The labels as arrays. A batch of a loader has them; one without waits here for its device."""
        if self.labels is not None:
            return self.labels
        return Labels(*(getattr(self, each.name).cpu().numpy() for each in fields(Labels)))

    def to(self, device, non_blocking: bool = False) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._each(lambda tensor: tensor.pin_memory())

    def select(self, rows: torch.Tensor | np.ndarray) -> Batch:
        """The rows where a mask (B,) is true, or those that an index names, in its order. An array of indices is
        known to the host, and nobody waits for the device."""
        if isinstance(rows, np.ndarray):
            labels = None if self.labels is None else self.labels.take(rows)
            return replace(self._each(lambda tensor: take(tensor, rows)), labels=labels)
        return replace(self._each(lambda tensor: tensor[rows]), labels=None)

    def _each(self, function) -> Batch:
        tensors = [each.name for each in fields(self) if each.name not in ("labels", "extra")]
        extra = {name: function(tensor) for name, tensor in self.extra.items()}
        return replace(self, **{name: function(getattr(self, name)) for name in tensors}, extra=extra)


@dataclass(frozen=True)
class Labels:
    """What sampling and training know of N images.

    target: (N,) int64 class index, 0 to classes - 1.
    camera: (N,) int64, the data set's own number.
    modality: (N,) int64, 0 visible and 1 infrared.
    domain: (N,) int64, 0 to domains - 1.
    """

    target: np.ndarray
    camera: np.ndarray
    modality: np.ndarray
    domain: np.ndarray

    @classmethod
    def of(cls, images: Sequence[Image]) -> Labels:
        """Labels of these images; classes are numbered by sorted (domain, identity), see ``identities``."""
        classes = {key: index for index, key in enumerate(identities(images))}

        def column(values) -> np.ndarray:
            return np.fromiter(values, np.int64, count=len(images))

        return cls(
            target=column(classes[image.domain, image.identity] for image in images),
            camera=column(image.camera for image in images),
            modality=column(MODALITIES.index(image.modality) for image in images),
            domain=column(image.domain for image in images),
        )

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: np.ndarray) -> Labels:
        """The labels of these rows."""
        return Labels(*(getattr(self, each.name)[rows] for each in fields(self)))

    @property
    def classes(self) -> int:
        return int(self.target.max()) + 1 if len(self) else 0

    @property
    def domains(self) -> int:
        return int(self.domain.max()) + 1 if len(self) else 0

    def cameras_as_domains(self) -> Labels:
        """The same labels with every camera (of every data set) as a domain of its own, numbered from 0."""
        return replace(self, domain=dense_numbers(self.domain, self.camera))


def dense_numbers(*columns) -> np.ndarray:
    """(N,) int64 from 0: equal for two rows exactly if all of the columns, (N,) each, are."""
    rows = np.stack([np.asarray(column) for column in columns], axis=1)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def take(tensor: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Rows of a tensor by ascending or other indices that the host knows. Neither copied where they follow each other
    nor waited for."""
    import torch

    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return tensor[int(rows[0]) : int(rows[0]) + len(rows)]
    return tensor[torch.from_numpy(rows).to(tensor.device, non_blocking=True)]


def identities(images: Sequence[Image]) -> list[tuple[int, int]]:
    """The (domain, identity) of each class index, sorted."""
    return sorted({(image.domain, image.identity) for image in images})


def coded(images: Sequence[Image], columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Column of ``Image.extra`` -> (N,) int64: the place of an image's text among all different ones, sorted; -1 where
    it has none. Raises UserError for a column that no image has."""
    found = {}
    for column in columns:
        texts = [image.extra.get(column, "") for image in images]
        places = {text: place for place, text in enumerate(sorted(set(texts) - {""}))}
        if not places:
            known = sorted({name for image in images for name in image.extra})
            raise UserError(
                f"the method asks for the column {column!r} of the training images, which have "
                f"{', '.join(known) or 'no columns'}: train on a data set that tells it, such as a table"
            )
        found[column] = np.array([places.get(text, -1) for text in texts], np.int64)
    return found


@dataclass(frozen=True)
class Embedding(Generic[Array]):
    """What a method says of N images: of tensors as methods give them, of arrays as embedders do.

    feature: (N, D) as the method's own metric wants it, not necessarily of unit length.
    stripes: (N, S, C), one vector for each horizontal stripe from top to bottom, or None.
    """

    feature: Array
    stripes: Array | None = None

    def __len__(self) -> int:
        return len(self.feature)

    def __getitem__(self, rows) -> Embedding[Array]:
        return Embedding(self.feature[rows], None if self.stripes is None else self.stripes[rows])


@dataclass(frozen=True)
class Metric:
    """How two embeddings are compared: the distance of the vectors plus the distance of the stripes.

    feature: ``"cosine"`` (1 - cos), ``"euclidean"``, ``"squared_euclidean_unit"`` (of unit vectors, 2 - 2 cos),
        or None.
    stripes: ``"aligned"``, ``"unaligned"``, or None.
    """

    feature: str | None = "cosine"
    stripes: str | None = None


@dataclass(frozen=True)
class Trial:
    """Who is searched for where, once.

    subset: name of the line in the results table, such as ``all`` or ``visible to infrared``. Trials of one row are
        averaged.
    query (Q,), gallery (G,): indices into the protocol's images.
    excluded: None, or two integer arrays (Q,) and (G,): a pair whose two numbers are equal is excluded. This one
        form holds every published rule (same identity and camera, same place, ...).
    """

    subset: str
    query: np.ndarray
    gallery: np.ndarray
    excluded: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Scores:
    """The outcome of one row of a protocol. Fractions from 0 to 1, over queries with at least one valid match.

    cmc: (R,) share of queries with a hit at rank <= 1, 2, ..., R.
    mean_ap, mean_inp: mean average precision; mean inverse negative penalty (Ye et al. 2021).
    verification: name -> fraction of what else was measured (``crossreid.evaluation.measures``), such as
        ``{"TPR@FAR=0.001": 0.42}``.
    per_query: name -> (Q,) values, NaN for a query without a valid match: ``average_precision``,
        ``inverse_negative_penalty``, ``first_rank`` (1-based).
    per_trial: the Scores of each trial when this one is their mean, else empty.
    valid, queries: how many queries had a valid match, and how many there were.
    results: heading of ``evaluation.json`` -> what was found for it beside numbers: curves, ranked lists, notes.
    """

    cmc: np.ndarray
    mean_ap: float
    mean_inp: float
    verification: dict[str, float]
    per_query: dict[str, np.ndarray]
    per_trial: tuple[Scores, ...] = ()
    valid: int = 0
    queries: int = 0
    results: dict[str, list] = field(default_factory=dict)

    def __repr__(self) -> str:
        first = self.cmc[0] if len(self.cmc) else float("nan")
        trials = f", mean of {counted(len(self.per_trial), 'trial')}" if self.per_trial else ""
        return (
            f"Scores(Rank-1 {first:.1%}, mAP {self.mean_ap:.1%}, mINP {self.mean_inp:.1%}, "
            f"{self.valid} of {self.queries} queries{trials})"
        )


class UserError(ValueError):
    """A mistake that the user can mend: its text is one paragraph that says what is wrong, what was expected and
    what to do. The command line prints it without a traceback and exits with 2."""


def by_key(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """Each key with all that came with it, in the order in which both came."""
    groups: dict[Key, list[Item]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


def did_you_mean(value: object, known: Iterable[object]) -> str:
    """`` (did you mean 'agw'?)`` where one of the known names resembles what was given, else nothing."""
    near = difflib.get_close_matches(str(value), [str(name) for name in known], 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 image``, ``3 images``, ``2 identities``, ``4 batches``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def pip_install(extra: str) -> str:
    """The command that installs what an extra of crossreid needs, wherever crossreid itself was installed from."""
    try:
        wanted = metadata.requires("crossreid") or []
    except metadata.PackageNotFoundError:
        wanted = []
    # "lancedb>=0.40; extra == 'search'"
    parts = [line.partition(";") for line in wanted]
    names = [
        name.strip() for name, _, marker in parts if marker.replace('"', "'").endswith(f"extra == '{extra}'")
    ]
    return (
        f"pip install {shlex.join(names)}" if names else f"pip install '.[{extra}]' in crossreid's own folder"
    )


def check_choice(what: str, value: object, known: Iterable[object]) -> None:
    """Raise UserError, which names the nearest, unless the value is one of those known. what: ``"method.pooling"``."""
    choices = list(known)
    if value not in choices:  # a list, so that a value of any type can be compared
        raise UserError(
            f"{what} is {value!r}{did_you_mean(value, choices)}: choose one of "
            f"{', '.join(map(str, choices)) or '(none)'}"
        )
