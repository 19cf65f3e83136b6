"""Training: the loop, its optimizers, the run folder, and what puts them together."""

from __future__ import annotations

import copy
import datetime
import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from crossreid import checkpoint
from crossreid.data import get as get_source
from crossreid.data.loading import Loader, training_set
from crossreid.engine import Engine, deterministic, seed_step, tune
from crossreid.files import write_whole
from crossreid.formats.trees import differences
from crossreid.methods.base import Method, Progress
from crossreid.records import UserError, counted
from crossreid.training.loop import Interrupted, fit
from crossreid.training.optim import OptimizerConfig, ScheduleConfig, lr_factor, make_optimizers
from crossreid.training.run_folder import RunFolder, describe_data, refuse_occupied, refuse_other_data
from crossreid.training.settings import TrainConfig

__all__ = [
    "Interrupted",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "fit",
    "lr_factor",
    "make_optimizers",
    "train",
    "train_folds",
]


def train(
    settings,
    run: Path,
    *,
    resume: bool | dict = False,
    evaluate: bool = True,
    begun: Callable[[], None] = lambda: None,
) -> Path:
    """Train as ``settings`` say into the run folder and return the checkpoint to report.

    settings: a ``crossreid.config.Settings``.
    run: a new or empty folder; with ``resume`` the folder of an interrupted run.
    resume: True, or the content of that run's last.pt where it has been read already.
    evaluate: score the reported checkpoint by the protocol at the end.
    begun: called when all that can be checked before the first step has been.
    """
    from crossreid import evaluation

    run, config = Path(run), settings.train
    content = _resumable(run, resume) if resume else None
    training = content["training"] if content else None
    if not content:
        refuse_occupied(run)
    if config.threads:
        torch.set_num_threads(config.threads)
    tune(config.tf32, config.cudnn_benchmark)
    if config.deterministic:
        deterministic()

    images, labels, _, held_out = training_set(settings.data)
    if content and training:
        refuse_other_data(training["data"], images)
        _refuse_other_optimizers(settings, content)
    seed_step(config.seed, 0)
    method, fresh = _build(settings, labels, content, run)
    engine = Engine(config.device, config.precision, search_unused=method.leaves_out())
    loaders = _loaders(settings, method, images, labels, engine, training)

    # Mistakes that would show themselves only once the run folder is made, or after the first epochs.
    make_optimizers(method, config.optimizers)
    evaluation.check_feature(method, settings.evaluate.feature)
    if config.evaluate_every:
        evaluation.protocol_of(settings, split=_split(config), held_out=held_out)
    if content:
        _refuse_without_effect(settings, content, run)

    folder = RunFolder(run, engine, training, config.trackers, settings.to_dict())
    try:
        begun()
        folder.write_settings(settings.to_yaml())
        _introduce(folder.log, settings, method, images, labels, engine)
        if config.init_from and not content:
            but = f"; not taken from there: {', '.join(fresh)}" if fresh else ""
            folder.log(f"started from {config.init_from}{but}")
        if content and training:
            changed = differences([content["settings"], settings.to_dict()]).items()
            told = "; ".join(f"{key} {before} to {after}" for key, (before, after) in changed)
            folder.log(
                f"resumed in epoch {training['epoch'] + 1}, after step {training['iteration']}"
                + f"; settings changed from here on: {told}" * bool(told)
            )
        unscorable = _unscorable(settings) if evaluate else ""
        if unscorable:
            folder.log(f"the weights will not be scored at the end: {unscorable}")
        clock = fit(
            method,
            loaders,
            config,
            engine,
            save=_saving(run, settings, method, images, labels),
            record=_noting(folder, config),
            resume=training,
            evaluate=_monitor(folder, method, settings, held_out, engine) if config.evaluate_every else None,
        )
        chosen = run / ("last.pt" if config.select == "last" else "best.pt")
        if engine.main:
            _sum_up(folder, clock, method, engine, chosen)
            if config.select != "last":
                folder.log(f"best.pt is of epoch {clock.best['epoch']}, the best on the {config.select} set")
        engine.wait()
        if unscorable:
            folder.log(f"the weights are in {chosen}; they are not scored: {unscorable}")
        elif evaluate:
            evaluation.evaluate(chosen, settings=settings, out=run, engine=engine, log=folder.log)
            # All leave together: a process that ends while the first still scores can take the group down with it.
            engine.wait()
        return chosen
    except Interrupted as stop:
        folder.log(f"{stop}; everything is saved. Continue with: crossreid train --resume {run}")
        raise
    finally:
        for loader in loaders.values():
            loader.close()
        folder.close()


