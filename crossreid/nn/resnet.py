"""Residual networks with the names of torchvision, as re-identification uses them.

A file of our own instead of timm's: the stem must come twice for two modalities, the normalisation must be
replaceable, the MindSpore ports pad differently, and blocks of attention sit between the residual blocks.
Weights come from timm and torchvision by name (``crossreid.nn.pretrained``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.nn.batch_instance_norm import HalfInstanceNorm
from crossreid.nn.gradient_checkpointing import checkpointed
from crossreid.nn.maps import Backbone
from crossreid.nn.nonlocal_block import NonLocal
from crossreid.records import UserError, check_choice


@dataclass(frozen=True)
class Variant:
    """What differs between frameworks though the names and weights are the same.

    same_padding: pad at the bottom and right first, so that the output has ceil(size / stride) rows and
        columns.
    eps: of every batch normalisation, except the last of each block, which has ``last_eps``.
    last_momentum: share of the new batch in the running statistics of the last normalisation of each block.
    ceil_pool: the stem's pooling has no border and rounds up, so that its windows begin in the image's corner.
    stem_relu: whether a rectifier follows the stem's normalisation.
    """

    same_padding: bool = False
    eps: float = 1e-5
    last_eps: float = 1e-5
    last_momentum: float = 0.1
    ceil_pool: bool = False
    stem_relu: bool = True


VARIANTS = {
    "torchvision": Variant(),
    "mindspore": Variant(same_padding=True, last_eps=1e-3, last_momentum=0.003),
    "mindspore_alignedreid": Variant(same_padding=True, eps=1e-4, last_eps=1e-4),
    "fastreid": Variant(ceil_pool=True),
    "strong_baseline": Variant(stem_relu=False),
}


def resnet(
    name: str,
    last_stride: int = 1,
    variant: str | Variant = "torchvision",
    norm: Callable[[int], nn.Module] | None = None,
    stem: bool = True,
    nonlocal_width: int | str | None = None,
    gradient_checkpointing: bool = False,
) -> ResNet:
    """A residual network by name, with fresh weights.

    name: one of ``NETWORKS``; ``"tiny"`` is a small one for computers without an accelerator. With ``_ibn_a`` or
        ``_ibn_b`` it mixes instance normalisation in (Pan et al., "Two at Once", arXiv 1807.09441): a, in half of the
        channels of each block's first normalisation, except in the last stage; b, in the stem, and at the end of
        the first two stages after the addition.
    last_stride: stride of the last stage, 1 or 2. With 1 an image of 256 x 128 gives a map of 16 x 8. Nothing
        is dilated.
    variant: a name of ``VARIANTS`` or a ``Variant``.
    norm: channels -> normalisation layer, in the place of every batch normalisation; the epsilons of the
        variant then do not apply.
    stem: whether the network has a stem of its own; without it, ``forward`` takes the map of a ``Stem``.
    nonlocal_width: inner width of the non-local blocks of AGW, a number or ``"half"`` of the channels; None
        for no such blocks.
    gradient_checkpointing: in training keep the maps between the blocks alone, see
        ``crossreid.nn.gradient_checkpointing``.
    """
    check_choice("method.backbone", name, NETWORKS)
    if isinstance(variant, str):
        check_choice("method.variant", variant, VARIANTS)
        variant = VARIANTS[variant]
    block, counts, base, ibn = NETWORKS[name]
    network = ResNet(
        block, counts, base, last_stride, variant, norm, stem, nonlocal_width, gradient_checkpointing
    )
    if ibn:
        _mix_instance_norm(network, ibn)
    return network


def _mix_instance_norm(network: ResNet, form: str) -> None:
    for stage in (1, 2, 3) if form == "a" else (1, 2):
        blocks = list(network.get_submodule(f"layer{stage}").children())
        for number, block in enumerate(blocks):
            assert isinstance(block, (BasicBlock, Bottleneck))
            if form == "a":
                block.bn1 = HalfInstanceNorm(block.bn1.num_features, instance_first=True)
            elif number == len(blocks) - 1:
                block.after = nn.InstanceNorm2d(block.conv1.in_channels, affine=True)
    network.instance_stem = form == "b"
    if network.instance_stem and network.has_stem:
        network.bn1 = nn.InstanceNorm2d(network.base, affine=True)


class Stem(nn.Module):
    """The first convolution, its normalisation and the max pooling: (N, 3, H, W) to (N, base, H/4, W/4)."""

    def __init__(self, base: int, variant: Variant = VARIANTS["torchvision"], norm=None):
        super().__init__()
        self.conv1, self.bn1 = _stem_layers(base, variant, norm)
        self.variant = variant

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _stem(self, images)


class ResNet(Backbone):
    """See ``resnet``. ``channels`` is the width of the last map, ``base`` that of the stem."""

    def __init__(
        self, block, counts, base, last_stride, variant, norm, stem, nonlocal_width, gradient_checkpointing
    ):
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.base, self.variant, self.norm = base, variant, norm
        self.has_stem, self.instance_stem = stem, False
        if stem:
            self.conv1, self.bn1 = _stem_layers(base, variant, norm)
        inputs = base
        for stage, count in enumerate(counts):
            width, stride = base << stage, (1, 2, 2, last_stride)[stage]
            blocks = []
            for index in range(count):
                blocks.append(block(inputs, width, stride if index == 0 else 1, variant, norm))
                inputs = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            if nonlocal_width is not None and stage in _NONLOCAL:
                inner = inputs // 2 if nonlocal_width == "half" else nonlocal_width
                places = min(9 if stage == 2 and count == 23 else _NONLOCAL[stage], count)
                attention = nn.ModuleList(NonLocal(inputs, inner) for _ in range(places))
                setattr(self, f"nonlocal{stage + 1}", attention)
        self.channels = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def new_stem(self) -> Stem:
        """Another stem that fits this network."""
        stem = Stem(self.base, self.variant, self.norm)
        nn.init.kaiming_normal_(stem.conv1.weight, mode="fan_out", nonlinearity="relu")
        if self.instance_stem:
            stem.bn1 = nn.InstanceNorm2d(self.base, affine=True)
        return stem

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to the last map (N, channels, H / 16 or 32, W / 16 or 32)."""
        maps = _stem(self, images) if self.has_stem else images
        for stage in (1, 2, 3, 4):
            maps = self.stage(stage, maps)
        return maps

    def stage(self, number: int, maps: torch.Tensor) -> torch.Tensor:
        """One of the stages 1 to 4, with its non-local blocks."""
        blocks, attention = getattr(self, f"layer{number}"), getattr(self, f"nonlocal{number}", ())
        plain = len(blocks) - len(attention)
        for index, block in enumerate(blocks):
            maps = self.run(block, maps)
            if index >= plain:
                maps = self.run(attention[index - plain], maps)
        return maps

    def run(self, module: nn.Module, maps: torch.Tensor) -> torch.Tensor:
        """``module(maps)``, computed again for the gradient when the network was told so."""
        return checkpointed(module, maps) if self.gradient_checkpointing else module(maps)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions."""

    expansion = 1

    def __init__(self, inputs, width, stride, variant, norm):
        super().__init__()
        normal, last = _norms(variant, norm)
        self.conv1 = _conv(inputs, width, 3, stride, variant)
        self.bn1 = normal(width)
        self.conv2 = _conv(width, width, 3, 1, variant)
        self.bn2 = last(width)
        self.downsample = _shortcut(inputs, width, stride, variant, normal)
        self.after: nn.Module | None = None

    def forward(self, maps):
        out = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        out = self.bn2(self.conv2(out))
        return _end(self, out, maps)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; the stride sits on the 3 x 3."""

    expansion = 4

    def __init__(self, inputs, width, stride, variant, norm):
        super().__init__()
        normal, last = _norms(variant, norm)
        self.conv1 = _conv(inputs, width, 1, 1, variant)
        self.bn1 = normal(width)
        self.conv2 = _conv(width, width, 3, stride, variant)
        self.bn2 = normal(width)
        self.conv3 = _conv(width, 4 * width, 1, 1, variant)
        self.bn3 = last(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride, variant, normal)
        self.after: nn.Module | None = None

    def forward(self, maps):
        out = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return _end(self, out, maps)


