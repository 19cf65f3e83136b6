"""AlignedReID++: its losses and training step computed once more, what it compares, and its checkpoints."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional as F

from crossreid import checkpoint, config, originals
from crossreid.evaluation import distance_rows
from crossreid.formats.mindspore import read_checkpoint, write_checkpoint
from crossreid.losses.aligned_triplet import aligned_triplet
from crossreid.methods.alignedreid import LOSSES, AlignedReID
from crossreid.methods.base import Progress
from crossreid.nn.resnet import resnet
from crossreid.originals import alignedreid as published
from crossreid.records import Batch, Embedding, Metric, UserError
from crossreid.training import lr_factor

SIZE = (128, 64)  # a map of 4 x 2


def make(classes=3, **settings):
    torch.manual_seed(0)
    return AlignedReID(AlignedReID.Config(backbone="tiny", pretrained=None, **settings), classes)


@pytest.fixture
def batch():
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    images = torch.randn(6, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    return Batch(images, target, target * 0, target * 0, target * 0)


def double(batch):
    return Batch(batch.images.double(), batch.target, batch.camera, batch.modality, batch.domain)


def random_images(count, stripes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    rows = F.normalize(torch.randn(count, stripes, 5, generator=generator, dtype=torch.float64), dim=2)
    return vectors, rows


def cheapest_by_trying_all(x, y):
    """The aligned distance of two images (S, C) as the minimum over every path."""
    steps = [[math.tanh((a - b).norm().item() / 2) for b in y] for a in x]
    costs = []
    for downs in itertools.combinations(range(len(x) + len(y) - 2), len(x) - 1):
        i = j = 0
        cost = steps[0][0]
        for turn in range(len(x) + len(y) - 2):
            i, j = (i + 1, j) if turn in downs else (i, j + 1)
            cost += steps[i][j]
        costs.append(cost)
    return min(costs)


def slow_losses(vectors, stripes, target, margin):
    whole, local = [], []
    for anchor in range(len(target)):
        far = [(vectors[anchor] - other).norm().item() for other in vectors]
        positive = max((i for i in range(len(far)) if target[i] == target[anchor]), key=lambda i: far[i])
        negative = min((i for i in range(len(far)) if target[i] != target[anchor]), key=lambda i: far[i])
        whole.append(max(0, far[positive] - far[negative] + margin))
        near, off = (cheapest_by_trying_all(stripes[anchor], stripes[i]) for i in (positive, negative))
        local.append(max(0, near - off + margin))
    return sum(whole) / len(whole), sum(local) / len(local)


def test_triplets_by_hand():
    left, right = (1.0, 0.0), (0.0, 1.0)
    vectors = torch.tensor([[0.0], [3.0], [1.0], [5.0]], dtype=torch.float64)
    stripes = [(left, right), (right, left), (left, left), (right, right)]
    stripes = torch.tensor(stripes, dtype=torch.float64)
    whole, local = aligned_triplet(vectors, stripes, torch.tensor([0, 0, 1, 1]), 0.3)
    # gaps 3 - 1, 3 - 2, 4 - 1, 4 - 2
    assert whole.item() == pytest.approx(2 + 0.3, abs=1e-6)
    # two stripes differ by t; aligned distances 2t - t, 2t - t, 3t - t, 3t - t
    t = math.tanh(math.sqrt(2) / 2)
    assert local.item() == pytest.approx(1.5 * t + 0.3, abs=1e-5)


@pytest.mark.parametrize("target", [[0, 0, 1, 1], [0, 0, 0, 1, 2], [7, 1, 7, 7, 1, 7, 3], [0, 1, 2]])
@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_any_labels_against_trying_everything(target, margin):
    vectors, stripes = random_images(len(target), seed=len(target))
    ours = aligned_triplet(vectors, stripes, torch.tensor(target), margin)
    theirs = slow_losses(vectors, stripes, target, margin)
    # an image meets itself at 1e-6 instead of 0
    assert [loss.item() for loss in ours] == pytest.approx(theirs, abs=2e-5)


def test_the_stripes_do_not_choose_the_triplets():
    vectors, stripes = random_images(6)
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    moved = stripes[torch.tensor([2, 1, 0, 4, 5, 3])]
    whole, _ = aligned_triplet(vectors, moved, target)
    assert torch.equal(whole, aligned_triplet(vectors, stripes, target)[0])
    assert torch.equal(whole, aligned_triplet(vectors, None, target)[0])
    # as chosen by the vectors, anchor 0 meets 1 and 2, whatever the stripes are
    line = torch.tensor([[0.0], [1.0], [0.5]], dtype=torch.float64)
    _, local = aligned_triplet(line, stripes[:3], torch.tensor([0, 0, 1]), 5.0)
    far = {(i, j): cheapest_by_trying_all(stripes[i], stripes[j]) for i in range(3) for j in range(3)}
    # anchor 2 is as near to 0 as to 1: the first is taken
    gaps = [far[0, 1] - far[0, 2], far[0, 1] - far[1, 2], far[2, 2] - far[0, 2]]
    assert local.item() == pytest.approx(sum(gaps) / 3 + 5, abs=2e-5)


def test_unaligned_triplets_compare_stripes_at_equal_height():
    vectors, stripes = random_images(5)
    target = [0, 0, 1, 1, 2]
    height = [[((a - b).norm(dim=1) / 2).tanh().sum() for b in stripes] for a in stripes]
    local = 0
    for anchor in range(5):
        far = (vectors - vectors[anchor]).norm(dim=1).tolist()
        positive = max((i for i in range(5) if target[i] == target[anchor]), key=lambda i: far[i])
        negative = min((i for i in range(5) if target[i] != target[anchor]), key=lambda i: far[i])
        local += max(0, height[anchor][positive] - height[anchor][negative] + 0.3) / 5
    whole, found = aligned_triplet(vectors, stripes, torch.tensor(target), unaligned=True)
    assert found.item() == pytest.approx(float(local), abs=1e-5)
    assert torch.equal(whole, aligned_triplet(vectors, stripes, torch.tensor(target))[0])


def test_gradients_of_the_triplets():
    vectors, stripes = (each.requires_grad_() for each in random_images(5))
    target = torch.tensor([0, 0, 1, 1, 2])

    def both(vectors, stripes):
        return sum(aligned_triplet(vectors, F.normalize(stripes, dim=2), target, 1.0))

    assert torch.autograd.gradcheck(both, (vectors, stripes), atol=1e-4)
    for loss, reached in zip(aligned_triplet(vectors, stripes, target, 1.0), (vectors, stripes)):
        gradient = torch.autograd.grad(loss, (vectors, stripes), retain_graph=True, allow_unused=True)
        assert [each is not None for each in gradient] == [each is reached for each in (vectors, stripes)]


def test_one_identity_and_equal_images():
    vectors, stripes = (each.requires_grad_() for each in random_images(4))
    whole, local = aligned_triplet(vectors, stripes, torch.tensor([5, 5, 5, 5]))
    assert whole.item() == local.item() == 0
    (whole + local).backward()
    assert vectors.grad.abs().max() == stripes.grad.abs().max() == 0
    same = torch.ones(4, 3, requires_grad=True)
    rows = F.normalize(torch.ones(4, 2, 3), dim=2).requires_grad_()
    whole, local = aligned_triplet(same, rows, torch.tensor([0, 0, 1, 1]))
    assert whole.item() == pytest.approx(0.3) and local.item() == pytest.approx(0.3)
    (whole + local).backward()
    assert same.grad.isfinite().all() and rows.grad.isfinite().all()


def test_training_step_by_its_equations(batch):
    method, batch = make().double(), double(batch)
    losses = method(batch, "train", Progress())
    assert set(losses) == {*LOSSES, "total"}
    again = make().double()
    maps = again.backbone(batch.images)
    vector = maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3])
    logits = vector @ again.classifier.weight.T + again.classifier.bias
    wanted = 0.9 * F.one_hot(batch.target, 3).double() + 0.1 / 3
    identity = -(wanted * logits.log_softmax(1)).sum(1).mean()
    mean = maps.mean((0, 2, 3), keepdim=True)
    normal = (maps - mean) / ((maps - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    rows = normal.clamp_min(0).max(3).values
    rows = torch.einsum("oc,ncs->nso", again.local_conv.weight[:, :, 0, 0], rows) + again.local_conv.bias
    stripes = rows / rows.square().sum(2, keepdim=True).sqrt()
    assert stripes.shape == (6, 4, 128)
    whole, local = slow_losses(vector.detach(), stripes.detach(), batch.target.tolist(), 0.3)
    assert losses["identity"].item() == pytest.approx(identity.item(), rel=1e-9)
    assert losses["global"].item() == pytest.approx(whole, abs=1e-5)
    assert losses["local"].item() == pytest.approx(local, abs=1e-4)
    assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in LOSSES))


def test_the_local_loss_takes_the_distance_asked_for(batch):
    aligned, unaligned = (make(local_distance=name) for name in ("aligned", "unaligned"))
    one, other = (method(batch, "train", Progress()) for method in (aligned, unaligned))
    assert one["global"] == other["global"] and one["local"] != other["local"]
    vector = unaligned.backbone(batch.images)
    stripes = unaligned.projected(vector)
    local = aligned_triplet(vector.mean((2, 3)), stripes, batch.target, 0.3, unaligned=True)[1]
    assert other["local"].item() == pytest.approx(local.item(), rel=1e-4)


@pytest.mark.parametrize("names", [("global",), ("local",), ("identity",), ("identity", "local")])
def test_every_parameter_serves_the_losses_chosen(batch, names):
    method = make(losses=names)
    losses = method(batch, "train", Progress())
    assert set(losses) == {*names, "total"}
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    method.eval()
    assert method.embed(batch.images).stripes.shape == (6, 4, 128)


def test_vectors_and_stripes(batch):
    method = make().eval()
    maps = method.feature_map(batch.images)
    assert maps.shape == (6, 128, 4, 2)
    both = method.embed(batch.images)
    torch.testing.assert_close(both.feature, maps.mean((2, 3)))
    widest = torch.maximum(maps[..., 0], maps[..., 1]).transpose(1, 2)
    torch.testing.assert_close(both.stripes, widest / widest.norm(dim=2, keepdim=True))
    assert method.embed(batch.images, feature="global").stripes is None
    # the real width is pooled over, not four columns
    assert method.embed(torch.zeros(2, 3, 256, 100)).stripes.shape == (2, 8, 128)
    projected = make(evaluate_stripes="projected").eval().embed(batch.images, feature="local")
    assert projected.stripes.shape == (6, 4, 128)
    rows = method.local_conv(F.relu(method.local_bn(maps)).amax(3, keepdim=True)).squeeze(3).transpose(1, 2)
    torch.testing.assert_close(projected.stripes, F.normalize(rows, dim=2))


def test_an_empty_row_of_the_map_gives_a_zero_stripe():
    method = make().eval()
    for parameter in method.backbone.layer4.parameters():
        torch.nn.init.zeros_(parameter)
    embedding = method.embed(torch.randn(2, 3, *SIZE))
    assert embedding.stripes.eq(0).all() and embedding.feature.eq(0).all()
    distance = distance_rows(method.metric(), embedding, embedding)
    assert distance.isfinite().all()


def test_what_each_feature_compares(batch):
    method = make().eval()
    assert method.metric() == method.metric("global_local")
    assert method.metric() == Metric("squared_euclidean_unit", "aligned")
    found = {}
    for feature in method.features:
        with torch.no_grad():
            embedding = method.embed(batch.images, feature=feature)
            found[feature] = distance_rows(method.metric(feature), embedding[:2], embedding)
    with torch.no_grad():
        embedding = method.embed(batch.images)
    unit = F.normalize(embedding.feature)
    whole = torch.tensor([[(a - b).square().sum() for b in unit] for a in unit[:2]])
    stripes = embedding.stripes.double()
    aligned = [[cheapest_by_trying_all(a, b) for b in stripes] for a in stripes[:2]]
    unaligned = [[((a - b).norm(dim=1) / 2).tanh().sum() for b in stripes] for a in stripes[:2]]
    aligned, unaligned = torch.tensor(aligned), torch.tensor(unaligned)
    expected = {
        "global_local": whole + aligned,
        "global": whole,
        "local": aligned,
        "global_local_unaligned": whole + unaligned,
        "local_unaligned": unaligned,
    }
    assert set(expected) == set(method.features)
    for feature, values in expected.items():
        torch.testing.assert_close(found[feature].float(), values.float(), rtol=1e-3, atol=5e-3)
    with pytest.raises(UserError, match=r"'both': choose one of global_local, global"):
        method.metric("both")


def test_only_alignment_tells_a_shifted_person_from_a_stranger():
    generator = torch.Generator().manual_seed(0)
    person, stranger = F.normalize(torch.randn(2, 1, 8, 16, generator=generator), dim=3)
    shifted = torch.cat([person[:, 1:], person[:, -1:]], 1)
    query = Embedding(torch.ones(1, 2), person)
    gallery = Embedding(torch.ones(2, 2), torch.cat([shifted, stranger]))
    method = make()
    near, far = distance_rows(method.metric("local"), query, gallery)[0]
    assert near < 0.7 * far
    near, far = distance_rows(method.metric("local_unaligned"), query, gallery)[0]
    assert near > 0.8 * far


def test_variants(batch):
    ours, theirs = make().eval(), make(variant="mindspore_alignedreid").eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        one, other = ours.embed(batch.images).feature, theirs.embed(batch.images).feature
    assert ((one - other).norm() / one.norm()).item() > 0.01
    inner = {m.eps for m in theirs.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert inner == {1e-4} and theirs.local_bn.eps == 1e-5
    # padded at the bottom and the right: 3 rows of two pixels below, 2 above
    image = torch.zeros(1, 3, 64, 32)
    image[..., 0, 0] = 1
    expected = F.conv2d(F.pad(image, (2, 3, 2, 3)), theirs.backbone.conv1.weight, stride=2)
    torch.testing.assert_close(theirs.backbone.conv1(image), expected)


def test_parameter_groups():
    method = make()
    weights, norms = method.parameter_groups()["main"]
    assert norms["weight_decay"] == 0 and "weight_decay" not in weights
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    undecayed = {names[id(parameter)] for parameter in norms["params"]}
    assert {"local_bn.weight", "local_bn.bias", "backbone.bn1.weight"} <= undecayed
    assert all(name.split(".")[-2].startswith(("bn", "local_bn", "1")) for name in undecayed)
    assert {"classifier.bias", "local_conv.bias"} <= {names[id(p)] for p in weights["params"]}
    assert len(undecayed) + len(weights["params"]) == len(names)
    (everything,) = make(decay_norms=True).parameter_groups()["main"]
    assert len(everything["params"]) == len(names)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"losses": ("identity", "glboal")}, r"'glboal'\]: give one or more of identity, global, local"),
        ({"losses": ()}, "one or more"),
        ({"evaluate_stripes": "both"}, "'both': choose one of raw, projected"),
        ({"evaluate_stripes": "projected", "losses": ("global",)}, "learned by the loss 'local'"),
        ({"local_distance": "shifted"}, "'shifted': choose one of aligned, unaligned"),
        ({"variant": "jax"}, "'jax'"),
    ],
)
def test_mistakes(settings, words):
    with pytest.raises(UserError, match=words):
        make(**settings)


def test_training_lowers_the_loss(batch):
    method = make()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.02, momentum=0.85, nesterov=True)
    history = []
    for _ in range(12):
        losses = method(batch, "train", Progress())
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append(losses["total"].item())
    assert history[-1] < 0.7 * history[0]


def test_half_precision(batch):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(batch, "train", Progress())
        stripes = method.eval().embed(batch.images).stripes
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert stripes.dtype == torch.float32
    torch.testing.assert_close(stripes.norm(dim=2), torch.ones(6, 4))
    losses["total"].backward()


def test_the_mindspore_recipe():
    settings = config.load("alignedreid_market1501")
    optimizer = settings.train.optimizers["main"]
    steps, epochs = 187, settings.train.epochs

    def rate(step):
        now = Progress(step // steps, step % steps, steps)
        return optimizer.lr * lr_factor(optimizer.schedule, epochs, now)

    first, total = 6 * steps, epochs * steps
    for step in (0, 1, first - 1):
        assert rate(step) == pytest.approx(0.05 * (step + 1) / first)
    for step in (first, first + 1, total // 2, total - 1):
        done = (step - first) / (total - first)
        assert rate(step) == pytest.approx(3.5e-6 + (0.05 - 3.5e-6) * 0.5 * (1 + math.cos(math.pi * done)))
    assert settings.data.loaders["train"].identities * settings.data.loaders["train"].instances == 32


# names of the published programs' weights, written out by hand

NORM = ("weight", "bias", "running_mean", "running_var")


def blocks(depth="resnet50"):
    """(stage, block, place, is a normalisation) of every layer behind the stem."""
    for stage, count in enumerate({"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}[depth], 1):
        for index in range(count):
            for number in (1, 2, 3):
                yield stage, index, f"conv{number}", False
                yield stage, index, f"bn{number}", True
            if index == 0:
                yield stage, index, "downsample.0", False
                yield stage, index, "downsample.1", True


def pytorch_names(depth="resnet50"):
    names = ["base.0.weight", *(f"base.1.{last}" for last in NORM)]
    for stage, index, place, norm in blocks(depth):
        names += [f"base.{stage + 3}.{index}.{place}.{last}" for last in (NORM if norm else ("weight",))]
    names += [f"bn.{last}" for last in NORM] + ["conv1.weight", "conv1.bias"]
    return [*names, "classifier.weight", "classifier.bias"]


def mindspore_names():
    """Pairs of the PyTorch program's name and the MindSpore one's, without prefix."""
    words = dict(zip(NORM, ("gamma", "beta", "moving_mean", "moving_variance")))
    pairs = [("base.0.weight", "base.conv1.weight")]
    pairs += [(f"base.1.{last}", f"base.bn1.{word}") for last, word in words.items()]
    for stage, index, place, norm in blocks():
        there = f"base.layer{stage}.{index}.{place.replace('downsample', 'down_sample_layer')}"
        here = f"base.{stage + 3}.{index}.{place}"
        pairs += [
            (f"{here}.{last}", f"{there}.{words[last] if norm else last}")
            for last in (NORM if norm else ("weight",))
        ]
    pairs += [(f"bn.{last}", f"bn.{word}") for last, word in words.items()]
    pairs += [(f"conv1.{last}", f"conv1.{last}") for last in ("weight", "bias")]
    return [*pairs, *((f"classifier.{last}", f"end_point.{last}") for last in ("weight", "bias"))]


@pytest.fixture(scope="module")
def state():
    """The weights of the PyTorch program: shapes in the order of our network's, values at random."""
    with torch.device("meta"):
        trunk = [v.shape for k, v in resnet("resnet50", 2).state_dict().items() if v.ndim]
    shapes = [*trunk, *[(2048,)] * 4, (128, 2048, 1, 1), (128,), (7, 2048), (7,)]
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(shape, generator=generator) * 0.05 + 0.5 * name.endswith("running_var")
        for name, shape in zip(pytorch_names(), shapes, strict=True)
    }


