"""DDAG: its two kinds of attention recomputed slowly, the graph's schedule, its contract and its files."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossreid import checkpoint, originals
from crossreid.__main__ import main as run
from crossreid.formats.mindspore import mindspore_names, read_checkpoint, write_checkpoint
from crossreid.methods import METHODS
from crossreid.methods.base import Progress
from crossreid.methods.ddag import DDAG
from crossreid.nn.graph_attention import GraphAttention, IdentityGraph
from crossreid.nn.part_attention import PartAttention, bands, windows
from crossreid.nn.resnet import resnet
from crossreid.originals.ddag import read, write_mindspore
from crossreid.records import Batch, UserError


def make(classes=4, **settings):
    torch.manual_seed(0)
    settings = {"backbone": "tiny", "pretrained": None, "heads": 2, "width": 8} | settings
    return DDAG(DDAG.Config(**settings), classes)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor([0, 0, 1, 1, 2, 2] * 2)
    modality = torch.arange(12) // 6
    images = torch.randn(12, 3, 64, 32, generator=generator).double()
    return Batch(images, target, target * 0, modality, target * 0)


def single(batch):
    return Batch(batch.images.float(), batch.target, batch.camera, batch.modality, batch.domain)


def slow_layer(nodes, weight, score, identities):
    """Graph attention node by node, over the concatenated pairs."""
    nodes = nodes @ weight
    rows = []
    for own, identity in zip(nodes, identities):
        friends = [other for other, theirs in zip(nodes, identities) if theirs == identity]
        scores = [F.leaky_relu((torch.cat((own, other)) @ score)[0], 0.2).exp() for other in friends]
        rows.append(sum(value * other for value, other in zip(scores, friends)) / sum(scores))
    return torch.stack(rows)


def test_graph_node_by_node():
    torch.manual_seed(2)
    graph = IdentityGraph(6, 5, heads=3, head_width=4).double().eval()
    nodes, identities = torch.randn(7, 6).double(), torch.tensor([0, 1, 0, 2, 1, 0, 4])
    heads = [F.elu(slow_layer(nodes, head.weight, head.score, identities)) for head in graph.heads]
    last = F.elu(slow_layer(torch.cat(heads, 1), graph.out.weight, graph.out.score, identities))
    torch.testing.assert_close(graph(nodes, identities), last.log_softmax(1), rtol=1e-12, atol=1e-12)
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    torch.testing.assert_close(graph(nodes[order], identities[order]), graph(nodes, identities)[order])


def test_graph_attention_of_rows_and_of_a_lonely_node():
    torch.manual_seed(3)
    layer = GraphAttention(5, 3, dropout=0.5).eval()
    nodes, identities = torch.randn(6, 5), torch.tensor([0, 0, 0, 1, 1, 2])
    linked = identities[:, None] == identities
    shares = layer.attention(nodes @ layer.weight, linked)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert (shares[~linked] == 0).all() and (shares[linked] > 0).all()
    torch.testing.assert_close(layer(nodes, linked)[5], nodes[5] @ layer.weight)


def test_graph_without_heads_takes_the_nodes_themselves():
    torch.manual_seed(4)
    graph = IdentityGraph(6, 5, heads=0).double().eval()
    nodes, identities = torch.randn(4, 6).double(), torch.tensor([0, 1, 0, 1])
    last = F.elu(slow_layer(nodes, graph.out.weight, graph.out.score, identities))
    torch.testing.assert_close(graph(nodes, identities), last.log_softmax(1))


@pytest.mark.parametrize(("height", "parts"), [(18, 3), (7, 3), (2, 3), (4, 1)])
def test_part_attention_part_by_part(height, parts):
    torch.manual_seed(5)
    layer = PartAttention(6, parts).double().eval()
    torch.nn.init.normal_(layer.gate)
    maps, vectors = torch.randn(3, 6, height, 2).double(), torch.randn(3, 6).double()
    for row in range(3):
        edges = [(i * height // parts, -(-(i + 1) * height // parts)) for i in range(parts)]
        pieces = [maps[row, :, low:high].mean((1, 2)) for low, high in edges]
        torch.testing.assert_close(bands(maps, parts)[row], torch.stack(pieces))
        total = vectors[row]
        for i in range(parts):
            scores = torch.stack([layer.query(pieces[i]) @ layer.key(piece) for piece in pieces]).softmax(0)
            gathered = sum(score * layer.value(piece) for score, piece in zip(scores, pieces))
            total = total + layer.gate.softmax(0)[i] * gathered
        expected = layer.neck(total[None])
        torch.testing.assert_close(layer(maps, vectors)[row : row + 1], expected)
    shares = layer.attention(bands(maps, parts))
    torch.testing.assert_close(shares.sum(2), torch.ones(3, parts).double())


def test_overlapping_windows_of_parts():
    maps = torch.randn(2, 4, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    expected = torch.stack([maps[:, :, low : low + 5].mean((2, 3)) for low in (0, 2, 4)], 1)
    torch.testing.assert_close(windows(maps, 3), expected)
    torch.testing.assert_close(PartAttention(4, 3, pooling="windows").pool(maps, 3), expected)
    torch.testing.assert_close(windows(maps[:, :, :3], 3), maps[:, :, :3].mean(3).transpose(1, 2))
    assert not torch.allclose(bands(maps, 3), expected)
    with pytest.raises(UserError, match=r"2 rows, too few for 3 windows .* method\.part_pooling to bands"):
        windows(maps[:, :, :2], 3)
    with pytest.raises(UserError, match=r"method\.part_pooling is 'thirds': choose one of bands, windows"):
        checkpoint.build("ddag", {"backbone": "tiny", "pretrained": None, "part_pooling": "thirds"}, 3)


def test_part_attention_without_questions_is_the_mean_of_the_parts():
    torch.manual_seed(6)
    layer = PartAttention(6, 3).eval()
    for linear in (layer.query, layer.key):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    maps, vectors = torch.randn(2, 6, 6, 2), torch.randn(2, 6)
    torch.testing.assert_close(
        layer(maps, vectors), layer.neck(layer.value(bands(maps, 3)).mean(1) + vectors)
    )
    torch.testing.assert_close(layer.gate.softmax(0), torch.full((3,), 1 / 3))
    before = layer.gate.clone()
    layer(maps, vectors)
    assert torch.equal(layer.gate, before)


def test_training_step_by_its_equations(batch):
    method = make(dropout=0.0).double().train()
    method.graph_weight.fill_(0.4)
    losses = method(batch, "train", Progress())

    again = make(dropout=0.0).double().train()
    images = batch.images
    maps = again.backbone(torch.cat((again.stems.visible(images[:6]), again.stems.infrared(images[6:]))))
    pooled = maps.flatten(2).mean(2)
    vectors = (pooled - pooled.mean(0)) / (pooled.var(0, unbiased=False) + 1e-5).sqrt() * again.neck.weight
    rows = torch.arange(12)
    identity = -(vectors @ again.classifier.weight.T).log_softmax(1)[rows, batch.target].mean()
    part = -(again.part(maps, vectors) @ again.classifier.weight.T).log_softmax(1)[rows, batch.target].mean()
    gaps = []
    for row in rows:
        distance = (pooled[row] - pooled).norm(dim=1)
        same = batch.target == batch.target[row]
        gaps.append((distance[same].max() - distance[~same].min() + 0.3).clamp_min(0))
    triplet = torch.stack(gaps).mean()
    graph = -again.graph(pooled, batch.target)[rows, batch.target].mean()
    expected = {"identity": identity, "part": part, "triplet": triplet, "graph": graph}
    expected["base"] = identity + part + triplet
    expected["total"] = expected["base"] + again.graph_weight.new_tensor(0.4) * graph
    logits = vectors @ again.classifier.weight.T
    assert losses.pop("accuracy").item() == pytest.approx(
        (logits.argmax(1) == batch.target).double().mean().item()
    )
    for name, value in losses.items():
        torch.testing.assert_close(value, expected.pop(name), rtol=1e-9, atol=0, msg=name)
    assert not expected


def test_weight_of_the_graph():
    method = make()
    weights = [method.graph_weight.item()]
    for mean in (9, 4, 1):
        method.epoch_end({"train/base": mean, "train/total": 77.0, "train/graph": 5.0})
        weights.append(method.graph_weight.item())
    assert weights == pytest.approx([0, 0.1, 0.2, 0.5])
    other = make()
    other.load_state_dict(method.state_dict())
    assert other.graph_weight.item() == 0.5


def test_weight_of_the_graph_at_every_step(batch):
    """The port's schedule: the mean of the whole loss over the epoch so far, anew in each epoch."""
    method, batch = make(graph_schedule="step", dropout=0.0), single(batch)
    used, totals = [], []
    for epoch, iteration in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        used.append(method.graph_weight.item())
        losses = method(batch, "train", Progress(epoch, iteration, 3))
        torch.testing.assert_close(losses["total"], losses["base"] + used[-1] * losses["graph"])
        losses["total"].backward()
        totals.append(losses["total"].item())
        if iteration == 2:
            method.epoch_end({"train/base": 1e6, "train/total": sum(totals) / 3})
    means = [totals[0], sum(totals[:2]) / 2, sum(totals[:3]) / 3, totals[3]]
    assert used == pytest.approx([0, *(1 / (1 + mean) for mean in means)], rel=1e-5)
    other = make(graph_schedule="step", dropout=0.0)
    other.load_state_dict(method.state_dict())
    assert other.epoch_total[1] == 2 and "epoch_total" not in make().state_dict()


