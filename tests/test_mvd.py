"""MVD: its losses recomputed slowly, what each of its profiles trains, its views and its files."""

import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossreid import checkpoint, originals
from crossreid.formats.mindspore import read_checkpoint, write_checkpoint
from crossreid.losses.distillation import distillation, jensen_shannon, released_distillation
from crossreid.losses.modality_margin import modality_margin
from crossreid.losses.prior import divergence_from_normal
from crossreid.losses.sinkhorn import sinkhorn
from crossreid.losses.triplet import batch_hard_triplet
from crossreid.methods import METHODS
from crossreid.methods.base import Progress
from crossreid.methods.mvd import MVD, PROFILES, InformationBottleneck
from crossreid.nn.channel_attention import ChannelAttention
from crossreid.nn.resnet import resnet
from crossreid.originals.mvd import read, write
from crossreid.records import Batch, UserError


def make(classes=4, **settings):
    torch.manual_seed(0)
    settings = {"backbone": "tiny", "pretrained": None, "width": 16} | settings
    return MVD(MVD.Config(**settings), classes)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor([0, 0, 1, 1, 2, 2] * 2)
    modality = torch.arange(12) // 6
    return Batch(torch.randn(12, 3, 64, 32, generator=generator), target, target * 0, modality, target * 0)


def slow_margins(vectors, identities, modalities, margins, cross_margins, temperature):
    """Anchor by anchor and pair by pair."""
    total = 0.0
    for i, own in enumerate(vectors):
        for same_modality, margin, radius in (
            (True, margins[0], cross_margins[0]),
            (False, margins[1], cross_margins[1]),
        ):
            far, near = [], []
            for j, other in enumerate(vectors):
                if i == j or (modalities[i] == modalities[j]) != same_modality:
                    continue
                distance = (own / own.norm() - other / other.norm()).norm()
                if identities[i] == identities[j]:
                    far.append(max(0.0, distance.item() - radius + margin))
                elif distance < radius:
                    near.append(radius - distance.item())
            total += sum(far) / (len(far) + 1e-5)
            shares = [math.exp(temperature * gap) for gap in near]
            total += sum(share * gap for share, gap in zip(shares, near)) / (sum(shares) + 1e-5)
    return total / len(vectors)


@pytest.mark.parametrize("cross_margins", [(2.2, 2.0), (1.3, 1.1)])
def test_margins_pair_by_pair(cross_margins):
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(11, 5, generator=generator, dtype=torch.float64)
    identities = torch.randint(0, 4, (11,), generator=generator)
    modalities = torch.randint(0, 2, (11,), generator=generator)
    for temperature in (1.0, 3.0):
        expected = slow_margins(vectors, identities, modalities, (0.9, 1.0), cross_margins, temperature)
        found = modality_margin(vectors, identities, modalities, (0.9, 1.0), cross_margins, temperature)
        assert found.item() == pytest.approx(expected, rel=1e-9)


def test_margins_by_hand():
    """Two identities with an image of each modality: unit vectors at 0, 90, 180 and 270 degrees."""
    vectors = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [0.0, -1.0]])
    identities, modalities = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    across = 2**0.5 - 1.0  # the one positive, of the other modality, within 2.0 - 1.0
    opposite, aside = 2.2 - 2.0, 2.0 - 2**0.5
    expected = across / (1 + 1e-5)
    for gap in (opposite, aside):
        expected += math.exp(gap) * gap / (math.exp(gap) + 1e-5)
    assert modality_margin(vectors, identities, modalities).item() == pytest.approx(expected, rel=1e-5)


def test_margins_without_pairs_of_a_kind():
    vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
    identities, one_modality = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    loss = modality_margin(vectors, identities, one_modality)
    loss.backward()
    assert loss > 0 and vectors.grad.isfinite().all()
    with pytest.raises(ValueError, match="at least two identities"):
        modality_margin(vectors, one_modality, one_modality)


