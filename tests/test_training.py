"""Runs of a few steps: selection, pretrained weights, resume under other settings, faulty data, two processes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import two_processes

from crossreid import checkpoint, config, outside, training
from crossreid.data.loading import training_set
from crossreid.methods.baseline import Baseline
from crossreid.nn.resnet import resnet
from crossreid.records import UserError
from crossreid.training import loop


def lines_of(run, kind):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def run_with(experiment, run, *overrides, **more):
    training.train(config.load(experiment, overrides), run, **more)
    return run


def refused(call, *words):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), str(error.value)


def weights(path):
    return checkpoint.read(path)["weights"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


HELD_OUT = ("--data.validation", "0.34", "--train.select", "validation", "--train.evaluate_every", "1")


def test_the_best_on_held_out_identities_is_kept_at_once(experiment, tmp_path, monkeypatch):
    """The scores are given: 0.5, 0.7, 0.6. The weights of the second epoch are those that are reported."""
    scored, seen = iter([0.5, 0.7, 0.6]), []
    from crossreid import evaluation

    whole = evaluation.score

    def score(method, protocol, settings, engine):
        kept = list((tmp_path / "run").glob("*.pt"))
        seen.append(({image.identity for image in protocol.images}, {path.name for path in kept}))
        rows = whole(method, protocol, settings, engine)
        value = next(scored)
        return {
            row: type(scores)(**{**vars(scores), "cmc": scores.cmc * 0 + value})
            for row, scores in rows.items()
        }

    monkeypatch.setattr(evaluation, "score", score)
    run = run_with(experiment, tmp_path / "run", *HELD_OUT, "--train.epochs", "3", "--train.keep_every", "1")
    trained_on = {image.identity for image in training_set(config.load(experiment, HELD_OUT).data)[0]}
    for identities, _ in seen:
        assert len(identities) == 2 and len(trained_on) == 4 and not identities & trained_on
    assert [("best.pt" in files) for _, files in seen] == [False, True, True]
    assert checkpoint.read(run / "best.pt")["trained"] == {
        "source": "market1501",
        "identities": 4,
        "images": checkpoint.read(run / "last.pt")["trained"]["images"],
        "modalities": ["visible"],
        "epoch": 2,
    }
    assert_same(weights(run / "best.pt"), weights(run / "epoch_2.pt"))
    assert any(
        not torch.equal(a, b)
        for a, b in zip(weights(run / "best.pt").values(), weights(run / "last.pt").values())
    )
    lines = lines_of(run, "evaluation")
    assert [(line["epoch"], line["split"]) for line in lines] == [
        (0, "validation"),
        (1, "validation"),
        (2, "validation"),
    ]
    result = json.loads((run / "evaluation.json").read_text())
    assert (
        result["checkpoint"] == "best.pt"
        and result["epoch"] == 2
        and "best on the validation" in result["selection"]
    )
    assert result["rows"][0]["queries"] == 21  # the report is of the test set all the same


def test_selecting_on_the_test_set_is_said(experiment, tmp_path):
    run = run_with(
        experiment,
        tmp_path / "run",
        "--train.select",
        "test",
        "--train.evaluate_every",
        "1",
        "--train.epochs",
        "1",
    )
    result = json.loads((run / "evaluation.json").read_text())
    assert "TEST set" in result["selection"] and lines_of(run, "evaluation")[0]["split"] == "test"
    assert (
        f"best.pt is of epoch {result['epoch']}, the best on the test set\n" in (run / "log.txt").read_text()
    )


def test_selecting_on_people_that_nobody_held_out_is_refused_before_training(experiment, tmp_path):
    run = tmp_path / "run"
    refused(
        lambda: run_with(experiment, run, "--train.select", "validation", "--train.evaluate_every", "1"),
        "data.validation",
    )
    assert not run.exists()


@pytest.mark.parametrize("name", ["agw", "ddag", "mvd", "baseline", "alignedreid"])
def test_batches_of_one_identity_are_refused_before_training(experiment, tmp_path, name):
    tree = experiment | {"method": {"name": name, "backbone": "tiny", "pretrained": None}}
    if name in ("agw", "ddag"):
        tree["method"]["streams"] = 1
    run = tmp_path / "run"
    refused(lambda: run_with(tree, run, "--data.loaders.train.identities", "1"), "at least two identities")
    assert not run.exists()


def test_keeping_and_saving_do_not_change_the_weights(experiment, trained, tmp_path, monkeypatch):
    saved = []
    whole = checkpoint.save

    def save(path, content):
        saved.append((path.name, content.get("training", {}).get("iteration")))
        whole(path, content)

    monkeypatch.setattr(checkpoint, "save", save)
    run = run_with(
        experiment,
        tmp_path / "run",
        "--train.keep_every",
        "2",
        "--train.save_minutes",
        "0",
        "--train.evaluate_every",
        "1",
        evaluate=False,
    )
    assert sorted(path.name for path in run.glob("*.pt")) == ["epoch_2.pt", "last.pt"]
    epoch = [("last.pt", 1), ("last.pt", 2), ("last.pt", 3), ("last.pt", 0)]
    assert saved == [*epoch, ("last.pt", 0), *epoch, ("epoch_2.pt", None), ("last.pt", 0)]
    assert_same(weights(run / "last.pt"), weights(trained / "last.pt"))
    assert_same(weights(run / "epoch_2.pt"), weights(trained / "last.pt"))
    refused(lambda: run_with(experiment, run, "--train.epochs", "3"), "not an empty folder", "--resume")
    shutil.copy(run / "epoch_2.pt", run / "last.pt")
    refused(lambda: run_with(experiment, run, resume=True), "no training state")


def test_starting_from_a_run_on_other_people(experiment, trained, tmp_path):
    start = (
        "--train.init_from",
        str(trained / "last.pt"),
        "--train.optimizers.main.lr",
        "0",
        "--train.epochs",
        "1",
    )
    run = run_with(experiment, tmp_path / "run", "--data.validation", "0.34", *start, evaluate=False)
    old, new = weights(trained / "last.pt"), weights(run / "last.pt")
    assert "not taken from there: classifier.weight" in (run / "log.txt").read_text()
    assert new["classifier.weight"].shape[0] == 4 and old["classifier.weight"].shape[0] == 6
    for key in old:
        # At a rate of 0 only the running statistics move.
        if key != "classifier.weight" and not key.endswith(
            ("running_mean", "running_var", "num_batches_tracked")
        ):
            assert torch.equal(old[key], new[key]), key
    other = experiment | {"method": {"name": "alignedreid", "backbone": "tiny", "pretrained": None}}
    refused(lambda: run_with(other, tmp_path / "other", *start), "holds the method AGW", "AlignedReID")
    refused(
        lambda: run_with(experiment, tmp_path / "other", "--train.init_from", "no.pt"),
        "there is no checkpoint",
    )
    assert not (tmp_path / "other").exists()


def test_the_log_says_where_all_weights_come_from_and_what_batches_hold(experiment, tmp_path):
    plain = {"name": "baseline", "backbone": "tiny", "pretrained": None, "losses": ["cross_entropy"]}
    drawn = experiment | {"method": plain}
    # More identities in a batch than there are: of images alone the product counts.
    words = ("--data.loaders.train.sampler", "images", "--data.loaders.train.identities", "16")
    words += ("--data.loaders.train.instances", "1", "--train.epochs", "1")
    first = run_with(drawn, tmp_path / "first", *words, evaluate=False)
    start = ("--train.init_from", str(first / "last.pt"))
    log = (run_with(drawn, tmp_path / "next", *words, *start, evaluate=False) / "log.txt").read_text()
    assert f"started from {first / 'last.pt'}\n" in log and "of 16 images by the sampler images" in log


def test_resuming_with_another_method_or_other_settings_is_refused(experiment, trained):
    before = (trained / "last.pt").read_bytes()
    other = experiment | {"method": {"name": "alignedreid", "backbone": "tiny", "pretrained": None}}
    refused(lambda: run_with(other, trained, resume=True), "does not fit the method AlignedReID")
    refused(
        lambda: run_with(experiment, trained, "--method.attention", "false", resume=True), "other settings"
    )
    refused(lambda: run_with(experiment, trained, "--data.validation", "0.34", resume=True), "gone: 5, 11")
    assert (trained / "last.pt").read_bytes() == before


def test_a_finished_run_keeps_its_record(experiment, trained):
    before = (trained / "config.yaml").read_bytes()
    for change in (("--data.size", "[64, 32]"), ("--train.epochs", "1"), ("--train.seed", "5")):
        refused(
            lambda change=change: run_with(experiment, trained, *change, resume=True),
            "nothing is left to train",
        )
    assert (trained / "config.yaml").read_bytes() == before


def test_a_run_that_saved_nothing_is_begun_again(experiment, trained, tmp_path):
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    for name in ("log.txt", "metrics.jsonl", "tensorboard/events"):
        (run / name).write_text("of the run before\n")
    kept = "# my notes\n" + (trained / "config.yaml").read_text()
    (run / "config.yaml").write_text(kept)
    refused(lambda: run_with(experiment, run), "not an empty folder")
    assert (run / "config.yaml").read_text() == kept
    (run / "config.yaml").write_bytes((trained / "config.yaml").read_bytes())
    run_with(experiment, run, evaluate=False)
    assert_same(weights(run / "last.pt"), weights(trained / "last.pt"))
    left = [
        path for path in run.rglob("*") if path.is_file() and path.suffix in (".txt", ".jsonl", ".yaml", "")
    ]
    assert not any("of the run before" in path.read_text() for path in left)
    refused(lambda: run_with(experiment, run), "not an empty folder")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("")
    refused(lambda: run_with(experiment, tmp_path / "mine"), "not an empty folder")


def _fold_process(rank, tree, run):
    training.train_folds(config.load(tree), run)


@pytest.mark.slow
def test_two_processes_train_every_fold(experiment, tmp_path):
    from crossreid import synthetic

    synthetic.write("regdb", tmp_path / "regdb", identities=8, images=2)
    changes = {"name": "regdb", "roots": {"regdb": str(tmp_path / "regdb")}, "fold": "all"}
    tree = experiment | {"data": experiment["data"] | changes, "train": experiment["train"] | {"epochs": 1}}
    two_processes.run(_fold_process, tree, tmp_path / "run")
    scored = sorted(path.parent.name for path in (tmp_path / "run").glob("fold_*/evaluation.json"))
    assert len(scored) == 10


class Relabelled(Baseline):
    """Gives labels, and a classifier, that depend on the process, and leaves out some images; remembers its batches."""

    seen: list

    def epoch_start(self, loaders):
        rank, self.seen = int(os.environ["RANK"]), []
        target = np.arange(len(loaders["train"].dataset.images)) % (3 + rank)
        target[: 2 + rank] = -1
        loaders["train"].relabel(target)
        with torch.no_grad():
            self.classifier.weight.fill_(0.01 * rank)

    def forward(self, batch, phase, progress):
        self.seen += batch.target.tolist()
        return super().forward(batch, phase, progress)


def _relabelling(rank, tree, run):
    outside.load_module("test_training")
    kept = {}
    fit = training.fit

    def watched(method, loaders, *how, **more):
        kept["all"] = (method, loaders)
        return fit(method, loaders, *how, **more)

    training.fit = watched
    training.train(config.load(tree), run, evaluate=False)
    method, loaders = kept["all"]
    torch.save([dict(method.named_parameters()), loaders["train"].state(), method.seen], f"{run}-{rank}.pt")


@pytest.mark.slow
def test_two_processes_learn_from_the_labels_of_the_first(experiment, tmp_path):
    tree = experiment | {"method": {"name": Relabelled, "backbone": "tiny", "pretrained": None}}
    tree = config.load(tree).to_dict()
    two_processes.run(_relabelling, tree, tmp_path / "run")
    one, other = (torch.load(f"{tmp_path / 'run'}-{rank}.pt", weights_only=False) for rank in range(2))
    assert one[1] == other[1] and set(one[1]["target"][:2]) == {-1} and max(one[1]["target"]) == 2
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert set(one[2]) | set(other[2]) <= {0, 1, 2} and one[2] and other[2]


class Unwilling(Relabelled):
    """One that cannot begin the epoch in its second process."""

    def epoch_start(self, loaders):
        if os.environ["RANK"] == "1":
            raise UserError("too few clusters")


def _told(rank, tree, run):
    try:
        _relabelling(rank, tree, run)
    except UserError as error:
        Path(f"{run}-{rank}.txt").write_text(str(error))


@pytest.mark.slow
def test_a_process_that_cannot_begin_an_epoch_ends_all(experiment, tmp_path):
    tree = experiment | {"method": {"name": Unwilling, "backbone": "tiny", "pretrained": None}}
    two_processes.run(_told, config.load(tree).to_dict(), tmp_path / "run")
    told = [Path(f"{tmp_path / 'run'}-{rank}.txt").read_text() for rank in range(2)]
    assert told[1] == "too few clusters" and "another process could not begin the epoch" in told[0]


def test_resume_needs_no_start_weights(experiment, tmp_path):
    start = tmp_path / "start.pth"
    torch.manual_seed(0)
    torch.save(resnet("tiny", 1).state_dict(), start)
    pretrained = ("--method.pretrained", str(start))
    whole = run_with(experiment, tmp_path / "whole", *pretrained, evaluate=False)
    run = run_with(experiment, tmp_path / "run", *pretrained, "--train.epochs", "1", evaluate=False)
    start.unlink()
    run_with(experiment, run, *pretrained, resume=True, evaluate=False)
    assert_same(weights(run / "last.pt"), weights(whole / "last.pt"))


@pytest.fixture
def copy(market, tmp_path):
    return shutil.copytree(market, tmp_path / "copy")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_image_stops_an_epoch_with_its_name_or_is_passed_over(experiment, copy, tmp_path, workers):
    broken = sorted((copy / "bounding_box_train").glob("*.jpg"))[::3]
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    here = ("--data.roots.market1501", str(copy), "--data.workers", workers, "--train.epochs", "1")
    refused(
        lambda: run_with(experiment, tmp_path / "run", *here, evaluate=False),
        str(copy / "bounding_box_train"),
        "not a readable image",
        "data.broken: skip",
    )
    if workers == "0":
        with pytest.warns(UserWarning, match="stands in for it"):
            run = run_with(experiment, tmp_path / "skip", *here, "--data.broken", "skip")
        assert (run / "last.pt").exists() and (run / "evaluation.json").exists()


def test_a_broken_image_in_the_gallery_is_named(experiment, copy, trained, tmp_path):
    path = sorted((copy / "bounding_box_test").glob("0*.jpg"))[-1]
    path.write_bytes(b"")
    from crossreid import evaluation

    settings = config.load(experiment, ["--data.roots.market1501", str(copy)])
    refused(lambda: evaluation.evaluate(trained / "last.pt", settings=settings, out=tmp_path), str(path))
    assert not list(tmp_path.glob("*.json"))


def test_folders_that_are_missing_or_empty_and_batches_that_cannot_be_filled(experiment, copy, tmp_path):
    run = tmp_path / "run"

    def attempt(*overrides):
        return lambda: run_with(experiment, run, *overrides)

    root = "--data.roots.market1501"
    refused(attempt(root, str(tmp_path / "nowhere")), "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(attempt(root, str(tmp_path / "empty")), str(tmp_path / "empty"))
    refused(
        attempt(
            root,
            str(tmp_path / "empty"),
            "--data.name",
            "folder",
            "--data.roots.folder",
            str(tmp_path / "empty"),
        ),
        "no images",
    )
    file = tmp_path / "file"
    file.write_text("")
    refused(attempt(root, str(file)), str(file))
    for path in (copy / "bounding_box_train").iterdir():
        path.unlink()
    refused(attempt(root, str(copy)), "no training images were found")
    refused(attempt("--data.loaders.train.identities", "7"), "7 identities cannot be drawn from 6")
    refused(attempt("--data.loaders.train.sampler", "cross_modal"), "no infrared image")
    refused(attempt("--method.streams", "2"), "method.streams")
    refused(attempt("--data.loaders", "{meta: {sampler: identity}}"), "train")
    refused(attempt("--train.optimizers", "{head: {}}"), "head", "main")
    refused(attempt("--evaluate.feature", "nonsense"), "'nonsense'", "bn")
    assert not run.exists()


def test_identities_with_one_image_are_repeated(experiment, copy, tmp_path):
    """K images of a person who has one are that one K times, so the batch is full and the losses finite."""
    kept = set()
    for path in sorted((copy / "bounding_box_train").glob("*.jpg")):
        person = path.name[:4]
        path.unlink() if person in kept else kept.add(person)
    run = run_with(
        experiment,
        tmp_path / "run",
        "--data.roots.market1501",
        str(copy),
        "--train.epochs",
        "1",
        evaluate=False,
    )
    assert "6 images, 6 identities" in (run / "log.txt").read_text()
    assert all(value == value for value in lines_of(run, "epoch")[0]["losses"].values())


def _process(rank, tree, overrides, run):
    kept = {}
    step = loop._Loop.step

    def watched(self, phase):
        kept["method"] = self.method
        return step(self, phase)

    loop._Loop.step = watched
    training.train(config.load(tree, overrides), run)
    torch.save(dict(kept["method"].named_parameters()), f"{run}-{rank}.pt")


@pytest.mark.slow
def test_two_processes_with_an_evaluation_in_the_middle_and_an_odd_number_of_batches(experiment, tmp_path):
    """Three batches an epoch do not divide by two; each process still takes two steps, and nobody waits."""
    run = tmp_path / "run"
    overrides = ["--train.evaluate_every", "1", "--train.select", "test", "--evaluate.batch", "10"]
    two_processes.run(_process, experiment, overrides, run)
    one, other = (torch.load(f"{run}-{rank}.pt", weights_only=False) for rank in range(2))
    last = checkpoint.read(run / "last.pt")
    for key, value in one.items():
        assert torch.equal(value, other[key]) and torch.equal(value, last["weights"][key]), key
    assert last["training"]["loaders"]["train"]["batch_index"] == 8 and last["training"]["steps"] == 4
    assert (
        [line["epoch"] for line in lines_of(run, "epoch")]
        == [line["epoch"] for line in lines_of(run, "evaluation")]
        == [0, 1]
    )
    (summary,) = lines_of(run, "summary")
    assert summary["processes"] == 2
    assert (run / "log.txt").read_text().count("epoch 2/2") == 1
    # The scores gathered from both processes are those that one process finds for the same weights.
    best = json.loads((run / "evaluation.json").read_text())
    from crossreid import evaluation

    rows = evaluation.evaluate(run / "best.pt", settings=config.load(experiment), log=lambda text: None)
    (scores,) = rows.values()
    assert best["rows"][0]["mean_ap"] == pytest.approx(float(scores.mean_ap), abs=1e-4)
    assert best["rows"][0]["cmc"] == pytest.approx(scores.cmc.tolist(), abs=1e-6)
    (row,) = rows
    middle = [line["rows"][row]["mean_ap"] for line in lines_of(run, "evaluation")]
    assert any(value == pytest.approx(float(scores.mean_ap), abs=1e-4) for value in middle)
