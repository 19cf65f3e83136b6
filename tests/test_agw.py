"""AGW: its contract, and its training step computed once more from the weights alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossreid.losses.weighted_triplet import weighted_triplet
from crossreid.methods import METHODS
from crossreid.methods.agw import AGW
from crossreid.methods.base import Progress
from crossreid.records import Batch, UserError


def make(classes=4, **settings):
    torch.manual_seed(0)
    method = AGW(AGW.Config(backbone="tiny", pretrained=None, **settings), classes)
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.weight.eq(0).all():
            torch.nn.init.ones_(module.weight)  # make the non-local blocks count
    return method


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor([0, 0, 1, 1, 2, 2] * 2)
    modality = torch.arange(12) // 6
    return Batch(torch.randn(12, 3, 64, 32, generator=generator), target, target * 0, modality, target * 0)


def test_in_the_table():
    assert METHODS["agw"] is AGW and "agw" in METHODS


def test_forward_of_the_published_and_the_plain_form(batch):
    losses = make()(batch, "train", Progress())
    assert set(losses) == {"identity", "triplet", "total", "positive_weights", "negative_weights"}
    assert torch.equal(losses["total"], losses["identity"] + losses["triplet"])
    plain = make(attention=False, pooling="average", loss="hard")(batch, "train", Progress())
    assert set(plain) == {"identity", "triplet", "total"}


def test_training_step_by_its_equations(batch):
    """One double-precision step against the paper's equations, with the two stems run by hand."""
    method = make().double().train()
    images = batch.images.double()
    batch = Batch(images, batch.target, batch.camera, batch.modality, batch.domain)
    losses = method(batch, "train", Progress())

    again = make().double().train()
    maps = torch.cat((again.stems.visible(images[:6]), again.stems.infrared(images[6:])))
    for name in ("layer1", "layer2", "nonlocal2", "layer3", "nonlocal3", "layer4"):
        for block in getattr(again.backbone, name):
            if name.startswith("nonlocal"):
                theta, phi, g = (layer(maps).flatten(2) for layer in (block.theta, block.phi, block.g))
                similar = theta.transpose(1, 2) @ phi / theta.shape[2]
                mixed = (similar @ g.transpose(1, 2)).transpose(1, 2).view(12, 1, *maps.shape[2:])
                maps = maps + block.norm(block.out(mixed))
            else:
                maps = block(maps)
    pooled = ((maps**3).flatten(2).mean(2) + 1e-12) ** (1 / 3)
    centred = (pooled - pooled.mean(0)) / (pooled.var(0, unbiased=False) + 1e-5).sqrt()
    logits = (centred * again.neck.weight) @ again.classifier.weight.T
    identity = -logits.log_softmax(1)[torch.arange(12), batch.target].mean()
    triplet = weighted_triplet(pooled, batch.target)[0]
    torch.testing.assert_close(losses["identity"], identity, rtol=1e-10, atol=0)
    torch.testing.assert_close(losses["triplet"], triplet, rtol=1e-10, atol=0)
    losses["total"].backward()
    (identity + triplet).backward()
    for (name, one), other in zip(method.named_parameters(), again.parameters()):
        if name != "neck.bias":
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-12, msg=name)


def test_order_of_the_batch_does_not_matter(batch):
    one, other = make().double(), make().double()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    batch = Batch(batch.images.double(), batch.target, batch.camera, batch.modality, batch.domain)
    first = one(batch, "train", Progress())["total"]
    second = other(batch.select(order), "train", Progress())["total"]
    torch.testing.assert_close(first, second, rtol=1e-10, atol=0)
    for a, b in zip(one.buffers(), other.buffers()):
        torch.testing.assert_close(a, b)


def test_embed_uses_the_stem_of_the_modality(batch):
    method = make().eval()
    with torch.no_grad():
        mixed = method.embed(batch.images, batch.modality).feature
        visible = method.embed(batch.images, "visible").feature
        infrared = method.embed(batch.images, "infrared").feature
        pooled = method.embed(batch.images, "visible", "global").feature
    torch.testing.assert_close(mixed, torch.cat((visible[:6], infrared[6:])))
    assert (visible - infrared).abs().max() > 1e-3 and (visible - pooled).abs().max() > 1e-3
    for vectors in (mixed, pooled):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(12))


def test_neck_is_the_normalised_pooled_vector(batch):
    method = make().double().eval()
    with torch.no_grad():
        maps = method.feature_map(batch.images.double(), "visible")
        pooled = method.pool(maps)
        expected = F.normalize(pooled / (1 + 1e-5) ** 0.5 * method.neck.weight)
        torch.testing.assert_close(method.embed(batch.images.double(), "visible").feature, expected)
    assert maps.shape == (12, 128, 4, 2)


def test_one_stream_needs_no_modality(batch):
    method = make(streams=1)
    assert method.modalities == ("visible",) and make().modalities == ("visible", "infrared")
    method(batch, "train", Progress())["total"].backward()
    assert method.eval().embed(batch.images).feature.shape == (12, 128)


def test_questions_that_have_no_answer(batch):
    with pytest.raises(ValueError, match="must be told"):
        make().embed(batch.images)
    with pytest.raises(ValueError, match="unknown modality 'thermal'"):
        make().embed(batch.images, "thermal")
    with pytest.raises(UserError, match=r"'fc'.*bn, global"):
        make().embed(batch.images, "visible", "fc")
    with pytest.raises(UserError, match=r"method\.pooling is 'max'"):
        make(pooling="max")
    with pytest.raises(UserError, match=r"method\.streams is 3"):
        make(streams=3)


def test_check_wants_both_modalities():
    make().check(SimpleNamespace(modality=np.array([0, 1])))
    make(streams=1).check(SimpleNamespace(modality=np.array([0, 0])))
    with pytest.raises(UserError, match="no infrared"):
        make().check(SimpleNamespace(modality=np.array([0, 0])))


@pytest.mark.parametrize("streams", [1, 2])
def test_every_trainable_parameter_is_in_one_group_and_gets_a_gradient(batch, streams):
    method = make(streams=streams)
    groups = method.parameter_groups()["main"]
    listed = [parameter for group in groups for parameter in group["params"]]
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert len(listed) == len(set(listed)) == len(trainable) and set(listed) == set(trainable)
    assert {group["name"]: group["lr_factor"] for group in groups} == {
        "backbone": 0.1,
        "neck": 1,
        "classifier": 1,
    }
    method(batch, "train", Progress())["total"].backward()
    assert all(parameter.grad is not None for parameter in trainable) and not method.neck.bias.requires_grad


def test_training_lowers_the_loss(batch):
    method = make()
    groups = [
        {"params": group["params"], "lr": 0.05 * group["lr_factor"]}
        for group in method.parameter_groups()["main"]
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    history = []
    for _ in range(15):
        losses = method(batch, "train", Progress())
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append(losses["total"].item())
    assert history[-1] < 0.7 * history[0]


def test_half_precision(batch):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(batch, "train", Progress())
    assert losses["total"].dtype == torch.float32 and losses["total"].isfinite()
    losses["total"].backward()


def test_half_width_of_attention():
    assert len(make(attention_width=0).backbone.nonlocal3[0].theta.weight) == 32
