"""MetaBIN: what gates and their meta-learning are worth in a domain that the network never saw."""

from pathlib import Path

from study import Scores, Study, main, markdown, spread

from crossreid import data, synthetic
from crossreid.report import style
from crossreid.report.figure import Plot

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
    "MetaBIN, gates at 0.5": {"norm": "bin"},
}
# The published rate of the gates is ten times that of the weights, here 0.05.
GATES = {"MetaBIN, gates at 0.5": 0.5}
EPOCHS = 10


CONCLUSION = """
The gates help in the unseen domain: they score nine points of Rank-1 and ten of mAP above batch normalisation, at no
cost in the seen domains. Instance normalisation alone loses what tells people apart.

Learning the gates by the meta step adds nothing here in first order. In second order it adds one point of mAP, less
than the spread over seeds, and two on other people of the seen domains. The arithmetic of the step is not the reason:
its losses agree with those of the authors' program to 5e-9, and the updated gates to 1e-10. The learning rate of the
gates is not too low either: five times the rate, whose ratio to that of the weights is the published one, scores
lower. The setting differs from the publication: 1060 steps from random weights on three training domains here, about
150 000 steps from ImageNet's weights on five there. This page does not answer whether the meta step pays in the
published setting.
"""


def build(folder: Path) -> Study:
    """BN, IN, BIN and MetaBIN, trained on three rendered domains, scored on a fourth and on other people."""
    return Study(
        "unseen-domains",
        "Unseen domains",
        """
Four rendered domains differ in season, place, camera angle and image quality. The network learns from three of them,
120 people each, and is scored on the fourth, which it never saw, and on other people of the three. It is `tiny`,
starts from random weights and takes images of 96 x 48. Every variant gets the same base batches of 36 images; the
meta step comes on top, so that it costs time and no base steps. Of the four ways to leave one domain out, one was
run: without the station, whose images are the poorest.
""",
        prepare,
        {
            f"{variant} without {TITLES[unseen]}": settings(folder, unseen, method, GATES.get(variant, 0.1))
            for unseen in UNSEEN
            for variant, method in VARIANTS.items()
        },
        lambda name: {"all": {}},
        tables,
        lambda scores, folder: [gap(scores)],
        conclusion=CONCLUSION,
    )


def prepare(folder: Path) -> None:
    for seed, (layout, domain) in enumerate(DOMAINS.items()):
        if not (folder / layout).exists():
            synthetic.write(
                layout, folder / layout, identities=IDENTITIES[layout], images=3, domain=domain, seed=seed
            )


def gates(lr: float) -> dict:
    """The optimizer of the gates."""
    return {"name": "sgd", "lr": lr, "momentum": 0, "weight_decay": 0, "schedule": {"name": "constant"}}


def settings(folder: Path, unseen: str, method: dict, gates_rate: float) -> dict:
    schedule = {"name": "cosine", "unit": "iteration", "warmup": 1, "warmup_start": 0.01, "end": 0.01}
    main = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": schedule}
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
            "optimizers": {"main": main} | ({"gates": gates(gates_rate)} if method["norm"] == "bin" else {}),
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
            row += [spread(lines, key) for lines in _scores(scores, variant, unseen, key)[::-1]]
        rows.append(row)
    return markdown(head, rows)


def _scores(scores: Scores, variant: str, unseen: str, key: str) -> tuple[list[dict], list[dict]]:
    """Of the seen domains, averaged, and of the unseen one; an entry for each seed."""
    name = f"{variant} without {TITLES[unseen]}"
    lines = {layout: scores.of(name, "all", data.get(layout).title) for layout in DOMAINS}
    seen = [
        {key: sum(line[key] for line in together) / len(together)}
        for together in zip(*(lines[layout] for layout in DOMAINS if layout != unseen))
    ]
    return seen, lines[unseen]


def gap(scores: Scores) -> Plot:
    """How far the scores fall in the domain that was never seen."""
    found = {}
    for variant in VARIANTS:
        seen, unseen = _scores(scores, variant, UNSEEN[0], "rank1")
        found[variant] = [[100 * line["rank1"] for line in part] for part in (seen, unseen)]
    rows = [
        [variant, name, *values]
        for variant, parts in found.items()
        for name, values in zip(("seen", "unseen"), parts)
    ]
    title = "Rank-1 in seen domains and in the unseen one"
    plot = Plot(
        "unseen-domains", title, 2.8, header=["normalisation", "domains", "seeds"], rows=rows, width=6
    )
    with style.styled():
        axes = plot.add_subplot()
        for index, parts in enumerate(found.values()):
            means = [sum(values) / len(values) for values in parts]
            axes.plot(means, [index, index], color=style.MUTED, linewidth=1.5, zorder=1)
            for number, (values, mean, name) in enumerate(
                zip(parts, means, ("seen domains", "unseen domain"))
            ):
                colour = style.colour(number)
                axes.plot(values, [index] * len(values), "o", color=colour, markersize=2.5)
                axes.plot(mean, index, "o", color=colour, markersize=7, label=None if index else name)
        axes.set_yticks(range(len(found)), list(found), color=style.INK)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel("Rank-1, percent; large marks are means over seeds")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return plot


if __name__ == "__main__":
    main(build)
