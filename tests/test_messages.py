"""What users are told of their mistakes: the right name, the right number of the noun, and what to do."""

import numpy as np
import pytest

import crossreid
from crossreid import config
from crossreid.__main__ import main
from crossreid.commands.parsing import check_modality
from crossreid.gallery import Entry, Filter, Gallery
from crossreid.images import tables
from crossreid.records import UserError, counted, pip_install


@pytest.fixture(scope="module")
def embed():
    return crossreid.Embedder("small")


def test_numbers_and_nouns():
    assert [counted(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(2, noun) for noun in ("identity", "batch", "process")] == [
        "2 identities",
        "2 batches",
        "2 processes",
    ]


def test_what_an_extra_needs_is_named_by_packages_or_by_the_folder_of_a_clone(monkeypatch):
    wanted = ["torch>=2", 'lancedb>=0.40; extra == "search"', "fastapi; extra == 'serve'"]
    monkeypatch.setattr("crossreid.records.metadata.requires", lambda name: wanted)
    assert pip_install("search") == "pip install 'lancedb>=0.40'"
    monkeypatch.setattr("crossreid.records.metadata.requires", lambda name: [])
    assert pip_install("search") == "pip install '.[search]' in crossreid's own folder"


@pytest.mark.parametrize(
    "call",
    [
        lambda embed: crossreid.train(None, "run"),
        lambda embed: crossreid.train("small_folder", None),
        lambda embed: crossreid.train("small_folder", "run", 3),
        lambda embed: crossreid.train("small_folder", "run", "--train.epochs 3"),
        lambda embed: crossreid.train("small_folder", "run", {3: 3}),
        lambda embed: crossreid.evaluate(embed),
        lambda embed: crossreid.evaluate("small", split="training"),
        lambda embed: crossreid.load(None),
        lambda embed: crossreid.Embedder(3),
        lambda embed: crossreid.Embedder("small", batch=0),
        lambda embed: crossreid.Gallery("x"),
        lambda embed: crossreid.Gallery.open(None),
        lambda embed: Gallery.create(None, dimension="x", fingerprint="a"),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").add("x", np.eye(2)),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").search("x"),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").count("x"),
        lambda embed: Gallery.create("x", dimension=2, fingerprint=5),
        lambda embed: Gallery.create("x", dimension=2, fingerprint="a", model=None),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").search([1, 0], top=2.5),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").search([1, 0], top=None),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").build_index(top=0),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").delete_older("30d"),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").add([Entry("a")], [[1, 0]], ["x"]),
        lambda embed: Gallery.create(None, dimension=2, fingerprint="a").add(
            [Entry("a", columns=["x"])], [[1, 0]]
        ),
        lambda embed: Filter(cameras=None),
        lambda embed: Filter(columns=["x"]),
        lambda embed: crossreid.data.read("market1501", None),
        lambda embed: embed(None),
        lambda embed: embed(3),
        lambda embed: embed(np.zeros((10, 10, 3), np.uint8), modality=3),
        lambda embed: embed(np.zeros((10, 10, 3), np.uint8), boxes=3),
        lambda embed: embed.threshold("x"),
        lambda embed: embed.threshold(0.01, "x"),
        lambda embed: embed.threshold(0.01, ("visible", "grey")),
    ],
)
def test_a_value_of_the_wrong_type_is_a_sentence(call, embed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"expected|choose one of|use Gallery|is had by"):
        call(embed)
    assert list(tmp_path.iterdir()) == []


def test_a_generator_of_images_is_taken(embed):
    images = [np.full((10, 10, 3), grey, np.uint8) for grey in (10, 200)]
    assert np.array_equal(embed(image for image in images), embed(images))


def test_settings_without_their_heading():
    for changes, hint in (
        ({"epochs": 3}, "did you mean train.epochs"),
        ({"margin": 3}, "did you mean method.margin"),
        ({"same_camera": True}, "did you mean protocol.same_camera"),
    ):
        with pytest.raises(UserError, match=hint):
            config.load("small_folder", changes)


def said(capsys, *words):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_messages_of_commands(capsys, tmp_path, monkeypatch, trained):
    monkeypatch.delenv("CROSSREID_DATA", raising=False)
    assert f"--resume {trained}" in said(capsys, "train", "--resume", trained / "last.pt")
    assert f"--resume {trained}" in said(capsys, "train", trained / "last.pt")
    text = said(capsys, "evaluate", "small")
    assert "--data.roots.market1501" in text and "CROSSREID_DATA" in text


def test_a_box_that_is_empty_is_named_with_its_line(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("path,x0,y0,x1,y1\na.jpg,1,1,5,5\na.jpg,5,5,5,10\n")
    with pytest.raises(UserError, match=r"line 3: the box 5, 5, 5, 10 is empty"):
        tables.read(table)


def test_an_index_that_fails_leaves_no_gallery(capsys, tmp_path):
    pytest.importorskip("lancedb")
    (tmp_path / "broken.jpg").write_text("no image")
    place = tmp_path / "gallery"
    said(capsys, "index", "small", tmp_path / "broken.jpg", "--gallery", place)
    assert not place.exists()


def test_a_model_of_visible_images_refuses_infrared_ones(embed, trained):
    own = crossreid.Embedder(trained / "last.pt", device="cpu")
    assert own.trained["modalities"] == ["visible"]
    with pytest.raises(UserError, match="trained on visible images alone"):
        check_modality(own, ["infrared"])
    check_modality(own, ["visible", None])
    check_modality(embed, ["infrared"])  # of which the file says nothing


def test_a_data_set_is_checked_where_the_environment_says_that_it_lies(market, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CROSSREID_DATA", raising=False)
    assert main(["data", "check", "market1501"]) == 2
    assert (
        "takes it after the name), or CROSSREID_DATA to the folder that holds Market-1501"
        in capsys.readouterr().err
    )
    monkeypatch.setenv("CROSSREID_DATA", str(tmp_path))
    assert main(["data", "check", "market1501"]) == 2
    assert "was not found: CROSSREID_DATA is" in capsys.readouterr().err
    (tmp_path / "market1501").symlink_to(market)
    found = [main(["data", "check", "market1501", *where]) for where in ((), (str(tmp_path / "market1501"),))]
    first, second = capsys.readouterr().out.split("error: train: 6 identities")[1:]
    assert found == [2, 2] and first == second
