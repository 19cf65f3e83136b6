"""Checkpoints as ONNX: equal to torch, whole or not at all, and strict about what is read."""

import errno
import hashlib
import json
import shutil
import sys

import numpy as np
import onnxruntime
import pytest
from exported_models import INPUT, SIZE, TINY, checkpoint_file, exported

import crossreid
from crossreid import checkpoint, synthetic
from crossreid.__main__ import main
from crossreid.export import mindir, running
from crossreid.export import writing as exporting
from crossreid.export.comparison import difference
from crossreid.export.using import Exported
from crossreid.images.resize import fit
from crossreid.records import UserError

EXPECTS = {
    "name": "pixels",
    "type": "uint8",
    "layout": "NHWC",
    "colour": "RGB",
    "normalise": "inside",
    **INPUT,
}


@pytest.fixture(scope="module")
def agw(tmp_path_factory):
    return exported(tmp_path_factory, "agw")


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    return exported(tmp_path_factory, "alignedreid")


@pytest.fixture(scope="module")
def people():
    """Six crops of several sizes."""
    sizes = [(128, 64), (90, 40), (64, 32)] * 2
    return [
        synthetic.render(synthetic.person(number), synthetic.camera(number), size=size)
        for number, size in enumerate(sizes)
    ]


@pytest.fixture
def copied(agw, tmp_path):
    """A copy of the exported folder, and a function that changes its description."""
    folder = tmp_path / "copy"
    shutil.copytree(agw[1], folder)

    def change(**values):
        known = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(known | values))

    return folder, change


def test_both_routes_give_the_same_vectors(agw, people):
    torch_route, onnx_route = crossreid.Embedder(agw[0]), crossreid.Embedder(agw[1], batch=4)
    for name in ("dimension", "fingerprint", "modalities", "name", "feature", "trained"):
        assert getattr(torch_route, name) == getattr(onnx_route, name), name
    for modality in (
        "visible",
        "infrared",
        ["visible", "infrared", "infrared", "visible", "infrared", "visible"],
    ):
        expected, found = torch_route(people, modality), onnx_route(people, modality)
        assert found.dtype == np.float32 and found.shape == (6, onnx_route.dimension)
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(6), abs=1e-6)
        assert np.linalg.norm(expected - found, axis=1).max() < 1e-4
        alone = [
            onnx_route(person, modality if isinstance(modality, str) else [modality[at]])
            for at, person in enumerate(people)
        ]
        assert np.linalg.norm(np.concatenate(alone) - found, axis=1).max() < 1e-5
    visible, infrared = onnx_route(people, "visible"), onnx_route(people, "infrared")
    assert np.linalg.norm(visible - infrared, axis=1).min() > 1e-2
    frame = np.concatenate([people[0], people[3]], axis=1)
    boxes = [(0, 0, 64, 128), (64, 0, 128, 128)]
    assert onnx_route(frame, "visible", boxes=boxes) == pytest.approx(visible[[0, 3]], abs=1e-5)
    with pytest.raises(UserError, match="modality='infrared'"):
        onnx_route(people)


def test_the_files_work_without_this_library(agw, people):
    known = json.loads((agw[1] / "model.json").read_text())
    session = onnxruntime.InferenceSession(agw[1] / known["files"]["infrared"]["file"])
    assert session.get_inputs()[0].type == "tensor(uint8)" and known["input"]["layout"] == "NHWC"
    pixels = np.stack(
        [fit(person, known["input"]["size"], known["input"]["interpolation"]) for person in people]
    )
    for count in (1, 3, 6):
        (vectors,) = session.run(["vector"], {"pixels": pixels[:count]})
        assert vectors == pytest.approx(crossreid.Embedder(agw[0])(people[:count], "infrared"), abs=1e-4)
    assert b".py" not in (agw[1] / "infrared.onnx").read_bytes(), "paths of the machine that exported"
    assert known["verification"]["batches"] == [1, 2, 5]
    assert 0 < known["verification"]["largest_relative_difference"] < 1e-4


