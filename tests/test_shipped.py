"""The model that comes with the package."""

import subprocess
import sys

import numpy as np
import pytest

import crossreid
from crossreid import checkpoint
from crossreid.bundled import MODELS, exported_form, located
from crossreid.embedder import Embedder
from crossreid.evaluation.thresholds import known, stats_at
from crossreid.synthetic import camera, person, render

SMALL = MODELS["small"]


@pytest.mark.parametrize(("name", "most"), [("small", 3), ("base", 10)])
def test_they_are_small_and_name_no_folder(name, most):
    assert MODELS[name].stat().st_size <= most * 2**20
    content = checkpoint.read(MODELS[name])
    assert content["settings"]["data"]["roots"] == {} and content["config"]["pretrained"] is None


@pytest.mark.documents
def test_the_cards_say_of_what_they_know_and_that_of_base_its_licences_and_what_it_is_not_for():
    for model in MODELS.values():
        assert "rendered people" in model.with_name("CARD.md").read_text(encoding="utf-8")
    card = MODELS["base"].with_name("CARD.md").read_text(encoding="utf-8")
    assert all(words in card for words in ("Apache-2.0", "BSD-3-Clause", "ImageNet", "must not be used for"))


@pytest.mark.parametrize("name", MODELS)
def test_they_tell_people_apart_whom_they_have_never_seen(name):
    """Eight people of a domain that no training domain resembles, two visible cameras."""
    images = [
        render(person(number, seed=5, domain="grid"), camera(place, seed=5, domain="grid"), view=place)
        for place in (1, 2)
        for number in range(8)
    ]
    vectors = crossreid.Embedder(name)(images)
    similar = vectors[:8] @ vectors[8:].T
    assert np.mean(similar.argmax(1) == np.arange(8)) >= 0.75


@pytest.mark.parametrize("name", MODELS)
def test_a_distance_has_a_place_in_their_evaluations(name):
    points, source = known(name)
    near, far = (stats_at(points, distance, ("visible", "visible")) for distance in (0.2, 0.8))
    assert source.endswith("evaluation.json, on rendered identities") and len(near) >= 3
    assert all(a.false_positive < b.false_positive for a, b in zip(near, far))


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("small") == SMALL
    (tmp_path / "small").write_bytes(b"mine")
    assert located("small").read_bytes() == b"mine"
    with pytest.raises(crossreid.records.UserError):
        crossreid.load("small")


def test_its_exported_form_is_of_the_same_weights_and_gives_the_same_vectors():
    images = [render(person(number), camera(1), view=number) for number in range(4)]
    exported, trained = Embedder(exported_form(SMALL)), Embedder("small", feature="bn")
    assert exported.fingerprint == trained.fingerprint, (
        "write it again: studies/small_model.py FOLDER --write"
    )
    assert exported.name == trained.name and exported.trained == trained.trained
    np.testing.assert_allclose(exported(images), trained(images), atol=1e-5)


def test_embedding_with_it_needs_no_torch_and_loading_it_no_compiler():
    code = """
import sys, crossreid
crossreid.Embedder("small", "cpu").dimension
assert "torch" not in sys.modules
crossreid.Embedder("small", "cpu", feature="bn").dimension
assert "torch" in sys.modules and not {"sympy", "torch._dynamo", "timm", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
