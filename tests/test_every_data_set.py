"""Every data set from a synthetic copy on disk to its protocol, with vectors whose scores are known beforehand."""

import inspect

import numpy as np
import pytest
import torch

from crossreid import data, protocols, synthetic
from crossreid.evaluation import EvaluateConfig, score_subsets
from crossreid.records import Embedding, Metric

SEARCHED = sorted(name for name in data.SOURCES if name not in ("cuhk02", "cuhk_sysu"))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    made = {}

    def of(name):
        if name not in made:
            root = tmp_path_factory.mktemp("copies") / name
            made[name] = synthetic.write(name, root, identities=12, images=2, seed=2, progress=False)
        return made[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(data.SOURCES))
def test_the_copy_is_read_into_people_apart(name, copies):
    splits = data.read(name, copies(name))
    # Some are for testing only.
    assert splits.get("train") or (
        set(splits) == {"query", "gallery"} and "train" not in data.get(name).expected
    )
    people = {split: {image.identity for image in images} for split, images in splits.items()}
    assert not people.get("train", set()) & people.get("query", set())
    for images in splits.values():
        assert all(image.path.is_file() for image in images)
    if name in SEARCHED:
        assert people["query"] <= people["gallery"]


def test_what_a_reader_and_a_protocol_take_is_said_once():
    for source in data.SOURCES.values():
        taken = inspect.signature(source.read).parameters
        taken = {key for key, value in taken.items() if value.kind == value.KEYWORD_ONLY}
        taken -= set(getattr(source.read, "keywords", ()))
        assert taken == {*source.settings, *(["fold"] if source.folds > 1 else [])}, source.name
    for kind in protocols.PROTOCOLS.values():
        taken = set(inspect.signature(kind).parameters) - {"root", "split"}
        given = {"fold": kind.folds, "images": kind.held_out}
        assert taken == {*kind.settings, *(key for key, takes in given.items() if takes)}, kind.name


@pytest.mark.parametrize("name", SEARCHED)
def test_its_protocol_scores_perfect_and_random_vectors_as_it_must(name, copies):
    kind = protocols.get(data.get(name).protocol)
    # One camera holds every image of an own folder; without a pattern nothing else would be left to find.
    own = {"targets": [name], "source": name, "same_camera": name != "folder"}
    own = {key: value for key, value in own.items() if key in kind.settings}
    protocol = protocols.build(data.get(name).protocol, own, {name: copies(name)})
    assert "rendered identities" in protocol.provenance and "rendered identities" in protocol.description
    people = sorted({image.identity for image in protocol.images})
    perfect = torch.eye(len(people))[[people.index(image.identity) for image in protocol.images]]
    for row, scores in score_subsets(protocol, Embedding(perfect), Metric(), EvaluateConfig()).items():
        assert scores.cmc[0] == scores.mean_ap == scores.mean_inp == 1, row
        # LLCM leaves out images of the query's own camera, which may be all that there is of a person.
        assert 0 < scores.valid <= scores.queries and (scores.valid == scores.queries or name == "llcm")
    noise = torch.from_numpy(
        np.random.default_rng(0).normal(size=(len(protocol.images), 64)).astype(np.float32)
    )
    for row, scores in score_subsets(protocol, Embedding(noise), Metric(), EvaluateConfig()).items():
        assert scores.mean_ap < 0.9, row
