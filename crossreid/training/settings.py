"""How a run is trained: the heading ``train`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossreid.engine import PRECISIONS
from crossreid.records import UserError, check_choice
from crossreid.training.optim import OptimizerConfig


@dataclass
class TrainConfig:
    """How a run is trained.

    epochs: how many; an epoch is the length of the ``train`` sampler.
    optimizers: name -> settings; which names are needed is the method's affair (most need ``main``).
    accumulate: batches whose gradients are averaged before a step. R processes equal one that accumulates R.
    device: ``auto``, ``cpu``, ``cuda``, ``npu``, ...
    precision: ``float32``, ``bfloat16`` or ``float16``.
    tf32: let an NVIDIA GPU shorten float32 products of the network to TensorFloat-32; evaluation never does.
    channels_last: lay images out in memory with the channels last, which is faster on most devices.
    cudnn_benchmark: let cuDNN try which of its convolutions is the fastest.
    compile: compile the networks by torch.compile: the first steps take minutes, the others less.
    clip: longest gradient of each optimizer's parameters together; 0 for any.
    average: share of the averaged weights that stays after each iteration (exponential moving average), such as
        0.999; evaluated and kept are the averaged ones. 0 for no average.
    seed: of everything that is drawn at random.
    deterministic: repeatable results on accelerators too (the CPU is always repeatable).
    threads: CPU threads of the network; 0 leaves torch's choice.
    evaluate_every: evaluate after every so many epochs; 0 only after the last.
    select: which weights are reported: those of the ``last`` epoch, or the best on ``validation``, or the best on
        ``test`` (which the report then says in words).
    keep_every: also keep ``epoch_<n>.pt`` every so many epochs; 0 keeps none.
    save_minutes: save inside long epochs at least this often.
    log_every: log the losses of long epochs every so many iterations too; 0 only after each epoch.
    trackers: further places for the numbers of ``metrics.jsonl``: tensorboard, wandb, mlflow, ..., as accelerate has
        them.
    init_from: a re-identification checkpoint whose weights the run starts with; other identities are fine.
    """

    epochs: int = 60
    optimizers: dict[str, OptimizerConfig] = field(default_factory=lambda: {"main": OptimizerConfig()})
    accumulate: int = 1
    device: str = "auto"
    precision: str = "float32"
    tf32: bool = False
    channels_last: bool = False
    cudnn_benchmark: bool = False
    compile: bool = False
    clip: float = 0.0
    average: float = 0.0
    seed: int = 0
    deterministic: bool = False
    threads: int = 0
    evaluate_every: int = 0
    select: str = "last"
    keep_every: int = 0
    save_minutes: float = 15
    log_every: int = 100
    trackers: list[str] = field(default_factory=list)
    init_from: str | None = None

    def __post_init__(self):
        check_choice("train.precision", self.precision, tuple(PRECISIONS))
        check_choice("train.select", self.select, ("last", "validation", "test"))
        if self.trackers:
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS

            for name in self.trackers:
                check_choice("train.trackers", name, tuple(LOGGER_TYPE_TO_CLASS))
        if self.epochs < 1 or self.accumulate < 1:
            raise UserError(
                f"train.epochs is {self.epochs} and train.accumulate is {self.accumulate}: both must be 1 or more"
            )
        if self.clip < 0 or not 0 <= self.average < 1:
            raise UserError(
                f"train.clip is {self.clip} and train.average is {self.average}: expected a length of 0 or more, and a "
                "share from 0 to below 1"
            )
        if self.select != "last" and not self.evaluate_every:
            raise UserError(
                f"train.select is {self.select!r} but nothing is evaluated during training: set train.evaluate_every"
            )
