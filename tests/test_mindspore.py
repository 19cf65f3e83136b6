"""MindSpore's checkpoint files without MindSpore."""

import struct
import zlib

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from crossreid.formats import mindspore
from crossreid.formats.mindspore import mindspore_names, read_checkpoint, torch_names, write_checkpoint
from crossreid.formats.pytorch import read_weights
from crossreid.records import UserError


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def block(number, content):
    return bytes([number * 8 + 2]) + varint(len(content)) + content


def record(name, dims, kind, content, packed=False):
    """One record as the format's description says, written apart from the library's writer."""
    if packed:
        shape = block(1, b"".join(map(varint, dims)))
    else:
        shape = b"".join(b"\x08" + varint(dim) for dim in dims)
    tensor = shape + block(2, kind.encode()) + block(3, content)
    return block(1, block(1, name.encode()) + block(2, tensor))


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "a.ckpt"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("kind, dtype", [*mindspore.TYPES.items()])
def test_every_type(tmp_path, kind, dtype):
    values = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"x": values, "y": values[0]})
    read = read_checkpoint(path)
    assert list(read) == ["x", "y"] and read["x"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read["x"], values)
    np.testing.assert_array_equal(read["y"], values[0])
    assert path.read_bytes() == record("x", (2, 3), kind, values.tobytes()) + record(
        "y", (3,), kind, values[0].tobytes()
    )


def test_brain_floats_and_text(file):
    values = torch.tensor([1.5, -2.0, 3e38], dtype=torch.bfloat16)
    content = record("b", (3,), "BFloat16", values.view(torch.int16).numpy().tobytes())
    read = read_checkpoint(file(content + record("t", (0,), "str", "Zoë".encode("utf-32-le"))))
    np.testing.assert_array_equal(read["b"], values.float().numpy())
    assert read["t"] == "Zoë"


def test_scalars_and_packed_dims(file):
    one = struct.pack("<f", 2.5)
    content = record("none", (), "Float32", one) + record("zero", (0,), "Float32", one)
    content += record("one", (1,), "Float32", one) + record("名", (2, 1), "Float32", one * 2, packed=True)
    read = read_checkpoint(file(content))
    assert [value.shape for value in read.values()] == [(), (), (1,), (2, 1)]
    assert float(read["zero"]) == 2.5 and list(read)[3] == "名"


def test_fields_in_any_order_and_unknown_ones(file):
    tensor = block(3, b"\x07") + block(2, b"UInt8") + b"\x08\x01" + b"\x48\x05" + b"\x51" + bytes(8)
    content = block(1, block(2, tensor) + b"\x5d" + bytes(4) + block(1, b"x"))
    assert read_checkpoint(file(content))["x"].tolist() == [7]


def test_slices(tmp_path, monkeypatch, file):
    values = np.arange(100, dtype=np.float32).reshape(20, 5)
    monkeypatch.setattr(mindspore, "SLICE", 64)
    path = tmp_path / "sliced.ckpt"
    write_checkpoint(path, {"x": values, "y": values[:1]})
    assert path.read_bytes().count(b"\x01x") == 7
    np.testing.assert_array_equal(read_checkpoint(path)["x"], values)
    one = record("x", (1,), "UInt8", b"1")
    with pytest.raises(UserError, match="'x' twice"):
        read_checkpoint(file(one + record("y", (1,), "UInt8", b"1") + one))
    with pytest.raises(UserError, match=r"'x'.*needs 1 bytes, but the file holds 2"):
        read_checkpoint(file(one + one))


def test_checksum(tmp_path, file):
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"x": np.zeros(3, np.float32)}, checksum=True)
    content = path.read_bytes()
    assert content[-17:-10] == b"crc_num"
    assert int.from_bytes(content[-10:], "big") == zlib.crc32(content[:-17])
    assert read_checkpoint(path)["x"].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="checksum"):
        read_checkpoint(file(content[:20] + b"\x01" + content[21:]))


def test_truncation_anywhere_is_noticed(file):
    first = record("first", (3,), "Float32", bytes(12))
    content = first + record("second", (2,), "Int8", bytes(2))
    for length in range(len(content)):
        if length == len(first):
            continue
        with pytest.raises(UserError, match="'first'" if length > len(first) else "not a readable|is empty"):
            read_checkpoint(file(content[:length]))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (bytes(range(200, 256)) * 20, "encrypted, damaged"),
        (b"PK\x03\x04" + bytes(100), "not a readable"),
        (b"\x0a" + varint(1 << 62) + b"x", "not a readable"),
        (record("x", (1 << 40, 1 << 40), "Float64", bytes(8)), "'x' of shape"),
        (record("x", (2,), "Int4", bytes(1)), "'Int4'"),
        (record("x", (3,), "Float32", bytes(8)), "needs 12 bytes, but the file holds 8"),
        (b"\x0a" + b"\xff" * 11, "not a readable"),
    ],
)
def test_bad_files(file, content, message):
    with pytest.raises(UserError, match=message):
        read_checkpoint(file(content))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint at .*b\.ckpt"):
        read_checkpoint(tmp_path / "b.ckpt")


