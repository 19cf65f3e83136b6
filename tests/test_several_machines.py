"""Several processes, as launchers start them."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import two_processes
from sketches import CLASSES, DOMAINS, SKETCHES, Config, Stream

from crossreid.commands import train
from crossreid.config import resolve
from crossreid.engine import Engine
from crossreid.methods import METHODS
from crossreid.training import OptimizerConfig, TrainConfig, fit, standstill


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launched(command, settings_file, run):
    words = [*command, "train", str(settings_file), "--run", str(run), "--train.device", "auto"]
    return subprocess.Popen(
        words,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(processes, run):
    for process in processes:
        text, _ = process.communicate(timeout=600)
        assert process.returncode == 0, text
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (summary,) = (line for line in lines if line["kind"] == "summary")
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [0, 1]
    return summary


@pytest.mark.slow
def test_two_processes_on_a_machine_without_accelerator_train_one_model(settings_file, tmp_path):
    """By torchrun, with the default device; before, each trained a model of its own into the same folder."""
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        port(),
    ]
    summary = finished([launched([*command, "-m", "--", "crossreid"], settings_file, run)], run)
    assert summary["processes"] == 2 and summary["device"].startswith("cpu")


@pytest.mark.slow
def test_two_launchers_as_on_two_machines(settings_file, tmp_path):
    run, place = tmp_path / "run", port()
    both = []
    for rank in ("0", "1"):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", rank]
        command += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", place]
        both.append(launched([*command, "-m", "--", "crossreid"], settings_file, run))
    assert finished(both, run)["processes"] == 2


def _name(rank, tree, out):
    time.strftime = lambda form: f"2026-{rank}"
    (out / str(rank)).write_text(str(train._new_run(resolve(tree))))


@pytest.mark.slow
def test_processes_agree_on_the_name_of_a_run(experiment, tmp_path):
    two_processes.run(_name, experiment, tmp_path)
    assert {(tmp_path / str(rank)).read_text() for rank in range(2)} == {"runs/agw-market1501-2026-0"}


class Pictures(Stream):
    """Batches that a residual network takes."""

    def __next__(self):
        number, batch = super().__next__()
        random = torch.Generator().manual_seed(number)
        return number, replace(batch, images=torch.randn(16, 3, 32, 16, generator=random))


TWO = [
    ("metabin", {"meta": False, "base_losses": ("triplet",)}),
    ("ddag", {"graph_schedule": "step", "streams": 1, "dropout": 0.0}),
]


def _both(rank, out):
    found = []
    for name, settings in TWO:
        torch.manual_seed(0)
        method = METHODS[name](METHODS[name].Config(pretrained=None, backbone="tiny", **settings), CLASSES, 4)
        names = method.parameter_groups()
        config = TrainConfig(epochs=2, optimizers={each: OptimizerConfig(lr=0.01) for each in names})
        engine = Engine("cpu", search_unused=method.leaves_out())
        fit(method, {"train": Pictures(0, rank, 2, length=4)}, config, engine)
        found.append({**dict(method.named_parameters()), "graph": getattr(method, "graph_weight", None)})
    torch.save(found, f"{out}/{rank}.pt")


@pytest.mark.slow
def test_losses_that_reach_no_classifier_and_a_weight_of_every_step_on_two_processes(tmp_path):
    """MetaBIN with the triplet alone used to end with an error, and DDAG's w differed between processes."""
    two_processes.run(_both, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for one, other in zip(*ranks):
        for name, value in one.items():
            assert value is None or torch.equal(value, other[name]), name
    assert 0 < ranks[0][1]["graph"] < 1


class Stuck(Stream):
    """A disk that does not answer, in one of the processes."""

    def __next__(self):
        number, batch = super().__next__()
        if number > 4:
            time.sleep(10**6)
        return number, batch


def _stuck(rank):
    standstill.LIMIT = 6
    kind, options = SKETCHES["agw"]
    torch.manual_seed(1)
    method = kind(Config(**options), CLASSES, DOMAINS)
    stream = (Stuck if rank else Stream)(0, rank, 2)
    fit(
        method,
        {"train": stream},
        TrainConfig(epochs=9, optimizers={"main": OptimizerConfig()}),
        Engine("cpu"),
    )


@pytest.mark.slow
def test_a_process_that_stands_still_is_named_and_the_others_end(capfd):
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="exit code 1"):
        two_processes.run(_stuck)
    text = capfd.readouterr().err
    assert (
        "crossreid: process 1 (" in text and "waiting for a batch of the loader 'train', stood still" in text
    )
    assert "process 0 (" not in text and "FutureWarning" not in text


def told(done, doing="in the forward pass of batch 3", seconds=1.0):
    process = standstill._Process()
    process.note({"number": 1, "done": done, "doing": doing, "seconds": seconds})
    return process


def test_who_is_least_far_and_neither_gets_on_nor_computes_stands_still():
    ahead, behind = told(8), told(7)
    soon, late = time.monotonic() + 50, time.monotonic() + 70
    assert standstill._standing([ahead, behind], soon) == []
    assert standstill._standing([ahead, behind], late) == [behind]
    # As far as the others, but silent.
    silent, here = told(8), told(8)
    here.heard += 60
    assert standstill._standing([silent, here], late) == [silent]
    # One that saves, and one that computes.
    assert standstill._standing([ahead, told(7, None)], late) == []
    behind.note({"number": 2, "done": 7, "doing": behind.message["doing"], "seconds": 1.5})
    assert behind.moved < behind.heard
    behind.note({"number": 3, "done": 7, "doing": behind.message["doing"], "seconds": 3.0})
    assert behind.moved == behind.heard and behind.seconds == 3.0
