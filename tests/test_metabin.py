"""MetaBIN: the layer, the losses, the meta step, and the published checkpoints' names."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from crossreid import checkpoint, config
from crossreid.losses.domain_triplet import RELATIONS, domain_triplet, inter_domain_shuffle
from crossreid.losses.scatter import intra_domain_scatter
from crossreid.methods.base import Progress
from crossreid.methods.metabin import POOLINGS, MetaBIN, MetaBINConfig, triangle
from crossreid.nn.batch_instance_norm import BatchInstanceNorm, HalfInstanceNorm, statistics_held
from crossreid.nn.classifiers import CLASSIFIERS
from crossreid.nn.mobilenet import MobileNetV2
from crossreid.originals import metabin as original
from crossreid.records import Batch, Labels, UserError

NOW = Progress(0, 3, 8, {"main": (0.01, 0.02), "gates": (0.1,)})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def toy(**settings) -> MetaBIN:
    """A small residual network in double precision with gates between 0.2 and 0.8."""
    method = MetaBIN(MetaBINConfig(**{"backbone": "tiny", "meta_train_domains": 2} | settings), 8, 4).double()
    with torch.no_grad():
        for gate in method.gates().values():
            gate.uniform_(0.2, 0.8)
    return method


def batch(domains=4, identities=2, images=2, seed=1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(domains * identities).repeat_interleave(images)
    domain = target // identities
    crops = torch.randn(len(target), 3, 64, 32, generator=generator, dtype=torch.float64)
    return Batch(crops, target, domain * 0, domain * 0, domain)


# The layer


def normalised(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_layer_is_the_mixture(shared):
    layer = BatchInstanceNorm(5, shared=shared).double()
    with torch.no_grad():
        for value in layer.parameters():
            value.uniform_(0.1, 0.9)
    x = torch.randn(4, 5, 3, 2, dtype=torch.float64) * 3 + 1
    got = layer(x).detach().numpy()
    p = {name: value.detach().numpy()[None, :, None, None] for name, value in layer.named_parameters()}
    by_batch, by_image = normalised(x.numpy(), (0, 2, 3)), normalised(x.numpy(), (2, 3))
    if shared:
        wanted = p["weight"] * (p["gate"] * by_batch + (1 - p["gate"]) * by_image) + p["bias"]
    else:
        first = p["weight"] * by_batch + p["bias"]
        second = p["instance_weight"] * by_image + p["instance_bias"]
        wanted = p["gate"] * first + (1 - p["gate"]) * second
    np.testing.assert_allclose(got, wanted, atol=1e-12)

    layer.eval()
    mean, variance = (value.numpy()[None, :, None, None] for value in (layer.running_mean, layer.running_var))
    np.testing.assert_allclose(mean[0, :, 0, 0], 0.1 * x.numpy().mean((0, 2, 3)), atol=1e-12)
    by_batch = (x.numpy() - mean) / np.sqrt(variance + 1e-5)
    if shared:
        wanted = p["weight"] * (p["gate"] * by_batch + (1 - p["gate"]) * by_image) + p["bias"]
    else:
        first = p["weight"] * by_batch + p["bias"]
        wanted = p["gate"] * first + (1 - p["gate"]) * second
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_gate_one_is_batch_normalisation(shared):
    plain, layer = nn.BatchNorm2d(3), BatchInstanceNorm(3, shared)
    layer.load_state_dict(plain.state_dict(), strict=False)
    for _ in range(2):
        x = torch.randn(4, 3, 5, 2)
        torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.running_var, plain.running_var)
    assert layer.num_batches_tracked == plain.num_batches_tracked == 2
    torch.testing.assert_close(layer.eval()(x), plain.eval()(x))


def test_half_layer_splits_after_the_larger_half():
    layer, x = HalfInstanceNorm(5), torch.randn(4, 5, 3, 3)
    out = layer(x)
    torch.testing.assert_close(out[:, :3], F.batch_norm(x[:, :3], None, None, training=True))
    torch.testing.assert_close(out[:, 3:], F.instance_norm(x[:, 3:]))


def test_held_statistics_are_not_recorded_and_come_back():
    layers = nn.Sequential(BatchInstanceNorm(3), nn.BatchNorm2d(3))
    before = {name: value.clone() for name, value in layers.named_buffers()}
    x = torch.randn(4, 3, 5, 5) + 2
    free = layers(x)
    layers.load_state_dict(before, strict=False)
    with pytest.raises(RuntimeError, match="within"), statistics_held(layers):
        torch.testing.assert_close(layers(x), free)
        raise RuntimeError("within")
    assert all(torch.equal(value, before[name]) for name, value in layers.named_buffers())
    layers(x)
    assert layers[0].num_batches_tracked == layers[1].num_batches_tracked == 1


# The networks


def test_published_sizes():
    method = MetaBIN(MetaBINConfig(), 10)
    size = sum(value.numel() for name, value in method.named_parameters() if "classifier" not in name)
    assert size == 4_366_654
    assert len(method.gates()) == 53 and sum(gate.numel() for gate in method.gates().values()) == 23_822
    with torch.device("meta"):
        method = MetaBIN(MetaBINConfig(backbone="resnet50"), 10)
    size = sum(value.numel() for name, value in method.named_parameters() if "classifier" not in name)
    assert size == 23_591_808
    assert len(method.gates()) == 53 and sum(gate.numel() for gate in method.gates().values()) == 26_560


@pytest.mark.parametrize("norm", ["bin", "bin_shared", "bn", "in", "half"])
def test_small_images_through_mobilenet(norm):
    method = MetaBIN(
        MetaBINConfig(backbone="mobilenet_v2_1.0", norm=norm, meta=norm.startswith("bin")), 6, 3
    ).eval()
    images = torch.randn(2, 3, 64, 32)
    assert method.feature_map(images).shape == (2, 1280, 4, 2)
    neck, pooled = method.embed(images), method.embed(images, feature="global")
    assert neck.feature.shape == pooled.feature.shape == (2, 1280)
    torch.testing.assert_close(method.neck(pooled.feature), neck.feature)
    with pytest.raises(UserError, match="bn, global"):
        method.embed(images, feature="unit")


def test_imagenet_weights_give_the_imagenet_network(tmp_path):
    plain = MobileNetV2(1.0).eval()
    with torch.no_grad():
        plain.conv5[1].conv3[1].bias.uniform_(-1, 1)
    torch.save(plain.state_dict() | {"classifier.weight": torch.zeros(1000, 1280)}, tmp_path / "imagenet.pth")
    settings = {"backbone": "mobilenet_v2_1.0", "pretrained": str(tmp_path / "imagenet.pth")}
    images = torch.randn(2, 3, 64, 32)
    method = MetaBIN(MetaBINConfig(**settings), 6).eval()
    torch.testing.assert_close(method.feature_map(images), plain(images), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"mobilenet_v2_1\.4"):
        MetaBIN(MetaBINConfig(**settings | {"backbone": "mobilenet_v2_1.4"}), 6)


@pytest.mark.parametrize("norm", ["bin", "bin_shared", "bn", "in"])
@pytest.mark.parametrize("taken", [(), ("batch_affine",), ("batch_statistics",), ("instance_affine",)])
def test_what_normalisation_takes_over_from_imagenet(tmp_path, norm, taken):
    plain = MobileNetV2(1.0)
    with torch.no_grad():
        for value in plain.state_dict().values():
            if value.ndim == 1:
                value.uniform_(2, 3)
    torch.save(plain.state_dict(), tmp_path / "imagenet.pth")
    settings = {"backbone": "mobilenet_v2_1.0", "pretrained": str(tmp_path / "imagenet.pth"), "norm": norm}
    method = MetaBIN(MetaBINConfig(**settings, pretrained_norms=taken, meta=norm.startswith("bin")), 6)
    layer, source = method.backbone.conv5[1].conv3[1], plain.conv5[1].conv3[1]
    assert torch.equal(method.backbone.conv5[1].conv3[0].weight, plain.conv5[1].conv3[0].weight)
    affine = "instance_affine" if norm == "in" else "batch_affine"
    assert torch.equal(layer.bias, source.bias if affine in taken else torch.zeros_like(layer.bias))
    if norm != "in":
        fresh = torch.ones_like(layer.running_var)
        assert torch.equal(layer.running_var, source.running_var if "batch_statistics" in taken else fresh)
    if norm == "bin":
        fresh = torch.ones_like(layer.weight)
        assert torch.equal(layer.instance_weight, source.weight if "instance_affine" in taken else fresh)


def test_early_gates_stand_behind_the_first_narrow_layers_alone(tmp_path):
    plain = MobileNetV2(1.0)
    torch.save(plain.state_dict(), tmp_path / "imagenet.pth")
    taken = ("batch_affine", "batch_statistics", "instance_affine")
    early = {"norm": "bin_early", "gate_init": "half", "meta": False, "pretrained_norms": taken}
    settings = {"backbone": "mobilenet_v2_1.0", "pretrained": str(tmp_path / "imagenet.pth")}
    method = MetaBIN(MetaBINConfig(**settings, **early), 6)
    blocks = (
        [f"conv2.{n}" for n in range(1)] + [f"conv3.{n}" for n in range(2)] + [f"conv4.{n}" for n in range(3)]
    )
    assert list(method.gates()) == [f"{block}.conv3.1.gate" for block in blocks]
    layer = method.backbone.conv3[0].conv3[1]
    assert torch.equal(layer.instance_weight, plain.conv3[0].conv3[1].weight) and bool(
        (layer.gate == 0.5).all()
    )
    with pytest.raises(UserError, match="tiny lacks that"):
        MetaBIN(MetaBINConfig(backbone="tiny", norm="bin_early"), 6)


@pytest.mark.parametrize(
    "gates, low, high", [("one", 1, 1), ("zero", 0, 0), ("half", 0.5, 0.5), ("random", 0, 1)]
)
def test_gates_begin_as_asked(gates, low, high):
    found = torch.cat(list(MetaBIN(MetaBINConfig(backbone="tiny", gate_init=gates), 6).gates().values()))
    assert low <= found.min() and found.max() <= high
    assert gates != "random" or found.std() > 0.2


@pytest.mark.parametrize("pretrained", ["timm", "nowhere/mobilenetv2_1.4.pth"])
def test_weights_that_cannot_be_had_name_a_file_that_exists(pretrained):
    with pytest.raises(UserError, match=r"deep-person-reid's mobilenetv2_1\.4\.pth") as raised:
        MetaBIN(MetaBINConfig(pretrained=pretrained), 6)
    assert "tv_in1k" not in str(raised.value) and "'timm'" not in str(raised.value)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_head_and_pooling_trains_and_embeds(classifier, pooling):
    losses = ("cross_entropy", {"name": "triplet", "feature": "bn", "weight": 0.5}, "triplet")
    method = toy(classifier=classifier, pooling=pooling, base_losses=losses, meta_test_losses=losses)
    found = method(batch(), "base", NOW)
    assert list(found) == ["total", "cross_entropy", "triplet", "triplet 2", "accuracy"]
    assert found["total"] == found["cross_entropy"] + found["triplet"] + found["triplet 2"]
    found["total"].backward()
    assert method.classifier.weight.grad.isfinite().all()
    method(batch(), "meta", NOW)["total"].backward()
    assert method.embed(batch().images, feature="global").feature.shape == (16, 128)


def test_losses_with_options_come_through_settings_and_checkpoints(tmp_path):
    words = "[cross_entropy, {name: triplet, mining: soft, feature: bn}, {name: circle, weight: 0.5}]"
    tree = {"method": {"name": "metabin", "backbone": "tiny", "meta": False}, "data": {"name": "market1501"}}
    settings = config.load(tree, ["--method.base_losses", words])
    again = config.load(yaml.safe_load(settings.to_yaml()))
    assert again.method == settings.method
    method = checkpoint.build("metabin", settings.method, classes=3, domains=2)
    assert [loss.name for loss in method.losses["base"]] == ["cross_entropy", "triplet", "circle"]
    with pytest.raises(UserError, match="hard or soft"):
        checkpoint.build(
            "metabin", config.load(tree, ["--method.base_losses", words.replace("soft", "sfot")]).method, 3, 2
        )


def test_unknown_choices_are_named():
    with pytest.raises(UserError, match=r"method\.norm"):
        MetaBIN(MetaBINConfig(norm="group"), 6)
    with pytest.raises(UserError, match=r"method\.meta_test_losses"):
        MetaBIN(MetaBINConfig(backbone="tiny", meta_test_losses=("triple",)), 6)
    with pytest.raises(UserError, match=r"method\.meta to false"):
        MetaBIN(MetaBINConfig(backbone="tiny", norm="bn"), 6)


# The losses


def test_triplet_by_relations_against_loops():
    target = torch.tensor([0, 0, 1, 1, 2, 2, 3, 0])
    domain = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])  # identity 0 is in both domains
    vectors = torch.randn(8, 4, dtype=torch.float64)
    distance = torch.cdist(vectors, vectors)
    choices = [names for count in (1, 2) for names in itertools.combinations(RELATIONS, count)]

    def related(i, j, names):
        same, together = target[i] == target[j], domain[i] == domain[j]
        return (
            ("same_identity" in names and same and i != j)
            or ("same_domain" in names and not same and together)
            or ("other_domain" in names and not together)
        )

    for positive, negative in itertools.product(choices, choices):
        for margin in (0.3, None):
            losses = []
            for i in range(8):
                near = [distance[i, j].item() for j in range(8) if i == j or related(i, j, positive)]
                far = [distance[i, j].item() for j in range(8) if related(i, j, negative)]
                if far:
                    gap = max(near) - min(far)
                    losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
            got = domain_triplet(vectors, target, domain, positive, negative, margin).item()
            assert got == pytest.approx(np.mean(losses), abs=1e-5), (positive, negative)
    got = inter_domain_shuffle(vectors, target, domain)
    assert got == domain_triplet(vectors, target, domain, ["other_domain"], ["same_domain"], None)


def test_triplet_skips_anchors_without_negatives():
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], requires_grad=True)
    target, domain = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])
    # Only the first two have another identity in their domain: 5 - 1 and 4 - 1.
    wanted = (math.log1p(math.exp(4)) + math.log1p(math.exp(3))) / 2
    assert inter_domain_shuffle(vectors, target, domain).item() == pytest.approx(wanted, abs=1e-5)
    nothing = inter_domain_shuffle(vectors, target, torch.tensor([0, 1, 2]))
    nothing.backward()
    assert nothing.item() == 0 and torch.equal(vectors.grad, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="same_camera"):
        domain_triplet(vectors, target, domain, ["same_camera"], ["same_domain"], 0.3)


def test_scatter_by_hand():
    # Domain 4: at a right angle, each 45 degrees from the centre. Domain 7: the same direction.
    vectors = torch.tensor([[2.0, 0.0], [0.0, 0.5], [3.0, 3.0], [1.0, 1.0]])
    got = intra_domain_scatter(vectors, torch.tensor([4, 4, 7, 7])).item()
    assert got == pytest.approx((math.sqrt(0.5) + 1) / 2, abs=1e-6)


def test_base_step_is_smoothed_cross_entropy_plus_triplet():
    method, data = toy(), batch()
    losses = method(data, "base", NOW)
    with statistics_held(method):
        logits = method.classifier(method.neck(method.backbone(data.images).mean((2, 3))))
    targets = torch.full((16, 8), 0.1 / 7, dtype=torch.float64)
    targets[range(16), data.target] = 0.9
    wanted = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses["cross_entropy"], wanted)
    assert losses["accuracy"].item() == pytest.approx(
        (logits.argmax(1) == data.target).double().mean().item()
    )
    torch.testing.assert_close(losses["total"], losses["cross_entropy"] + losses["triplet"])


# The meta step


def split_of(method, data, seed):
    torch.manual_seed(seed)
    return method._split(data)


def gate_gradients(method, data, losses):
    """The gates' gradients of the sum of some losses, by the plain way through the network."""
    with statistics_held(method):
        pooled = method.backbone(data.images).mean((2, 3))
        loss = sum(method._losses(losses, pooled, data).values())
    return loss, torch.autograd.grad(loss, list(method.gates().values()))


