"""The larger model that comes with the package: train it on rendered people from ImageNet's weights.

    python studies/base_model.py FOLDER --imagenet mobilenet_v2-b0353104.pth     renders, trains, scores
    python studies/base_model.py FOLDER --write                                  puts model and card into the package

The file is torchvision's ``mobilenet_v2`` (IMAGENET1K_V1), under whatever name. What is complete is not done again, and
a training that was stopped goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bundling
import styles
import torch

# Most steps on smaller images, which take half the time; the last ones on the size that the model is used with.
STAGES = (
    {"size": [96, 48], "epochs": 3, "lr": 0.03, "end": 0.4},
    {"size": [128, 64], "epochs": 1, "lr": 0.012, "end": 0.02},
)


def settings(folder: Path, stage: int = 0, imagenet: Path | None = None) -> dict:
    """MetaBIN's network and base step, with gates behind the narrow layers of the first stages."""
    chosen = STAGES[stage]
    schedule = {
        "name": "cosine",
        "unit": "iteration",
        "warmup": 0.2,
        "warmup_start": 0.05,
        "end": chosen["end"],
    }
    sgd = {"name": "sgd", "lr": chosen["lr"], "momentum": 0.9, "weight_decay": 5e-4, "schedule": schedule}
    gates = {"name": "sgd", "lr": 0.05, "momentum": 0, "weight_decay": 0, "schedule": {"name": "constant"}}
    return {
        "method": {
            "name": "metabin",
            "backbone": "mobilenet_v2_1.0",
            "pretrained": None if imagenet is None else str(imagenet),
            "pretrained_norms": ["batch_affine", "batch_statistics", "instance_affine"],
            "norm": "bin_early",
            "gate_init": "half",
            # Of directions alone: the usual triplet loss on features of any length pulls them all into one point here.
            "classifier": "cosine",
            "classifier_margin": 0.1,
            "classifier_scale": 24.0,
            "base_losses": ["cross_entropy", {"name": "triplet", "feature": "bn", "normalize": True}],
            "meta": False,
        },
        "data": {
            "name": "csv",
            "roots": {"csv": str(folder / "people.csv")},
            "size": chosen["size"],
            "padding": 6,
            "flip": 0.5,
            "grey": 0.1,
            "jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02},
            "loaders": {"train": {"sampler": "identity", "identities": 12, "instances": 4}},
            "workers": 0,
        },
        "protocol": {"name": "single_query", "source": "csv"},
        "train": {
            "epochs": chosen["epochs"],
            "init_from": str(folder / f"stage-{stage - 1}" / "last.pt") if stage else None,
            "optimizers": {"main": sgd, "gates": gates},
            "average": 0.995,
            "channels_last": True,
            "device": "cpu",
            "threads": 1,
            "save_minutes": 5,
        },
    }


CARD = Path(__file__).parent / "cards" / "base.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--imagenet", type=Path, help="torchvision's file of mobilenet_v2")
    parser.add_argument("--write", action="store_true", help="put model and card into the package")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = chosen.folder
    runs = [folder / f"stage-{stage}" for stage in range(len(STAGES))]
    if chosen.write:
        bundling.write(
            "base",
            runs[-1] / "last.pt",
            folder / "scores",
            CARD.read_text(encoding="utf-8"),
            **facts(folder, runs),
        )
        return
    if chosen.imagenet is None:
        parser.error("--imagenet is needed for training: the path of torchvision's mobilenet_v2 .pth")
    styles.render(folder)
    for stage, run in enumerate(runs):
        bundling.train(settings(folder, stage, chosen.imagenet.resolve()), run)
    styles.score(runs[-1] / "last.pt", folder, settings(folder, len(STAGES) - 1), folder / "scores")


def facts(folder: Path, runs: list[Path]) -> dict:
    with open(folder / "people.csv", encoding="utf-8") as table:
        images = sum(1 for _ in table) - 1
    stages = ", then ".join(
        f"{each['epochs']} epochs at {each['size'][0]} x {each['size'][1]}" for each in STAGES
    )
    return {"images": images, "domains": styles.DOMAINS, "stages": stages, "hours": bundling.hours(runs)}


if __name__ == "__main__":
    main()
