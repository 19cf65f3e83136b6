"""Optimizers and their learning rates: settings, schedules, and the parameter groups of a method."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from crossreid.methods.base import Method, Progress
from crossreid.records import UserError, check_choice

SCHEDULES = ("steps", "cosine", "poly", "linear", "constant")


@dataclass
class ScheduleConfig:
    """The learning rate as a function of time alone; nothing of it is ever stored.

    name: after the warm-up, ``steps`` (times ``gamma`` at every milestone), ``cosine``, ``poly`` (power 2) and
        ``linear`` (down to ``end`` at the last epoch), or ``constant``. By default ``steps`` where there are
        milestones, else ``constant``.
    unit: the rate changes each ``epoch`` or each ``iteration``.
    warmup: length of the linear warm-up in epochs; 0 for none.
    warmup_start: factor at its beginning.
    warmup_ahead: the first epoch (or iteration) already has the rate of the first warm-up step, so the rate never is
        at ``warmup_start`` itself. Many published schedules count this way.
    milestones: epochs, from 0, from which ``gamma`` applies once more.
    end: factor reached at the end by ``cosine`` and ``linear``.
    """

    name: str | None = None
    unit: str = "epoch"
    warmup: float = 0
    warmup_start: float = 0.0
    warmup_ahead: bool = True
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    end: float = 0.0

    def __post_init__(self):
        if self.name is None:
            self.name = "steps" if self.milestones else "constant"
        check_choice("train.optimizers.*.schedule.name", self.name, SCHEDULES)
        if self.name == "steps" and not self.milestones:
            raise UserError(
                "train.optimizers.*.schedule is 'steps' without milestones, which would never change the learning "
                "rate: give the epochs from which gamma applies, such as milestones: [20, 50], or take 'constant'"
            )
        check_choice("train.optimizers.*.schedule.unit", self.unit, ("epoch", "iteration"))


@dataclass
class OptimizerConfig:
    """One optimizer.

    name: ``sgd``, ``adam``, ``adamw``, or another of ``torch.optim`` or ``timm.optim``, such as ``nadam`` or ``lion``.
    lr: learning rate of groups with factor 1.
    weight_decay: for groups that do not set their own.
    momentum, nesterov: of ``sgd``. betas: of ``adam`` and ``adamw``.
    arguments: further ones of the optimizer, such as ``{fused: true}``.
    layer_decay: factor of the learning rate from each stage or block of a backbone to the one before it, in which
        recipes of transformers have about 0.75; 1 for none.
    """

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    arguments: dict = field(default_factory=dict)
    layer_decay: float = 1.0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self):
        _class_of(self.name)
        if self.lr < 0:
            raise UserError(f"train.optimizers.*.lr is {self.lr}: a learning rate is 0 or more")
        if not 0 < self.layer_decay <= 1:
            raise UserError(
                f"train.optimizers.*.layer_decay is {self.layer_decay}: give a factor above 0, up to 1"
            )


def lr_factor(schedule: ScheduleConfig, epochs: int, progress: Progress) -> float:
    """Factor of the learning rate at this moment, in [0, 1] for the usual settings."""
    step = 1 if schedule.unit == "epoch" else 1 / progress.iterations_per_epoch
    now = progress.epoch + (
        0 if schedule.unit == "epoch" else progress.iteration / progress.iterations_per_epoch
    )
    # Half a step of tolerance, as sums of fractions miss whole epochs by a rounding.
    if now < schedule.warmup - 0.5 * step:
        share = (now + (step if schedule.warmup_ahead else 0)) / schedule.warmup
        share = min(share, 1.0)  # the last epoch of a warm-up that does not end with one
        return schedule.warmup_start * (1 - share) + share
    if schedule.name == "steps":
        return schedule.gamma ** sum(now > milestone - 0.5 * step for milestone in schedule.milestones)
    done = min(max(now - schedule.warmup, 0.0) / max(epochs - schedule.warmup, step), 1.0)
    if schedule.name == "cosine":
        return schedule.end + (1 - schedule.end) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "poly":
        return (1 - done) ** 2
    return 1.0 if schedule.name == "constant" else 1 + (schedule.end - 1) * done


def make_optimizers(
    method: Method, configs: Mapping[str, OptimizerConfig]
) -> dict[str, torch.optim.Optimizer]:
    """The method's parameter groups under the configured optimizers; every trainable parameter exactly once."""
    groups = method.parameter_groups()
    if set(groups) != set(configs):
        raise UserError(
            f"the method has the optimizers {', '.join(sorted(groups))} but train.optimizers configures "
            f"{', '.join(sorted(configs))}: give exactly one entry for each; null takes away one of a settings file: "
            "--train.optimizers.center null"
        )
    placed = [parameter for name in groups for group in groups[name] for parameter in group["params"]]
    trainable = {
        id(parameter): name for name, parameter in method.named_parameters() if parameter.requires_grad
    }
    if len(placed) != len({id(p) for p in placed}) or {id(p) for p in placed} != set(trainable):
        lost = [name for key, name in trainable.items() if key not in {id(p) for p in placed}]
        raise RuntimeError(
            f"{type(method).__name__}.parameter_groups() must place every trainable parameter exactly once"
            + (f"; it leaves out {lost[0]}" if lost else "")
        )
    made: dict[str, torch.optim.Optimizer] = {}
    for name, config in configs.items():
        prepared = [
            {"lr_factor": 1.0, "bounds": None, "weight_decay": config.weight_decay, "of": number}
            | group
            | {"lr": config.lr}
            for number, group in enumerate(groups[name])
        ]
        if config.layer_decay != 1:
            prepared = _by_depth(method, prepared, config.layer_decay)
        options: dict[str, dict] = {"sgd": {"momentum": config.momentum, "nesterov": config.nesterov}}
        options |= {each: {"betas": tuple(config.betas)} for each in ("adam", "adamw")}
        try:
            chosen = options.get(config.name, {}) | config.arguments
            made[name] = _class_of(config.name)(prepared, lr=config.lr, **chosen)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"train.optimizers.{name} cannot be made: {' '.join(str(error).split())}. See what {config.name} of "
                "torch.optim or timm.optim takes, and give it as train.optimizers.*.arguments"
            ) from error
    return made