def test_first_order_gradient_is_that_at_the_virtual_gates():
    method, data = toy(inner_ratio=(1.0, 1.0)), batch()
    torch.manual_seed(5)
    total = method(data, "meta", NOW)["total"]
    total.backward()
    got = [gate.grad.clone() for gate in method.gates().values()]
    assert all(value.grad is None for name, value in method.named_parameters() if not name.endswith("gate"))

    train, test = split_of(method, data, 5)
    _, gradients = gate_gradients(method, train, method.losses["meta_train"])
    with torch.no_grad():
        for gate, gradient in zip(method.gates().values(), gradients):
            gate.copy_((gate - 0.1 * gradient).clamp(0, 1))
    loss, wanted = gate_gradients(method, test, method.losses["meta_test"])
    torch.testing.assert_close(total, loss)
    assert max(value.abs().max() for value in wanted) > 1e-4
    for a, b in zip(got, wanted):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


def test_second_order_gradient_against_finite_differences():
    method, data = toy(second_order=True, inner_ratio=(5.0, 5.0)), batch()
    gates = list(method.gates().values())
    start = [gate.detach().clone() for gate in gates]
    direction = [torch.randn_like(gate) for gate in gates]

    def total(step=0.0):
        with torch.no_grad():
            for gate, value, along in zip(gates, start, direction):
                gate.copy_(value + step * along)
        torch.manual_seed(5)
        return method(data, "meta", NOW)["total"]

    total().backward()
    slope = sum((gate.grad * along).sum() for gate, along in zip(gates, direction)).item()
    method.config.second_order = False
    method.zero_grad()
    total().backward()
    first = sum((gate.grad * along).sum() for gate, along in zip(gates, direction)).item()
    # A small step: the inner gradient jumps where a rectifier or a hardest pair changes.
    wanted = ((total(1e-6) - total(-1e-6)) / 2e-6).item()
    assert slope == pytest.approx(wanted, rel=1e-6)
    assert abs(first - wanted) > 1e-4 * abs(wanted)  # so that the two orders are told apart