def test_divergences_by_sums():
    generator = torch.Generator().manual_seed(4)
    teacher = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    student = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def probabilities(logits, heat):
        return [
            [math.exp(value / heat) / sum(math.exp(each / heat) for each in row) for value in row]
            for row in logits.tolist()
        ]

    for heat in (1.0, 3.0):
        pairs = [
            (p, q)
            for each in zip(probabilities(teacher, heat), probabilities(student, heat))
            for p, q in zip(*each)
        ]
        expected = sum(p * math.log(p / q) for p, q in pairs) / 5
        assert distillation(teacher, student, heat).item() == pytest.approx(expected)
        released = sum(q * math.log(q) - q * p for p, q in pairs) / 15
        assert released_distillation(teacher, student, heat).item() == pytest.approx(released)
        assert released < 0 < expected
        with pytest.warns(UserWarning, match="mean"):
            theirs = F.kl_div((teacher / heat).softmax(1), (student / heat).softmax(1), reduction="mean")
        torch.testing.assert_close(released_distillation(teacher, student, heat), theirs)
    middle = (
        sum(
            p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))
            for each in zip(probabilities(teacher, 1), probabilities(student, 1))
            for p, q in zip(*each)
        )
        / 10
    )
    assert jensen_shannon(teacher, student).item() == pytest.approx(middle)
    cooler = jensen_shannon(teacher / 2, student / 2)
    torch.testing.assert_close(jensen_shannon(teacher, student, temperature=2.0), cooler)
    (distillation(teacher, student) + released_distillation(teacher, student)).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    jensen_shannon(teacher, student).backward()
    assert teacher.grad.abs().sum() > 0


def test_divergences_at_their_ends():
    same = torch.tensor([[2.0, 0.0, -1.0]])
    assert distillation(same, same).abs() < 1e-7 and jensen_shannon(same, same).abs() < 1e-7
    apart = torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 500.0]])
    assert jensen_shannon(*apart).item() == pytest.approx(math.log(2))
    assert released_distillation(*apart).isfinite() and distillation(*apart).isfinite()


def test_sinkhorn_with_loops():
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(4, 3, generator=generator, dtype=torch.float64).softmax(1)
    second = torch.randn(4, 3, generator=generator, dtype=torch.float64).softmax(1)
    cost = [[float(((a - b) ** 2).sum()) for b in second] for a in first]
    u, v, blur, size = [0.0] * 4, [0.0] * 4, 0.05, range(4)

    def inside(i, j):
        return (-cost[i][j] + u[i] + v[j]) / blur

    steps = 0
    while steps < 3:
        steps += 1
        sums = [math.log(sum(math.exp(inside(i, j)) for j in size) + 1e-6) for i in size]
        before, u = u, [u[i] + blur * (math.log(0.25 + 1e-8) - sums[i]) for i in size]
        sums = [math.log(sum(math.exp(inside(i, j)) for i in size) + 1e-6) for j in size]
        v = [v[j] + blur * (math.log(0.25 + 1e-8) - sums[j]) for j in size]
        if sum(abs(now - then) for now, then in zip(u, before)) < 0.1:
            break
    expected = sum(math.exp(inside(i, j)) * cost[i][j] for i in size for j in size)
    assert sinkhorn(first, second, blur, 3).item() == pytest.approx(expected, rel=1e-9)


def test_sinkhorn_compares_sets():
    """Two corners against the same two corners: nothing to move, whatever the order of the rows."""
    corners = torch.eye(2, dtype=torch.float64)
    assert sinkhorn(corners, corners.flip(0)).item() == pytest.approx(0, abs=1e-6)
    moved = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    assert sinkhorn(corners, moved, iterations=100, tolerance=0).item() == pytest.approx(0.5, rel=1e-3)


def test_channel_attention_channel_by_channel():
    torch.manual_seed(6)
    layer, maps = ChannelAttention().double(), torch.randn(2, 4, 3, 2).double()
    assert torch.equal(layer(maps), maps)
    layer.gamma.data.fill_(0.7)
    for number, rows in enumerate(maps.flatten(2)):
        for i in range(4):
            energies = [float(rows[i] @ rows[j]) for j in range(4)]
            shares = [math.exp(max(energies) - energy) for energy in energies]
            gathered = sum(share * row for share, row in zip(shares, rows)) / sum(shares)
            expected = (rows[i] + 0.7 * gathered).view(3, 2)
            torch.testing.assert_close(layer(maps)[number, i], expected)
    torch.testing.assert_close(layer.attention(maps).sum(2), torch.ones(2, 4).double())


