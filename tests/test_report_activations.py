"""Maps over images and aligned stripes, from the checkpoint in a run's folder."""

import csv
import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from test_report import Checker

from crossreid import checkpoint, evaluation, report
from crossreid.ops import alignment
from crossreid.records import UserError
from crossreid.report import activations, evidence, images, runs, stripes

INPUT = {"size": [64, 32], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}
METHODS = {
    "agw": {"backbone": "tiny", "pretrained": None},
    "alignedreid": {"backbone": "tiny", "pretrained": None},
    "baseline": {"backbone": "tiny", "pretrained": None},
    "ddag": {"backbone": "tiny", "pretrained": None},
    "mvd": {"backbone": "tiny", "pretrained": None, "width": 8},
    "metabin": {"backbone": "tiny", "pretrained": None},
}


def method(name):
    torch.manual_seed(0)
    return checkpoint.build(name, METHODS[name], classes=4, domains=3).eval()


def person(folder, number, camera):
    rng = np.random.default_rng([number, camera])
    pixels = rng.integers(0, 255, (40, 20, 3)).astype(np.uint8)
    path = folder / f"{number}_{camera}.png"
    Image.fromarray(pixels).save(path)
    modality = "infrared" if camera == 3 else "visible"
    return {
        "path": str(path),
        "identity": number,
        "camera": camera,
        "modality": modality,
        "array_index": None,
        "box": None,
    }


