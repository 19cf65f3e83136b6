"""The library from Python: names and paths in, and what comes out can be read."""

import subprocess
import sys

import numpy as np
import pytest
import yaml

import crossreid
from crossreid import checkpoint, config, synthetic
from crossreid.__main__ import main
from crossreid.records import Scores, UserError

SMALL = {"backbone": "tiny", "pretrained": None, "streams": 1}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "people"
    synthetic.write("folder", root, identities=12, images=2)
    return root


def changes(people):
    return {
        "train.epochs": 1,
        "data.roots.folder": people,
        "data.size": (48, 24),
        "data.workers": 0,
        "data.loaders.train.identities": 4,
        "data.settings.pattern": "(?P<identity>[^/]+)/c(?P<camera>[0-9]+)",
    }


def test_the_public_names():
    assert {"load", "train", "evaluate", "Embedder", "Gallery", "config", "data", "records"} <= set(
        dir(crossreid)
    )
    for name in dir(crossreid):
        assert getattr(crossreid, name) is not None
    assert crossreid.config is config
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        crossreid.Embeder  # noqa: B018
    listed = "import crossreid, sys; dir(crossreid); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"


def test_trained_and_evaluated_by_names_and_paths(people, tmp_path, capsys, monkeypatch):
    last = crossreid.train("small_folder", str(tmp_path / "run"), changes(people))
    assert last == tmp_path / "run" / "last.pt"
    trained = capsys.readouterr().out
    scores = crossreid.evaluate(str(last))
    (name, row), *_ = scores.items()
    assert repr(row).startswith("Scores(Rank-1 ") and name in repr(scores) and "Rank-1" in repr(scores)
    # The run scored itself, and the same settings give the same numbers.
    assert f"{100 * row.mean_ap:.2f}" in trained and name.startswith("people")
    found = crossreid.evaluate(last, {"evaluate.ranks": 30}, out=tmp_path / "out")
    assert len(found[name].cmc) == 30 and (tmp_path / "out" / "evaluation.json").exists()
    other = crossreid.evaluate(last, settings=yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert other[name].mean_ap == row.mean_ap
    reads, real = [], checkpoint.read_pickle
    monkeypatch.setattr(checkpoint, "read_pickle", lambda path: reads.append(path) or real(path))
    assert main(["evaluate", str(last)]) == 0 and len(reads) == 1
    folders = [
        "--query",
        str(people),
        "--gallery",
        str(people),
        "--pattern",
        changes(people)["data.settings.pattern"],
    ]
    assert main(["evaluate", str(last), *folders]) == 0 and len(reads) == 2
    with pytest.raises(UserError, match="not an empty folder"):
        crossreid.train("small_folder", tmp_path / "run", changes(people))


def test_a_checkpoint_without_settings_needs_some(tmp_path):
    method = checkpoint.build("agw", SMALL, 5)
    checkpoint.save(tmp_path / "mine.pt", checkpoint.describe(method, "agw"))
    with pytest.raises(UserError, match="does not record a data set"):
        crossreid.evaluate(tmp_path / "mine.pt")


def test_what_is_printed_can_be_read(tmp_path):
    embed = crossreid.Embedder("small")
    assert repr(embed).startswith("Embedder('") and "feature" in repr(embed)
    with crossreid.Gallery.create(None, dimension=4, fingerprint="f", model="small") as gallery:
        assert repr(gallery) == "Gallery(in memory, vectors of 4 numbers by the model 'small')"
    scores = Scores(np.array([0.5, 1.0]), 0.25, 0.125, {}, {}, valid=3, queries=4)
    assert repr(scores) == "Scores(Rank-1 50.0%, mAP 25.0%, mINP 12.5%, 3 of 4 queries)"
    empty = Scores(np.array([]), 0.25, 0.125, {}, {}, per_trial=(scores, scores))
    assert "Rank-1 nan%" in repr(empty) and "mean of 2 trials" in repr(empty)


@pytest.mark.parametrize(
    "tree, words",
    [
        ({"method": {"name": ["agw"]}}, "method.name is ['agw'] (did you mean 'agw'?)"),
        ({"method": {"name": {"agw": 1}}}, "method.name is {'agw': 1}"),
        ({"method": {"name": 3}}, "method.name is 3"),
        (
            {"method": {"name": "agw"}, "protocol": {"name": ["regdb"]}},
            "protocol.name is ['regdb'] (did you mean 'regdb'?)",
        ),
        ({"method": {"name": "agw"}, "data": {"name": {"market1501": 1}}}, "data.name"),
        ({"method": {"name": "agw"}, "data": {"name": [["market1501"]]}}, "data.name"),
        ({"method": {"name": "agw"}, "data": {"name": []}}, "name is []: expected one data set"),
        ({"method": {"name": "agw"}, "train": {"precision": ["float32"]}}, "train.precision"),
        ({"method": "agw"}, "method must be a group of keys"),
    ],
)
def test_settings_of_the_wrong_shape_are_a_sentence(tree, words):
    with pytest.raises(UserError) as error:
        config.load(tree)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_package_says_that_it_is_typed():
    from importlib.resources import files

    assert (files("crossreid") / "py.typed").is_file()


def test_a_method_of_ones_own_has_a_name():
    from crossreid.methods import METHODS, method_name
    from crossreid.methods.base import Method

    class Mine(Method):
        pass

    assert method_name(Mine(None, 2)) == "Mine"
    assert method_name(METHODS["agw"](METHODS["agw"].Config(**SMALL), 2)) == "agw"
    assert Mine(None, 2).input["size"] == (256, 128)
