"""From a training on rendered people to what comes with the package: weights, thresholds, card."""

from __future__ import annotations

import json
import time
from pathlib import Path

import styles
import torch
from study import markdown

from crossreid import checkpoint, config, training
from crossreid.bundled import MODELS
from crossreid.files import replacing, write_json


def write(name: str, trained: Path, scores: Path, card: str, **facts) -> None:
    """Put a model into the package.

    trained: its checkpoint. scores: the folder that ``styles.score`` has filled. card: the text of ``CARD.md``, in
    which ``facts`` and what is known of the network are filled in.
    """
    place = MODELS[name]
    place.parent.mkdir(exist_ok=True)
    content = checkpoint.read(trained)
    steps, classes = content.pop("training")["steps"], content["classes"]
    pack(content)
    checkpoint.save(place, content)
    found = styles.found(scores)
    points = [
        point | {"subset": styles.subset_of(evaluated, point["subset"])}
        for evaluated in found.values()
        for point in evaluated["operating_points"]
    ]
    evaluation = {"checkpoint": place.name, "protocol": {"provenance": "rendered identities"}}
    write_json(place.with_name("evaluation.json"), evaluation | {"operating_points": points})
    head = [styles.LAYOUT_OF.strip(), "Rank-1", "Rank-10", "mAP", "colours: Rank-1", "Rank-10", "mAP"]
    used = sum(value.numel() for key, value in content["weights"].items() if not key.startswith("classifier"))
    given = {
        "parameters": used / 1e6,
        "classes": classes,
        "steps": steps,
        "mebibytes": place.stat().st_size / 2**20,
        "table": "\n".join(markdown(head, styles.rows(found))).strip(),
    }
    with replacing(place.with_name("CARD.md")) as temporary:
        temporary.write_text(card.format(**given | facts), encoding="utf-8")
    print(f"wrote {place} ({given['mebibytes']:.1f} MiB) and its card")


def pack(content: dict) -> None:
    """Leave out of a checkpoint what only training needs, and halve the rest: the classifier knows nobody but those
    whom it was trained on, and matrices are kept in float16. Where images lay is nobody else's business."""
    weights = {
        key: value.half() if value.ndim > 1 else value
        for key, value in content["weights"].items()
        if not key.startswith("classifier")
    }
    weights |= {
        key: torch.zeros_like(value[:1], dtype=torch.float16)
        for key, value in content["weights"].items()
        if key.startswith("classifier")
    }
    content["weights"], content["classes"] = weights, 1
    content["settings"]["data"]["roots"] = {}
    content["settings"]["train"]["init_from"] = None
    content["settings"]["method"]["pretrained"] = None
    content["config"]["pretrained"] = None


def train(tree: dict, run: Path) -> None:
    """Train, or go on where a training was stopped, and add the processor seconds to ``cost.json``."""
    started = time.process_time()
    training.train(config.resolve(tree), run, resume=(run / "last.pt").exists(), evaluate=False)
    write_json(run / "cost.json", {"cpu_seconds": _seconds(run) + time.process_time() - started})


def hours(runs: list[Path]) -> float:
    """Processor hours of trainings."""
    return sum(map(_seconds, runs)) / 3600


def _seconds(run: Path) -> float:
    note = run / "cost.json"
    return json.loads(note.read_text(encoding="utf-8"))["cpu_seconds"] if note.exists() else 0.0