def test_file_of_the_pytorch_program(tmp_path, state):
    assert len(state) == 273
    parallel = {f"module.{name}": value for name, value in state.items()}
    content = {"state_dict": parallel, "rank1": np.float32(0.9), "epoch": 299}
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False)
    method = checkpoint.load(tmp_path / "a.pth.tar")
    assert isinstance(method, AlignedReID) and method.classes == 7 and not method.training
    assert (method.config.variant, method.config.evaluate_stripes) == ("torchvision", "raw")
    assert list(method.input["size"]) == [256, 128] and method.input["interpolation"] == "bilinear"
    own = method.state_dict()
    assert torch.equal(own["local_conv.weight"], state["conv1.weight"])
    assert torch.equal(own["backbone.layer4.2.bn3.running_var"], state["base.7.2.bn3.running_var"])
    assert sum(parameter.numel() for parameter in method.parameters()) + 744 * 2049 == 25_313_199
    embedding = method.embed(torch.zeros(1, 3, 64, 32))
    assert embedding.feature.shape == (1, 2048) and embedding.stripes.shape == (1, 2, 2048)
    originals.to_original("alignedreid", own, tmp_path / "b.pth.tar")
    theirs = torch.load(tmp_path / "b.pth.tar", weights_only=True)["state_dict"]
    counters = {name for name in theirs if name.endswith("num_batches_tracked")}
    assert len(theirs) == 327 and set(theirs) - counters == set(state)
    assert all(torch.equal(theirs[name], value) for name, value in state.items())


