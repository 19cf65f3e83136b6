"""Reading a run folder for the report: whatever of its files is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from crossreid.records import UserError


@dataclass(frozen=True)
class Run:
    """What one run folder says of itself; a file that is missing leaves its field empty.

    name: the folder's name, longer where two runs would share it.
    settings: ``config.yaml``, heading -> settings.
    epochs: the epochs of ``metrics.jsonl`` in order, each with ``losses``, ``rates`` and ``seconds``.
    evaluations: the scores noted during training, each with ``epoch``, ``split`` and ``rows``.
    summary: what the training cost.
    evaluation: ``evaluation.json``.
    features: path of ``features.npz``, or None.
    """

    name: str
    folder: Path
    settings: dict = field(default_factory=dict)
    epochs: list[dict] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    evaluation: dict = field(default_factory=dict)
    features: Path | None = None


def read(folder: Path, name: str | None = None) -> Run:
    """Raises UserError where the folder has none of the files of a run, or one that cannot be understood."""
    folder = Path(folder)
    files = {
        file: folder / file for file in ("config.yaml", "metrics.jsonl", "evaluation.json", "features.npz")
    }
    present = {file: path for file, path in files.items() if path.is_file()}
    if not present.keys() - {"features.npz"}:
        raise UserError(
            f"{folder} is not the folder of a run: one that holds config.yaml, metrics.jsonl or "
            "evaluation.json was expected. Give the folder that `crossreid train` or `crossreid evaluate` "
            "has written."
        )
    epochs, evaluations, summary = (
        _metrics(present["metrics.jsonl"]) if "metrics.jsonl" in present else ([], [], {})
    )
    return Run(
        name=name or folder.resolve().name,
        folder=folder,
        settings=_mapping(present["config.yaml"], yaml.safe_load) if "config.yaml" in present else {},
        epochs=epochs,
        evaluations=evaluations,
        summary=summary,
        evaluation=_mapping(present["evaluation.json"], json.loads) if "evaluation.json" in present else {},
        features=present.get("features.npz"),
    )


def read_all(folders: Sequence[Path]) -> list[Run]:
    """The runs in the order given, each with a name of its own."""
    folders = [Path(folder) for folder in folders]
    if not folders:
        raise UserError("A report needs at least one run and none was given: name one or more run folders.")
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({part[-length:] for part in parts}) < len(set(parts)):
        length += 1
    return [read(folder, "/".join(part[-length:])) for folder, part in zip(folders, parts)]


def flatten(settings: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted key: ``{"train": {"epochs": 60}}`` gives ``{"train.epochs": 60}``."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(runs: Sequence[Run]) -> dict[str, list]:
    """Dotted key -> its value in each run, for the settings that are not the same in all of them."""
    flat = [flatten(run.settings) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    values = {key: [settings.get(key) for settings in flat] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _mapping(path: Path, parse) -> dict:
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read ({reason}): the file that a run writes was expected. Restore it, or "
            "write it again with `crossreid evaluate`, or take it away to have a report without it."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{path} holds {type(value).__name__} and not a mapping with named entries, as a run writes it. "
            "Restore it, or take it away to have a report without it."
        )
    return value


def _metrics(path: Path) -> tuple[list[dict], list[dict], dict]:
    epochs, evaluations, summary = {}, {}, {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            kind = record["kind"]
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):  # a run that was killed while it wrote
                break
            raise UserError(
                f'Line {number} of {path} is not a JSON object with a "kind", as each line that a run '
                "writes is. Restore the file, or take it away to have a report without curves."
            ) from error
        # A resumed run writes an epoch again: the later line holds.
        if kind == "epoch":
            epochs[record["epoch"]] = record
        elif kind == "evaluation":
            evaluations[record["epoch"], record.get("split", "test")] = record
        elif kind == "summary":
            summary = record
    return [epochs[key] for key in sorted(epochs)], [evaluations[key] for key in sorted(evaluations)], summary
