"""Networks, pooling, necks and pretrained weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossreid.formats.mindspore import write_checkpoint
from crossreid.nn.neck import classifier, neck
from crossreid.nn.nonlocal_block import NonLocal
from crossreid.nn.pooling import average, generalized_mean
from crossreid.nn.pretrained import load_pretrained
from crossreid.nn.resnet import NETWORKS, VARIANTS, Stem, _pad_same, resnet
from crossreid.nn.stems import Stems
from crossreid.records import UserError


def shake(module, seed=0):
    """Random values everywhere, running statistics included."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            low = 0.5 if name.endswith(("running_var", "weight")) and value.ndim == 1 else -0.1
            value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype) * 0.2 + low)
    return module


def functional_resnet(state, images, last_stride, variant=VARIANTS["torchvision"]):
    """The network once more, from its weights alone, with the padding written out."""

    def norm(maps, name, eps):
        numbers = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(maps, *numbers, eps=eps)

    def conv(maps, name, stride):
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        if variant.same_padding:
            for dim in (2, 3):
                size = maps.shape[dim]
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                before = total // 2
                pad = (0, 0, before, total - before) if dim == 2 else (before, total - before)
                maps = F.pad(maps, pad)
        else:
            maps = F.pad(maps, [kernel // 2] * 4)
        return F.conv2d(maps, weight, stride=stride)

    maps = norm(conv(images, "conv1", 2), "bn1", variant.eps)
    maps = maps.relu() if variant.stem_relu else maps
    low = float("-inf")
    odd = [maps.shape[3] % 2, 1, maps.shape[2] % 2, 1]
    corner = [0, (maps.shape[3] - 3) % 2, 0, (maps.shape[2] - 3) % 2]
    pad = odd if variant.same_padding else corner if variant.ceil_pool else [1] * 4
    maps = F.max_pool2d(F.pad(maps, pad, value=low), 3, 2)
    for stage in range(1, 5):
        blocks = len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
        for index in range(blocks):
            place = f"layer{stage}.{index}"
            stride = (1, 2, 2, last_stride)[stage - 1] if index == 0 else 1
            deep = f"{place}.conv3.weight" in state
            shortcut = maps
            if f"{place}.downsample.0.weight" in state:
                shortcut = conv(maps, f"{place}.downsample.0", stride)
                shortcut = norm(shortcut, f"{place}.downsample.1", variant.eps)
            if deep:
                out = norm(conv(maps, f"{place}.conv1", 1), f"{place}.bn1", variant.eps).relu()
                out = norm(conv(out, f"{place}.conv2", stride), f"{place}.bn2", variant.eps).relu()
                out = norm(conv(out, f"{place}.conv3", 1), f"{place}.bn3", variant.last_eps)
            else:
                out = norm(conv(maps, f"{place}.conv1", stride), f"{place}.bn1", variant.eps).relu()
                out = norm(conv(out, f"{place}.conv2", 1), f"{place}.bn2", variant.last_eps)
            maps = (out + shortcut).relu()
    return maps


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "name, last_stride, size", [("tiny", 1, (96, 48)), ("tiny", 2, (70, 45)), ("resnet50", 1, (48, 32))]
)
def test_against_functional(name, last_stride, size, variant):
    network = shake(resnet(name, last_stride, variant)).double().eval()
    images = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = network(images)
        expected = functional_resnet(network.state_dict(), images, last_stride, VARIANTS[variant])
    assert ours.shape == expected.shape and ours.abs().sum() > 0
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equals_torchvision(name):
    import torchvision

    theirs = shake(getattr(torchvision.models, name)(weights=None)).eval()
    ours = resnet(name, last_stride=2).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    ours.load_state_dict(state, strict=True)
    images = torch.randn(1, 3, 64, 32)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(average(ours(images)), theirs(images), rtol=1e-5, atol=1e-6)


def test_last_stride_one_is_16_by_8_without_dilation():
    network = resnet("resnet18")
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 256, 128)).shape == (1, 512, 16, 8)
        assert resnet("resnet18", 2)(torch.zeros(1, 3, 256, 128)).shape == (1, 512, 8, 4)
    assert all(module.dilation == (1, 1) for module in network.modules() if isinstance(module, nn.Conv2d))
    assert network.channels == 512 and resnet("tiny").channels == 128


