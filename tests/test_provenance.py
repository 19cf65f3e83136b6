"""Rendered data sets say that they are, and everything that is measured on them says it too."""

import json
import shutil

import pytest

from crossreid import data, protocols, synthetic
from crossreid.__main__ import main
from crossreid.data import provenance
from crossreid.records import Image


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "GRID"
    return synthetic.write("grid", root, identities=6, seed=5, progress=False)


def test_the_mark_says_what_was_rendered(grid):
    content = json.loads((grid / "rendered.json").read_text())
    assert (content["layout"], content["seed"], content["identities"]) == ("grid", 5, 6)
    assert "no image here shows a real person" in content["what"]


def test_readers_protocols_and_checks_find_it(grid):
    images = data.read("grid", grid)["query"]
    assert provenance.rendered(images) == 1
    assert provenance.title("GRID", images) == "rendered identities in the layout of GRID"
    protocol = protocols.build("generalization", {"targets": ["grid"], "folds": 2}, {"grid": grid})
    assert {trial.subset for trial in protocol.trials()} == {"rendered identities in the layout of GRID"}
    assert protocol.provenance == "rendered identities in the layout of GRID"
    assert "rendered identities" in data.check("grid", grid)[-1].text


def test_a_part_of_a_copy_keeps_it_and_a_copy_without_it_is_not_rendered(grid, tmp_path):
    alone = [Image(grid / "probe" / "1.jpeg", 1, 1)]
    assert provenance.rendered(alone) == 1
    other = [Image(tmp_path / "1.jpeg", 1, 1)]
    assert provenance.rendered(other) == provenance.rendered([]) == 0
    assert provenance.title("mine", alone + other, layout=False) == "mine (50% rendered identities)"
    assert provenance.title("mine", alone, layout=False) == "mine (rendered identities)"
    shutil.copytree(grid, tmp_path / "copy")
    (tmp_path / "copy" / "rendered.json").unlink()
    assert provenance.title("GRID", data.read("grid", tmp_path / "copy")["query"]) == "GRID"


def test_own_images_and_plain_folders_say_it_too(tmp_path):
    root = synthetic.write("folder", tmp_path / "people", identities=6, images=2, progress=False)
    settings = {"source": "folder", "settings": {"pattern": r"(?P<identity>\d+)/c(?P<camera>\d+)"}}
    protocol = protocols.build("single_query", settings, {"folder": root})
    assert protocol.trials()[0].subset == "people (rendered identities)"
    splits = data.read("folder", root, **settings["settings"])
    between = protocols.get("single_query").between(splits["query"], splits["gallery"], title="a and b")
    assert between.provenance == "a and b (rendered identities)" and between.provenance in between.description


def test_evaluation_and_compare_say_it(trained, market, tmp_path, capsys):
    content = json.loads((trained / "evaluation.json").read_text())
    phrase = "rendered identities in the layout of Market-1501"
    assert content["protocol"]["provenance"] == phrase and phrase in content["protocol"]["description"]
    assert [row["subset"] for row in content["rows"]] == [phrase]
    pair = [str(path) for path in sorted((market / "query").iterdir())[:2]]
    assert main(["compare", str(trained / "last.pt"), *pair]) == 0
    told = capsys.readouterr().out
    assert phrase in told and "Market-1501:" not in told.replace(f"{phrase}:", "")


def test_the_bundled_model_says_on_what_its_rates_were_measured(market, capsys):
    pair = [str(path) for path in sorted((market / "query").iterdir())[:2]]
    assert main(["compare", "small", *pair]) == 0
    told = capsys.readouterr().out
    assert (
        "rendered identities in the layout of Market-1501" in told and "market1501" not in told.split("(")[0]
    )