def _resumable(run: Path, resume: bool | dict) -> dict:
    """The last checkpoint of a run, with its training state."""
    content = resume if isinstance(resume, dict) else checkpoint.read(run / "last.pt")
    if "training" not in content:
        raise UserError(f"{run / 'last.pt'} holds no training state: only last.pt of a run can be resumed")
    return content


def _build(settings, labels, content: dict | None, run: Path) -> tuple[Method, list[str]]:
    """The method with the weights that the run begins or goes on with, and the names of those that begin anew beside
    weights of other identities."""
    init_from = settings.train.init_from
    # Where all weights are loaded, those that the backbone once started from may not even be at hand any more.
    chosen = checkpoint.without_start(settings.method) if content or init_from else settings.method
    method = checkpoint.build(settings.method_name, chosen, labels.classes, labels.domains)
    method.check(labels)
    if content:
        checkpoint.load_strictly(method, content["weights"], run / "last.pt")
    return method, checkpoint.init_from(method, init_from) if init_from and not content else []


def _unscorable(settings) -> str:
    """Why the weights cannot be scored by the protocol, if so: training on all that there is must stay possible."""
    from crossreid import evaluation

    try:
        evaluation.protocol_of(settings)
    except UserError as error:
        return str(error)
    return ""


def _split(config: TrainConfig) -> str:
    """What is scored while a run goes on."""
    return "validation" if config.select == "validation" else "test"


def _monitor(folder: RunFolder, method: Method, settings, held_out, engine: Engine) -> Callable[[int], dict]:
    """What scores the weights after an epoch, records it, and says how good they are."""
    from crossreid import evaluation

    split = _split(settings.train)

    def monitor(epoch: int) -> dict:
        protocol = evaluation.protocol_of(settings, split=split, held_out=held_out)
        rows = evaluation.score(method, protocol, settings, engine)
        method.train()
        scores = {name: evaluation.summary(each) for name, each in rows.items()}
        folder.record({"kind": "evaluation", "epoch": epoch - 1, "split": split, "rows": scores})
        sentences = [evaluation.sentence(name, row) for name, row in scores.items()]
        folder.log(f"epoch {epoch}, {split}: {'; '.join(sentences)}")
        return {"rows": scores, "score": sum(row["rank1"] for row in scores.values()) / len(scores)}

    return monitor


def _loaders(
    settings, method: Method, images, labels, engine: Engine, training: dict | None
) -> dict[str, Loader]:
    loaders = {
        name: Loader(
            images,
            labels,
            choice,
            settings.data,
            seed=settings.train.seed,
            name=name,
            rank=engine.rank,
            world=engine.world,
            state=training["loaders"].get(name) if training else None,
            device=engine.device,
            columns=method.columns,
        )
        for name, choice in settings.data.loaders.items()
    }
    needed = {phase.loader for phase in method.phases(Progress())}
    if needed - set(loaders):
        raise UserError(
            f"method {settings.method_name!r} draws from the loaders {', '.join(sorted(needed))}, but data.loaders has "
            f"{', '.join(sorted(loaders))}: add the missing one"
        )
    for phase in method.phases(Progress()):
        loader = loaders[phase.loader]
        for rows in islice(loader.sampler.epoch(np.random.default_rng(settings.train.seed)), 1):
            method.check_batch(phase.name, loader.dataset.labels.take(np.array(rows)))
    return loaders


def _introduce(log: Callable[[str], None], settings, method: Method, images, labels, engine: Engine) -> None:
    """What is trained on what, where, and in which steps."""
    config = settings.train
    cameras = len(set(zip(labels.domain.tolist(), labels.camera.tolist())))
    log(
        f"{settings.method_name} on {settings.data.name}: {counted(len(images), 'image')}, "
        f"{counted(labels.classes, 'identity')}, "
        f"{counted(cameras, 'camera')}; {sum(p.numel() for p in method.parameters()) / 1e6:.2f} million parameters; "
        f"{engine.world} process(es) on {engine.device}, {config.precision}"
    )
    first = next(iter(settings.data.loaders.values()))
    holds = f"{first.identities} identities x {first.instances} instances"
    if first.sampler == "images":
        holds = f"{first.identities * first.instances} images"
    log(
        f"a step takes {counted(config.accumulate * engine.world, 'batch')} "
        f"({counted(engine.world, 'process')}, accumulate "
        f"{config.accumulate}) of {holds} by the sampler {first.sampler}, at learning rate "
        + ", ".join(f"{name} {value.lr:g}" for name, value in config.optimizers.items())
    )