def test_virtual_gates_are_clamped_with_derivative_one():
    method = toy()
    gates = {"gate": nn.Parameter(torch.tensor([0.99, 0.5, 0.001]))}
    method.config.inner_ratio = (1.0, 1.0)
    virtual = method._inner_step(gates, (gates["gate"] * torch.tensor([-3.0, 1.0, 2.0])).sum(), NOW)["gate"]
    torch.testing.assert_close(virtual, torch.tensor([1.0, 0.4, 0.0]))
    virtual.sum().backward()
    assert torch.equal(gates["gate"].grad, torch.ones(3))


def test_inner_step_is_the_same_at_any_loss_scale():
    method = toy(inner_ratio=(1.0, 1.0))
    gates = {"gate": nn.Parameter(torch.tensor([0.5, 0.5]))}
    steepness = torch.tensor([2.0, 1e36])
    scaled = Progress(0, 3, 8, NOW.lrs, loss_scale=2.0**10)
    virtual = method._inner_step(gates, (gates["gate"] * steepness).sum(), scaled)["gate"]
    # The second gradient overflows at this scale.
    torch.testing.assert_close(virtual, torch.tensor([0.3, 0.5]))


def test_meta_step_holds_running_statistics():
    method = toy(meta_train_losses=("cross_entropy", "scatter"), meta_test_losses=("cross_entropy",))
    data = batch()
    before = {name: value.clone() for name, value in method.named_buffers()}
    method(data, "meta", NOW)["total"].backward()
    assert all(torch.equal(value, before[name]) for name, value in method.named_buffers())
    method(data, "base", NOW)
    assert not torch.equal(method.neck.running_mean, before["neck.running_mean"])


