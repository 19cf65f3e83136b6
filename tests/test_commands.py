"""The commands, called in this process: what they write, what they answer, and their exit codes."""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PILImage

from crossreid import checkpoint, config, training
from crossreid.__main__ import main


def lines_of(run, kind):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def evaluation_of(folder):
    return json.loads((folder / "evaluation.json").read_text())


def assert_one_paragraph(capsys, *words):
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert text.startswith("crossreid: ")
    for word in words:
        assert word in text, text


def assert_same_weights(one, other):
    one, other = (checkpoint.read(path)["weights"] for path in (one, other))
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def people(root, identities=6, images=4, names=""):
    """Own images, a folder for each person."""
    random = np.random.default_rng(0)
    for person in range(identities):
        folder = root / names / f"person {person}"
        folder.mkdir(parents=True)
        for number in range(images):
            pixels = np.full((48, 24, 3), 40 * person, np.uint8) + random.integers(
                30, size=(48, 24, 3), dtype=np.uint8
            )
            PILImage.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_training_fills_the_run_folder(trained, experiment):
    assert sorted(path.name for path in trained.iterdir()) == [
        ".lock",
        "config.yaml",
        "evaluation.json",
        "last.pt",
        "log.txt",
        "metrics.jsonl",
        "report.html",
    ]
    written = yaml.safe_load((trained / "config.yaml").read_text())
    assert written == config.load(experiment).to_dict()
    epochs = lines_of(trained, "epoch")
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert epochs[0]["losses"].keys() == epochs[1]["losses"].keys() >= {"train/total", "train/identity"}
    (summary,) = lines_of(trained, "summary")
    assert summary["checkpoint_bytes"] == (trained / "last.pt").stat().st_size
    log = (trained / "log.txt").read_text()
    assert (
        "46 images, 6 identities, 6 cameras" in log
        and "of 2 identities x 3 instances by the sampler identity" in log
        and "epoch 2/2" in log
    )
    content = checkpoint.read(trained / "last.pt")
    assert content["settings"] == written and content["trained"]["epoch"] == 2
    assert content["training"]["loaders"]["train"]["batch_index"] == 6
    result = evaluation_of(trained)
    assert (
        result["epoch"] == 2 and result["checkpoint"] == "last.pt" and result["selection"] == "the last epoch"
    )
    assert result["rows"][0]["queries"] == 21 and result["notes"] == []
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert f"{100 * result['rows'][0]['cmc'][0]:.1f}" in page and "agw" in page