def test_file_of_the_mindspore_program(tmp_path, state):
    pairs = mindspore_names()
    assert len(pairs) == len(set(pairs)) == 273
    values = {}
    for number, (name, there) in enumerate(pairs):
        prefix = ("_backbone.", "network._backbone.", "")[number % 3]
        values[prefix + there] = state[name].numpy()
    values |= {"moments.bn.gamma": np.zeros(2048, "f4"), "moments.base.conv1.weight": np.zeros(3, "f4")}
    values |= {"global_step": np.int32([3]), "momentum": np.float32(0.85), "learning_rate": np.zeros(5, "f4")}
    write_checkpoint(tmp_path / "a.ckpt", values)
    described, weights, left_out = originals.read(tmp_path / "a.ckpt")
    assert described["config"]["variant"] == "mindspore_alignedreid" and described["classes"] == 7
    assert "MindSpore" in described["origin"] and len(left_out) == 5
    from_pytorch = published.read(state)[1]
    counters = {name for name in weights if name.endswith("num_batches_tracked")}
    assert set(weights) - counters == set(from_pytorch)
    assert all(torch.equal(weights[name], value) for name, value in from_pytorch.items())
    with torch.device("meta"):
        method = checkpoint.build("alignedreid", described["config"], 7)
    assert set(method.state_dict()) == set(weights)


