"""What recipes and devices ask of the optimizers and the network, each with exact resume."""

import pickle
from dataclasses import replace

import pytest
import torch
from sketches import CLASSES, DOMAINS, SKETCHES, Config, Stream

from crossreid.checkpoint import plain
from crossreid.engine import Engine, tune
from crossreid.methods import METHODS
from crossreid.methods.base import Progress
from crossreid.ops.precision import full_products
from crossreid.records import Batch, UserError
from crossreid.training import Interrupted, OptimizerConfig, TrainConfig, fit, make_optimizers


class Layered(SKETCHES["agw"][0]):
    """With a layer where a backbone has them."""

    def __init__(self, *given):
        super().__init__(*given)
        layer = self.body
        del self.body
        self.backbone = torch.nn.ModuleDict({"layer1": layer})

    @property
    def body(self):
        return self.backbone["layer1"]


def run(optimizer=None, resume=None, weights=None, stop_after=None, kind=None, **settings):
    kind, options = kind or SKETCHES["agw"][0], SKETCHES["agw"][1]
    torch.manual_seed(1)
    method = kind(Config(**options), CLASSES, DOMAINS)
    if weights:
        method.load_state_dict(weights)
    loaders = {"train": Stream(0, position=resume and resume["loaders"]["train"])}
    config = TrainConfig(epochs=2, optimizers={"main": optimizer or OptimizerConfig(lr=0.05)}, **settings)
    saved = {}

    def save(name, training):
        held = plain({key: value.clone() for key, value in method.state_dict().items()})
        saved[name] = held, pickle.loads(pickle.dumps(training))

    try:
        fit(method, loaders, config, Engine("cpu"), save=save, resume=resume, stop_after=stop_after)
    except Interrupted:
        assert stop_after
    return saved["last.pt"]


LEVERS = {
    "plain": {},
    "clip": {"clip": 0.05},
    "average": {"average": 0.9},
    "lamb of timm": {"optimizer": OptimizerConfig(name="lamb", lr=0.01)},
    "nadam of torch": {"optimizer": OptimizerConfig(name="nadam", lr=0.01, arguments={"foreach": True})},
    "layer_decay": {"optimizer": OptimizerConfig(lr=0.05, layer_decay=0.1), "kind": Layered},
    "fused": {"optimizer": OptimizerConfig(name="adamw", lr=0.01, arguments={"fused": True})},
}


@pytest.mark.parametrize("name", LEVERS)
def test_a_run_stopped_inside_an_epoch_continues_bit_for_bit(name):
    weights, training = run(**LEVERS[name])
    stopped, state = run(**LEVERS[name], stop_after=7)
    again, end = run(**LEVERS[name], resume=state, weights=stopped)
    for key in weights:
        assert torch.equal(again[key], weights[key]), key
    if name == "average":
        for key in weights:
            assert torch.equal(end["learned"][key], training["learned"][key])
    if name not in ("plain", "fused"):
        plain = run(kind=LEVERS[name].get("kind"))[0]
        assert any(not torch.equal(weights[key], plain[key]) for key in weights)


def test_the_average_is_what_is_kept():
    weights, training = run(average=0.9)
    assert torch.equal(training["learned"]["body.weight"], run()[0]["body.weight"])
    kind, options = SKETCHES["agw"]
    torch.manual_seed(1)
    wanted = kind(Config(**options), CLASSES, DOMAINS).body.weight.detach().clone()
    for steps in range(1, 11):
        _, state = run(average=0.9, stop_after=steps) if steps < 10 else (weights, training)
        wanted = 0.9 * wanted + 0.1 * state["learned"]["body.weight"]
    torch.testing.assert_close(weights["body.weight"], wanted)


def test_a_gradient_is_not_longer_than_wanted():
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for precision in ("float32", "float16"):
        engine = Engine("cpu", precision)
        weight.data.zero_()
        optimizer.zero_grad()
        engine.backward((weight * 3).sum())
        engine.step([optimizer], clip=0.5)
        torch.testing.assert_close(weight.detach().norm(), torch.tensor(0.5), rtol=1e-4, atol=0)


def test_layers_learn_the_slower_the_nearer_to_the_image():
    method = METHODS["agw"](METHODS["agw"].Config(pretrained=None, backbone="tiny", attention=False), 5)
    config = OptimizerConfig(lr=1.0, layer_decay=0.5)
    groups = make_optimizers(method, {"main": config})["main"].param_groups
    names = {id(value): name for name, value in method.named_parameters()}
    factors = {names[id(value)]: group["layer_factor"] for group in groups for value in group["params"]}
    assert factors["classifier.weight"] == 1 and factors["neck.weight"] == 1
    assert factors["backbone.layer4.0.conv1.weight"] == 0.5
    assert factors["backbone.layer1.0.conv1.weight"] == 0.5**4
    assert {value for name, value in factors.items() if name.startswith("stems")} == {0.5**5}
    assert len(factors) == len([p for p in method.parameters() if p.requires_grad])


def test_optimizers_that_are_not_there_or_take_other_arguments_are_refused():
    with pytest.raises(UserError, match="did you mean 'adam'"):
        OptimizerConfig(name="adamv")
    with pytest.raises(UserError, match="lbfgs"):
        OptimizerConfig(name="lbfgs")
    method = METHODS["agw"](METHODS["agw"].Config(pretrained=None, backbone="tiny", streams=1), 5)
    with pytest.raises(UserError, match=r"train\.optimizers\.main cannot be made: .*nonsense"):
        make_optimizers(method, {"main": OptimizerConfig(arguments={"nonsense": 1})})


def test_evaluation_is_exact_whatever_training_may_do():
    try:
        tune(tf32=True)
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
        with full_products():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        tune()
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_compiled_networks_have_no_break_and_the_same_losses(name):
    torch._dynamo.reset()
    config = METHODS[name].Config(pretrained=None, backbone="tiny")
    torch.manual_seed(0)
    method = METHODS[name](config, 12, 4).train()
    target = torch.arange(8).repeat_interleave(2)
    batch = Batch(torch.randn(16, 3, 32, 16), target, target * 0, torch.arange(16) // 8, target // 2)
    fast = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
    progress = Progress(0, 1, 10, {"main": (0.1, 0.2), "gates": (0.1,)})
    phase = method.phases(progress)[0].name
    torch.manual_seed(1)
    wanted = method(batch, phase, progress)
    assert method.networks()
    for network in method.networks():
        network.compile(fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    found = method.to(memory_format=torch.channels_last)(fast, phase, progress)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
    found["total"].backward()
