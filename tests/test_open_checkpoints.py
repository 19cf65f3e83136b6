"""Checkpoints of torchreid, fast-reid and reid-strong-baseline: names and shapes as their programs have them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import crossreid
from crossreid import Embedder, checkpoint
from crossreid.__main__ import main
from crossreid.methods.baseline import Baseline, BaselineConfig
from crossreid.records import UserError

# Settings of ours -> some names that the program's file must have, and where it keeps its weights.
FILES = {
    "torchreid osnet": (
        {
            "backbone": "osnet_x0_25",
            "embedding": 512,
            "neck": False,
            "losses": ("cross_entropy",),
            "metric": "euclidean",
        },
        [
            "conv2.0.conv2a.conv1.weight",
            "conv2.1.conv2d.3.bn.bias",
            "conv3.2.0.conv.weight",
            "fc.1.running_var",
        ],
        "state_dict",
    ),
    "torchreid osnet_ain": (
        {
            "backbone": "osnet_ain_x0_25",
            "embedding": 512,
            "neck": False,
            "losses": ("cross_entropy",),
            "metric": "euclidean",
        },
        ["conv2.0.conv2.3.layers.3.conv2.weight", "conv2.0.IN.weight", "pool2.0.bn.weight", "conv1.bn.bias"],
        "state_dict",
    ),
    "torchreid resnet": (
        {
            "backbone": "resnet18",
            "neck": False,
            "last_stride": 2,
            "losses": ("cross_entropy",),
            "metric": "euclidean",
        },
        ["layer4.1.bn2.running_mean", "classifier.bias"],
        "state_dict",
    ),
    "torchreid mobilenet": (
        {
            "backbone": "mobilenet_v2_1.0",
            "neck": False,
            "last_stride": 2,
            "losses": ("cross_entropy",),
            "metric": "euclidean",
        },
        ["conv1.conv.weight", "conv9.bn.weight", "conv2.0.dwconv2.conv.weight"],
        "state_dict",
    ),
    "fast-reid bag of tricks": (
        {"backbone": "resnet18_ibn_a", "variant": "fastreid"},
        ["backbone.layer1.0.bn1.IN.weight", "heads.bottleneck.0.running_mean", "heads.weight"],
        "model",
    ),
    "fast-reid sbs": (
        {
            "backbone": "resnet50",
            "variant": "fastreid",
            "attention": True,
            "pooling": "gem_learned",
            "classifier": "circle",
            "classifier_margin": 0.35,
            "classifier_scale": 64.0,
        },
        [
            "backbone.NL_2.1.theta.weight",
            "backbone.NL_3.2.W.1.weight",
            "heads.pool_layer.p",
            "backbone.NL_2.0.g.bias",
        ],
        "model",
    ),
    "strong baseline": (
        {"backbone": "resnet18", "variant": "strong_baseline"},
        ["base.layer1.0.conv1.weight", "bottleneck.running_var", "classifier.weight"],
        None,
    ),
    "agw for one modality": (
        {
            "backbone": "resnet50",
            "variant": "strong_baseline",
            "attention": True,
            "pooling": "gem_learned",
        },
        ["base.NL_2.0.g.weight", "base.NL_3.2.W.1.weight", "global_pool.p", "bottleneck.running_var"],
        None,
    ),
    "transreid": (
        {"backbone": "transreid_deit_small_stride12", "pooling": "token"},
        ["base.pos_embed", "base.blocks.11.attn.qkv.bias", "base.fc.weight", "bottleneck.running_var"],
        None,
    ),
}


def made(settings, classes=5):
    torch.manual_seed(4)
    method = Baseline(BaselineConfig(**{"pretrained": None} | settings), classes)
    for module in method.modules():
        if isinstance(module, torch.nn.modules.batchnorm._NormBase) and module.weight is not None:
            module.weight.data.uniform_(0.5, 1)
            module.bias.data.uniform_(-0.2, 0.2)
    return method.eval()


def theirs(method, folder):
    checkpoint.save(folder / "ours.pt", checkpoint.describe(method, "baseline"))
    (line,) = checkpoint.convert(folder / "ours.pt", folder / "theirs.pth", to="original")
    assert "program of baseline" not in line  # but of the one that has such a baseline
    return torch.load(folder / "theirs.pth", weights_only=True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:.*does not record", "ignore:.*NECK_FEAT")
def test_a_program_s_file_is_recognised_and_gives_the_same_features(name, tmp_path):
    settings, names, key = FILES[name]
    method = made(settings)
    content = theirs(method, tmp_path)
    state = content if key is None else content[key]
    assert set(names) <= set(state) and not [
        each for each in state if each.startswith(("backbone.nonlocal", "neck"))
    ]
    torch.save({"module." + each: value for each, value in state.items()}, tmp_path / "bare.pth")
    for path in ("theirs.pth", "bare.pth"):
        read = crossreid.load(tmp_path / path)
        for setting, value in settings.items():
            assert getattr(read.config, setting) == value, setting
        images = torch.randn(2, 3, 64, 32)
        assert torch.equal(read.embed(images).feature, method.embed(images).feature)
    assert list(read.input["size"]) == ([384, 128] if "sbs" in name else [256, 128])
    assert read.input["interpolation"] == ("bicubic" if "fast" in name else "bilinear")
    state = dict(state) | {"something.else.weight": torch.ones(1)}
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"no weight 'something\.else\.weight'"):
        crossreid.load(tmp_path / "more.pth")


def test_older_names_of_fast_reid_and_its_pixels(tmp_path):
    method = made(FILES["fast-reid bag of tricks"][0])
    state = dict(theirs(method, tmp_path)["model"])
    state["heads.classifier.weight"] = state.pop("heads.weight")
    for each in list(state):
        if each.startswith("heads.bottleneck.0."):
            state[each.replace("bottleneck.0", "bnneck")] = state.pop(each)
    state |= {"pixel_mean": torch.full((1, 3, 1, 1), 127.5), "pixel_std": torch.full((1, 3, 1, 1), 51.0)}
    torch.save({"model": state}, tmp_path / "old.pth")
    with pytest.warns(UserWarning, match="average is taken"):
        read = crossreid.load(tmp_path / "old.pth")
    assert read.input["mean"] == [0.5] * 3 and read.input["std"] == pytest.approx([0.2] * 3)
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(read.embed(images).feature, method.embed(images).feature)


@pytest.mark.parametrize(
    "more, reason",
    [
        ({"b1_head.weight": torch.ones(1)}, "MGN"),
        ({"backbone.layer1.0.se.fc.weight": torch.ones(1)}, "squeeze and excitation"),
        ({"heads.bottleneck.0.weight": torch.ones(4, 4, 1, 1)}, "embedding layer"),
    ],
)
def test_models_of_fast_reid_that_no_method_is_are_refused_by_name(more, reason, tmp_path):
    state = dict(theirs(made(FILES["fast-reid bag of tricks"][0]), tmp_path)["model"]) | more
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=reason):
        crossreid.load(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "more, reason",
    [
        ({"fc_fusion.0.weight": torch.ones(1)}, "resnet50mid"),
        ({"fc.0.weight": torch.ones(4, 4), "fc.3.weight": torch.ones(4, 4)}, "several embedding layers"),
    ],
)
def test_models_of_torchreid_that_no_method_is_are_refused_by_name(more, reason, tmp_path):
    state = dict(theirs(made(FILES["torchreid resnet"][0]), tmp_path)["state_dict"]) | more
    torch.save({"state_dict": state}, tmp_path / "model.pth.tar-60")
    with pytest.raises(UserError, match=reason):
        crossreid.load(tmp_path / "model.pth.tar-60")


@pytest.mark.parametrize(
    "more, reason",
    [
        ({"base.sie_embed": torch.ones(6, 1, 384)}, "an embedding of cameras"),
        ({"b1.0.norm1.weight": torch.ones(384)}, "jigsaw branch"),
        ({"base.pos_embed": torch.ones(1, 100, 384)}, "99 patches is none of those known"),
    ],
)
def test_models_of_transreid_that_no_method_is_are_refused_by_name(more, reason, tmp_path):
    state = {"base.cls_token": torch.ones(1, 1, 384), "base.pos_embed": torch.ones(1, 129, 384)}
    state |= {"bottleneck.running_mean": torch.ones(384)} | more
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=reason):
        crossreid.load(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "resnet18"},
        {"backbone": "osnet_x0_25", "pooling": "gem", "neck": False},
        {"backbone": "osnet_x0_25", "neck": False},
        {"backbone": "resnet18", "last_stride": 2, "neck": False, "variant": "mindspore"},
        {"backbone": "resnet18", "last_stride": 2, "neck": False, "attention": True},
        {"backbone": "mobilenet_v2_1.4_timm", "last_stride": 2, "neck": False},
        {"backbone": "resnet18", "variant": "strong_baseline", "pooling": "gem"},
    ],
)
def test_what_another_program_would_compute_otherwise_is_not_written_in_its_form(settings, tmp_path):
    with pytest.raises(UserError, match="no published program has a baseline of these settings"):
        theirs(made(settings), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["torchreid osnet", "fast-reid sbs", "strong baseline"])
def test_every_command_takes_the_file_as_it_is(name, tmp_path, capsys):
    for needed in ("onnx", "onnxscript", "onnxruntime", "lancedb", "fastapi"):
        pytest.importorskip(needed)
    from starlette.testclient import TestClient

    from crossreid.gallery import Gallery
    from crossreid.serve import create_app

    theirs(made(FILES[name][0]), tmp_path)
    random = np.random.default_rng(1)
    for side in ("query", "gallery"):
        for person in range(3):
            (tmp_path / side).mkdir(exist_ok=True)
            pixels = random.integers(0, 99, (64, 32, 3), np.uint8) + np.uint8(50 * person)
            PILImage.fromarray(pixels).save(tmp_path / side / f"{person:04d}_c{1 + (side == 'query')}.png")
    file, model, place = (str(tmp_path / each) for each in ("theirs.pth", "model", "people.gallery"))
    sides = ["--query", str(tmp_path / "query"), "--gallery", str(tmp_path / "gallery")]
    assert main(["export", file, model]) == 0
    tables = []
    for each in (file, model):
        assert main(["evaluate", each, *sides, "--device", "cpu"]) == 0
        tables.append(re.findall(r"^.*gallery +\d.*$", capsys.readouterr().out, re.M))
    assert tables[0] and tables[0] == tables[1]
    assert main(["index", file, str(tmp_path / "gallery"), "--gallery", place, "--device", "cpu"]) == 0
    embedder = Embedder(file, "cpu")
    with Gallery.open(place, fingerprint=embedder.fingerprint, read_only=True) as gallery:
        image = tmp_path / "gallery" / "0001_c1.png"
        files = {"image": (image.name, image.read_bytes())}
        with TestClient(create_app(gallery, embedder), base_url="http://127.0.0.1") as client:
            hits = client.post("/api/search", files=files, data={"top": "3"}).json()["hits"]
    assert len(hits) == 3 and hits[0]["distance"] == pytest.approx(0, abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*does not record")
def test_centers_serve_training_alone(tmp_path):
    losses = ("cross_entropy", "triplet", {"name": "center", "weight": 5e-4})
    method = made(FILES["strong baseline"][0] | {"losses": losses})
    assert method.centers.shape == (5, 512) and "centers" not in theirs(method, tmp_path)
    images = torch.randn(2, 3, 64, 32)
    again = crossreid.load(tmp_path / "theirs.pth")
    assert torch.equal(again.embed(images).feature, method.embed(images).feature)


@pytest.mark.filterwarnings("ignore")
def test_an_embedder_takes_the_file_as_it_is(tmp_path):
    method = made(FILES["torchreid osnet"][0])
    theirs(method, tmp_path)
    embedder = Embedder(tmp_path / "theirs.pth", "cpu")
    features = embedder(np.random.default_rng(1).integers(0, 255, (2, 80, 40, 3), np.uint8))
    assert features.shape == (2, 512) and re.search("torchreid, osnet_x0_25", embedder.trained["origin"])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


def test_the_bag_of_tricks_classifies_behind_the_neck_and_compares_before_it():
    method = made({"backbone": "tiny"})
    names = {name for name, _ in method.named_parameters()}
    assert "classifier.bias" not in names and not method.neck.bias.requires_grad
    images = torch.randn(2, 3, 64, 32)
    pooled = method.backbone(images).mean((2, 3))
    torch.testing.assert_close(
        method.embed(images, feature="global").feature, torch.nn.functional.normalize(pooled)
    )
    expected = torch.nn.functional.normalize(method.neck(pooled))
    torch.testing.assert_close(method.embed(images).feature, expected)


def test_a_baseline_says_which_neck_no_loss_reaches_and_refuses_powers_of_negative_maps():
    assert made({"backbone": "tiny", "losses": ["triplet"]}).leaves_out()
    assert not made({"backbone": "tiny"}).leaves_out()
    assert not made({"backbone": "tiny", "losses": ["triplet"], "neck": False}).leaves_out()
    with pytest.raises(UserError, match="densenet121"):
        made({"backbone": "densenet121", "pooling": "gem"})