def test_one_file_of_two_serves_its_modality(agw, people):
    embed = crossreid.Embedder(agw[1] / "infrared.onnx")
    assert embed.modalities == ("infrared",)
    assert embed(people) == pytest.approx(crossreid.Embedder(agw[1])(people, "infrared"), abs=1e-5)
    with pytest.raises(UserError, match="exported for infrared images"):
        embed(people, "visible")


def test_stripes_come_along_where_the_feature_has_them(stripes, people):
    model = Exported(stripes[1])
    pixels = np.stack([fit(person, SIZE, model.interpolation) for person in people])
    found = model(pixels, np.zeros(len(pixels), int))
    assert found.stripes.shape == (6, 2, 128) and model.metric.stripes == "aligned"
    expected = crossreid.embedder.Trained(stripes[0])(pixels, np.zeros(len(pixels), int))
    assert found.stripes == pytest.approx(expected.stripes, abs=1e-4)


def test_half_is_half_as_large_and_says_its_error(people, tmp_path, capsys):
    config = TINY | {"variant": "mindspore_alignedreid", "evaluate_stripes": "projected"}
    file, out = checkpoint_file(tmp_path / "m.pt", "alignedreid", config), tmp_path / "half"
    assert main(["export", str(file), str(out), "--half", "--feature", "local"]) == 0
    said = capsys.readouterr().out
    known = json.loads((out / "model.json").read_text())
    error = known["verification"]["largest_relative_difference"]
    assert 1e-5 < error < 3e-2 and f"{error:.1e}" in said and known["precision"] in said
    weights = sum(value.numel() for value in checkpoint.read(file)["weights"].values())
    assert (out / "model.onnx").stat().st_size < 2.3 * weights
    whole, half = crossreid.Embedder(file, feature="local"), crossreid.Embedder(out)
    assert half.fingerprint == whole.fingerprint != crossreid.Embedder(file).fingerprint
    assert np.linalg.norm(whole(people) - half(people), axis=1).max() < 3e-2


