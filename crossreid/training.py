"""The training loop. It knows phases, optimizers and loaders, and no method, data set or loss by name."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from crossreid import checkpoint
from crossreid.data import get as get_source
from crossreid.data.loading import Loader, training_set
from crossreid.engine import PRECISIONS, Engine, deterministic, seed_step
from crossreid.files import replacing
from crossreid.methods.base import Method, Phase, Progress
from crossreid.records import UserError, check_choice

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("steps", "cosine", "poly", "linear", "constant")


@dataclass
class ScheduleConfig:
    """The learning rate as a function of time alone; nothing of it is ever stored.

    name: after the warm-up, ``steps`` (times ``gamma`` at every milestone), ``cosine``, ``poly`` (power 2) and
        ``linear`` (down to ``end`` at the last epoch), or ``constant``.
    unit: the rate changes each ``epoch`` or each ``iteration``.
    warmup: length of the linear warm-up in epochs; 0 for none.
    warmup_start: factor at its beginning.
    warmup_ahead: the first epoch (or iteration) already has the rate of the first warm-up step, so the rate never is
        at ``warmup_start`` itself. Many published schedules count this way.
    milestones: epochs, from 0, from which ``gamma`` applies once more.
    end: factor reached at the end by ``cosine`` and ``linear``.
    """

    name: str = "steps"
    unit: str = "epoch"
    warmup: float = 0
    warmup_start: float = 0.0
    warmup_ahead: bool = True
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    end: float = 0.0

    def __post_init__(self):
        check_choice("train.optimizers.*.schedule.name", self.name, SCHEDULES)
        check_choice("train.optimizers.*.schedule.unit", self.unit, ("epoch", "iteration"))


@dataclass
class OptimizerConfig:
    """One optimizer.

    name: ``sgd``, ``adam`` or ``adamw``.
    lr: learning rate of groups with factor 1.
    weight_decay: for groups that do not set their own.
    momentum, nesterov: of ``sgd``. betas: of ``adam`` and ``adamw``.
    """

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self):
        check_choice("train.optimizers.*.name", self.name, OPTIMIZERS)
        if self.lr < 0:
            raise UserError(f"train.optimizers.*.lr is {self.lr}: a learning rate is 0 or more")


@dataclass
class TrainConfig:
    """How a run is trained.

    epochs: how many; an epoch is the length of the ``train`` sampler.
    optimizers: name -> settings; which names are needed is the method's affair (most need ``main``).
    accumulate: batches whose gradients are averaged before a step. R processes equal one that accumulates R.
    device: ``auto``, ``cpu``, ``cuda``, ``npu``, ...
    precision: ``float32``, ``bfloat16`` or ``float16``.
    seed: of everything that is drawn at random.
    deterministic: repeatable results on accelerators too (the CPU is always repeatable).
    threads: CPU threads of the network; 0 leaves torch's choice.
    evaluate_every: evaluate after every so many epochs; 0 only after the last.
    select: which weights are reported: those of the ``last`` epoch, or the best on ``validation``, or the best on
        ``test`` (which the report then says in words).
    keep_every: also keep ``epoch_<n>.pt`` every so many epochs; 0 keeps none.
    save_minutes: save inside long epochs at least this often.
    init_from: a re-identification checkpoint whose weights the run starts with; other identities are fine.
    """

    epochs: int = 60
    optimizers: dict[str, OptimizerConfig] = field(default_factory=lambda: {"main": OptimizerConfig()})
    accumulate: int = 1
    device: str = "auto"
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False
    threads: int = 0
    evaluate_every: int = 0
    select: str = "last"
    keep_every: int = 0
    save_minutes: float = 15
    init_from: str | None = None

    def __post_init__(self):
        check_choice("train.precision", self.precision, PRECISIONS)
        check_choice("train.select", self.select, ("last", "validation", "test"))
        if self.epochs < 1 or self.accumulate < 1:
            raise UserError(
                f"train.epochs is {self.epochs} and train.accumulate is {self.accumulate}: both must be 1 or more"
            )
        if self.select != "last" and not self.evaluate_every:
            raise UserError(
                f"train.select is {self.select!r} but nothing is evaluated during training: set train.evaluate_every"
            )


class Interrupted(Exception):
    """Training was stopped by the user after everything had been saved."""


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
            f"{', '.join(sorted(configs))}: give exactly one entry for each"
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
    made = {}
    for name, config in configs.items():
        prepared = [
            {"lr_factor": 1.0, "bounds": None, "weight_decay": config.weight_decay}
            | group
            | {"lr": config.lr}
            for group in groups[name]
        ]
        if config.name == "sgd":
            options = {"lr": config.lr, "momentum": config.momentum, "nesterov": config.nesterov}
            made[name] = torch.optim.SGD(prepared, **options)
        else:
            kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
            made[name] = kind(prepared, lr=config.lr, betas=tuple(config.betas))
    return made


@dataclass
class Clock:
    """Where a run stands; together with weights and optimizers all that exact resume needs."""

    epoch: int = 0
    iteration: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: dict = field(default_factory=dict)
    evaluated: int = 0
    seconds: float = 0.0
    steps: int = 0


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

    loaders: name -> endless iterator of (draw, Batch) with ``len`` and ``state()``.
    save(name, training): writes a checkpoint of that file name with the training state.
    evaluate(epoch) -> {"rows": ..., "score": float}: called in every process.
    record(line): one JSON-able dict per epoch and evaluation; called in the first process.
    resume: the training state of an earlier checkpoint.
    stop_after: behave as if interrupted after this many iterations.

    Raises Interrupted after Ctrl-C once the state is saved; RuntimeError naming term, step and batch when a loss is
    not finite, before the weights change.
    """
    optimizers = make_optimizers(method, config.optimizers)
    clock = Clock()
    if resume:
        clock = Clock(**{key: resume[key] for key in Clock.__dataclass_fields__})
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(resume["optimizers"][name])
        engine.load_state(resume["engine"])
        # Each process's own, so that the means of the epoch come out to the last bit; of other numbers, their mean.
        clock.sums = {
            name: each[engine.rank] if len(each) == engine.world else sum(each) / len(each)
            for name, each in clock.sums.items()
        }

    per_step = engine.world * config.accumulate
    iterations = max(1, math.ceil(len(loaders["train"]) / per_step))
    wrapped = engine.wrap(method)
    numbers = {name: number for number, name in enumerate(sorted(loaders))}
    saved, begun = time.monotonic(), time.monotonic() - clock.seconds
    left = stop_after

    def training_state() -> dict:
        clock.seconds = time.monotonic() - begun
        return checkpoint.plain(vars(clock)) | {
            "sums": _of_every_process(clock.sums, engine),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
            "engine": engine.state(),
            "loaders": {name: loader.state() for name, loader in loaders.items()},
        }

    def keep(name: str) -> None:
        state = training_state()  # in every process, since inside an epoch it gathers
        if engine.main:
            save(name, state)

    def due(epoch: int) -> bool:
        every = config.evaluate_every
        return bool(evaluate and epoch and every and (epoch % every == 0 or epoch == config.epochs))

    with _stopping() as stopping:
        while True:
            if clock.evaluated < clock.epoch and due(clock.epoch):
                engine.agree(method)
                outcome = evaluate(clock.epoch)
                clock.evaluated = clock.epoch
                if config.select != "last" and outcome["score"] > clock.best.get("score", -1.0):
                    clock.best = {"score": outcome["score"], "epoch": clock.epoch}
                    keep("best.pt")
                keep("last.pt")
            if clock.epoch >= config.epochs:
                break
            method.train()
            bar = tqdm(
                total=iterations,
                initial=clock.iteration,
                desc=f"epoch {clock.epoch + 1}/{config.epochs}",
                disable=None if engine.main else True,
                leave=False,
                unit="step",
            )
            started, counted = time.monotonic(), clock.iteration
            while clock.iteration < iterations:
                losses = {}
                for phase in method.phases(_progress(clock, iterations, optimizers, engine, config)):
                    for _ in range(phase.repeat):
                        progress = _progress(clock, iterations, optimizers, engine, config)
                        losses = _step(
                            method,
                            wrapped,
                            phase,
                            progress,
                            loaders[phase.loader],
                            numbers[phase.loader],
                            optimizers,
                            engine,
                            config,
                            clock,
                        )
                clock.iteration += 1
                bar.update()
                bar.set_postfix(loss=f"{losses['total']:.3f}")
                left = left if left is None else left - 1
                # Processes must agree to stop or save; asking at every step would cost each a synchronisation.
                ask = engine.world == 1 or clock.iteration % 20 == 0
                if ask and engine.any(stopping.is_set() or left == 0):
                    bar.close()
                    keep("last.pt")
                    raise Interrupted(f"stopped in epoch {clock.epoch + 1}, after step {clock.iteration}")
                if ask and engine.any((time.monotonic() - saved) / 60 > config.save_minutes):
                    keep("last.pt")
                    saved = time.monotonic()
            bar.close()
            names = sorted(clock.sums)
            means = engine.mean(
                torch.tensor([clock.sums[n] / clock.counts[n] for n in names], dtype=torch.float64)
            )
            means = dict(zip(names, means.tolist()))
            further = method.epoch_end(means) or {}
            finished = _progress(clock, iterations, optimizers, engine, config, at=iterations - 1)
            if engine.main:
                record(
                    {
                        "kind": "epoch",
                        "epoch": clock.epoch,
                        "losses": means,
                        "lrs": {name: list(lrs) for name, lrs in finished.lrs.items()},
                        "seconds": round(time.monotonic() - started, 3),
                        "step_ms": round(
                            (time.monotonic() - started) * 1000 / max(1, iterations - counted), 1
                        ),
                    }
                    | further
                )
            clock.epoch, clock.iteration, clock.sums, clock.counts = clock.epoch + 1, 0, {}, {}
            keep("last.pt")
            saved = time.monotonic()
            if config.keep_every and clock.epoch % config.keep_every == 0:
                keep(f"epoch_{clock.epoch}.pt")
            if engine.any(stopping.is_set()) and clock.epoch < config.epochs:
                raise Interrupted(f"stopped after epoch {clock.epoch}")
        clock.seconds = time.monotonic() - begun
    return clock


