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
from pathlib import Path

import torch
from study import markdown

import crossreid
from crossreid import checkpoint, config, data, evaluation, synthetic, training
from crossreid.bundled import EXPORTED, SMALL
from crossreid.data.provenance import LAYOUT_OF
from crossreid.export.writing import export
from crossreid.files import replacing, write_json
from crossreid.protocols import PROTOCOLS

DOMAINS, IDENTITIES, IMAGES = 40, 80, 2
# Layout -> people rendered; 60 of them to find.
TESTS = {"sysu_mm01": 300, "regdb": 120, "llcm": 180, "market1501": 120, "dukemtmc": 120, "msmt17": 90}


# First any images of a person together, then as many infrared as visible ones, from the rate of the beginning again.
STAGES = (
    {"epochs": 12, "sampler": "identity", "identities": 12, "instances": 5},
    {"epochs": 16, "sampler": "cross_modal", "identities": 15, "instances": 2},
)


def settings(folder: Path, stage: int = 0) -> dict:
    """MetaBIN's network and base step; one network, with gates, for visible and infrared."""
    schedule = {"name": "cosine", "unit": "iteration", "warmup": 1, "warmup_start": 0.01, "end": 0.01}
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": schedule}
    gates = {"name": "sgd", "lr": 0.1, "momentum": 0, "weight_decay": 0, "schedule": {"name": "constant"}}
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
            "loaders": {"train": {key: value for key, value in STAGES[stage].items() if key != "epochs"}},
            "workers": 0,
        },
        "protocol": {"name": "single_query", "source": "csv"},
        "train": {
            "epochs": STAGES[stage]["epochs"],
            "init_from": str(folder / f"stage-{stage - 1}" / "last.pt") if stage else None,
            "optimizers": {"main": sgd, "gates": gates},
            "device": "cpu",
            "threads": 1,
        },
    }


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


def trained(folder: Path) -> Path:
    return folder / f"stage-{len(STAGES) - 1}" / "last.pt"


def score(folder: Path) -> None:
    """Evaluate on each of the test copies."""
    for layout in TESTS:
        tree = settings(folder)
        protocol = layout if layout in PROTOCOLS else "single_query"
        tree["data"] |= {"name": layout, "roots": {layout: str(folder / "tests" / layout)}}
        tree["data"]["fold"] = 1 if layout == "regdb" else None
        tree["protocol"] = {"name": protocol} | ({"source": layout} if protocol == "single_query" else {})
        tree["evaluate"] = {"baseline": True}
        out = folder / "scores" / layout
        out.mkdir(parents=True, exist_ok=True)
        evaluation.evaluate(trained(folder), settings=config.resolve(tree), out=out)


def write(folder: Path) -> None:
    """The weights without what only resuming needs, and the card."""
    found = {
        layout: json.loads((folder / "scores" / layout / "evaluation.json").read_text(encoding="utf-8"))
        for layout in TESTS
    }
    content = checkpoint.read(trained(folder))
    content.pop("training")
    # Where people lay when it was trained is nobody else's business.
    content["settings"]["data"]["roots"] = {}
    content["settings"]["train"]["init_from"] = None
    checkpoint.save(SMALL, content)
    points = [
        point | {"subset": subset_of(evaluated, point["subset"])}
        for evaluated in found.values()
        for point in evaluated["operating_points"]
    ]
    content = {"checkpoint": SMALL.name, "protocol": {"provenance": "rendered identities"}}
    write_json(SMALL.with_name("evaluation.json"), content | {"operating_points": points})
    export(SMALL, EXPORTED, overwrite=True)
    with replacing(SMALL.with_name("CARD.md")) as temporary:
        temporary.write_text(card(folder, found), encoding="utf-8")
    print(f"wrote {SMALL} ({SMALL.stat().st_size / 2**20:.1f} MiB) and CARD.md")


def subset_of(evaluated: dict, subset: str) -> str:
    """What a subset of one of these evaluations is called beside those of the others."""
    called = evaluated["protocol"]["provenance"]
    return called if subset == called else f"{called}, {subset}"


CARD = """# small

The model that comes with crossreid, so that embed, compare, index, search, export and serve work before anyone has
trained anything. **It has only ever seen rendered people and knows no real ones: it is of no use on images of
persons.** Train or convert a model for that.

| | |
|---|---|
| network | MetaBIN's, small: gates between batch and instance normalisation; {parameters:.2f} million parameters |
| input | 96 x 48 pixels, visible or infrared, the two not told apart |
| output | {dimension} numbers, of unit length |
| trained on | {classes} people in {domains} rendered domains, each of four visible and two infrared cameras |
| training | {images} images; {steps} steps of 60 from random weights, the base step alone, on one CPU core |
| made by | `python studies/small_model.py FOLDER`, then the same with `--write` |
| code | Apache-2.0 |
| weights | Apache-2.0 |
| training data | rendered by `crossreid.synthetic`; nobody is shown |

## What it scores on rendered identities it has never seen

Each layout has a style that none of the training domains has, and people of its own. Percent, *measured here*; beside
them the striped colour histogram, which learns nothing.

{table}
"""


def card(folder: Path, found: dict[str, dict]) -> str:
    rows = []
    for evaluated in found.values():
        colours = {line["subset"]: line for line in evaluated["baselines"][0]["rows"]}
        for line in evaluated["rows"]:
            name = subset_of(evaluated, line["subset"]).removeprefix(LAYOUT_OF)
            rows.append([name, *_percent(line), *_percent(colours[line["subset"]])])
    head = [LAYOUT_OF.strip(), "Rank-1", "Rank-10", "mAP", "colours: Rank-1", "Rank-10", "mAP"]
    model = crossreid.Embedder(SMALL)
    network = checkpoint.load(SMALL)
    used = [value for name, value in network.named_parameters() if not name.startswith("classifier")]
    return CARD.format(
        parameters=sum(value.numel() for value in used) / 1e6,
        dimension=model.dimension,
        classes=network.classes,
        domains=DOMAINS,
        images=len(data.read("csv", folder / "people.csv")["train"]),
        steps=sum(checkpoint.read(path)["training"]["steps"] for path in folder.glob("stage-*/last.pt")),
        table="\n".join(markdown(head, rows)).strip(),
    )


def _percent(line: dict) -> list[str]:
    return [
        f"{100 * value:.1f}"
        for value in (line["cmc"][0], line["cmc"][min(10, len(line["cmc"])) - 1], line["mean_ap"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="put model and card into the package")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.write:
        write(chosen.folder)
        return
    render(chosen.folder)
    for stage in range(len(STAGES)):
        run, chosen_settings = (
            chosen.folder / f"stage-{stage}",
            config.resolve(settings(chosen.folder, stage)),
        )
        training.train(chosen_settings, run, resume=(run / "last.pt").exists(), evaluate=False)
    score(chosen.folder)


if __name__ == "__main__":
    main()
