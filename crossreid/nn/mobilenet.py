"""MobileNetV2 as person re-identification uses it: no classifier, and a last map of 1/16 of the image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from crossreid.nn.maps import Backbone

# Sandler et al. 2018, table 2: expansion, channels at width 1, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Numbers of the layers that make the stages 1 to 4: maps of 1/4, 1/8, 1/16 of the image, and what follows.
_STAGED = (range(2, 4), range(4, 5), range(5, 7), range(7, 10))


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Callable, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = norm(outputs)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(maps)))


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow again without activation; added to the input if shapes
    allow. last: the normalisation behind the narrowing."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, norm: Callable, last: Callable
    ):
        super().__init__()
        hidden = inputs * expansion
        self.conv1 = ConvNorm(inputs, hidden, 1, norm)
        self.dwconv2 = ConvNorm(hidden, hidden, 3, norm, stride, groups=hidden)
        self.conv3 = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), last(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.conv3(self.dwconv2(self.conv1(maps)))
        return maps + out if self.residual else out


class MobileNetV2(Backbone):
    """Images (N, 3, H, W) to maps (N, C, H/16, W/16) with the published last stride of 1, H/32 with 2.

    width: multiplier of the channels, fractions cut off; the last layer never has fewer than 1280.
    norm: channels -> normalisation layer. early: that behind the narrowing convolutions of blocks whose maps have 1/8
        of the image's height or more; ``norm`` if None.
    multiple: the channels are rounded to multiples of this; 8 as in the paper's program and timm, 1 as in
        deep-person-reid. At width 1 both are the same network.
    stem: whether the network has its first layer; without it, ``forward`` takes the map of a ``new_stem``.
    Layers are named as in the ImageNet files of deep-person-reid, ``mobilenetv2_1.0.pth`` and
    ``mobilenetv2_1.4.pth``, from which MetaBIN starts. ``channels`` is C.
    """

    def __init__(
        self,
        width: float = 1.0,
        norm: Callable = nn.BatchNorm2d,
        last_stride: int = 1,
        multiple: int = 1,
        early: Callable | None = None,
        stem: bool = True,
    ):
        super().__init__()
        tenths = round(width * 10)  # whole numbers: int(32 * 1.4) must not hang on a rounding error

        def scaled(channels: int) -> int:
            return (channels * tenths // 10 + multiple // 2) // multiple * multiple

        inputs = self.base = scaled(32)
        self.norm, self.first = norm, 1 if stem else 2
        if stem:
            self.conv1 = ConvNorm(3, inputs, 3, norm, stride=2)
        for number, (expansion, channels, blocks, stride) in enumerate(STAGES, start=2):
            outputs = scaled(channels)
            stride = last_stride if channels == 160 else stride
            stage = nn.Sequential()
            for block in range(blocks):
                step, last = stride if block == 0 else 1, early if early and channels <= 32 else norm
                stage.append(InvertedResidual(inputs, outputs, expansion, step, norm, last))
                inputs = outputs
            setattr(self, f"conv{number}", stage)
        self.channels = max(1280, scaled(1280))
        self.conv9 = ConvNorm(inputs, self.channels, 1, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._through(range(self.first, 10), images)

    def new_stem(self) -> nn.Module:
        """Another first layer that fits this network: (N, 3, H, W) to (N, base, H/2, W/2)."""
        return nn.Sequential(OrderedDict(conv1=ConvNorm(3, self.base, 3, self.norm, stride=2)))

    def stage(self, number: int, maps: torch.Tensor) -> torch.Tensor:
        """One of the stages 1 to 4, each but the first from where the map gets smaller, as in a residual network."""
        return self._through(_STAGED[number - 1], maps)

    def run(self, module: nn.Module, maps: torch.Tensor) -> torch.Tensor:
        """``module(maps)``; see ``ResNet.run``."""
        return module(maps)

    def _through(self, numbers: range, maps: torch.Tensor) -> torch.Tensor:
        for number in numbers:
            maps = getattr(self, f"conv{number}")(maps)
        return maps


# A block's layers, and what files of torchvision (of its first versions, and later) and of timm call them.
_LAYERS = ("conv1.conv", "conv1.bn", "dwconv2.conv", "dwconv2.bn", "conv3.0", "conv3.1")
_OLD = ("0", "1", "3", "4", "6", "7")
_NEW = ("0.0", "0.1", "1.0", "1.1", "2", "3")
_TIMM = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")


def named_as_ours(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a MobileNetV2 of torchvision or timm by the names of ``MobileNetV2``; any others as they are.

    Their first block has no layer that widens, ours has one: an identity kernel, behind which ReLU6 after ReLU6
    changes nothing. Its normalisation gives back what it is given: exactly in use, and nearly so in training, since
    its mean and deviation are those that the layer before it leaves when it normalises as its own say.
    """
    names = _their_layers(values)
    if not names:
        return dict(values)
    found = {}
    for key, value in values.items():
        layer, _, last = key.rpartition(".")
        found[f"{names.get(layer, layer)}.{last}"] = value
    if "conv1.bn.weight" not in found or "conv1.bn.bias" not in found:
        return found  # cut short, as whoever fills the network will say
    where = "conv2.0.conv1"
    channels = len(found["conv1.bn.weight"])
    mean, variance = _behind_relu6(found["conv1.bn.bias"], found["conv1.bn.weight"])
    found[f"{where}.conv.weight"] = torch.eye(channels)[:, :, None, None]
    found |= {f"{where}.bn.bias": mean, f"{where}.bn.running_mean": mean}
    found |= {f"{where}.bn.weight": variance.sqrt(), f"{where}.bn.running_var": variance - 1e-5}
    return found


def _their_layers(values: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Their name of each layer -> ours; empty where the file is neither torchvision's nor timm's."""
    timm = "conv_stem.weight" in values
    if not timm and "features.0.0.weight" not in values:
        return {}
    if timm:
        names = {"conv_stem": "conv1.conv", "bn1": "conv1.bn", "conv_head": "conv9.conv", "bn2": "conv9.bn"}
        parts, first = _TIMM, ("conv_dw", "bn1", "conv_pw", "bn2")
    else:
        names = {f"features.{number}.0": f"conv{ours}.conv" for number, ours in ((0, 1), (18, 9))}
        names |= {f"features.{number}.1": f"conv{ours}.bn" for number, ours in ((0, 1), (18, 9))}
        old = "features.1.conv.0.weight" in values
        parts, first = (_OLD, _OLD[:4]) if old else (_NEW, ("0.0", "0.1", "1", "2"))
    number = 0
    for stage, (_, _, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            number += 1
            theirs = f"blocks.{stage}.{block}" if timm else f"features.{number}.conv"
            given = zip(first, _LAYERS[2:]) if number == 1 else zip(parts, _LAYERS)
            names |= {f"{theirs}.{part}": f"conv{stage + 2}.{block}.{layer}" for part, layer in given}
    return names


def _behind_relu6(mean: torch.Tensor, deviation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of min(max(x, 0), 6) for normally distributed x, (C,) each, by a sum over 1001 places."""
    places = torch.linspace(-5, 5, 1001)
    shares = torch.exp(-places.square() / 2)
    shares /= shares.sum()
    values = (mean[:, None] + deviation.abs()[:, None] * places).clamp(0, 6)
    found = values @ shares
    return found, ((values - found[:, None]).square() @ shares).clamp_min(1e-4)