LOGGED = ("total", "accuracy")


@pytest.mark.parametrize("profile", PROFILES)
def test_losses_of_each_profile(batch, profile):
    method = make(profile=profile)
    losses = method(batch, "train", Progress())
    shared = {"identity", "metric", "total", "accuracy"}
    extra = {
        "authors": {"mutual", "self_distillation", "cross_distillation"},
        "paper": {"mutual", "self_distillation", "cross_distillation", "representation"},
        "conventional": {"mutual", "prior"},
        "mindspore": set(),
    }[profile]
    assert set(losses) == shared | extra
    factors = {
        "mutual": 8,
        "self_distillation": 2,
        "cross_distillation": 2,
        "representation": 2,
        "prior": 0.001,
    }
    expected = sum(factors.get(name, 1) * value for name, value in losses.items() if name not in LOGGED)
    torch.testing.assert_close(losses["total"], expected)
    if profile == "authors":
        assert losses["self_distillation"] < 0 and losses["cross_distillation"] < 0
    if profile in ("paper", "conventional"):
        assert min(losses[name] for name in extra) >= 0
    losses["total"].backward()
    groups = method.parameter_groups()["main"]
    placed = [parameter for group in groups for parameter in group["params"]]
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert len(placed) == len(trainable) and {*placed} == {*trainable}
    assert all(parameter.grad is not None for parameter in trainable)
    port = profile == "mindspore"
    assert groups[0]["lr_factor"] == (0.1 if port else 1.0) and groups[1]["lr_factor"] == 1.0
    assert make(profile=profile, backbone_lr_factor=0.5).parameter_groups()["main"][0]["lr_factor"] == 0.5
    expected = (0.0, "parts") if port else (0.1, "joint")
    assert (method.profile.smoothing, method.profile.normalize) == expected
    other = make(profile=profile, identity=2.0, metric=0.0, smoothing=0.3, normalize="joint")
    assert (other.profile.smoothing, other.profile.normalize) == (0.3, "joint")
    losses = other(batch, "train", Progress())
    factors |= {"identity": 2, "metric": 0}
    expected = sum(factors[name] * value for name, value in losses.items() if name not in LOGGED)
    torch.testing.assert_close(losses["total"], expected)


def test_divergence_from_the_prior_by_hand():
    mean, deviation = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.5], [1.0, 1.0]])
    first = (1 + 4 - 1 - 2 * math.log(2)) / 2 + (0.25 - 1 + 2 * math.log(2)) / 2
    assert divergence_from_normal(mean, deviation).item() == pytest.approx((first + 0) / 2)
    normal = torch.distributions.Normal
    theirs = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(divergence_from_normal(mean, deviation), theirs)


def test_conventional_bottleneck_draws_in_training_alone():
    torch.manual_seed(7)
    bottleneck = InformationBottleneck(6, 2, 3, sampled=True)
    bottleneck.encoder[6].bias.data.copy_(torch.tensor([1.0, -2.0, 5.0, 5.5]))
    bottleneck.encoder[6].weight.data.zero_()  # so that every image has the same distribution
    vectors = torch.randn(20_000, 6)
    z, prior = bottleneck.train().with_prior(vectors)
    deviations = [math.log(2), math.log(1 + math.exp(0.5))]
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor(deviations), atol=0.03, rtol=0)
    cost = sum(m * m + s * s - 1 - 2 * math.log(s) for m, s in zip((1.0, -2.0), deviations)) / 2
    assert prior.item() == pytest.approx(cost, rel=1e-5)
    z.square().mean().backward()
    assert (bottleneck.encoder[6].bias.grad != 0).all()
    assert not torch.equal(z, bottleneck(vectors))
    assert torch.equal(bottleneck.eval()(vectors[:2]), torch.tensor([[1.0, -2.0]] * 2))
    plain = InformationBottleneck(6, 2, 3)
    assert plain.with_prior(vectors[:4])[1] is None and torch.equal(plain(vectors[:4]), plain(vectors[:4]))


