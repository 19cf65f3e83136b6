"""crossreid index, search and gallery, with a stand-in for the model: an image's vector is its colours."""

import csv
import io
import json
import os
import re
import sys
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image as PILImage

import crossreid.embedder
from crossreid.__main__ import main
from crossreid.commands import gallery as gallery_command
from crossreid.gallery import Filter, Gallery
from crossreid.gallery.indexing import fill, of_images
from crossreid.images.timestamps import days, timestamp, written
from crossreid.records import Image, UserError

pytest.importorskip("lancedb")


class Colours:
    """Like an Embedder: vectors of four by two cells of colour."""

    dimension, fingerprint, modalities, name = 24, "c" * 64, ("visible",), "colours"
    trained: ClassVar[dict] = {}
    size, interpolation, device, runtime = (48, 24), "bilinear", "cpu", "torch"
    made = 0

    def __init__(self, path="toy.pt", device="cpu", batch=64, feature=None):
        self.batch = batch

    def __call__(self, images, modality=None, boxes=None):
        Colours.made += len(images)
        cells = [
            np.asarray(PILImage.fromarray(array).resize((2, 4), PILImage.Resampling.BOX)) for array in images
        ]
        vectors = np.stack(cells).reshape(len(cells), -1).astype(np.float32) - 127.3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Two(Colours):
    modalities = ("visible", "infrared")
    fingerprint = "d" * 64


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(crossreid.embedder, "Embedder", Colours)
    monkeypatch.setattr(Colours, "made", 0)


