"""The first run: render people, train, evaluate by the real protocols, and write the page. Nothing is downloaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from crossreid import config, evaluation, synthetic, training
from crossreid.records import UserError
from crossreid.report import write


def settings(folder: Path, *, seed: int = 0, quick: bool = False, device: str = "cpu") -> config.Settings:
    """A small AGW on rendered people in SYSU-MM01's layout; sized for two CPU cores."""
    return config.resolve(
        {
            "method": {
                "name": "agw",
                "backbone": "tiny",
                "pretrained": None,
                "loss": "hard",
                "smoothing": 0.1,
                "backbone_rate": 1.0,
            },
            "data": {
                "name": "sysu_mm01",
                "roots": {"sysu_mm01": str(folder / "visible-infrared")},
                "size": [96, 48],
                "flip": 0.5,
                "padding": 6,
                # Colour says nothing about infrared, so a network that leans on it finds nobody there.
                "grey": 0.5,
                "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.3, "hue": 0.1},
                "loaders": {"train": {"sampler": "cross_modal", "identities": 16, "instances": 2}},
                "workers": 1,
            },
            "protocol": {"name": "sysu_mm01", "mode": "all"},
            "train": {
                "epochs": 2 if quick else 18,
                "optimizers": {
                    "main": {
                        "kind": "adam",
                        "rate": 0.003,
                        "weight_decay": 5e-4,
                        "schedule": {"kind": "cosine", "by": "iteration", "warmup": 1, "end": 0.01},
                    }
                },
                "device": device,
                "seed": seed,
            },
            "evaluate": {"baseline": True},
        }
    )


def run(folder: Path, *, seed: int = 0, quick: bool = False, device: str = "cpu") -> Path:
    """Do all of it below ``folder`` and return the report. Rendering is skipped where it was done before."""
    folder, started = Path(folder), time.monotonic()
    if (folder / "run").exists():
        raise UserError(
            f"{folder / 'run'} exists already: look at {folder / 'run' / 'report.html'}, remove the folder, or choose "
            "another with --folder"
        )
    cores = os.cpu_count() or 1
    people, elsewhere = folder / "visible-infrared", folder / "unseen-place" / "people"
    if not people.exists():
        count, each = (40, 2) if quick else (300, 4)
        synthetic.write("sysu_mm01", people, identities=count, images=each, seed=seed, workers=cores)
    if not elsewhere.exists():
        synthetic.write("folder", elsewhere, identities=20 if quick else 60, seed=seed + 1, workers=cores)
    chosen = settings(folder, seed=seed, quick=quick, device=device)
    training.train(chosen, folder / "run")

    print("\nThe same model in a place it was never trained on (four visible cameras, other people):")
    other = config.resolve(
        chosen.to_dict()
        | {
            "data": chosen.to_dict()["data"]
            | {
                "name": "folder",
                "roots": {"folder": str(elsewhere)},
                "settings": {"pattern": r"(?P<identity>\d+)/c(?P<camera>\d+)", "train_share": 0.0},
            },
            "protocol": {"name": "market1501"},
        }
    )
    unseen = folder / "unseen-place"
    (unseen / "config.yaml").write_text(other.to_yaml(), encoding="utf-8")
    evaluation.evaluate(folder / "run" / "last.pt", settings=other, out=unseen)
    page = write([folder / "run"], folder / "run" / "report.html")
    write([unseen], unseen / "report.html")
    print(
        f"\n{time.monotonic() - started:.0f} s on {torch.get_num_threads()} threads. The report: {page.resolve()}\n"
        f"Next: crossreid train --help, crossreid data list, and docs/own-data.md for pictures of your own."
    )
    return page
