"""``crossreid.train`` and ``crossreid.evaluate``: the two commands from Python, with names and paths as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crossreid import config, evaluation, training
from crossreid.config import Settings
from crossreid.evaluation.entry import Results
from crossreid.export.using import Exported
from crossreid.files import as_path, check_folder, write_whole
from crossreid.methods import method_name
from crossreid.methods.base import Method
from crossreid.records import UserError, check_choice

Changes = Mapping[str, object] | Sequence[str]


def train(
    settings: Settings | Mapping | str | Path,
    run: str | Path,
    changes: Changes = (),
    *,
    resume: bool = False,
    evaluate: bool = True,
) -> Path:
    """Train into the folder ``run`` and return the path of the checkpoint to report, or with ``data.fold: all``, which
    trains a model for each fold below it, ``run`` itself.

    settings: the path of a YAML file, the name of one that comes with the library, a plain dict, or ``Settings``.
    run: a new or empty folder; with ``resume`` that of a run that was interrupted, which then continues.
    changes: further settings by their names, ``{"train.epochs": 5}``, as the command takes them.
    evaluate: score the reported checkpoint by the protocol at the end.
    """
    run = as_path(run, "the folder of a run")
    resolved = _settings(settings, changes)
    if resolved.data.fold == "all":
        training.train_folds(resolved, run, resume=resume)
        return run
    return training.train(resolved, run, resume=resume, evaluate=evaluate)


def evaluate(
    model: str | Path,
    changes: Changes = (),
    *,
    settings: Settings | Mapping | str | Path | None = None,
    out: str | Path | None = None,
    split: str = "test",
) -> Results:
    """Score a model; the scores of each subset of the protocol by its name.

    model: the path of a checkpoint, ours or an official one; of an exported model; or ``"small"`` or ``"base"``.
    changes: further settings by their names, ``{"evaluate.rerank": True, "data.roots.market1501": "/data/market"}``.
    settings: data set and protocol, as for ``train``; None takes those of the model's own training.
    out: a folder, into which ``evaluation.json`` and ``config.yaml`` are written, as ``crossreid report`` reads them.
    split: ``"test"`` or ``"validation"``.
    """
    check_choice("split", split, ("test", "validation"))
    out = None if out is None else as_path(out, "the folder for results")
    opened = evaluation.open_model(model)
    resolved = _settings(recorded(opened, model) if settings is None else settings, changes)
    if out is not None:
        check_folder(out)
        write_whole(out / "config.yaml", resolved.to_yaml().encode())
    return evaluation.evaluate(model, settings=resolved, model=opened, out=out, split=split)


def recorded(model: Method | Exported, path: str | Path, *, needed: bool = True) -> dict:
    """The settings that a model records, as ``config.load`` takes them.

    needed: raise UserError where these name no protocol.
    """
    if needed and "protocol" not in model.settings:
        raise UserError(
            f"{path} does not record a data set or protocol: name settings that do (--config), one protocol such as "
            "--protocol.name single_query --data.roots.market1501 FOLDER, or two folders with --query and --gallery"
        )
    if not isinstance(model, Exported):
        return model.settings or {"method": {"name": method_name(model)}}
    tree = {"method": {"name": model.method}} | model.settings
    asked = (tree.get("evaluate") or {}).get("feature")
    if asked not in (None, *model.metrics):
        print(f"{path} was exported with the feature {model.feature}, which is scored in place of {asked}")
        tree["evaluate"] = tree["evaluate"] | {"feature": None}
    return tree


def _settings(given: Settings | Mapping | str | Path, changes: Changes) -> Settings:
    return config.load(given.to_dict() if isinstance(given, Settings) else given, changes)
