"""Reading a run folder for the report: whatever of its files is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossreid.formats.shape import unlike
from crossreid.formats.text import check_plain, parse_json, read_json, read_text
from crossreid.formats.yaml_text import read_yaml
from crossreid.records import VISIBLE, Image, UserError
from crossreid.report import forms


@dataclass(frozen=True)
class Run:
    """What one run folder says of itself; a file that is missing leaves its field empty.

    name: the folder's name, longer where two runs would share it.
    image_folders: whose images the report may show: those of the data that ``config.yaml`` names.
    settings: ``config.yaml``, heading -> settings.
    epochs: the epochs of ``metrics.jsonl`` in order, each with ``losses``, ``rates`` and ``seconds``.
    evaluations: the scores noted during training, each with ``epoch``, ``split`` and ``rows``.
    summary: what the training cost.
    evaluation: ``evaluation.json``.
    features: path of ``features.npz``, or None.
    loaded: what was read of it besides, so that it is read once.
    """

    name: str
    folder: Path
    image_folders: tuple[Path, ...] = ()
    settings: dict = field(default_factory=dict)
    epochs: list[dict] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    evaluation: dict = field(default_factory=dict)
    features: Path | None = None
    loaded: dict = field(default_factory=dict, compare=False, repr=False)


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
    settings = _mapping(present["config.yaml"], read_yaml, forms.METHOD) if "config.yaml" in present else {}
    scored = present.get("evaluation.json")
    evaluation = _mapping(scored, read_json, forms.EVALUATION) if scored else {}
    check_plain(settings, f"the settings of {folder}")
    return Run(
        name=name or folder.resolve().name,
        folder=folder,
        image_folders=_image_folders(settings, folder),
        settings=settings,
        epochs=epochs,
        evaluations=evaluations,
        summary=summary,
        evaluation=evaluation,
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


def image_of(run: Run, record: dict) -> Image | None:
    """The image that a record of ``evaluation.json`` names by ``path`` and perhaps ``array_index`` or ``box``.

    None for one that lies neither below the run's data nor in its folder: an evaluation from elsewhere must not bring
    any other image of this computer into a page that is passed on.
    """
    path = Path(os.path.abspath(record["path"]))
    try:
        # Links below the user's own data are the user's; those in a run's folder may have come with it.
        linked = not path.is_relative_to(os.path.abspath(run.folder))
        below = (linked and any(path.is_relative_to(folder) for folder in run.image_folders)) or any(
            path.resolve().is_relative_to(folder.resolve()) for folder in (run.folder, *run.image_folders)
        )
    except (OSError, ValueError):  # no name that a file can have
        below = False
    if not below:
        return None
    box = record.get("box")
    return Image(
        path,
        record.get("identity") or 0,
        record.get("camera") or 0,
        record.get("modality") or VISIBLE,
        array_index=record.get("array_index"),
        box=None if box is None else tuple(box),
    )


def _image_folders(settings: dict, run: Path) -> tuple[Path, ...]:
    """The folders of the data that the settings name, and below ``$CROSSREID_DATA``. A relative name may be one from
    where the run was started, which is a folder above the run's. A folder that holds all of a user's files is the
    folder of no data set."""
    data = settings.get("data")
    roots = data.get("roots") if isinstance(data, dict) else None
    named = [*(roots.values() if isinstance(roots, dict) else ()), os.environ.get("CROSSREID_DATA")]
    found = []
    for name in named:
        if isinstance(name, str) and name and "\0" not in name:
            place = Path(name).expanduser()
            above = (
                []
                if place.is_absolute()
                else [parent / place for parent in Path(os.path.abspath(run)).parents]
            )
            for each in (place, *(folder for folder in above if folder.is_dir())):
                folder = Path(os.path.abspath(each))
                folder = folder.parent if folder.suffix.lower() == ".csv" else folder
                if not Path.home().resolve().is_relative_to(folder.resolve()):
                    found.append(folder)
    return tuple(dict.fromkeys(found))


def _mapping(path: Path, read, form: dict) -> dict:
    value = read(
        path,
        "the file that a run writes was expected. Restore it, or write it again with `crossreid evaluate`, or take it "
        "away to have a report without it.",
    )
    if not isinstance(value, dict):
        raise UserError(
            f"{path} holds {type(value).__name__} and not a mapping with named entries, as a run writes it. "
            "Restore it, or take it away to have a report without it."
        )
    if wrong := unlike(value, form):
        raise UserError(
            f"{path} is not as a run writes it: look at {wrong}. Restore it, or take it away to have a report without "
            "it."
        )
    return value


def _metrics(path: Path) -> tuple[list[dict], list[dict], dict]:
    epochs, evaluations, summary = {}, {}, {}
    lines = read_text(path, "take the file away to have a report without curves").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
            kind = record["kind"]
            form = {"epoch": forms.EPOCH, "evaluation": forms.SCORED, "summary": forms.SUMMARY}.get(kind)
            if form is None:
                continue
            if wrong := unlike(record, form):
                raise ValueError(wrong)
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):  # a run that was killed while it wrote
                break
            raise UserError(
                f'Line {number} of {path} is not a JSON object with a "kind", as each line that a run '
                f"writes is ({error}). Restore the file, or take it away to have a report without curves."
            ) from error
        # A resumed run writes an epoch again: the later line holds.
        if kind == "epoch":
            epochs[record["epoch"]] = record
        elif kind == "evaluation":
            evaluations[record["epoch"], record.get("split", "test")] = record
        elif kind == "summary":
            summary = record
    return [epochs[key] for key in sorted(epochs)], [evaluations[key] for key in sorted(evaluations)], summary
