"""The training of the bundled models: what a batch holds, what it minimises, that it goes on, and where it computes."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import fake_device
import numpy as np
import pytest
import torch

from crossreid import checkpoint, synthetic
from crossreid.training import averaging

STUDIES = Path(__file__).parent.parent / "studies"


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        yield importlib.import_module("pairs"), importlib.import_module("study")


@pytest.fixture(scope="module")
def folder(studies, tmp_path_factory):
    """Three styles of five people."""
    where = tmp_path_factory.mktemp("rendered")
    copies = {str(domain): where / "people" / str(domain) for domain in range(3)}
    for domain, copy in enumerate(copies.values()):
        synthetic.write("csv", copy, identities=5, images=1, domain=domain, seed=domain, progress=False)
    studies[1].joined(where / "people.csv", copies, studies[1].everybody)
    return where


@pytest.fixture
def plan(studies):
    return studies[0].Schedule(
        sizes=((3, (32, 16)), (2, (48, 24))), lr=1e-3, warmup=2, people=3, images=2, infrared=3.0
    )


def test_a_batch_holds_people_of_two_styles_and_depends_on_its_step_alone(studies, folder, plan):
    pairs, _ = studies
    people, asked = pairs.People(folder), []

    def watched(size):
        whole = pairs.People.pixels(people, size)

        class Rows:
            def __getitem__(self, rows):
                asked.append(rows)
                return whole[rows]

        return Rows()

    people_of = {row: who for style in people.styles.values() for who, rows in style.items() for row in rows}
    first, targets = people.batch(1, plan)
    people.pixels = watched
    again, _ = people.batch(1, plan)
    assert torch.equal(first, again)
    assert first.shape == (12, 3, 32, 16) and people.batch(3, plan)[0].shape == (12, 3, 48, 24)
    assert not torch.equal(first, people.batch(2, plan)[0])
    for rows in asked:
        shown = [people_of[row] for row in rows]
        assert len({who.partition("-")[0] for who in shown}) == 2
        assert len(set(shown)) == 6 and all(shown[i] == shown[i + 1] for i in range(0, 12, 2))
        assert len(set(rows)) == 12
    assert targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_the_rate_rises_falls_and_may_end_along_a_line(plan):
    long = replace(plan, sizes=((100, (32, 16)),), warmup=10)
    assert [long.factor(step) for step in (0, 9)] == [0.1, 1.0]
    assert long.factor(55) == pytest.approx(0.01 + 0.99 * 0.5) and long.factor(100) == pytest.approx(0.01)
    ending = replace(long, horizon=190, cooldown=20)
    assert ending.factor(79) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * 69 / 180)))
    assert ending.factor(90) == pytest.approx(ending.factor(80) / 2) and ending.factor(100) == 0


def test_a_training_that_was_stopped_ends_with_the_same_weights(studies, folder, plan, tmp_path, monkeypatch):
    pairs, _ = studies
    whole = pairs.train(checkpoint.load("small"), folder, tmp_path / "whole", plan)

    done, update = [], pairs.update

    def interrupted(*arguments):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(update(*arguments))
        return done[-1]

    # Kept after every step instead of every fiftieth one.
    monkeypatch.setattr(pairs, "KEEP", 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pairs, "update", interrupted)
        pairs.train(checkpoint.load("small"), folder, tmp_path / "parts", plan)
    assert not (tmp_path / "parts" / "last.pt").exists()
    parts = pairs.train(checkpoint.load("small"), folder, tmp_path / "parts", plan)
    first, second = checkpoint.read(whole), checkpoint.read(parts)
    assert first["input"]["size"] == [48, 24] and first["trained"] == second["trained"]
    for key, value in first["weights"].items():
        assert torch.equal(value, second["weights"][key]), key
    key = next(key for key, _ in checkpoint.load(whole).named_parameters())
    assert not torch.equal(first["weights"][key], checkpoint.load("small").state_dict()[key])


def test_a_step_on_an_accelerator_mixes_no_devices_and_never_waits(studies, monkeypatch):
    pairs, _ = studies
    # A device that is not there gives no gradients.
    losses = []
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: losses.append(loss))
    with fake_device.gpu(monkeypatch) as waits:
        gated = {"backbone": "mobilenet_v2_1.0", "norm": "bin_early", "gate_init": "half", "meta": False}
        with torch.device("cuda"):
            method = checkpoint.build("metabin", gated, classes=1).train()
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
        average = averaging.start(method)
        images = torch.randn(8, 3, 32, 16, device="cuda")
        targets = torch.zeros(8, dtype=torch.long, device="cuda")
        for value in method.parameters():
            value.grad = torch.zeros_like(value)
        monkeypatch.setattr(optimizer, "zero_grad", lambda: None)
        waits.clear()
        loss = pairs.update(method, optimizer, images, targets, 0.1)
        averaging.update(average, method, 0.9)
        assert loss.device.type == "cuda" and len(losses) == 1 and not waits
