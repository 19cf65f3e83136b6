"""Files that MindSpore itself wrote, read without it; and where it is installed, both ways and MINDIR with it.

``python -m pytest tests/test_mindspore_files.py -m mindspore`` runs the second half, in an environment of its own
(CONTRIBUTING.md).
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_models import checkpoint_file, exported

import crossreid
from crossreid.formats.mindspore import mindspore_names, read_checkpoint, torch_names, write_checkpoint
from crossreid.formats.pytorch import read_weights

DATA = Path(__file__).parent / "data" / "mindspore"
sys.path.insert(0, str(DATA))
from values import ADDED, LONG, TENSORS, TYPES, WEIGHTS  # noqa: E402


@pytest.fixture
def mindspore():
    """MindSpore, made quick by the library's own way of loading it."""
    pytest.importorskip(
        "mindspore",
        reason="needs MindSpore: pip install -e '.[export,mindir]' pytest in an environment of its own, since it wants "
        "a NumPy below 2",
        exc_type=ImportError,
    )
    from crossreid.export.running import load_mindspore

    return load_mindspore()


@pytest.fixture(params=["committed", pytest.param("fresh", marks=pytest.mark.mindspore)])
def files(request, tmp_path):
    """The folder of files, as it was committed, and written anew by the MindSpore that is installed."""
    if request.param == "committed":
        return DATA
    request.getfixturevalue("mindspore")
    import make

    make.write(tmp_path)
    return tmp_path


def test_all_types_and_what_was_appended(files):
    read = read_checkpoint(files / "types.ckpt")
    assert list(read) == [*TENSORS, *ADDED]
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(read[name], value, strict=True)
    for name, value in ADDED.items():
        assert read[name] == value and (isinstance(value, str) or read[name].shape == ())
    named, left_out = torch_names(read)
    assert set(named) == set(TENSORS) and set(left_out) == set(ADDED)


def test_checksum_and_slices(files):
    assert (files / "checksum.ckpt").read_bytes()[-17:-10] == b"crc_num"
    read = read_checkpoint(files / "checksum.ckpt")
    for name in list(TENSORS)[:2]:
        np.testing.assert_array_equal(read[name], TENSORS[name], strict=True)
    assert (files / "sliced.ckpt").read_bytes().count(b"\x04long") == 3
    read = read_checkpoint(files / "sliced.ckpt")
    for name, value in LONG.items():
        np.testing.assert_array_equal(read[name], value, strict=True)


@pytest.mark.parametrize(
    ("name", "left"),
    [("network.ckpt", 0), ("network.safetensors", 0), ("saved.safetensors", 0), ("training_cell.ckpt", 21)],
)
def test_a_network_and_a_whole_training_cell(files, name, left):
    weights, left_out = read_weights(files / name)
    expected, _ = torch_names(WEIGHTS)
    assert set(weights) == set(expected) and len(left_out) == left
    for key, value in expected.items():
        np.testing.assert_array_equal(weights[key].numpy(), value, strict=True)
    reasons = {reason.split()[0] for reason in left_out.values()}
    assert reasons == ({"state", "a"} if left else set())


def test_ours_are_theirs_byte_for_byte(files, tmp_path):
    write_checkpoint(tmp_path / "ours.ckpt", LONG)
    assert read_checkpoint(tmp_path / "ours.ckpt").keys() == LONG.keys()
    network = read_checkpoint(files / "network.ckpt")
    write_checkpoint(tmp_path / "ours.ckpt", network)
    assert (tmp_path / "ours.ckpt").read_bytes() == (files / "network.ckpt").read_bytes()
    checked = read_checkpoint(files / "checksum.ckpt")
    write_checkpoint(tmp_path / "ours.ckpt", checked, checksum=True)
    assert (tmp_path / "ours.ckpt").read_bytes() == (files / "checksum.ckpt").read_bytes()
    floats = {
        name: value for name, value in read_checkpoint(files / "types.ckpt").items() if "bfloat" not in name
    }
    write_checkpoint(tmp_path / "ours.ckpt", floats)
    theirs = (files / "types.ckpt").read_bytes()
    bfloat = theirs.index(b"\x0a", theirs.index(b"a.bool") + 6)
    after = theirs.index(b"epoch") - 4
    assert (tmp_path / "ours.ckpt").read_bytes() == theirs[:bfloat] + theirs[after:]