def run_folder(folder, name):
    folder.mkdir()
    ranked = [
        {
            "subset": "all",
            "kind": kind,
            "average_precision": 0.5,
            "first_rank": 2,
            "query": person(folder, 1, 3),
            "gallery": [
                person(folder, n, 1) | {"distance": 0.1 * n, "right": n == 1} for n in (2, 1, 4, 5, 6)
            ],
        }
        for kind in ("good", "worst")
    ]
    made = method(name)
    content = {
        "method": name,
        "feature": made.features[0],
        "checkpoint": "last.pt",
        "rows": [],
        "ranked": ranked,
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    whole = checkpoint.describe(made, name, input=INPUT, settings={}, trained={})
    checkpoint.save(folder / "last.pt", whole)
    return folder


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_gives_maps(name):
    torch.manual_seed(1)
    made, images = method(name), torch.randn(3, 3, 64, 32)
    modality = torch.tensor([1, 0, 0])
    found = activations.look(made, images, modality)
    wanted = (
        {"activation"} if name != "mvd" else {f"activation, {b}" for b in ("visible", "shared", "infrared")}
    )
    assert wanted <= set(found) <= wanted | {"similarity"}
    for values in found.values():
        assert len(values) == 3 and values.ndim == 3 and 0 <= values.min() and values.max() <= 1 + 1e-6
    part = next(iter(activations.branches(made).values()))
    with torch.no_grad():
        maps = (part.feature_map(images, modality) if part is made else part.feature_map(images)).numpy()
    first = next(iter(found.values()))
    length = np.sqrt((maps.astype(np.float64) ** 2).sum(1))
    place = np.unravel_index(length[0].argmax(), length[0].shape)
    assert first[0][place] == 1 and first[0].min() == 0 and first.shape == length.shape
    # Looking leaves nothing behind.
    assert "feature_map" not in vars(made) and "feature_map" not in vars(part)
    assert all(parameter.grad is None for parameter in made.parameters())


def test_similarity_follows_the_place_that_the_two_share():
    class Plain(torch.nn.Module):
        features = ("vector",)

        def feature_map(self, images, modality=None):
            return images

        def embed(self, images, modality=None, feature=None):
            from crossreid.records import Embedding

            return Embedding(self.feature_map(images).mean((2, 3)))

    images = torch.zeros(2, 3, 4, 2)
    images[0, 0, 0, 0] = 1.0  # the query has one thing, above left
    images[1, 0, 3, 1], images[1, 1, 1, 0] = 1.0, 2.0  # the other has it below right, and another thing
    found = activations.look(Plain(), images, torch.zeros(2, dtype=torch.int64))
    assert np.unravel_index(found["similarity"][1].argmax(), (4, 2)) == (3, 1)
    assert found["similarity"][1][1, 0] == 0
    assert np.unravel_index(found["activation"][1].argmax(), (4, 2)) == (1, 0)


def test_overlay_turns_nothing_dark_and_most_yellow():
    pixels = np.full((16, 8, 3), 128, np.uint8)
    values = np.zeros((4, 2))
    values[3] = 1
    laid = images.overlay(pixels, values, strength=1.0)
    assert laid.shape == pixels.shape and laid.dtype == np.uint8
    assert np.abs(laid[0, 0].astype(int) - images.HEAT[0]).max() <= 2
    assert np.abs(laid[-1, 0].astype(int) - images.HEAT[-1]).max() <= 2


def test_page_and_files_hold_the_maps(tmp_path):
    folder = run_folder(tmp_path / "run", "mvd")
    out = report.write([folder], tmp_path / "report.html", figures_to=tmp_path / "figures")
    text = out.read_text(encoding="utf-8")
    assert not Checker(text).wrong and "a good query" in text and "the worst query" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {
        f"activation-run-{kind}.{end}" for kind in ("good", "worst") for end in ("svg", "png", "pdf", "csv")
    } <= names
    rows = list(csv.DictReader(io.StringIO((tmp_path / "figures" / "activation-run-good.csv").read_text())))
    found = runs.read(folder)
    made = evidence.model(found)
    ranked = found.evaluation["ranked"][0]
    _, images, modality = evidence.shown(found, [ranked["query"], *ranked["gallery"][:4]], made)
    maps = activations.look(made, images, modality, "obs")
    assert {row["map"] for row in rows} == set(maps)
    told = [float(row["value"]) for row in rows if row["image"] == "2" and row["map"] == "activation, shared"]
    assert np.allclose(told, maps["activation, shared"][2].ravel(), atol=6e-5)


def test_runs_without_checkpoint_or_images(tmp_path):
    folder = run_folder(tmp_path / "run", "agw")
    (folder / "1_1.png").unlink()
    text = report.write([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No maps of run" in text and "1_1.png" in text
    (folder / "last.pt").unlink()
    text = report.write([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Activation" not in text
    with pytest.raises(UserError, match="holds no checkpoint"):
        evidence.model(runs.read(folder))


def unit(rng, *shape):
    values = rng.normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype("f4")


def test_stripes_tell_the_distances_of_the_metrics():
    rng = np.random.default_rng(0)
    for left, right in ((unit(rng, 8, 16), unit(rng, 8, 16)), (unit(rng, 4, 6), unit(rng, 7, 6))):
        found = stripes.stripe_path(left, right)
        assert found.aligned == pytest.approx(
            float(alignment.aligned(left[None], right[None])[0, 0]), abs=1e-5
        )
        assert found.path[0][:2] == (0, 0) and found.path[-1][:2] == (len(left) - 1, len(right) - 1)
        if len(left) == len(right):
            straight = float(alignment.unaligned(left[None], right[None])[0, 0])
            assert found.unaligned == pytest.approx(straight, abs=1e-5)
        else:
            assert found.unaligned is None


def test_a_body_lower_in_its_box_is_matched_lower():
    body = unit(np.random.default_rng(0), 8, 16)
    lower = np.concatenate([unit(np.random.default_rng(1), 2, 16), body[:-2]])
    found = stripes.stripe_path(body, lower)
    assert sum((i, i + 2) in {step[:2] for step in found.path} for i in range(6)) == 6
    assert found.aligned / len(found.path) < found.unaligned / len(body)


def test_figure_of_stripes(tmp_path):
    rng = np.random.default_rng(0)
    image = np.zeros((32, 16, 3), np.uint8)
    pairs = [
        stripes.Pair((image, image), (unit(rng, 4, 8), unit(rng, 4, 8)), words, right)
        for words, right in (("right, rank 1", True), ("wrong, rank 2", False), ("wrong, rank 5", False))
    ]
    figure = images.stripe_pairs(pairs)
    rows = list(csv.DictReader(io.StringIO(figure.csv())))
    for number, pair in enumerate(pairs):
        steps = [row for row in rows if row["pair"] == str(number)]
        assert sum(float(row["distance"]) for row in steps) == pytest.approx(float(steps[0]["aligned"]))
        assert len(steps) == 7 and steps[0]["words"] == pair.words
    shown = figure.in_page()
    assert shown.count("<image") == 6
    assert f"aligned {stripes.stripe_path(*pairs[0].stripes).aligned:.2f}" in shown


def test_stripes_of_a_run(tmp_path):
    folder = run_folder(tmp_path / "run", "alignedreid")
    text = report.write([folder], tmp_path / "report.html", figures_to=tmp_path / "f").read_text(
        encoding="utf-8"
    )
    assert (
        "Aligned stripes" in text
        and "good query, right at rank 2" in text
        and "good query, wrong at rank 1" in text
    )
    assert (tmp_path / "f" / "stripes-run.png").is_file()
    other = report.write([run_folder(tmp_path / "other", "agw")], tmp_path / "other.html")
    assert "Aligned stripes" not in other.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, market):
    """A method with random weights, evaluated on rendered people with its vectors stored."""
    from crossreid import config

    folder = tmp_path_factory.mktemp("evaluated") / "run"
    settings = config.resolve(
        {
            "method": {"name": "mvd", **METHODS["mvd"]},
            "data": {
                "name": "market1501",
                "roots": {"market1501": str(market)},
                "size": [64, 32],
                "workers": 0,
            },
            "protocol": {"name": "single_query"},
            "train": {"device": "cpu"},
            "evaluate": {"features": True, "verification": True, "examples": 8},
        }
    )
    made = method("mvd")
    folder.mkdir()
    described = checkpoint.describe(made, "mvd", input=INPUT, settings=settings.to_dict(), trained={})
    checkpoint.save(folder / "last.pt", described)
    (folder / "config.yaml").write_text(settings.to_yaml())
    scores = evaluation.evaluate(folder / "last.pt", settings=settings, out=folder, log=lambda text: None)
    return folder, scores, made


def test_everything_of_a_run_that_was_really_evaluated(evaluated, tmp_path):
    folder, scores, _ = evaluated
    text = report.write([folder], tmp_path / "report.html", figures_to=tmp_path / "f").read_text(
        encoding="utf-8"
    )
    ((row, score),) = scores.items()
    # The lists that are shown read the ranking of the metrics, and are here of every query.
    lists = {each["query"]["path"]: each for each in runs.read(folder).evaluation["ranked"]}
    assert len(lists) == score.valid
    for ranked in lists.values():
        hit = [place for place, each in enumerate(ranked["gallery"], start=1) if each["right"]]
        assert (hit[0] if hit else None) == (ranked["first_rank"] if ranked["first_rank"] <= 10 else None)
    found = [ranked["gallery"][0]["right"] for ranked in lists.values()]
    assert np.mean(found) == pytest.approx(score.cmc[0])
    shown = dict(zip(re.findall(r'<p class="quiet">Average precision.*?</ol>', text, re.S), range(99)))
    assert sum('<li class="right">' in each.partition("</li>")[0] for each in shown) == sum(found)
    assert f"{100 * score.cmc[0]:.2f}" in text and "Activation" in text and "t-SNE, by identity" in text
    data = list(csv.reader(io.StringIO((tmp_path / "f" / "roc.csv").read_text())))
    assert data[0] == ["False positive rate", row]
    curve = {float(rate): float(share) for rate, share in data[1:]}
    assert curve[0.01] == pytest.approx(score.verification["TPR@FAR=0.01"], abs=1e-9)


def test_another_feature_is_embedded_again(evaluated):
    folder, _, made = evaluated
    run = runs.read(folder)
    stored = evidence.features(run)
    again = evidence.features(run, "obs")
    assert stored.name == again.name == "obs" and np.array_equal(stored.vectors, again.vectors)
    other = evidence.features(run, "rep")
    assert other.name == "rep" and other.vectors.shape == (len(stored.vectors), 4 * 8)
    assert np.array_equal(other.labels["identity"], stored.labels["identity"])
    assert other.metric == made.metric("rep")
    with pytest.raises(UserError, match="obs, rep, both"):
        evidence.features(run, "bn")
    lost = dataclasses.replace(run, settings={})
    with pytest.raises(UserError, match="by which protocol"):
        evidence.features(lost, "rep")
