"""All official folds in one run: one model each, each scored on its own fold, averaged; resumable."""

import json

import pytest
import yaml

from crossreid import synthetic
from crossreid.__main__ import main
from crossreid.data import SOURCES


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regdb")
    synthetic.write("regdb", folder / "RegDB", identities=8, seed=3, images=2, progress=False)
    tree = {
        "method": {"name": "agw", "backbone": "tiny", "pretrained": None, "attention": False},
        "data": {
            "name": "regdb", "roots": {"regdb": str(folder / "RegDB")}, "fold": "all", "size": [32, 16], "workers": 0,
            "loaders": {"train": {"sampler": "cross_modal", "identities": 2, "instances": 2}},
        },
        "train": {"epochs": 1, "device": "cpu"},
    }  # fmt: skip
    (folder / "all.yaml").write_text(yaml.safe_dump(tree))
    return folder / "all.yaml"


@pytest.mark.slow
def test_every_fold_is_trained_scored_on_itself_and_averaged(settings, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(settings), "--run", str(run)]) == 0
    folds = [json.loads((run / f"fold_{fold}" / "evaluation.json").read_text()) for fold in range(1, 11)]
    for fold, outcome in enumerate(folds, 1):
        assert yaml.safe_load((run / f"fold_{fold}" / "config.yaml").read_text())["data"]["fold"] == fold
        assert {row["subset"] for row in outcome["rows"]} == {"visible to thermal", "thermal to visible"}
    assert "average" in capsys.readouterr().out.lower()
    assert (run / "report.html").exists()

    before = (run / "fold_1" / "last.pt").stat().st_mtime_ns
    (run / "fold_10" / "evaluation.json").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "fold_10" / "evaluation.json").exists()
    assert (run / "fold_1" / "last.pt").stat().st_mtime_ns == before


def test_a_data_set_without_folds_says_so(settings, tmp_path, capsys):
    words = ["train", str(settings), "--run", str(tmp_path / "r"), "--data.name", "sysu_mm01"]
    assert main(words) == 2
    assert "one training split only" in capsys.readouterr().err


def test_every_reader_with_folds_says_how_many():
    import inspect

    for source in SOURCES.values():
        assert (source.folds > 1) == ("fold" in inspect.signature(source.read).parameters), source.name
