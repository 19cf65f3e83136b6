"""Files are written whole or not at all, and places that take none are named, before long work where there is some."""

import errno
import os

import pytest

from crossreid import checkpoint, files
from crossreid.__main__ import main
from crossreid.bundled import MODELS
from crossreid.files import check_folder, replacing, write_json
from crossreid.records import UserError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    return path


def failed(capsys, *words):
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_leftovers_of_dead_processes_go_and_those_of_others_stay(tmp_path):
    for name in (
        ".set.999999999.part",
        f".set.{os.getpid()}.part",
        ".other.999999999.part",
        ".set.words.part",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"x")
    files.clear_dead(tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f".set.{os.getpid()}.part", ".other.999999999.part", ".set.words.part"]
    )


def test_a_file_that_cannot_be_opened_or_replaced_is_named(tmp_path, file):
    (tmp_path / "folder").mkdir()
    for path, why in (
        (tmp_path / "none" / "a.json", "No such file"),
        (file / "a.json", "Not a directory"),
        (tmp_path / "folder", "s a directory"),
    ):
        with pytest.raises(UserError, match=f"^{path} could not be written .*{why}.*choose another place$"):
            write_json(path, 1)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("2 of 3 written")]
)
def test_a_full_disk_asks_for_room_and_is_still_an_error_of_the_system(file, error):
    with pytest.raises(UserError, match=r"file could not be written .*: make room there") as raised:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise error
    assert isinstance(raised.value, OSError) and raised.value.errno == error.errno
    assert file.read_text() == "before" and os.listdir(file.parent) == ["file"]


def test_errors_of_other_files_stay_what_they_are(tmp_path, file):
    with pytest.raises(FileNotFoundError, match="other"), replacing(file):
        open(tmp_path / "other")
    with pytest.raises(UserError, match="inner could not be written"), replacing(file):
        write_json(tmp_path / "none" / "inner", 1)
    assert file.read_text() == "before"


def test_a_folder_is_made_or_refused(tmp_path, file, monkeypatch):
    check_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a") == ["b"] and not os.listdir(tmp_path / "a" / "b")
    for folder, why in ((file, "it is a file"), (file / "a", "Not a directory")):
        with pytest.raises(UserError, match=f"^{folder} cannot be written to .{why}"):
            check_folder(folder)


def test_commands_name_the_place_before_their_work(trained, market, file, capsys, monkeypatch):
    def work(*_, **__):
        raise AssertionError("the work was begun")

    for place in (
        "report.page.sections",
        "export.writing.Trained",
        "synthetic.writing._render_all",
        "images.decode.decode",
        "originals.to_original",
    ):
        monkeypatch.setattr(f"crossreid.{place}", work)
    model = trained / "last.pt"
    for words in (
        ("report", trained, "--out", file / "page.html"),
        ("report", trained, "--out", file.parent / "page.html", "--figures", file),
        ("export", model, file / "model"),
        ("data", "make", "market1501", file / "people"),
        ("convert", model, file / "theirs.t", "--to", "original"),
    ):
        assert f"{file} cannot be written to" in failed(capsys, *words)

    def denied(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    for option in ("--html", "--csv"):
        out = file.with_suffix(option.replace("--", "."))
        said = failed(capsys, "search", model, "a.jpg", "--gallery", "g", option, out)
        assert f"{file.parent} cannot be written to (Permission denied)" in said
    assert os.listdir(file.parent) == ["file"]


def test_a_checkpoint_that_cannot_be_saved_gives_the_reason_once(file):
    with pytest.raises(
        UserError, match=r"could not save .*last.pt: Not a directory; there was none"
    ) as error:
        checkpoint.save(file / "last.pt", checkpoint.read(MODELS["small"]))
    assert "another place" not in str(error.value)
