"""Networks of timm up to their last map: convolutional ones, and transformers, whose patches are laid out as a map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from crossreid.nn.maps import Backbone
from crossreid.records import UserError, did_you_mean

# TransReID's transformers (He et al., arXiv 2102.04378): name -> timm's, the step from patch to patch, and the height
# and width of the images that the positions are for.
TRANSREID = {
    f"transreid_{short}{'_stride12' if stride == 12 else ''}{'_384' if height == 384 else ''}": (
        model,
        stride,
        (height, 128),
    )
    for short, model in (("vit_base", "vit_base_patch16_224"), ("deit_small", "deit_small_patch16_224"))
    for stride in (16, 12)
    for height in (256, 384)
}


class TimmMap(Backbone):
    """Images (N, 3, H, W) to the last map of a network of timm (N, channels, h, w), which may be negative.

    model: its full name there, such as ``vit_small_patch16_224`` or ``convnext_tiny.fb_in1k``. Transformers take images
    of any size that their patches fill: positions are resampled. Tokens that are no patch (the class's) are left out.
    stride, size: see ``TRANSREID``; by default timm's.
    """

    def __init__(self, model: str, stride: int | None = None, size: tuple[int, int] | None = None):
        super().__init__()
        self.body: Any = _created(model)
        self.stride = stride
        if stride is not None and size is not None:
            patches = self.body.patch_embed
            patches.proj.stride = (stride, stride)
            patches.grid_size = self._grid(*size)
            count = patches.grid_size[0] * patches.grid_size[1] + self.body.num_prefix_tokens
            self.body.pos_embed = nn.Parameter(torch.zeros(1, count, self.body.num_features))
            nn.init.trunc_normal_(self.body.pos_embed, std=0.02)
        self.channels = self.body.num_features
        # What only its own classifier needs would be a part without a gradient.
        for name in ("head", "head_dist", "fc", "fc_norm", "classifier", "last_linear"):
            if hasattr(self.body, name):
                setattr(self.body, name, nn.Identity())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self._features(images)
        if found.ndim == 3:
            height, width = self._grid(*images.shape[2:])
            patches = found[:, found.shape[1] - height * width :]
            return patches.transpose(1, 2).unflatten(2, (height, width))
        return found if found.shape[1] == self.channels else found.permute(0, 3, 1, 2)

    @property
    def has_token(self) -> bool:
        """Whether it is a transformer with a class token."""
        return getattr(self.body, "cls_token", None) is not None

    def token(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Backbone.token``."""
        return self._features(images)[:, 0]

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        patches, (height, width) = getattr(self.body, "patch_embed", None), images.shape[2:]
        down, across = getattr(patches, "patch_size", (1, 1))
        padded = getattr(patches, "img_size", None) is None or getattr(patches, "dynamic_img_pad", False)
        if not padded and (height % down or width % across):
            raise UserError(
                f"patches of {down} x {across} pixels do not fill an image of {height} x {width}: choose multiples for "
                f"data.size, such as [{down * max(1, round(height / down))}, {across * max(1, round(width / across))}]"
            )
        return self.body.forward_features(images)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches down and across."""
        down, across = self.body.patch_embed.patch_size
        return (height - down) // (self.stride or down) + 1, (width - across) // (self.stride or across) + 1

    def set_gradient_checkpointing(self) -> None:
        self.body.set_grad_checkpointing(True)

    def named_as_ours(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of timm's file, or of EfficientNet-PyTorch's, by the names here, without a classifier's."""
        own = self.body.state_dict()
        if "_conv_stem.weight" in values:
            values = _of_efficientnet(values, own)
        if self.stride is not None and "pos_embed" in values:
            # As TransReID starts from positions of square images.
            values = {**values, "pos_embed": self._resampled(values["pos_embed"])}
        heads = ("head.", "head_dist.", "fc.", "fc_norm.", "classifier.", "last_linear.")
        return {
            f"body.{key}": value for key, value in values.items() if key in own or not key.startswith(heads)
        }

    def _resampled(self, positions: torch.Tensor) -> torch.Tensor:
        from timm.layers import resample_abs_pos_embed

        if positions.shape == self.body.pos_embed.shape:
            return positions
        if positions.ndim != 3 or positions.shape[2] != self.body.pos_embed.shape[2]:
            return positions  # which no network of this width has: loading says so
        grid, patches = (
            list(self.body.patch_embed.grid_size),
            positions.shape[1] - self.body.num_prefix_tokens,
        )
        if math.isqrt(max(patches, 0)) ** 2 != patches:
            raise UserError(
                f"method.pretrained has {patches} positions of patches where {grid[0]} x {grid[1]} are wanted: "
                "expected as many, or those of a square image, as ImageNet's weights have; start from a checkpoint of "
                "the same size and step by train.init_from"
            )
        return resample_abs_pos_embed(positions, grid, interpolation="bilinear", antialias=False)


def of_timm(name: str) -> list[str]:
    """How settings name a network that timm calls ``name``; nothing if timm has none."""
    import timm

    return [f"timm:{name}"] if timm.is_model(name) else []


def _created(model: str) -> Any:
    import timm

    if not timm.is_model(model):
        known = timm.list_models()
        raise UserError(
            f"method.backbone is 'timm:{model}', but timm {timm.__version__} has no model of that name"
            f"{did_you_mean(model, known)}: timm.list_models() lists the {len(known)} that it has"
        )
    network: Any = None
    # What lets a transformer take images of other sizes than its own has two names; convolutional networks need none.
    ways: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for further in ways:
        try:
            network = timm.create_model(model, pretrained=False, num_classes=0, **further)
            break
        except TypeError:
            continue
    if not (hasattr(network, "forward_features") and hasattr(network, "num_features")):
        raise UserError(
            f"timm's {model} gives no map that a method could use: choose a network with forward_features"
        )
    return network


def _of_efficientnet(values, own) -> dict[str, torch.Tensor]:
    """Names of EfficientNet-PyTorch (and its Lite form) -> timm's, whose blocks lie in stages."""
    blocks = sorted({tuple(map(int, key.split(".")[1:3])) for key in own if key.startswith("blocks.")})
    named = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    for number, (stage, place) in enumerate(blocks):
        theirs, ours = f"_blocks.{number}.", f"blocks.{stage}.{place}."
        wide = f"{theirs}_expand_conv.weight" in values
        layers = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl" if wide else "conv_pw"}
        norms = ("_bn0", "_bn1", "_bn2") if wide else ("_bn1", "_bn2")
        layers |= {norm: f"bn{index}" for index, norm in enumerate(norms, 1)} | {"_expand_conv": "conv_pw"}
        layers |= {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
        named |= {theirs + layer: ours + name for layer, name in layers.items()}
    found = {}
    for key, value in values.items():
        layer, _, last = key.rpartition(".")
        found[f"{named.get(layer, layer)}.{last}"] = value
    return found
