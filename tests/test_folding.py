"""A network for use alone gives what the network gives."""

import pytest
import torch
from torch import nn

from crossreid.methods import METHODS
from crossreid.nn.folding import folded
from crossreid.records import Embedding


def shaken(method):
    """Normalisations as after a training, without which folding would be nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in method.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2)):
                values.uniform_(low, high, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-1, 1, generator=generator)
    return method.eval()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mvd"])
def test_every_method_gives_the_same_vectors(name):
    method = METHODS[name]
    known = method.Config.__dataclass_fields__
    config = method.Config(**{key: "tiny" for key in ("backbone",) if key in known}, pretrained=None)
    torch.manual_seed(0)
    network = shaken(method(config, 5, 2))
    faster = folded(network, (64, 32))
    images = torch.randn(3, 3, 64, 32)
    with torch.inference_mode():
        expected, found = (each.embed(images, modality=[0, 1, 1]) for each in (network, faster))
    assert faster is not network
    torch.testing.assert_close(found.feature, expected.feature, rtol=1e-4, atol=1e-5)
    kept = any(type(each) is nn.BatchNorm2d for each in network.modules())
    left = [each for each in faster.backbone.modules() if type(each) is nn.BatchNorm2d]
    assert not left and kept == (name != "metabin")


class Twice(nn.Module):
    """What its convolution gives is normalised, and added as it was."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def embed(self, images, modality=None, feature=None):
        maps = self.conv(images)
        return Embedding((self.bn(maps) + maps).mean((2, 3)))


def test_a_map_that_is_used_twice_is_left_alone():
    network = shaken(Twice())
    assert folded(network, (8, 8)) is network


def test_half_precision_is_left_alone():
    network = shaken(Twice()).to(torch.bfloat16)
    assert folded(network, (8, 8)) is network
