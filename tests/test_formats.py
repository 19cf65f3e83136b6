"""Files of other programs within bounds: pickles, archives, MATLAB files, YAML, and what is no file at all."""

import argparse
import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.io import loadmat, savemat

import crossreid
from crossreid import checkpoint, files
from crossreid.formats import arrays, matlab, pickles, shape, text, yaml_text
from crossreid.formats.pytorch import read_pickle
from crossreid.records import UserError

EXPECTED = "something else was expected"


def paragraph(call, *given):
    with pytest.raises(UserError) as error:
        call(*given)
    said = str(error.value)
    assert said.strip() and "\n" not in said
    return said


def same(one, other):
    if torch.is_tensor(one):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.detach(), other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


# ---- PyTorch


@pytest.mark.parametrize("new", [True, False])
def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path, new):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    whole = torch.randn(10, 10)
    content = {
        "net": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]).state_dict(),
        "parameter": torch.nn.Parameter(torch.randn(3, 4)),
        "views": [whole, whole.t(), whole[2:5, ::2], whole[0]],
        "kinds": [
            torch.tensor([True, False]),
            torch.arange(3),
            torch.randn(2).half(),
            torch.randn(2).bfloat16(),
        ],
        "empty": torch.empty(0, 3),
        "one": torch.tensor(3.5),
        "numpy": [
            np.arange(6.0).reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.array(["ab", "c"]),
        ],
        "numbers": [np.float64(0.5), np.int64(7), np.bool_(True), 2**100, None, True, 2.5, b"bytes", b""],
        "sets": {1, 2},
        "size": torch.Size([1, 2]),
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert same(content, read_pickle(tmp_path / "a.pt"))


class Calling:
    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Calling(eval, "1 + 1"),
        Calling(os.system, "true"),
        Calling(bytearray, 2**40),
        Calling(tuple, torch.arange(3)),
        argparse.Namespace(a=1),
        torch.eye(3).to_sparse(),
    ],
)
def test_other_objects_are_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "a.pt")
    assert "was refused" in paragraph(read_pickle, tmp_path / "a.pt")


def doubled(times):
    value = [1]
    for _ in range(times):
        value = [value, value]
    return value


def within_itself():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        # The state of a NumPy type that made the process die.
        Calling(np.dtype, "f8", False, True, state=(3, "<", None, -1, -1, 0)),
        Calling(
            np._core.multiarray._reconstruct,
            np.ndarray,
            (0,),
            b"b",
            state=(1, (2**40,), np.dtype("f8"), False, b""),
        ),
        torch.zeros(1).expand(1000),
        torch.zeros(10**4).as_strided((100, 100), (0, 1)),
        doubled(40),
        within_itself(),
        pytest.param(10**5000, id="digits"),
    ],
)
def test_values_out_of_bounds_are_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "a.pt")
    assert "cannot be read" in paragraph(read_pickle, tmp_path / "a.pt")


def test_a_forged_length_takes_no_memory():
    long = b"\x80\x05\x8e" + (2**40).to_bytes(8, "little") + b"x."
    with pytest.raises(ValueError):
        pickles.unpickled(io.BytesIO(long), lambda _: None)
    array = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x."
    with pytest.raises(ValueError):
        pickles.unpickled(io.BytesIO(array), lambda _: None)
    memo = b"\x80\x02Nr\xff\xff\xff\xff."
    assert pickles.unpickled(io.BytesIO(memo), lambda _: None) is None


def small(path, **changes):
    method = checkpoint.build("agw", {"backbone": "tiny", "pretrained": None, "streams": 1}, 4)
    given = {"size": [48, 24], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
    method.input, method.settings, method.trained = given, {}, {"epoch": 1}
    torch.save(checkpoint.describe(method, "agw") | changes, path)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": 3_000_000}, "have another shape"),
        ({"classes": "many"}, "its classes is missing or not"),
        ({"config": {"backbone": "tiny", "pretrained": None, "streams": "two"}}, "kind int"),
        (
            {"input": {"size": [60000, 60000], "interpolation": "bilinear", "mean": [0] * 3, "std": [1] * 3}},
            "60000",
        ),
        (
            {"input": {"size": [48, 24], "interpolation": "bilinear", "mean": [0] * 3, "std": [0] * 3}},
            "input.std",
        ),
        (
            {"input": {"size": [48, 24], "interpolation": ["x"], "mean": [0] * 3, "std": [1] * 3}},
            "interpolation",
        ),
        ({"format": None}, "its format is missing or not"),
        ({"settings": {"data": []}}, "settings.data"),
        ({"settings": {"data": {"size": "&a [*a]"}}}, "stranger than any setting"),
        ({"trained": {"epoch": 2**70}}, "bits"),
        ({"weights": {"a": 1}}, "its weights is missing or not"),
    ],
)
def test_odd_values_in_a_sound_checkpoint_are_named(tmp_path, changes, said):
    crossreid.load(small(tmp_path / "sound.pt"))
    assert re.search(said, paragraph(crossreid.load, small(tmp_path / "odd.pt", **changes)))


