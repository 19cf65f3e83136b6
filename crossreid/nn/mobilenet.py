"""MobileNetV2 as person re-identification uses it: no classifier, and a last map of 1/16 of the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

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
    allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, norm: Callable):
        super().__init__()
        hidden = inputs * expansion
        self.conv1 = ConvNorm(inputs, hidden, 1, norm)
        self.dwconv2 = ConvNorm(hidden, hidden, 3, norm, stride, groups=hidden)
        self.conv3 = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), norm(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.conv3(self.dwconv2(self.conv1(maps)))
        return maps + out if self.residual else out


class MobileNetV2(nn.Module):
    """Images (N, 3, H, W) to maps (N, C, H/16, W/16) with the published last stride of 1, H/32 with 2.

    width: multiplier of the channels, fractions cut off; the last layer never has fewer than 1280.
    norm: channels -> normalisation layer.
    Layers are named as in the ImageNet files of deep-person-reid, ``mobilenetv2_1.0.pth`` and
    ``mobilenetv2_1.4.pth``, from which MetaBIN starts. ``channels`` is C.
    """

    def __init__(self, width: float = 1.0, norm: Callable = nn.BatchNorm2d, last_stride: int = 1):
        super().__init__()
        tenths = round(width * 10)  # whole numbers: int(32 * 1.4) must not hang on a rounding error
        inputs = 32 * tenths // 10
        self.conv1 = ConvNorm(3, inputs, 3, norm, stride=2)
        for number, (expansion, channels, blocks, stride) in enumerate(STAGES, start=2):
            outputs = channels * tenths // 10
            stride = last_stride if channels == 160 else stride
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(InvertedResidual(inputs, outputs, expansion, stride if block == 0 else 1, norm))
                inputs = outputs
            setattr(self, f"conv{number}", stage)
        self.channels = max(1280, 1280 * tenths // 10)
        self.conv9 = ConvNorm(inputs, self.channels, 1, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = images
        for number in range(1, 10):
            maps = getattr(self, f"conv{number}")(maps)
        return maps
