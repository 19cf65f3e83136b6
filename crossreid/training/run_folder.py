"""What a run leaves on the disk beside its checkpoints, and who may write there."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

from crossreid.engine import Engine
from crossreid.files import check_folder, write_whole
from crossreid.formats.yaml_text import parse_yaml
from crossreid.records import Image, UserError, counted, identities

LOCK = ".lock"


class RunFolder:
    """The folder of one run, written to by the first process alone and by no other run.

    resumed: the training state of its last checkpoint, whose lines stay.
    trackers: names of ``accelerate.tracking`` that the numbers of ``metrics.jsonl`` go to as well.
    settings: what the trackers keep with the run, plain values.

    Raises UserError in every process where another run writes there, or nothing can be written.
    """

    def __init__(
        self, path: Path, engine: Engine, resumed: dict | None, trackers: Sequence[str], settings: dict
    ):
        self.path, self.main, self._lock = path, engine.main, FileLock(path / LOCK, blocking=False)
        mistake = self._claim() if self.main else None
        if engine.any(mistake is not None):
            raise UserError(mistake or f"the first process cannot write to the run folder {path}")
        if self.main:
            self._begin(resumed)
        epoch = resumed["epoch"] if resumed else None
        self._trackers = [_tracker(name, path, epoch, settings) for name in trackers] if self.main else []

    def _claim(self) -> str | None:
        """Take the lock. Returns what is wrong, to be raised once all processes know."""
        try:
            check_folder(self.path)
            self._lock.acquire()
        except UserError as error:
            return str(error)
        except Timeout:
            return (
                f"another run writes to {self.path} right now: wait until it has ended, or "
                "choose another name with --run"
            )
        return None

    def _begin(self, resumed: dict | None) -> None:
        for leftover in self.path.glob(".*.part"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        metrics = self.path / "metrics.jsonl"
        if resumed is None:  # of a run that ended before it saved anything
            for name in ("log.txt", "metrics.jsonl"):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        elif metrics.exists():
            # Lines of what will be trained again would otherwise stand twice.
            lines = [line for line in metrics.read_text().splitlines() if _stays(line, resumed)]
            write_whole(metrics, "".join(line + "\n" for line in lines).encode())

    def write_settings(self, text: str) -> None:
        if self.main:
            write_whole(self.path / "config.yaml", text.encode())

    def log(self, text: str) -> None:
        """A line with the time of day, or a whole table without it, on the screen and in ``log.txt``."""
        if self.main:
            line = text if "\n" in text else f"{datetime.datetime.now():%H:%M:%S} {text}"
            tqdm.write(line)
            with open(self.path / "log.txt", "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def record(self, line: dict) -> None:
        """One line of ``metrics.jsonl``; its numbers go to the trackers."""
        if not self.main:
            return
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if "step" in line or line["kind"] == "evaluation":
            inside = {key: value for key, value in line.items() if key not in ("step", "epoch", "iteration")}
            above = f"{line['kind']}/" if line["kind"] == "steps" else ""
            step = line["step"] if line["kind"] == "steps" else line["epoch"]
            for tracker in self._trackers:
                tracker.log(dict(_scalars(inside, above)), step=step)

    def close(self) -> None:
        """End the trackers and let others write here."""
        for tracker in self._trackers:
            tracker.finish()
        self._lock.release()


def _tracker(name: str, run: Path, epoch: int | None, settings: dict):
    """One of accelerate's trackers, started; TensorBoard forgets what a resumed run will do again."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    places = (run,) if kind.requires_logging_directory else ()
    board = name == "tensorboard"
    try:
        tracker = kind(
            "tensorboard" if board else "crossreid", *places, **{"purge_step": epoch} if board else {}
        )
        tracker.start()
        if not board:  # whose own form of settings is a folder of further files
            tracker.store_init_configuration(dict(_scalars(settings)))
    except ImportError as error:
        raise UserError(
            f"train.trackers names {name!r}, whose package is not installed ({error}): install it, or leave it out. "
            "metrics.jsonl holds the same numbers"
        ) from error
    return tracker


def refuse_occupied(run: Path) -> None:
    """Raise UserError unless the run may write there: nothing is in the folder, or only what a run leaves that ended
    before it saved anything, or what another process of this run has just begun."""
    if not run.exists():
        return
    if run.is_dir():
        there = {path.name for path in run.iterdir() if path.suffix != ".part"} - {LOCK, "tensorboard"}
        if there <= {"config.yaml", "log.txt", "metrics.jsonl"} and (
            not there or _resolved(run / "config.yaml")
        ):
            return
    raise UserError(
        f"the run folder {run} is not an empty folder: continue it with `crossreid train --resume {run}`, or choose "
        "another name with --run"
    )


def describe_data(images: Sequence[Image]) -> dict:
    """What a resumed run must find again: identities, and a digest of how many images each camera has of each."""
    counts = Counter((image.domain, image.identity, image.camera, image.modality) for image in images)
    digest = hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest()
    return {
        "identities": [list(each) for each in identities(images)],
        "images": len(images),
        "digest": digest,
    }


def refuse_other_data(trained: dict, images: Sequence[Image]) -> None:
    """Raise UserError when a run would go on with other images. trained: what ``describe_data`` said then."""
    found = describe_data(images)
    if found["digest"] == trained["digest"]:
        return
    before, now = ({tuple(each) for each in those["identities"]} for those in (trained, found))
    changes = [
        f"{word}: {', '.join(str(identity) for _, identity in some[:5])}{', ...' if len(some) > 5 else ''}"
        for word, some in (("new", sorted(now - before)), ("gone", sorted(before - now)))
        if some
    ]
    what = "; ".join(changes) or "the same identities, with other images or cameras"
    raise UserError(
        f"the run was trained on {counted(len(before), 'identity')} in {counted(trained['images'], 'image')}, "
        "and the data now has "
        f"{len(now)} in {found['images']} ({what}): a run goes on with the data it began with. Restore it, or begin "
        "another run with --train.init_from"
    )


def _resolved(path: Path) -> bool:
    """Whether a settings file is as a run writes it, and not one that somebody keeps there."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = parse_yaml(text)
    except (OSError, ValueError, yaml.YAMLError):
        return False
    whole = isinstance(tree, dict) and {"method", "data", "protocol", "train", "evaluate"} <= set(tree)
    return whole and yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) == text


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


def _stays(line: str, resumed: dict) -> bool:
    """Whether the line is of what the resumed run has behind it; one cut short by a crash or a full disk is not."""
    try:
        tree = json.loads(line)
    except json.JSONDecodeError:
        return False
    now = resumed["epoch"], resumed["iteration"]
    if tree.get("kind") == "steps":
        return (tree["epoch"], tree["iteration"]) <= now
    return tree.get("epoch", now[0]) < now[0]
