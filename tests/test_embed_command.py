"""Many images to one file: what is found, what is written, and that a stopped run goes on to the same file."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import crossreid
from crossreid import embedder, embedding_files
from crossreid.__main__ import main
from crossreid.embedding_files import embed_files, part_of
from crossreid.images import reading
from crossreid.images.listing import listed, name_of
from crossreid.images.reading import unreadable
from crossreid.records import Embedding, Metric, UserError


class Colours:
    """An embedder without a network: what is left of an image at 3 x 2 pixels, signed by its modality."""

    dimension, fingerprint, name, feature, device = 18, "ab" * 32, "colours", "pixels", "cpu"
    runtime = "torch"
    stripes, metrics = None, {"pixels": Metric("cosine")}
    size, interpolation = (3, 2), "bilinear"
    modalities: tuple = ("visible",)
    stop_at = None

    def __init__(self, *_):
        self.calls = []

    def embed(self, images, modality=None):
        self.calls.append(len(images))
        if self.stop_at is not None and len(self.calls) > self.stop_at:
            raise KeyboardInterrupt
        vectors = np.stack([np.asarray(each, np.float32).reshape(-1) + 1 for each in images])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if modality is not None:
            vectors[np.array(modality) == "infrared"] *= -1
        return Embedding(vectors)


def make(folder, count=30, seed=0):
    """Images 000.png, 001.png, ... of all different content."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        PILImage.fromarray(rng.integers(0, 256, (12, 8, 3), np.uint8)).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture
def people(tmp_path):
    return make(tmp_path / "people")


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def same(one, other):
    one, other = load(one), load(other)
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


# Finding