def test_identity_and_metric_by_view(batch):
    """The sums over eight heads, written out, with the shared branch run on the grey images first."""
    method = make(profile="paper").double().train()
    for bottleneck in method.bottlenecks.values():
        bottleneck.classifier[3].p = 0.0
    batch = Batch(batch.images.double(), batch.target, batch.camera, batch.modality, batch.domain)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    losses = method(batch, "train", Progress())
    after = {name: value.clone() for name, value in method.state_dict().items()}
    method.load_state_dict(state)

    red, green, blue = batch.images.unbind(1)
    grey = (0.2989 * red + 0.5870 * green + 0.1140 * blue)[:, None].repeat(1, 3, 1, 1)
    torch.testing.assert_close(method.grey(batch.images), grey)
    identity = metric = 0
    for branch, image, share in (
        ("visible", batch.images, 0.5),
        ("shared", grey, 0.25),
        ("shared", batch.images, 0.25),
        ("infrared", grey, 0.5),
    ):
        encoder, bottleneck = method.encoders[branch], method.bottlenecks[branch]
        seen = encoder(image)
        kept = bottleneck.encoder(seen)
        for logits in (encoder.classifier(seen), bottleneck.classifier(kept)):
            wanted = torch.full_like(logits, 0.1 / 4)
            wanted[torch.arange(12), batch.target] += 0.9
            identity = identity - share * (wanted * logits.log_softmax(1)).sum(1).mean()
        for vectors in (seen, kept):
            metric = metric + share * modality_margin(vectors, batch.target, batch.modality)
    torch.testing.assert_close(losses["identity"], identity)
    torch.testing.assert_close(losses["metric"], metric)
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value, after[name], msg=name)


def test_triplets_of_centres(batch):
    method = make(profile="mindspore", centroids=True)
    method.train()
    with torch.no_grad():
        vectors = torch.randn(12, 4)
        found = method._metric(vectors, batch)
        centres, identities = [], []
        for identity in (0, 1, 2):
            for modality in (0, 1):
                chosen = (batch.target == identity) & (batch.modality == modality)
                centres.append(vectors[chosen].mean(0))
                identities.append(identity)
    torch.testing.assert_close(found, batch_hard_triplet(torch.stack(centres), torch.tensor(identities)))
    assert method(batch, "train", Progress())["total"].isfinite()


def test_only_the_distances_know_the_modality(batch):
    one = make()
    for bottleneck in one.bottlenecks.values():
        bottleneck.classifier[3].p = 0.0
    other = Batch(batch.images, batch.target, batch.camera, batch.modality.flip(0) * 0, batch.domain)
    first, second = (one(each, "train", Progress()) for each in (batch, other))
    assert MVD.modalities == ("visible",) and first["metric"] != second["metric"]
    for name in ("identity", "mutual", "self_distillation", "cross_distillation"):
        assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("normalize", ["joint", "parts"])
def test_embeddings(batch, profile, normalize):
    method = make(profile=profile, normalize=normalize).eval()
    with torch.no_grad():
        obs, rep, both = (method.embed(batch.images, feature=name).feature for name in method.features)
        assert torch.equal(method.embed(batch.images, batch.modality).feature, obs)
        assert (obs.shape, rep.shape, both.shape) == ((12, 4 * 128), (12, 4 * 16), (12, 4 * 144))
        for vectors in (obs, rep, both):
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(12))
        parts = obs.view(12, 4, 128).norm(dim=2)
        if normalize == "parts":
            torch.testing.assert_close(parts, torch.full((12, 4), 0.5))
        else:
            assert (parts - 0.5).abs().max() > 1e-3
            seen = method.encoders["visible"](batch.images)
            torch.testing.assert_close(F.normalize(obs[:, :128]), F.normalize(seen))


def test_network_of_the_port(batch):
    method = make(profile="mindspore")
    assert method.feature_map(batch.images).shape == (12, 128, 2, 1)
    assert make().feature_map(batch.images).shape == (12, 128, 4, 2)
    assert (
        method.encoders["shared"].neck.bias.requires_grad
        and not make().encoders["shared"].neck.bias.requires_grad
    )
    grey = method.grey(torch.ones(1, 3, 2, 2))
    assert grey[0, 0, 0, 0].item() == pytest.approx(1.0299, rel=1e-5)