# ---- archives and arrays


def test_archives_that_swell_are_refused_by_what_they_declare(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**7))
    assert "would unpack to 76 MiB" in paragraph(arrays.read_npz, tmp_path / "a.npz", EXPECTED)
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10**8)
    assert "would unpack to 95 MiB" in paragraph(read_pickle, tmp_path / "a.pt")


def test_only_the_arrays_asked_for_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, value in (("a", np.arange(3)), ("b", np.array(["x", "yy"]))):
            made = io.BytesIO()
            np.save(made, value)
            archive.writestr(f"{name}.npy", made.getvalue())
        archive.writestr("broken.npy", b"nothing")
    found = arrays.read_npz(tmp_path / "a.npz", EXPECTED, ("a", "b"))
    assert list(found) == ["a", "b"] and found["b"].tolist() == ["x", "yy"]
    assert EXPECTED in paragraph(arrays.read_npz, tmp_path / "a.npz", EXPECTED)


@pytest.mark.parametrize("read", [arrays.read_npy, arrays.map_npy])
def test_arrays_whose_header_says_more_than_is_there(tmp_path, read):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    assert read(tmp_path / "a.npy", EXPECTED).tolist() == [[0, 1, 2], [3, 4, 5]]
    content = (tmp_path / "a.npy").read_bytes()
    for one, other in (
        (b"(2, 3)", b"(9, 9)"),
        (b"<i8", b"|O "),
        (b"'shape'", b"'shapf'"),
        (b"\x93NUMPY", b"\x80NUMPY"),
    ):
        (tmp_path / "a.npy").write_bytes(content.replace(one, other))
        said = paragraph(read, tmp_path / "a.npy", EXPECTED)
        assert EXPECTED in said and "allow_pickle" not in said


# ---- MATLAB


def cells(values):
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def alike(one, other):
    assert one.shape == other.shape and one.dtype == other.dtype
    if one.dtype.names:
        for name in one.dtype.names:
            alike(one[name], other[name])
    elif one.dtype == object:
        for part, counterpart in zip(one.ravel(), other.ravel()):
            alike(part, counterpart)
    else:
        assert np.array_equal(one, other)


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path, packed):
    values = {
        "double": np.random.default_rng(0).normal(size=(3, 4)),
        "single": np.float32([[1, 2]]),
        "whole": np.arange(5, dtype=np.uint16),
        "deep": np.arange(24).reshape(2, 3, 4),
        "imaginary": np.array([1 + 2j, 3]),
        "truth": np.array([True, False]),
        "text": "Grüße €",
        "texts": np.array(["ab", "cde"]),
        "nothing": np.zeros((0, 3)),
        "empty": "",
        "cells": cells(["ab", np.arange(3), np.zeros((0, 0)), cells(["x"])]),
        "one": {"a": 1, "b": "text", "c": np.arange(4.0)},
        "several": np.array([(1, "x"), (2, "yy")], dtype=[("n", object), ("t", object)]),
    }
    savemat(tmp_path / "a.mat", values, do_compression=packed, oned_as="column")
    theirs, ours = loadmat(tmp_path / "a.mat"), matlab.read_variables(tmp_path / "a.mat", list(values))
    for name in values:
        alike(theirs[name], ours[name])