def _of_every_process(sums: Mapping[str, float], engine: Engine) -> dict[str, list[float]]:
    """Name -> the sum in each process."""
    if not sums:
        return {}
    rows = engine.gather(torch.tensor([list(sums.values())], dtype=torch.float64)).tolist()
    return {name: list(column) for name, column in zip(sums, zip(*rows))}


def _progress(clock, iterations, optimizers, engine, config, at=None) -> Progress:
    """The clock as methods see it, with the rates set in the optimizers."""
    now = Progress(clock.epoch, clock.iteration if at is None else at, iterations)
    lrs = {}
    for name, optimizer in optimizers.items():
        settings = config.optimizers[name]
        factor = lr_factor(settings.schedule, config.epochs, now)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * group["lr_factor"] * factor
        lrs[name] = tuple(group["lr"] for group in optimizer.param_groups)
    return Progress(now.epoch, now.iteration, iterations, lrs, engine.loss_scale)


def _step(
    method, wrapped, phase: Phase, progress: Progress, loader, number, optimizers, engine, config, clock
) -> dict[str, float]:
    """One step of one phase: forward and backward on each accumulated batch, then the phase's optimizers."""
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    values = {}
    for part in range(config.accumulate):
        draw, batch = next(loader)
        batch = batch.to(engine.device)
        seed_step(config.seed, number, draw)
        last = part == config.accumulate - 1
        with nullcontext() if last else engine.unsynchronised(wrapped):
            with engine.autocast():
                losses = wrapped(batch, phase.name, progress)
            values = dict(
                zip(losses, torch.stack([loss.detach().float() for loss in losses.values()]).tolist())
            )
            wrong = [name for name, value in values.items() if not math.isfinite(value)]
            if wrong:
                raise RuntimeError(
                    f"the loss {wrong[0]!r} of phase {phase.name!r} became {values[wrong[0]]} in epoch "
                    f"{progress.epoch + 1}, step {progress.iteration + 1} (batch {draw} of the loader "
                    f"{phase.loader!r}, targets {sorted(set(batch.target.tolist()))[:8]}). The weights were not "
                    "changed by this step and the last checkpoint is intact. Usual causes: too high a learning "
                    "rate, float16 where bfloat16 is needed, broken images."
                )
            engine.backward(losses["total"] / config.accumulate)
        for name, value in values.items():
            key = f"{phase.name}/{name}"
            clock.sums[key] = clock.sums.get(key, 0.0) + value
            clock.counts[key] = clock.counts.get(key, 0) + 1
    stepped = [optimizers[name] for name in phase.optimizers]
    engine.step(stepped)
    with torch.no_grad():
        for optimizer in stepped:
            for group in optimizer.param_groups:
                if group["bounds"] is not None:
                    for parameter in group["params"]:
                        parameter.clamp_(*group["bounds"])
    clock.steps += 1
    return values


