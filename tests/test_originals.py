"""Checkpoints of the published systems, here those of AGW; the names are written out by hand."""

import os

import numpy as np
import pytest
import torch

from crossreid import checkpoint, originals
from crossreid.formats.pytorch import read_pickle
from crossreid.methods.agw import AGW
from crossreid.nn.resnet import resnet
from crossreid.records import UserError


def agw_names():
    """The names and shapes of the published program's weights, as its description counts them."""
    with torch.device("meta"):
        trunk = {name: value.shape for name, value in resnet("resnet50").state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var")
    names = {}
    for module in ("thermal_module.thermal", "visible_module.visible", "base_resnet.base"):
        names |= {f"{module}.{name}": shape for name, shape in trunk.items()}
    for stage, count, width in ((2, 2, 512), (3, 3, 1024)):
        for index in range(count):
            place = f"NL_{stage}.{index}"
            for name in ("g.0", "theta", "phi"):
                names |= {f"{place}.{name}.weight": (1, width, 1, 1), f"{place}.{name}.bias": (1,)}
            names |= {f"{place}.W.0.weight": (width, 1, 1, 1), f"{place}.W.0.bias": (width,)}
            names |= {f"{place}.W.1.{name}": (width,) for name in norm}
            names[f"{place}.W.1.num_batches_tracked"] = ()
    names |= {f"bottleneck.{name}": (2048,) for name in norm} | {"bottleneck.num_batches_tracked": ()}
    return names | {"classifier.weight": (7, 2048)}


def agw_state(attention=True):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in agw_names().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(5)
        elif attention or not name.startswith("NL_"):
            state[name] = torch.rand(shape, generator=generator) * 0.05 + 0.5 * name.endswith("running_var")
    return {name: value for name, value in state.items() if attention or not name.startswith("NL_")}


@pytest.fixture(scope="module")
def state():
    return agw_state()


def write(path, state, **more):
    torch.save({"net": state, **more}, path)
    return path


def test_agw(tmp_path, state):
    assert len(state) == 1025
    scores = {"cmc": np.ones(20, np.float32), "mAP": np.float64(0.5), "mINP": np.float32(0.4), "epoch": 3}
    path = write(tmp_path / "a.t", state, **scores)
    described, weights, left_out = originals.read(path)
    assert described["method"] == "agw" and described["classes"] == 7
    assert described["input"]["size"] == [288, 144]
    assert described["config"] == {"pretrained": None, "attention": True, "attention_width": 1}
    assert len(weights) + len(left_out) == 1025
    assert all("only" in reason for reason in left_out.values())
    assert weights["stems.infrared.conv1.weight"] is not weights["stems.visible.conv1.weight"]
    torch.testing.assert_close(weights["stems.infrared.bn1.bias"], state["thermal_module.thermal.bn1.bias"])
    torch.testing.assert_close(weights["backbone.nonlocal3.2.out.bias"], state["NL_3.2.W.0.bias"])
    method = checkpoint.load(path)
    assert isinstance(method, AGW) and not method.training and method.config.attention
    assert method.embed(torch.zeros(1, 3, 32, 16), "infrared").feature.shape == (1, 2048)


def test_plain_variant_and_data_parallel_prefix(tmp_path):
    plain = agw_state(attention=False)
    assert len(plain) == 960
    path = write(tmp_path / "a.t", {f"module.{name}": value for name, value in plain.items()})
    method = checkpoint.load(path)
    assert (method.config.attention, method.config.pooling, method.config.loss) == (False, "average", "hard")


def test_there_and_back(tmp_path, state):
    _, weights, _ = originals.read(write(tmp_path / "a.t", state))
    originals.to_original("agw", weights, tmp_path / "b.t")
    theirs = torch.load(tmp_path / "b.t", weights_only=True)["net"]
    assert set(theirs) == set(state)
    assert {name: value.shape for name, value in theirs.items()} == {
        name: value.shape for name, value in state.items()
    }
    used = ("visible_module.visible.conv1.weight", "base_resnet.base.layer4.2.bn3.bias", "NL_2.1.g.0.bias")
    for name in used:
        assert torch.equal(theirs[name], state[name])
    _, again, _ = originals.read(tmp_path / "b.t")
    assert set(again) == set(weights) and all(torch.equal(again[name], weights[name]) for name in weights)


def test_old_files_lack_a_counter(tmp_path, state):
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({"net": old}, tmp_path / "a.t", _use_new_zipfile_serialization=False)
    checkpoint.load(tmp_path / "a.t")


def test_settings_that_the_file_does_not_hold(tmp_path, state):
    described, _, _ = originals.read(write(tmp_path / "a.t", state), size=(384, 128), loss="hard")
    assert described["input"]["size"] == [384, 128] and described["config"]["loss"] == "hard"


def test_changed_files_are_refused(tmp_path, state):
    with pytest.raises(UserError, match=r"no weight 'extra\.weight'"):
        originals.read(write(tmp_path / "a.t", {**state, "extra.weight": torch.zeros(1)}))
    short = {name: value for name, value in state.items() if name != "base_resnet.base.layer4.2.conv3.weight"}
    with pytest.raises(UserError, match=r"backbone\.layer4\.2\.conv3\.weight"):
        checkpoint.load(write(tmp_path / "a.t", short))


def test_unknown_files(tmp_path):
    torch.save({"net": {"a.weight": torch.zeros(1)}}, tmp_path / "a.t")
    with pytest.raises(UserError, match=r"not a checkpoint of a system known here .*a\.weight"):
        originals.read(tmp_path / "a.t")
    torch.save([1, 2], tmp_path / "b.t")
    with pytest.raises(UserError, match="holds no weights by name"):
        originals.read(tmp_path / "b.t")
    with pytest.raises(UserError, match="there is no checkpoint at"):
        originals.read(tmp_path / "c.t")
    (tmp_path / "d.t").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"d\.t"):
        originals.read(tmp_path / "d.t")