def test_domains_are_drawn_by_torch_and_every_image_is_used():
    method, data = toy(meta_train_domains=3), batch(domains=5)
    data = Batch(data.images, data.target, data.camera, data.modality, data.domain + 10)
    seen = set()
    for seed in range(20):
        train, test = split_of(method, data, seed)
        torch.manual_seed(seed)
        assert sorted(set(train.domain.tolist())) == sorted((torch.randperm(5)[:3] + 10).tolist())
        assert len(train) == 12 and len(test) == 8
        assert not set(train.domain.tolist()) & set(test.domain.tolist())
        seen.add(frozenset(test.domain.tolist()))
    assert len(seen) > 5


def test_too_few_domains_is_explained():
    method = toy(meta_train_domains=3)
    with pytest.raises(UserError, match="only 3"):
        method(batch(domains=3), "meta", NOW)
    method.check(labels_of([0, 0, 1, 1, 2, 2, 3, 3]))
    with pytest.raises(UserError, match=r"cameras.*meta_train_domains"):
        method.check(labels_of([0, 0, 1, 1, 2, 2]))


def labels_of(domain, target=None):
    domain = np.array(domain)
    target = np.arange(len(domain)) if target is None else np.array(target)
    return Labels(target, domain * 0, domain * 0, domain)