def _saving(run: Path, settings, method: Method, images, labels) -> Callable[[str, dict], None]:
    """What writes a checkpoint of the given file name; ``last.pt`` has all that a resumed run needs."""
    trained = {"source": settings.data.name, "identities": labels.classes, "images": len(images)}
    trained["modalities"] = sorted({image.modality for image in images})
    inputs = {key: getattr(settings.data, key) for key in ("size", "interpolation", "mean", "std")}
    resolved, data = settings.to_dict(), describe_data(images)

    def save(name: str, state: dict) -> None:
        epoch = {"epoch": state["epoch"]}
        described = checkpoint.describe(
            method, settings.method_name, input=inputs, settings=resolved, trained=trained | epoch
        )
        if name == "last.pt":
            described["training"] = state | {"data": data}
        checkpoint.save(run / name, described)

    return save


def _noting(folder: RunFolder, config: TrainConfig) -> Callable[[dict], None]:
    """What records a line of ``fit`` and logs it in words, the loss that is minimised first, with the time left."""
    begun: list[tuple[float, float]] = []

    def note(line: dict) -> None:
        folder.record(line)
        done = line["epoch"] + (1 if line["kind"] == "epoch" else 0)
        place = f"epoch {line['epoch'] + 1}/{config.epochs}"
        if line["kind"] == "steps":
            place += f", step {line['iteration']}"
        losses = sorted(line["losses"].items(), key=lambda each: (not each[0].endswith("/total"), each[0]))
        text = f"{place}  " + "  ".join(f"{name} {value:.3f}" for name, value in losses)
        if line["kind"] == "epoch":
            begun.append((time.monotonic(), done))
            text += f"  ({line['step_ms']:.0f} ms a step{_left(begun, config.epochs)})"
        folder.log(text)

    return note


def _left(begun: list[tuple[float, float]], epochs: int) -> str:
    """ ", 1:02:03 left" by the pace between the first and the last epoch that ended in this process."""
    (start, first), (now, done) = begun[0], begun[-1]
    if done == first or done >= epochs:
        return ""
    seconds = (now - start) / (done - first) * (epochs - done)
    return f", {datetime.timedelta(seconds=round(seconds))} left"


def _sum_up(folder: RunFolder, clock, method: Method, engine: Engine, chosen: Path) -> None:
    summary = {
        "kind": "summary",
        "step_ms": round(clock.iterating * 1000 / max(1, clock.iterations), 1),
        "seconds": round(clock.seconds, 1),
        "parameters": sum(p.numel() for p in method.parameters()),
        "checkpoint_bytes": os.path.getsize(chosen),
        "peak_memory_bytes": engine.memory(),
        "device": str(engine.device),
        "processes": engine.world,
    }
    folder.record(summary)
    peak = summary["peak_memory_bytes"]
    folder.log(
        f"done: {summary['step_ms']:.0f} ms a step, {summary['seconds']:.0f} s in all, "
        f"{summary['parameters'] / 1e6:.2f} million parameters, {chosen.name} "
        f"{summary['checkpoint_bytes'] / 2**20:.1f} MiB, peak memory "
        + ("unknown" if peak is None else f"{peak / 2**20:.0f} MiB")
    )


def _refuse_other_optimizers(settings, content: dict) -> None:
    """Raise UserError where a run would go on with the moments of another kind of optimizer, or of other groups of
    parameters."""
    before = content["settings"]["train"]["optimizers"]
    for name, config in settings.train.optimizers.items():
        then = before.get(name, {})
        divided = "layer_decay" in then and (then["layer_decay"] == 1) != (config.layer_decay == 1)
        for key in ("name", "arguments", *(["layer_decay"] if divided else [])):
            was, now = then.get(key, getattr(config, key)), getattr(config, key)
            if was != now:
                raise UserError(
                    f"train.optimizers.{name}.{key} was {was!r} and is now {now!r}: what one optimizer has gathered "
                    f"means nothing to another. Go on with {was!r}, or begin another run with --train.init_from"
                )


def train_folds(
    settings, run: Path, *, resume: bool = False, begun: Callable[[], None] = lambda: None
) -> list[Path]:
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
        refuse_occupied(run)
    run.mkdir(parents=True, exist_ok=True)
    write_whole(run / "config.yaml", settings.to_yaml().encode())
    runs = [run / f"fold_{fold}" for fold in range(1, count + 1)]
    for fold, folder in enumerate(runs, 1):
        one = copy.deepcopy(settings)
        one.data.fold = fold
        if not (folder / "evaluation.json").exists():
            train(
                one, folder, resume=(folder / "last.pt").exists(), begun=begun if fold == 1 else lambda: None
            )
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
            f"the run {run} has trained {done} epochs and train.epochs is {wanted}: nothing is left to "
            "train, and other settings would only falsify its record. Give more epochs to go on, or score "
            "it with crossreid evaluate"
        )