def test_the_resolved_settings_are_printed_and_nothing_is_written(
    settings_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(settings_file), "--train.epochs", "7", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == config.load(settings_file, ["--train.epochs", "7"]).to_dict()
    assert printed["train"]["epochs"] == 7 and list(tmp_path.iterdir()) == []


def test_exit_codes(settings_file, trained, tmp_path, capsys):
    assert main([]) == main(["--help"]) == main(["--version"]) == 0
    capsys.readouterr()
    for words, said in (
        (["trian"], ["'trian'", "did you mean 'train'"]),
        (["train"], ["settings file or --resume"]),
        (["train", "--epochs", "3"], ["settings file or --resume", "no option --epochs"]),
        (["train", "--epochs", "3", str(settings_file)], ["did you mean train.epochs"]),
        (["evaluate", "--rerank", "true", str(trained / "last.pt")], ["did you mean evaluate.rerank"]),
        (["train", str(settings_file), "--resume", str(trained)], ["not both"]),
        (["train", str(settings_file), "--train.epoch", "3"], ["did you mean 'epochs'"]),
        (["train", str(settings_file), "--run", str(trained)], ["not an empty folder", "--resume"]),
        (["train", str(settings_file), "--run", str(settings_file)], ["not an empty folder"]),
        (["train", "--resume", str(tmp_path)], ["there is no checkpoint", "last.pt"]),
        (["evaluate", str(tmp_path / "no.pt")], ["there is no checkpoint"]),
        (["evaluate", str(settings_file)], ["--config"]),
        (["evaluate", str(trained / "last.pt"), "--evaluate.feature", "nonsense"], ["nonsense", "bn"]),
    ):
        assert main(words) == 2, words
        assert_one_paragraph(capsys, *said)
    run = tmp_path / "run"
    exploding = ["--train.optimizers.main.lr", "1e30", "--train.optimizers.main.name", "sgd"]
    assert main(["train", str(settings_file), "--run", str(run), *exploding]) == 1
    assert_one_paragraph(capsys, "RuntimeError", "in epoch", "step", "--debug")


def test_an_unknown_option_that_took_what_is_missing_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--verbose", "last.pt"])
    assert "required: model; and there is no option --verbose" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare"])
    assert "--verbose" not in capsys.readouterr().err


def test_debug_shows_where(settings_file):
    with pytest.raises(ValueError, match="did you mean"):
        main(["--debug", "train", str(settings_file), "--train.epoch", "3"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stopped_by_a_signal_and_resumed_equals_one_that_was_not(
    settings_file, trained, tmp_path, monkeypatch, workers
):
    run = tmp_path / "run"

    class Interrupting(training.Loader):
        def __next__(self):
            if self.state()["batch_index"] == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__next__()

    with monkeypatch.context() as patched:
        patched.setattr(training, "Loader", Interrupting)
        words = ["train", str(settings_file), "--run", str(run), "--data.workers", str(workers)]
        assert main(words) == 130
    assert not (run / "evaluation.json").exists()
    stopped = checkpoint.read(run / "last.pt")["training"]
    assert (stopped["epoch"], stopped["iteration"]) == (1, 1)
    assert f"crossreid train --resume {run}" in (run / "log.txt").read_text()

    assert main(["train", "--resume", str(run)]) == 0
    assert_same_weights(run / "last.pt", trained / "last.pt")
    one, other = (
        checkpoint.read(path / "last.pt")["training"]["optimizers"]["main"]["state"]
        for path in (run, trained)
    )
    for number, state in other.items():
        assert all(torch.equal(state[key], one[number][key]) for key in state)
    for line, uninterrupted in zip(lines_of(run, "epoch"), lines_of(trained, "epoch"), strict=True):
        assert line["losses"] == uninterrupted["losses"] and line["lrs"] == uninterrupted["lrs"]
    assert evaluation_of(run)["rows"] == evaluation_of(trained)["rows"]
    assert "resumed in epoch 2, after step 1\n" in (run / "log.txt").read_text()


def test_a_finished_run_goes_on_for_more_epochs_but_not_for_fewer(settings_file, trained, tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(settings_file), "--run", str(run), "--train.epochs", "1"]) == 0
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "epoch", "epo')  # what a crash may leave
    assert main(["train", "--resume", str(run), "--train.epochs", "2"]) == 0
    assert (
        "after step 0; settings changed from here on: train.epochs 1 to 2\n" in (run / "log.txt").read_text()
    )
    assert_same_weights(run / "last.pt", trained / "last.pt")
    assert [line["epoch"] for line in lines_of(run, "epoch")] == [0, 1] and len(lines_of(run, "summary")) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 2

    assert main(["train", "--resume", str(run), "--train.epochs", "1"]) == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 2
    assert main(["train", "--resume", str(run)]) == 0
    assert_same_weights(run / "last.pt", trained / "last.pt")
    assert evaluation_of(run)["rows"] == evaluation_of(trained)["rows"]


def test_evaluating_the_checkpoint_gives_the_scores_of_its_run(trained, tmp_path, capsys):
    out = tmp_path / "again"
    assert main(["evaluate", str(trained / "last.pt"), "--out", str(out), "--evaluate.batch", "5"]) == 0
    one, other = evaluation_of(out), evaluation_of(trained)
    assert one["protocol"] == other["protocol"] and one["metric"] == other["metric"]
    for row, expected in zip(one["rows"], other["rows"], strict=True):
        assert row["cmc"] == pytest.approx(expected["cmc"], abs=1e-6)
        assert row["mean_ap"] == pytest.approx(expected["mean_ap"], abs=1e-4)
    assert (out / "report.html").exists() and (out / "config.yaml").exists()
    assert f"{100 * other['rows'][0]['cmc'][0]:.2f}" in capsys.readouterr().out


def test_switching_the_same_camera_rule_off_is_written_down(trained, tmp_path):
    out = tmp_path / "off"
    assert (
        main(["evaluate", str(trained / "last.pt"), "--out", str(out), "--protocol.same_camera", "false"])
        == 0
    )
    result = evaluation_of(out)
    assert (
        "same-camera rule is off" in result["notes"][0] and "rule is off" in result["protocol"]["description"]
    )
    assert "same-camera rule is off" in (out / "report.html").read_text(encoding="utf-8")
    assert result["rows"] != evaluation_of(trained)["rows"]


def test_own_images_of_one_camera(settings_file, tmp_path, capsys):
    own = ["--data.name", "folder", "--data.roots.folder", str(people(tmp_path / "own"))]
    run = tmp_path / "run"
    assert main(["train", str(settings_file), "--run", str(run), "--train.epochs", "1", *own]) == 0
    # Said before training, which may take hours, and at its end; the weights are there all the same.
    log = (run / "log.txt").read_text()
    assert log.count("has a valid match") == 2 and f"the weights are in {run / 'last.pt'}" in log
    assert log.index("protocol.same_camera: false") < log.index("epoch 1/1") and (run / "last.pt").exists()

    out = tmp_path / "off"
    assert main(["evaluate", str(run / "last.pt"), "--out", str(out), "--protocol.same_camera", "false"]) == 0
    result = evaluation_of(out)
    assert result["rows"][0]["valid"] == result["rows"][0]["queries"] == 3
    for listed in result["ranked"]:
        paths = [shown["path"] for shown in listed["gallery"]]
        assert len(paths) == len(set(paths)) == 9 and listed["query"]["path"] not in paths


def test_reports_and_conversion_answer_mistakes_in_one_paragraph(trained, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["report", str(empty)]) == 2
    assert_one_paragraph(capsys, str(empty))
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    assert main(["report", str(copy), str(trained), "--out", str(tmp_path / "both.html")]) == 0
    assert (tmp_path / "both.html").exists()
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "out.pt")]) == 2
    assert not (tmp_path / "out.pt").exists()


def test_a_reader_that_stops_early_is_no_failure():
    import subprocess

    command = f"{sys.executable} -m crossreid data list | head -1; exit ${{PIPESTATUS[0]}}"
    outcome = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert outcome.returncode == 0 and outcome.stderr == "" and len(outcome.stdout.splitlines()) == 1
