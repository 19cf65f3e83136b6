"""The first run: render people, train, evaluate by the real protocols, write the page, export, index, search.

Nothing is downloaded."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from crossreid import config, data, evaluation, synthetic, training
from crossreid.embedder import Embedder
from crossreid.export.writing import export
from crossreid.gallery import Filter, Gallery, lists
from crossreid.gallery.indexing import fill, of_images
from crossreid.images.decode import decode
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
                "backbone_lr_factor": 1.0,
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
                        "name": "adam",
                        "lr": 0.003,
                        "weight_decay": 5e-4,
                        "schedule": {"name": "cosine", "unit": "iteration", "warmup": 1, "end": 0.01},
                    }
                },
                "device": device,
                "seed": seed,
            },
            "evaluate": {"baseline": True, "features": True},
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

    if quick:
        print("(so short a training finds nobody; it shows that everything works)")
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
            "protocol": {"name": "single_query"},
        }
    )
    unseen = folder / "unseen-place"
    (unseen / "config.yaml").write_text(other.to_yaml(), encoding="utf-8")
    evaluation.evaluate(folder / "run" / "last.pt", settings=other, out=unseen)
    page = write([folder / "run"], folder / "run" / "report.html")
    write([unseen], unseen / "report.html")
    _use(folder, people)
    print(
        f"\n{time.monotonic() - started:.0f} s on {torch.get_num_threads()} threads. The report: {page.resolve()}\n"
        f"Next: crossreid train --help, crossreid data list, and docs/howto/own-data.md for images of your own."
    )
    return page


def _use(folder: Path, people: Path) -> None:
    """Export the model, put the visible images of the test people into a gallery, and look for one of them in the
    images of the other cameras."""
    model, where = folder / "run" / "last.pt", folder / "gallery"
    print("\nThe trained model put to use:")
    if _installed("onnx", "onnxscript", "onnxruntime"):
        model = export(model, folder / "exported")
    else:
        print("(no export: it needs the extra `export`, pip install 'crossreid[export]')")
    embedder = Embedder(model)
    splits = data.read("sysu_mm01", people)
    kept = _installed("lancedb")
    with Gallery.create(
        where if kept else None,
        dimension=embedder.dimension,
        fingerprint=embedder.fingerprint,
        model=embedder.name,
    ) as gallery:
        added = fill(gallery, embedder, of_images({"gallery": splits["gallery"]})).new
        query = splits["gallery"][0]
        others = {str(image.camera) for image in splits["gallery"]} - {str(query.camera)}
        (hits,) = gallery.search(embedder(query), top=10, filter=Filter(cameras=tuple(sorted(others))))
        page = folder / "search.html"
        lists.write_html(page, str(query.path), decode(query.path), query.modality, hits, gallery)
    right = sum(hit.entry.identity == str(query.identity) for hit in hits)
    print(
        f"a gallery of {added} visible images; identity {query.identity} as camera {query.camera} saw it, searched "
        f"among the other cameras: {right} of the nearest {len(hits)} are right"
    )
    print(lists.hit_table(hits))
    print(f"the same list with its images: {page.resolve()}")
    if kept:
        print(f"Search it yourself: crossreid serve {model} --gallery {where.resolve()}")
    else:
        print("(the gallery was in memory: the extra `search` keeps it, pip install 'crossreid[search]')")


def _installed(*packages: str) -> bool:
    return all(find_spec(package) for package in packages)