def test_a_domain_with_one_identity_or_one_image_is_explained():
    method = toy(meta_train_domains=3)
    with pytest.raises(UserError, match=r"domain 2 \(of 4.*one identity only, in 1 image"):
        method.check(labels_of([0, 0, 1, 1, 2, 3, 3]))
    with pytest.raises(UserError, match=r"domain 0 .*one identity only, in 3 image"):
        method.check(labels_of([0, 0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 1, 2, 3, 4, 5, 6]))
    toy(meta=False).check(labels_of([0, 1]))


def test_a_meta_batch_that_may_leave_one_identity_is_explained():
    method = toy(meta_train_domains=3)
    method.check_batch("meta", labels_of([0, 0, 1, 1, 2, 2, 3, 3]))
    with pytest.raises(UserError, match=r"7 identities of 4 domains: meta-test may get one.*to 8 or more"):
        method.check_batch("meta", labels_of([0, 0, 1, 1, 2, 2, 3]))
    with pytest.raises(UserError, match="meta-train may get one identity"):
        toy(meta_train_domains=1).check_batch("meta", labels_of([0, 0, 1]))
    with pytest.raises(UserError, match="only 3 in all"):
        method.check_batch("meta", labels_of([0, 0, 1, 1, 2, 2]))
    toy(meta_train_losses=("scatter",)).check_batch("meta", labels_of([0, 1, 2, 3]))
    with pytest.raises(UserError, match="at least two identities"):
        method.check_batch("base", labels_of([0, 1], target=[5, 5]))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("period", [10, 35, 7, 2])
def test_cycle_is_pytorchs(period):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    up = period // 2
    schedule = torch.optim.lr_scheduler.CyclicLR(
        optimizer, 0.001, 0.1, step_size_up=up, step_size_down=period - up, cycle_momentum=False
    )
    for step in range(1, 3 * period):
        schedule.step()
        assert triangle(step, period, 0.001, 0.1) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)


