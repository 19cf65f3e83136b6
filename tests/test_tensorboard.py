"""Scalars for TensorBoard beside metrics.jsonl, and training without it."""

import json
import sys

import pytest
import torch

from crossreid import config, training
from crossreid.records import UserError

SETTINGS = ("--train.epochs", "2", "--train.evaluate_every", "1")
BOARD = ("--train.trackers", "[tensorboard]")


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
    training.train(config.load(experiment, (*SETTINGS, *BOARD)), run, evaluate=False)
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
    settings = config.load(experiment, ("--train.epochs", "2", *BOARD))
    training.train(settings, run, evaluate=False)
    settings.train.epochs = 3
    training.train(settings, run, resume=True, evaluate=False)
    assert [step for step, _ in scalars_of(run)["step_ms"]] == [0, 1, 2]


def test_a_tracker_that_is_not_installed_is_named_before_training(experiment, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    run = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"train.trackers names 'tensorboard', whose package is not installed"
    ):
        training.train(config.load(experiment, (*SETTINGS, *BOARD)), run, evaluate=False)
    assert not (run / "last.pt").exists()
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        config.load(experiment, ("--train.trackers", "[tensorbord]"))
    training.train(config.load(experiment, SETTINGS), run, evaluate=False)
    assert not (run / "tensorboard").exists()
    kinds = [line["kind"] for line in lines_of(run)]
    assert kinds == ["epoch", "evaluation", "epoch", "evaluation", "summary"]
