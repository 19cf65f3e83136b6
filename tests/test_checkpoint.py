"""Our checkpoints: written whole or not at all, read without running code, and refused with reasons."""

import errno
import os
import pickle
import re

import numpy as np
import pytest
import torch

from crossreid import checkpoint, config, originals
from crossreid.__main__ import main
from crossreid.formats import pytorch
from crossreid.methods import METHODS
from crossreid.records import UserError

SMALL = {"backbone": "tiny", "pretrained": None, "streams": 1}


def described(seed=0, classes=5, name="agw", settings=None):
    torch.manual_seed(seed)
    method = checkpoint.build(name, SMALL if settings is None else settings, classes)
    inputs = {"size": (48, 24), "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.2,) * 3}
    return checkpoint.describe(method, name, input=inputs, settings={}, trained={"epoch": 1})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run" / "last.pt"
    path.parent.mkdir()
    checkpoint.save(path, described())
    return path


def paragraph(path, call=checkpoint.load, **settings):
    with pytest.raises(UserError) as error:
        call(path, **settings)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_what_was_saved_is_loaded(saved):
    content, method = described(), checkpoint.load(saved)
    assert method.state_dict().keys() == content["weights"].keys()
    for key, value in method.state_dict().items():
        assert torch.equal(value, content["weights"][key]), key
    assert method.classes == 5 and method.trained == {"epoch": 1} and not method.training
    assert method.input["size"] == [48, 24]
    assert checkpoint.load(saved, size=(96, 48)).input["size"] == [96, 48]
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def half_then(raised):
    """A stand-in for torch.save whose disk fills up on the way."""

    def save(content, file):
        file.write(b"half of it")
        raise raised

    return save


FULL = OSError(errno.ENOSPC, "No space left on device")


def behind(error):
    error.__context__ = FULL
    return error


@pytest.mark.parametrize(
    "place, stand_in",
    [
        ("torch.save", half_then(FULL)),
        ("torch.save", half_then(OSError(errno.EDQUOT, "Disk quota exceeded"))),
        (
            "torch.save",
            half_then(behind(RuntimeError("[enforce fail at inline_container.cc:664] unexpected pos 64"))),
        ),
        ("os.fsync", lambda number: (_ for _ in ()).throw(FULL)),
    ],
    ids=["full", "quota", "zip writer", "fsync"],
)
def test_a_disk_that_fills_up_leaves_the_checkpoint_before_it(saved, monkeypatch, place, stand_in):
    before = saved.read_bytes()
    monkeypatch.setattr(place, stand_in)
    text = paragraph(saved, lambda path: checkpoint.save(path, described(seed=1)))
    assert "disk is full" in text and "written before it is intact" in text and "--resume" in text
    new = saved.with_name("best.pt")
    first = paragraph(new, lambda path: checkpoint.save(path, described(seed=1)))
    assert "there was none before it" in first and "then start again" in first
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_disk_that_fills_up_while_training_stops_the_run_with_2(
    settings_file, tmp_path, monkeypatch, capsys
):
    run, whole, calls = tmp_path / "run", torch.save, []

    def second_fails(content, file):
        calls.append(content["training"]["epoch"])
        half_then(FULL)(content, file) if len(calls) == 2 else whole(content, file)

    monkeypatch.setattr(torch, "save", second_fails)
    assert main(["train", str(settings_file), "--run", str(run)]) == 2
    assert "disk is full" in capsys.readouterr().err and calls == [1, 2]
    assert not [path for path in run.iterdir() if path.name.endswith(".tmp")]
    assert checkpoint.read(run / "last.pt")["training"]["epoch"] == 1
    assert main(["train", "--resume", str(run)]) == 0 and calls == [1, 2, 2]


def test_a_folder_that_is_not_there_and_an_interruption_leave_nothing(tmp_path, saved, monkeypatch):
    assert "No such file" in paragraph(
        tmp_path / "none" / "last.pt", lambda path: checkpoint.save(path, described())
    )
    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", half_then(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, described(seed=1))
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1


def test_truncated_and_damaged_files(saved, tmp_path):
    whole, cut = saved.read_bytes(), tmp_path / "cut.pt"
    for length in (0, 1, 2, 100, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert "last.pt" not in paragraph(cut, checkpoint.read)
    # Garbage that the old pickle format takes for instructions.
    for content in (
        b"hello\n",
        b"<html></html>",
        b"0",
        b"\x80\x02.",
        b"}u.",
        b"K\x01R.",
        bytes(range(255, 0, -1)),
    ):
        cut.write_bytes(content)
        paragraph(cut, checkpoint.read)
    cut.write_bytes(b"he")  # "give what was kept under 101"
    assert "a reference is not as it is ever written" in paragraph(cut, checkpoint.read)


class Running:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, capsys):
    mark = tmp_path / "it ran"
    zipped, plain = tmp_path / "zipped.pt", tmp_path / "plain.pt"
    torch.save(described() | {"trained": Running(mark)}, zipped)
    plain.write_bytes(pickle.dumps({"crossreid": Running(mark)}, protocol=2))
    for path in (zipped, plain):
        assert "could run code" in paragraph(path, checkpoint.read)
        for words in (["evaluate", str(path)], ["convert", str(path), str(tmp_path / "out.pt")]):
            assert main([*words]) == 2
            capsys.readouterr()
    assert not mark.exists()
    torch.load(zipped, weights_only=False)  # which shows that the file is armed
    assert mark.exists()


def test_files_of_another_kind(saved, tmp_path, monkeypatch):
    text = paragraph(tmp_path / "run" / "lst.pt", checkpoint.read)
    assert "last.pt" in text
    text = paragraph(tmp_path / "run", checkpoint.read)
    assert text.endswith(f"give the file in it, {saved}")
    paragraph(tmp_path, checkpoint.read)
    saved.rename(saved.with_name("best.pt"))
    assert "the folder holds best.pt" in paragraph(tmp_path / "run", checkpoint.read)
    saved.with_name("best.pt").rename(saved)
    content = torch.load(saved, weights_only=True)
    newer = tmp_path / "newer.pt"
    torch.save(content | {"format": checkpoint.FORMAT + 1, "crossreid": "99.1"}, newer)
    text = paragraph(newer)
    assert "99.1" in text and "install a newer crossreid" in text
    weights = tmp_path / "weights.pt"
    torch.save(content["weights"], weights)
    assert "crossreid convert" in paragraph(weights, checkpoint.read)

    def denied(*words, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "Permission denied" in paragraph(saved, checkpoint.read)


@pytest.mark.parametrize("name", ["last.pt", "weights.ckpt", "weights.pth"])
@pytest.mark.parametrize(
    "content, words",
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 97781949\n",
            "Git LFS pointer.*97,781,949",
        ),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Sign in</body></html>", "saved web page"),
        (b"<HTML><head><title>404</title></head></HTML>", "saved web page"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_weight_file_is_called_what_it_is(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    for call in (checkpoint.load, checkpoint.read, originals.read, pytorch.read_weights):
        if call is checkpoint.read and name.endswith(".ckpt"):
            continue
        assert re.search(words, paragraph(path, call)), call


def test_weights_that_a_wrapper_has_renamed_are_loaded(saved, tmp_path):
    content, wrapped = torch.load(saved, weights_only=True), tmp_path / "wrapped.pt"
    for before in ("module.", "_orig_mod.", "module._orig_mod.", "module.module."):
        weights = {before + key: value for key, value in content["weights"].items()}
        torch.save(content | {"weights": weights}, wrapped)
        assert checkpoint.load(wrapped).state_dict().keys() == content["weights"].keys()
    inside = {
        key.replace("backbone.", "backbone._orig_mod."): value for key, value in content["weights"].items()
    }
    torch.save(content | {"weights": inside}, wrapped)
    assert checkpoint.read(wrapped)["weights"].keys() == content["weights"].keys()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("before", ["", "module.", "_orig_mod."])
def test_bare_weights_of_ours_are_named(tmp_path, name, before):
    settings = {"backbone": "resnet18", "pretrained": None}
    method = checkpoint.build(name, settings, 3)
    path = tmp_path / "weights.pt"
    torch.save({before + key: value for key, value in method.state_dict().items()}, path)
    text = paragraph(path)
    assert f"the weights of our method {name} and nothing else" in text and "last.pt" in text


def test_numpy_numbers_are_read(tmp_path):
    kinds = (np.int64, np.longlong, np.uint64, np.int32, np.float64, np.float32, np.bool_)
    path = tmp_path / "numbers.pt"
    torch.save({"epoch": [kind(3) for kind in kinds], "rows": np.arange(3)}, path)
    read = pytorch.read_pickle(path)
    assert [int(value) for value in read["epoch"]] == [3] * 6 + [1] and read["rows"].tolist() == [0, 1, 2]


def test_a_ckpt_of_a_program_on_pytorch(saved, tmp_path):
    copy = tmp_path / "last.ckpt"
    copy.write_bytes(saved.read_bytes())
    assert checkpoint.load(copy).classes == 5


def test_every_command_reads_its_checkpoint_once(saved, tmp_path, monkeypatch):
    reads = []
    real = pytorch._read_zip
    monkeypatch.setattr(pytorch, "_read_zip", lambda path: reads.append(path) or real(path))
    checkpoint.load(saved)
    assert len(reads) == 1
    ours = tmp_path / "ours.pt"
    checkpoint.save(
        ours, described(name="alignedreid", settings={"backbone": "resnet50", "pretrained": None})
    )
    assert main(["convert", str(ours), str(tmp_path / "official.pth"), "--to", "original"]) == 0
    assert len(reads) == 2
    assert main(["convert", str(tmp_path / "official.pth"), str(tmp_path / "again.pt")]) == 0
    assert len(reads) == 3


def test_convert_says_once_what_was_left_out_for_a_reason(tmp_path, capsys):
    settings = {"backbone": "resnet50", "pretrained": None}
    checkpoint.save(tmp_path / "ours.pt", described(name="agw", settings=settings))
    checkpoint.convert(tmp_path / "ours.pt", tmp_path / "theirs.t", to="original")
    assert main(["convert", str(tmp_path / "theirs.t"), str(tmp_path / "again.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    left_out = [line for line in lines if line.startswith("left out")]
    # The body behind either stem, and the stem before the body.
    assert [line.split(" (")[0] for line in left_out] == ["left out 624 weights", "left out 6 weights"]
    assert left_out[0].endswith(", ...): only the stem of this module is used") and len(lines) == 3


def test_a_method_built_in_python_carries_what_a_loaded_one_does(tmp_path):
    method = checkpoint.build("agw", SMALL, 5)
    assert method.input["size"] == (256, 128) and method.settings == {} == method.trained
    method.input["size"] = (48, 24)
    method.trained = {"identities": 5}
    checkpoint.save(tmp_path / "mine.pt", checkpoint.describe(method, "agw"))
    loaded = checkpoint.load(tmp_path / "mine.pt")
    assert loaded.input["size"] == [48, 24] and loaded.trained == {"identities": 5} and loaded.settings == {}
    assert set(loaded.input) == set(method.input) == {"size", "interpolation", "mean", "std"}


def test_the_words_of_convert_are_explained(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in ("checkpoint one of a published system", "out the file to write", "whose form is written"):
        assert words in said


def test_what_is_ours_already_is_not_converted(saved, tmp_path, capsys):
    for name in (str(saved), "small"):
        assert main(["convert", name, str(tmp_path / "x.pt")]) == 2
        said = capsys.readouterr().err
        assert f"{name} is a checkpoint of crossreid already" in said and "--to original" in said
        assert not (tmp_path / "x.pt").exists()


def test_weights_of_another_method_or_other_settings(saved, tmp_path):
    content = torch.load(saved, weights_only=True)
    other = tmp_path / "other.pt"
    for change, words in (
        ({"config": content["config"] | {"attention": False}}, ["are unknown", "nonlocal"]),
        ({"config": content["config"] | {"streams": 2}}, ["are missing"]),
        ({"classes": 7}, ["another shape", "classifier"]),
        ({"method": "alignedreid", "config": {"backbone": "tiny", "pretrained": None}}, ["AlignedReID"]),
        ({"method": "nobody"}, ["'nobody'", "agw"]),
        ({"config": content["config"] | {"colour": 1}}, ["'colour'"]),
    ):
        torch.save(content | change, other)
        with pytest.raises(UserError) as error:
            checkpoint.load(other)
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value), error.value


def test_starting_from_the_weights_of_other_identities(saved, tmp_path):
    new = checkpoint.build("agw", SMALL, classes=9)
    before = {key: value.clone() for key, value in new.state_dict().items()}
    fresh = checkpoint.init_from(new, saved)
    assert fresh == ["classifier.weight"]
    weights = checkpoint.read(saved)["weights"]
    for key, value in new.state_dict().items():
        assert torch.equal(value, before[key] if key in fresh else weights[key]), key
    same = checkpoint.build("agw", SMALL, classes=5)
    assert checkpoint.init_from(same, saved) == []
    with pytest.raises(UserError, match="holds the method AGW, this run trains AlignedReID"):
        checkpoint.init_from(
            checkpoint.build("alignedreid", {"backbone": "tiny", "pretrained": None}, 5), saved
        )
    with pytest.raises(UserError, match="other settings"):
        checkpoint.init_from(checkpoint.build("agw", SMALL | {"attention": False}, 9), saved)


def test_centers_need_not_be_in_the_weights_that_a_run_starts_from(tmp_path):
    plain = {"backbone": "tiny", "pretrained": None}
    settings = plain, plain | {"losses": ["cross_entropy", "triplet", {"name": "center", "weight": 0.0005}]}
    for first, second, fresh in ((*settings, ["centers"]), (*settings[::-1], [])):
        torch.manual_seed(len(fresh))
        checkpoint.save(
            tmp_path / "last.pt", checkpoint.describe(checkpoint.build("baseline", first, 5), "baseline")
        )
        new = checkpoint.build("baseline", second, 5)
        assert checkpoint.init_from(new, tmp_path / "last.pt") == fresh
        weights = checkpoint.read(tmp_path / "last.pt")["weights"]
        assert all(
            torch.equal(value, weights[key]) for key, value in new.state_dict().items() if key not in fresh
        )


def test_values_become_plain(tmp_path):
    settings = config.resolve({"method": {"name": "agw", "pretrained": None}})
    plain = checkpoint.plain({"data": settings.data, "path": tmp_path, "pair": (1, (2, 3))})
    assert (
        plain["data"]["size"] == [256, 128]
        and plain["path"] == str(tmp_path)
        and plain["pair"] == [1, [2, 3]]
    )
    assert plain["data"]["loaders"]["train"]["sampler"] == "identity"
