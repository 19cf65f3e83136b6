"""Networks of the published programs beside ours, with random weights: run where clones of the programs are.

    CROSSREID_PROGRAMS=FOLDER pytest tests/test_official_programs.py -s

The folder holds clones of deep-person-reid (KaiyangZhou), fast-reid (JDAI-CV), reid-strong-baseline (michuanhaohao),
ReID-Survey (mangye16) and TransReID (damo-cv), by these names; what they import besides, such as yacs and termcolor,
must be installed. Each test prints the largest difference of the features, as a share of their largest value, in
float64 and in float32, and how far the program's own features of float32 lie from those of float64.
"""

import collections.abc
import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

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


def pictures(size):
    """Four images of patches and noise, normalised: of noise alone networks make nearly the same."""
    random = torch.Generator().manual_seed(2)
    coarse = F.interpolate(torch.randn(4, 3, 8, 4, generator=random), size=tuple(size))
    return coarse + 0.3 * torch.randn(4, 3, *size, generator=random)


def settled(network, features, size):
    """The network as after training: statistics of the maps that it makes, and normalisations unlike those it begins
    with, so that none can be left out unnoticed."""
    batch = []
    for module in network.modules():
        norm = isinstance(module, torch.nn.modules.batchnorm._NormBase | torch.nn.LayerNorm)
        if norm and module.weight is not None:
            module.weight.data.uniform_(0.5, 1)
            module.bias.data.uniform_(-0.2, 0.2)
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            batch.append(module)
            module.momentum = 1.0
    network.eval()
    for module in batch:
        module.train()
    with torch.no_grad():
        features(pictures(size))
    return network.eval()


def compare(name, network, saved, features, folder, size, written_back=True):
    """Ours reads the file and gives the same features; theirs loads strictly what ours writes."""
    torch.save(saved, folder / "theirs.pth")
    ours = crossreid.load(folder / "theirs.pth")
    assert list(ours.input["size"]) == list(size)
    images = pictures(size)
    with torch.no_grad():
        plain = F.normalize(features(images))
        found = F.normalize(ours.embed(images).feature)
        network.double()
        expected = F.normalize(features(images.double()))
        exact = F.normalize(ours.double().embed(images.double()).feature)
        network.float()
    assert expected[0] @ expected[1] < 0.999  # images that a network takes for the same say nothing of it

    def apart(one, other):
        return ((one - other).abs().max() / expected.abs().max()).item()

    rounding = apart(plain, expected)
    both = f"{apart(exact, expected):.1e} in float64, {apart(found, plain):.1e} in float32"
    print(f"\n{name}: {both} (the program's own rounding: {rounding:.1e})")
    assert apart(exact, expected) < 1e-9 and apart(found, plain) < max(1e-5, 3 * rounding)
    if written_back:
        checkpoint.convert(folder / "theirs.pth", folder / "ours.pt")
        checkpoint.convert(folder / "ours.pt", folder / "back.pth", to="original")
        back = torch.load(folder / "back.pth", weights_only=True)
        missing = network.load_state_dict(back.get("state_dict", back.get("model", back)), strict=False)
        assert not missing.unexpected_keys and set(missing.missing_keys) <= {"pixel_mean", "pixel_std"}
        with torch.no_grad():
            assert torch.equal(F.normalize(features(images)), plain)


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
        network = make(num_classes=CLASSES, loss="softmax", pretrained=False)
        settled(network, network, (256, 128))
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
        network = build_model(settings)

        def features(images):
            # Past its own normalisation, whose way there and back would round the images.
            return network.heads(network.backbone(images))

        size = settings.INPUT.SIZE_TEST
        settled(network, features, size)
        saved = {"model": network.state_dict()}
        compare(f"fast-reid {name}", network, saved, features, tmp_path, size)


@pytest.mark.parametrize("neck", ["bnneck", "no"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_ibn_a"])
def test_reid_strong_baseline(name, neck, tmp_path):
    torch.manual_seed(1)
    with program("reid-strong-baseline"):
        make = importlib.import_module("modeling.baseline").Baseline
        network = make(CLASSES, 1, "", neck, "after", name, "none")
        settled(network, network, (256, 128))
        compare(
            f"reid-strong-baseline {name}, neck {neck}",
            network,
            network.state_dict(),
            network,
            tmp_path,
            (256, 128),
            written_back=neck == "bnneck",
        )


def test_reid_survey(tmp_path):
    torch.manual_seed(1)
    with program("ReID-Survey"):
        make = importlib.import_module("modeling.baseline").Baseline
        network = make(CLASSES, 1, "", "resnet50_nl", "on", "none")
        settled(network, network, (256, 128))
        network.global_pool.p.data.fill_(2.7)
        compare("ReID-Survey AGW", network, network.state_dict(), network, tmp_path, (256, 128))


@pytest.mark.parametrize("size", [(256, 128), (384, 128)])
@pytest.mark.parametrize("stride", [16, 12])
@pytest.mark.parametrize("name", ["vit_base_patch16_224_TransReID", "deit_small_patch16_224_TransReID"])
def test_transreid(name, stride, size, tmp_path, monkeypatch):
    torch.manual_seed(1)
    # What it takes from torch was there until torch 1.8.
    monkeypatch.setitem(sys.modules, "torch._six", SimpleNamespace(container_abcs=collections.abc))
    with program("TransReID", "model/backbones"):
        base = getattr(importlib.import_module("vit_pytorch"), name)
        network = torch.nn.Module()
        network.base = base(img_size=size, stride_size=stride, drop_path_rate=0.1)
        network.bottleneck = torch.nn.BatchNorm1d(network.base.embed_dim)
        network.bottleneck.bias.requires_grad_(False)
        network.classifier = torch.nn.Linear(network.base.embed_dim, CLASSES, bias=False)

        def features(images):
            return network.bottleneck(network.base(images))

        settled(network, features, size)
        # What counts is told apart by more than its last normalisation: larger weights than those it begins with.
        for name_, parameter in network.named_parameters():
            if "blocks" in name_ and parameter.ndim == 2:
                parameter.data.mul_(2)
        label = f"TransReID {name}, stride {stride}, {size[0]} x {size[1]}"
        compare(label, network, network.state_dict(), features, tmp_path, size)
        assert torch.load(tmp_path / "back.pth", weights_only=True)["base.fc.weight"].shape[0] == 1000
