"""DDAG: attention between the parts of an image and between the images of an identity, in both modalities.

Ye et al., "Dynamic Dual-Attentive Aggregation Learning for Visible-Infrared Person Re-Identification", ECCV
2020, arXiv 2007.09314. Defaults are those of the authors' program. The settings of the MindSpore port, which
is another network with the same losses, are in ``configs/ddag_mindspore_sysu_mm01.yaml``.

    L(t) = L_id + L_tri + L_part + w(t) L_graph,  w(0) = 0,
    w(t) = 1 / (1 + mean of L_id + L_tri + L_part over epoch t - 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch.nn import functional as F

from crossreid.losses.identity import accuracy, identity_loss
from crossreid.losses.triplet import batch_hard_triplet, check_identities, modality_centres
from crossreid.methods import streams
from crossreid.methods.base import Method, Progress
from crossreid.nn import backbones
from crossreid.nn.graph_attention import IdentityGraph
from crossreid.nn.maps import Backbone
from crossreid.nn.neck import classifier, neck
from crossreid.nn.part_attention import POOLINGS, PartAttention
from crossreid.nn.pooling import average
from crossreid.nn.stems import Stems
from crossreid.records import MODALITIES, VISIBLE, Batch, Embedding, UserError, check_choice


@dataclass
class DDAGConfig:
    """Settings of DDAG.

    backbone: a residual network or a MobileNetV2; with one stream any that ``crossreid.nn.backbones.backbone`` knows.
    pretrained: pretrained weights, see ``crossreid.nn.pretrained.load_pretrained``; null for random ones.
    part: horizontal parts of the attention inside an image; 0 for no such attention.
    graph: the attention between images, in training.
    heads, width: parallel layers of the graph and the width of each; 0 heads as in the MindSpore port, whose
        heads had no effect.
    dropout: of the graph's nodes and attention.
    margin: of the triplet loss, in units of distance.
    streams: 2 gives each modality a stem of its own, 1 treats all images alike (MindSpore port).
    last_stride: stride of the last stage, 1; 2 in the MindSpore port.
    variant: padding and normalisation, a name of ``crossreid.nn.resnet.VARIANTS``.
    after_neck: the triplet loss and the graph take the vector after batch normalisation (MindSpore port), not
        before.
    neck_bias: the biases of the necks are learned (MindSpore port).
    part_bias: the part attention's linear layers have biases; not in the MindSpore port.
    part_pooling: bands, the parts share the map between them, or windows that overlap, as in the MindSpore port's last
        revision where it did not run on a GPU; see ``crossreid.nn.part_attention``.
    graph_schedule: epoch, w as above, or step as in the MindSpore port: w(0) = 0, then after every step 1 / (1 +
        mean of L over the epoch's steps so far). Each process then has its own w until the end of the epoch.
    centroids: the triplet loss compares the means of each identity's images of a modality, not the images
        (MindSpore port, ``--triloss Center``).
    losses: id+tri, or id to leave the triplet loss out; those of part attention and graph follow their switches.
    backbone_lr_factor: share of the learning rate that stems and body get; 1 suits random weights.
    gradient_checkpointing: trade time for memory in training, see ``crossreid.nn.gradient_checkpointing``.
    """

    backbone: str = "resnet50"
    pretrained: str | None = "timm"
    part: int = 3
    graph: bool = True
    heads: int = 4
    width: int = 512
    dropout: float = 0.2
    margin: float = 0.3
    streams: int = 2
    last_stride: int = 1
    variant: str = "torchvision"
    after_neck: bool = False
    neck_bias: bool = False
    part_bias: bool = True
    part_pooling: str = "bands"
    graph_schedule: str = "epoch"
    centroids: bool = False
    losses: str = "id+tri"
    backbone_lr_factor: float = 0.1
    gradient_checkpointing: bool = False


class DDAG(Method):
    """See the module. ``bn`` is the pooled vector after batch normalisation, ``part`` the one with part
    attention. ``graph_weight`` is w of the coming epoch."""

    Config = DDAGConfig
    config: DDAGConfig
    features: tuple[str, ...] = ("part", "bn")
    unit_length = True
    part: PartAttention | None
    graph: IdentityGraph | None
    graph_weight: torch.Tensor
    epoch_total: torch.Tensor

    def __init__(self, config: DDAGConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        check_choice("method.streams", config.streams, (1, 2))
        check_choice("method.losses", config.losses, ("id", "id+tri"))
        check_choice("method.graph_schedule", config.graph_schedule, ("epoch", "step"))
        check_choice("method.part_pooling", config.part_pooling, POOLINGS)
        for name, lowest in (("part", 0), ("heads", 0), ("width", 1)):
            if getattr(config, name) < lowest:
                raise UserError(
                    f"method.{name} is {getattr(config, name)}: give a number of {lowest} or more"
                )
        if not 0 <= config.dropout < 1:
            raise UserError(f"method.dropout is {config.dropout}: give a probability from 0 to below 1")
        two = config.streams == 2
        self.modalities = MODALITIES if two else (VISIBLE,)
        self.features = ("part", "bn") if config.part else ("bn",)
        made = (config.backbone, config.last_stride, config.variant)
        spared = config.gradient_checkpointing
        self.backbone: Backbone
        self.stems = None
        if two:
            body = backbones.body(*made, gradient_checkpointing=spared)
            self.backbone, self.stems = body, Stems(body)
        else:
            self.backbone = backbones.backbone(*made, gradient_checkpointing=spared)
        channels, frozen = self.backbone.channels, not config.neck_bias
        self.neck = neck(channels, frozen)
        self.classifier = classifier(channels, classes)
        self.part = None
        if config.part:
            self.part = PartAttention(channels, config.part, frozen, config.part_bias, config.part_pooling)
        self.graph = None
        if config.graph:
            self.graph = IdentityGraph(channels, classes, config.heads, config.width, config.dropout)
            self.register_buffer("graph_weight", torch.zeros(()))
            if config.graph_schedule == "step":
                self.register_buffer("epoch_total", torch.zeros(2))  # sum and number of the epoch's losses
        stems = tuple(self.stems.children()) if self.stems is not None else ()
        backbones.start(self.backbone, config.pretrained, config.backbone, stems)

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """The losses of the module's equation; ``base`` is their sum without the graph's. ``accuracy``: of the
        training images, for the log."""
        labels = batch.on_host()
        self.check_batch(phase, labels)
        maps = self.feature_map(batch.images, labels.modality)
        pooled = average(maps)
        vectors = self.neck(pooled)
        compared = vectors if self.config.after_neck else pooled
        logits = self.classifier(vectors)
        losses = {"identity": identity_loss(logits, batch.target)}
        if self.config.losses == "id+tri":
            anchors = compared, batch.target
            if self.config.centroids:
                anchors = modality_centres(compared, batch.target, batch.modality, labels)
            losses["triplet"] = batch_hard_triplet(*anchors, self.config.margin)
        if self.part is not None:
            losses["part"] = identity_loss(self.classifier(self.part(maps, vectors)), batch.target)
        total = base = reduce(torch.add, losses.values())
        if self.graph is not None:
            losses["graph"] = F.nll_loss(self.graph(compared, batch.target), batch.target)
            total = base + self.graph_weight.clone() * losses["graph"]
            if self.config.graph_schedule == "step":
                self._weigh(total.detach(), progress)
        return losses | {"base": base, "total": total, "accuracy": accuracy(logits, batch.target)}

    def epoch_end(self, means: Mapping[str, float]) -> None:
        """The graph counts the more, the lower the other losses have become; the same in every process."""
        if self.graph is not None:
            of = "base" if self.config.graph_schedule == "epoch" else "total"
            self.graph_weight.fill_(1 / (1 + means[f"train/{of}"]))

    def _weigh(self, total: torch.Tensor, progress: Progress) -> None:
        if progress.iteration == 0:
            self.epoch_total.zero_()
        # A step that float16's loss scale overflowed is skipped by the loop, and counts for nothing here either.
        counts = torch.isfinite(total)
        self.epoch_total += torch.stack((torch.where(counts, total, 0.0), counts.to(total.dtype)))
        summed, steps = self.epoch_total
        weight = 1 / (1 + summed / steps)
        self.graph_weight.copy_(torch.where(steps > 0, weight, self.graph_weight))

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """See ``Method.embed``; vectors of unit length."""
        feature = self.checked_feature(feature)
        maps = self.feature_map(images, modality)
        vectors = self.neck(average(maps))
        if self.part is not None and feature == "part":
            vectors = self.part(maps, vectors)
        return Embedding(F.normalize(vectors))

    def checked_feature(self, feature: str | None) -> str:
        """See ``Method.checked_feature``."""
        if feature == "part" and self.part is None:
            raise UserError("this DDAG has no feature 'part', which needs method.part above 0: choose bn")
        return super().checked_feature(feature)

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, H, W) before pooling."""
        return streams.feature_map(self.backbone, self.stems, images, modality)

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Stems and body apart from the rest."""
        slow = streams.body_parameters(self.backbone, self.stems)
        groups = [{"params": slow, "name": "backbone", "lr_factor": self.config.backbone_lr_factor}]
        for name in ("neck", "classifier", "part", "graph"):
            if (module := getattr(self, name)) is not None:
                learned = [p for p in module.parameters() if p.requires_grad]
                groups.append({"params": learned, "name": name, "lr_factor": 1.0})
        return {"main": groups}

    def check(self, batch_labels) -> None:
        """Both stems need images to learn from."""
        streams.check(self, "DDAG", batch_labels)

    def check_batch(self, phase: str, labels) -> None:
        """The triplet loss compares identities."""
        if self.config.losses == "id+tri":
            check_identities(labels.target)
