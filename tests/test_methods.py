"""What every method must do, for each line of METHODS: learn, embed, save, load, and be the same on two processes."""

import exported_models
import numpy as np
import pytest
import torch
import two_processes

import crossreid
from crossreid import checkpoint
from crossreid.engine import Engine
from crossreid.methods import METHODS
from crossreid.methods.base import Progress
from crossreid.records import Batch, UserError
from crossreid.training import Interrupted, OptimizerConfig, TrainConfig, fit

CLASSES, DOMAINS, SIZE = 6, 3, (64, 32)
# The smallest settings of each method; a method without an entry is tested with its defaults.
SMALL = {
    "agw": {"backbone": "tiny", "pretrained": None},
    "baseline": {
        "backbone": "tiny",
        "pretrained": None,
        "losses": ["cross_entropy", "triplet", {"name": "center", "weight": 5e-4}],
    },
    "ddag": {"backbone": "tiny", "pretrained": None},
    "mvd": {"backbone": "tiny", "pretrained": None},
    "alignedreid": {"backbone": "tiny", "pretrained": None},
    "metabin": {"backbone": "tiny", "pretrained": None, "meta_train_domains": 2, "first_base_steps": 3},
}


class Stream:
    """Random batches: 6 identities, visible then infrared, three domains; draws by rank as the real loader."""

    def __init__(self, number, rank=0, world=1, position=None):
        self.number, self.rank, self.world, self.drawn = (
            number,
            rank,
            world,
            (position or {"draw": 0})["draw"],
        )

    def __len__(self):
        return 2

    def __next__(self):
        draw, self.drawn = self.drawn + self.rank, self.drawn + self.world
        random = torch.Generator().manual_seed(100 * self.number + draw)
        half = torch.arange(CLASSES).repeat_interleave(2)
        target = torch.cat([half, half])
        images = torch.randn(len(target), 3, *SIZE, generator=random)
        modality = torch.arange(2).repeat_interleave(len(half))
        return draw, Batch(images, target, torch.zeros_like(target), modality, target // 2)

    def state(self):
        return {"draw": self.drawn}


def build(name):
    torch.manual_seed(0)
    return checkpoint.build(name, SMALL.get(name, {}), CLASSES, DOMAINS)


def loaders(method, rank=0, world=1, position=None):
    names = sorted({phase.loader for phase in method.phases(Progress())})
    return {
        name: Stream(number, rank, world, position and position[name]) for number, name in enumerate(names)
    }


def config(method, **settings):
    optimizers = {name: OptimizerConfig(lr=0.01) for name in method.parameter_groups()}
    return TrainConfig(epochs=2, optimizers=optimizers, device="cpu", **settings)


def train(name, *, rank=0, world=1, resume=None, weights=None, stop_after=None, **settings):
    method = build(name)
    if weights:
        method.load_state_dict(weights)
    kept = {}

    def save(file, training):
        kept[file] = ({key: value.clone() for key, value in method.state_dict().items()}, training)

    lines = []
    engine = Engine("cpu", search_unused=len(method.phases(Progress())) > 1)
    streams = loaders(method, rank, world, resume and resume["loaders"])
    try:
        fit(
            method,
            streams,
            config(method, **settings),
            engine,
            save=save,
            record=lines.append,
            resume=resume,
            stop_after=stop_after,
        )
    except Interrupted:
        assert stop_after
    return method, lines, kept


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_embeds_saves_loads_and_resumes_exactly(name, tmp_path):
    start = {key: value.clone() for key, value in build(name).state_dict().items()}
    method, lines, _ = train(name)
    assert any(not torch.equal(start[key], value) for key, value in method.state_dict().items())
    assert all(torch.isfinite(torch.tensor(list(line["losses"].values()))).all() for line in lines)

    _, _, kept = train(name, stop_after=1)
    weights, training = kept["last.pt"]
    resumed, _, _ = train(name, resume=training, weights=weights)
    for key, value in method.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key

    method.eval()
    torch.manual_seed(5)
    images = torch.randn(5, 3, *SIZE)
    modality = torch.tensor([0, 1, 1, 0, 1])
    for feature in method.features:
        together = method.embed(images, modality=modality, feature=feature)
        assert together.feature.shape[0] == 5 and together.feature.ndim == 2
        alone = [
            method.embed(images[i : i + 1], modality=modality[i : i + 1], feature=feature) for i in range(5)
        ]
        torch.testing.assert_close(
            together.feature, torch.cat([each.feature for each in alone]), rtol=1e-4, atol=1e-5
        )
        if method.unit_length:
            torch.testing.assert_close(together.feature.norm(dim=1), torch.ones(5))
        metric = method.metric(feature)
        assert (together.stripes is not None) or metric.stripes is None
    with pytest.raises(UserError, match=method.features[0]):
        method.embed(images, modality=modality, feature="no such feature")
    assert method.feature_map(images, modality).ndim == 4

    inputs = {"size": SIZE, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
    checkpoint.save(
        tmp_path / "m.pt", checkpoint.describe(method, name, input=inputs, settings={}, trained={"epoch": 2})
    )
    loaded = checkpoint.load(tmp_path / "m.pt")
    assert not loaded.training and loaded.input["size"] == list(SIZE)
    assert torch.equal(
        loaded.embed(images, modality=modality).feature, method.embed(images, modality=modality).feature
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_is_exported_and_gives_the_same_vectors_without_torch(name, tmp_path_factory):
    file, folder = exported_models.exported(tmp_path_factory, name, SMALL.get(name, {}))
    trained, exported = crossreid.Embedder(file), crossreid.Embedder(folder)
    assert trained.fingerprint == exported.fingerprint and trained.modalities == exported.modalities
    images = np.random.default_rng(0).integers(0, 256, (3, 100, 50, 3)).astype(np.uint8)
    for modality in trained.modalities:
        vectors = exported(images, modality)
        assert vectors.shape == (3, trained.dimension)
        assert np.linalg.norm(vectors - trained(images, modality), axis=1).max() < 1e-4
        assert np.linalg.norm(vectors[0] - vectors[1]) > 1e-3


def _process(rank, names, out):
    results = {}
    for name in names:
        method, lines, _ = train(name, rank=rank, world=2)
        results[name] = (method.state_dict(), [line["losses"] for line in lines])
    torch.save(results, f"{out}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(tmp_path):
    two_processes.run(_process, list(METHODS), str(tmp_path))
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in METHODS:
        alone, lines, _ = train(name, accumulate=2)
        for key, parameter in alone.named_parameters():
            assert torch.equal(one[name][0][key], other[name][0][key]), (
                f"{name}: the processes differ in {key}"
            )
            scale = parameter.detach().abs().max().item() + 1e-3
            difference = (one[name][0][key] - parameter).abs().max().item()
            assert difference < 2e-3 * scale, f"{name}: {key} differs by {difference}"
        for ours, theirs in zip(one[name][1], lines, strict=True):
            for key, value in theirs["losses"].items():
                assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-4), f"{name} {key}"
