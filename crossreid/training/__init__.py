"""Training: the loop, its optimizers, the run folder, and what puts them together."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch

from crossreid import checkpoint
from crossreid.data import get as get_source
from crossreid.data.loading import Loader, training_set
from crossreid.engine import Engine, deterministic, seed_step
from crossreid.files import replacing
from crossreid.methods.base import Progress
from crossreid.records import UserError
from crossreid.training.loop import Interrupted, TrainConfig, fit
from crossreid.training.optim import OptimizerConfig, ScheduleConfig, lr_factor, make_optimizers
from crossreid.training.run_folder import refuse_occupied, writers

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
        refuse_occupied(run)
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
            device=engine.device,
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
    record, log = writers(run, engine.main, training["epoch"] if training else None)
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
        refuse_occupied(run)
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