def _end(block, out, maps):
    """What comes after a block's last normalisation: the addition, and a rectifier."""
    out = out + (maps if block.downsample is None else block.downsample(maps))
    return F.relu(out if block.after is None else block.after(out), inplace=True)


_SIZES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), 64),
    "resnet34": (BasicBlock, (3, 4, 6, 3), 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 64),
    "resnet101": (Bottleneck, (3, 4, 23, 3), 64),
    "resnet152": (Bottleneck, (3, 8, 36, 3), 64),
    "tiny": (BasicBlock, (1, 1, 1, 1), 16),
}
PLAIN = tuple(_SIZES)
# Name -> block, blocks of each stage, channels of the stem, form of mixed normalisation.
NETWORKS = {name: (*size, "") for name, size in _SIZES.items()}
NETWORKS |= {
    f"{name}_ibn_{form}": (*_SIZES[name], form) for name in _SIZES for form in "ab" if name != "tiny"
}

# After the last two blocks of the second stage and the last three of the third (places counted from 0); the last nine
# of ResNet-101's.
_NONLOCAL = {1: 2, 2: 3}


class SameConv2d(nn.Conv2d):
    """Convolution with MindSpore's "same" padding: the odd row and column go to the bottom and the right."""

    def forward(self, maps):
        return super().forward(_pad_same(maps, self.kernel_size[0], self.stride[0], 0.0))