def test_size_of_the_published_networks():
    """The programs' own counts, without the ImageNet classifiers that they keep."""
    for classes, program, port in ((395, 88_238_559, 82_091_550), (206, 86_931_057, 80_784_048)):
        with torch.device("meta"):
            authors = MVD(MVD.Config(pretrained=None), classes)
            mindspore = MVD(MVD.Config(pretrained=None, profile="mindspore"), classes)
        assert sum(value.numel() for value in authors.parameters()) == program - 6_147_000
        assert sum(value.numel() for value in mindspore.parameters()) == port


def test_half_precision(batch):
    method = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(batch, "train", Progress())
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    losses["total"].backward()


def test_mistakes(batch):
    with pytest.raises(UserError, match=r"the feature is 'z'.*obs, rep, both"):
        make().embed(batch.images, feature="z")
    for settings, words in (
        ({"profile": "released"}, r"method\.profile is 'released'.*authors, paper, conventional, mindspore"),
        ({"normalize": "both"}, r"method\.normalize is 'both'"),
        ({"width": 1}, r"method\.width is 1"),
        ({"temperature": 0.0}, r"method\.temperature is 0\.0"),
    ):
        with pytest.raises(UserError, match=words):
            make(**settings)
    assert METHODS["mvd"] is MVD


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def names_of_the_program():
    """Names and shapes of the authors' file with 7 identities and z of 16."""
    with torch.device("meta"):
        trunk = {name: tuple(value.shape) for name, value in resnet("resnet50").state_dict().items()}

    def linear(name, inputs, outputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name, width):
        return {f"{name}.{last}": (width,) if last in NORM[:4] else () for last in NORM}

    names = {}
    for branch in ("IR", "RGB", "shared"):
        encoder, bottleneck = f"{branch}_backbone", f"{branch}_Bottleneck"
        names |= {f"{encoder}.cam_{width}._cam_module.gamma": (1,) for width in (256, 512, 1024)}
        names |= {f"{encoder}.base.{name}": shape for name, shape in trunk.items()}
        names |= linear(f"{encoder}.base.fc", 2048, 1000) | norm(f"{encoder}.bottleneck", 2048)
        names |= linear(f"{encoder}.classifier.0", 2048, 7)
        names |= linear(f"{bottleneck}.bottleneck.model.0", 2048, 1000)
        names |= norm(f"{bottleneck}.bottleneck.model.1", 1000)
        names |= linear(f"{bottleneck}.bottleneck.model.3", 1000, 500)
        names |= norm(f"{bottleneck}.bottleneck.model.4", 500)
        names |= linear(f"{bottleneck}.bottleneck.model.6", 500, 16)
        names |= linear(f"{bottleneck}.classifier.0", 16, 8) | norm(f"{bottleneck}.classifier.1", 8)
        names |= linear(f"{bottleneck}.classifier.4", 8, 7)
    return names


@pytest.fixture(scope="module")
def state():
    return {
        name: torch.full(shape, number / 2000) if shape else torch.tensor(number)
        for number, (name, shape) in enumerate(names_of_the_program().items())
    }


def test_file_of_the_program_there_and_back(tmp_path, state):
    assert len(state) == 1065
    torch.save({"model": state, "epoch": 3, "best_top1": 0.5}, tmp_path / "a.tar")
    described, weights, left_out = originals.read(tmp_path / "a.tar")
    assert (described["method"], described["classes"], described["domains"]) == ("mvd", 7, 1)
    assert described["config"] == {"pretrained": None, "width": 16}
    assert described["input"]["size"] == [256, 128] and described["input"]["interpolation"] == "bilinear"
    assert len(weights) + len(left_out) == 1065 and len(left_out) == 6
    method = checkpoint.build("mvd", described["config"], 7, 1)
    method.load_state_dict(weights, strict=True)
    for ours, theirs in (
        (method.encoders["infrared"].stem.bn1.weight, "IR_backbone.base.bn1.weight"),
        (
            method.encoders["visible"].backbone.layer3[4].conv2.weight,
            "RGB_backbone.base.layer3.4.conv2.weight",
        ),
        (method.encoders["shared"].attention[1].gamma, "shared_backbone.cam_512._cam_module.gamma"),
        (method.bottlenecks["visible"].encoder[6].bias, "RGB_Bottleneck.bottleneck.model.6.bias"),
        (
            method.bottlenecks["shared"].classifier[1].running_var,
            "shared_Bottleneck.classifier.1.running_var",
        ),
    ):
        assert torch.equal(ours, state[theirs])
    back = write(method.state_dict())
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in state.items()
    }
    assert all(torch.equal(back[name], state[name]) for name in state if name not in left_out)


