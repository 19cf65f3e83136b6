"""The strong baseline: one network, one vector, identity loss and triplets.

Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPR Workshops 2019, arXiv
1903.07071. With other settings it is what torchreid and fast-reid train: OSNet with an
embedding layer and no neck, or ResNet-50 with generalised-mean pooling (SBS).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.losses.by_name import chosen
from crossreid.losses.identity import accuracy
from crossreid.losses.triplet import check_identities
from crossreid.methods.base import Method, Phase, Progress
from crossreid.nn import backbones
from crossreid.nn.classifiers import CLASSIFIERS
from crossreid.nn.neck import neck
from crossreid.nn.pooling import LAYERS
from crossreid.records import Batch, Embedding, Metric, UserError, check_choice


@dataclass
class BaselineConfig:
    """Settings of the baseline; the defaults are those of the bag of tricks without the center loss.

    backbone: any that ``crossreid.nn.backbones.backbone`` knows.
    pretrained: pretrained weights, see ``crossreid.nn.backbones.start``; null for random ones.
    last_stride, variant: see ``crossreid.nn.backbones.backbone``.
    attention: AGW's non-local blocks between the stages of a residual network, of inner width 1.
    pooling: from maps to a vector, a name of ``crossreid.nn.pooling.LAYERS``; or ``token``, a transformer's token of
        the class in their place (TransReID).
    embedding: width of a linear layer with batch normalisation and rectifier behind the pooling, as OSNet has it; 0
        for none.
    neck: batch normalisation without a bias behind that, whose output is classified and searched with.
    classifier: a name of ``crossreid.nn.classifiers.CLASSIFIERS``; without a neck ``linear`` has a bias.
    classifier_margin, classifier_scale: of all classifiers but ``linear``.
    losses: names from ``crossreid.losses.by_name.LOSSES``, or mappings of a name and options such as
        ``{name: triplet, mining: soft, weight: 0.5, feature: bn}``; their sum is minimised. ``center`` learns centers,
        under an optimizer of their own, ``train.optimizers.center``, and without its weight.
    smoothing: of the cross entropy's labels; margin: of the triplet loss; each where ``losses`` does not say otherwise.
    metric: how features are compared: cosine, of unit length, or euclidean, as they are (torchreid).
    backbone_lr_factor: share of the learning rate that the backbone gets.
    gradient_checkpointing: trade time for memory in training, see ``crossreid.nn.gradient_checkpointing``.
    """

    backbone: str = "resnet50"
    pretrained: str | None = "timm"
    last_stride: int = 1
    variant: str = "torchvision"
    attention: bool = False
    pooling: str = "average"
    embedding: int = 0
    neck: bool = True
    classifier: str = "linear"
    classifier_margin: float = 0.15
    classifier_scale: float = 128.0
    losses: tuple[str | dict, ...] = ("cross_entropy", "triplet")
    smoothing: float = 0.1
    margin: float = 0.3
    metric: str = "cosine"
    backbone_lr_factor: float = 1.0
    gradient_checkpointing: bool = False


class Baseline(Method):
    """See the module. ``global`` is the vector before the neck, ``bn`` the one behind it, where there is a neck."""

    Config = BaselineConfig
    config: BaselineConfig
    features: tuple[str, ...] = ("bn", "global")
    training_only = ("centers",)
    neck: nn.BatchNorm1d | None
    centers: nn.Parameter | None
    classifier: nn.Module

    def __init__(self, config: BaselineConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        check_choice("method.pooling", config.pooling, (*LAYERS, "token"))
        check_choice("method.classifier", config.classifier, CLASSIFIERS)
        check_choice("method.metric", config.metric, ("cosine", "euclidean"))
        self.unit_length = config.metric == "cosine"
        if config.embedding < 0:
            raise UserError(
                f"method.embedding is {config.embedding}: give the width of the layer, or 0 for none"
            )
        self.features = ("bn", "global") if config.neck else ("global",)
        trained = ("global", "bn") if config.neck else ("global",)
        defaults = {"cross_entropy": {"smoothing": config.smoothing}, "triplet": {"margin": config.margin}}
        self.losses = chosen("method.losses", config.losses, trained, defaults, centers=True)
        self.backbone = backbones.backbone(
            config.backbone,
            config.last_stride,
            config.variant,
            nonlocal_width=1 if config.attention else None,
            gradient_checkpointing=config.gradient_checkpointing,
            not_negative=config.pooling.startswith("gem"),
            token=config.pooling == "token",
        )
        width = self.backbone.channels
        self.pool = None if config.pooling == "token" else LAYERS[config.pooling]()
        self.embedding = None
        if config.embedding:
            self.embedding = nn.Sequential(
                nn.Linear(width, config.embedding), nn.BatchNorm1d(config.embedding), nn.ReLU()
            )
            width = config.embedding
        self.neck = neck(width) if config.neck else None
        # New layers start as the programs' do, of which fast-reid has values of its own.
        fastreid = config.variant == "fastreid"
        if self.neck is not None:
            nn.init.normal_(self.neck.weight, 1.0, 0.02 if fastreid else 0.0)
        # The centers start as reid-strong-baseline's do.
        self.centers = None
        if any(loss.takes("centers") for loss in self.losses):
            self.centers = nn.Parameter(torch.randn(classes, width))
        # A part that no loss reaches must not exist: training on several processes waits for its gradients.
        if not any(loss.on_logits for loss in self.losses):
            self.classifier = nn.Identity()
        elif config.classifier == "linear":
            self.classifier = nn.Linear(width, classes, bias=not config.neck)
            nn.init.normal_(self.classifier.weight, 0.0, 0.001 if config.neck and not fastreid else 0.01)
        else:
            margin = (config.classifier_margin, config.classifier_scale)
            self.classifier = CLASSIFIERS[config.classifier](width, classes, *margin)
        backbones.start(self.backbone, config.pretrained, config.backbone)

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """The losses that the settings list, by their names; ``accuracy``: of the training images, for the log."""
        self.check_batch(phase, batch.on_host())
        features = {"global": self._global(batch.images)}
        if self.neck is not None:
            features["bn"] = self.neck(features["global"])
        given = {"targets": batch.target, "domains": batch.domain, "count": self.domains}
        given["centers"] = self.centers
        logits = None
        if any(loss.on_logits for loss in self.losses):
            last = features["bn" if self.neck is not None else "global"]
            plain = self.config.classifier == "linear"
            logits = self.classifier(last) if plain else self.classifier(last, batch.target)
        found: dict[str, torch.Tensor] = {}
        for loss in self.losses:
            value = loss(features=features[loss.feature], logits=logits, **given)
            again = sum(name.partition(" ")[0] == loss.name for name in found)
            found[f"{loss.name} {again + 1}" if again else loss.name] = value
        total = reduce(torch.add, found.values())
        if logits is not None:
            found["accuracy"] = accuracy(logits.detach(), batch.target)
        return {"total": total, **found}

    def check_batch(self, phase: str, labels) -> None:
        """The triplet loss compares identities."""
        if any(loss.name == "triplet" for loss in self.losses):
            check_identities(labels.target)

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """See ``Method.embed``; of unit length unless ``method.metric`` is euclidean."""
        feature = self.checked_feature(feature)
        vectors = self._global(images)
        if feature == "bn" and self.neck is not None:
            vectors = self.neck(vectors)
        return Embedding(F.normalize(vectors) if self.unit_length else vectors)

    def metric(self, feature: str | None = None) -> Metric:
        return Metric(self.config.metric)

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, H, W) before pooling."""
        return self.backbone(images)

    def phases(self, progress: Progress) -> tuple[Phase, ...]:
        return (Phase(optimizers=("main",) if self.centers is None else ("main", "center")),)

    def leaves_out(self) -> bool:
        # The neck serves the losses behind it alone.
        behind = any(loss.on_logits or loss.feature == "bn" for loss in self.losses)
        return super().leaves_out() or (self.neck is not None and not behind)

    def parameter_groups(self) -> dict[str, list[dict]]:
        """The backbone apart from the rest, and centers under an optimizer of their own."""
        slow = list(self.backbone.parameters())
        apart = {id(parameter) for parameter in (*slow, self.centers)}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups = [{"params": slow, "name": "backbone", "lr_factor": self.config.backbone_lr_factor}]
        found = {"main": groups + ([{"params": others, "name": "head"}] if others else [])}
        if self.centers is not None:
            found["center"] = [{"params": [self.centers], "name": "centers"}]
        return found

    def _global(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.backbone.token(images) if self.pool is None else self.pool(self.feature_map(images))
        return pooled if self.embedding is None else self.embedding(pooled)