def test_files_that_disagree_are_not_kept(agw, tmp_path, monkeypatch):
    # Another network's file in the place of this one's.
    monkeypatch.setattr(
        exporting, "_trace", lambda graph, pixels, path, name: shutil.copy(agw[1] / "infrared.onnx", path)
    )
    with pytest.raises(UserError, match=r"visible\.onnx does not agree .* nothing was kept"):
        exporting.export(agw[0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_exported_already_is_no_checkpoint(agw, tmp_path):
    for model in (agw[1], agw[1] / "infrared.onnx"):
        with pytest.raises(UserError, match="is exported already: give the checkpoint"):
            exporting.export(model, tmp_path / "out")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(agw, tmp_path, monkeypatch, capsys):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "_trace", full)
    assert main(["export", str(agw[0]), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'out'} could not be written (No space left on device): make room there" in told
    assert not list(tmp_path.iterdir())


def test_a_difference_is_the_largest_and_nan_stays():
    from crossreid.records import Embedding

    vector, stripes = np.array([[3.0, 4.0], [0.0, 2.0]]), np.ones((2, 2, 1))
    assert difference(Embedding(vector), Embedding(vector + [[0, 0], [0, 1]])) == 0.5
    assert difference(Embedding(vector, stripes), Embedding(vector, stripes * 3)) == 2
    assert np.isnan(difference(Embedding(vector), Embedding(vector * np.nan)))


def test_nothing_is_overwritten_unasked(agw, tmp_path, capsys):
    other = tmp_path / "images"
    other.mkdir()
    (other / "a.jpg").touch()
    for out, words in (
        (agw[1], "--overwrite"),
        (other, "not an exported model"),
        (tmp_path / "m.onnx", "a folder"),
    ):
        assert main(["export", str(agw[0]), str(out), *(["--overwrite"] if out == other else [])]) == 2
        assert words in capsys.readouterr().err
    assert (other / "a.jpg").exists()
    with pytest.raises(UserError, match="the feature is 'nck'"):
        exporting.export(agw[0], tmp_path / "out", feature="nck")


def test_overwriting_replaces_the_whole_folder(agw, copied, monkeypatch):
    folder, _ = copied
    (folder / "stale.onnx").touch()
    monkeypatch.setattr(
        exporting,
        "_trace",
        lambda graph, pixels, path, name: shutil.copy(agw[1] / f"{graph.modality}.onnx", path),
    )
    exporting.export(agw[0], folder, overwrite=True, log=str)
    assert sorted(path.name for path in folder.iterdir()) == ["infrared.onnx", "model.json", "visible.onnx"]
    assert [path.name for path in folder.parent.iterdir()] == ["copy"]


def test_overwriting_removes_nothing_that_is_not_an_exported_model(agw, copied):
    folder, _ = copied
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        exporting.export(agw[0], folder, overwrite=True, log=str)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "visible.onnx").exists()


def test_untrained_weights_are_loud_on_both_routes(tmp_path, agw, copied, monkeypatch):
    file, said = checkpoint_file(tmp_path / "fresh.pt", "agw", trained={}), []
    monkeypatch.setattr(
        exporting,
        "_trace",
        lambda graph, pixels, path, name: shutil.copy(agw[1] / f"{graph.modality}.onnx", path),
    )
    exporting.export(file, tmp_path / "out", log=said.append)
    assert "does not say that it was trained" in said[0]
    with pytest.warns(UserWarning, match="may mean nothing"):
        crossreid.Embedder(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2 .* newer crossreid"),
        ({"dimension": "128"}, "dimension is missing or not valid"),
        ({"fingerprint": None}, "fingerprint is missing"),
        ({"modalities": ["visible", "thermal"]}, "modalities is"),
        ({"metric": {"feature": "cosine"}}, r"metric\.stripes is"),
        ({"input": EXPECTS | {"interpolation": "nearest"}}, r"input\.interpolation is"),
        ({"files": {"all": {"file": "../other/model.onnx", "sha256": ""}}}, "files is"),
        ({"files": {"all": {"file": "/etc/passwd.onnx", "sha256": ""}}}, "files is"),
        ({"files": {"all": {"file": "..\\model.onnx", "sha256": ""}}}, "files is"),
        ({"files": {"visible": {"file": "visible.onnx", "sha256": ""}}}, "files is"),
        ({"input": EXPECTS | {"size": [96, 48]}}, "export the checkpoint again"),
        ({"input": EXPECTS | {"layout": "NCHW"}}, "export the checkpoint again"),
        ({"input": EXPECTS | {"type": "float16"}}, r"input\.type is"),
        ({"input": EXPECTS | {"mean": [0.5]}}, r"input\.mean is"),
        ({"mindir": {"files": {"all": {"file": "../model.mindir", "sha256": "0"}}}}, "mindir is"),
    ],
)
def test_a_description_is_read_strictly(copied, change, words):
    folder, rewrite = copied
    (folder.parent / "other").mkdir()
    shutil.copy(folder / "visible.onnx", folder.parent / "other" / "model.onnx")
    rewrite(**change)
    with pytest.raises(UserError, match=words):
        crossreid.Embedder(folder)