def test_file_of_a_changed_program(state):
    with pytest.raises(UserError, match=r"no weight 'RGB_backbone\.cam_128"):
        read(state | {"RGB_backbone.cam_128._cam_module.gamma": torch.zeros(1)})
    with pytest.raises(UserError, match=r"would become bottlenecks\.shared\.encoder"):
        read({name: value for name, value in state.items() if "Bottleneck" not in name})
    _, _, left_out = read(state | {"IR_MIE.block.0.weight": torch.zeros(1)})
    assert "early version" in left_out["IR_MIE.block.0.weight"]
    with pytest.raises(UserError, match="cannot be written"):
        write(make(profile="mindspore").state_dict())


@pytest.mark.slow
def test_file_of_the_port(tmp_path, state):
    """The authors' names turned into those of the port; 879 tensors, with wrappers' prefixes."""
    norms = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    parts = {"IR": "ir_backbone.thermal.", "RGB": "rgb_backbone.visible.", "shared": "shared_backbone.base."}
    values = {}
    for name, value in state.items():
        if re.search(r"\.cam_|\.fc\.|num_batches_tracked$", name):
            continue
        branch, _, rest = name.partition("_")
        stem, _, last = rest.rpartition(".")
        if f"{branch}_{stem}.running_mean" in state:
            last = norms[last]
        stem = re.sub(r"^backbone\.(base\.)?", parts[branch], stem).replace("downsample", "down_sample_layer")
        stem = re.sub(r"^Bottleneck\.", f"{branch.lower()}_bottleneck.", stem)
        if "_backbone." in stem:
            stem = stem.replace("classifier.0", "classifier")
        wrapper = "network._backbone." if last.startswith("moving") else "optimizer._backbone."
        values[f"{wrapper}{stem}.{last}"] = value.numpy()
    assert len(values) == 879
    write_checkpoint(tmp_path / "a.ckpt", values | {"moments.x": np.zeros(1, np.float32)})
    described, weights, left_out = originals.read(tmp_path / "a.ckpt")
    assert described["config"] == {"pretrained": None, "width": 16, "profile": "mindspore"}
    assert list(left_out) == ["moments.x"]
    method = checkpoint.build("mvd", described["config"], 7, 1)
    method.load_state_dict(weights, strict=True)
    ours = method.encoders["visible"].neck.running_var
    assert torch.equal(ours, state["RGB_backbone.bottleneck.running_var"])
    ours = method.encoders["infrared"].backbone.layer2[0].downsample[1].bias
    assert torch.equal(ours, state["IR_backbone.base.layer2.0.downsample.1.bias"])

    originals.to_original("mvd", method.state_dict(), tmp_path / "b.ckpt", described["config"])
    theirs, plain = read_checkpoint(tmp_path / "b.ckpt"), {}
    for name, value in values.items():
        plain[re.sub(r"^(network|optimizer)\._backbone\.", "", name)] = value
    assert set(theirs) == set(plain) and len(theirs) == 879
    assert all(np.array_equal(theirs[name], value) for name, value in plain.items())
    with pytest.raises(UserError, match="has the profile 'authors' or another backbone"):
        originals.to_original("mvd", method.state_dict(), tmp_path / "c.ckpt", {"profile": "authors"})
    small = make(profile="mindspore").state_dict()
    with pytest.raises(
        UserError, match=r"only a model with method\.profile 'mindspore' and method\.backbone"
    ):
        originals.to_original("mvd", small, tmp_path / "c.ckpt", {"profile": "mindspore"})