def test_the_form_of_the_mindspore_program_is_written(tmp_path, state):
    small = {name: value.flatten()[:7].clone() for name, value in state.items()}
    _, own, _ = published.read(small)
    own["backbone.bn1.num_batches_tracked"] = torch.tensor(3)
    variant = {"variant": "mindspore_alignedreid"}
    originals.to_original("alignedreid", own, tmp_path / "a.ckpt", variant)
    written = read_checkpoint(tmp_path / "a.ckpt")
    assert set(written) == {there for _, there in mindspore_names()}
    for here, there in mindspore_names():
        np.testing.assert_array_equal(written[there], small[here].numpy())
    described, again, left_out = originals.read(tmp_path / "a.ckpt")
    assert described["config"]["variant"] == variant["variant"] and not left_out
    values = {f"network._backbone.{name}": value for name, value in written.items()}
    save_file(
        values | {"optimizer.moments.bn.gamma": np.ones(1)}, tmp_path / "a.safetensors", {"format": "ms"}
    )
    as_safetensors, the_same, left_out = originals.read(tmp_path / "a.safetensors")
    assert as_safetensors == described and list(left_out) == ["optimizer.moments.bn.gamma"]
    assert all(torch.equal(the_same[name], value) for name, value in again.items())
    del own["backbone.bn1.num_batches_tracked"]
    assert all(torch.equal(again[name], value) for name, value in own.items())
    with pytest.raises(UserError, match=r"variant 'torchvision' or of another network: only"):
        originals.to_original("alignedreid", own, tmp_path / "b.ckpt", {"variant": "torchvision"})
    with pytest.raises(UserError, match=r"no MindSpore program of agw: .* PyTorch program"):
        originals.to_original("agw", {}, tmp_path / "b.ckpt")
    assert not (tmp_path / "b.ckpt").exists()


