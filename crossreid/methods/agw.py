"""AGW, the strong baseline of Ye et al., "Deep Learning for Person Re-Identification: A Survey and Outlook".

arXiv 2001.04193, section 4.1: non-local attention, generalized-mean pooling and the weighted regularised
triplet loss. Defaults are those of the authors' visible-infrared program; its plain variant ``base`` is
``attention=False, pooling="average", loss="hard"``, and ``streams=1`` gives either of them for one modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from crossreid.losses.identity import identity_loss
from crossreid.losses.triplet import batch_hard_triplet, check_identities
from crossreid.losses.weighted_triplet import weighted_triplet
from crossreid.methods import streams
from crossreid.methods.base import Method, Progress
from crossreid.nn import backbones
from crossreid.nn.maps import Backbone
from crossreid.nn.neck import classifier, neck
from crossreid.nn.pooling import POOLINGS
from crossreid.nn.stems import Stems
from crossreid.records import MODALITIES, VISIBLE, Batch, Embedding, check_choice


@dataclass
class AGWConfig:
    """Settings of AGW.

    backbone: a residual network, without attention a MobileNetV2 too; with one stream, without attention and with
        average pooling any that ``crossreid.nn.backbones.backbone`` knows, ``timm:vit_small_patch16_224`` too.
    pretrained: pretrained weights, see ``crossreid.nn.pretrained.load_pretrained``; null for random ones.
    streams: 2 gives each modality a stem of its own (visible-infrared), 1 treats all images alike.
    last_stride: stride of the last stage.
    attention: non-local blocks in the second and third stage.
    attention_width: their inner width, 1 in the published models, 0 for half of the channels as in the paper.
    pooling: gem or average.
    loss: weighted (regularised triplet) or hard (batch-hard triplet).
    margin: of the batch-hard triplet, in units of distance; null for the soft margin.
    stable, normalize: variants of the weighted loss, see ``crossreid.losses.weighted_triplet``.
    smoothing: label smoothing of the identity loss.
    backbone_lr_factor: share of the learning rate that stems, body and non-local blocks get; 1 suits random weights.
    gradient_checkpointing: trade time for memory in training, see ``crossreid.nn.gradient_checkpointing``.
    """

    backbone: str = "resnet50"
    pretrained: str | None = "timm"
    streams: int = 2
    last_stride: int = 1
    attention: bool = True
    attention_width: int = 1
    pooling: str = "gem"
    loss: str = "weighted"
    margin: float | None = 0.3
    stable: bool = False
    normalize: bool = False
    smoothing: float = 0.0
    backbone_lr_factor: float = 0.1
    gradient_checkpointing: bool = False


class AGW(Method):
    """See the module. ``bn`` is the pooled vector after batch normalisation, ``global`` the one before."""

    Config = AGWConfig
    config: AGWConfig
    features = ("bn", "global")
    unit_length = True

    def __init__(self, config: AGWConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        for name, known in (("pooling", POOLINGS), ("loss", ("weighted", "hard")), ("streams", (1, 2))):
            check_choice(f"method.{name}", getattr(config, name), known)
        two = config.streams == 2
        width = (config.attention_width or "half") if config.attention else None
        self.modalities = MODALITIES if two else (VISIBLE,)
        spared = config.gradient_checkpointing
        self.backbone: Backbone
        self.stems = None
        if two:
            body = backbones.body(config.backbone, config.last_stride, "torchvision", width, spared)
            self.backbone, self.stems = body, Stems(body)
        else:
            self.backbone = backbones.backbone(
                config.backbone,
                config.last_stride,
                nonlocal_width=width,
                gradient_checkpointing=spared,
                not_negative=config.pooling == "gem",
            )
        self.neck = neck(self.backbone.channels)
        self.classifier = classifier(self.backbone.channels, classes)
        self.pool = POOLINGS[config.pooling]
        stems = tuple(self.stems.children()) if self.stems is not None else ()
        backbones.start(self.backbone, config.pretrained, config.backbone, stems)

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """L = L_id + L_wrt. The triplets are of pooled vectors, not of unit length, from both modalities."""
        config = self.config
        labels = batch.on_host()
        self.check_batch(phase, labels)
        pooled = self.pool(self.feature_map(batch.images, labels.modality))
        logits = self.classifier(self.neck(pooled))
        losses = {"identity": identity_loss(logits, batch.target, config.smoothing)}
        if config.loss == "weighted":
            loss, positive, negative = weighted_triplet(pooled, batch.target, config.stable, config.normalize)
            losses |= {"triplet": loss, "positive_weights": positive, "negative_weights": negative}
        else:
            losses["triplet"] = batch_hard_triplet(pooled, batch.target, config.margin)
        return losses | {"total": losses["identity"] + losses["triplet"]}

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """See ``Method.embed``; vectors of unit length."""
        feature = self.checked_feature(feature)
        pooled = self.pool(self.feature_map(images, modality))
        return Embedding(F.normalize(pooled if feature == "global" else self.neck(pooled)))

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, H, W) before pooling."""
        return streams.feature_map(self.backbone, self.stems, images, modality)

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Stems, body and non-local blocks apart from the head."""
        slow = streams.body_parameters(self.backbone, self.stems)
        return {
            "main": [
                {"params": slow, "name": "backbone", "lr_factor": self.config.backbone_lr_factor},
                {"params": [self.neck.weight], "name": "neck", "lr_factor": 1.0},
                {"params": list(self.classifier.parameters()), "name": "classifier", "lr_factor": 1.0},
            ]
        }

    def check(self, batch_labels) -> None:
        """Both stems need images to learn from."""
        streams.check(self, "AGW", batch_labels)

    def check_batch(self, phase: str, labels) -> None:
        """The triplet loss compares identities."""
        check_identities(labels.target)