@pytest.fixture
def shop(tmp_path):
    """Six people with three images each, and one that is broken."""
    random = np.random.default_rng(0)
    for person in range(6):
        cells = random.integers(0, 255, (4, 2, 3), dtype=np.uint8)
        for number in range(3):
            pixels = cells.repeat(12, 0).repeat(12, 1).astype(int) + random.integers(-9, 9, (48, 24, 3))
            folder = tmp_path / "shop" / f"till {number}"
            folder.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{person}.png")
    (tmp_path / "shop" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return tmp_path / "shop"


@pytest.fixture
def table(shop):
    """All readable images of the shop with what is known of them."""
    with open(shop / "all.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "camera", "time", "identity", "modality", "weather"])
        for path in sorted(shop.rglob("*.png")):
            number, person = int(path.parent.name[-1]), path.stem
            when = f"2025-11-{10 + number}T0{number}:30:00"
            modality = "infrared" if number == 2 else ""
            writer.writerow(
                [
                    path.relative_to(shop),
                    f"till {number}",
                    when,
                    f"person {person}",
                    modality,
                    "sun" * (number == 1),
                ]
            )
    return shop / "all.csv"


def run(capsys, *words, code=0):
    assert main([str(word) for word in words]) == code
    return capsys.readouterr()


def test_a_folder_goes_in_once_and_a_broken_image_is_reported(shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    said = run(capsys, "index", "toy.pt", shop, "--gallery", place, "--camera", "front")
    assert "18 images added; it holds 18" in said.out
    assert "left out 1 of 19 images" in said.err and "broken.jpg" in said.err
    assert "visible or infrared" not in said.err  # the model makes no difference
    assert Colours.made == 18
    # Copies under other names are the same images, and nothing is embedded twice.
    (shop / "copy.png").write_bytes((shop / "till 0" / "3.png").read_bytes())
    said = run(capsys, "index", "toy.pt", shop, "--gallery", place)
    assert "0 images added, 19 were there already or came twice" in said.out and Colours.made == 18
    with Gallery.open(place) as gallery:
        info = gallery.info()
        assert (info.entries, info.model, info.fingerprint) == (18, "colours", "c" * 64)
        assert info.cameras == ("front",)
        entry = next(entry for entry in gallery.entries() if entry.path.endswith("3.png"))
        assert entry.path == str((shop / "till 0" / "3.png").absolute())
        small = gallery.image(entry.key)
        assert small.startswith(b"\xff\xd8") and len(small) < 5000


def test_features_that_tell_nothing_apart_are_said(shop, tmp_path, capsys, monkeypatch):
    class Constant(Colours):
        def __call__(self, images, **words):
            return np.tile(np.eye(1, 24, dtype=np.float32), (len(images), 1))

    monkeypatch.setattr(crossreid.embedder, "Embedder", Constant)
    said = run(capsys, "index", "toy.pt", shop, "--gallery", tmp_path / "gallery")
    assert "18 images added" in said.out and "All 18 features are equal" in said.err


def test_a_stopped_run_goes_on(shop, tmp_path, capsys, monkeypatch):
    place = tmp_path / "gallery"

    class Stopping(Colours):
        def __call__(self, images, **words):
            if Colours.made >= 8:
                raise KeyboardInterrupt
            return super().__call__(images, **words)

    monkeypatch.setattr(crossreid.embedder, "Embedder", Stopping)
    monkeypatch.setattr("crossreid.gallery.indexing.ADD", 4)
    said = run(capsys, "index", "toy.pt", shop, "--gallery", place, "--batch", "4", code=130)
    assert "give the same command again" in said.err
    monkeypatch.setattr(crossreid.embedder, "Embedder", Colours)
    said = run(capsys, "index", "toy.pt", shop, "--gallery", place)
    assert "7 images added, 11 were there already" in said.out and Colours.made == 18


def test_a_table_tells_cameras_times_people_and_more(table, shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    words = ("index", "toy.pt", table, "--gallery", place, "--root", shop, "--no-thumbnails")
    run(capsys, *words)
    with Gallery.open(place) as gallery:
        info = gallery.info()
        assert info.entries == 18 and info.cameras == ("till 0", "till 1", "till 2")
        assert info.modalities == ("infrared", "visible") and info.columns == ("weather",)
        assert written(info.first) == "2025-11-10 00:30:00" and written(info.last) == "2025-11-12 02:30:00"
        (entry,) = gallery.entries(Filter(identities=("person 4",), cameras=("till 1",)))
        assert (entry.path, entry.columns) == ("till 1/4.png", {"weather": "sun"})
        assert gallery.image(entry.key) is None

    query = shop / "till 0" / "2.png"
    said = run(capsys, "search", "toy.pt", query, "--gallery", place, "--top", "5")
    lines = said.out.splitlines()
    assert lines[0].split() == ["rank", "distance", "identity", "camera", "modality", "time", "path"]
    assert re.match(r" +1 +0\.0000 +person 2 +till 0 +visible +2025-11-10 00:30:00 +till 0/2\.png$", lines[1])
    assert len(lines) == 6 and all("person 2" in line for line in lines[1:4])

    for given, count, holds in (
        (["--modality", "infrared"], 6, lambda hit: hit["modality"] == "infrared"),
        (["--camera", "till 0", "till 1"], 12, lambda hit: hit["camera"] != "till 2"),
        (["--since", "2025-11-11", "--until", "2025-11-12"], 6, lambda hit: hit["camera"] == "till 1"),
        (["--until", "2025-11-11T01:30:00+00:00"], 6, lambda hit: hit["camera"] == "till 0"),
        (["--identity", "person 3", "person 5"], 6, lambda hit: hit["identity"] in ("person 3", "person 5")),
        (["--column", "weather=sun"], 6, lambda hit: hit["columns"] == {"weather": "sun"}),
        (["--camera", "' OR 1=1 --"], 0, None),
        (["--rerank", "--query-modality", "infrared"], 18, lambda hit: True),
    ):
        said = run(capsys, "search", "toy.pt", query, "--gallery", place, "--json", *given)
        hits = json.loads(said.out)
        assert len(hits) == count and all(map(holds or bool, hits)), given
        assert [hit["rank"] for hit in hits] == list(range(1, count + 1))
    said = run(capsys, "search", "toy.pt", query, "--gallery", place, "--camera", "no such")
    assert "no entry of the gallery is within the filter" in said.out


def test_junk_and_impossible_times_do_not_go_in_by_a_table(shop, tmp_path, capsys):
    table, place = shop / "t.csv", tmp_path / "gallery"
    table.write_text("path,identity,clothes\ntill 0/0.png,007,red\ntill 0/1.png,7,\ntill 0/2.png,-1,blue\n")
    said = run(capsys, "index", "toy.pt", table, "--gallery", place)
    assert "2 images added" in said.out and "1 of 3 images have the identity -1" in said.err
    assert "'007' and '7'" in said.err and "clothes: columns of your own" in said.err
    with Gallery.open(place) as gallery:
        entries = gallery.entries(Filter(identities=("7",)))
        assert {entry.columns.get("clothes") for entry in entries} == {"red", None} and len(entries) == 2
    said = run(capsys, "index", "toy.pt", table, "--gallery", place, "--keep-junk")
    assert "1 image added" in said.out
    for when, words in (("1748779200000", "looks like milliseconds"), ("2525-06-01", "lies ahead")):
        table.write_text(f"path,time\ntill 0/0.png,{when}\n")
        assert words in run(capsys, "index", "toy.pt", table, "--gallery", place, code=2).err
        said = run(capsys, "index", "toy.pt", shop, "--gallery", place, "--time", when, code=2)
        assert words in said.err


def test_any_word_for_a_modality_is_understood(shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", shop / "till 0", "--gallery", place, "--modality", "ir")
    said = run(
        capsys,
        "search",
        "toy.pt",
        shop / "till 0" / "1.png",
        "--gallery",
        place,
        "--modality",
        "NIR",
        "--json",
    )
    assert {hit["modality"] for hit in json.loads(said.out)} == {"infrared"}
    with pytest.raises(SystemExit):
        main(["index", "toy.pt", str(shop), "--gallery", str(place), "--modality", "warm"])
    assert "modality 'warm' is not known, expected visible or infrared" in capsys.readouterr().err


def test_lists_as_files(table, shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", table, "--gallery", place)
    nasty = shop / "<b>&.png"
    PILImage.fromarray(np.full((48, 24, 3), 200, np.uint8)).save(nasty)
    run(capsys, "index", "toy.pt", nasty, "--gallery", place, "--camera", "<script>alert(1)</script>")
    files = ("--csv", tmp_path / "list.csv", "--html", tmp_path / "list.html")
    run(capsys, "search", "toy.pt", nasty, "--gallery", place, "--top", "7", *files)
    with open(tmp_path / "list.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == list("1234567")
    assert rows[0]["camera"] == "<script>alert(1)</script>" and float(rows[0]["distance"]) == 0
    assert {row["weather"] for row in rows} <= {"", "sun"} and len(rows[0]["key"]) == 64
    page = (tmp_path / "list.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 8 == page.count("data:image/jpeg;base64,")
    assert (
        "<script>" not in page
        and "&lt;script&gt;" in page
        and "<b>&" not in page
        and "&lt;b&gt;&amp;" in page
    )
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    # Without small copies the files below a folder that is named are read, and no others.
    bare = tmp_path / "bare"
    run(capsys, "index", "toy.pt", table, "--gallery", bare, "--no-thumbnails")
    (shop / "till 0" / "0.png").rename(tmp_path / "moved.png")
    query = tmp_path / "moved.png"
    shown = ("--images", shop, "--html", tmp_path / "bare.html")
    run(capsys, "search", "toy.pt", query, "--gallery", bare, "--top", "3", *shown)
    page = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert page.count("no image") == 1 and page.count("data:image") == 3
    run(capsys, "search", "toy.pt", query, "--gallery", bare, "--top", "3", *shown[2:])
    page = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert page.count("no image") == 3 and page.count("data:image") == 1


def test_people_in_a_frame(tmp_path, capsys):
    random = np.random.default_rng(0)
    frame = random.integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    PILImage.fromarray(frame).save(tmp_path / "frame.png")
    (tmp_path / "boxes.csv").write_text(
        "path,x0,y0,x1,y1,camera\nframe.png,0,0,24,48,a\nframe.png,48,0,72,48,a\nframe.png,500,0,600,48,a\n"
    )
    place = tmp_path / "gallery"
    said = run(capsys, "index", "toy.pt", tmp_path / "boxes.csv", "--gallery", place)
    assert "2 images added" in said.out and "lies outside of the frame" in said.err
    words = ("search", "toy.pt", tmp_path / "frame.png", "--gallery", place, "--json", "--box")
    hits = json.loads(run(capsys, *words, 48, 0, 72, 48).out)
    assert [hit["distance"] < 1e-6 for hit in hits] == [True, False]
    assert hits[0]["columns"] == {"left": 48, "top": 0, "right": 72, "bottom": 48}
    # A number, typed as text.
    (hit,) = json.loads(run(capsys, *words, 0, 0, 24, 48, "--column", "left=48").out)
    assert hit["columns"]["left"] == 48
    with Gallery.open(place) as gallery:
        small = PILImage.open(io.BytesIO(gallery.image(hits[0]["key"])))
        assert small.size == (24, 48)


def test_a_data_set_goes_in_with_its_cameras_and_people(market, tmp_path, capsys):
    place = tmp_path / "gallery"
    words = ("index", "toy.pt", market, "--gallery", place, "--source", "market1501")
    run(capsys, *words, "--split", "gallery")
    with Gallery.open(place) as gallery:
        before = gallery.info().entries
        assert gallery.count(Filter(columns={"split": "gallery"})) == before > 20
        assert set(gallery.info().cameras) == set("123456")
    run(capsys, *words)
    with Gallery.open(place) as gallery:
        assert gallery.count(Filter(columns={"split": "query"})) > 0
        assert gallery.count(Filter(columns={"split": "train"})) == 46
        entry = gallery.entries(Filter(columns={"split": "train"}), count=1)[0]
        assert f"{int(entry.identity):04d}_c{entry.camera}" in entry.path
    run(
        capsys,
        *("index", "toy.pt", market, "--gallery", tmp_path / "all", "--source", "market1501"),
        "--settings.all_images=true",
    )
    with Gallery.open(tmp_path / "all") as gallery:
        assert gallery.count(Filter(columns={"split": "train"})) == gallery.info().entries > 46
    for bad, said in (
        (["--split", "nonsense"], "has no split 'nonsense'"),
        (["--camera", "1"], "knows the cameras"),
        (["--time", "2026-01-01"], "knows the cameras"),
    ):
        assert said in run(capsys, *words, *bad, code=2).err


def test_rows_of_a_prepared_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    images = [Image(tmp_path / "images.npy", row, 1, "infrared", array_index=row) for row in range(3)]
    with Gallery.create(None, dimension=24, fingerprint="c" * 64) as gallery:
        done = fill(gallery, Colours(), of_images({"test": images}), progress=False)
        assert (done.new, done.known, done.bad) == (3, 0, ())
        assert {entry.columns["array_index"] for entry in gallery.entries()} == {0, 1, 2}
        assert gallery.info().modalities == ("infrared",)


def test_models_that_tell_modalities_apart_must_be_told(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(crossreid.embedder, "Embedder", Two)
    place = tmp_path / "gallery"
    said = run(capsys, "index", "toy.pt", shop, "--gallery", place, code=2)
    assert "treats visible and infrared images differently" in said.err and "18 others" in said.err
    run(capsys, "index", "toy.pt", shop / "till 0", "--gallery", place, "--modality", "visible")
    run(capsys, "index", "toy.pt", shop / "till 1", "--gallery", place, "--modality", "infrared")
    folder = tmp_path / "cam3" / "0001"
    folder.mkdir(parents=True)
    (folder / "0001.png").write_bytes((shop / "till 2" / "0.png").read_bytes())
    run(capsys, "index", "toy.pt", tmp_path / "cam3", "--gallery", place)
    with Gallery.open(place) as gallery:
        assert [gallery.count(Filter(modality=name)) for name in ("visible", "infrared")] == [6, 7]
    query = shop / "till 2" / "0.png"
    said = run(capsys, "search", "toy.pt", query, "--gallery", place, code=2)
    assert "--query-modality" in said.err
    run(capsys, "search", "toy.pt", query, "--gallery", place, "--query-modality", "visible")
    said = run(capsys, "search", "toy.pt", folder / "0001.png", "--gallery", place, "--json")
    assert json.loads(said.out)[0]["modality"] == "infrared"
    # The gallery of this model is not for that one.
    monkeypatch.setattr(crossreid.embedder, "Embedder", Colours)
    for words in (("search", "toy.pt", query), ("index", "toy.pt", shop)):
        assert "mean nothing" in run(capsys, *words, "--gallery", place, code=2).err


def test_looking_after_a_gallery(table, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", table, "--gallery", place)
    said = run(capsys, "gallery", "info", place).out
    for words in (
        "entries      18",
        "colours",
        "till 0, till 1, till 2",
        "2025-11-10 00:30:00",
        "search is exact",
    ):
        assert words in said
    for words, said in (
        ([], "say which entries"),
        (["--all", "--camera", "till 0"], "takes no condition"),
        (["--older-than", "30"], "expected a number and"),
        (["--column", "weather"], "NAME=TEXT"),
        (["--since", "yesterday"], "--since 'yesterday'"),
    ):
        assert said in run(capsys, "gallery", "delete", place, *words, code=2).err
    said = run(capsys, "gallery", "delete", place, "--identity", "person 1").out
    assert "3 entries would be deleted; --yes" in said
    said = run(capsys, "gallery", "delete", place, "--identity", "person 1", "--yes").out
    assert "3 entries deleted; none that match is left, and 15 remain" in said
    assert (
        "nothing was deleted: none of the 15 entries fits"
        in run(capsys, "gallery", "delete", place, "--identity", "person 1", "--yes").out
    )
    said = run(capsys, "gallery", "index", place).out
    assert "100.0% of the true first 20" in said
    assert "--approximate" in run(capsys, "gallery", "info", place).out
    query = sorted(table.parent.rglob("*.png"))[0]
    hits = json.loads(
        run(capsys, "search", "toy.pt", query, "--gallery", place, "--approximate", "--json").out
    )
    assert len(hits) == 15
    said = run(capsys, "gallery", "delete", place, "--older-than", "1h", "--yes").out
    old = int(said.split()[0])
    with Gallery.open(place) as gallery:
        assert gallery.info().entries == 15 - old
    run(capsys, "gallery", "delete", place, "--all", "--yes")
    said = run(capsys, "search", "toy.pt", query, "--gallery", place, "--column", "weather=sun", code=2).err
    assert "'weather': choose one of (none)" in said
    assert "the gallery is empty" in run(capsys, "search", "toy.pt", query, "--gallery", place).out
    assert "none known" in run(capsys, "gallery", "info", place).out


def test_the_examples_in_the_help_work(table, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", table, "--gallery", place)
    lines = [line.split() for line in gallery_command.__doc__.splitlines() if "people.gallery" in line]
    assert [line[2] for line in lines] == ["info", "update", "delete", "index"]
    # The index comes before all entries are old enough to be deleted.
    for line in (*lines[:2], lines[3], lines[2]):
        run(capsys, *(place if word == "people.gallery" else word for word in line[1:]))


def test_mistakes_are_one_paragraph(shop, tmp_path, capsys):
    place, query = tmp_path / "gallery", shop / "till 0" / "1.png"
    (tmp_path / "f.csv").mkdir()
    for words, said in (
        (["search", "toy.pt", query, "--gallery", place], "there is no gallery in"),
        (["search", "toy.pt", shop / "broken.jpg", "--gallery", place], "broken.jpg"),
        (
            ["search", "toy.pt", query, "--gallery", place, "--csv", tmp_path / "list.txt"],
            "does not end in .csv",
        ),
        (
            ["search", "toy.pt", query, "--gallery", place, "--html", tmp_path / "no" / "l.html"],
            "does not exist",
        ),
        (["search", "toy.pt", query, "--gallery", place, "--csv", tmp_path / "f.csv"], "is a folder"),
        (["index", "toy.pt", shop, "--gallery", place, "--batch", "0"], "--batch is 0"),
        (["index", "toy.pt", shop, "--gallery", place, "--split", "query"], "--source"),
        (["index", "toy.pt", shop, "--gallery", place, "--settings.all_images", "true"], "with --source"),
        (["index", "toy.pt", shop, "--gallery", place, "--time", "2026"], "a date, but a bare number"),
        (["index", "toy.pt", shop, "--gallery", place, "--time", "20251121"], "write 2025-11-21"),
        (["search", "toy.pt", query, "--gallery", place, "--since", "2027"], "write 2027-01-01"),
        (["index", "toy.pt", shop, "--gallery", place, "--root", tmp_path / "x"], "does not lie below"),
        (["index", "toy.pt", shop / "broken.jpg", "--gallery", place], "no image can be read"),
        (["index", "toy.pt", tmp_path / "none", "--gallery", place], "there is nothing at"),
        (["gallery", "info", tmp_path / "none"], "there is no gallery in"),
    ):
        err = run(capsys, *words, code=2).err
        err = err.removeprefix("the model runs on cpu by torch\n")
        assert said in err and err.count("\n") == 1, words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-1.5", -1.5),
        ("1899", 1899.0),
        ("1795236608", 1795236608.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01 00:00:01.5", 1.5),
    ],
)
def test_timestamps(text, seconds):
    assert timestamp(text) == seconds


def test_timestamps_and_ages_that_mean_nothing():
    for text in ("", "tomorrow", "2026-13-01", "nan", "inf"):
        with pytest.raises(UserError, match="was not understood"):
            timestamp(text)
    for text in ("1900", " 2026 ", "2999"):
        with pytest.raises(UserError, match=f"write {text.strip()}-01-01"):
            timestamp(text)
    for text in ("", "30", "d", "-3d", "3 m", "1e3d"):
        with pytest.raises(UserError, match="was not understood"):
            days(text)
    assert (days("30d"), days("12h"), days("2w"), days("0.5d")) == (30, 0.5, 14, 0.5)
    assert written(None) == "" and written(0) == "1970-01-01 00:00:00" and written(1e30) == "1e+30 s"


def test_names_of_any_kind_pass_through(tmp_path, shop, capsys):
    """Names that are no UTF-8, that a terminal obeys, or that a spreadsheet runs."""
    if sys.platform != "linux":
        pytest.skip("only some systems have such names")
    folder = tmp_path / "names"
    folder.mkdir()
    names = [b"caf\xe9.png", b"\x1b[31m\nred.png", b"=1+1.png", b"@a;b,c.png", b"-2.png"]
    for number, name in enumerate(names):
        PILImage.fromarray(np.full((48, 24, 3), 40 * number, np.uint8)).save(tmp_path / "one.png")
        try:
            os.replace(tmp_path / "one.png", os.fsencode(folder) + b"/" + name)
        except OSError:
            pytest.skip("this file system refuses such names")
    place, query = tmp_path / "gallery", next(path for path in folder.iterdir() if "1+1" in path.name)
    said = run(capsys, "index", "toy.pt", folder, "--gallery", place, "--root", folder, "--no-thumbnails")
    assert "5 images added" in said.out
    files = ("--csv", tmp_path / "l.csv", "--html", tmp_path / "l.html", "--images", folder)
    said = run(capsys, "search", "toy.pt", query, "--gallery", place, *files).out
    assert "\x1b" not in said and len(said.splitlines()) == 6 and "caf\\xe9.png" in said
    assert "\x1b" not in run(capsys, "search", "toy.pt", query, "--gallery", place, "--json").out
    with open(tmp_path / "l.csv", newline="", encoding="utf-8") as file:
        found = {row["path"] for row in csv.DictReader(file)}
    assert found == {"caf\\xe9.png", "\x1b[31m\nred.png", "'=1+1.png", "'@a;b,c.png", "'-2.png"}
    assert (tmp_path / "l.html").read_text(encoding="utf-8").count("data:image") == 6
    files = ("--html", tmp_path / "none.html", "--images", tmp_path / "none")
    assert "is no folder" in run(capsys, "search", "toy.pt", query, "--gallery", place, *files, code=2).err


def test_with_a_trained_model(trained, market, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    model, place = trained / "last.pt", tmp_path / "gallery"
    said = run(
        capsys,
        "index",
        model,
        market,
        "--gallery",
        place,
        "--source",
        "market1501",
        "--split",
        "gallery",
        "query",
    )
    assert "images added" in said.out
    query = sorted((market / "query").glob("*.jpg"))[0]
    identity, camera = re.match(r"(\d+)_c(\d)", query.name).groups()
    hits = json.loads(run(capsys, "search", model, query, "--gallery", place, "--json", "--top", "3").out)
    assert hits[0]["path"] == str(query.absolute()) and hits[0]["distance"] < 1e-5
    assert (hits[0]["identity"], hits[0]["camera"]) == (str(int(identity)), camera)
    vectors = crossreid.Embedder(model)([query, hits[1]["path"]])
    assert hits[1]["distance"] == pytest.approx(1 - vectors[0] @ vectors[1], abs=1e-5)
    with Gallery.open(place) as gallery:
        assert gallery.vector(hits[0]["key"]) == pytest.approx(vectors[0], abs=1e-5)
        assert gallery.info().fingerprint == crossreid.Embedder(model).fingerprint


def test_a_gallery_is_named_as_in_every_other_command(shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", shop / "till 0", "--gallery", place)
    said = run(capsys, "gallery", "info", "--gallery", place).out
    assert "entries" in said and said == run(capsys, "gallery", "info", place).out
    for words in ((), (place, "--gallery", place)):
        assert "crossreid gallery info --gallery PLACE" in run(capsys, "gallery", "info", *words, code=2).err


def test_names_tell_columns_and_the_gallery_remembers_how(shop, tmp_path, capsys):
    place, folder = tmp_path / "gallery", tmp_path / "crops"
    folder.mkdir()
    for at, path in enumerate(sorted(shop.rglob("*.png"))[:4]):
        (folder / f"till{at % 2}_{at:03d}_{1700000000 + at}.png").write_bytes(path.read_bytes())
    pattern = "{camera}_{track}_{time}.png"
    found = run(capsys, "index", "toy.pt", folder, "--gallery", place, "--pattern", pattern)
    assert "4 images added" in found.out
    with Gallery.open(place, read_only=True) as gallery:
        entries = sorted(gallery.entries(), key=lambda entry: entry.time)
        assert [(each.camera, each.columns["track"], each.time) for each in entries][1] == (
            "till1",
            "001",
            1700000001,
        )
    # The next images are read by the same pattern; names that it does not fit say nothing.
    more = sorted(shop.rglob("*.png"))[5]
    (folder / "till7_009_1700000009.png").write_bytes(more.read_bytes())
    (folder / "holiday.png").write_bytes(sorted(shop.rglob("*.png"))[6].read_bytes())
    found = run(capsys, "index", "toy.pt", folder, "--gallery", place)
    assert "2 images added" in found.out and "1 of 6 names do not fit the pattern" in found.err
    with Gallery.open(place, read_only=True) as gallery:
        assert "till7" in gallery.info().cameras
    for words, expected in (
        (["--pattern", "{camera}-{track}.png"], "does not fit"),
        (["--pattern", "nothing"], "no named groups"),
        (["--pattern", "(", "--camera", "1"], "no named groups|not a regular expression"),
    ):
        assert re.search(
            expected, run(capsys, "index", "toy.pt", folder, "--gallery", place, *words, code=2).err
        )


def test_columns_are_changed_without_embedding_again(shop, tmp_path, capsys):
    place = tmp_path / "gallery"
    run(capsys, "index", "toy.pt", shop, "--gallery", place, "--root", shop)
    made = Colours.made
    table = tmp_path / "changes.csv"
    table.write_text("path,camera,identity,weather\ntill 0/0.png,door,anna,sun\ntill 1/0.png,door,,\n")
    assert "2 entries changed" in run(capsys, "gallery", "update", place, "--table", table).out
    assert (
        "2 entries changed"
        in run(
            capsys,
            "gallery",
            "update",
            place,
            "--camera",
            "door",
            "--set",
            "time=2026-01-02",
            "--set",
            "weather=rain",
        ).out
    )
    with Gallery.open(place, read_only=True) as gallery:
        one, other = sorted(gallery.entries(Filter(cameras=("door",))), key=lambda entry: entry.path)
        assert (one.identity, one.columns["weather"], written(one.time)[:10]) == (
            "anna",
            "rain",
            "2026-01-02",
        )
        assert other.identity is None
    assert Colours.made == made
    table.write_text("path,camera\nnowhere.png,door\n")
    for words, expected in (
        (["--table", table], "line 2: no entry of the gallery has the path 'nowhere.png'"),
        ([], "say what to change"),
        (["--set", "camera"], "expected NAME=TEXT"),
        (["--camera", "door", "--set", "time=soon"], "was not understood"),
        (["--set", "identity=anna"], "say which entries --set means"),
        (["--table", table, "--camera", "door"], "--table names the entries itself"),
    ):
        assert expected in run(capsys, "gallery", "update", place, *words, code=2).err


def test_a_list_whose_query_is_known_says_right_and_wrong(tmp_path):
    from crossreid.gallery import lists
    from crossreid.gallery.entries import Entry, Hit

    class Nothing:
        def image(self, key):
            return None

    hits = [
        Hit(rank, 0.1 * rank, Entry(f"{rank}", path=f"cam1/{rank}.jpg", identity=identity))
        for rank, identity in enumerate(("3", "4", "3"), start=1)
    ]
    query = np.zeros((8, 4, 3), np.uint8)
    links = {"The report": "run/report.html"}
    lists.write_html(
        tmp_path / "l.html", "Identity 3", query, "visible", hits, Nothing(), identity="3", links=links
    )
    page = (tmp_path / "l.html").read_text(encoding="utf-8")
    assert (
        "2 of 3 are right." in page
        and page.count('<li class="right">') == 2
        and '<a href="run/report.html">' in page
    )
    lists.write_html(tmp_path / "l.html", "Somebody", query, None, hits, Nothing())
    page = (tmp_path / "l.html").read_text(encoding="utf-8")
    assert "are right" not in page and page.count("<li>") == 3 and "cam1/<wbr>1.<wbr>jpg" in page


def test_a_name_that_turns_its_direction_stands_alone_on_a_page(tmp_path):
    from types import SimpleNamespace

    from crossreid.gallery import lists
    from crossreid.gallery.entries import Entry, Hit

    hits = [Hit(1, 0.1, Entry("1", path="1.jpg", camera="\u202egate\u2069"))]
    with_image = SimpleNamespace(image=lambda key: b"a JPEG")
    lists.write_html(tmp_path / "l.html", "Somebody", np.zeros((8, 4, 3), np.uint8), None, hits, with_image)
    page = (tmp_path / "l.html").read_text(encoding="utf-8")
    assert 'alt="rank 1: camera \u2068\u202egate\u2069, visible"' in page
