"""Train a network in several ways from several seeds on the same rendered people, and set the scores side by side.

A study is a file beside this one that fills in a ``Study`` and calls ``main``. Each training is a run folder of its own
and is skipped where it is complete, so a study that was stopped goes on, and several processes may share its work by
taking different seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from crossreid import __version__, config, data, evaluation, training
from crossreid.data.provenance import LAYOUT_OF
from crossreid.files import replacing
from crossreid.records import Image

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


@dataclass
class Study:
    """One metric.

    name: of the file in ``docs/results``. title, words: its heading and what stands above the tables.
    prepare: renders the data below a folder, where it is not there yet.
    trainings: name -> settings of a training, as ``crossreid.config.resolve`` takes them.
    evaluations: name of a training -> {name of an evaluation: changes of its settings}.
    tables: from all scores to lines of Markdown. figures: from the scores and the folder to figures of the report.
    conclusion: what stands below.
    """

    name: str
    title: str
    words: str
    prepare: Callable[[Path], None]
    trainings: dict[str, dict]
    evaluations: Callable[[str], dict[str, dict]]
    tables: Callable[[Scores], Iterable[str]]
    figures: Callable[[Scores, Path], Iterable] = lambda scores, folder: ()
    conclusion: str = ""


@dataclass
class Scores:
    """All scores of a study: ``of`` gives one dict of numbers for each seed, of the first row if none is named."""

    runs: dict[tuple[str, int], dict] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, seed in self.runs})

    def of(self, training: str, evaluation: str, row: str | None = None, part: str = "rows") -> list[dict]:
        return [
            next(
                line
                for line in run["evaluations"][evaluation][part]
                if row in (None, line["subset"].removeprefix(LAYOUT_OF))
            )["numbers"]
            for (name, _), run in sorted(self.runs.items())
            if name == training
        ]

    def cost(self, training: str) -> tuple[float, float]:
        """Steps and median CPU seconds of the trainings of that name."""
        runs = [run for (name, _), run in self.runs.items() if name == training]
        return runs[0]["steps"], float(np.median([run["cpu_seconds"] for run in runs]))

    def seconds(self, training: str) -> str:
        return f"{self.cost(training)[1]:.0f}"


def spread(lines: list[dict], key: str) -> str:
    """Mean and standard deviation over seeds, in percent; of a single seed its value."""
    values = 100 * np.array([line[key] for line in lines])
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def joined(
    table: Path,
    copies: dict[str, Path],
    taken: Callable[[dict[str, list[Image]]], Iterable[tuple[Image, str]]],
) -> None:
    """One table of several rendered copies, where it is not there yet; people and cameras of different copies are
    different ones.

    copies: name -> the folder of one, below that of the table. taken: from the splits of a copy to the images that the
        table lists, each with its split.
    """
    if table.exists():
        return
    with replacing(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "identity", "camera", "modality", "split"])
        for name, folder in copies.items():
            for image, split in taken(data.read("csv", folder / "images.csv")):
                person, camera = f"{name}-{image.identity}", f"{name}-{image.camera}"
                lines.writerow([image.path.relative_to(table.parent), person, camera, image.modality, split])


def everybody(splits: dict[str, list[Image]]) -> list[tuple[Image, str]]:
    """All images of a copy, by their names, to learn from."""
    found = (image for images in splits.values() for image in images)
    return [(image, "train") for image in sorted(found, key=lambda image: image.path)]


def merged(tree: dict, changes: dict) -> dict:
    """A copy of ``tree`` with the leaves of ``changes`` put in."""
    tree = dict(tree)
    for key, value in changes.items():
        inside = isinstance(value, dict) and isinstance(tree.get(key), dict)
        tree[key] = merged(tree[key], value) if inside else value
    return tree


def run_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name.replace(' ', '-').replace('/', '-')}-{seed}"


def _learn(tree: dict, folder: Path, seed: int, evaluations: dict[str, dict]) -> None:
    """Train once, evaluate in every way, and leave ``scores.json`` in the folder."""
    tree = merged(tree, {"train": {"seed": seed, "device": "cpu", "threads": 1}, "data": {"workers": 0}})
    settings = config.resolve(tree)
    started = time.process_time()
    training.train(settings, folder, resume=(folder / "last.pt").exists(), evaluate=False)
    content = {"steps": _steps(folder), "cpu_seconds": time.process_time() - started, "evaluations": {}}
    for name, changes in evaluations.items():
        out = folder / "evaluations" / name
        out.mkdir(parents=True, exist_ok=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            evaluation.evaluate(folder / "last.pt", settings=config.resolve(merged(tree, changes)), out=out)
        found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
        content["evaluations"][name] = {
            part: [{"subset": line["subset"], "numbers": _numbers(line)} for line in found.get(part, [])]
            for part in ("rows", "reranked")
        }
    with replacing(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _numbers(line: dict) -> dict[str, float]:
    return {"rank1": line["cmc"][0], "mean_ap": line["mean_ap"], "mean_inp": line["mean_inp"]} | line[
        "verification"
    ]


def _steps(folder: Path) -> int:
    from crossreid.checkpoint import read

    return read(folder / "last.pt")["training"]["steps"]


def main(build: Callable[[Path], Study]) -> None:
    """The command of a study."""
    parser = argparse.ArgumentParser(description=build.__doc__)
    parser.add_argument("folder", type=Path, help="where people are rendered and runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: %(default)s")
    parser.add_argument("--only", nargs="+", help="trainings to run, by name; default: all")
    parser.add_argument(
        "--write", action="store_true", help="write the table into docs/results from what is there"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    study = build(chosen.folder)
    if chosen.write:
        print(f"wrote {_write(study, chosen.folder)}")
        return
    study.prepare(chosen.folder)
    for seed in chosen.seeds:
        for name, tree in study.trainings.items():
            folder = run_folder(chosen.folder, name, seed)
            if (chosen.only and name not in chosen.only) or (folder / "scores.json").exists():
                continue
            print(f"== {name}, seed {seed}", flush=True)
            _learn(tree, folder, seed, study.evaluations(name))


def _write(study: Study, folder: Path) -> Path:
    scores = Scores()
    for name in study.trainings:
        for path in sorted(
            (folder / "runs").glob(f"{name.replace(' ', '-').replace('/', '-')}-[0-9]*/scores.json")
        ):
            seed = int(path.parent.name.rpartition("-")[2])
            scores.runs[name, seed] = json.loads(path.read_text(encoding="utf-8"))
    missing = [name for name in study.trainings if not any(run == name for run, _ in scores.runs)]
    if len(missing) == len(study.trainings):
        raise SystemExit(f"no training is complete in {folder}")
    absent = [f"**Not run: {'; '.join(missing)}.**", ""] if missing else []
    counts = {
        name: sum(run == name for run, _ in scores.runs) for name in study.trainings if name not in missing
    }
    if short := [f"{name} ({count})" for name, count in counts.items() if count < max(counts.values())]:
        absent += [f"**From fewer seeds: {'; '.join(short)}.**", ""]
    machine = (
        f"{platform.machine()}, one thread, torch {torch.__version__.split('+')[0]}, crossreid {__version__}"
    )
    seeds = ", ".join(map(str, scores.seeds))
    over = f"Mean ± standard deviation over seeds {seeds}" if len(scores.seeds) > 1 else f"Seed {seeds}"
    lines = [
        f"# {study.title}",
        "",
        "*Measured here*, on rendered people; nothing on this page is a number of the literature. Made by",
        "",
        "<!-- not run: it trains for an hour or more -->",
        "```console",
        f"$ python studies/{study.name.replace('-', '_')}.py FOLDER",
        f"$ python studies/{study.name.replace('-', '_')}.py FOLDER --write",
        "```",
        "",
        f"on {machine}. {over}, in percent.",
        "",
        study.words.strip(),
        "",
        *absent,
        *study.tables(scores),
        *_images(study.figures(scores, folder)),
        study.conclusion.strip(),
        "",
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    with replacing(RESULTS / f"{study.name}.md") as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return RESULTS / f"{study.name}.md"


def _images(figures: Iterable) -> Iterable[str]:
    for figure in figures:
        with replacing(RESULTS.parent / "images" / f"{figure.name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        yield from (f"![{figure.title}](../images/{figure.name}.png)", "")
