"""The benchmark of training steps: its batches, a step of ours, and what is said where a clone is missing."""

from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    if not FOLDER.is_dir():
        pytest.skip("the benchmarks are not part of an installation")
    monkeypatch.syspath_prepend(str(FOLDER))
    import training_step

    return training_step


def test_batches_are_what_each_method_trains_on(benchmark):
    cross = benchmark.batches("agw", 8, (32, 16))["train"]
    assert cross.modality.tolist() == [0] * 8 + [1] * 8 and torch.equal(cross.target[:8], cross.target[8:])
    plain = benchmark.batches("alignedreid", 8, (32, 16))["train"]
    assert plain.target.tolist() == [0] * 4 + [1] * 4 and not plain.modality.any()
    for batch in benchmark.batches("metabin", 40, (32, 16)).values():
        assert batch.images.shape == (40, 3, 32, 16)
        for domain in range(5):
            people, counts = batch.target[batch.domain == domain].unique(return_counts=True)
            assert len(people) == 2 and counts.tolist() == [4, 4]


def test_a_step_of_ours_moves_weights_and_gates(benchmark, monkeypatch):
    from crossreid import checkpoint

    built = []
    build = checkpoint.build

    def kept(name, settings, *given):
        built.append(build(name, settings | {"backbone": "tiny"}, *given))
        return built[-1]

    monkeypatch.setattr(checkpoint, "build", kept)
    step = benchmark.ours("metabin", benchmark.batches("metabin", 20, (64, 32)))
    (model,) = built
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    step()
    for name in ("backbone.conv1.weight", "backbone.layer2.0.bn1.gate"):
        assert not torch.equal(before[name], model.get_parameter(name)), name


def test_a_missing_clone_is_named(benchmark, tmp_path):
    import original_steps

    with pytest.raises(SystemExit, match="no clone DDAG"):
        original_steps.ddag(tmp_path, benchmark.batches("ddag", 8, (32, 16)), 10)