def _pad_same(maps, kernel, stride, value):
    total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in maps.shape[2:]]
    (top, bottom), (left, right) = ((each // 2, each - each // 2) for each in total)
    return F.pad(maps, (left, right, top, bottom), value=value)


def _conv(inputs, outputs, kernel, stride, variant):
    if variant.same_padding:
        return SameConv2d(inputs, outputs, kernel, stride, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _norms(variant, norm):
    """How to make a normalisation of a given width, and the last one of a block."""
    if norm is not None:
        return norm, norm
    return (
        partial(nn.BatchNorm2d, eps=variant.eps),
        partial(nn.BatchNorm2d, eps=variant.last_eps, momentum=variant.last_momentum),
    )


def _shortcut(inputs, outputs, stride, variant, norm):
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride, variant), norm(outputs))


def _stem_layers(base, variant, norm):
    return _conv(3, base, 7, 2, variant), _norms(variant, norm)[0](base)


def _stem(module, images):
    maps, variant = module.bn1(module.conv1(images)), module.variant
    if variant.stem_relu:
        maps = F.relu(maps, inplace=True)
    if variant.same_padding:
        return F.max_pool2d(_pad_same(maps, 3, 2, float("-inf")), 3, 2)
    if variant.ceil_pool:
        return F.max_pool2d(maps, 3, 2, ceil_mode=True)
    return F.max_pool2d(maps, 3, 2, padding=1)


# Names of mixed normalisations in IBN-Net and programs that took it over, and of non-local blocks in AGW's program and
# fast-reid -> ours, and back.
_NAMES = (
    (r"\.bn1\.IN\.", ".bn1.instance."),
    (r"\.bn1\.BN\.", ".bn1.batch."),
    (r"(layer\d\.\d+)\.IN\.", r"\1.after."),
    (r"NL_(\d)\.(\d)\.W\.0\.", r"nonlocal\1.\2.out."),
    (r"NL_(\d)\.(\d)\.W\.1\.", r"nonlocal\1.\2.norm."),
    (r"NL_(\d)\.(\d)\.(theta|phi|g)\.(0\.)?", r"nonlocal\1.\2.\3."),
)
_BACK = (
    (r"\.bn1\.instance\.", ".bn1.IN."),
    (r"\.bn1\.batch\.", ".bn1.BN."),
    (r"(layer\d\.\d+)\.after\.", r"\1.IN."),
    (r"nonlocal(\d)\.(\d)\.out\.", r"NL_\1.\2.W.0."),
    (r"nonlocal(\d)\.(\d)\.norm\.", r"NL_\1.\2.W.1."),
    (r"nonlocal(\d)\.(\d)\.(theta|phi|g)\.", r"NL_\1.\2.\3."),
)


def named_as_ours(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a residual network with such parts by the names of ``ResNet``, wherever in a larger one it lies;
    other weights as they are. Raises UserError where two become one."""
    return _renamed(values, _NAMES)


def named_as_theirs(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of ``named_as_ours``, by the names of fast-reid."""
    return _renamed(values, _BACK)


def _renamed(values, rules):
    found = {}
    for key, value in values.items():
        new = key
        for pattern, other in rules:
            new = re.sub(pattern, other, new)
        if new in found:
            raise UserError(f"two weights of the checkpoint mean the same: {key!r} is {new!r} once more")
        found[new] = value
    return found