def test_inner_rate_follows_the_clock():
    rate = toy()._inner_rate
    rates = {"main": (0.01, 0.02), "gates": (0.1,)}
    first = rate("bn.gate", Progress(0, 0, 8, rates))  # a period of 40 steps, 20 of them up
    assert first == pytest.approx(0.1 * (0.001 + 0.099 / 20))
    assert rate("bn.gate", Progress(2, 3, 8, {"gates": (0.2,)})) == pytest.approx(0.2 * 0.1)
    assert rate("bn.gate", Progress(5, 0, 8, rates)) == pytest.approx(first)
    assert rate("bn.weight", Progress(0, 0, 8, rates)) == pytest.approx(first * 0.01 / 0.1)
    assert rate("bn.bias", Progress(0, 0, 8, rates)) == pytest.approx(first * 0.02 / 0.1)
    with pytest.raises(ValueError, match="lrs"):
        rate("bn.gate", Progress())


# MLDG: the same step over all weights


def mldg(**settings) -> MetaBIN:
    method = MetaBIN(
        MetaBINConfig(
            **{"backbone": "tiny", "norm": "bn", "meta_train_domains": 2, "inner_ratio": (1.0, 1.0)}
            | {
                "meta_learns": "all",
                "meta_train_weight": 0.5,
                "meta_train_losses": ("cross_entropy", "triplet"),
            }
            | settings
        ),
        8,
        4,
    )
    return method.double()