def test_random_damage_raises_nothing_else(file):
    rng = np.random.default_rng(0)
    text = record("t", (0,), "str", "ab".encode("utf-32-le"))
    content = record("first", (3,), "Float32", bytes(12)) + text
    for _ in range(500):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            read_checkpoint(file(bytes(damaged)))
        except UserError:
            pass


def test_unknown_type_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="complex"):
        write_checkpoint(tmp_path / "a.ckpt", {"x": np.zeros(1, complex)})
    assert list(tmp_path.iterdir()) == []


def test_text(tmp_path):
    """An empty text is one zero, as MindSpore writes it and can read it again; zeros at the end are no text."""
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"empty": "", "text": "ab"})
    assert path.read_bytes().startswith(record("empty", (0,), "str", bytes(4)))
    assert read_checkpoint(path) == {"empty": "", "text": "ab"}
    path.write_bytes(record("padded", (0,), "str", "ab\0\0".encode("utf-32-le")))
    assert read_checkpoint(path) == {"padded": "ab"}


def test_names():
    values = {
        "optimizer._backbone.layer1.0.down_sample_layer.1.gamma": np.ones(1),
        "network._backbone.layer1.0.down_sample_layer.1.moving_mean": np.ones(1),
        "moments._backbone.conv1.weight": np.ones(1),
        "global_step": np.ones(1),
        "bn1.beta": np.ones(1),
        "version": "2.1",
    }
    named, left_out = torch_names(values)
    assert list(named) == ["layer1.0.downsample.1.weight", "layer1.0.downsample.1.running_mean", "bn1.bias"]
    assert set(left_out) == {"moments._backbone.conv1.weight", "global_step", "version"}
    with pytest.raises(UserError, match="once more"):
        torch_names({"bn1.beta": np.ones(1), "network.bn1.beta": np.ones(1)})


def test_whole_training_cells():
    """What the cells of the published programs and MindSpore's own optimizers save beside the network."""
    state = """moments.W moment.W moment1.W moment2.W vhat.W accum.W accum_update.W stat.W mean_grad.W mean_square.W
        adam_m.W adam_v.W lamb_m.W lamb_v.W exp_avg.W exp_avg_sq.W max_exp_avg_sq.W exp_inf.W momentum_buf.W prev.W
        step_size.W ax.W ax_.W exp_avg_sq_W exp_avg_sq_row_W exp_avg_sq_col_W mu_W eta_W beta1_power beta2_power
        learning_rate learning_rate_group_0 learning_rate.0.learning_rate momentum fake_lr fake_param global_step
        state_step step_t afactor_step scale_sense current_iterator_step last_overflow_iterator_step"""
    loop = "loss_id loss_tri total_loss acc wg"
    state = [name.replace("W", "_backbone.layer1.0.conv1.weight") for name in state.split()]
    names = [f"optimizer.{name}" for name in state] + [f"network.{name}" for name in loop.split()]
    values = dict.fromkeys([*names, *state, "network._backbone.bn1.gamma"], np.ones(1)) | {
        "epoch": np.array(3)
    }
    named, left_out = torch_names(values | {"optimizer._backbone.layer1.0.conv1.weight": np.ones(1)})
    assert list(named) == ["bn1.weight", "layer1.0.conv1.weight"]
    assert len(left_out) == len(values) - 1
    assert left_out["optimizer.moment1._backbone.layer1.0.conv1.weight"].startswith("state of the optimizer")
    for name in ("network.loss_id", "epoch"):
        assert left_out[name] == "a number of the training, no weight of the network"


def test_names_there_and_back():
    shortcut = "layer1.0.downsample.1."
    ours = dict.fromkeys([f"{shortcut}weight", f"{shortcut}running_mean", "fc.weight"], 0)
    theirs = mindspore_names(ours | {f"{shortcut}num_batches_tracked": 0})
    assert list(theirs) == [
        "layer1.0.down_sample_layer.1.gamma",
        "layer1.0.down_sample_layer.1.moving_mean",
        "fc.weight",
    ]
    assert torch_names({name: np.ones(1) for name in theirs})[0].keys() == ours.keys()


@pytest.mark.parametrize("metadata", [{"format": "ms"}, None])
def test_safetensors_of_mindspore(tmp_path, metadata):
    values = {"conv1.weight": np.ones((1, 1)), "bn1.gamma": np.ones(2), "moments.bn1.gamma": np.ones(2)}
    save_file(values | {"bn1.moving_mean": np.zeros(2)}, tmp_path / "a.safetensors", metadata=metadata)
    weights, left_out = read_weights(tmp_path / "a.safetensors")
    assert set(weights) == {"conv1.weight", "bn1.weight", "bn1.running_mean"}
    assert weights["bn1.weight"].tolist() == [1, 1] and list(left_out) == ["moments.bn1.gamma"]


def test_safetensors_of_pytorch_keep_their_names(tmp_path):
    values = {"block.gamma": np.ones(2), "norm.running_mean": np.ones(2)}
    save_file(values, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert set(read_weights(tmp_path / "a.safetensors")[0]) == set(values)
