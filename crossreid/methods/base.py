"""The contract of a method: what the training loop, evaluation and export ask of it, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from torch import nn

from crossreid.records import Batch, Embedding, Metric, check_choice


@dataclass(frozen=True)
class Phase:
    """One kind of step inside an iteration.

    name: passed to ``forward``.
    optimizers: names of the optimizers that step after it.
    loader: name of the loader its batches come from.
    repeat: how many such steps one iteration takes.
    """

    name: str = "train"
    optimizers: tuple[str, ...] = ("main",)
    loader: str = "train"
    repeat: int = 1


@dataclass(frozen=True)
class Progress:
    """Read-only clock of a run.

    epoch, iteration: both from 0; ``iteration`` counts inside the epoch.
    lrs: optimizer name -> learning rate of each of its groups, in force now.
    loss_scale: factor the loop multiplies the loss with before backward (float16), 1 otherwise.
    """

    epoch: int = 0
    iteration: int = 0
    iterations_per_epoch: int = 1
    lrs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    loss_scale: float | torch.Tensor = 1.0

    @property
    def first(self) -> bool:
        """True in the very first iteration of the run."""
        return self.epoch == 0 and self.iteration == 0


class Input(TypedDict):
    """How an image becomes what a method takes.

    size: height and width in pixels. interpolation: the filter that resizes to it, a name of
        ``crossreid.images.resize``. mean, std: of each channel, for pixels from 0 to 1.
    """

    size: Sequence[int]
    interpolation: str
    mean: Sequence[float]
    std: Sequence[float]


def usual_input() -> Input:
    """256 x 128 pixels with the means and deviations of ImageNet."""
    return {
        "size": (256, 128),
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }


class Method(nn.Module):
    """A published system: its network, its losses and how its vectors are compared.

    A subclass sets the class attributes and writes ``forward`` and ``embed``; the rest has defaults. ``forward`` is
    training, ``embed`` is use. State that crosses steps or epochs is a registered buffer, so that it is saved with
    the weights without any code.

    Config: dataclass of the method's settings, with the published values as defaults.
    modalities: what the method distinguishes; ``("visible",)`` when every image takes the same way.
    features: names of the vectors ``embed`` can give, the default first.
    unit_length: whether those vectors have unit length.
    whole: the feature that holds all of ``views``, where there are any.
    columns: of the training images' ``extra`` that ``forward`` wants as ``batch.extra``, such as ``("clothes",)``.
    training_only: names of the parameters that serve a loss alone, such as centers, which other programs' files lack.

    Every method also carries what using it takes. Training and loading a checkpoint fill these in; one that is built
    in Python has the usual input until another is set, and empty dicts.

    input: how its images are made, see ``Input``.
    settings: the resolved settings of its training, heading -> settings, as ``crossreid.config.load`` takes them.
    trained: what it was trained on: ``source``, ``identities``, ``images``, ``epoch``; ``origin`` of an official one.
    """

    Config: type[Any]
    modalities: tuple[str, ...] = ("visible",)
    features: tuple[str, ...] = ("vector",)
    unit_length: bool = False
    whole: str | None = None
    columns: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()

    def __init__(self, config: Any, classes: int, domains: int = 1):
        """config: an instance of ``Config``; classes: training identities; domains: training domains."""
        super().__init__()
        self.config, self.classes, self.domains = config, classes, domains
        self.input: Input = usual_input()
        self.settings: dict[str, Any] = {}
        self.trained: dict[str, Any] = {}

    def phases(self, progress: Progress) -> tuple[Phase, ...]:
        """The steps of the coming iteration, in order."""
        return (Phase(),)

    def networks(self) -> list[nn.Module]:
        """The parts whose forward is most of the work, for ``train.compile``."""
        return [module for name, module in self.named_children() if name == "backbone"]

    def leaves_out(self) -> bool:
        """Whether some phase leaves a trainable parameter without a gradient. Several processes must know, and pay for
        it; phases with optimizers of their own do."""
        return len(self.phases(Progress())) > 1

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """Losses of one batch: scalars by name; ``total`` is what is minimised, the rest is logged."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch, phase, progress)")

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """Embed images (N, 3, H, W), normalised.

        modality: a name for all, or N indices (0 visible, 1 infrared); needed by methods that tell modalities apart.
        feature: one of ``features``; None is the first.
        """
        raise NotImplementedError(f"{type(self).__name__} must define embed(images, modality, feature)")

    def checked_feature(self, feature: str | None) -> str:
        """The name of a feature, the default for None. Raises UserError for one that the method does not give."""
        check_choice("the feature", feature or self.features[0], self.features)
        return feature or self.features[0]

    def views(self) -> dict[tuple[str, str, str], slice]:
        """What the feature ``whole`` is put together from: (kind, branch, modality of the view), such as
        ``("observation", "shared", "visible")``, and its place in the vector. Empty for methods of one branch."""
        return {}

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, H, W) before pooling, for activation images."""
        raise NotImplementedError(f"{type(self).__name__} does not give a feature map")

    def metric(self, feature: str | None = None) -> Metric:
        """How embeddings of this feature are compared."""
        return Metric("cosine")

    def metrics(self, feature: str | None = None) -> dict[str, Metric]:
        """Feature -> metric, of all features that an embedding of this one serves: they differ by the metric alone."""
        return {feature or self.features[0]: self.metric(feature)}

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Optimizer name -> its groups. A group is ``{"params": [...], "name": ..., "lr_factor": factor of the
        optimizer's learning rate (default 1), "weight_decay": ... (default the optimizer's), "bounds": (low, high)
        (optional, kept after every step)}``. Every trainable parameter belongs to exactly one group."""
        return {"main": [{"params": [p for p in self.parameters() if p.requires_grad], "name": "all"}]}

    def epoch_start(self, loaders: Mapping[str, Any]) -> None:
        """Called before each epoch, in every process alike, with the loaders by name. It may give their images new
        labels (``crossreid.data.loading.Loader.relabel``), such as clusters of their features; those of the first
        process hold for all."""

    def epoch_end(self, means: Mapping[str, float]) -> dict | None:
        """Called after each epoch with the mean of every loss over the epoch's steps (and processes), keyed
        ``phase/loss``. What it returns, if anything, is added to the epoch's line of ``metrics.jsonl``."""

    def check(self, batch_labels) -> None:
        """Raise ValueError with one paragraph when the training data cannot serve this method. Called once before
        training with the labels (see ``crossreid.records.Labels``) of all training images."""

    def check_batch(self, phase: str, labels) -> None:
        """Raise ValueError with one paragraph when a batch with these labels cannot serve a phase. Called before
        training with a batch such as the loader of each phase draws."""


def modality_indices(modality, count: int) -> np.ndarray:
    """Turn a modality as ``embed`` accepts it into (count,) int64 indices, 0 visible and 1 infrared. A tensor on a
    device is waited for."""
    names = {"visible": 0, "infrared": 1}
    if modality is None:
        raise ValueError(
            "this method treats visible and infrared images differently and must be told which each image is: "
            "pass modality='visible', modality='infrared', or one index per image (0 visible, 1 infrared)"
        )
    if isinstance(modality, str):
        if modality not in names:
            raise ValueError(f"unknown modality {modality!r}: expected 'visible' or 'infrared'")
        return np.full(count, names[modality])
    if torch.is_tensor(modality):
        modality = modality.cpu().numpy()
    elif not isinstance(modality, np.ndarray):
        modality = [names.get(value, value) for value in modality]
    indices = np.asarray(modality, np.int64)
    if indices.shape != (count,):
        raise ValueError(f"modality has shape {indices.shape}: expected one value for each of {count} images")
    return indices
