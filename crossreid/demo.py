"""The first run: render people, train, evaluate by the real protocols, write the page, export, index, search.

Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from crossreid import config, data, evaluation, synthetic, training
from crossreid.data.source import MARK
from crossreid.embedder import Embedder
from crossreid.export.writing import export
from crossreid.files import write_whole
from crossreid.formats.text import read_json
from crossreid.gallery import Filter, Gallery, lists
from crossreid.gallery.indexing import fill, of_images
from crossreid.images.decode import decode
from crossreid.protocols.results import sentence
from crossreid.records import UserError, pip_install
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
    """Do all of it below ``folder`` and return the report. What an interrupted call has done is not done again.

    Raises UserError where the folder holds a demo of other settings.
    """
    folder, started = Path(folder), time.monotonic()
    chosen = settings(folder, seed=seed, quick=quick, device=device)
    pages = {
        "the report": folder / "run" / "report.html",
        "the search": folder / "search.html",
        "the unseen place": folder / "unseen-place" / "report.html",
    }
    count, each = (40, 2) if quick else (300, 4)
    people, elsewhere = folder / "visible-infrared", folder / "unseen-place" / "people"
    _refuse_other(folder, chosen, people, {"seed": seed, "identities": count})
    if all(page.exists() for page in pages.values()):
        print(f"The demo in {folder} is complete; remove the folder to have it made again.")
        return _show(folder, pages)
    print(
        f"Everything is written into {folder.resolve()}, and nothing is downloaded:\n"
        f"  1  render {count + (20 if quick else 60)} identities in two places\n"
        f"  2  train a small AGW on one of them, visible and infrared, for {chosen.train.epochs} epochs\n"
        "  3  evaluate it by the protocol of SYSU-MM01 and in the other place, which it never saw\n"
        "  4  export it, fill a gallery and search there\n"
        "  5  write the pages\n"
        f"In all {'about a minute' if quick else 'about five minutes, most of them for 2,'} on two idle CPU cores. "
        "Stopped by Ctrl-C, the same command goes on."
    )
    cores = os.cpu_count() or 1
    print("\n1  rendering")
    if not people.exists():
        synthetic.write("sysu_mm01", people, identities=count, images=each, seed=seed, workers=cores)
    if not elsewhere.exists():
        synthetic.write("folder", elsewhere, identities=20 if quick else 60, seed=seed + 1, workers=cores)
    print("\n2  training, then 3  evaluation")
    if not (folder / "run" / "evaluation.json").exists():
        training.train(chosen, folder / "run", resume=(folder / "run" / "last.pt").exists())
    if quick:
        print("(so short a training finds nobody; it shows that everything works)")
    print("\nThe same model in a place it was never trained on (four visible cameras, other identities):")
    _evaluate_elsewhere(folder, chosen, elsewhere)
    print("\n4  the trained model exported, and a search with the model base")
    found = _use(folder, people)
    print("\n5  writing the pages")
    links = {f"A search with the model base, which comes along: {found}": "../search.html"}
    unseen = {"The same model in a place it never saw": "../unseen-place/report.html"}
    write([folder / "unseen-place"], pages["the unseen place"], links={"The report": "../run/report.html"})
    write([folder / "run"], pages["the report"], links=links | unseen)
    print(f"\n{time.monotonic() - started:.0f} s on {torch.get_num_threads()} threads.")
    return _show(folder, pages)


def _refuse_other(folder: Path, chosen: config.Settings, people: Path, rendered: dict) -> None:
    """Raise UserError where the folder holds a demo of other options, which this one would go on with."""
    found = people / MARK
    kept = read_json(found, "what a rendered data set says of itself was expected") if found.exists() else {}
    before = folder / "run" / "config.yaml"
    settings = config.load(before) if before.exists() else chosen
    ours, theirs = (tree.to_dict()["train"] for tree in (chosen, settings))
    if any(kept.get(name, value) != value for name, value in rendered.items()) or ours != theirs:
        raise UserError(
            f"{folder} holds a demo with other options (--seed, --quick or --device): give the same to go on with it, "
            "remove the folder, or choose another with --folder"
        )


def _evaluate_elsewhere(folder: Path, chosen: config.Settings, elsewhere: Path) -> None:
    unseen = folder / "unseen-place"
    if (unseen / "evaluation.json").exists():
        return
    tree = chosen.to_dict()
    place = {
        "name": "folder",
        "roots": {"folder": str(elsewhere)},
        "settings": {"pattern": r"(?P<identity>\d+)/c(?P<camera>\d+)", "train_share": 0.0},
    }
    other = config.resolve(tree | {"data": tree["data"] | place, "protocol": {"name": "single_query"}})
    write_whole(unseen / "config.yaml", other.to_yaml().encode())
    evaluation.evaluate(folder / "run" / "last.pt", settings=other, out=unseen)


def _use(folder: Path, people: Path) -> str:
    """Export the model; put the visible images of the test identities into a gallery by the model that comes along, and
    look for one of them in the images of the other cameras. Returns what was found, in words."""
    where = folder / "gallery"
    if _installed("onnx", "onnxscript", "onnxruntime"):
        export(folder / "run" / "last.pt", folder / "exported", overwrite=True)
    else:
        print(f"(no export, which needs more packages: {pip_install('export')})")
    # The network that was trained for minutes knows one rendered place; the one that comes along, a hundred.
    embedder = Embedder("base")
    splits = data.read("sysu_mm01", people)
    kept = _installed("lancedb")
    if where.exists():  # of a demo that was stopped here
        shutil.rmtree(where)
    with Gallery.create(
        where if kept else None,
        dimension=embedder.dimension,
        fingerprint=embedder.fingerprint,
        model=embedder.name,
    ) as gallery:
        added = fill(gallery, embedder, of_images({"gallery": splits["gallery"]}), root=people).new
        query = splits["gallery"][0]
        others = {str(image.camera) for image in splits["gallery"]} - {str(query.camera)}
        (hits,) = gallery.search(embedder(query), top=10, filter=Filter(cameras=tuple(sorted(others))))
        right = sum(hit.entry.identity == str(query.identity) for hit in hits)
        found = f"{right} of {len(hits)} are right"
        lists.write_html(
            folder / "search.html",
            f"Rendered identity {query.identity}, as camera {query.camera} saw it, in the other visible cameras",
            decode(query.path),
            query.modality,
            hits,
            gallery,
            identity=str(query.identity),
            links={"The report of the model that was trained": "run/report.html"},
        )
    print(
        f"a gallery of {added} visible images; identity {query.identity} as camera {query.camera} saw it, searched "
        f"among the other cameras: {found}"
    )
    print(lists.hit_table(hits))
    if kept:
        print(f"Search it yourself: crossreid serve base --gallery {where}")
    else:
        print(f"(the gallery was in memory; to keep it: {pip_install('search')})")
    return found


def _show(folder: Path, pages: dict[str, Path]) -> Path:
    """Say where the pages are, and what was measured."""
    for name, place in (("the place it was trained on", "run"), ("a place it never saw", "unseen-place")):
        content = read_json(folder / place / "evaluation.json", "an evaluation was expected")
        for row in content["rows"]:
            numbers = {"rank1": row["cmc"][0], "mean_ap": row["mean_ap"], "mean_inp": row["mean_inp"]}
            print(f"{name}: {sentence(row['subset'], numbers)}")
    for name, page in pages.items():
        print(f"{name + ':':<18}{page.resolve().as_uri()}")
    print(
        "Next: crossreid train --help, crossreid data list, and docs/howto/own-data.md for images of your own."
    )
    return pages["the report"]


def _installed(*packages: str) -> bool:
    return all(find_spec(package) for package in packages)