def test_first_epoch_does_not_learn_from_the_graph(batch):
    method = make()
    losses = method(single(batch), "train", Progress())
    assert torch.equal(losses["total"], losses["base"])
    losses["total"].backward()
    assert all(parameter.grad.eq(0).all() for parameter in method.graph.parameters())


COMBINATIONS = [
    {"part": part, "graph": graph, "streams": streams}
    for part, graph, streams in product((0, 1, 3), (False, True), (1, 2))
]
COMBINATIONS += [
    {"part": 0, "losses": "id"},
    {"graph": False, "losses": "id"},
    {"part": 2, "part_bias": False, "centroids": True, "gradient_checkpointing": True},
    {"part": 0, "graph_schedule": "step", "heads": 0, "after_neck": True, "neck_bias": True},
    {"graph_schedule": "step", "variant": "mindspore", "last_stride": 2, "streams": 1, "part_bias": False},
]


@pytest.mark.parametrize("settings", COMBINATIONS, ids=str)
def test_every_combination_learns_embeds_saves_and_loads(batch, settings, tmp_path):
    method, batch = make(**settings), single(batch)
    part, graph = settings.get("part", 3), settings.get("graph", True)
    groups = [
        {"params": group["params"], "lr": 0.01 * group["lr_factor"]}
        for group in method.parameter_groups()["main"]
    ]
    optimizer, found = torch.optim.SGD(groups), []
    for step in range(3):
        losses = method(batch, "train", Progress(0, step, 3))
        found.append(losses["total"].item())
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert found[2] < found[0]
    assert ("part" in losses, "graph" in losses) == (part > 0, graph)
    assert ("triplet" in losses) == (settings.get("losses") != "id")
    placed = [parameter for group in method.parameter_groups()["main"] for parameter in group["params"]]
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert len(placed) == len(trainable) and {*placed} == {*trainable}
    assert all(parameter.grad is not None for parameter in trainable)
    method.epoch_end({"train/base": 1.0, "train/total": 1.0})
    assert method.features == (("part", "bn") if part else ("bn",))
    with torch.no_grad():
        for feature in (None, *method.features):
            vectors = method.eval().embed(batch.images, batch.modality, feature).feature
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(12))
    inputs = {"size": (64, 32), "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
    content = checkpoint.describe(method, "ddag", input=inputs, settings={}, trained={})
    checkpoint.save(tmp_path / "a.pt", content)
    again = checkpoint.load(tmp_path / "a.pt")
    with torch.no_grad():
        assert torch.equal(again.embed(batch.images, batch.modality, feature).feature, vectors)
    for key, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_rates_and_ablations(batch):
    rates = [group["lr_factor"] for group in make().parameter_groups()["main"]]
    assert rates == [0.1, 1.0, 1.0, 1.0, 1.0]
    assert make(backbone_lr_factor=1.0).parameter_groups()["main"][0]["lr_factor"] == 1.0
    both, alone = (make(losses=name).train() for name in ("id+tri", "id"))
    with_triplet, without = (method(single(batch), "train", Progress()) for method in (both, alone))
    assert "triplet" not in without
    torch.testing.assert_close(with_triplet["base"] - with_triplet["triplet"], without["base"])
    without["total"].backward()
    assert all(p.grad is not None for p in alone.parameters() if p.requires_grad)


def test_embed_uses_the_stem_of_the_modality(batch):
    method, batch = make().eval(), single(batch)
    with torch.no_grad():
        mixed = method.embed(batch.images, batch.modality).feature
        visible = method.embed(batch.images, "visible").feature
        infrared = method.embed(batch.images, "infrared").feature
        plain = method.embed(batch.images, "visible", "bn").feature
    torch.testing.assert_close(mixed, torch.cat((visible[:6], infrared[6:])))
    assert (visible - infrared).abs().max() > 1e-3 and (visible - plain).abs().max() > 1e-3


def test_settings_of_the_port(batch):
    batch = single(batch)
    port = {"streams": 1, "last_stride": 2, "variant": "mindspore", "after_neck": True, "neck_bias": True}
    method = make(**port, heads=0, dropout=0.0)
    assert method.feature_map(batch.images).shape == (12, 128, 2, 1)
    assert method.neck.bias.requires_grad and method.part.neck.bias.requires_grad
    losses = method(batch, "train", Progress())
    losses["triplet"].backward()
    assert method.neck.weight.grad.abs().sum() > 0
    assert make().neck.bias.requires_grad is False and make().part.neck.bias.requires_grad is False


def test_size_of_the_published_network():
    with torch.device("meta"):
        method = DDAG(DDAG.Config(pretrained=None), 395)
    stems, body, necks = 2 * (9408 + 128), 23_508_032 - 9536, 2 * 2 * 2048
    attention = 3 * (2048 * 2048 + 2048) + 3
    graph = 4 * (2048 * 512 + 1024) + 2048 * 395 + 790
    expected = stems + body + necks + 2048 * 395 + attention + graph
    assert sum(value.numel() for value in method.parameters()) == expected


def test_half_precision(batch):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(single(batch), "train", Progress())
    assert losses["total"].dtype == torch.float32 and losses["total"].isfinite()
    losses["total"].backward()


def test_mistakes(batch):
    with pytest.raises(UserError, match=r"no feature 'part'.*method\.part above 0"):
        make(part=0).embed(batch.images.float(), "visible", "part")
    with pytest.raises(ValueError, match="must be told"):
        make().embed(batch.images.float())
    for settings, words in (
        ({"part": -1}, r"method\.part is -1"),
        ({"heads": -2}, r"method\.heads is -2"),
        ({"dropout": 1.0}, r"method\.dropout is 1\.0"),
        ({"streams": 3}, r"method\.streams is 3"),
        ({"losses": "tri"}, r"method\.losses is 'tri'.*choose one of id, id\+tri"),
        ({"graph_schedule": "day"}, r"method\.graph_schedule is 'day'"),
    ):
        with pytest.raises(UserError, match=words):
            make(**settings)
    with pytest.raises(UserError, match="no visible"):
        make().check(SimpleNamespace(modality=np.array([1, 1])))
    make(streams=1).check(SimpleNamespace(modality=np.array([1, 1])))
    assert METHODS["ddag"] is DDAG


NORM = ("weight", "bias", "running_mean", "running_var")


def names_of_the_program():
    """Names and shapes of the authors' file with 7 identities, 2 heads of width 5 and 4 parts."""
    with torch.device("meta"):
        trunk = {name: value.shape for name, value in resnet("resnet50").state_dict().items()}
    names = {}
    for module in ("thermal_module.thermal", "visible_module.visible", "base_resnet.base"):
        names |= {f"{module}.{name}": shape for name, shape in trunk.items()}
    for place in ("bottleneck", "wpa.bottleneck", "wpa.W.1"):
        names |= {f"{place}.{name}": (2048,) for name in NORM} | {f"{place}.num_batches_tracked": ()}
    for place in ("wpa.fc1.0", "wpa.fc2", "wpa.fc3", "wpa.W.0"):
        names |= {f"{place}.weight": (2048, 2048, 1, 1), f"{place}.bias": (2048,)}
    for place in ("classifier", "classifier1", "classifier2"):
        names[f"{place}.weight"] = (7, 2048)
    for head in range(2):
        names |= {f"attention_{head}.W": (2048, 5), f"attention_{head}.a": (10, 1)}
    return names | {"wpa.gate": (4,), "out_att.W": (10, 7), "out_att.a": (14, 1)}


@pytest.mark.slow
def test_file_of_the_program_there_and_back(tmp_path):
    state = {}
    for number, (name, shape) in enumerate(names_of_the_program().items()):
        state[name] = torch.full(shape, number / 1000) if shape else torch.tensor(number)
    assert len(state) == 991 - 4
    torch.save(
        {"net": state, "cmc": np.ones(3, np.float32), "mAP": np.float64(0.5), "epoch": 3}, tmp_path / "a.t"
    )
    described, weights, left_out = originals.read(tmp_path / "a.t")
    assert (described["method"], described["classes"]) == ("ddag", 7)
    expected = {"pretrained": None, "part": 4, "graph": True, "heads": 2, "width": 5}
    assert described["config"] == expected and described["input"]["size"] == [288, 144]
    reasons = " ".join(left_out.values())
    assert "never used" in reasons and {"classifier1.weight", "wpa.W.0.bias"} <= set(left_out)
    assert len(weights) - 1 + len(left_out) == len(state)
    method = checkpoint.load(tmp_path / "a.t")
    assert isinstance(method, DDAG)
    for ours, theirs in (
        (method.stems.infrared.bn1.bias, "thermal_module.thermal.bn1.bias"),
        (method.part.key.weight[:, :, None, None], "wpa.fc2.weight"),
        (method.part.neck.running_var, "wpa.bottleneck.running_var"),
        (method.graph.heads[1].score, "attention_1.a"),
        (method.graph.out.weight, "out_att.W"),
    ):
        assert torch.equal(ours, state[theirs])

    originals.to_original("ddag", method.state_dict(), tmp_path / "b.t")
    theirs = torch.load(tmp_path / "b.t", weights_only=True)["net"]
    assert {name: value.shape for name, value in theirs.items()} == {
        name: value.shape for name, value in state.items()
    }
    used = [name for name in state if name not in left_out]
    assert all(torch.equal(theirs[name], state[name]) for name in used)
    with pytest.raises(UserError, match=r"no weight 'wpa\.fc4"):
        read(state | {"wpa.fc4.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"would become part\.key\.weight"):
        read({name: value for name, value in state.items() if name != "wpa.fc2.weight"})
    del weights["part.gate"]
    with pytest.raises(UserError, match="cannot be written"):
        originals.to_original("ddag", weights, tmp_path / "c.t")


PORT = {
    "streams": 1,
    "last_stride": 2,
    "variant": "mindspore",
    "after_neck": True,
    "neck_bias": True,
    "part_bias": False,
    "heads": 0,
}


def names_of_the_port():
    """Name -> shape of what the MindSpore port saves, for 7 identities."""
    with torch.device("meta"):
        trunk = resnet("resnet50").state_dict()
    words = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    names = {}
    for name, value in trunk.items():
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked":
            continue
        stem = stem.replace("downsample", "down_sample_layer")
        there = f"{stem}.{words[last] if value.ndim == 1 else last}"
        unused = ("base_resnet.base",)
        if not stem.startswith("layer"):
            unused = ("visible_module.visible", "thermal_module.thermal")
        names |= {f"{module}.{there}": tuple(value.shape) for module in ("resnet50", *unused)}
    for place in ("bottleneck", "wpa.bottleneck"):
        names |= {f"{place}.{last}": (2048,) for last in words.values()}
    names |= {f"wpa.fc{index}.weight": (2048, 2048, 1, 1) for index in (1, 2, 3)}
    names |= {"wpa.gate": (3,), "classifier.weight": (7, 2048)}
    return names | {"graph_att.out_attention.W": (2048, 7), "graph_att.out_attention.a": (14, 1)}


def test_the_form_of_the_port_is_written(tmp_path):
    with torch.device("meta"):
        method = checkpoint.build("ddag", PORT | {"pretrained": None, "graph_schedule": "step"}, 7)
    state = method.state_dict()
    config = {"backbone": "resnet50", "part": 3, "graph": True} | PORT
    theirs = mindspore_names(write_mindspore(state, config))
    shapes = {name: tuple(value.shape) for name, value in theirs.items()}
    assert len(shapes) == 550 and shapes == names_of_the_port()

    small = {name: torch.full((2, 2), float(number)) for number, name in enumerate(state)}
    originals.to_original("ddag", small, tmp_path / "a.ckpt", config)
    theirs = read_checkpoint(tmp_path / "a.ckpt")
    for copied in ("resnet50", "visible_module.visible", "thermal_module.thermal"):
        np.testing.assert_array_equal(theirs[f"{copied}.bn1.gamma"], small["backbone.bn1.weight"].numpy())
    body = "base_resnet.base.layer2.0.down_sample_layer.1.moving_variance"
    np.testing.assert_array_equal(theirs[body], small["backbone.layer2.0.downsample.1.running_var"].numpy())
    np.testing.assert_array_equal(theirs["bottleneck.beta"], small["neck.bias"].numpy())


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"streams": 2}, "streams 2"),
        ({"last_stride": 1}, "last_stride 1"),
        ({"variant": "torchvision"}, "variant 'torchvision'"),
        ({"after_neck": False}, "after_neck False"),
        ({"neck_bias": False}, "neck_bias False"),
        ({"part_bias": True}, "part_bias True"),
        ({"part": 0}, "part 0"),
        ({"graph": False}, "graph False"),
        ({"heads": 4}, "heads 4"),
    ],
)
def test_what_the_port_would_compute_otherwise_is_not_written(changed, named):
    config = {"part": 3, "graph": True} | PORT | changed
    with pytest.raises(UserError, match=rf"but this model has {named}, and the port would compute"):
        write_mindspore({"backbone.layer3.5.conv3.weight": torch.zeros(1)}, config)
    with pytest.raises(UserError, match="another backbone than resnet50"):
        write_mindspore({}, {"part": 3, "graph": True} | PORT)


