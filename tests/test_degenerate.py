"""Features that tell nothing apart, ranks that hang on the order of the gallery, queries that lie in the gallery."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crossreid.evaluation import EvaluateConfig, copies, evaluate_stored, score_subsets
from crossreid.evaluation.measures import MEASURES
from crossreid.evaluation.stored import Stored
from crossreid.ops import degenerate
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import Embedding, Image, Metric, UserError


def protocol(count=12, folder=None):
    images = [
        [Image((folder or Path()) / f"{side}{who}.png", who, camera) for who in range(1, count + 1)]
        for camera, side in enumerate("qg", 1)
    ]
    return SingleQuery.between(*images, title="all")


def test_zero_and_equal_features_are_said():
    rng = np.random.default_rng(0)
    names = [f"{row}.png" for row in range(9)]
    assert degenerate.notes(rng.normal(size=(9, 4)), names) == []
    assert degenerate.notes(rng.normal(size=(1, 4)), names) == []
    some = rng.normal(size=(9, 4))
    some[3:5] = 0
    (note,) = degenerate.notes(some, names)
    assert "2 of 9 images are all zero, the first is that of 3.png" in note
    (note,) = degenerate.notes(np.zeros((9, 4)), names)
    assert "9 of 9" in note
    equal = np.tile(rng.normal(size=4), (9, 1)).astype("f4")
    (note,) = degenerate.notes(equal + np.float32(1e-8), names)
    assert "All 9 features are equal" in note
    some[7, 1] = np.nan
    with pytest.raises(UserError, match=r"7\.png is not a finite number"):
        degenerate.notes(some, names)


@pytest.mark.parametrize(
    "kind, words", [("equal", "features are equal"), ("zero", "are all zero"), ("few", None)]
)
def test_they_are_said_when_features_are_scored(kind, words):
    given = protocol()
    rng = np.random.default_rng(0)
    features = {
        "equal": np.ones((24, 4)),
        "zero": np.zeros((24, 4)),
        "few": np.eye(4)[rng.integers(0, 2, 24)],
    }[kind]
    about = {"protocol": {"name": "x", "description": "x"}, "notes": []}
    embedding = Embedding(torch.from_numpy(features).float())
    stored = Stored(given, embedding, {"x": Metric("cosine")}, "x", about)
    said = []
    evaluate_stored(stored, EvaluateConfig(), log=said.append)
    said = "\n".join(said)
    assert words is None or words in said
    assert "queries is exactly as near as a wrong one" in said


def test_ties_of_a_few_queries_are_ordinary():
    given = protocol(200)
    features = np.random.default_rng(0).normal(size=(400, 6))
    embedding = Embedding(torch.from_numpy(features).float())

    def notes():
        found = score_subsets(given, embedding, Metric("cosine"), EvaluateConfig(), measures=("ties",))
        return found["all"].results.get("notes", [])

    assert notes() == []
    embedding.feature[200:220] = embedding.feature[201]
    (note,) = notes()
    assert note.startswith("all: the first right image of 20 of 200 queries")


def test_copies_of_queries_in_the_gallery_are_counted(tmp_path):
    given = protocol(6, tmp_path)
    for number, image in enumerate(given.images):
        image.path.write_bytes(bytes([number]) * 50)
    assert copies.notes(given) == []
    shutil.copy(tmp_path / "q2.png", tmp_path / "g4.png")
    shutil.copy(tmp_path / "q3.png", tmp_path / "g3.png")
    (note,) = copies.notes(given)
    assert note.startswith("all: 2 of 6 queries lie in the gallery as byte-identical copies, the first is")
    assert "q2.png, the same as" in note and "g4.png" in note
    # What a rule excludes does no harm.
    given = SingleQuery.between(
        given.images[:6],
        [Image(image.path, image.identity, 2 - (image.identity == 3)) for image in given.images[6:]],
        title="all",
    )
    assert "all: 1 of 6" in copies.notes(given)[0]
    (tmp_path / "g4.png").unlink()
    assert copies.notes(given) == []


def test_a_new_measure_is_a_class_and_a_line(monkeypatch, tmp_path):
    class NearestRight:
        """The mean distance of the first right image."""

        def __init__(self, subset):
            self.subset, self.found = subset, []

        def offer(self, block):
            same = block.identity[:, None] == block.gallery_identity
            self.found += np.where(same, block.distance, np.inf).min(1).tolist()

        def numbers(self):
            return [{"nearest right": float(np.mean(self.found))}]

        def result(self, scores):
            return {"nearest": {"subset": self.subset.name, "each": self.found}}

    monkeypatch.setitem(MEASURES, "nearest_right", NearestRight)
    features = np.random.default_rng(0).normal(size=(24, 6))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    away = 1 - (unit[:12] * unit[12:]).sum(1)
    about = {"protocol": {"name": "x", "description": "x"}, "notes": []}
    stored = Stored(
        protocol(), Embedding(torch.from_numpy(features).float()), {"x": Metric("cosine")}, "x", about
    )
    said = []
    evaluate_stored(stored, EvaluateConfig(), out=tmp_path, log=said.append)
    assert "nearest right" in said[-1] and f"{100 * away.mean():.2f}" in said[-1]
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["nearest"][0]["each"] == pytest.approx(away, abs=1e-6)
    assert content["rows"][0]["verification"]["nearest right"] == pytest.approx(away.mean(), abs=1e-6)
