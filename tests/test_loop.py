"""The loop carries all five methods: several processes equal one that accumulates, and resume is exact."""

import os
import pickle
import signal

import pytest
import torch
import two_processes
from sketches import CLASSES, DOMAINS, SKETCHES, Config, Stream, ToyAGW

from crossreid.checkpoint import plain
from crossreid.engine import Engine
from crossreid.methods.base import Progress
from crossreid.training import (
    Interrupted,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    fit,
    lr_factor,
    make_optimizers,
)


def build(name):
    kind, settings = SKETCHES[name]
    torch.manual_seed(1)
    return kind(Config(**settings), CLASSES, DOMAINS)


def config_of(method, **settings):
    schedule = ScheduleConfig(warmup=1, milestones=[2], unit="iteration")
    optimizers = {name: OptimizerConfig(lr=0.05, schedule=schedule) for name in method.parameter_groups()}
    return TrainConfig(epochs=3, optimizers=optimizers, device="cpu", seed=3, **settings)


def run(
    name, *, rank=0, world=1, accumulate=1, resume=None, stop_after=None, weights=None, length=5, **settings
):
    """Train a sketch; returns (weights, gate of records, last training state)."""
    method = build(name)
    if weights:
        method.load_state_dict(weights)
    engine = Engine("cpu", search_unused=len(method.phases(Progress())) > 1)
    loaders = {
        loader: Stream(number, rank, world, resume and resume["loaders"][loader], length=length)
        for number, loader in enumerate(("train", "meta"))
    }
    saved, lines = {}, []

    def save(file, training):
        saved[file] = (
            plain({k: v.clone() for k, v in method.state_dict().items()}),
            pickle.loads(pickle.dumps(training)),
        )

    try:
        fit(
            method,
            loaders,
            config_of(method, accumulate=accumulate, **settings),
            engine,
            save=save,
            record=lines.append,
            resume=resume,
            stop_after=stop_after,
        )
    except Interrupted:
        assert stop_after is not None
    return {k: v.clone() for k, v in method.state_dict().items()}, lines, saved


