"""Networks of the published programs beside ours, with random weights: run where clones of the programs are.

    CROSSREID_PROGRAMS=FOLDER pytest tests/test_official_programs.py -s

The folder holds clones of deep-person-reid (KaiyangZhou), fast-reid (JDAI-CV), reid-strong-baseline (michuanhaohao) and
TransReID (damo-cv), by these names; what they import besides, such as yacs and termcolor, must be installed. Each test
prints the largest difference of two features of unit length.
"""

import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import crossreid
from crossreid import checkpoint

PROGRAMS = Path(os.environ.get("CROSSREID_PROGRAMS", "no folder of programs"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="CROSSREID_PROGRAMS names no folder of clones"),
]
CLASSES = 7


@contextmanager
def program(name, folder=""):
    """Modules of a program can be imported, and are forgotten afterwards: several have the same names."""
    place = PROGRAMS / name
    if not place.is_dir():
        pytest.skip(f"there is no clone of {name}")
    before, modules = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(place / folder))
    try:
        yield place
    finally:
        sys.path[:] = before
        for module in set(sys.modules) - modules:
            if str(PROGRAMS) in str(getattr(sys.modules[module], "__file__", None)):
                del sys.modules[module]


def shaken(network):
    """The network with normalisations unlike those it begins with, so that none can be left out unnoticed."""
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm | torch.nn.InstanceNorm2d | torch.nn.GroupNorm):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.uniform_(-0.2, 0.2)
        elif hasattr(module, "running_mean") and module.running_mean is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.7, 1.3)
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.uniform_(-0.2, 0.2)
    return network.eval()


def compare(name, network, saved, features, folder, size, written_back=True, feature=None):
    """Ours reads the file and gives the same features; theirs loads strictly what ours writes."""
    torch.save(saved, folder / "theirs.pth")
    ours = crossreid.load(folder / "theirs.pth")
    assert list(ours.input["size"]) == list(size)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = F.normalize(features(images))
        error = (F.normalize(ours.embed(images, feature=feature).feature) - expected).abs().max().item()
    print(f"\n{name}: features differ by {error:.1e}")
    assert error < 1e-5
    if written_back:
        checkpoint.convert(folder / "theirs.pth", folder / "ours.pt")
        checkpoint.convert(folder / "ours.pt", folder / "back.pth", to="original")
        back = torch.load(folder / "back.pth", weights_only=True)
        missing = network.load_state_dict(back.get("state_dict", back.get("model", back)), strict=False)
        assert not missing.unexpected_keys and set(missing.missing_keys) <= {"pixel_mean", "pixel_std"}
        with torch.inference_mode():
            assert torch.equal(F.normalize(features(images)), expected)


@pytest.mark.parametrize(
    "name",
    [
        *(f"osnet.osnet_{width}" for width in ("x1_0", "x0_75", "x0_5", "x0_25")),
        "osnet.osnet_ibn_x1_0",
        *(f"osnet_ain.osnet_ain_{width}" for width in ("x1_0", "x0_75", "x0_5", "x0_25")),
        "resnet.resnet18",
        "resnet.resnet50",
        "resnet.resnet50_fc512",
        "resnet_ibn_a.resnet50_ibn_a",
        "resnet_ibn_b.resnet50_ibn_b",
        "mobilenetv2.mobilenetv2_x1_0",
        "mobilenetv2.mobilenetv2_x1_4",
    ],
)
def test_torchreid(name, tmp_path):
    module, _, function = name.partition(".")
    torch.manual_seed(1)
    with program("deep-person-reid", "torchreid/models"):
        make = getattr(importlib.import_module(module), function)
        network = shaken(make(num_classes=CLASSES, loss="softmax", pretrained=False))
        compare(name, network, {"state_dict": network.state_dict()}, network, tmp_path, (256, 128))


@pytest.mark.parametrize(
    "name",
    [
        "bagtricks_R50",
        "bagtricks_R50-ibn",
        "AGW_R50",
        "AGW_R50-ibn",
        "sbs_R50",
        "sbs_R50-ibn",
        "bagtricks_R101-ibn",
    ],
)
def test_fast_reid(name, tmp_path):
    torch.manual_seed(1)
    with program("fast-reid") as place:
        get_cfg = importlib.import_module("fastreid.config").get_cfg
        build_model = importlib.import_module("fastreid.modeling").build_model
        settings = get_cfg()
        settings.merge_from_file(str(place / "configs" / "Market1501" / f"{name}.yml"))
        choices = [
            "MODEL.BACKBONE.PRETRAIN",
            False,
            "MODEL.DEVICE",
            "cpu",
            "MODEL.HEADS.NUM_CLASSES",
            CLASSES,
        ]
        settings.merge_from_list(choices)
        network = shaken(build_model(settings))
        for attention in [each for each in network.modules() if type(each).__name__ == "Non_local"]:
            attention.W[1].weight.data.uniform_(0.5, 1)
        mean, std = network.pixel_mean, network.pixel_std

        def features(images):
            return network({"images": images * std + mean})

        saved = {"model": network.state_dict()}
        size = settings.INPUT.SIZE_TEST
        compare(f"fast-reid {name}", network, saved, features, tmp_path, size)


@pytest.mark.parametrize("neck", ["bnneck", "no"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_ibn_a"])
def test_reid_strong_baseline(name, neck, tmp_path):
    torch.manual_seed(1)
    with program("reid-strong-baseline"):
        make = importlib.import_module("modeling.baseline").Baseline
        network = shaken(make(CLASSES, 1, "", neck, "after", name, "none"))
        compare(
            f"reid-strong-baseline {name}, neck {neck}",
            network,
            network.state_dict(),
            network,
            tmp_path,
            (256, 128),
            written_back=neck == "bnneck",
        )


@pytest.mark.parametrize("size", [(256, 128), (384, 128)])
@pytest.mark.parametrize("stride", [16, 12])
@pytest.mark.parametrize("name", ["vit_base_patch16_224_TransReID", "deit_small_patch16_224_TransReID"])
def test_transreid(name, stride, size, tmp_path):
    torch.manual_seed(1)
    with program("TransReID"):
        # The parts of its model alone: the whole of it wants packages that are not of today.
        base = getattr(importlib.import_module("model.backbones.vit_pytorch"), name)
        network = torch.nn.Module()
        network.base = base(img_size=size, stride_size=stride, drop_path_rate=0.1)
        network.bottleneck = torch.nn.BatchNorm1d(network.base.embed_dim)
        network.bottleneck.bias.requires_grad_(False)
        network.classifier = torch.nn.Linear(network.base.embed_dim, CLASSES, bias=False)
        shaken(network)
        # What counts is told apart by more than its last normalisation: larger weights than those it begins with.
        for name_, parameter in network.named_parameters():
            if "blocks" in name_ and parameter.ndim == 2:
                parameter.data.mul_(2)
        label = f"TransReID {name}, stride {stride}, {size[0]} x {size[1]}"
        compare(label, network, network.state_dict(), network.base, tmp_path, size, feature="global")
        assert torch.load(tmp_path / "back.pth", weights_only=True)["base.fc.weight"].shape[0] == 1000
