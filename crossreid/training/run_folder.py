"""What a run leaves on the disk beside its checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml
from tqdm import tqdm

from crossreid.files import replacing
from crossreid.records import UserError


def refuse_occupied(run: Path) -> None:
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


def writers(run: Path, main: bool, resumed_epoch: int | None):
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