def test_numbers_pickled_by_numpy_1(tmp_path):
    content = {"cmc": np.arange(3.0, dtype=np.float32), "mAP": np.float64(0.5)}
    torch.save(content, tmp_path / "a.t", _use_new_zipfile_serialization=False)
    old = (tmp_path / "a.t").read_bytes()
    assert b"numpy._core.multiarray" in old
    (tmp_path / "a.t").write_bytes(old.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    read = read_pickle(tmp_path / "a.t")
    assert read["mAP"] == 0.5 and read["cmc"].tolist() == [0, 1, 2]


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("form", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    torch.save({"net": {}, "extra": Harmful()}, "a.t", _use_new_zipfile_serialization=form)
    with pytest.raises(UserError, match="could run code"):
        originals.read("a.t")
    assert not (tmp_path / "harm").exists()


def test_a_truncated_file_is_refused(tmp_path):
    torch.save({"net": {"a.weight": torch.zeros(1000)}}, tmp_path / "a.t")
    content = (tmp_path / "a.t").read_bytes()
    (tmp_path / "a.t").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated"):
        originals.read(tmp_path / "a.t")


def test_only_what_the_program_has_can_be_written_for_it(tmp_path):
    one = AGW(AGW.Config(backbone="tiny", pretrained=None, streams=1), 3)
    with pytest.raises(UserError, match="two streams"):
        originals.to_original("agw", one.state_dict(), tmp_path / "a.t")
    with pytest.raises(UserError, match="'other'"):
        originals.to_original("other", {}, tmp_path / "a.t")
    for name, config, words in (
        ("agw", {"backbone": "resnet50", "attention_width": 0}, "attention_width"),
        ("mvd", {"backbone": "resnet50", "profile": "conventional"}, "conventional"),
        ("metabin", {"backbone": "tiny"}, "none of those MetaBIN was published with"),
    ):
        with torch.device("meta"):
            state = checkpoint.build(name, config | {"pretrained": None}, classes=3, domains=2).state_dict()
        with pytest.raises(UserError, match=words):
            originals.to_original(
                name, {key: torch.zeros(value.shape) for key, value in state.items()}, tmp_path / "a.t"
            )
    assert list(tmp_path.iterdir()) == []