def _class_of(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The class of an optimizer by its name in ``torch.optim`` or ``timm.optim``, in small letters."""
    known = {
        each.lower(): kind
        for each, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }
    # One needs the loss again and again, one gradients of another form, and one is what the others are made of.
    for other in ("lbfgs", "sparseadam", "optimizer"):
        known.pop(other, None)
    if name in known:
        return known[name]
    from timm.optim import get_optimizer_class, list_optimizers

    check_choice("train.optimizers.*.name", name, dict.fromkeys((*known, *list_optimizers())))
    return get_optimizer_class(name, bind_defaults=True)


def _by_depth(method: Method, groups: list[dict], decay: float) -> list[dict]:
    """The groups, each divided by how deep in the backbone its parameters lie: those behind it keep the learning rate,
    the last stage has ``decay`` times it, the one before ``decay`` squared, and the stem the least."""
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    found = {key: _stage(name) for key, name in names.items()}
    depths = {
        stage: at for at, stage in enumerate(sorted({each for each in found.values() if each is not None}))
    }
    top = len(depths)
    divided: list[dict] = []
    for group in groups:
        of_stage: dict[int, list] = {}
        for parameter in group["params"]:
            stage = found[id(parameter)]
            of_stage.setdefault(top if stage is None else depths[stage], []).append(parameter)
        divided += [
            group | {"params": some, "layer_factor": decay ** (top - stage)}
            for stage, some in sorted(of_stage.items())
        ]
    return divided


def _stage(name: str) -> int | None:
    """Which stage or block of a backbone a parameter belongs to, 0 for what is before them; None for the rest."""
    if not re.search(r"(^|\.)(backbone|stems?|encoders)\.", name):
        return None
    found = re.search(r"\.(?:layers?|stages?|blocks|features)[._]?(\d+)\.", name)
    return 0 if found is None else int(found[1]) + 1
