"""OSNet: blocks that see several scales at once and weigh them for each image.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, arXiv 1905.00953; the forms with
instance normalisation are of "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI
2021, arXiv 1910.06827.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.nn.maps import Backbone

# Where a block has instance normalisation: nowhere, after the addition (IBN), or before it, in the place of the last
# batch normalisation (what the search of AIN found).
PLAIN, AFTER, INSIDE = range(3)
_FORMS = {
    "": (PLAIN,) * 6,
    "_ibn": (AFTER, AFTER, PLAIN, PLAIN, PLAIN, PLAIN),
    "_ain": (INSIDE, INSIDE, PLAIN, INSIDE, INSIDE, PLAIN),
}
_CHANNELS = {
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
# Name -> channels of the stem and of the three stages, form of the six blocks.
NETWORKS = {
    f"osnet{form}_{width}": (channels, blocks)
    for form, blocks in _FORMS.items()
    for width, channels in _CHANNELS.items()
    if form != "_ibn" or width == "x1_0"
}


class OSNet(Backbone):
    """Images (N, 3, H, W) to maps (N, channels, H/16, W/16), not negative. name: of ``NETWORKS``."""

    def __init__(self, name: str):
        super().__init__()
        channels, forms = NETWORKS[name]
        self.conv1 = _ConvNorm(3, channels[0], 7, 2, instance=forms[0] != PLAIN)
        for stage in range(3):
            inputs, outputs = channels[stage : stage + 2]
            first, second = forms[2 * stage : 2 * stage + 2]
            blocks = nn.Sequential(OmniScale(inputs, outputs, first), OmniScale(outputs, outputs, second))
            setattr(self, f"conv{stage + 2}", blocks)
            if stage < 2:
                setattr(self, f"pool{stage + 2}", _ConvNorm(outputs, outputs, 1))
        self.channels = channels[3]
        self.conv5 = _ConvNorm(self.channels, self.channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = F.max_pool2d(self.conv1(images), 3, 2, padding=1)
        for stage in (2, 3, 4):
            maps = getattr(self, f"conv{stage}")(maps)
            if stage < 4:
                maps = F.avg_pool2d(getattr(self, f"pool{stage}")(maps), 2)
        return self.conv5(maps)


class OmniScale(nn.Module):
    """Four streams of one to four light convolutions; one gate, shared by all, weighs their channels before they are
    added."""

    def __init__(self, inputs: int, outputs: int, form: int = PLAIN):
        super().__init__()
        inner = outputs // 4
        self.conv1 = _ConvNorm(inputs, inner, 1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(_Light(inner) for _ in range(depth))) for depth in (1, 2, 3, 4)
        )
        self.gate = _Gate(inner)
        self.conv3 = _ConvNorm(inner, outputs, 1, relu=False, norm=form != INSIDE)
        self.downsample = _ConvNorm(inputs, outputs, 1, relu=False) if inputs != outputs else None
        self.after = nn.InstanceNorm2d(outputs, affine=True) if form == AFTER else None
        self.inside = nn.InstanceNorm2d(outputs, affine=True) if form == INSIDE else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        narrow = self.conv1(maps)
        first, *others = (self.gate(stream(narrow)) for stream in self.streams)
        out = first
        for other in others:
            out = out + other
        out = self.conv3(out)
        if self.inside is not None:
            out = self.inside(out)
        out = out + (maps if self.downsample is None else self.downsample(maps))
        return F.relu(out if self.after is None else self.after(out))


class _ConvNorm(nn.Module):
    """Convolution, normalisation and rectifier, the last two where wanted."""

    def __init__(self, inputs, outputs, kernel, stride=1, relu=True, norm=True, instance=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = None
        if norm:
            self.bn = nn.InstanceNorm2d(outputs, affine=True) if instance else nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = self.conv(maps)
        maps = maps if self.bn is None else self.bn(maps)
        return F.relu(maps) if self.relu else maps


class _Light(nn.Module):
    """A 3 x 3 convolution in two cheap ones: 1 x 1 over the channels, then 3 x 3 in each channel by itself."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(maps))))


class _Gate(nn.Module):
    """Weights of the channels from 0 to 1, from their means over the image."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * self.fc2(F.relu(self.fc1(maps.mean((2, 3), keepdim=True)))).sigmoid()


# Names in deep-person-reid's files, of the plain networks and of AIN -> ours.
_NAMES = (
    (r"^(conv[23])\.2\.0\.", lambda found: f"pool{found[1][-1]}."),
    (r"^pool([23])\.0\.", r"pool\1."),
    (r"^(conv[234]\.\d)\.conv2a\.", r"\1.streams.0.0."),
    (r"^(conv[234]\.\d)\.conv2([bcd])\.", lambda found: f"{found[1]}.streams.{'abcd'.index(found[2])}."),
    (r"^(conv[234]\.\d)\.conv2\.(\d)\.layers\.", r"\1.streams.\2."),
)


def named_as_ours(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of an OSNet of deep-person-reid by the names of ``OSNet``; others as they are."""
    found = {}
    for key, value in values.items():
        for pattern, ours in _NAMES:
            key = re.sub(pattern, ours, key)
        block = re.match(r"(conv[234]\.\d)\.IN\.", key)
        if block:
            inside = f"{block[1]}.conv3.bn.weight" not in values
            key = key.replace(".IN.", ".inside." if inside else ".after.")
        found[key] = value
    return found


def named_as_theirs(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of ``named_as_ours``, without what comes behind the maps."""
    ain = any(".inside." in key for key in values)
    found = {}
    for key, value in values.items():
        key = re.sub(r"\.(inside|after)\.", ".IN.", key)
        if ain:
            key = re.sub(r"^pool([23])\.", r"pool\1.0.", key)
            key = re.sub(r"\.streams\.(\d)\.", r".conv2.\1.layers.", key)
        else:
            key = re.sub(r"^pool([23])\.", r"conv\1.2.0.", key)
            key = key.replace(".streams.0.0.", ".conv2a.")
            key = re.sub(r"\.streams\.([123])\.", lambda stream: f".conv2{'abcd'[int(stream[1])]}.", key)
        found[key] = value
    return found
