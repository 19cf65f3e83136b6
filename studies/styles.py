"""Rendered people of very many styles, to train the models that come with the package on, and of others to score them.

The styles to learn from are drawn at random; none of them is that of a data set's name, and those, with people of their
own, are what is scored.
"""

from __future__ import annotations

import json
from pathlib import Path

from study import everybody, joined

from crossreid import checkpoint, config, evaluation, synthetic
from crossreid.data.provenance import LAYOUT_OF
from crossreid.protocols import PROTOCOLS

DOMAINS, IDENTITIES, IMAGES = 110, 56, 2
# Layout -> people rendered; those to find are 60, in the small layouts all or half of them.
TESTS = {
    "sysu_mm01": 300,
    "regdb": 120,
    "llcm": 180,
    "market1501": 120,
    "dukemtmc": 120,
    "msmt17": 90,
    "viper": 120,
    "prid2011": 120,
    "prid450s": 120,
    "grid": 120,
}


def render(folder: Path, domains: int = DOMAINS, identities: int = IDENTITIES, workers: int = 0) -> None:
    """The people to learn from, ``people.csv``, in the layout of a table: three visible cameras and an infrared one
    for each domain; and the copies to be scored on."""
    for domain in range(domains):
        where = folder / "people" / str(domain)
        if not where.exists():
            synthetic.write(
                "csv",
                where,
                identities=identities,
                images=IMAGES,
                domain=domain,
                seed=1000 + domain,
                workers=workers,
            )
    copies = {str(domain): folder / "people" / str(domain) for domain in range(domains)}
    joined(folder / "people.csv", copies, everybody)
    for layout, count in TESTS.items():
        if not (folder / "tests" / layout).exists():
            synthetic.write(
                layout, folder / "tests" / layout, identities=count, images=3, seed=7, workers=workers
            )


def settings(described: dict, layout: str, root: str, device: str = "cpu") -> config.Settings:
    """Those with which a trained model is evaluated on a data set. described: the content of its checkpoint."""
    protocol = layout if layout in PROTOCOLS else "single_query"
    return config.resolve(
        {
            "method": {"name": described["method"]} | described["config"] | {"pretrained": None},
            "data": {
                "name": layout,
                "roots": {layout: root},
                "fold": 1 if layout == "regdb" else None,
                "size": described["input"]["size"],
                "workers": 0,
            },
            "protocol": {"name": protocol} | ({"source": layout} if protocol == "single_query" else {}),
            "train": {"device": device, "threads": 1},
            "evaluate": {"baseline": True},
        }
    )


def score(model: Path, folder: Path, out: Path, layouts=TESTS, device: str = "cpu") -> None:
    """Evaluate on each of the test copies, beside the striped histogram; ``out`` gets a folder for each layout."""
    described = checkpoint.read(model)
    for layout in layouts:
        if not (out / layout / "evaluation.json").exists():
            (out / layout).mkdir(parents=True, exist_ok=True)
            chosen = settings(described, layout, str(folder / "tests" / layout), device)
            evaluation.evaluate(model, settings=chosen, out=out / layout)


def found(out: Path, layouts=TESTS) -> dict[str, dict]:
    """What ``score`` has left there."""
    return {
        layout: json.loads((out / layout / "evaluation.json").read_text(encoding="utf-8"))
        for layout in layouts
        if (out / layout / "evaluation.json").exists()
    }


def subset_of(evaluated: dict, subset: str) -> str:
    """What a subset of one of these evaluations is called beside those of the others."""
    called = evaluated["protocol"]["provenance"]
    return called if subset == called else f"{called}, {subset}"


def rows(evaluations: dict[str, dict]) -> list[list[str]]:
    """Layout, Rank-1, Rank-10 and mAP of the model, and the same of the striped histogram, in percent."""
    lines = []
    for evaluated in evaluations.values():
        colours = {line["subset"]: line for line in evaluated["baselines"][0]["rows"]}
        for line in evaluated["rows"]:
            name = subset_of(evaluated, line["subset"]).removeprefix(LAYOUT_OF)
            lines.append([name, *_percent(line), *_percent(colours[line["subset"]])])
    return lines


def _percent(line: dict) -> list[str]:
    ranks = line["cmc"]
    return [f"{100 * value:.1f}" for value in (ranks[0], ranks[min(10, len(ranks)) - 1], line["mean_ap"])]