@contextmanager
def _stopping():
    """An event that Ctrl-C or a termination signal sets; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    process = os.getpid()

    def ask(number, frame):
        if (
            os.getpid() != process
        ):  # a loader's worker, which inherits this: the training process decides for it
            if number == signal.SIGTERM:
                os._exit(1)
            return
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        print("\nfinishing this step and saving (press Ctrl-C again to stop at once) ...", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(settings, run: Path, *, resume: bool = False, evaluate: bool = True) -> Path:
    """Train as ``settings`` say into the run folder and return the checkpoint to report.

    settings: a ``crossreid.config.Settings``.
    run: a new or empty folder; with ``resume`` the folder of an interrupted run.
    evaluate: score the reported checkpoint by the protocol at the end.
    """
    from crossreid import evaluation

    run, config = Path(run), settings.train
    training = None
    if resume:
        content = checkpoint.read(run / "last.pt")
        if "training" not in content:
            raise UserError(
                f"{run / 'last.pt'} holds no training state: only last.pt of a run can be resumed"
            )
        training = content["training"]
    else:
        _refuse_occupied(run)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        deterministic()

    images, labels, _, held_out = training_set(settings.data)
    seed_step(config.seed, 0)
    # Where all weights are loaded, those that the backbone once started from may not even be at hand any more.
    chosen = checkpoint.without_start(settings.method) if resume or config.init_from else settings.method
    method = checkpoint.build(settings.method_name, chosen, labels.classes, labels.domains)
    method.check(labels)
    engine = Engine(config.device, config.precision, search_unused=len(method.phases(Progress())) > 1)
    fresh = []
    if training:
        checkpoint.load_strictly(method, content["weights"], run / "last.pt")
    elif config.init_from:
        fresh = checkpoint.init_from(method, config.init_from)
    loaders = {
        name: Loader(
            images,
            labels,
            choice,
            settings.data,
            seed=config.seed,
            name=name,
            rank=engine.rank,
            world=engine.world,
            position=training["loaders"].get(name) if training else None,
            workers=settings.data.workers,
        )
        for name, choice in settings.data.loaders.items()
    }
    needed = {phase.loader for phase in method.phases(Progress())}
    if needed - set(loaders):
        raise UserError(
            f"method {settings.method_name!r} draws from the loaders {', '.join(sorted(needed))}, but data.loaders has "
            f"{', '.join(sorted(loaders))}: add the missing one"
        )

    # Mistakes that would show themselves only once the run folder is made, or after the first epochs.
    make_optimizers(method, config.optimizers)
    evaluation.check_feature(method, settings.evaluate.feature)
    split = "validation" if config.select == "validation" else "test"
    if config.evaluate_every:
        evaluation.protocol_of(settings, split=split, held_out=held_out)

    if training:
        _refuse_without_effect(settings, content, run)
    resolved = settings.to_dict()
    record, log = _writers(run, engine.main, training["epoch"] if training else None)
    if engine.main:
        with replacing(run / "config.yaml") as temporary:
            temporary.write_text(settings.to_yaml(), encoding="utf-8")
    first = next(iter(settings.data.loaders.values()))
    log(
        f"{settings.method_name} on {settings.data.name}: {len(images)} images, {labels.classes} identities, "
        f"{len(set(zip(labels.domain.tolist(), labels.camera.tolist())))} cameras; "
        f"{sum(p.numel() for p in method.parameters()) / 1e6:.2f} million parameters; {engine.world} process(es) on "
        f"{engine.device}, {config.precision}"
    )
    log(
        f"a step takes {config.accumulate * engine.world} batches ({engine.world} processes, accumulate "
        f"{config.accumulate}) of {first.identities} identities x {first.instances} instances by the sampler "
        f"{first.sampler}, at learning rate "
        + ", ".join(f"{name} {value.lr:g}" for name, value in config.optimizers.items())
    )
    if fresh:
        log(f"started from {config.init_from}; fresh because of other identities: {', '.join(fresh)}")
    if training:
        log(f"resumed in epoch {training['epoch'] + 1}, after step {training['iteration']}")

    if evaluate:
        try:
            evaluation.protocol_of(settings)
        except UserError as error:  # training on all that there is must stay possible
            log(f"mind that the weights cannot be scored at the end: {error}")

    trained = {"source": settings.data.name, "identities": labels.classes, "images": len(images)}
    inputs = {key: getattr(settings.data, key) for key in ("size", "interpolation", "mean", "std")}

    def save(name: str, state: dict) -> None:
        described = checkpoint.describe(
            method,
            settings.method_name,
            input=inputs,
            settings=resolved,
            trained=trained | {"epoch": state["epoch"]},
        )
        if name == "last.pt":
            described["training"] = state
        checkpoint.save(run / name, described)

    def monitor(epoch: int) -> dict:
        protocol = evaluation.protocol_of(settings, split=split, held_out=held_out)
        rows = evaluation.score(method, protocol, settings, engine)
        method.train()
        brief = {name: evaluation.summary(scores) for name, scores in rows.items()}
        if engine.main:
            record({"kind": "evaluation", "epoch": epoch - 1, "split": split, "rows": brief})
            log(
                f"epoch {epoch}, {split}: "
                + "; ".join(evaluation.sentence(n, row) for n, row in brief.items())
            )
        return {"rows": brief, "score": sum(row["rank1"] for row in brief.values()) / len(brief)}

    def note(line: dict) -> None:
        record(line)
        if line["kind"] == "epoch":
            losses = "  ".join(f"{name} {value:.3f}" for name, value in line["losses"].items())
            log(f"epoch {line['epoch'] + 1}/{config.epochs}  {losses}  ({line['step_ms']:.0f} ms a step)")

    try:
        clock = fit(
            method,
            loaders,
            config,
            engine,
            save=save,
            record=note,
            resume=training,
            evaluate=monitor if config.evaluate_every else None,
        )
    except Interrupted as stop:
        log(f"{stop}; everything is saved. Continue with: crossreid train --resume {run}")
        raise
    finally:
        for loader in loaders.values():
            loader.close()
    chosen = run / ("last.pt" if config.select == "last" else "best.pt")
    if engine.main:
        summary = {
            "kind": "summary",
            "step_ms": round(clock.seconds * 1000 / max(1, clock.steps), 1),
            "seconds": round(clock.seconds, 1),
            "parameters": sum(p.numel() for p in method.parameters()),
            "checkpoint_bytes": os.path.getsize(chosen),
            "peak_memory_bytes": engine.memory(),
            "device": str(engine.device),
            "processes": engine.world,
        }
        record(summary)
        memory = (
            "unknown"
            if summary["peak_memory_bytes"] is None
            else f"{summary['peak_memory_bytes'] / 2**20:.0f} MiB"
        )
        log(
            f"done: {summary['step_ms']:.0f} ms a step, {summary['seconds']:.0f} s in all, "
            f"{summary['parameters'] / 1e6:.2f} million parameters, {chosen.name} "
            f"{summary['checkpoint_bytes'] / 2**20:.1f} MiB, peak memory {memory}"
        )
    engine.wait()
    if evaluate:
        evaluation.evaluate(chosen, settings=settings, out=run, engine=engine, log=log)
        # All leave together: a process that ends while the first still scores can take the group down with it.
        engine.wait()
    return chosen


def train_folds(settings, run: Path, *, resume: bool = False) -> list[Path]:
    """One model for each official fold of the data, in ``fold_1``, ``fold_2``, ... below ``run``.

    With ``resume``, finished folds are kept, and the one that was interrupted continues.
    """
    run = Path(run)
    count = max(get_source(name).folds for name in settings.data.names)
    if count == 1:
        raise UserError(
            f"data.fold is 'all', but {', '.join(settings.data.names)} has one training split only: remove data.fold"
        )
    if not resume:
        _refuse_occupied(run)
    run.mkdir(parents=True, exist_ok=True)
    with replacing(run / "config.yaml") as temporary:
        temporary.write_text(settings.to_yaml(), encoding="utf-8")
    runs = [run / f"fold_{fold}" for fold in range(1, count + 1)]
    for fold, folder in enumerate(runs, 1):
        one = copy.deepcopy(settings)
        one.data.fold = fold
        if not (folder / "evaluation.json").exists():
            train(one, folder, resume=(folder / "last.pt").exists())
    return runs


def _refuse_without_effect(settings, content: dict, run: Path) -> None:
    """Raise UserError when a finished run would be given settings by which nothing is trained any more."""
    done, wanted = content["training"]["epoch"], settings.train.epochs
    if done < wanted:
        return

    def lasting(tree: dict) -> dict[str, dict]:
        kept = {heading: dict(tree[heading]) for heading in ("method", "data", "train")}
        for heading, key in (
            ("data", "roots"),
            ("data", "workers"),
            ("train", "device"),
            ("train", "threads"),
        ):
            kept[heading].pop(key, None)
        return kept

    if done > wanted or lasting(settings.to_dict()) != lasting(content["settings"]):
        raise UserError(
            f"the run {run} has trained {done} epochs and train.epochs is {wanted}: nothing is left to train, and "
            "other settings would only falsify its record. Give more epochs to go on, or score it with crossreid "
            "evaluate"
        )


def _refuse_occupied(run: Path) -> None:
    """Raise UserError unless the run may write there: nothing is in the folder, or only what a run leaves that ended
    before it saved anything, or what another process of this run has just begun."""
    if not run.exists():
        return
    if run.is_dir():
        there = {path.name for path in run.iterdir() if not path.name.endswith(".part")}
        begun = there <= {"config.yaml", "log.txt", "metrics.jsonl", "tensorboard"} and _resolved(
            run / "config.yaml"
        )
        if there <= {"tensorboard"} or begun:
            return
    raise UserError(
        f"the run folder {run} is not an empty folder: continue it with `crossreid train --resume {run}`, or choose "
        "another name with --run"
    )


def _resolved(path: Path) -> bool:
    """Whether a settings file is as a run writes it, and not one that somebody keeps there."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    whole = isinstance(tree, dict) and {"method", "data", "protocol", "train", "evaluate"} <= set(tree)
    return whole and yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) == text


