"""The questions of two studies again, from ImageNet's weights: DDAG's attentions, and MetaBIN's meta step."""

from __future__ import annotations

from pathlib import Path

import unseen_domains
import visible_infrared
from base_model import EARLY
from study import Scores, Study, main, markdown, spread

from crossreid import data, synthetic

ACROSS = {
    "AGW": {"name": "agw", "attention": False},
    **{name: method for name, method in visible_infrared.METHODS.items() if name.startswith("DDAG")},
    "MVD": {"name": "mvd"},
}
GATES = {
    "BN": {"norm": "bn", "meta": False},
    "gates, no meta step": EARLY | {"meta": False},
    "MetaBIN, first order": EARLY,
    "MetaBIN, second order": EARLY | {"second_order": True},
}
# Layout on disk -> style of what is rendered.
DOMAINS = unseen_domains.DOMAINS | {"occluded_duke": "viper"}
TITLES = unseen_domains.TITLES | {"occluded_duke": "sun"}
IDENTITIES = unseen_domains.IDENTITIES | {"occluded_duke": 240}
# Unseen domain, words behind a training's name, how many times as long it is.
WAYS = (("msmt17", "", 1), ("occluded_duke", "", 1), ("msmt17", ", three times as long", 3))
PEOPLE, IMAGES = 300, 4
# About 150 steps.
EPOCHS = {"across": 5, "gates": 1}
LR = 2e-3
SCHEDULE = {"name": "cosine", "unit": "iteration", "warmup_start": 0.01, "end": 0.01}


CONCLUSION = """
At most 330 steps, and 969 in the last table, where the publications have tens of thousands: the tables say what was
run, and the order after a long training stays open.

In the unseen domain the gates score above batch normalisation in both ways of leaving a domain out, by four and by two
points of mAP, and by eight after three times as many steps. They are in the early layers alone, with ImageNet's affine
pairs and begun at one half; in every layer, without those pairs and begun at one, they were far behind batch
normalisation (one seed, an earlier form of this study). The meta step adds little: in the short trainings nothing in
first order, and in second order nearly two points in one domain and none in the other; after three times as many steps
two points in first order and none in second, which is within the spread over seeds. It changes the gates alone, so that
the other weights have had as many steps without it; in second order it takes four to five times the computing time.

Across modalities the published order appears: AGW, DDAG, MVD. MVD, with three networks and three times the computing
time, is six points of mAP above DDAG. Part attention adds a point to DDAG, about the spread over seeds; graph attention
adds nothing, alone or beside it. The three come in the same order [from random weights](visible-infrared.md).
"""


def build(folder: Path) -> Study:
    """DDAG's attentions and MetaBIN's meta step from ImageNet's weights: FOLDER/mobilenet_v2.pth, torchvision's."""
    across = {f"{name}, across": across_settings(folder, method) for name, method in ACROSS.items()}
    gates = {
        f"{name} without {TITLES[unseen]}{longer}": gates_settings(folder, unseen, method, times)
        for unseen, longer, times in WAYS
        for name, method in GATES.items()
    }
    return Study(
        "from-imagenet",
        "From ImageNet's weights",
        """
MobileNetV2 from torchvision's ImageNet weights under every method (MVD has three), images of 64 x 32, 32 a step.
Across modalities: a rendered copy of SYSU-MM01, 240 people to learn from and 60 to find, a first layer for each
modality under AGW and DDAG; AGW without its attention, for which the network has no place. Unseen domains: five
rendered domains, four to learn from and one that is never seen, in two of the five ways of leaving one out; gates in
the early layers, begun at one half, with ImageNet's affine pairs in both branches. The meta step comes on top of the
base steps, as often, and is counted.
""",
        prepare,
        across | gates,
        lambda name: {"test": {}},
        tables,
        conclusion=CONCLUSION,
    )