def test_deeper_and_changed_networks():
    short = {name: torch.zeros(1) for name in pytorch_names("resnet101")}
    described, _, _ = published.read(short)
    assert described["config"]["backbone"] == "resnet101"
    assert described["config"]["evaluate_stripes"] == "projected"
    with pytest.raises(UserError, match=r"no weight 'extra\.weight'"):
        published.read(short | {"extra.weight": torch.zeros(1)})
    shallow = {name: value for name, value in short.items() if not name.startswith("base.6.2")}
    with pytest.raises(UserError, match="19 blocks in its third stage"):
        published.read(shallow)
    headless = {name: value for name, value in short.items() if not name.startswith("classifier")}
    with pytest.raises(UserError, match="no classifier"):
        published.read(headless)
    assert published.recognises(short)
    other = {name.replace("base.0", "base.stem"): value for name, value in short.items()}
    assert not published.recognises(other)


def test_only_what_the_program_has_can_be_written_for_it(tmp_path):
    with pytest.raises(UserError, match="resnet50, resnet101 or densenet121"):
        originals.to_original("alignedreid", make().state_dict(), tmp_path / "a.pth.tar")
    assert list(tmp_path.iterdir()) == []


OTHERS = ("densenet121", "shufflenet_v2_1.0", "mobilenet_v2_1.0")