def _writers(run: Path, main: bool, resumed_epoch: int | None):
    """Functions that append to log.txt and metrics.jsonl; they do nothing but in the first process. Where the extra
    ``track`` is installed, the numbers of metrics.jsonl go to TensorBoard too."""
    log_file, metrics = run / "log.txt", run / "metrics.jsonl"
    if main and resumed_epoch is None:  # of a run that ended before it saved anything
        log_file.unlink(missing_ok=True)
        metrics.unlink(missing_ok=True)
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
    board = _board(run, resumed_epoch) if main else None
    if main:
        run.mkdir(parents=True, exist_ok=True)
        if resumed_epoch is not None and metrics.exists():
            # Lines of epochs that will be trained again would otherwise stand twice.
            lines = [line for line in metrics.read_text().splitlines() if _before(line, resumed_epoch)]
            with replacing(metrics) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def log(text: str) -> None:
        if main:
            tqdm.write(text)
            with open(log_file, "a", encoding="utf-8") as file:
                file.write(text + "\n")

    def record(line: dict) -> None:
        if main:
            with open(metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if board and "epoch" in line:
                for name, value in _scalars({key: line[key] for key in line if key != "epoch"}):
                    board.add_scalar(name, value, line["epoch"])
                board.flush()
            elif board:  # the summary, which ends the run
                board.close()

    return record, log


def _board(run: Path, resumed_epoch: int | None):
    """A writer of TensorBoard's files in the run folder, which forgets what a resumed run will do again."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except (
        Exception
    ):  # absent, or at odds with another package, which raises anything; scalars are kept anyway
        return None
    return SummaryWriter(run / "tensorboard", purge_step=resumed_epoch)


def _scalars(values: dict, above: str = "") -> Iterator[tuple[str, float]]:
    """The single numbers of a tree, named by the way to them."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from _scalars(value, f"{name}/")
        elif isinstance(value, list) and name.startswith("lrs/"):
            yield from _scalars(dict(enumerate(value)), f"{name}/")
        elif isinstance(value, (int, float)):
            yield name, value


def _before(line: str, epoch: int) -> bool:
    """Whether the line is of an epoch before ``epoch``; one cut short by a crash or a full disk is of none."""
    try:
        return json.loads(line).get("epoch", epoch) < epoch
    except json.JSONDecodeError:
        return False
