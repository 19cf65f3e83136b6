"""The model that comes with the package: train it on rendered people, and write its card from what it scores.

    python studies/small_model.py FOLDER            renders, trains, scores (an hour on one core)
    python studies/small_model.py FOLDER --write    puts model and card into the package

Forty domains are drawn at random; none of them has the style of a data set's name, and those styles, with people of
their own, are what it is scored on.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import torch

from crossreid import checkpoint, config, data, evaluation, synthetic, training
from crossreid.data.writing import replacing
from crossreid.protocols import PROTOCOLS

DOMAINS, IDENTITIES, IMAGES = 40, 80, 2
# Layout -> rows of its evaluation; 60 people to find in each.
TESTS = {"sysu_mm01": 300, "regdb": 120, "llcm": 180, "market1501": 120, "dukemtmc": 120, "msmt17": 90}
PACKAGE = Path(__file__).resolve().parent.parent / "crossreid" / "small"


def settings(folder: Path) -> dict:
    """MetaBIN's network and base step; one network, with gates, for visible and infrared."""
    schedule = {"kind": "cosine", "by": "iteration", "warmup": 1, "warmup_start": 0.01, "end": 0.01}
    sgd = {"kind": "sgd", "rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": schedule}
    gates = {"kind": "sgd", "rate": 0.1, "momentum": 0, "weight_decay": 0, "schedule": {"kind": "constant"}}
    return {
        "method": {"name": "metabin", "backbone": "tiny", "pretrained": None, "norm": "bin", "meta": False},
        "data": {
            "name": "csv",
            "roots": {"csv": str(folder / "people.csv")},
            "size": [96, 48],
            "padding": 6,
            "flip": 0.5,
            "grey": 0.3,
            "jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05},
            "loaders": {"train": {"sampler": "identity", "identities": 12, "instances": 5}},
        },
        "protocol": {"name": "market1501", "source": "csv"},
        "train": {
            "epochs": EPOCHS,
            "optimizers": {"main": sgd, "gates": gates},
            "device": "cpu",
            "threads": 1,
        },
    }


EPOCHS = 12


def render(folder: Path) -> None:
    """The people to learn from, in one table, and the copies to be scored on."""
    for domain in range(DOMAINS):
        if not (folder / "people" / str(domain)).exists():
            where = folder / "people" / str(domain)
            synthetic.write(
                "sysu_mm01", where, identities=IDENTITIES, images=IMAGES, domain=domain, seed=1000 + domain
            )
    for layout, identities in TESTS.items():
        if not (folder / "tests" / layout).exists():
            synthetic.write(layout, folder / "tests" / layout, identities=identities, images=3, seed=7)
    if not (folder / "people.csv").exists():
        with replacing(folder / "people.csv") as temporary, open(temporary, "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "identity", "camera", "modality", "split"])
            for domain in range(DOMAINS):
                root = folder / "people" / str(domain)
                everyone = [image for split in data.read("sysu_mm01", root).values() for image in split]
                for image in sorted(set(everyone), key=lambda image: image.path):
                    person, camera = f"{domain}-{image.identity}", f"{domain}-{image.camera}"
                    table.writerow([image.path.relative_to(folder), person, camera, image.modality, "train"])


def score(folder: Path) -> dict[str, dict]:
    """Rows of the results by layout."""
    found = {}
    for layout in TESTS:
        tree = settings(folder)
        protocol = layout if layout in PROTOCOLS else "market1501"
        tree["data"] |= {"name": layout, "roots": {layout: str(folder / "tests" / layout)}}
        tree["data"]["fold"] = 1 if layout == "regdb" else None
        tree["protocol"] = {"name": protocol} | ({"source": layout} if protocol == "market1501" else {})
        tree["evaluate"] = {"baseline": True}
        out = folder / "scores" / layout
        out.mkdir(parents=True, exist_ok=True)
        evaluation.evaluate(folder / "run" / "last.pt", settings=config.resolve(tree), out=out)
        found[layout] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="put model and card into the package")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    render(chosen.folder)
    run = chosen.folder / "run"
    if not (run / "best.pt").exists():
        training.train(
            config.resolve(settings(chosen.folder)), run, resume=(run / "last.pt").exists(), evaluate=False
        )
    print(score(chosen.folder).keys(), time.asctime(), checkpoint)


if __name__ == "__main__":
    main()