def identical(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


@pytest.mark.parametrize("name", SKETCHES)
def test_a_run_stopped_inside_an_epoch_continues_bit_for_bit(name):
    whole, lines, _ = run(name, log_every=4)
    _, before, saved = run(name, stop_after=7, log_every=4)
    weights, training = saved["last.pt"]
    assert (training["epoch"], training["iteration"]) == (1, 2)
    resumed, after, _ = run(name, resume=training, weights=weights, log_every=4)
    identical(whole, resumed)
    assert [line["losses"] for line in lines] == [line["losses"] for line in before + after]


@pytest.mark.parametrize("name", SKETCHES)
def test_training_changes_weights_and_lowers_the_loss(name):
    start = build(name).state_dict()
    end, lines, _ = run(name)
    assert any(not torch.equal(start[key], end[key]) for key in start)
    total = next(key for key in lines[0]["losses"] if key.endswith("/total"))
    assert lines[-1]["losses"][total] < lines[0]["losses"][total]


def _stopped_and_continued(rank, out):
    how = {"rank": rank, "world": 2, "length": 60}
    whole, lines, _ = run("ddag", **how)
    _, _, saved = run("ddag", stop_after=20, **how)
    if rank == 0:
        torch.save(saved["last.pt"], f"{out}/stopped.pt")
    torch.distributed.barrier()
    weights, training = torch.load(f"{out}/stopped.pt", weights_only=True)
    resumed, after, _ = run("ddag", resume=training, weights=weights, **how)
    # Running statistics are each process's own, and those of the first are kept.
    learned = whole if rank == 0 else dict(build("ddag").named_parameters())
    identical({key: whole[key] for key in learned}, {key: resumed[key] for key in learned})
    assert (training["epoch"], training["iteration"]) == (0, 20)
    assert [line["losses"] for line in after] == [line["losses"] for line in lines]


@pytest.mark.slow
def test_two_processes_stopped_inside_an_epoch_continue_bit_for_bit(tmp_path):
    """The means of an epoch steer DDAG's graph loss, and each process has its own part of them."""
    two_processes.run(_stopped_and_continued, str(tmp_path))


def _process(rank, names, out):
    results = {}
    for each in names:
        weights, lines, _ = run(each, rank=rank, world=2, length=6)
        results[each] = (weights, [line["losses"] for line in lines])
    torch.save(results, f"{out}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates_their_batches(tmp_path):
    two_processes.run(_process, list(SKETCHES), str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in SKETCHES:
        alone, lines, _ = run(name, accumulate=2, length=6)
        parameters = {key for key, _ in build(name).named_parameters()}
        for key in parameters:
            assert torch.equal(ranks[0][name][0][key], ranks[1][name][0][key]), (
                f"{name}: ranks differ in {key}"
            )
            torch.testing.assert_close(
                ranks[0][name][0][key], alone[key], rtol=1e-4, atol=1e-6, msg=f"{name} {key}"
            )
        for ours, theirs in zip(ranks[0][name][1], lines, strict=True):
            for key, value in theirs["losses"].items():
                assert ours[key] == pytest.approx(value, rel=1e-4, abs=1e-6), f"{name} {key}"


def test_the_first_iteration_takes_ten_base_steps_and_gates_stay_in_bounds():
    method = build("metabin")
    assert [phase.repeat for phase in method.phases(Progress(0, 0))] == [10, 1]
    assert [phase.repeat for phase in method.phases(Progress(0, 1))] == [1, 1]
    weights, _, saved = run("metabin")
    assert saved["last.pt"][1]["loaders"] == {"train": {"draw": 24}, "meta": {"draw": 15}}
    gate = weights["body.gate"]
    assert gate.min() >= 0 and gate.max() <= 1 and gate.min() < 1


def test_a_loss_that_is_not_finite_names_term_step_and_batch_and_leaves_the_weights():
    class Broken(ToyAGW):
        def forward(self, batch, phase, progress):
            losses = super().forward(batch, phase, progress)
            if progress.epoch == 1 and progress.iteration == 2:
                losses["triplet"] = losses["triplet"] * float("nan")
            return losses

    method = Broken(Config(), CLASSES)
    loaders = {"train": Stream(0)}
    seen = []

    class Watched(Stream):
        def __next__(self):
            seen.append({key: value.clone() for key, value in method.named_parameters()})
            return super().__next__()

    loaders["train"] = Watched(0)
    with pytest.raises(
        RuntimeError, match=r"'triplet' of phase 'train' became nan in epoch 2, step 3 \(batch 7"
    ):
        fit(method, loaders, config_of(method), Engine("cpu"))
    identical(seen[-1], dict(method.named_parameters()))


def test_a_device_is_asked_for_losses_late_and_nothing_of_a_wrong_one_is_saved():
    """With batches under way, as on an accelerator: the same record, and a loss that is not finite has its name."""

    class Broken(ToyAGW):
        def forward(self, batch, phase, progress):
            losses = super().forward(batch, phase, progress)
            if progress.epoch == 1 and progress.iteration == self.wrong:
                losses["triplet"] = losses["triplet"] * float("nan")
            return losses

    whole, lines, _ = run("agw")
    for lag in (1, 3):
        torch.manual_seed(1)
        method, engine = Broken(Config(), CLASSES, DOMAINS), Engine("cpu")
        method.wrong, engine.lag, late = None, lag, []
        loaders = {"train": Stream(0), "meta": Stream(1)}
        fit(method, loaders, config_of(method), engine, record=late.append)
        identical(whole, method.state_dict())
        assert [line["losses"] for line in late] == [line["losses"] for line in lines]
        for method.wrong in (2, 4):
            saved = []

            def save(name, training, saved=saved, method=method):
                saved.append(all(bool(value.isfinite().all()) for value in method.state_dict().values()))

            with pytest.raises(RuntimeError, match=rf"became nan in epoch 2, step {method.wrong + 1} .batch"):
                fit(method, {"train": Stream(0)}, config_of(method, save_minutes=0), engine, save=save)
            assert saved and all(saved)
            method.load_state_dict(whole)


def test_an_optimizer_without_settings_and_a_parameter_without_optimizer_are_refused():
    method = build("metabin")
    with pytest.raises(ValueError, match=r"optimizers gates, main but train.optimizers configures main"):
        make_optimizers(method, {"main": OptimizerConfig()})
    method.parameter_groups = lambda: {"main": [{"params": [method.body.gate]}]}
    with pytest.raises(RuntimeError, match=r"leaves out body\.weight\.weight"):
        make_optimizers(method, {"main": OptimizerConfig()})


def test_ctrl_c_saves_and_stops(tmp_path):
    method = build("agw")
    saved = []

    class Interrupting(Stream):
        def __next__(self):
            if self.drawn == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__next__()

    with pytest.raises(Interrupted):
        fit(
            method,
            {"train": Interrupting(0)},
            config_of(method),
            Engine("cpu"),
            save=lambda name, training: saved.append((name, training["epoch"], training["iteration"])),
        )
    assert saved[-1] == ("last.pt", 1, 2)


def test_the_published_schedules():
    ddag = ScheduleConfig(warmup=10, milestones=[20, 50])
    rates = [0.1 * lr_factor(ddag, 81, Progress(epoch, 3, 7)) for epoch in range(81)]
    expected = [
        0.1 * (e + 1) / 10 if e < 10 else 0.1 if e < 20 else 0.01 if e < 50 else 0.001 for e in range(81)
    ]
    assert rates == pytest.approx(expected)
    mvd = ScheduleConfig(warmup=10, warmup_start=0.01, milestones=[209])
    rates = [2.6e-4 * lr_factor(mvd, 600, Progress(epoch, 0, 7)) for epoch in (0, 1, 9, 208, 209)]
    assert rates == pytest.approx([2.834e-5, 5.408e-5, 2.6e-4, 2.6e-4, 2.6e-5])
    metabin = ScheduleConfig(
        warmup=10, warmup_start=0.01, warmup_ahead=False, unit="iteration", milestones=[40, 70]
    )
    factor = lr_factor(metabin, 100, Progress(0, 0, 50))
    assert factor == pytest.approx(0.01)
    assert lr_factor(metabin, 100, Progress(5, 0, 50)) == pytest.approx(0.01 * 0.5 + 0.5)
    assert lr_factor(metabin, 100, Progress(39, 49, 50)) == pytest.approx(1)
    assert lr_factor(metabin, 100, Progress(40, 0, 50)) == pytest.approx(0.1)
    for kind in ("constant", "cosine"):
        uneven = ScheduleConfig(name=kind, warmup=2.5)
        factors = [lr_factor(uneven, 5, Progress(epoch, 0, 7)) for epoch in range(5)]
        assert factors[:3] == pytest.approx([0.4, 0.8, 1]) and max(factors) <= 1
    cosine = ScheduleConfig(name="cosine", unit="iteration", warmup=6, end=7e-5)
    assert lr_factor(cosine, 300, Progress(0, 0, 93)) == pytest.approx(1 / (6 * 93))
    assert lr_factor(cosine, 300, Progress(6, 0, 93)) == pytest.approx(1)
    assert lr_factor(cosine, 300, Progress(153, 0, 93)) == pytest.approx(0.5 + 0.5 * 7e-5)
