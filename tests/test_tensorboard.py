"""Scalars for TensorBoard beside metrics.jsonl, and training without it."""

import json
import sys

import pytest

from crossreid import config, training

SETTINGS = ("--train.epochs", "2", "--train.evaluate_every", "1")


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars_of(run):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_the_numbers_of_each_epoch_are_scalars(experiment, tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    training.train(config.load(experiment, SETTINGS), run, evaluate=False)
    scalars, lines = scalars_of(run), lines_of(run)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    scored = [line for line in lines if line["kind"] == "evaluation"]
    assert len(epochs) == len(scored) == 2
    assert scalars["losses/train/total"] == [
        (epoch, pytest.approx(line["losses"]["train/total"])) for epoch, line in enumerate(epochs)
    ]
    assert scalars["lrs/main/0"] == [
        (e, pytest.approx(line["lrs"]["main"][0])) for e, line in enumerate(epochs)
    ]
    (row,) = scored[0]["rows"]
    assert scalars[f"rows/{row}/mean_ap"] == [
        (line["epoch"], pytest.approx(line["rows"][row]["mean_ap"])) for line in scored
    ]
    assert "epoch" not in scalars


def test_a_resumed_run_has_each_epoch_once(experiment, tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    settings = config.load(experiment, ("--train.epochs", "2"))
    training.train(settings, run, evaluate=False)
    settings.train.epochs = 3
    training.train(settings, run, resume=True, evaluate=False)
    assert [step for step, _ in scalars_of(run)["step_ms"]] == [0, 1, 2]


def test_without_the_package_only_the_file_is_written(experiment, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    run = tmp_path / "run"
    training.train(config.load(experiment, SETTINGS), run, evaluate=False)
    assert not (run / "tensorboard").exists()
    assert [line["kind"] for line in lines_of(run)] == [
        "epoch",
        "evaluation",
        "epoch",
        "evaluation",
        "summary",
    ]
