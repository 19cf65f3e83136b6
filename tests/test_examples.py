"""The example method of the documentation goes through the real loop; the plain loop learns."""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from crossreid import checkpoint, synthetic, training
from crossreid.engine import Engine
from crossreid.training import OptimizerConfig, TrainConfig, fit

HERE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return synthetic.write(
        "market1501", tmp_path_factory.mktemp("data") / "market", identities=16, seed=1, progress=False
    )


def test_the_example_method_trains_embeds_saves_and_loads(tmp_path, monkeypatch):
    from sketches import Stream

    text = (HERE / "docs" / "howto" / "adding-a-method.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- example -->\n```python\n(.*?)\n```", text, re.S)[1]
    assert len(code.splitlines()) < 60
    (tmp_path / "small_method.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    example = importlib.import_module("small_method")
    small = example.Small
    torch.manual_seed(0)
    method = small(example.Config(), classes=12)
    config = TrainConfig(epochs=2, device="cpu", optimizers={"main": OptimizerConfig(lr=0.01)})
    lines = []
    fit(method, {"train": Stream(0)}, config, Engine("cpu"), record=lines.append)
    assert lines[1]["losses"]["train/total"] < lines[0]["losses"]["train/total"]
    method.eval()
    images = torch.randn(3, 3, 32, 16)
    monkeypatch.setattr("crossreid.methods.METHODS", {"small": small})
    given = {"size": [32, 16], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    content = checkpoint.describe(method, "small", input=given, settings={}, trained={})
    checkpoint.save(tmp_path / "small.pt", content)
    again = checkpoint.load(tmp_path / "small.pt")
    assert torch.equal(again.embed(images).feature, method.embed(images).feature)


def test_the_plain_loop_learns(market):
    spec = importlib.util.spec_from_file_location("plain_loop", HERE / "examples" / "plain_loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len((HERE / "examples" / "plain_loop.py").read_text().splitlines()) <= 60
    untrained, trained = module.main(str(market), 1), module.main(str(market), 60)
    assert trained > untrained + 0.05


def test_the_page_shows_the_example_of_pseudo_labels_as_it_is():
    page = (HERE / "docs" / "howto" / "adding-a-method.md").read_text(encoding="utf-8")
    example = (HERE / "examples" / "pseudo_labels.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in page and len(example.splitlines()) <= 60


@pytest.mark.slow
def test_pseudo_labels_improve_over_epochs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE / "examples")
    example = importlib.import_module("pseudo_labels")
    # Enough people and epochs for it to be no matter of chance: three more seeds gained two points and more.
    market = synthetic.write("market1501", tmp_path / "market", identities=40, seed=1, progress=False)
    example.main(str(market), str(tmp_path / "run"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = [next(iter(line["rows"].values())) for line in lines if line["kind"] == "evaluation"]
    precisions = [score["mean_ap"] for score in scores]
    assert sum(precisions[-3:]) / 3 > precisions[0] + 0.01


@pytest.mark.slow
def test_a_stop_amid_pseudo_labels_changes_nothing(market, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE / "examples")
    example = importlib.import_module("pseudo_labels")
    whole = example.main(str(market), str(tmp_path / "whole"), 6)
    # Inside the second of six epochs, whose clusters no longer follow from the weights that were saved.
    settings = example.settings(str(market), 6)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", partial(fit, stop_after=12))
        with pytest.raises(training.Interrupted, match="epoch 2"):
            training.train(settings, tmp_path / "stopped")
    resumed = training.train(settings, tmp_path / "stopped", resume=True)
    one, other = (checkpoint.read(path)["weights"] for path in (whole, resumed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Its cells in order, in one process, as the button "run all" has them."""
    notebook = json.loads((HERE / "examples" / "first_look.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    program = tmp_path / "cells.py"
    program.write_text("\n\n".join(cells), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Rank-1" in done.stdout