def prepare(folder: Path) -> None:
    if not (folder / "mobilenet_v2.pth").exists():
        raise SystemExit(f"copy torchvision's mobilenet_v2 .pth to {folder / 'mobilenet_v2.pth'} first")
    if not (folder / "sysu_mm01").exists():
        synthetic.write("sysu_mm01", folder / "sysu_mm01", identities=PEOPLE, images=IMAGES)
    for seed, (layout, domain) in enumerate(DOMAINS.items()):
        if not (folder / layout).exists():
            synthetic.write(
                layout, folder / layout, identities=IDENTITIES[layout], images=3, domain=domain, seed=seed
            )


def start(folder: Path) -> dict:
    return {"backbone": "mobilenet_v2_1.0", "pretrained": str(folder / "mobilenet_v2.pth")}


def across_settings(folder: Path, method: dict) -> dict:
    schedule = SCHEDULE | {"warmup": 1}
    adam = {"name": "adam", "lr": LR, "weight_decay": 5e-4, "schedule": schedule}
    return {
        "method": method | start(folder) | {"backbone_lr_factor": 1.0},
        "data": {
            "name": "sysu_mm01",
            "roots": {"sysu_mm01": str(folder / "sysu_mm01")},
            **visible_infrared.IMAGES_AS,
            "size": [64, 32],
            "padding": 4,
            "loaders": {"train": {"sampler": "cross_modal_once", "identities": 8, "instances": 4}},
        },
        "protocol": {"name": "sysu_mm01"},
        "train": {"epochs": EPOCHS["across"], "optimizers": {"main": adam}, "channels_last": True},
    }


def gates_settings(folder: Path, unseen: str, method: dict, times: int) -> dict:
    schedule = SCHEDULE | {"warmup": 0.2}
    adam = {"name": "adam", "lr": LR, "weight_decay": 5e-4, "schedule": schedule}
    loaders = {"train": {"sampler": "identity_chunks", "identities": 8, "instances": 4}}
    if method.get("meta", True):
        loaders["meta"] = {"sampler": "domain_balanced", "identities": 8, "instances": 4}
    common = {"name": "metabin", "meta_train_domains": 3, "inner_ratio": [0.001, 0.1], "inner_period": 1}
    return {
        "method": common | start(folder) | method,
        "data": {
            "name": [layout for layout in DOMAINS if layout != unseen],
            "roots": {layout: str(folder / layout) for layout in DOMAINS},
            "size": [64, 32],
            "padding": 4,
            "flip": 0.5,
            "loaders": loaders,
        },
        "protocol": {"name": "generalization", "targets": [unseen]},
        "train": {
            "epochs": EPOCHS["gates"] * times,
            "optimizers": {"main": adam}
            | ({"gates": unseen_domains.gates(0.1)} if method["norm"] != "bn" else {}),
            "channels_last": True,
        },
    }


def tables(scores: Scores):
    ran = {name for name, _ in scores.runs}
    if rows := [
        [name, *(spread(scores.of(f"{name}, across", "test"), key) for key in ("rank1", "mean_ap"))]
        + [str(scores.cost(f"{name}, across")[0]), scores.seconds(f"{name}, across")]
        for name in ACROSS
        if f"{name}, across" in ran
    ]:
        yield from markdown(["SYSU-MM01 layout", "Rank-1", "mAP", "steps", "CPU seconds"], rows)
    for unseen, longer, _ in WAYS:
        called = data.get(unseen).title
        rows = []
        for name in GATES:
            training = f"{name} without {TITLES[unseen]}{longer}"
            if training in ran:
                lines = scores.of(training, "test", called)
                rows.append([name, spread(lines, "rank1"), spread(lines, "mean_ap")])
                rows[-1] += [str(scores.cost(training)[0]), scores.seconds(training)]
        if rows:
            yield from markdown(
                [f"unseen {TITLES[unseen]}{longer}", "Rank-1", "mAP", "steps", "CPU seconds"], rows
            )


if __name__ == "__main__":
    main(build)
