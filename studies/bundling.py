"""From a training on rendered people to what comes with the package: weights, thresholds, export, card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import styles
from study import markdown

from crossreid import checkpoint
from crossreid.bundled import MODELS
from crossreid.export.writing import export
from crossreid.files import replacing, write_json


def parser(words: str | None) -> argparse.ArgumentParser:
    """What the commands that train a bundled model have in common. words: what is said of them, their docstring."""
    made = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path)
    made.add_argument("--device", default="cpu", help="where to train: cpu, cuda, npu (default: %(default)s)")
    made.add_argument("--workers", type=int, default=0, help="processes that render (default: %(default)s)")
    made.add_argument("--write", action="store_true", help="put the model and its card into the package")
    return made


def write(name: str, runs: Sequence[Path], scores: Path, card: Path, exported: bool = False) -> None:
    """Put a model into the package.

    runs: where ``pairs.train`` has left it, after what it went on from. scores: the folder that ``styles.score`` has
    filled. card: the text of ``CARD.md``, in which what is known of the training is filled in. exported: bundle the
    ONNX form too.
    """
    place = MODELS[name]
    place.parent.mkdir(exist_ok=True)
    content = checkpoint.read(runs[-1] / "last.pt")
    # Matrices in float16; where ImageNet's weights lay is nobody else's business.
    content["weights"] = {
        key: value.half() if value.ndim > 1 else value for key, value in content["weights"].items()
    }
    content["config"]["pretrained"] = None
    content["settings"] = styles.settings(content, "csv", "").to_dict()
    content["settings"]["data"]["roots"] = {}
    checkpoint.save(place, content)
    found = styles.found(scores)
    points = [
        point | {"subset": styles.subset_of(evaluated, point["subset"])}
        for evaluated in found.values()
        for point in evaluated["operating_points"]
    ]
    evaluation = {"checkpoint": place.name, "protocol": {"provenance": "rendered identities"}}
    write_json(place.with_name("evaluation.json"), evaluation | {"operating_points": points})
    if exported:
        export(place, place.parent / "exported", overwrite=True)
    costs = [json.loads((run / "cost.json").read_text(encoding="utf-8")) for run in runs]
    head = [styles.LAYOUT_OF.strip(), "Rank-1", "Rank-10", "mAP", "colours: Rank-1", "Rank-10", "mAP"]
    used = sum(value.numel() for key, value in content["weights"].items() if not key.startswith("classifier"))
    text = card.read_text(encoding="utf-8").format(
        parameters=used / 1e6,
        mebibytes=place.stat().st_size / 2**20,
        hours=sum(cost["cpu_seconds"] for cost in costs) / 3600,
        steps=sum(cost["steps"] for cost in costs),
        domains=styles.DOMAINS,
        table="\n".join(markdown(head, styles.rows(found))).strip(),
        **content["trained"],
    )
    with replacing(place.with_name("CARD.md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {place} ({place.stat().st_size / 2**20:.1f} MiB) and its card")