@pytest.mark.parametrize("norm", ["bn", "bin"])
def test_all_weights_move_virtually_and_the_meta_train_loss_counts(norm):
    method, data = mldg(norm=norm), batch()
    if norm == "bin":
        with torch.no_grad():
            for gate in method.gates().values():
                gate.uniform_(0.2, 0.8)
    learned = {name: value for name, value in method.named_parameters() if value.requires_grad}
    torch.manual_seed(5)
    total = method(data, "meta", NOW)["total"]
    total.backward()
    got = {name: value.grad.clone() for name, value in learned.items() if value.grad is not None}
    assert set(got) == set(learned)

    train, test = split_of(method, data, 5)
    with statistics_held(method):
        first = method(train, "meta_train", NOW)["total"]
        gradients = torch.autograd.grad(first, list(learned.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(learned.items(), gradients):
                # NOW: 0.01 for weights, 0.02 for biases, 0.1 for gates
                value -= {"gate": 0.1, "bias": 0.02}.get(name[-4:], 0.01) * gradient
                if name.endswith("gate"):
                    value.clamp_(0, 1)
        second = method(test, "meta_test", NOW)["total"]
        # The classifier is not part of the meta-test loss, which is the triplet loss alone.
        after = torch.autograd.grad(second, list(learned.values()), allow_unused=True)
    torch.testing.assert_close(total, second + 0.5 * first)
    for name, before, then in zip(learned, gradients, after):
        wanted = 0.5 * before + (0 if then is None else then)
        torch.testing.assert_close(got[name], wanted, rtol=1e-7, atol=1e-10, msg=name)


def test_mldg_by_hand():
    """One weight w: meta-train loss w^2, meta-test loss 3 w. At w = 2 with an inner rate of 0.1 the virtual
    weight is 2 - 0.1 * 4 = 1.6, the total 0.5 * 4 + 3 * 1.6 = 6.8, and the gradient 0.5 * 4 + 3 = 5; of second
    order 0.5 * 4 + 3 * (1 - 0.1 * 2) = 4.4."""
    for second_order, wanted in ((False, 5.0), (True, 4.4)):
        method = mldg(second_order=second_order)
        weight = nn.Parameter(torch.tensor(2.0))
        rates = Progress(0, 3, 8, {"main": (0.1, 0.2)})
        first = weight**2
        virtual = method._inner_step({"w.weight": weight}, first, rates)["w.weight"]
        total = 0.5 * first + 3 * virtual
        assert virtual.item() == pytest.approx(1.6) and total.item() == pytest.approx(6.8)
        total.backward()
        assert weight.grad.item() == pytest.approx(wanted)


def test_mldg_moves_all_weights_in_both_phases_and_can_leave_the_classifier():
    method = mldg(meta_train_losses=("triplet",))
    assert [phase.optimizers for phase in method.phases(Progress())] == [("main",), ("main",)]
    assert [phase.optimizers for phase in mldg(norm="bin").phases(Progress())] == [("main", "gates")] * 2
    method(batch(), "meta", NOW)["total"].backward()
    assert method.classifier.weight.grad is None and method.backbone.conv1.weight.grad is not None
    with pytest.raises(UserError, match=r"meta_learns.*gates, all"):
        mldg(meta_learns="weights")


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("norm", ["bn", "bin"])
def test_mldg_in_half_precision_is_near_that_in_full(norm, second_order):
    """Autocast keeps half copies of the weights for one forward pass; the virtual ones must not meet them."""

    def gradients(autocast):
        torch.manual_seed(0)
        method = mldg(norm=norm, second_order=second_order).float()
        data = batch()
        data = Batch(data.images.float(), data.target, data.camera, data.modality, data.domain)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            total = method(data, "meta", NOW)["total"]
        total.backward()
        return torch.cat([value.grad.flatten() for value in method._learned().values()]), total.item()

    (full, exact), (half, near) = gradients(False), gradients(True)
    assert near == pytest.approx(exact, rel=0.02)
    assert torch.cosine_similarity(full, half, dim=0) > 0.85


def test_meta_step_in_half_precision_is_near_that_in_full():
    def gradients(autocast):
        torch.manual_seed(0)
        method = toy(inner_ratio=(1.0, 1.0)).float()
        data = batch()
        data = Batch(data.images.float(), data.target, data.camera, data.modality, data.domain)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            losses = method(data, "meta", NOW)
        losses["total"].backward()
        # The gates and their gradients never leave float32: only the maps between them do.
        assert all(gate.grad.dtype == gate.dtype == torch.float32 for gate in method.gates().values())
        return torch.cat([gate.grad for gate in method.gates().values()]), losses

    (full, exact), (half, near) = gradients(False), gradients(True)
    for name, value in exact.items():
        assert near[name].item() == pytest.approx(value.item(), rel=0.03, abs=0.01), name
    assert torch.cosine_similarity(full, half, dim=0) > 0.9
    assert half.norm() == pytest.approx(full.norm().item(), rel=0.2)


# The gates as a record


def test_gate_histograms_count_every_gate_of_a_layer():
    method = toy()
    with torch.no_grad():
        method.backbone.bn1.gate.copy_(torch.tensor([0.0, 0.04, 0.55, 1.0] + [0.95] * 12))
    counted = method.epoch_end({})["gates"]
    assert counted["bn1"] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 13]
    assert [sum(row) for row in counted.values()] == [len(gate) for gate in method.gates().values()]
    assert json.loads(json.dumps(counted)) == counted
    assert mldg().epoch_end({}) == {}


@pytest.mark.parametrize("wrong", [-0.01, 1.5, math.nan])
def test_gates_out_of_range_in_a_file_are_refused(tmp_path, wrong):
    method = MetaBIN(MetaBINConfig(backbone="tiny"), 4, 4)
    with torch.no_grad():
        method.backbone.layer3[0].bn1.gate[2] = wrong
    described = checkpoint.describe(
        method,
        "metabin",
        input={"size": [64, 32], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
        settings={},
        trained={},
    )
    checkpoint.save(tmp_path / "last.pt", described)
    with pytest.raises(UserError, match=r"backbone\.layer3\.0\.bn1\.gate.*from 0 to 1"):
        checkpoint.load(tmp_path / "last.pt")


# Training


def test_phases():
    method = toy()
    base, meta = method.phases(Progress())
    assert (base.name, base.optimizers, base.loader, base.repeat) == ("base", ("main",), "train", 10)
    assert (meta.name, meta.optimizers, meta.loader, meta.repeat) == ("meta", ("gates",), "meta", 1)
    assert [phase.repeat for phase in method.phases(Progress(0, 1))] == [1, 1]
    (base,) = toy(meta=False).phases(Progress())
    assert (base.optimizers, base.repeat) == (("main", "gates"), 1)
    (base,) = MetaBIN(MetaBINConfig(backbone="tiny", norm="bn", meta=False), 6).phases(Progress())
    assert base.optimizers == ("main",)


def test_every_trainable_parameter_is_in_one_group():
    method = toy()
    groups = method.parameter_groups()
    members = [value for name in groups for group in groups[name] for value in group["params"]]
    wanted = [value for value in method.parameters() if value.requires_grad]
    assert len(members) == len(wanted) and {id(value) for value in members} == {id(value) for value in wanted}
    weights, biases = groups["main"]
    assert weights.get("rate", 1) == 1 and biases["lr_factor"] == 2
    names = {id(value): name for name, value in method.named_parameters()}
    assert all(names[id(value)].endswith("bias") for value in biases["params"])
    (gates,) = groups["gates"]
    assert gates["bounds"] == (0.0, 1.0) and gates["weight_decay"] == 0
    assert not method.neck.bias.requires_grad


def test_each_phase_moves_its_own_parameters():
    method = toy()
    groups = method.parameter_groups()
    optimizers = {
        name: torch.optim.SGD([value for group in members for value in group["params"]], lr=1.0)
        for name, members in groups.items()
    }
    values = {name: value.detach().clone() for name, value in method.named_parameters()}
    for phase in method.phases(Progress(0, 1)):
        losses = method(batch(), phase.name, NOW)
        method.zero_grad()
        losses["total"].backward()
        gradients = {name: value.grad for name, value in method.named_parameters() if value.grad is not None}
        gradients = {name: value.clone() for name, value in gradients.items()}
        for name in phase.optimizers:
            optimizers[name].step()
        for name, value in method.named_parameters():
            mine = value.requires_grad and name.endswith("gate") == (phase.name == "meta")
            wanted = values[name] - gradients[name] if mine else values[name]
            torch.testing.assert_close(value.detach(), wanted, rtol=0, atol=1e-12)
            values[name] = value.detach().clone()


# Published checkpoints


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [
        ("mobilenet_v2_1.4", "bin"),
        ("mobilenet_v2_1.0", "half"),
        ("mobilenet_v2_1.0", "in"),
        ("resnet50", "bin"),
        ("resnet18", "bin_shared"),
        ("resnet34", "bn"),
        ("resnet18", "half"),
    ],
)
def test_names_of_the_program_there_and_back(backbone, norm):
    with torch.device("meta"):
        ours = MetaBIN(
            MetaBINConfig(backbone=backbone, norm=norm, meta=norm.startswith("bin")), 7
        ).state_dict()
    theirs = original.write(ours)
    constants = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}
    for name, values in constants.items():
        theirs[name] = torch.tensor(values).view(1, 3, 1, 1) * 255
    assert original.recognises(theirs) and not original.recognises(ours)
    described, weights, left_out = original.read(theirs)
    assert described["config"] == {"backbone": backbone, "norm": norm, "meta": norm.startswith("bin")}
    assert (described["method"], described["classes"]) == ("metabin", 7)
    assert set(left_out) == set(constants)
    assert weights.keys() == ours.keys() and all(weights[name] is ours[name] for name in ours)
    if norm == "bin":
        assert len(theirs) == 485