def test_a_link_out_of_the_folder_is_refused(copied, tmp_path):
    folder, _ = copied
    (folder / "visible.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "visible.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(UserError, match="files is missing or not valid"):
        Exported(folder)


def test_damaged_and_exchanged_files_are_named(copied, tmp_path):
    folder, rewrite = copied
    (folder / "visible.onnx").write_bytes((folder / "infrared.onnx").read_bytes())
    with pytest.raises(UserError, match=r"visible\.onnx is not the file that model\.json was written for"):
        Exported(folder)
    known = json.loads((folder / "model.json").read_text())
    (folder / "visible.onnx").write_bytes(b"\x08\x07not a model")
    known["files"]["visible"]["sha256"] = hashlib.sha256(b"\x08\x07not a model").hexdigest()
    rewrite(**known)
    with pytest.raises(UserError, match=r"visible\.onnx cannot be run by onnxruntime"):
        Exported(folder)
    for broken in ("{", "[]", "{}"):
        (folder / "model.json").write_text(broken)
        with pytest.raises(UserError, match="a description written by `crossreid export` was expected"):
            Exported(folder)
    (folder / "model.json").unlink()
    with pytest.raises(UserError, match=r"has no model\.json"):
        Exported(folder / "visible.onnx")


def test_what_an_exported_model_cannot_do_is_said(agw):
    for settings, words in (
        ({"feature": "global"}, "exported with the feature 'bn'"),
        ({"size": (96, 48)}, "settings are fixed"),
        ({"device": "tpu"}, "cannot run on 'tpu'"),
        ({"device": "cuda:x"}, "cannot run on 'cuda:x'"),
    ):
        with pytest.raises(UserError, match=words):
            crossreid.Embedder(agw[1], **settings)
    with pytest.raises(UserError, match=r"does not speak of thermal\.onnx"):
        Exported(agw[1] / "thermal.onnx")


@pytest.mark.slow
def test_a_network_that_tells_nothing_apart_is_said(tmp_path):
    file = checkpoint_file(tmp_path / "constant.pt", "agw", {**TINY, "streams": 1})
    content = checkpoint.read(file)
    # The normalisation before the feature loses what it is given and keeps what it adds.
    content["weights"]["neck.weight"].zero_()
    checkpoint.save(file, content)
    said = []
    exporting.export(file, tmp_path / "model", log=said.append)
    assert any("are all zero" in line or "features are equal" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "input", "normalise"),
    [
        ("nchw", "float32", None),
        ("nchw", "uint8", None),
        ("nhwc", "float32", None),
        ("nchw", "float32", "inside"),
    ],
)
def test_channels_first_and_normalised(stripes, people, tmp_path, layout, input, normalise):
    """The file takes, and gives, what its layout says; the embedder is given images all the same."""
    folder = exporting.export(
        stripes[0], tmp_path / "out", layout=layout, input=input, normalise=normalise, log=str
    )
    known = json.loads((folder / "model.json").read_text())
    assert (known["input"]["layout"], known["input"]["type"]) == (layout.upper(), input)
    crops = np.stack([fit(person, SIZE, INPUT["interpolation"]) for person in people])
    model, plain = Exported(folder), Exported(stripes[1])
    found, expected = model(crops, np.zeros(6)), plain(crops, np.zeros(6))
    np.testing.assert_allclose(found.feature, expected.feature, atol=1e-5)
    np.testing.assert_allclose(found.stripes, expected.stripes, atol=1e-5)

    values = crops.astype(input)
    if input == "float32" and normalise is None:
        values = ((crops / 255 - INPUT["mean"]) / INPUT["std"]).astype(np.float32)
    if layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    name = "images" if layout == "nchw" else "pixels"
    vector, parts = session.run(None, {name: np.ascontiguousarray(values)})
    np.testing.assert_allclose(vector, expected.feature, atol=1e-5)
    parts = parts.transpose(0, 2, 1) if layout == "nchw" else parts
    np.testing.assert_allclose(parts, expected.stripes, atol=1e-5)


def test_options_of_export_that_do_not_go_together(agw, tmp_path, capsys, monkeypatch):
    for words, expected in (
        (["--from", str(agw[1])], "give nothing beside it but --format mindir"),
        (
            ["--from", str(agw[1]), "--format", "mindir", "--half"],
            "give nothing beside it but --format mindir",
        ),
        ([str(agw[0])], "a checkpoint and a folder to write are needed"),
    ):
        assert main(["export", *words]) == 2
        assert expected in capsys.readouterr().err
    with pytest.raises(UserError, match="layout is 'chw': choose nhwc or nchw"):
        exporting.export(agw[0], tmp_path / "out", layout="chw")
    with pytest.raises(UserError, match="normalised outside of the graph are no bytes"):
        exporting.export(agw[0], tmp_path / "out", normalise="outside")
    monkeypatch.setitem(sys.modules, "mindspore", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mindspore" else name)
    with pytest.raises(UserError, match=r"writing MINDIR needs mindspore, .*--from FOLDER --format mindir"):
        exporting.export(agw[0], tmp_path / "out", format="mindir")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"writing MINDIR needs mindspore"):
        mindir.add(agw[1])
    with pytest.raises(UserError, match=r"a MINDIR file needs MindSpore, .* the ONNX file"):
        running.open_mindir(agw[1] / "visible.mindir")
