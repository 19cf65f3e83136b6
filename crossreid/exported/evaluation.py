"""Score an exported model by a protocol, without torch."""

from __future__ import annotations

import datetime
import difflib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from crossreid import __version__, data, operating_points, protocols
from crossreid.export.using import Exported
from crossreid.exported import scoring
from crossreid.files import write_json
from crossreid.images.reading import read
from crossreid.images.resize import fit
from crossreid.protocols.results import as_json, mean_scores, people, table
from crossreid.records import MODALITIES, Embedding, Scores, UserError

# What of an experiment's settings matters here, with the defaults of a model that records none.
SETTINGS = {
    "data": {"roots": {}, "fold": None},
    "protocol": None,
    "evaluate": {"batch": 64, "ranks": 50},
}


def evaluate(
    path: str | Path,
    changes: Sequence[str] = (),
    *,
    tree: Mapping | None = None,
    split: str = "test",
    out: Path | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[str, Scores]:
    """Score an exported model on the test split of a protocol, print the table, and return its rows.

    path: as for ``Exported``.
    changes: of settings, as on the command line: ``["--protocol.mode", "indoor", "--data.roots.sysu_mm01=DIR"]``.
        Of the headings data, protocol and evaluate those in ``SETTINGS`` and the protocol's own can be changed.
    tree: other settings than those recorded at the training; a plain dict with these headings.
    out: a folder for ``evaluation.json``.

    Re-ranking, verification rates, baselines and ranked lists need the checkpoint and torch.
    """
    if split != "test":
        raise UserError(
            f"an exported model is scored on the split test, but {split} was asked for: which images were held out "
            "for validation is known with the training data, so score the checkpoint"
        )
    model = Exported(path, device)
    tree = _changed(model.settings if tree is None else tree, changes)
    protocol, config = _protocol(tree), SETTINGS["evaluate"] | tree.get("evaluate", {})
    missing = {image.modality for image in protocol.images} - set(model.serves)
    if missing:
        raise UserError(
            f"{path} is the {model.modalities[0]} half of a model, but this protocol also has {missing.pop()} "
            "images: give the folder that holds both"
        )
    embedding = _embed(model, protocol.images, config["batch"])
    rows: dict[str, list[Scores]] = {}
    identity, _ = people(protocol)
    for trial in protocol.trials():
        compare = scoring.distances(model.metric, embedding[trial.query], embedding[trial.gallery])
        found = scoring.score(
            compare,
            identity[trial.query],
            identity[trial.gallery],
            trial.excluded,
            cmc=protocol.cmc,
            ranks=config["ranks"],
        )
        rows.setdefault(trial.subset, []).append(found)
    means = {row: mean_scores(trials, protocol.average) for row, trials in rows.items()}
    log(protocol.description)
    log(table(means))
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        modality = [image.modality for image in protocol.images]
        points = operating_points.measure(embedding.feature, identity, modality, protocol.trials())
        content = _content(model, path, protocol, means) | {"operating_points": points}
        write_json(Path(out) / "evaluation.json", content)
    return means


def _embed(model: Exported, images, batch: int) -> Embedding:
    parts = []
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        pixels = np.stack([fit(read(image), model.size, model.interpolation) for image in some])
        parts.append(model(pixels, np.array([MODALITIES.index(image.modality) for image in some])))
    stripes = None if parts[0].stripes is None else np.concatenate([part.stripes for part in parts])
    return Embedding(np.concatenate([part.feature for part in parts]), stripes)


def _protocol(tree: Mapping):
    """The protocol that the settings name, over the user's copy of the data."""
    given, roots = dict(tree.get("protocol", {})), tree["data"]["roots"]
    name = given.pop("name", None)
    if name is None:
        raise UserError(
            "the exported model records no protocol, because its weights were not trained here: name one, such as "
            "--protocol.name single_query --data.roots.market1501 FOLDER"
        )
    kind = protocols.get(name)
    takes = [
        key for key in inspect.signature(kind).parameters if key not in ("root", "split", "images", "fold")
    ]
    for key in given:
        if key not in takes:
            raise UserError(_unknown(f"protocol.{key}", key, takes))
    if "fold" in inspect.signature(kind).parameters:
        given["fold"] = tree["data"]["fold"]
    if "targets" in takes:
        targets = given.get("targets", inspect.signature(kind).parameters["targets"].default)
        return kind({target: data.locate(target, roots) for target in targets}, **given)
    return kind(data.locate(given.get("source", "market1501" if "source" in takes else name), roots), **given)


def _changed(tree: Mapping, changes: Sequence[str]) -> dict:
    """A copy of the parts of the settings that matter here, with the changes made."""
    kept = {heading: dict(tree.get(heading) or {}) for heading in SETTINGS}
    kept["data"] = {key: kept["data"].get(key, default) for key, default in SETTINGS["data"].items()}
    kept["data"]["roots"] = dict(kept["data"]["roots"] or {})
    words = list(changes)
    while words:
        word, given, value = words.pop(0).partition("=")
        if not given:
            if not words:
                raise UserError(f"{word} needs a value")
            value = words.pop(0)
        heading, *path = word.removeprefix("--").split(".")
        known = SETTINGS.get(heading, {})
        if heading not in SETTINGS or not path or (known is not None and path[0] not in known):
            listed = [f"{name}.{key}" for name, keys in SETTINGS.items() for key in keys or ("NAME",)]
            raise UserError(
                f"{word} does not apply to an exported model: it has {', '.join(listed)}. Everything else needs the "
                "checkpoint"
            )
        place = kept[heading]
        for key in path[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise UserError(f"{word} does not apply: {heading}.{key} is {place!r}, with nothing below it")
        place[path[-1]] = _value(value)
        if (heading, path) == ("protocol", ["name"]):
            kept["protocol"] = {"name": kept["protocol"]["name"]}
    for key, least in (("batch", 1), ("ranks", 20)):
        number = kept["evaluate"].get(key, least)
        if type(number) is not int or number < least:
            raise UserError(f"evaluate.{key} is {number!r}: expected a whole number from {least}")
    return kept


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unknown(what: str, key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown setting {what}{hint}: it has {', '.join(known) or 'none'}"


def _content(model: Exported, path, protocol, rows: Mapping[str, Scores]) -> dict:
    return {
        "protocol": {"name": protocol.name, "description": protocol.description},
        "method": model.method,
        "feature": model.feature,
        "metric": {"feature": model.metric.feature, "stripes": model.metric.stripes},
        "checkpoint": Path(path).name,
        "epoch": model.trained.get("epoch"),
        "selection": f"the exported model {Path(path).name} ({model.precision})",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"crossreid": __version__},
        "notes": list(protocol.notes),
        "rows": [as_json(name, scores) for name, scores in rows.items()],
        "ranked": [],
        "baselines": [],
    }
