"""What is said of two images: numbers, what they are worth where that is known, and never more than that."""

import json
import re

import numpy as np
import pytest
from PIL import Image as PILImage

import crossreid
from crossreid import checkpoint
from crossreid.__main__ import main
from crossreid.commands.compare import words_for
from crossreid.evaluation.thresholds import ThresholdStats
from crossreid.evaluation.verification import Sample, operating_points


def of(genuine, impostor):
    return operating_points(Sample(genuine), Sample(impostor))


INPUT = {"size": [48, 24], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    for place in ("a.png", "b.png", "cam1/0001/0001.png", "cam3/0001/0001.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(rng.integers(0, 256, (60, 30, 3), np.uint8)).save(folder / place)
    for streams in (1, 2):
        method = checkpoint.build(
            "agw", {"backbone": "tiny", "pretrained": None, "streams": streams}, classes=4
        )
        about = checkpoint.describe(method, "agw", input=INPUT, settings={}, trained={"epoch": 1})
        checkpoint.save(folder / f"{streams}.pt", about)
    (folder / "short.png").write_bytes((folder / "a.png").read_bytes()[:300])
    return folder


@pytest.fixture
def said(folder, capsys):
    def run(*words, model="1.pt", code=0):
        named = [str(folder / word) if (folder / word).exists() else word for word in words]
        assert main(["compare", str(folder / model), *named]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def evaluated(folder, rows, **more):
    content = {"checkpoint": "1.pt", "operating_points": rows} | more
    (folder / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(autouse=True)
def clean(folder):
    yield
    (folder / "evaluation.json").unlink(missing_ok=True)


def test_the_numbers_are_the_embedders(folder, said):
    text = said("a.png", "b.png")
    one, other = crossreid.Embedder(folder / "1.pt")([folder / "a.png", folder / "b.png"])
    similarity, distance = re.match(r"cosine similarity (\S+), distance (\S+) ", text).groups()
    assert float(similarity) == pytest.approx(one @ other, abs=1e-4)
    assert float(distance) == pytest.approx(1 - one @ other, abs=1e-4)
    assert "is not known: no evaluation.json lies beside 1.pt" in text
    assert "distance 0.0000" in said("a.png", "a.png") and "-0.0" not in said("a.png", "a.png")


def test_the_place_among_the_evaluated_pairs_is_said(folder, said):
    distance = float(re.search(r"distance (\S+) ", said("a.png", "b.png"))[1])
    genuine = np.linspace(0, 4 * distance, 2000)
    impostor = distance + np.linspace(-0.001, 1, 100_000)
    evaluated(folder, [{"subset": "all", "modalities": ["visible", "visible"], **of(genuine, impostor)}])
    text = said("a.png", "b.png")
    assert re.search(r"  all: 25\.?\d* % of 2000 pairs of one person", text)
    assert re.search(r", 0\.(09|1)\d* % of 100000 pairs of two people", text)
    assert "do not say whether these two images show one person" in text
    evaluated(folder, [{"subset": "all", "modalities": ["visible", "visible"], **of(genuine, impostor + 1)}])
    assert "none of 100000 pairs of two people" in said("a.png", "b.png")


def test_a_false_positive_rate_decides(folder, said):
    distance = float(re.search(r"distance (\S+) ", said("a.png", "b.png"))[1])
    genuine = np.linspace(0, 4 * distance, 2000)

    def answer(first, rate="0.01"):
        impostor = np.linspace(first, first + 1, 100_000)
        rows = [{"subset": "all", "modalities": ["visible", "visible"], **of(genuine, impostor)}]
        evaluated(folder, rows)
        return said("a.png", "b.png", "--false-positive", rate)

    text = answer(2 * distance)
    assert re.search(
        rf"^accepted as one person: the distance {distance:.4f} is below the threshold", text, re.M
    )
    share = 100 * np.mean(genuine < 2 * distance + 0.01)
    found = float(re.search(r"  all: threshold \S+ accepts (\S+) % of 2000 pairs of one person", text)[1])
    assert found == pytest.approx(share, abs=0.1) and "Measured in" in text and "evaluation.json" in text
    text = answer(0.0)
    assert "rejected as one person" in text and "is not below the threshold 0.0100" in text
    (folder / "evaluation.json").unlink()
    text = said("a.png", "b.png", "--false-positive", "0.01")
    assert "Neither accepted nor rejected: no threshold is known, since no evaluation.json" in text
    embed = crossreid.Embedder(folder / "1.pt")
    with pytest.raises(crossreid.records.UserError, match="no threshold is known"):
        embed.threshold(0.01)
    answer(2 * distance)
    assert embed.threshold(0.01).distance == pytest.approx(2 * distance + 0.01, abs=1e-4)


def test_evaluations_of_another_model_are_not_used(folder, said):
    rows = [{"subset": "all", "modalities": ["visible", "visible"], **of([0.0], [0.9])}]
    for other in ({"checkpoint": "best.pt"}, {"fingerprint": "00"}, {"feature": "other"}):
        evaluated(folder, rows, **other)
        text = said("a.png", "b.png")
        assert "is not known" in text and "another model" in text and "%" not in text
    embed = crossreid.Embedder(folder / "1.pt")
    evaluated(folder, rows, fingerprint=embed.fingerprint, feature=embed.feature)
    assert "%" in said("a.png", "b.png")


def test_modalities_are_given_or_guessed(folder, said):
    assert "--modality visible infrared" in said("a.png", "b.png", model="2.pt", code=2)
    guessed = said("cam1/0001/0001.png", "cam3/0001/0001.png", model="2.pt")
    pair = ("cam1/0001/0001.png", "cam3/0001/0001.png", "--modality")
    assert guessed == said(*pair, "visible", "infrared", model="2.pt")
    assert guessed != said(*pair, "visible", model="2.pt") != said(*pair, "infrared", model="2.pt")
    rows = [{"subset": "all", "modalities": ["infrared", "visible"], **of([0.1], [0.9])}]
    evaluated(folder, rows, checkpoint="2.pt")
    assert "  all: " in said(*pair[:2], model="2.pt")
    text = said(*pair, "visible", model="2.pt")
    assert "compared no visible images with visible ones" in text and "%" not in text
    assert "names 3 modalities" in said(*pair, "visible", "visible", "visible", model="2.pt", code=2)


def test_mistakes_are_one_paragraph(folder, said):
    for words, model, told in (
        (("a.png", "none.png"), "1.pt", "none.png: cannot be opened"),
        (("a.png", "short.png"), "1.pt", "short.png: is not a readable image"),
        (("a.png", "b.png"), "none.pt", "no checkpoint"),
    ):
        text = said(*words, model=model, code=2)
        assert told in text and text.count("\n") == 1


def test_rates_are_told_as_finely_as_they_were_measured():
    def place(share, pairs):
        return ThresholdStats("row", ("visible", "visible"), share, share, pairs, pairs)

    for share, pairs, words in (
        (0.0, 10, "none of 10"),
        (1.0, 10, "100 % of 10"),
        (0.123456, 1000, "12.3 % of 1000"),
        (0.00123456, 100_000, "0.12 % of 100000"),
        (0.0000123, 10_000_000, "0.0012 % of 10000000"),
    ):
        assert f"row: {words} pairs" in words_for(0.5, [place(share, pairs)], "x")