@pytest.mark.slow
def test_file_of_the_port(tmp_path, capsys):
    values = {name: np.full(shape, 0.25, np.float32) for name, shape in names_of_the_port().items()}
    values |= {f"wpa.fc{i}.weight": np.full((2048, 2048, 1, 1), i / 1e4, np.float32) for i in (1, 2, 3)}
    values |= {"wpa.gate": np.array([0.3, 0.3, 0.4], np.float32), "learning_rate": np.float32(0.1)}
    write_checkpoint(tmp_path / "a.ckpt", values)
    with pytest.warns(UserWarning, match=r"does not say on which device .*--method\.part_pooling windows"):
        method = checkpoint.load(tmp_path / "a.ckpt")
    config = method.config
    assert config.part_pooling == "bands"
    assert (config.streams, config.last_stride, config.variant, config.heads) == (1, 2, "mindspore", 0)
    assert config.after_neck and config.neck_bias and method.part.key.bias is None
    assert method.part.key.weight.eq(np.float32(2e-4)).all() and method.backbone.layer4[0].bn3.eps == 1e-3
    assert method.embed(torch.zeros(1, 3, 64, 32)).feature.shape == (1, 2048)
    run(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.pt"), "--method.part_pooling", "windows"])
    assert "note:" not in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "a.pt").config.part_pooling == "windows"
    lines = checkpoint.convert(tmp_path / "a.ckpt", tmp_path / "b.pt")
    assert any(line.startswith("note: the file does not say on which device") for line in lines)
    back = ["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.ckpt"), "--to", "original"]
    assert run([*back, "--method.part", "3"]) == 2
    assert "a checkpoint of ours records its settings" in capsys.readouterr().err
    assert run(["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.t"), "--to", "original"]) == 2
    assert "ends in .ckpt writes the form of the MindSpore program" in capsys.readouterr().err
    assert run(back) == 0
    theirs = read_checkpoint(tmp_path / "b.ckpt")
    assert len(theirs) == 550 and all(np.array_equal(theirs[name], values[name]) for name in theirs)
