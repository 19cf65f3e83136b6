"""Synthetic people: how fast they are rendered, and how well they are told apart without learning.

    python benchmarks/synthetic.py speed        images a second on one core, by layout and for styles drawn at
                                                random, JPEG or PNG included
    python benchmarks/synthetic.py people [CHECKPOINT]
                                                the table of docs/reference/synthetic.md, with the network that
                                                `crossreid demo` trains: crossreid-demo/run/last.pt

None of the people scored is in a training set of fewer than 10 000 identities. Rank-1 and mean average precision
follow the rule of Market-1501: images of the query's own identity and camera are excluded.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from crossreid.evaluation.baselines import raw_pixels, striped_histogram
from crossreid.records import INFRARED
from crossreid.synthetic import LAYOUTS, camera, person, render
from crossreid.synthetic.rendering import moment
from crossreid.synthetic.writing import encode

BASELINES = {"raw pixels": raw_pixels, "striped colour histogram": striped_histogram}


def speed(images: int = 200) -> None:
    """Processor time of one core, after a few images that fill the caches as a long run does."""
    print(f"{'layout':12s} {'images/s':>9s}")
    plans = {name: (layout, name) for name, layout in LAYOUTS.items()}
    plans |= {f"style {number}": (LAYOUTS["csv"], number) for number in range(4)}
    for name, (layout, domain) in plans.items():
        crops = layout(40, None, 0).images
        chosen = [crops[place * len(crops) // images] for place in range(images)]
        for number in {(image.camera, image.modality, image.place): image for image in chosen}.values():
            encode(number, 0, domain)
        started = time.process_time()
        for image in chosen:
            encode(image, 0, domain)
        print(f"{name:12s} {images / (time.process_time() - started):9.0f}", flush=True)


def crops(domain: str, cameras, identities, each: int = 3):
    """(images, identities, cameras) of a small test set."""
    keys = [(who, what, index) for who in identities for what in cameras for index in range(each)]
    images = np.stack([render(person(who, 0, domain), what, moment(who, index)) for who, what, index in keys])
    return images, np.array([who for who, _, _ in keys]), np.array([what.number for _, what, _ in keys])


def score(queries, gallery) -> tuple[float, float]:
    """Rank-1 and mean average precision in percent, for (vectors, identities, cameras) twice."""
    hits, precisions = [], []
    likeness = queries[0] @ gallery[0].T
    for row, identity, number in zip(likeness, *queries[1:]):
        kept = (gallery[1] != identity) | (gallery[2] != number)
        matches = gallery[1][kept][np.argsort(-row[kept], kind="stable")] == identity
        found = np.cumsum(matches) / np.arange(1, len(matches) + 1)
        hits.append(matches[0])
        precisions.append(found[matches].mean())
    return 100 * float(np.mean(hits)), 100 * float(np.mean(precisions))


def network(checkpoint: str):
    """The vectors of a trained model as a function of images and of which are infrared."""
    import torch

    from crossreid import load
    from crossreid.data.on_device import normalise
    from crossreid.data.settings import DataConfig
    from crossreid.data.transforms import resized

    model = load(checkpoint)
    inputs = DataConfig(size=model.input["size"], interpolation=model.input["interpolation"])

    def describe(images: np.ndarray, infrared: bool) -> np.ndarray:
        with torch.inference_mode():
            parts = [
                model.embed(
                    normalise(resized(list(part), inputs), inputs),
                    modality="infrared" if infrared else "visible",
                ).feature
                for part in np.array_split(images, max(1, len(images) // 64))
            ]
        return torch.nn.functional.normalize(torch.cat(parts)).numpy()

    return describe


def people(checkpoint: str | None = None, identities: int = 50) -> None:
    """Same modality, infrared to visible, and places that a network trained on sysu_mm01 has not seen."""
    ways = {name: lambda images, infrared, way=way: way(images) for name, way in BASELINES.items()}
    if checkpoint:
        ways["trained network"] = network(checkpoint)
    who = range(10_001, 10_001 + identities)
    rows = {}
    for domain in ("market1501", "grid"):
        found = crops(domain, [camera(n, 0, domain) for n in range(1, 5)], who)
        rows[f"unseen domain: {domain}"] = found, found
    domain = "sysu_mm01"
    seen = crops(domain, [camera(n, 0, domain) for n in (1, 2, 4, 5)], who)
    night = [camera(3, 0, domain, INFRARED, 2), camera(6, 0, domain, INFRARED)]
    rows[f"same modality: {domain}, visible"] = seen, seen
    rows[f"infrared to visible: {domain}"] = crops(domain, night, who), seen
    print(f"{'':40s}" + "".join(f"{name:>28s}" for name in ways))
    for title, (queries, gallery) in rows.items():
        infrared = title.startswith("infrared")
        scores = [
            score((describe(queries[0], infrared), *queries[1:]), (describe(gallery[0], False), *gallery[1:]))
            for describe in ways.values()
        ]
        print(f"{title:40s}" + "".join(f"{rank:20.1f} / {mean:5.1f}" for rank, mean in scores), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "people"))
    parser.add_argument("checkpoint", nargs="?", help="of a model trained on the synthetic SYSU-MM01")
    chosen = parser.parse_args()
    speed() if chosen.what == "speed" else people(chosen.checkpoint)
