"""MetaBIN: what gates and their meta-learning are worth in a domain that the network never saw."""

from pathlib import Path

from study import Scores, Study, main, markdown, spread

from crossreid import data, synthetic

# Layout on disk -> style of what is rendered: a summer campus, a winter street, an underground station, a sunlit mall.
DOMAINS = {"market1501": "market1501", "dukemtmc": "dukemtmc", "msmt17": "grid", "cuhk03": "cuhk_sysu"}
# A third of MSMT17's people train, half of the others': 120 in each.
IDENTITIES = {"market1501": 240, "dukemtmc": 240, "msmt17": 360, "cuhk03": 240}
TITLES = {"market1501": "campus", "dukemtmc": "street", "msmt17": "station", "cuhk03": "mall"}
UNSEEN = ("msmt17",)
VARIANTS = {
    "BN": {"norm": "bn", "meta": False},
    "IN": {"norm": "in", "meta": False},
    "BIN without meta-learning": {"norm": "bin", "meta": False},
    "MetaBIN, first order": {"norm": "bin"},
    "MetaBIN, second order": {"norm": "bin", "second_order": True},
}
EPOCHS = 10


def build(folder: Path) -> Study:
    """BN, IN, BIN and MetaBIN, trained on three rendered domains, scored on a fourth and on other people."""
    return Study(
        "unseen-domains",
        "Unseen domains",
        """
Four rendered domains of different season, place, camera angle and picture quality. Training is on three of them (120
people each), scoring on the fourth, which the network never saw, and on other people of the three. Network `tiny` from
random weights, pictures of 96 x 48, the same base batches for every variant (36 pictures a step); the meta step comes
on top and is paid for in time, not taken from the base steps. Of the four ways to leave one domain out, one was run:
without the station, whose pictures are the poorest.
""",
        prepare,
        {
            f"{variant} without {TITLES[unseen]}": settings(folder, unseen, method)
            for unseen in UNSEEN
            for variant, method in VARIANTS.items()
        },
        lambda name: {"all": {}},
        tables,
    )


def prepare(folder: Path) -> None:
    for seed, (layout, style) in enumerate(DOMAINS.items()):
        if not (folder / layout).exists():
            synthetic.write(
                layout, folder / layout, identities=IDENTITIES[layout], images=3, domain=style, seed=seed
            )


def settings(folder: Path, unseen: str, method: dict) -> dict:
    schedule = {"kind": "cosine", "by": "iteration", "warmup": 1, "warmup_start": 0.01, "end": 0.01}
    main = {"kind": "sgd", "rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": schedule}
    gates = {"kind": "sgd", "rate": 0.1, "momentum": 0, "weight_decay": 0, "schedule": {"kind": "constant"}}
    common = {"backbone": "tiny", "pretrained": None, "meta_train_domains": 2, "inner_ratio": [0.001, 0.1]}
    return {
        "method": {"name": "metabin"} | common | method,
        "data": {
            "name": [layout for layout in DOMAINS if layout != unseen],
            "roots": {layout: str(folder / layout) for layout in DOMAINS},
            "size": [96, 48],
            "padding": 6,
            "flip": 0.5,
            "loaders": {"train": {"sampler": "identity_chunks", "identities": 9, "instances": 4}}
            | (
                {"meta": {"sampler": "domain_balanced", "identities": 9, "instances": 4}}
                if method.get("meta", True)
                else {}
            ),
        },
        "protocol": {"name": "generalization", "targets": list(DOMAINS)},
        "train": {
            "epochs": EPOCHS,
            "optimizers": {"main": main} | ({"gates": gates} if method["norm"] == "bin" else {}),
        },
    }


def tables(scores: Scores):
    yield from _table(scores, "rank1", "Rank-1")
    yield from _table(scores, "mean_ap", "mAP")
    first = next(iter(scores.runs.values()))
    yield (
        f"{first['steps']} steps each. CPU seconds of a training: "
        + ", ".join(
            f"{variant} {scores.cost(f'{variant} without {TITLES[UNSEEN[0]]}')[1]:.0f}"
            for variant in VARIANTS
        )
        + "."
    )
    yield ""


def _table(scores: Scores, key: str, title: str):
    head = [title]
    for unseen in UNSEEN:
        head += [f"unseen {TITLES[unseen]}", "seen three, other people"]
    rows = []
    for variant in VARIANTS:
        row = [variant]
        for unseen in UNSEEN:
            name = f"{variant} without {TITLES[unseen]}"
            lines = {layout: scores.of(name, "all", data.get(layout).title) for layout in DOMAINS}
            seen = [
                {key: sum(line[key] for line in together) / len(together)}
                for together in zip(*(lines[layout] for layout in DOMAINS if layout != unseen))
            ]
            row += [spread(lines[unseen], key), spread(seen, key)]
        rows.append(row)
    return markdown(head, rows)


if __name__ == "__main__":
    main(build)
