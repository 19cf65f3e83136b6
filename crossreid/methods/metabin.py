"""MetaBIN: gates between batch and instance normalisation, learned for domains not seen.

Choi et al., "Meta Batch-Instance Normalization for Generalizable Person Re-Identification", CVPR 2021,
arXiv 2011.14670. Where the paper and the released code differ, the code is followed, because the
published models come from it: two affine pairs in each layer, gradients of first order, a last stride of 1.

An iteration takes two steps on two batches:

    base   all weights except the gates, on a batch of all domains mixed:      cross entropy + triplet
    meta   only the gates, on a batch with every domain equally:
             split the domains into meta-train and meta-test
             G  = gradient of the gates, meta-train loss                       scatter + shuffle + triplet
             g' = clamp(g - a G, 0, 1), a rising and falling between two bounds
             g  <- clamp(g - b dL/dg', 0, 1), L the meta-test loss with g'     triplet

With ``meta_learns: all`` the same step moves every weight and not the gates alone; together with
``meta_train_weight: 1`` and ``norm: bn`` that is MLDG (Li et al., "Learning to Generalize: Meta-Learning for
Domain Generalization", AAAI 2018, arXiv 1710.03463), with which the authors compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from crossreid.losses.by_name import Loss, chosen
from crossreid.losses.identity import accuracy
from crossreid.losses.triplet import check_identities
from crossreid.methods.base import Method, Phase, Progress
from crossreid.nn import backbones
from crossreid.nn.batch_instance_norm import GATES, BatchInstanceNorm, HalfInstanceNorm, statistics_held
from crossreid.nn.classifiers import CLASSIFIERS
from crossreid.nn.pooling import LAYERS as POOLINGS
from crossreid.records import Batch, Embedding, UserError, check_choice

GATED: dict[str, Callable[..., nn.Module]] = {
    "bin": BatchInstanceNorm,
    "bin_early": BatchInstanceNorm,
    "bin_shared": partial(BatchInstanceNorm, shared=True),
}
NORMS: dict[str, Callable[..., nn.Module]] = {
    **GATED,
    "bn": nn.BatchNorm2d,
    "in": partial(nn.InstanceNorm2d, affine=True),
    "half": HalfInstanceNorm,
}
PRETRAINED_NORMS = ("batch_affine", "batch_statistics", "instance_affine")
LEARNERS = ("gates", "all")
BINS = 10
CHOICES: dict[str, Iterable[str]] = {
    "norm": NORMS,
    "gate_init": GATES,
    "pooling": POOLINGS,
    "classifier": CLASSIFIERS,
    "meta_learns": LEARNERS,
}


@dataclass
class MetaBINConfig:
    """Defaults are those of the models trained on several data sets. For one data set whose cameras are the
    domains, the published settings add ``cross_entropy`` to both meta losses, and take 4 meta-train domains
    on DukeMTMC-reID (3 on Market-1501).

    backbone: MobileNetV2 or a residual network; with ``norm: bn`` any that ``crossreid.nn.backbones.backbone`` knows.
    pretrained: pretrained weights, see ``crossreid.nn.backbones.start``; the published MobileNet's are the path of
        deep-person-reid's file ``mobilenetv2_1.4.pth`` or ``mobilenetv2_1.0.pth``; null for random ones.
    norm: ``bin``, each branch with its own affine pair; ``bin_shared``, one pair; ``bin_early``, as ``bin`` but only
        behind the narrowing layers of the first stages of a MobileNet; without gates ``bn``,
        ``in``, or ``half`` (half of the channels each), which need ``meta`` off.
    gate_init: how gates begin: ``one`` (batch normalisation), ``zero``, ``half`` or ``random``.
    pretrained_norms: what normalisation layers take over from the pretrained network, from ``PRETRAINED_NORMS``;
        instance branches have no statistics to take.
    last_stride: stride of the last stage; 1 gives maps of 1/16 of the image.
    pooling: from maps to a feature, one of ``POOLINGS``; ``gem_learned`` learns its exponent.
    classifier: one of ``crossreid.nn.classifiers.CLASSIFIERS``; all but ``linear`` have ``classifier_margin`` and
        ``classifier_scale``.
    base_losses, meta_train_losses, meta_test_losses: names from ``crossreid.losses.by_name.LOSSES``, or mappings of a
        name and options such as ``{name: triplet, mining: soft, weight: 0.5, feature: bn}``; their sum is minimised.
    smoothing: of the cross entropy's labels; margin: of the triplet loss; each where the lists do not say otherwise.
    meta: False trains gates and weights alike by the base step.
    meta_learns: what the meta step moves, virtually and then really: the ``gates``, or ``all`` weights (MLDG), each
        at its own learning rate times ``inner_ratio`` in the virtual step.
    meta_train_weight: of the meta-train loss beside the meta-test loss in what the meta step minimises; MLDG has 1.
    meta_train_domains: how many of the batch's domains go to meta-train; the others are meta-test.
    second_order: differentiate through G too; the published models do not.
    first_base_steps: base steps of the very first iteration.
    inner_ratio: lowest and highest a, as shares of the learning rate.
    inner_period: epochs from lowest to lowest.
    """

    backbone: str = "mobilenet_v2_1.4"
    pretrained: str | None = None
    norm: str = "bin"
    gate_init: str = "one"
    pretrained_norms: tuple[str, ...] = ("batch_affine", "batch_statistics")
    last_stride: int = 1
    pooling: str = "average"
    classifier: str = "linear"
    classifier_margin: float = 0.15
    classifier_scale: float = 128.0
    base_losses: tuple[str | dict, ...] = ("cross_entropy", "triplet")
    meta_train_losses: tuple[str | dict, ...] = ("scatter", "shuffle", "triplet")
    meta_test_losses: tuple[str | dict, ...] = ("triplet",)
    smoothing: float = 0.1
    margin: float = 0.3
    meta: bool = True
    meta_learns: str = "gates"
    meta_train_weight: float = 0.0
    meta_train_domains: int = 3
    second_order: bool = False
    first_base_steps: int = 10
    inner_ratio: tuple[float, float] = (0.001, 0.1)
    inner_period: float = 5


class MetaBIN(Method):
    """The maps pooled ("global"), then batch normalisation ("bn"), then a classifier while training."""

    Config = MetaBINConfig
    config: MetaBINConfig
    features = ("bn", "global")

    def __init__(self, config: MetaBINConfig, classes: int, domains: int = 1):
        super().__init__(config, classes, domains)
        for key, known in CHOICES.items():
            check_choice(f"method.{key}", getattr(config, key), known)
        if set(config.pretrained_norms) - set(PRETRAINED_NORMS):
            raise UserError(
                f"method.pretrained_norms is {list(config.pretrained_norms)}: choose some of "
                f"{', '.join(PRETRAINED_NORMS)}, or none"
            )
        defaults = {"cross_entropy": {"smoothing": config.smoothing}, "triplet": {"margin": config.margin}}
        self.losses = {
            phase: chosen(
                f"method.{phase}_losses", getattr(config, f"{phase}_losses"), ("global", "bn"), defaults
            )
            for phase in ("base", "meta_train", "meta_test")
        }
        norm = NORMS[config.norm]
        if config.norm in GATED:
            norm = partial(norm, gates=config.gate_init)
        made = partial(
            backbones.backbone,
            config.backbone,
            config.last_stride,
            not_negative=config.pooling.startswith("gem"),
        )
        if config.norm == "bin_early":
            self.backbone = made(early_norm=norm)
        else:
            self.backbone = made() if config.norm == "bn" else made(norm=norm)
        self.pool = POOLINGS[config.pooling]()
        self.neck = nn.BatchNorm1d(self.backbone.channels)
        self.neck.bias.requires_grad_(False)
        margin = (config.classifier_margin, config.classifier_scale)
        self.classifier = CLASSIFIERS[config.classifier](self.backbone.channels, classes, *margin)
        if config.pretrained is not None:
            self._load_pretrained()
        if config.meta and config.meta_learns == "gates" and not self.gates():
            raise UserError(
                f"method.norm {config.norm!r} has no gates for the meta step to learn: choose 'bin' or "
                "'bin_shared', or train without the meta step by setting method.meta to false, or let it learn all "
                "weights by setting method.meta_learns to 'all'"
            )

    def gates(self) -> dict[str, nn.Parameter]:
        """The gates, by their names in the backbone."""
        return {name: value for name, value in self.backbone.named_parameters() if name.endswith("gate")}

    def phases(self, progress: Progress) -> tuple[Phase, ...]:
        every = ("main", "gates") if self.gates() else ("main",)
        if not self.config.meta:
            return (Phase("base", every),)
        repeat = self.config.first_base_steps if progress.first else 1
        base, meta = (every, every) if self.config.meta_learns == "all" else (("main",), ("gates",))
        return (Phase("base", base, repeat=repeat), Phase("meta", meta, loader="meta"))

    def leaves_out(self) -> bool:
        # The classifier serves the losses on logits alone.
        return super().leaves_out() or not any(loss.on_logits for loss in self.losses["base"])

    def parameter_groups(self) -> dict[str, list[dict]]:
        """Weights and biases to "main", biases at twice the rate; the gates to "gates", kept from 0 to 1."""
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        gates = [value for name, value in named if name.endswith("gate")]
        biases = [value for name, value in named if name.endswith("bias")]
        others = [value for name, value in named if not name.endswith(("gate", "bias"))]
        main: list[dict] = [
            {"params": others, "name": "weights"},
            {"params": biases, "name": "biases", "lr_factor": 2.0},
        ]
        if not gates:
            return {"main": main}
        bounded = {"params": gates, "name": "gates", "weight_decay": 0.0, "bounds": (0.0, 1.0)}
        return {"main": main, "gates": [bounded]}

    def epoch_end(self, means: Mapping[str, float]) -> dict:
        """The state of the gates, for the epoch's line of ``metrics.jsonl``: how many gates of each layer lie
        in each tenth from 0 (instance normalisation) to 1 (batch normalisation)."""
        return {"gates": gate_histograms(self.gates())} if self.gates() else {}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """As in torch; gates outside 0 to 1 are a UserError."""
        for name, value in state_dict.items():
            if name.endswith("gate") and not bool(((value >= 0) & (value <= 1)).all()):
                raise UserError(
                    f"the gates {name} reach from {value.min().item():g} to {value.max().item():g}: gates weigh two "
                    "normalisations and lie from 0 to 1, so the file is damaged or comes from a program that did "
                    "not keep them there; clamp them yourself if you know that this is meant"
                )
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, batch: Batch, phase: str, progress: Progress) -> dict[str, torch.Tensor]:
        if phase == "meta":
            return self._meta(batch, progress)
        losses = self._losses(self.losses[phase], self._pool(batch.images), batch)
        total = reduce(torch.add, (value for name, value in losses.items() if name != "accuracy"))
        return {"total": total, **losses}

    def embed(
        self, images: torch.Tensor, modality=None, feature: str | None = None
    ) -> Embedding[torch.Tensor]:
        feature = self.checked_feature(feature)
        pooled = self._pool(images)
        return Embedding(pooled if feature == "global" else self.neck(pooled))

    def feature_map(self, images: torch.Tensor, modality=None) -> torch.Tensor:
        return self.backbone(images)

    def check(self, batch_labels) -> None:
        """Raise UserError where the meta step lacks domains, or people of one domain to tell apart."""
        if not self.config.meta:
            return
        people: dict[int, set[int]] = {}
        for domain, target in zip(batch_labels.domain.tolist(), batch_labels.target.tolist()):
            people.setdefault(domain, set()).add(target)
        if len(people) <= self.config.meta_train_domains:
            raise UserError(_too_few_domains(len(people), self.config.meta_train_domains))
        alone = [domain for domain, found in people.items() if len(found) < 2]
        if alone:
            images = batch_labels.domain.tolist().count(alone[0])
            raise UserError(
                f"the training images of domain {alone[0]} (of {len(people)}, counted from 0 in the order of the data "
                f"sets, or of their cameras) show one identity only, in {images} image(s): the meta step compares "
                "people within a domain and needs two at least. Leave that data set out, or train with its other "
                "images too (data.settings: {all_images: true}), or set method.meta to false"
            )

    def check_batch(self, phase: str, labels) -> None:
        """The triplet losses compare identities, on either side of every split of the domains."""
        if phase != "meta":
            if self._has("triplet", phase):
                check_identities(labels.target)
            return
        found = [len(set(labels.target[labels.domain == domain])) for domain in np.unique(labels.domain)]
        train = self.config.meta_train_domains
        if len(found) <= train:
            raise UserError(_too_few_domains(len(found), train))
        for side, domains in (("train", train), ("test", len(found) - train)):
            if self._has("triplet", f"meta_{side}") and sum(sorted(found)[:domains]) < 2:
                raise UserError(
                    f"a meta batch has {sum(found)} identities of {len(found)} domains: meta-{side} may get one "
                    "identity alone, and its triplet loss compares two or more. Set data.loaders.meta.identities to "
                    f"{2 * len(found)} or more"
                )

    def _has(self, loss: str, phase: str) -> bool:
        return any(each.name == loss for each in self.losses[phase])

    def _load_pretrained(self) -> None:
        """Fill in ImageNet weights: by default, with gates of 1, the network is then the ImageNet network, and
        instance branches and layers without batch normalisation keep their fresh affine pairs, as published."""
        config, taken = self.config, self.config.pretrained_norms
        plain = backbones.backbone(config.backbone, config.last_stride)
        backbones.start(plain, config.pretrained, config.backbone)
        batch = config.norm in (*GATED, "bn")
        values = {}
        for name, value in plain.state_dict().items():
            layer, _, last = name.rpartition(".")
            affine = last in ("weight", "bias")
            if value.ndim > 1 or (batch and ("batch_affine" if affine else "batch_statistics") in taken):
                values[name] = value
            elif config.norm == "in" and affine and "instance_affine" in taken:
                values[name] = value
            if (
                config.norm in ("bin", "bin_early")
                and value.ndim == 1
                and affine
                and "instance_affine" in taken
            ):
                values[f"{layer}.instance_{last}"] = value
        self.backbone.load_state_dict(values, strict=False)

    def _pool(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.feature_map(images))

    def _losses(self, losses: Sequence[Loss], pooled: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Each by its name; a name that comes again has a number behind it. ``accuracy``, where the classifier is
        asked: of its logits without a margin, for the log."""
        if any(loss.name == "triplet" for loss in losses):
            check_identities(batch.on_host().target)
        on_logits = any(loss.on_logits for loss in losses)
        features = {"global": pooled}
        if on_logits or any(loss.feature == "bn" for loss in losses):
            features["bn"] = self.neck(pooled)
        logits = self.classifier(features["bn"], batch.target) if on_logits else None
        given = {"logits": logits, "targets": batch.target, "domains": batch.domain, "count": self.domains}
        found: dict[str, torch.Tensor] = {}
        for loss in losses:
            again = sum(name.partition(" ")[0] == loss.name for name in found)
            found[f"{loss.name} {again + 1}" if again else loss.name] = loss(
                features=features[loss.feature], **given
            )
        if logits is not None:
            with torch.no_grad():
                plain = logits if self.config.classifier == "linear" else self.classifier(features["bn"])
                found["accuracy"] = accuracy(plain, batch.target)
        return found

    def _meta(self, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        """One meta step. Its total has a gradient for what the step learns and for nothing else; running
        statistics stay as they are."""
        weight = self.config.meta_train_weight
        train, test = self._split(batch)
        learned = self._learned()
        with statistics_held(self):
            train_losses = self._with(learned, train, "meta_train", progress)
            virtual = self._inner_step(learned, train_losses["total"], progress)
            test_losses = self._with(virtual, test, "meta_test", progress)
        for found in (train_losses, test_losses):  # the base step logs it
            found.pop("accuracy", None)
        total = test_losses.pop("total")
        if weight:
            total = total + weight * train_losses["total"]
        del train_losses["total"]
        return {
            "total": total,
            **{f"train_{name}": loss.detach() for name, loss in train_losses.items()},
            **{f"test_{name}": loss.detach() for name, loss in test_losses.items()},
        }

    def _learned(self) -> dict[str, nn.Parameter]:
        """What the meta step learns, by name."""
        return {
            name: value
            for name, value in self.named_parameters()
            if value.requires_grad and (self.config.meta_learns == "all" or name.endswith("gate"))
        }

    def _split(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch of the meta-train domains, drawn by torch's global generator, and that of the others."""
        domain, wanted = batch.on_host().domain, self.config.meta_train_domains
        domains = np.unique(domain)
        if len(domains) <= wanted:
            raise UserError(_too_few_domains(len(domains), wanted))
        inside = np.isin(domain, domains[torch.randperm(len(domains)).tolist()[:wanted]])
        return batch.select(np.flatnonzero(inside)), batch.select(np.flatnonzero(~inside))

    def _with(self, values: Mapping[str, torch.Tensor], batch: Batch, phase: str, progress: Progress) -> dict:
        """The losses of a phase with other values; all further weights are constants, which spares their
        gradients."""
        constants = {name: value.detach() for name, value in self.named_parameters()}
        return functional_call(self, {**constants, **values}, (batch, phase, progress))

    def _inner_step(
        self, learned: Mapping[str, torch.Tensor], loss: torch.Tensor, progress: Progress
    ) -> dict:
        """What is learned after one gradient step on ``loss``, gates kept from 0 to 1. The clamp's own derivative
        counts as 1, so that of first order the outer gradient at these values is the gradient of the real ones.

        Under float16 the backward pass through the maps is in half precision and small gradients vanish, so
        it starts from the loss times the loop's factor; the parameters' own gradients are float32, where it is
        divided out. A value whose gradient overflows stays where it is.
        """
        gradients = torch.autograd.grad(
            loss * progress.loss_scale,
            list(learned.values()),
            create_graph=self.config.second_order,
            retain_graph=self.config.second_order or self.config.meta_train_weight != 0,
            allow_unused=True,
        )
        virtual = {}
        for (name, value), gradient in zip(learned.items(), gradients):
            if gradient is None:  # the classifier, where cross entropy is not among the meta-train losses
                virtual[name] = value
                continue
            if isinstance(progress.loss_scale, torch.Tensor) or progress.loss_scale != 1:
                gradient = (gradient / progress.loss_scale).nan_to_num(0.0, 0.0, 0.0)
            moved = value - self._inner_rate(name, progress) * gradient
            if name.endswith("gate"):
                moved = moved + (moved.clamp(0, 1) - moved).detach()
            virtual[name] = moved
        return virtual

    def _inner_rate(self, name: str, progress: Progress) -> float:
        """The virtual step's rate for a parameter; ``parameter_groups`` says which learning rate it has."""
        optimizer, group = ("gates", 0) if name.endswith("gate") else ("main", int(name.endswith("bias")))
        if optimizer not in progress.lrs:
            raise ValueError(
                f"the meta step needs the learning rate of {optimizer!r}: pass for example "
                "Progress(lrs={'main': (0.01, 0.02), 'gates': (0.1,)})"
            )
        # From the clock, not a count of calls: with accumulated gradients one step takes several calls.
        step = progress.epoch * progress.iterations_per_epoch + progress.iteration + 1
        period = max(int(progress.iterations_per_epoch * self.config.inner_period), 1)
        return progress.lrs[optimizer][group] * triangle(step, period, *self.config.inner_ratio)


def gate_histograms(gates: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Counts of gates in ``BINS`` equal bins from 0 to 1, by the name of the layer; 1 itself is in the last."""
    return {
        name.removesuffix(".gate"): torch.histc(gate.detach().float(), BINS, 0, 1).int().tolist()
        for name, gate in gates.items()
    }


def triangle(step: int, period: int, low: float, high: float) -> float:
    """A wave from ``low`` at step 0 up to ``high`` at half the period, rounded down, and back."""
    rise = max(period // 2, 1)
    place = step % period
    share = place / rise if place <= rise else (period - place) / (period - rise)
    return low + (high - low) * share


def _too_few_domains(found: int, wanted: int) -> str:
    return (
        f"MetaBIN splits the domains of a meta batch into {wanted} for meta-train and at least one for "
        f"meta-test, but there are only {found} in all: train on more data sets, or take the cameras of a "
        "single one as domains; draw meta batches with the domain_balanced sampler; lower "
        "method.meta_train_domains; or set method.meta to false to train without the meta step"
    )
