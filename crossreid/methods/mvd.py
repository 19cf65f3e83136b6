"""MVD: three branches whose bottlenecks keep of an observation what tells identities apart.

Tian et al., "Farewell to Mutual Information: Variational Distillation for Cross-Modal Person
Re-Identification", CVPR 2021, arXiv 2104.02862. Every image, visible or infrared, is seen twice, as it is and
as its grey version:

    visible-specific branch    the image                    v, and z behind the bottleneck
    shared branch              the grey version, the image  v and z of each
    infrared-specific branch   the grey version             v, and z behind the bottleneck

Paper, released program and MindSpore port train different things under one name; ``PROFILES`` says what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.losses.distillation import distillation, jensen_shannon, released_distillation
from crossreid.losses.identity import accuracy, identity_loss
from crossreid.losses.modality_margin import modality_margin
from crossreid.losses.prior import divergence_from_normal
from crossreid.losses.sinkhorn import sinkhorn
from crossreid.losses.triplet import batch_hard_triplet, check_identities, modality_centres
from crossreid.methods.base import Method, Progress
from crossreid.nn import backbones
from crossreid.nn.channel_attention import ChannelAttention
from crossreid.nn.pooling import average
from crossreid.records import Batch, Embedding, UserError, check_choice


@dataclass(frozen=True)
class Profile:
    """What the forms of the method differ in.

    mutual: what the specific branches learn of one another: transport (of the one's classes to the other's),
        divergence, or None.
    distilled: how a bottleneck learns from its observation: released (what the program computes), written (as
        in the paper), or None.
    sampled: the bottleneck is the conventional one, see ``InformationBottleneck``.
    margins: the loss on distances tells modalities apart (``modality_margin``), else it is the batch-hard
        triplet.
    last_stride, variant: of the backbones. attention: channel attention before their last three stages.
    neck_bias: the neck's bias is learned.
    backbone_lr_factor, smoothing, normalize: see ``MVDConfig``, which may say otherwise.
    grey: weights of red, green and blue. grey_first: the shared branch sees the grey version first, which
        only its running statistics notice.
    """

    mutual: str | None = "transport"
    distilled: str | None = "released"
    sampled: bool = False
    margins: bool = True
    last_stride: int = 1
    variant: str = "torchvision"
    attention: bool = True
    neck_bias: bool = False
    backbone_lr_factor: float = 1.0
    smoothing: float = 0.1
    normalize: str = "joint"
    grey: tuple[float, float, float] = (0.2989, 0.5870, 0.1140)
    grey_first: bool = True


PROFILES = {
    # Transport between the specific branches' classes, and what its distillation comes to.
    "authors": Profile(),
    # Mutual learning of the specific branches; self- and cross-distillation and mutual learning of the shared
    # representations, with divergences as they are written.
    "paper": Profile(mutual="divergence", distilled="written"),
    # The paper's with the bottleneck that it bids farewell to: a sample and a prior, nothing distilled.
    "conventional": Profile(mutual="divergence", distilled=None, sampled=True),
    # Identity and triplets alone, on a network with other padding and a grey whose weights sum to 1.03.
    "mindspore": Profile(
        mutual=None,
        distilled=None,
        margins=False,
        last_stride=2,
        variant="mindspore",
        attention=False,
        neck_bias=True,
        backbone_lr_factor=0.1,
        smoothing=0.0,
        normalize="parts",
        grey=(0.2989, 0.5870, 0.1440),
        grey_first=False,
    ),
}
BRANCHES = ("visible", "shared", "infrared")
# Name of a view -> its branch, whether it sees the grey version, its weight in the identity and metric loss.
VIEWS = {
    "visible": ("visible", False, 0.5),
    "shared_grey": ("shared", True, 0.25),
    "shared_colour": ("shared", False, 0.25),
    "infrared": ("infrared", True, 0.5),
}


@dataclass
class MVDConfig:
    """Settings of MVD; the defaults are those of the released program. Where null, the profile decides.

    profile: authors (what the released program really computes), paper (divergences as they are written
        there), conventional (the paper's metric: an information bottleneck that is sampled) or mindspore
        (the port: another network, no distillation). See ``PROFILES``.
    backbone: a residual network or a MobileNetV2; each of the three branches is one, with attention between its stages.
    pretrained: pretrained weights, see ``crossreid.nn.pretrained.load_pretrained``; null for random ones.
    width: of z.
    normalize: joint brings the four parts of an embedding to unit length together, parts one by one (the
        port).
    smoothing: of the identity loss's labels, 0.1; the port has 0.
    backbone_lr_factor: share of the learning rate that the branches before the bottlenecks get, 1; the port's 0.1
        suits pretrained weights alone.
    margins, cross_margins: of the distances inside a modality and across, see ``crossreid.losses.modality_margin``.
    margin: of the port's triplets, in units of distance. centroids: these compare the means of each identity's
        images of a modality, not the images (the port's ``--triloss CenterTri``).
    identity, metric: factors of the losses on classes and on distances.
    mutual, self_distillation, cross_distillation, representation: factors of the other losses; the last, mutual
        learning of the shared representations, is in the paper alone.
    prior: factor of the conventional bottleneck's divergence from its prior; 0.001 as Alemi et al. have it.
    temperature: divides the logits of self-distillation, and in the paper's form those of cross-distillation and
        of the mutual learning of representations.
    gradient_checkpointing: trade time for memory in training, see ``crossreid.nn.gradient_checkpointing``.
    """

    profile: str = "authors"
    backbone: str = "resnet50"
    pretrained: str | None = "timm"
    width: int = 512
    normalize: str | None = None
    smoothing: float | None = None
    backbone_lr_factor: float | None = None
    margins: tuple[float, float] = (0.9, 1.0)
    cross_margins: tuple[float, float] = (2.2, 2.0)
    margin: float = 0.3
    centroids: bool = False
    identity: float = 1.0
    metric: float = 1.0
    mutual: float = 8.0
    self_distillation: float = 2.0
    cross_distillation: float = 2.0
    representation: float = 2.0
    prior: float = 0.001
    temperature: float = 1.0
    gradient_checkpointing: bool = False


class Encoder(nn.Module):
    """A whole network, its neck and its classifier: images to an observation v and its logits."""

    def __init__(self, config: MVDConfig, profile: Profile, classes: int):
        super().__init__()
        self.backbone = backbones.body(
            config.backbone,
            profile.last_stride,
            profile.variant,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        self.stem = self.backbone.new_stem()
        self.attention = nn.ModuleList(ChannelAttention() for _ in range(3 * profile.attention))
        self.neck = nn.BatchNorm1d(self.backbone.channels)
        self.neck.bias.requires_grad_(profile.neck_bias)
        self.classifier = nn.Linear(self.backbone.channels, classes)
        nn.init.normal_(self.classifier.weight, 0.0, 0.001)
        nn.init.zeros_(self.classifier.bias)

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """The last map (N, C, H, W)."""
        maps = self.backbone.stage(1, self.backbone.run(self.stem, images))
        for index, stage in enumerate((2, 3, 4)):
            if len(self.attention):
                maps = self.backbone.run(self.attention[index], maps)
            maps = self.backbone.stage(stage, maps)
        return maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The observation v (N, C)."""
        return self.neck(average(self.feature_map(images)))


class InformationBottleneck(nn.Module):
    """From an observation v to a representation z, and the classifier behind it.

    The programs draw no sample. With ``sampled`` it is the conventional bottleneck of Alemi et al., arXiv
    1612.00410: z ~ N(mean, deviation^2), both from v, deviation = softplus(s - 5) as in their section 4.2.1;
    outside training z is the mean.
    """

    def __init__(self, inputs: int, width: int, classes: int, sampled: bool = False):
        super().__init__()
        self.sampled = sampled
        self.encoder = nn.Sequential(
            nn.Linear(inputs, 1000),
            nn.BatchNorm1d(1000),
            nn.ReLU(),
            nn.Linear(1000, 500),
            nn.BatchNorm1d(500),
            nn.ReLU(),
            nn.Linear(500, 2 * width if sampled else width),
        )
        self.classifier = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.BatchNorm1d(width // 2),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(width // 2, classes),
        )
        for part in (self.encoder, self.classifier):
            for layer in part:
                if isinstance(layer, nn.Linear):
                    nn.init.zeros_(layer.bias)
                    if part is self.encoder:
                        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                    else:
                        nn.init.normal_(layer.weight, 0.0, 0.001)
                elif isinstance(layer, nn.BatchNorm1d) and part is self.encoder:
                    nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """z (N, width)."""
        return self.with_prior(observation)[0]

    def with_prior(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """z (N, width), and the divergence of its distribution from N(0, 1) if it is sampled."""
        if not self.sampled:
            return self.encoder(observation), None
        mean, spread = self.encoder(observation).chunk(2, dim=1)
        deviation = F.softplus(spread - 5)
        z = mean + deviation * torch.randn_like(mean) if self.training else mean
        return z, divergence_from_normal(mean, deviation)


class MVD(Method):
    """See the module. ``obs`` are the four views' observations v, ``rep`` their representations z, ``both``
    all eight."""

    Config = MVDConfig
    config: MVDConfig
    features = ("obs", "rep", "both")
    unit_length = True
    whole = "both"

    def __init__(self, config: MVDConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        check_choice("method.profile", config.profile, PROFILES)
        check_choice("method.normalize", config.normalize, (None, "joint", "parts"))
        if config.width < 2:
            raise UserError(f"method.width is {config.width}: give the width of z, 2 or more")
        if config.temperature <= 0:
            raise UserError(f"method.temperature is {config.temperature}: give a number above 0")
        own = {name: getattr(config, name) for name in ("normalize", "smoothing", "backbone_lr_factor")}
        own = {name: value for name, value in own.items() if value is not None}
        self.profile = replace(PROFILES[config.profile], **own)
        encoders = {name: Encoder(config, self.profile, classes) for name in BRANCHES}
        self.encoders = nn.ModuleDict(encoders)
        channels = encoders["shared"].backbone.channels
        self.bottlenecks = nn.ModuleDict(
            {
                name: InformationBottleneck(channels, config.width, classes, self.profile.sampled)
                for name in BRANCHES
            }
        )
        self._start(*encoders.values())

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        """The losses of the profile, with the modality of each image for the distances alone. ``accuracy``: of
        the shared branch on the training images as they are, for the log."""
        config, profile = self.config, self.profile
        self.check_batch(phase, batch.on_host())
        seen = self._observe(batch.images)
        drawn = {view: self._bottleneck(view).with_prior(vectors) for view, vectors in seen.items()}
        kept = {view: representation for view, (representation, _) in drawn.items()}
        priors = {view: prior for view, (_, prior) in drawn.items() if prior is not None}
        seen_logits = {view: self._encoder(view).classifier(vectors) for view, vectors in seen.items()}
        kept_logits = {view: self._bottleneck(view).classifier(vectors) for view, vectors in kept.items()}
        losses = {
            "identity": self._weighted(
                lambda logits: identity_loss(logits, batch.target, profile.smoothing),
                seen_logits,
                kept_logits,
            ),
            "metric": self._weighted(lambda vectors: self._metric(vectors, batch), seen, kept),
        }
        if profile.mutual is not None:
            losses["mutual"] = self._mutual(seen_logits["infrared"], seen_logits["visible"])
        if profile.distilled is not None:
            losses |= self._distillation(seen_logits, kept_logits)
        if profile.sampled:
            losses["prior"] = self._weighted(lambda prior: prior, priors)
        total = sum(getattr(config, name) * loss for name, loss in losses.items())
        return losses | {"total": total, "accuracy": accuracy(seen_logits["shared_colour"], batch.target)}

    def check_batch(self, phase: str, labels) -> None:
        """The triplet loss compares identities."""
        check_identities(labels.target)

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        """See ``Method.embed``; every image takes the same way, whatever its modality. Vectors of unit
        length."""
        feature = self.checked_feature(feature)
        seen = self._observe(images)
        parts = [] if feature == "rep" else list(seen.values())
        if feature in ("rep", "both"):
            parts += [self._bottleneck(view)(vectors) for view, vectors in seen.items()]
        if self.profile.normalize == "parts":
            parts = [F.normalize(part) for part in parts]
        return Embedding(F.normalize(torch.cat(parts, dim=1)))

    def views(self) -> dict[tuple[str, str, str], slice]:
        """See ``Method.views``: four observations, then four representations, in the order that ``embed`` has."""
        channels = self._encoder("shared_colour").backbone.channels
        found: dict[tuple[str, str, str], slice] = {}
        begin = 0
        for kind, width in (("observation", channels), ("representation", self.config.width)):
            for view in self._order():
                branch = "shared" if VIEWS[view][0] == "shared" else "specific"
                modality = "infrared" if VIEWS[view][1] else "visible"
                found[kind, branch, modality] = slice(begin, begin + width)
                begin += width
        return found

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        """The last map (N, C, H, W) of the shared branch for the images as they are."""
        return self._encoder("shared_colour").feature_map(images)

    def _encoder(self, view: str) -> Encoder:
        found = self.encoders[VIEWS[view][0]]
        assert isinstance(found, Encoder)
        return found

    def _bottleneck(self, view: str) -> InformationBottleneck:
        found = self.bottlenecks[VIEWS[view][0]]
        assert isinstance(found, InformationBottleneck)
        return found

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Backbones with necks and classifiers, and bottlenecks."""
        groups = (("encoders", self.profile.backbone_lr_factor), ("bottlenecks", 1.0))
        return {
            "main": [
                {
                    "params": [p for p in getattr(self, name).parameters() if p.requires_grad],
                    "name": name,
                    "lr_factor": lr_factor,
                }
                for name, lr_factor in groups
            ]
        }

    def networks(self) -> list[nn.Module]:
        return list(self.encoders.values())

    def grey(self, images: torch.Tensor) -> torch.Tensor:
        """The grey version of normalised images (N, 3, H, W), three equal channels."""
        red, green, blue = self.profile.grey
        images = images.detach()
        brightness = red * images[:, :1] + green * images[:, 1:2] + blue * images[:, 2:]
        return brightness.expand_as(images)

    def _start(self, first: Encoder, *others: Encoder) -> None:
        config = self.config
        backbones.start(first.backbone, config.pretrained, config.backbone, (first.stem,))
        if config.pretrained is not None:
            for other in others:
                other.backbone.load_state_dict(first.backbone.state_dict())
                other.stem.load_state_dict(first.stem.state_dict())

    def _observe(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The observations by the names of ``VIEWS``, computed in the order of the profile's program."""
        grey = self.grey(images)
        return {view: self._encoder(view)(grey if VIEWS[view][1] else images) for view in self._order()}

    def _order(self) -> tuple[str, ...]:
        shared = ("shared_grey", "shared_colour")
        return ("visible", *(shared if self.profile.grey_first else shared[::-1]), "infrared")

    def _weighted(self, loss, *views: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(VIEWS[view][2] * loss(value) for each in views for view, value in each.items())

    def _metric(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        config = self.config
        if not self.profile.margins:
            anchors = vectors, batch.target
            if config.centroids:
                anchors = modality_centres(vectors, batch.target, batch.modality, batch.on_host())
            return batch_hard_triplet(*anchors, config.margin)
        return modality_margin(vectors, batch.target, batch.modality, config.margins, config.cross_margins)

    def _mutual(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """What the specific branches learn of one another's logits."""
        if self.profile.mutual == "transport":
            return sinkhorn(_probabilities(infrared), _probabilities(visible))
        return distillation(infrared, visible) + distillation(visible, infrared)

    def _distillation(self, seen: dict[str, torch.Tensor], kept: dict[str, torch.Tensor]) -> dict:
        """What the logits of representations learn from those of observations."""
        written, heat = self.profile.distilled == "written", self.config.temperature
        distil = distillation if written else released_distillation
        own = [distil(seen[view], kept[view], heat) for view in ("infrared", "visible")]
        across = [
            distil(seen[teacher], kept[student], heat if written else 1.0)
            for teacher, student in (("shared_colour", "shared_grey"), ("shared_grey", "shared_colour"))
        ]
        losses = {"self_distillation": sum(own), "cross_distillation": sum(across) / 2}
        if written:
            losses["representation"] = jensen_shannon(kept["shared_grey"], kept["shared_colour"], heat)
        return losses


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    return (logits if logits.dtype == torch.float64 else logits.float()).softmax(1)