@pytest.mark.parametrize("name", OTHERS)
def test_other_backbones_train_and_embed(name):
    torch.manual_seed(0)
    config = AlignedReID.Config(backbone=name, pretrained=None)
    method = AlignedReID(config, 2)
    target = torch.tensor([0, 0, 1, 1])
    images = torch.randn(4, 3, 64, 32)
    batch = Batch(images, target, target * 0, target * 0, target * 0)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-4)
    history = []
    for _ in range(3):
        losses = method(batch, "train", Progress())
        optimizer.zero_grad()
        losses["total"].backward()
        assert all(parameter.grad is not None for parameter in method.parameters())
        optimizer.step()
        history.append(losses["total"].item())
    assert np.isfinite(history).all() and len(set(history)) == 3
    method.eval()
    with torch.no_grad():
        both = method.embed(images)
        assert both.stripes.shape == (4, 2, method.backbone.channels)
        # one stripe in 32 rows with a last stride of 2, one in 16 with 1; nothing is dilated
        fine = AlignedReID(AlignedReID.Config(backbone=name, pretrained=None, last_stride=1), 2).eval()
        assert fine.embed(images).stripes.shape == (4, 4, method.backbone.channels)
    assert {m.dilation for m in fine.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}
    assert fine.state_dict().keys() == method.state_dict().keys()