@pytest.mark.parametrize(
    "size, kernel, stride, pads",
    [(8, 7, 2, (2, 3)), (8, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (8, 3, 1, (1, 1)), (8, 1, 2, (0, 0))],
)
def test_same_padding_by_hand(size, kernel, stride, pads):
    padded = _pad_same(torch.zeros(1, 1, size, size), kernel, stride, 1.0)[0, 0]
    assert padded.sum(1).eq(padded.shape[1]).tolist() == [True] * pads[0] + [False] * size + [True] * pads[1]


def test_norm_can_be_replaced():
    network = resnet("tiny", norm=nn.InstanceNorm2d)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert isinstance(network.layer2[0].downsample[1], nn.InstanceNorm2d)


def test_names_are_known():
    with pytest.raises(UserError, match=r"resnet51.*resnet50"):
        resnet("resnet51")
    with pytest.raises(UserError, match="mindspore"):
        resnet("tiny", variant="paddle")


def test_nonlocal_places():
    network = resnet("resnet50", nonlocal_width=1)
    assert len(network.nonlocal2) == 2 and len(network.nonlocal3) == 3
    assert not hasattr(network, "nonlocal1") and not hasattr(network, "nonlocal4")
    half = resnet("tiny", nonlocal_width="half")
    assert half.nonlocal3[0].theta.weight.shape == (32, 64, 1, 1)
    seen = []
    for place, module in network.named_modules():
        if place.count(".") == 1 and place.startswith(("layer2", "layer3", "nonlocal")):
            module.register_forward_hook(lambda *_, place=place: seen.append(place))
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert seen[:6] == ["layer2.0", "layer2.1", "layer2.2", "nonlocal2.0", "layer2.3", "nonlocal2.1"]
    assert seen[9:] == ["layer3.3", "nonlocal3.0", "layer3.4", "nonlocal3.1", "layer3.5", "nonlocal3.2"]


def test_nonlocal_starts_as_identity():
    maps = torch.randn(2, 6, 4, 3)
    assert torch.equal(NonLocal(6, 2)(maps), maps)


@pytest.mark.parametrize("width", [1, 3])
def test_nonlocal_by_its_equation(width):
    block = shake(NonLocal(6, width)).double().eval()
    maps = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        theta, phi, g = (layer(maps).flatten(2) for layer in (block.theta, block.phi, block.g))
        similar = torch.einsum("nmi,nmj->nij", theta, phi) / 12
        mixed = torch.einsum("nij,nmj->nmi", similar, g).view(2, width, 4, 3)
        torch.testing.assert_close(block(maps), maps + block.norm(block.out(mixed)))


def test_pooling_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert average(maps).item() == 1.5
    assert generalized_mean(maps).item() == pytest.approx(9 ** (1 / 3))
    assert generalized_mean(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1e-4)
    large = torch.full((1, 1, 2, 2), 100.0, dtype=torch.float16)
    assert generalized_mean(large).item() == pytest.approx(100, rel=1e-3)


def test_pooling_has_a_gradient_at_zero():
    maps = torch.zeros(1, 1, 2, 2, requires_grad=True)
    generalized_mean(maps).sum().backward()
    assert maps.grad.isfinite().all()


def test_neck_and_classifier():
    torch.manual_seed(0)
    norm, linear = neck(2048), classifier(2048, 100)
    assert not norm.bias.requires_grad and norm.bias.eq(0).all() and norm.weight.requires_grad
    assert norm.weight.mean().item() == pytest.approx(1, abs=1e-3)
    assert norm.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert linear.bias is None and linear.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert neck(4, frozen_bias=False).bias.requires_grad


def test_stems_follow_the_image_not_its_place():
    stems = Stems(resnet("tiny", stem=False)).double()
    shake(stems.visible, 1), shake(stems.infrared, 2)
    stems.eval()
    images = torch.randn(5, 3, 32, 16, dtype=torch.float64)
    modality = torch.tensor([1, 0, 0, 1, 0])
    with torch.no_grad():
        mixed = stems(images, modality)
        for index, name in enumerate(("visible", "infrared")):
            torch.testing.assert_close(mixed[modality == index], stems(images, name)[modality == index])
            torch.testing.assert_close(stems(images, torch.full((5,), index)), stems(images, name))
    assert isinstance(stems["visible"], Stem)


def start_state(network):
    return {**network.state_dict(), "fc.weight": torch.zeros(9, network.channels), "fc.bias": torch.zeros(9)}


def mindspore_state(network):
    words = {"weight": "gamma", "bias": "beta"}
    words |= {"running_mean": "moving_mean", "running_var": "moving_variance"}
    values = {"end_point.weight": np.zeros((10, 4), np.float32), "global_step": np.array(3)}
    for name, value in network.state_dict().items():
        stem, _, last = name.rpartition(".")
        if last != "num_batches_tracked":
            last = words[last] if f"{stem}.running_mean" in network.state_dict() else last
            values[f"{stem}.{last}".replace("downsample", "down_sample_layer")] = value.numpy()
    return values


@pytest.mark.parametrize(
    "kind", ["plain.pth", "module.pth", "old.pth", "model.safetensors", "net.ckpt", "ms.safetensors"]
)
def test_start_weights(tmp_path, kind):
    from safetensors.torch import save_file

    source = shake(resnet("tiny"))
    path = tmp_path / kind
    state = start_state(source)
    if kind.endswith("ckpt"):
        write_checkpoint(path, mindspore_state(source))
    elif kind == "ms.safetensors":
        values = {name: torch.from_numpy(value).clone() for name, value in mindspore_state(source).items()}
        save_file(values, path, metadata={"format": "ms"})
    elif kind.endswith("safetensors"):
        save_file(state, path)
    elif kind == "module.pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "acc": 1}, path)
    elif kind == "old.pth":
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(state, path)
    body = resnet("tiny", stem=False, nonlocal_width=1)
    stems = Stems(body)
    left_out = load_pretrained(body, str(path), "tiny", tuple(stems.children()))
    assert any(name.startswith(("fc", "end_point")) for name in left_out)
    for module in (body, stems.visible, stems.infrared):
        for name, value in module.state_dict().items():
            if not name.startswith("nonlocal") and not name.endswith("num_batches_tracked"):
                assert torch.equal(value, source.state_dict()[name]), name


def test_start_weights_of_another_network(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(start_state(resnet("resnet18")), path)
    with pytest.raises(UserError, match="does not fit the backbone tiny"):
        load_pretrained(resnet("tiny"), str(path), "tiny")
    state = start_state(resnet("tiny"))
    torch.save(state | {"layer5.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"layer5\.weight"):
        load_pretrained(resnet("tiny"), str(path), "tiny")
    del state["layer4.0.bn2.bias"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"layer4\.0\.bn2\.bias is missing"):
        load_pretrained(resnet("tiny"), str(path), "tiny")


def test_start_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no pretrained weights at"):
        load_pretrained(resnet("tiny"), str(tmp_path / "a.pth"), "tiny")
    (tmp_path / "b.pth").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"b\.pth"):
        load_pretrained(resnet("tiny"), str(tmp_path / "b.pth"), "tiny")
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"b\.safetensors"):
        load_pretrained(resnet("tiny"), str(tmp_path / "b.safetensors"), "tiny")
    assert load_pretrained(resnet("tiny"), None, "tiny") == []


def test_timm_without_network(monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("could not connect\nat all")

    monkeypatch.setattr(timm, "create_model", offline)
    pattern = r"resnet50\.tv_in1k.*could not connect.*model\.safetensors.*method\.pretrained"
    with pytest.raises(UserError, match=pattern):
        load_pretrained(resnet("resnet50"), "timm", "resnet50")


def test_tiny_has_no_weights():
    with pytest.raises(UserError, match=r"method\.pretrained to null"):
        load_pretrained(resnet("tiny"), "timm", "tiny")


def test_timm_has_our_names():
    import timm

    theirs = timm.create_model("resnet50.tv_in1k", pretrained=False).state_dict()
    ours = resnet("resnet50").state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items() if not key.startswith("fc.")
    }


def test_every_network_has_sizes():
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in resnet(name).parameters()) for name in NETWORKS}
    assert counts["resnet50"] == 23_508_032 and counts["resnet18"] == 11_176_512
    assert counts["tiny"] < 400_000