def test_heads_and_poolings_that_leave_a_trace_are_recognised():
    chosen = {"classifier": "arc", "pooling": "gem_learned"}
    ours = MetaBIN(MetaBINConfig(backbone="resnet18", **chosen), 7).state_dict()
    theirs = original.write(ours)
    assert {"heads.classifier_fc.t", "heads.pool_layer.p"} <= theirs.keys()
    described, weights, _ = original.read(theirs)
    assert chosen.items() <= described["config"].items() and weights.keys() == ours.keys()


def test_known_names_of_the_program():
    with torch.device("meta"):
        mobile = original.write(MetaBIN(MetaBINConfig(), 7).state_dict())
        residual = original.write(MetaBIN(MetaBINConfig(backbone="resnet50"), 7).state_dict())
        shared = original.write(
            MetaBIN(MetaBINConfig(backbone="resnet50", norm="bin_shared"), 7).state_dict()
        )
    for name in (
        "pixel_mean",
        "backbone.layer1.conv.weight",
        "backbone.layer1.bn.gate",
        "backbone.layer1.bn.bat_n.running_mean",
        "backbone.layer1.bn.ins_n.weight",
        "backbone.layer2.0.conv1.bn.gate",
        "backbone.layer2.0.dwconv2.conv.weight",
        "backbone.layer2.0.conv3.weight",
        "backbone.layer2.0.bn.bat_n.bias",
        "backbone.layer9.bn.ins_n.bias",
        "heads.classifier_norm.running_var",
        "heads.classifier_fc.weight",
    ):
        assert name in mobile
    for name in (
        "backbone.conv1.weight",
        "backbone.bn1.gate",
        "backbone.layer1.0.bn3.ins_n.weight",
        "backbone.layer1.0.downsample.conv.weight",
        "backbone.layer4.0.downsample.bn.bat_n.weight",
    ):
        assert name in residual
    assert "backbone.layer4.2.bn3.weight" in shared and not any("bat_n" in name for name in shared)


def test_other_pixel_constants_are_refused():
    theirs = original.write(MetaBIN(MetaBINConfig(backbone="resnet18"), 7).state_dict())
    original.read(theirs)
    theirs["pixel_std"] = theirs["pixel_std"] / 255
    with pytest.raises(UserError, match="pixel_std"):
        original.read(theirs)


def test_what_a_file_of_the_program_does_not_record_is_given_to_evaluate(tmp_path):
    from crossreid import originals
    from crossreid.commands import parsing
    from crossreid.evaluation import open_model

    ours = MetaBIN(MetaBIN.Config(backbone="resnet18", pooling="max"), 7).eval()
    originals.to_original("metabin", ours.state_dict(), tmp_path / "theirs.pth")
    words = [
        "--data.size",
        "[64, 32]",
        "--method.pooling",
        "max",
        "--method.classifier=circle",
        "--train.epochs=3",
    ]
    assert parsing.those_of("method", words) == ["--method.pooling", "max", "--method.classifier=circle"]
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        wanted = ours.embed(images).feature
        assert torch.equal(open_model(tmp_path / "theirs.pth", pooling="max").embed(images).feature, wanted)
        assert not torch.equal(open_model(tmp_path / "theirs.pth").embed(images).feature, wanted)
    with pytest.raises(UserError, match="did you mean 'pooling'"):
        open_model(tmp_path / "theirs.pth", poling="max")