@pytest.mark.mindspore
def test_mindspore_reads_what_is_written(mindspore, tmp_path):
    text = {"empty": "", "text": "Zoë"}
    plain = {name: value for name, value in TENSORS.items() if name != "a.bfloat16"}
    write_checkpoint(tmp_path / "a.ckpt", plain | text, checksum=True)
    read = mindspore.load_checkpoint(str(tmp_path / "a.ckpt"), crc_check=True)
    assert {name: read[name] for name in text} == text
    for name, value in plain.items():
        assert read[name].dtype == getattr(mindspore, TYPES[name])
        np.testing.assert_array_equal(read[name].asnumpy(), value, strict=True)


@pytest.mark.mindspore
def test_a_network_there_and_back_loads_strictly(mindspore, tmp_path):
    import make

    weights, _ = read_weights(DATA / "network.ckpt")
    theirs = {name: value.numpy() + 1 for name, value in mindspore_names(weights).items()}
    write_checkpoint(tmp_path / "a.ckpt", theirs)
    network = make.Network()
    parameters = mindspore.load_checkpoint(str(tmp_path / "a.ckpt"))
    assert mindspore.load_param_into_net(network, parameters, strict_load=True) == ([], [])
    for name, parameter in network.parameters_and_names():
        np.testing.assert_array_equal(parameter.asnumpy(), WEIGHTS[name] + 1)


@pytest.mark.mindspore
@pytest.mark.slow
@pytest.mark.parametrize("name", ["agw", "alignedreid", "ddag", "metabin", "mvd"])
def test_mindir_is_equal(mindspore, tmp_path_factory, tmp_path, name):
    import json
    import shutil

    from crossreid.__main__ import main
    from crossreid.records import UserError

    folder = tmp_path / "model"
    shutil.copytree(exported(tmp_path_factory, name)[1], folder)
    assert main(["export", "--from", str(folder), "--format", "mindir"]) == 0
    known = json.loads((folder / "model.json").read_text())["mindir"]
    assert known["verification"]["largest_relative_difference"] < 1e-5
    with pytest.raises(UserError, match="holds MINDIR files already"):
        from crossreid.export import mindir

        mindir.add(folder)
    pixels = [np.random.default_rng(number).integers(0, 256, (80, 40, 3), np.uint8) for number in range(3)]
    for entry in known["files"].values():
        embed = crossreid.Embedder(folder / entry["file"])
        other = crossreid.Embedder((folder / entry["file"]).with_suffix(".onnx"))
        assert (embed.fingerprint, embed.modalities) == (other.fingerprint, other.modalities)
        modality = "infrared" if entry["file"].startswith("infrared") else "visible"
        np.testing.assert_allclose(embed(pixels, modality), other(pixels, modality), atol=1e-5)
    (folder / entry["file"]).write_bytes(b"x")
    with pytest.raises(UserError, match="is not the file that"):
        crossreid.Embedder(folder / entry["file"])


@pytest.mark.mindspore
@pytest.mark.slow
def test_mindir_of_a_checkpoint_with_channels_first(mindspore, tmp_path):
    """As the program for Ascend 310 of AlignedReID++ feeds it: one image, normalised, channels first."""
    from crossreid.export.writing import export

    file = checkpoint_file(tmp_path / "a.pt", "alignedreid")
    folder = export(file, tmp_path / "m", format="mindir", layout="nchw", input="float32", log=str)
    graph = mindspore.nn.GraphCell(mindspore.load(str(folder / "model.mindir")))
    feature, local = graph(mindspore.Tensor(np.zeros((1, 3, 64, 32), np.float32)))
    method = crossreid.load(file)
    with torch.no_grad():
        expected = method.embed(torch.zeros(1, 3, 64, 32))
    assert local.shape == (1, *expected.stripes.shape[:0:-1])
    np.testing.assert_allclose(local.asnumpy(), expected.stripes.transpose(1, 2), atol=1e-5)
    unit = torch.nn.functional.normalize(expected.feature)
    np.testing.assert_allclose(feature.asnumpy(), unit, atol=1e-5)
