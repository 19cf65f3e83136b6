"""On an accelerator nothing in a step's forward, and nothing between it and the backward pass, waits for the device.

A GPU is not needed: see ``fake_device``.
"""

import numpy as np
import pytest
import torch
from fake_device import autocast, gpu

from crossreid.data.on_device import Draw, finish
from crossreid.data.settings import DataConfig, EraseConfig, JitterConfig
from crossreid.data.transforms import erase_box, jitter_amounts
from crossreid.engine import PRECISIONS
from crossreid.losses import sinkhorn as sinkhorn_file
from crossreid.losses.sinkhorn import sinkhorn
from crossreid.losses.triplet import batch_hard_triplet, modality_centres
from crossreid.methods import METHODS
from crossreid.methods.base import Progress
from crossreid.ops import ranks
from crossreid.ops.ranks import rank_sorted
from crossreid.records import Batch, Labels, UserError

VARIANTS = [
    ("agw", {}),
    ("agw", {"loss": "hard"}),
    ("agw", {"streams": 1, "stable": True, "normalize": True, "smoothing": 0.1}),
    ("ddag", {}),
    ("ddag", {"graph_schedule": "step", "streams": 1, "variant": "mindspore", "last_stride": 2}),
    ("ddag", {"centroids": True, "after_neck": True}),
    *(("mvd", {"profile": name}) for name in ("authors", "paper", "conventional", "mindspore")),
    ("mvd", {"profile": "mindspore", "centroids": True}),
    ("alignedreid", {}),
    ("alignedreid", {"local_distance": "unaligned"}),
    ("metabin", {}),
    ("metabin", {"meta": False, "norm": "bn"}),
    ("metabin", {"meta_learns": "all", "meta_train_weight": 1.0, "norm": "bin_shared"}),
    (
        "metabin",
        {"base_losses": ["focal", "circle", "deviation", "mmd", {"name": "triplet", "mining": "soft"}]},
    ),
    ("metabin", {"second_order": True, "meta_train_losses": ["scatter", "shuffle", "cross_entropy"]}),
    ("metabin", {"meta": False, "base_losses": ["cross_entropy", "triplet", "contrast"]}),
    ("metabin", {"meta_train_losses": ["mmd", "deviation", "circle"], "pooling": "gem_learned"}),
    *(("metabin", {"classifier": name, "pooling": "average_max"}) for name in ("arc", "circle", "cosine")),
]
TARGET = np.arange(8).repeat(2)
LABELS = Labels(TARGET, TARGET * 0, np.arange(2).repeat(8), TARGET // 2)


def batch(labels=LABELS):
    """As the loader gives it, on the device: with the labels on the host."""
    fields = (labels.target, labels.camera, labels.modality, labels.domain)
    tensors = [torch.from_numpy(values).to("cuda", non_blocking=True) for values in fields]
    return Batch(torch.randn(len(labels), 3, 64, 32, device="cuda"), *tensors, labels=labels)


def build(name, settings):
    config = METHODS[name].Config(**{"pretrained": None, "backbone": "tiny"} | settings)
    with torch.device("cuda"):
        return METHODS[name](config, 12, 4).train()


def shuffled():
    return LABELS.take(np.random.default_rng(0).permutation(16))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name, settings", VARIANTS, ids=lambda value: str(value))
def test_the_forward_of_every_method_waits_for_nothing(name, settings, precision, monkeypatch):
    with gpu(monkeypatch) as waits:
        method = build(name, settings)
        scale = torch.full((), 1024.0, device="cuda") if precision == "float16" else 1.0
        progress = Progress(0, 1, 10, {"main": (0.1, 0.2), "gates": (0.1,)}, scale)
        dtype, seen = PRECISIONS[precision], []
        next(m for m in method.modules() if isinstance(m, torch.nn.Conv2d)).register_forward_hook(
            lambda module, given, result: seen.append(result.dtype)
        )
        for phase in method.phases(progress):
            for labels in (LABELS, shuffled()):
                images = batch(labels)
                waits.clear()
                with autocast(dtype):
                    losses = method(images, phase.name, progress)
                assert waits == []
                assert set(seen) == {dtype or torch.float32}
                assert {loss.device.type for loss in losses.values()} == {"cuda"}
                assert all(loss.ndim == 0 for loss in losses.values())


@pytest.mark.parametrize("name", METHODS)
def test_embedding_waits_for_nothing(name, monkeypatch):
    with gpu(monkeypatch) as waits, torch.no_grad():
        method = build(name, {}).eval()
        images = torch.randn(4, 3, 64, 32, device="cuda")
        waits.clear()
        modality = np.array([0, 1, 1, 0]) if len(method.modalities) > 1 else "visible"
        for feature in method.features:
            found = method.embed(images, modality, feature)
            assert found.feature.device.type == "cuda" and len(found) == 4
        assert waits == []


def test_the_harness_notices_what_waits(monkeypatch):
    with gpu(monkeypatch) as waits:
        x = torch.randn(4, device="cuda")
        for ask in (
            lambda: x.sum().item(),
            lambda: x.tolist(),
            lambda: bool(x.sum() > 0),
            lambda: x[x > 0],
            lambda: x.nonzero(),
            lambda: x.unique(),
            lambda: x + torch.randn(4),
        ):
            with pytest.raises(RuntimeError):
                ask()
        assert waits == []
        x.cpu()
        x.new_tensor([1.0, 2.0])
        assert len(waits) == 2


def test_what_a_device_is_not_asked_changes_no_number(monkeypatch):
    """On a device Sinkhorn's iterations after the last one leave everything as it is."""
    torch.manual_seed(0)
    first, second = (torch.randn(6, 5, dtype=torch.float64).softmax(1).requires_grad_() for _ in range(2))
    asked = sinkhorn(first, second, 0.05, 60, 0.01)
    wanted = torch.autograd.grad(asked, (first, second))
    iterations = []
    whole = sinkhorn_file._logsumexp
    monkeypatch.setattr(sinkhorn_file, "_logsumexp", lambda *given: iterations.append(1) or whole(*given))
    monkeypatch.setattr(sinkhorn_file, "_can_be_asked", lambda value: False)
    found = sinkhorn(first, second, 0.05, 60, 0.01)
    assert len(iterations) == 120 and torch.equal(found, asked)
    for one, other in zip(torch.autograd.grad(found, (first, second)), wanted):
        assert torch.equal(one, other)


def test_centroids_with_and_without_the_labels_of_the_host():
    torch.manual_seed(0)
    labels = shuffled()
    vectors = torch.randn(16, 3)
    target, modality = (torch.from_numpy(values) for values in (labels.target, labels.modality))
    groups = sorted({(int(t), int(m)) for t, m in zip(target, modality)})
    wanted = torch.stack([vectors[(target == t) & (modality == m)].mean(0) for t, m in groups])
    for given in (None, labels):
        centroids, identities = modality_centres(vectors, target, modality, given)
        torch.testing.assert_close(centroids, wanted)
        assert identities.tolist() == [t for t, _ in groups]


def test_one_identity_in_a_batch_is_refused_from_what_the_host_knows(monkeypatch):
    alone = Labels(*(values * 0 for values in (TARGET, TARGET, TARGET, TARGET)))
    with gpu(monkeypatch):
        method = build("agw", {"streams": 1})
        with pytest.raises(ValueError, match="at least two identities"):
            method(batch(alone), "train", Progress())
    with pytest.raises(ValueError, match="at least two identities"):
        batch_hard_triplet(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))