def test_start_weights_of_other_backbones(tmp_path, monkeypatch):
    from torchvision import models

    from crossreid.nn import backbones, pretrained

    # as torchvision's file of DenseNet has them, in the old manner, and as timm has them
    torch.manual_seed(1)
    dense = models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in dense.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "dense.pth")
    network = backbones.backbone("densenet121")
    assert backbones.start(network, str(tmp_path / "dense.pth"), "densenet121") == [
        "classifier.weight",
        "classifier.bias",
    ]
    name = "denseblock4.denselayer16.conv2.weight"
    assert torch.equal(network.state_dict()[name], dense[f"features.{name}"])
    monkeypatch.setattr(pretrained, "from_timm", lambda name: dense if name == "densenet121.tv_in1k" else {})
    backbones.start(backbones.backbone("densenet121"), "timm", "densenet121")
    torch.save(models.shufflenet_v2_x1_0(weights=None).state_dict(), tmp_path / "shuffle.pth")
    backbones.start(
        backbones.backbone("shufflenet_v2_1.0"), str(tmp_path / "shuffle.pth"), "shufflenet_v2_1.0"
    )
    for name in ("shufflenet_v2_1.0", "mobilenet_v2_1.4"):
        with pytest.raises(UserError, match=f"timm has no weights for the backbone {name}: .* null"):
            AlignedReID(AlignedReID.Config(backbone=name), 2)
    with pytest.raises(UserError, match=r"densenet121 lacks that\..* method\.variant torchvision"):
        AlignedReID(
            AlignedReID.Config(backbone="densenet121", pretrained=None, variant="mindspore_alignedreid"), 2
        )
    with pytest.raises(
        UserError, match=r"method.backbone is 'inceptionv4'.* densenet121, shufflenet_v2_1\.0"
    ):
        AlignedReID(AlignedReID.Config(backbone="inceptionv4"), 2)


def test_a_published_densenet_is_converted_and_written_again(tmp_path):
    config = AlignedReID.Config(backbone="densenet121", pretrained=None, evaluate_stripes="projected")
    ours = AlignedReID(config, 5).eval()
    given = {"size": [256, 128], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    content = checkpoint.describe(ours, "alignedreid", input=given, settings={}, trained={})
    checkpoint.save(tmp_path / "ours.pt", content)
    checkpoint.convert(tmp_path / "ours.pt", tmp_path / "theirs.pth.tar", to="original")
    theirs = torch.load(tmp_path / "theirs.pth.tar", weights_only=True)["state_dict"]
    assert {"base.conv0.weight", "base.norm5.bias", "bn.weight", "conv1.bias"} <= set(theirs)
    described, state, left_out = originals.read(tmp_path / "theirs.pth.tar")
    assert described["config"]["backbone"] == "densenet121" and not left_out
    assert described["config"]["evaluate_stripes"] == "projected" and described["classes"] == 5
    assert all(torch.equal(state[key], value) for key, value in ours.state_dict().items())