def test_matlab_files_that_swell_or_are_something_else(tmp_path):
    savemat(tmp_path / "a.mat", {"zeros": np.zeros((3000, 3000)), "a": np.arange(3)}, do_compression=True)
    assert matlab.read_variables(tmp_path / "a.mat", ["a"])["a"].tolist() == [[0, 1, 2]]
    assert "many times its own size" in paragraph(matlab.read_variables, tmp_path / "a.mat", ["zeros"])
    assert "has no variable 'b'" in paragraph(matlab.read_variables, tmp_path / "a.mat", ["b"])
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF")
    assert "version 7.3" in paragraph(matlab.read_variables, tmp_path / "b.mat", ["a"])
    assert "is missing" in paragraph(matlab.read_variables, tmp_path / "c.mat", ["a"])


# ---- YAML and JSON

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 8)}]" for n in range(9)
)
MERGES = "a: &a {x: 1}\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join(['*' + chr(97 + n)] * 8)}]}}" for n in range(9)
)


@pytest.mark.parametrize(
    "written",
    [
        *(
            LAUGHS,
            MERGES,
            "a: &a [*a]",
            "[" * 100_000,
            "- " * 50_000,
            "a: " + "9" * 5000,
            "a: 1" + ":1" * 5000,
        ),
        *("? [1]\n: 2", "a: 2020-99-99", "!!python/object:os.system x", "a: \0", "a" * 300_000, "a: ["),
    ],
)
def test_yaml_beyond_bounds_is_refused_at_once(tmp_path, written):
    (tmp_path / "a.yaml").write_text(written)
    assert EXPECTED in paragraph(yaml_text.read_yaml, tmp_path / "a.yaml", EXPECTED)


def test_yaml_of_ours_is_read_as_before():
    shared = [1, 2]
    written = yaml.safe_dump({"a": shared, "b": [shared, shared], "c": {"d": 1.5e-3, "e": None, "f": "2020"}})
    assert "*id001" in written
    assert yaml_text.parse_yaml(written) == yaml.safe_load(written)


def test_json_of_any_depth_ends_in_one_kind_of_error(tmp_path):
    for written in ("[" * 100_000, "1" * 5000, "{", "\ud800"):
        with pytest.raises(ValueError):
            text.parse_json(written.encode("utf-8", "surrogatepass"))


def test_forms_of_plain_values():
    form = {"name": shape.TEXT, "rows": [{"score": shape.SCORE}], "notes?": ([shape.TEXT], shape.NOTHING)}
    assert shape.unlike({"name": "x", "rows": [{"score": None}, {"score": 0.5, "more": 1}]}, form) is None
    assert shape.unlike({"name": "x", "rows": [{"score": 1}, {"score": "1"}]}, form) == "rows[1].score"
    assert shape.unlike({"name": "x", "rows": [{"score": 1e400}]}, form) == "rows[0].score"
    assert shape.unlike({"rows": []}, form) == "name" and shape.unlike([], form) == "the whole"


# ---- what is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are those of POSIX")
def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    from crossreid.images.decode import check, decode

    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path / "a.jpg", tmp_path, Path("/dev/zero")):
        for read in (decode, check):
            assert "a folder, a pipe or a device" in paragraph(read, path)
        with pytest.raises(UserError, match="a pipe or a device"), files.opened(path):
            pass


# Whoever opens images, pickles, archives or YAML in another way than the one place for it.
SIDE_DOORS = re.compile(
    r"\bImage\.open\(|PILImage\.open\(|cv2\.imread|imageio|plt\.imread|\btorch\.load\(|\bpickle\.loads?\(|\bnp\.load\("
    r"|\bloadmat\b|ZipFile\(|yaml\.(safe_|full_|unsafe_)?load\("
)
# What Ray carries between our own processes is no file.
DOORS = {"images/decode.py", "formats/archives.py", "formats/yaml_text.py", "on_ray.py"}


def test_there_is_one_door_for_each_kind_of_file():
    package = Path(crossreid.__file__).parent
    found = {
        f"{path.relative_to(package).as_posix()}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.relative_to(package).as_posix() not in DOORS
        for line in path.read_text(encoding="utf-8").splitlines()
        if SIDE_DOORS.search(line)
    }
    assert not found


def test_reading_a_hostile_image_runs_no_program(tmp_path):
    script = tmp_path / "ran"
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch " + bytes(script) + b") run\n"
    )
    from crossreid.images.decode import decode

    assert "not a readable image" in paragraph(decode, tmp_path / "a.jpg")
    assert not script.exists()