def test_ranking_a_block_waits_for_nothing(monkeypatch):
    with gpu(monkeypatch) as waits:
        values = torch.rand(5, 40, device="cuda")
        query, gallery = np.arange(5), np.arange(40) % 7
        for by_identity in (False, True):
            found = rank_sorted(values, query, query, gallery, gallery // 2, by_identity)
            assert found.shape == (5, 4) and found.device.type == "cuda"
        assert waits == []


def test_a_whole_ranking_waits_only_when_every_block_was_handed_over(monkeypatch):
    asked = []
    monkeypatch.setattr(ranks, "refuse_wrong", lambda found, gallery: asked.append((len(found), gallery)))
    gallery = np.arange(40) % 7
    task = ranks.Task(np.arange(9) % 7, gallery, None, None, None, "image", 5)
    some = ranks.Task(np.arange(9) % 7, gallery[::2], None, None, None, "image", 5)
    with gpu(monkeypatch) as waits:
        rows = ranks.Rows((9, 40), lambda start, stop: torch.rand(stop - start, 40, device="cuda"))
        ranks.run(rows, [(task, None), (some, np.arange(0, 40, 2))], 9, 40, 4, False, (), 0)
        assert waits == [] and asked == [(3, 40)] and len(task.there) == len(some.there) == 3


def test_the_first_distance_that_is_not_finite_is_named_late_as_it_is_at_once():
    values = torch.rand(6, 5)
    values[4, 3], values[5, 0] = torch.inf, torch.nan
    found = [(start, ranks.first_wrong(values[start : start + 2])) for start in (0, 2, 4)]
    for refuse in (lambda: ranks.refuse_wrong(found, 5), lambda: ranks.checked(values, 0)):
        with pytest.raises(UserError, match="query 4 to gallery item 3 is not a finite number"):
            refuse()
    ranks.refuse_wrong(found[:2], 5)


def test_finishing_a_batch_waits_for_nothing(monkeypatch):
    config = DataConfig(size=(24, 12), grey=0.5, jitter=JitterConfig(), erase=EraseConfig(1.0))
    rng = np.random.default_rng(0)
    draws = [
        Draw(bool(place % 2), jitter_amounts(rng, config.jitter), erase_box(rng, config.erase, config.size))
        for place in range(6)
    ]
    with gpu(monkeypatch) as waits:
        pixels = torch.zeros(6, 3, 24, 12, dtype=torch.uint8, device="cuda")
        found = finish(pixels, draws, config)
        assert found.device.type == "cuda" and found.dtype == torch.float32 and waits == []
