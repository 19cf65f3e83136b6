"""A run's folder belongs to one run, and a resumed run to its data and its optimizers."""

import dataclasses
import json
import shutil

import pytest
import torch
from filelock import FileLock

from crossreid import checkpoint, config, training
from crossreid.records import UserError


def go(tree, run, *overrides, **more):
    training.train(config.load(tree, overrides), run, evaluate=False, **more)


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_folder_that_another_run_writes_to_is_refused(experiment, trained, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with FileLock(run / ".lock"):
        with pytest.raises(UserError, match="another run writes to"):
            go(experiment, run)
    assert [path.name for path in run.iterdir()] == [".lock"]
    go(experiment, run)
    shutil.copytree(trained, tmp_path / "live")
    with FileLock(tmp_path / "live" / ".lock"):
        with pytest.raises(UserError, match="another run writes to"):
            go(experiment, tmp_path / "live", "--train.epochs", "3", resume=True)


def test_what_a_killed_run_left_is_removed(experiment, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".last.pt.4711.part").write_text("half of it")
    go(experiment, run, "--train.epochs", "1")
    assert not list(run.glob(".*.part"))


def test_a_place_that_cannot_be_written_to_is_a_sentence(experiment, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        go(experiment, tmp_path / "file" / "run")


@pytest.fixture
def copy(market, tmp_path):
    return shutil.copytree(market, tmp_path / "copy")


def test_a_run_goes_on_with_the_data_it_began_with(experiment, copy, tmp_path):
    run, here = tmp_path / "run", ("--data.roots.market1501", str(copy), "--train.epochs")
    go(experiment, run, *here, "1")
    before = (run / "last.pt").read_bytes()
    folder = copy / "bounding_box_train"
    some = sorted(folder.glob("*.jpg"))[0]
    new = folder / f"9999{some.name[4:]}"
    shutil.copy(some, new)
    with pytest.raises(UserError, match=r"trained on 6 identities in 46 images.* now has 7 in 47 .new: 9999"):
        go(experiment, run, *here, "2", resume=True)
    new.unlink()
    shutil.move(some, tmp_path / "aside.jpg")
    with pytest.raises(UserError, match=r"now has 6 in 45 .the same identities, with other images"):
        go(experiment, run, *here, "2", resume=True)
    assert (run / "last.pt").read_bytes() == before
    shutil.move(tmp_path / "aside.jpg", some)
    go(experiment, run, *here, "2", resume=True)
    assert len([line for line in lines_of(run) if line["kind"] == "epoch"]) == 2


def test_changed_settings_of_an_optimizer_take_effect_and_another_kind_is_refused(experiment, tmp_path):
    run = tmp_path / "run"
    go(experiment, run, "--train.epochs", "1")
    with pytest.raises(UserError, match=r"train.optimizers.main.name was 'adam' and is now 'sgd'"):
        go(experiment, run, "--train.optimizers.main.name", "sgd", resume=True)
    with pytest.raises(UserError, match=r"main.layer_decay was 1.0 and is now 0.5"):
        go(experiment, run, "--train.optimizers.main.layer_decay", "0.5", resume=True)
    with pytest.raises(UserError, match=r"main.arguments was {} and is now {'amsgrad': True}"):
        go(experiment, run, "--train.optimizers.main.arguments", '{"amsgrad": true}', resume=True)
    go(experiment, run, "--train.optimizers.main.weight_decay", "0.25", resume=True)
    groups = checkpoint.read(run / "last.pt")["training"]["optimizers"]["main"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.25}


def test_losses_are_logged_inside_an_epoch_and_stay_once_when_it_is_resumed(experiment, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = ("--train.log_every", "1")
    go(experiment, whole, *steps)
    lines = lines_of(whole)
    assert [line["kind"] for line in lines] == [*["steps"] * 3, "epoch"] * 2 + ["summary"]
    first = [line["losses"] for line in lines[:3]]
    for name, mean in lines[3]["losses"].items():
        assert mean == pytest.approx(sum(each[name] for each in first) / 3)
    text = (whole / "log.txt").read_text()
    assert "epoch 1/2, step 2  train/total " in text and "epoch 2/2  train/total " in text

    settings = config.load(experiment, steps)
    fit = training.fit

    def stopped(*given, **named):
        return fit(*given, **named, stop_after=5)

    training.fit = stopped
    try:
        with pytest.raises(training.Interrupted):
            training.train(settings, run, evaluate=False)
    finally:
        training.fit = fit
    (run / "metrics.jsonl").open("a").write('{"kind": "steps", "epoch": 1, "iteration": 3}\n{"kin')
    training.train(settings, run, resume=True, evaluate=False)
    for ours, theirs in zip(lines_of(run), lines, strict=True):
        assert ours.get("losses") == theirs.get("losses") and ours.get("step") == theirs.get("step")


def test_steps_without_milestones_are_refused():
    with pytest.raises(UserError, match="'steps' without milestones"):
        training.ScheduleConfig(name="steps")
    assert training.ScheduleConfig().name == "constant"
    assert training.ScheduleConfig(milestones=[20]).name == "steps"
    again = training.ScheduleConfig(**dataclasses.asdict(training.ScheduleConfig()))
    assert again.name == "constant"


def test_a_full_disk_is_named_only_where_it_is_full(tmp_path, monkeypatch):
    def broken(content, file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(UserError, match="Input/output error") as error:
        checkpoint.save(tmp_path / "last.pt", {})
    assert "disk is full" not in str(error.value)
