"""AlignedReID++: a global vector beside horizontal stripes that are aligned before they are compared.

Luo et al., "AlignedReID++: Dynamically matching local information for person re-identification", Pattern
Recognition 94, 2019. One residual network gives a map; its mean is the global vector, the maximum over the
width of each of its rows is a stripe. The distance of two images is the squared Euclidean distance of their
unit vectors plus the cost of the cheapest alignment of their stripes (``crossreid.ops.alignment``), a plain
sum.

Training reduces the stripes to 128 channels. The published numbers leave that out again in use and compare
the rows of the map themselves, with 2048 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.losses.aligned_triplet import aligned_triplet
from crossreid.losses.identity import identity_loss
from crossreid.losses.triplet import check_identities
from crossreid.methods.base import Method, Progress
from crossreid.nn import backbones
from crossreid.nn.pooling import average
from crossreid.ops.precision import in_float32
from crossreid.records import Batch, Embedding, Metric, UserError, check_choice

LOSSES = ("identity", "global", "local")
STRIPES = ("raw", "projected")
LOCAL_DISTANCES = ("aligned", "unaligned")
COMPARISONS = {
    "global_local": Metric("squared_euclidean_unit", "aligned"),
    "global": Metric("squared_euclidean_unit"),
    "local": Metric(None, "aligned"),
    "global_local_unaligned": Metric("squared_euclidean_unit", "unaligned"),
    "local_unaligned": Metric(None, "unaligned"),
}
_PROJECTED = 128


@dataclass
class AlignedReIDConfig:
    """Settings of AlignedReID++.

    backbone: a name that ``crossreid.nn.backbones`` knows.
    pretrained: pretrained weights, see ``crossreid.nn.pretrained.load_pretrained``; null for random ones.
    variant: of the backbone. ``mindspore_alignedreid`` pads and normalises as the MindSpore program does,
        whose checkpoints need it; with the other one the same weights give other vectors.
    last_stride: stride of the last stage; 1 or 2; 2 makes 8 stripes of an image 256 high.
    evaluate_stripes: raw, the rows of the map; projected, the 128 channels that training compares.
    losses: any of identity, global and local; their sum is minimised.
    local_distance: how the local loss compares stripes: aligned, or unaligned, those at equal height alone.
    margin: of both triplet losses, each in units of its distance.
    smoothing: label smoothing of the identity loss.
    decay_norms: whether weight decay applies to batch normalisation. The PyTorch program does that, the
        MindSpore one does not.
    """

    backbone: str = "resnet50"
    pretrained: str | None = "timm"
    variant: str = "torchvision"
    last_stride: int = 2
    evaluate_stripes: str = "raw"
    losses: tuple[str, ...] = LOSSES
    local_distance: str = "aligned"
    margin: float = 0.3
    smoothing: float = 0.1
    decay_norms: bool = False


class AlignedReID(Method):
    """See the module. A feature says what takes part in the metric: the global vector, the stripes, or
    both, the stripes aligned unless it ends in ``unaligned``. The global vector is not of unit length."""

    Config = AlignedReIDConfig
    config: AlignedReIDConfig
    features = tuple(COMPARISONS)

    def __init__(self, config: AlignedReIDConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        _check(config)
        self.backbone = backbones.backbone(config.backbone, config.last_stride, config.variant)
        # A part that no loss reaches must not exist: training on several processes waits for its gradients.
        if "identity" in config.losses:
            self.classifier = nn.Linear(self.backbone.channels, classes)
            nn.init.normal_(self.classifier.weight, 0.0, 0.01)
            nn.init.zeros_(self.classifier.bias)
        if "local" in config.losses:
            self.local_bn = nn.BatchNorm2d(self.backbone.channels)
            self.local_conv = nn.Conv2d(self.backbone.channels, _PROJECTED, 1)
        backbones.start(self.backbone, config.pretrained, config.backbone)

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """L = L_id + L_global + L_local, all of weight 1."""
        self.check_batch(phase, batch.on_host())
        config, maps = self.config, self.feature_map(batch.images)
        vector = average(maps)
        losses: dict[str, torch.Tensor] = {}
        if "identity" in config.losses:
            losses["identity"] = identity_loss(self.classifier(vector), batch.target, config.smoothing)
        if {"global", "local"} & set(config.losses):
            stripes = self.projected(maps) if "local" in config.losses else None
            whole, local = aligned_triplet(
                vector, stripes, batch.target, config.margin, config.local_distance == "unaligned"
            )
            losses |= {"global": whole} if "global" in config.losses else {}
            losses |= {"local": local} if local is not None else {}
        return losses | {"total": reduce(torch.add, losses.values())}

    def check_batch(self, phase: str, labels) -> None:
        """The triplet losses compare identities, and are 0 without a second one."""
        if {"global", "local"} & set(self.config.losses):
            check_identities(labels.target)

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """See ``Method.embed``. Vector (N, C), not of unit length; stripes (N, S, C), of unit length, or None
        for the feature ``global``: those of a large gallery would fill the memory."""
        metric = self.metric(feature)
        maps = self.feature_map(images)
        if metric.stripes is None:
            return Embedding(average(maps))
        raw = self.config.evaluate_stripes == "raw"
        return Embedding(average(maps), _unit_stripes(maps.amax(3)) if raw else self.projected(maps))

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, S, W) before pooling."""
        return self.backbone(images)

    def projected(self, maps: torch.Tensor) -> torch.Tensor:
        """The stripes that training compares: (N, C, S, W) to (N, S, 128), of unit length."""
        rows = F.relu(self.local_bn(maps)).amax(3, keepdim=True)
        return _unit_stripes(self.local_conv(rows).squeeze(3))

    def metric(self, feature: str | None = None) -> Metric:
        """See ``COMPARISONS``; the first is the default."""
        return COMPARISONS[self.checked_feature(feature)]

    def metrics(self, feature: str | None = None) -> dict[str, Metric]:
        """See ``Method.metrics``: with the stripes at hand, every feature is."""
        stripes = self.metric(feature).stripes is not None
        return {name: metric for name, metric in COMPARISONS.items() if stripes or metric.stripes is None}

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Everything alike, except that batch normalisation is not decayed unless ``decay_norms``."""
        if self.config.decay_norms:
            return super().parameter_groups()
        norms = [p for m in self.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
        apart = set(map(id, norms))
        others = [p for p in self.parameters() if id(p) not in apart]
        return {
            "main": [
                {"params": others, "name": "weights"},
                {"params": norms, "name": "norms", "weight_decay": 0.0},
            ]
        }


@in_float32
def _unit_stripes(rows: torch.Tensor) -> torch.Tensor:
    """(N, C, S) to (N, S, C), every stripe divided by its length; one shorter than 1e-6 by 1e-6."""
    return F.normalize(rows.transpose(1, 2), dim=2, eps=1e-6)


def _check(config: AlignedReIDConfig) -> None:
    if not config.losses or not set(config.losses) <= set(LOSSES):
        raise UserError(f"method.losses is {list(config.losses)}: give one or more of {', '.join(LOSSES)}")
    check_choice("method.local_distance", config.local_distance, LOCAL_DISTANCES)
    check_choice("method.evaluate_stripes", config.evaluate_stripes, STRIPES)
    if config.evaluate_stripes == "projected" and "local" not in config.losses:
        raise UserError(
            "method.evaluate_stripes is 'projected', but the projection is learned by the loss 'local', "
            f"which method.losses {list(config.losses)} leaves out: add it, or evaluate the raw stripes"
        )
