"""The training loop. It knows phases, optimizers and loaders, and no method, data set or loss by name."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from tqdm import tqdm

from crossreid import checkpoint
from crossreid.data.loading import Loader
from crossreid.engine import Engine, seed_step
from crossreid.methods.base import Method, Phase, Progress
from crossreid.records import UserError
from crossreid.training import averaging
from crossreid.training.optim import lr_factor, make_optimizers
from crossreid.training.settings import TrainConfig
from crossreid.training.standstill import Watch, watching


class Interrupted(Exception):
    """Training was stopped by the user after everything had been saved."""


@dataclass
class Clock:
    """Where a run stands; together with weights and optimizers all that exact resume needs.

    epoch, iteration: of the next iteration. sums, counts: of the epoch's losses so far. best: score and epoch.
    evaluated: epochs done at the last evaluation. seconds: of the run. steps: of optimizers.
    iterations, iterating: how many in all, and the seconds they took; neither evaluation nor saving is in it.
    """

    epoch: int = 0
    iteration: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: dict = field(default_factory=dict)
    evaluated: int = 0
    seconds: float = 0.0
    steps: int = 0
    iterations: int = 0
    iterating: float = 0.0


@dataclass(frozen=True)
class Pending:
    """The losses of one batch, perhaps still being computed on the device. ``values`` waits for them."""

    phase: Phase
    progress: Progress
    number: int
    target: torch.Tensor
    names: list[str]
    values: Callable[[], list[float]]


def fit(
    method: Method,
    loaders: Mapping[str, Loader],
    config: TrainConfig,
    engine: Engine,
    *,
    save: Callable[[str, dict], None] = lambda name, training: None,
    evaluate: Callable[[int], dict] | None = None,
    record: Callable[[dict], None] = lambda line: None,
    resume: dict | None = None,
    stop_after: int | None = None,
) -> Clock:
    """Train ``method`` on ``loaders`` until ``config.epochs``.

    loaders: name -> endless iterator of (number, Batch) with ``len`` and ``state()``.
    save(name, training): writes a checkpoint of that file name with the training state.
    evaluate(epoch) -> {"rows": ..., "score": float}: called in every process.
    record(line): one JSON-able dict per epoch and evaluation; called in the first process.
    resume: the training state of an earlier checkpoint.
    stop_after: behave as if interrupted after this many iterations.

    Raises Interrupted after Ctrl-C once the state is saved; RuntimeError naming term, step and batch when a loss is
    not finite, before anything of it is saved.
    """
    loop = _Loop(method, loaders, config, engine, save, record, resume)
    with _stopping() as stopping, watching(loop.watch, engine):
        while True:
            if evaluate and loop.due():
                loop.evaluate(evaluate)
            if loop.clock.epoch >= config.epochs:
                return loop.finished()
            stop_after = loop.epoch(stopping, stop_after)
            loop.end_epoch()
            if engine.any(stopping.is_set()) and loop.clock.epoch < config.epochs:
                raise Interrupted(f"stopped after epoch {loop.clock.epoch}")


class _Loop:
    """What one call of ``fit`` works on. ``left``: losses that were not looked at yet, oldest first."""

    def __init__(self, method, loaders, config, engine, save, record, resume):
        self.method, self.loaders, self.config, self.engine = method, loaders, config, engine
        self.write, self.record = save, record
        self.numbers = {name: number for number, name in enumerate(sorted(loaders))}
        self.iterations = max(1, math.ceil(len(loaders["train"]) / (engine.world * config.accumulate)))
        # The wrapper moves the weights to the device; optimizers and their states follow them there.
        if config.channels_last:
            method.to(memory_format=torch.channels_last)
        self.wrapped = engine.wrap(method)
        if config.compile:
            for network in method.networks():
                network.compile()
        self.optimizers = make_optimizers(method, config.optimizers)
        self.average = averaging.start(method) if config.average else None
        self.clock, self.total = Clock(), math.nan
        self.recent: dict[str, list[float]] = {}  # losses since they were last logged
        self.left: deque[Pending] = deque()
        self.watch = Watch()
        if resume:
            self._continue(resume)
        self.saved, self.begun = time.monotonic(), time.monotonic() - self.clock.seconds

    def _continue(self, resume: dict) -> None:
        self.clock = Clock(**{key: resume[key] for key in Clock.__dataclass_fields__})
        for name, optimizer in self.optimizers.items():
            # Moments and counts are the run's, settings such as weight decay those of today.
            today = [dict(group) for group in optimizer.param_groups]
            optimizer.load_state_dict(resume["optimizers"][name])
            for group, settings in zip(optimizer.param_groups, today):
                group.update(settings)
        self.engine.load_state(resume["engine"])
        if self.average is not None and resume["learned"] is not None:
            # The checkpoint's weights are the averaged ones.
            self.method.load_state_dict(resume["learned"])
        # Each process's own, so that the means of the epoch come out to the last bit; of other numbers, their mean.
        sums: dict[str, list[float]] = resume["sums"]
        self.clock.sums = {
            name: each[self.engine.rank] if len(each) == self.engine.world else sum(each) / len(each)
            for name, each in sums.items()
        }
        self.recent = resume.get("recent", {})

    def due(self) -> bool:
        """Whether the weights as they are should be evaluated."""
        epoch, every = self.clock.epoch, self.config.evaluate_every
        due = epoch and every and (epoch % every == 0 or epoch == self.config.epochs)
        return bool(due) and self.clock.evaluated < epoch

    def evaluate(self, evaluate: Callable[[int], dict]) -> None:
        self.watch.at("in the evaluation")
        with averaging.exchanged(self.method, self.average):
            self.engine.agree(self.method.buffers())
            result = evaluate(self.clock.epoch)
        self.clock.evaluated = self.clock.epoch
        if self.config.select != "last" and result["score"] > self.clock.best.get("score", -1.0):
            self.clock.best = {"score": result["score"], "epoch": self.clock.epoch}
            self.save("best.pt")
        self.save("last.pt")

    def epoch(self, stopping: threading.Event, stop_after: int | None) -> int | None:
        """The rest of an epoch. Returns what is left of ``stop_after``."""
        clock, engine = self.clock, self.engine
        if clock.iteration == 0:
            self.watch.at("at the start of an epoch")
            self.start_epoch()
        self.method.train()
        self.started, self.counted = time.monotonic(), (clock.iterations, clock.iterating)
        bar = tqdm(  # its end is that of the whole run
            total=self.iterations * self.config.epochs,
            initial=self.iterations * clock.epoch + clock.iteration,
            desc=f"epoch {clock.epoch + 1}/{self.config.epochs}",
            disable=None if engine.main else True,
            leave=False,
            unit="step",
        )
        with bar:
            while clock.iteration < self.iterations:
                begun = time.monotonic()
                for phase in self.method.phases(self.progress()):
                    for _ in range(phase.repeat):
                        self.step(phase)
                if self.average is not None:
                    averaging.update(self.average, self.method, self.config.average)
                clock.iteration += 1
                clock.iterations += 1
                clock.iterating += time.monotonic() - begun
                self.log_steps()
                bar.update()
                bar.set_postfix(loss=f"{self.total:.3f}")
                stop_after = None if stop_after is None else stop_after - 1
                self._pause(stopping, stop_after)
        return stop_after

    def start_epoch(self) -> None:
        """What the method does before an epoch. Every process goes on with what the first one then has: clusters of the
        features of each might differ, and weights that follow from them."""
        method, engine = self.method, self.engine
        if type(method).epoch_start is Method.epoch_start:
            return
        engine.agree(method.buffers())
        failed = None
        try:
            method.epoch_start(self.loaders)
        except Exception as error:
            failed = error
        if engine.any(failed is not None):  # the others would wait for this process
            raise failed or UserError("another process could not begin the epoch: its own message says why")
        engine.agree([*method.parameters(), *method.buffers()])
        states = engine.share({name: loader.state() for name, loader in self.loaders.items()})
        for name, loader in self.loaders.items():
            if loader.state() != states[name]:
                loader.go_on(states[name])

    def log_steps(self) -> None:
        """A line with the means over the last ``log_every`` iterations, of the first process alone."""
        every, clock = self.config.log_every, self.clock
        if not every or clock.iteration % every or not self.recent:
            return
        if self.engine.main:
            means = {name: sum(values) / len(values) for name, values in sorted(self.recent.items())}
            line = {"kind": "steps", "epoch": clock.epoch, "iteration": clock.iteration, "losses": means}
            self.record(line | {"step": clock.iterations})
        self.recent = {}

    def _pause(self, stopping: threading.Event, stop_after: int | None) -> None:
        """Between two iterations: stop where that is asked for, save where the last time is long ago."""
        clock, engine = self.clock, self.engine
        # Processes must agree to stop or save; asking at every step would cost each a synchronisation.
        if engine.world > 1 and clock.iteration % 20:
            return
        if engine.any(stopping.is_set() or stop_after == 0):
            self.save("last.pt")
            raise Interrupted(f"stopped in epoch {clock.epoch + 1}, after step {clock.iteration}")
        if engine.any((time.monotonic() - self.saved) / 60 > self.config.save_minutes):
            self.save("last.pt")
            self.saved = time.monotonic()

    def end_epoch(self) -> None:
        """Means, the method's own end of an epoch, a line in the record, a checkpoint."""
        self.watch.at("at the end of an epoch")
        self.look_at_losses(0)
        clock, engine = self.clock, self.engine
        names = sorted(clock.sums)
        means = engine.mean([clock.sums[name] / clock.counts[name] for name in names])
        means = dict(zip(names, means))
        further = self.method.epoch_end(means) or {}
        lrs = self.progress(at=self.iterations - 1).lrs
        iterations, iterating = clock.iterations - self.counted[0], clock.iterating - self.counted[1]
        self.recent = {}
        if engine.main:
            line = {
                "kind": "epoch",
                "epoch": clock.epoch,
                "losses": means,
                "lrs": {name: list(each) for name, each in lrs.items()},
                "seconds": round(time.monotonic() - self.started, 3),
                "step_ms": round(iterating * 1000 / max(1, iterations), 1),
                "step": clock.iterations,
            }
            self.record(line | further)
        clock.epoch, clock.iteration, clock.sums, clock.counts = clock.epoch + 1, 0, {}, {}
        self.save("last.pt")
        self.saved = time.monotonic()
        if self.config.keep_every and clock.epoch % self.config.keep_every == 0:
            self.save(f"epoch_{clock.epoch}.pt")

    def finished(self) -> Clock:
        self.clock.seconds = time.monotonic() - self.begun
        return self.clock

    def save(self, name: str) -> None:
        """Write a checkpoint, once nothing of it can come from a loss that is not finite."""
        self.watch.rest()  # a disk may be slow
        self.look_at_losses(0)
        self.clock.seconds = time.monotonic() - self.begun
        state = checkpoint.plain(vars(self.clock)) | {
            # in every process, since inside an epoch it gathers
            "sums": _of_every_process(self.clock.sums, self.engine),
            "recent": self.recent,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "engine": self.engine.state(),
            "loaders": {name: loader.state() for name, loader in self.loaders.items()},
        }
        if self.engine.main:
            with averaging.exchanged(self.method, self.average) as learned:
                self.write(name, state | {"learned": learned})

    def progress(self, at: int | None = None) -> Progress:
        """The clock as methods see it, with the learning rates set in the optimizers."""
        now = Progress(self.clock.epoch, self.clock.iteration if at is None else at, self.iterations)
        lrs = {}
        for name, optimizer in self.optimizers.items():
            settings = self.config.optimizers[name]
            factor = lr_factor(settings.schedule, self.config.epochs, now)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * group["lr_factor"] * factor * group.get("layer_factor", 1.0)
            # Of the method's own groups, which a decay over the layers may have divided.
            own = {group["of"]: group["lr_factor"] for group in optimizer.param_groups}
            lrs[name] = tuple(settings.lr * own[number] * factor for number in sorted(own))
        return Progress(now.epoch, now.iteration, self.iterations, lrs, self.engine.loss_scale)

    def step(self, phase: Phase) -> None:
        """One step of one phase: forward and backward on each accumulated batch, then the phase's optimizers."""
        config, engine = self.config, self.engine
        progress = self.progress()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for part in range(config.accumulate):
            self.watch.at(f"waiting for a batch of the loader {phase.loader!r}")
            number, batch = next(self.loaders[phase.loader])
            self.watch.at(f"in the forward pass of batch {number}")
            batch = batch.to(engine.device, non_blocking=True)  # where its loader has not done so
            if config.channels_last:
                batch = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
            seed_step(config.seed, self.numbers[phase.loader], number)
            last = part == config.accumulate - 1
            with nullcontext() if last else engine.unsynchronised(self.wrapped):
                with engine.autocast():
                    losses = self.wrapped(batch, phase.name, progress)
                stacked = torch.stack([loss.detach().float() for loss in losses.values()])
                names, values = list(losses), engine.fetch(stacked)
                self.left.append(Pending(phase, progress, number, batch.target, names, values))
                self.look_at_losses(engine.lag)
                self.watch.at(f"in the backward pass of batch {number}")
                engine.backward(losses["total"] / config.accumulate)
        stepped = [self.optimizers[name] for name in phase.optimizers]
        engine.step(stepped, config.clip)
        with torch.no_grad():
            for optimizer in stepped:
                for group in optimizer.param_groups:
                    if group["bounds"] is not None:
                        for parameter in group["params"]:
                            parameter.clamp_(*group["bounds"])
        self.clock.steps += 1

    def look_at_losses(self, lag: int) -> None:
        """Add up all but the ``lag`` newest losses. Raises RuntimeError for the first that is not finite."""
        while len(self.left) > lag:
            one = self.left.popleft()
            values = dict(zip(one.names, one.values()))
            wrong = [name for name, value in values.items() if not math.isfinite(value)]
            if wrong:
                raise RuntimeError(
                    f"the loss {wrong[0]!r} of phase {one.phase.name!r} became {values[wrong[0]]} in epoch "
                    f"{one.progress.epoch + 1}, step {one.progress.iteration + 1} (batch {one.number} of the loader "
                    f"{one.phase.loader!r}, targets {sorted(set(one.target.tolist()))[:8]}). Nothing of this step "
                    "was saved, and the last checkpoint is intact. Usual causes: too high a learning rate, float16 "
                    "where bfloat16 is needed, broken images."
                )
            for name, value in values.items():
                key = f"{one.phase.name}/{name}"
                self.clock.sums[key] = self.clock.sums.get(key, 0.0) + value
                self.clock.counts[key] = self.clock.counts.get(key, 0) + 1
                self.recent.setdefault(key, []).append(value)
            self.total = values["total"]


def _of_every_process(sums: Mapping[str, float], engine: Engine) -> dict[str, list[float]]:
    """Name -> the sum in each process."""
    rows = engine.gather_numbers(list(sums.values()))
    return {name: list(column) for name, column in zip(sums, zip(*rows))}


@contextmanager
def _stopping():
    """An event that Ctrl-C or a termination signal sets; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number, frame):
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()
        print("\nfinishing this step and saving (press Ctrl-C again to stop at once) ...", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