def test_folders_patterns_files_and_tables(tmp_path, people, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (people / "deeper").mkdir()
    (people / "000.png").rename(people / "deeper" / "a.JPEG")
    (people / "notes.txt").write_text("no image")
    (people / ".hidden.png").write_text("no image")
    (people / ".cache").mkdir()
    (people / ".cache" / "b.png").write_text("no image")
    (people / "deeper" / "round").symlink_to(people, target_is_directory=True)
    names = [f"people/{number:03}.png" for number in range(1, 30)]
    passed_over = r"people: passed over, .*: 1 file \(.txt 1\), the first is notes.txt"
    with pytest.warns(UserWarning, match=passed_over):
        found = listed(["people"])
    assert [Path(name_of(image)).as_posix() for image in found] == [*names, "people/deeper/a.JPEG"]
    assert [Path(name_of(image)).as_posix() for image in listed(["people/00*.png"])] == names[:9]
    (people / "deeper" / "round").unlink()
    assert len(listed(["people/**/*"])) == 30
    with pytest.warns(UserWarning, match=passed_over):
        assert len(listed([people, "people", "people/001.png", "people/00*.png"])) == 30
    Path("table.csv").write_text("\ufeffPath;Modality;x0;y0;x1;y1;Camera\npeople/001.png;;;;;;3\n"
                                 "people/001.png;infrared;1;2;5;7.6;4\n\n", encoding="utf-8")  # fmt: skip
    one, two = listed(["table.csv"], "visible")
    assert (one.modality, one.box, one.camera) == ("visible", None, 3)
    assert one.extra == {"path": "people/001.png", "camera": "3"}
    assert (two.modality, two.box, two.path) == ("infrared", (1, 2, 5, 8), Path("people/001.png"))


def test_sources_without_images_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for source, words in (
        (tmp_path / "empty", "empty holds no images"),
        (tmp_path / "none", "nothing at"),
        (tmp_path / "*.png", "no image fits the pattern"),
        (tmp_path / "none.csv", "cannot be opened"),
    ):
        with pytest.raises(UserError, match=words):
            listed([source])


# Writing


def table(tmp_path, people):
    path = tmp_path / "table.csv"
    lines = ["path,identity,camera,score,modality,x0,y0,x1,y1"]
    lines += [
        f"people/{n:03}.png,{n // 3},{n % 3},0.5,{'infrared' if n % 2 else 'visible'},,,," for n in range(20)
    ]
    lines += ["people/020.png,7,1,1e3,visible,0,0,4,6", "people/020.png,7,1,2,visible,4,6,8,12"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "texts, kind",
    [
        (["1", "-2"], "i"),
        (["1", "2.5"], "f"),
        (["1_2", "12"], "U"),
        (["9" * 25, "9" * 24 + "8"], "U"),
        (["a"], "U"),
    ],
)
def test_different_names_stay_different_in_npz(texts, kind):
    found = embedding_files._numbers(texts)
    assert found.dtype.kind == kind and len(set(found.tolist())) == len(texts)


def test_npz_holds_vectors_and_all_columns(tmp_path, people):
    with pytest.warns(UserWarning, match="score: columns of your own"):
        rows, model = listed([table(tmp_path, people)]), Colours()
    out = tmp_path / "deep" / "er" / "v.npz"
    done = embed_files(rows, model, out, batch=8)
    assert model.calls == [8, 8, 6] and (done.rows, done.kept, done.skipped) == (22, 0, [])
    found = load(out)
    frames = [np.asarray(PILImage.open(row.path)) for row in rows]
    frames[20], frames[21] = frames[20][:6, :4], frames[21][6:, 4:]
    from crossreid.images.resize import fit

    pixels = [fit(frame, (3, 2), "bilinear") for frame in frames]
    assert (found["vectors"] == Colours().embed(pixels, [row.modality for row in rows]).feature).all()
    assert found["vectors"].dtype == np.float32 and list(found["path"][:2]) == [
        "people/000.png",
        "people/001.png",
    ]
    assert found["identity"].dtype.kind == "i" and list(found["identity"][:6]) == [0, 0, 0, 1, 1, 1]
    assert found["score"].dtype.kind == "f" and found["score"][20] == 1000
    assert list(found["modality"][:2]) == ["visible", "infrared"]
    assert found["box"][0].tolist() == [-1] * 4 and found["box"][21].tolist() == [4, 6, 8, 12]
    assert (found["feature"], found["fingerprint"], found["model"]) == ("pixels", "ab" * 32, "colours")
    assert len(found["skipped"]) == 0
    assert sorted(os.listdir(out.parent)) == ["v.npz"]


def test_csv_and_npy_hold_the_same(tmp_path, people):
    with pytest.warns(UserWarning, match="score: columns of your own"):
        rows = listed([table(tmp_path, people)])
    (people / "005.png").write_bytes((people / "005.png").read_bytes()[:60])
    for name in ("v.npz", "v.csv", "v.npy"):
        done = embed_files(rows, Colours(), tmp_path / name, skip_bad=True)
        assert done.rows == 21 and [each for each, _ in done.skipped] == ["people/005.png"]
    found = load(tmp_path / "v.npz")
    assert list(found["skipped"]) == ["people/005.png"] and "not a readable image" in found["reasons"][0]
    assert (np.load(tmp_path / "v.npy") == found["vectors"]).all()
    with open(tmp_path / "v.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    numbers = np.array([[line[f"v{column}"] for column in range(18)] for line in lines], np.float32)
    assert (numbers == found["vectors"]).all()
    assert [line["path"] for line in lines] == list(found["path"]) and lines[20]["y1"] == "12"
    assert list(lines[0])[:9] == [
        "path",
        "identity",
        "camera",
        "score",
        "modality",
        "x0",
        "y0",
        "x1",
        "y1",
    ] or (set(lines[0]) >= {"path", "identity", "camera", "score", "modality", "x0", "y0", "x1", "y1"})
    with open(tmp_path / "v.npy.rows.csv", newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == list(found["path"])
    for name in ("v.csv", "v.npy"):
        assert "people/005.png" in (tmp_path / f"{name}.skipped.csv").read_text()
    make(people)
    embed_files(rows, Colours(), tmp_path / "v.csv")
    assert not (tmp_path / "v.csv.skipped.csv").exists()


def test_outputs_that_cannot_be_written_are_told_first(tmp_path, people, monkeypatch):
    rows = listed([people])
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    for out, words in (
        (tmp_path / "v.txt", "expected .npz, .csv, .npy"),
        (tmp_path / "v", "ends in nothing"),
        (tmp_path / "folder.npz", "is a folder"),
        (tmp_path / "file" / "v.npz", "file cannot be written to .it is a file"),
    ):
        with pytest.raises(UserError, match=words):
            embed_files(rows, Colours(), out)

    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    with pytest.raises(UserError, match=r"cannot be written to .Permission denied"):
        embed_files(rows, Colours(), tmp_path / "v.npz")


def test_columns_that_the_output_needs_are_refused(tmp_path, people):
    (tmp_path / "t.csv").write_text("path,vectors\npeople/000.png,1\n")
    with pytest.warns(UserWarning, match="vectors: columns of your own"):
        rows = listed([tmp_path / "t.csv"])
    with pytest.raises(UserError, match="column 'vectors'"):
        embed_files(rows, Colours(), tmp_path / "v.npz")


def test_a_table_with_times_junk_and_columns_of_its_owner(tmp_path, people, capsys, monkeypatch):
    monkeypatch.setattr(embedder, "Embedder", Colours)
    (tmp_path / "t.csv").write_text(
        "path\tidentity\ttime\tclothes\npeople/000.png\t7\t2025-06-01T12:00:00\tred\n"
        "people/001.png\t-1\t\tblue\npeople/002.png\t8\t\t\n"
    )
    words = ["embed", "none.pt", str(tmp_path / "t.csv"), "--out"]
    assert main([*words, str(tmp_path / "v.npz")]) == 0
    said = capsys.readouterr().err
    assert "1 of 3 images have the identity -1" in said and "clothes: columns of your own" in said
    found = load(tmp_path / "v.npz")
    assert found["identity"].tolist() == [7, 8] and found["clothes"].tolist() == ["red", ""]
    assert found["time"][0] == 1748779200 and np.isnan(found["time"][1])
    assert main([*words, str(tmp_path / "v.csv"), "--keep-junk"]) == 0
    with open(tmp_path / "v.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["identity"], line["time"]) for line in lines] == [
        ("7", "1748779200.0"),
        ("-1", ""),
        ("8", ""),
    ]


# Bad images


def test_bad_headers_are_found_before_and_bad_bodies_on_the_way(tmp_path, people):
    whole = (people / "004.png").read_bytes()
    (people / "002.png").write_bytes(b"nothing")
    (people / "003.png").write_bytes(b"")
    (people / "004.png").write_bytes(whole[: len(whole) // 2])
    rows = listed([people])
    assert {number: str(rows[number].path) in text for number, text in unreadable(rows).items()} == {
        2: True,
        3: True,
    }
    with pytest.raises(UserError, match=r"002.png.* 0 of 30 vectors are kept .*--skip-bad"):
        embed_files(rows, Colours(), tmp_path / "v.npz", batch=4)
    done = embed_files(rows, Colours(), tmp_path / "v.npz", skip_bad=True, batch=4)
    assert done.rows == 27 and [Path(name).name for name, _ in done.skipped] == [
        "002.png",
        "003.png",
        "004.png",
    ]
    for path in people.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no image can be read"):
        embed_files(rows, Colours(), tmp_path / "w.npz", skip_bad=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people", "v.npz"]


def test_boxes_outside_are_bad_images(tmp_path, people):
    (tmp_path / "t.csv").write_text("path,x0,y0,x1,y1\npeople/000.png,0,0,4,4\npeople/000.png,90,90,99,99\n")
    rows = listed([tmp_path / "t.csv"])
    with pytest.raises(UserError, match=r"people/000.png: the box .90, 90, 99, 99. lies outside"):
        embed_files(rows, Colours(), tmp_path / "v.npz")
    assert embed_files(rows, Colours(), tmp_path / "v.npz", skip_bad=True).rows == 1


# Modality


def test_modality_is_given_or_guessed_and_never_made_up(tmp_path, people):
    model = Colours()
    model.modalities = ("visible", "infrared")
    with pytest.raises(UserError, match=r"000.png and 29 others .*--modality"):
        embed_files(listed([people]), model, tmp_path / "v.npz")
    embed_files(listed([people], "infrared"), model, tmp_path / "v.npz")
    found = load(tmp_path / "v.npz")
    assert (found["vectors"] < 0).all() and set(found["modality"]) == {"infrared"}
    for camera in (1, 3):
        make(tmp_path / f"cam{camera}")
        (tmp_path / f"cam{camera}" / "0001").mkdir()
        (tmp_path / f"cam{camera}" / "000.png").rename(tmp_path / f"cam{camera}" / "0001" / "0001.png")
    embed_files(listed([tmp_path / "cam1" / "0001", tmp_path / "cam3" / "0001"]), model, tmp_path / "w.npz")
    assert list(load(tmp_path / "w.npz")["modality"]) == ["visible", "infrared"]


def test_modalities_have_the_words_that_data_sets_use_for_them(tmp_path):
    words = ["rgb", "VIS", "visible", "ir", "NIR", "thermal"]
    table = tmp_path / "table.csv"
    table.write_text("path,modality\n" + "".join(f"a.png,{word}\n" for word in words) + "a.png,\n")
    expected = ["visible"] * 3 + ["infrared"] * 4
    assert [row.modality for row in listed([table], "nir")] == expected
    with pytest.raises(UserError, match="modality 'warm' is not known, expected visible or infrared"):
        listed([table], "warm")


# Stopping and going on


@pytest.mark.parametrize("damage", ["none", "torn", "flipped", "first line"])
def test_a_stopped_run_goes_on_to_the_same_file(tmp_path, people, damage):
    rows = listed([people])
    embed_files(rows, Colours(), tmp_path / "whole.npz")
    stopped, out = Colours(), tmp_path / "v.npz"
    stopped.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        embed_files(rows, stopped, out, batch=4)
    assert not out.exists()
    part = bytearray(part_of(out).read_bytes())
    record = 16 + 18 * 4 + 4
    start = part.index(b"\n") + 1
    assert len(part) == start + 12 * record
    kept = 12
    if damage == "torn":
        part, kept = part[: start + 7 * record + 50], 7
    elif damage == "flipped":
        part[start + 3 * record + 20] ^= 1
        kept = 3
    elif damage == "first line":
        part, kept = part[:9], 0
    part_of(out).write_bytes(part)
    model = Colours()
    done = embed_files(rows, model, out, batch=4)
    assert done.kept == kept and sum(model.calls) == 30 - kept
    assert same(out, tmp_path / "whole.npz") and not part_of(out).exists()


def test_changed_and_new_images_are_embedded_and_others_kept(tmp_path, people):
    stopped, out = Colours(), tmp_path / "v.npz"
    stopped.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        embed_files(listed([people]), stopped, out, batch=4)
    PILImage.new("RGB", (9, 9), "red").save(people / "002.png")
    PILImage.new("RGB", (9, 9), "blue").save(people / "000a.png")
    (people / "001.png").unlink()
    model = Colours()
    assert embed_files(listed([people]), model, out).kept == 10
    embed_files(listed([people]), Colours(), tmp_path / "whole.npz")
    assert same(out, tmp_path / "whole.npz")


def test_a_part_file_of_another_model_is_refused(tmp_path, people):
    stopped, other, out = Colours(), Colours(), tmp_path / "v.npz"
    stopped.stop_at, other.fingerprint = 1, "cd" * 32
    with pytest.raises(KeyboardInterrupt):
        embed_files(listed([people]), stopped, out, batch=4)
    before = part_of(out).read_bytes()
    with pytest.raises(UserError, match=r"v.npz.part was begun with another model"):
        embed_files(listed([people]), other, out)
    assert part_of(out).read_bytes() == before


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_embed_command import Colours, Path, embed_files, listed
class Slow(Colours):
    def embed(self, *words, **more):
        time.sleep(0.05)
        return super().embed(*words, **more)
{limit}
embed_files(listed([{people!r}]), Slow(), Path({out!r}), batch=1)
"""


def slow(tmp_path, people, limit=""):
    tests = str(Path(__file__).parent)
    code = SLOW.format(tests=tests, people=str(people), out=str(tmp_path / "v.npz"), limit=limit)
    return [sys.executable, "-c", code]


def test_a_killed_process_loses_nothing_it_had_finished(tmp_path, people):
    out = tmp_path / "v.npz"
    process = subprocess.Popen(slow(tmp_path, people))
    patience = time.monotonic() + 60
    while time.monotonic() < patience and (not part_of(out).exists() or part_of(out).stat().st_size < 800):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not out.exists()
    done = embed_files(listed([people]), Colours(), out)
    assert 5 <= done.kept < 30
    embed_files(listed([people]), Colours(), tmp_path / "whole.npz")
    assert same(out, tmp_path / "whole.npz")


def test_a_full_disk_is_told_and_what_was_made_is_kept(tmp_path, people, monkeypatch):
    out = tmp_path / "v.npz"
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))"
    failed = subprocess.run(slow(tmp_path, people, limit), capture_output=True, text=True)
    assert "v.npz.part could not be written" in failed.stderr and "UserError" in failed.stderr
    assert part_of(out).stat().st_size == 1500  # the last record is torn

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(UserError, match=r"No space left on device.*kept in"):
            embed_files(listed([people]), Colours(), out)
    assert not out.exists()
    assert embed_files(listed([people]), Colours(), out).kept == 30


# The command


@pytest.fixture
def model(tmp_path):
    from crossreid import checkpoint  # here, to leave torch to the tests that need it

    method = checkpoint.build("agw", {"backbone": "tiny", "pretrained": None, "streams": 1}, classes=4)
    about = {"size": [48, 24], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
    path = tmp_path / "model.pt"
    checkpoint.save(path, checkpoint.describe(method, "agw", input=about, settings={}, trained={"epoch": 1}))
    return path


def test_the_command_gives_what_the_embedder_gives(tmp_path, people, model, capsys):
    out = tmp_path / "v.npz"
    assert main(["embed", str(model), str(people), "--out", str(out), "--batch", "7"]) == 0
    assert re.search(r"30 vectors of 128 numbers .30 in \d+\.\d s, \d+ a second.", capsys.readouterr().out)
    embed, found = crossreid.Embedder(model), load(out)
    assert found["vectors"] == pytest.approx(embed(sorted(people.iterdir())), abs=1e-6)
    assert found["fingerprint"] == embed.fingerprint


def test_the_command_stops_at_bad_images_before_the_model_is_loaded(tmp_path, people, monkeypatch, capsys):
    monkeypatch.setattr(embedder, "Embedder", None)
    words = ["embed", "none.pt", str(people), "--out", str(tmp_path / "v.npz")]
    for number in range(7):
        (people / f"{number:03}.png").write_bytes(b"")
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "7 of 30 images cannot be read" in told and "and 2 more" in told and "--skip-bad" in told
    assert told.count("\n") == 1
    monkeypatch.setattr(embedder, "Embedder", Colours)
    assert main([*words, "--skip-bad"]) == 0
    assert "left out 7 of 30 images, listed in" in capsys.readouterr().err
    assert len(load(tmp_path / "v.npz")["skipped"]) == 7
    (tmp_path / "t.csv").write_text("path\npeople/009.png\n")
    assert main(["embed", "none.pt", str(tmp_path / "t.csv"), "--out", str(tmp_path / "t.csv")]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main([*words, "--batch", "0"]) == 2


def test_interrupting_the_command_says_how_to_go_on(tmp_path, people, monkeypatch, capsys):
    class Stopped(Colours):
        stop_at = 2

    words = ["embed", "none.pt", str(people), "--out", str(tmp_path / "v.npz"), "--batch", "5"]
    monkeypatch.setattr(embedder, "Embedder", Stopped)
    assert main(words) == 130
    assert "kept in" in capsys.readouterr().err and part_of(tmp_path / "v.npz").exists()
    monkeypatch.setattr(embedder, "Embedder", Colours)
    assert main(words) == 0
    assert "; 10 of them by an earlier run)" in capsys.readouterr().out


def test_no_more_than_a_few_frames_are_held(tmp_path, people, monkeypatch):
    """Decoding runs ahead of a slow network by a bounded number of images."""
    started, gap = [], []
    decode = reading.frame
    monkeypatch.setattr(reading, "frame", lambda path: started.append(path) or decode(path))
    monkeypatch.setattr(reading, "THREADS", 1)

    class Watching(Colours):
        def embed(self, images, modality=None):
            time.sleep(0.02)
            gap.append(len(started) - sum(self.calls))
            return super().embed(images, modality)

    embed_files(listed([people]), Watching(), tmp_path / "v.npz", batch=2)
    assert max(gap) <= 8 + 1 + 2 and min(gap[:5]) > 2


def test_no_torch_is_needed_for_the_files():
    code = "import crossreid.embedding_files, crossreid.commands.embed, sys; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"


def test_addresses_are_read_like_folders(memory, tmp_path, people, capsys):
    """As s3:// and others are, by fsspec; here a folder that has an address, and a store in memory."""
    (people / ".hidden.png").write_bytes(b"x")
    (people / "b").mkdir()
    (people / "b" / "1.png").write_bytes((people / "003.png").read_bytes())
    (people / "005.png").write_bytes(b"no image")
    (people / "table.csv").write_text("path,identity\n001.png,anna\nb/1.png,bert\n")
    memory.put(str(people), "/shop", recursive=True)
    with pytest.warns(UserWarning, match="passed over, not being named like images: 1 file"):
        here = listed([people])
    for address in (f"file://{people}", "memory://shop"):
        there = listed([address])
        assert [str(image.path) for image in there] == [
            str(image.path).replace(str(people), address) for image in here
        ]
        embed_files(here, Colours(), tmp_path / "here.npz", skip_bad=True)
        embed_files(there, Colours(), tmp_path / "there.npz", skip_bad=True)
        assert np.array_equal(load(tmp_path / "here.npz")["vectors"], load(tmp_path / "there.npz")["vectors"])
        assert list(unreadable(there)) == list(unreadable(here)) == [5]
        assert listed([f"{address}/00[12].png"]) == there[1:3]
        assert [image.path for image in listed([f"{address}/table.csv"])] == [
            there[1].path,
            there[-1].path,
        ]
        with pytest.raises(UserError, match="holds no images"):
            listed([f"{address}/nowhere"])
        # A text is a file's name, of whatever form, until a user gives it as a source.
        with pytest.raises(UserError, match="cannot be opened"):
            crossreid.images.decode.decode(f"{address}/001.png")
    with pytest.raises(UserError, match="is an address that cannot be reached"):
        listed(["nothing://shop/people"])
