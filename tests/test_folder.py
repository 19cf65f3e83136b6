"""Own images in folders."""

import pytest
from PIL import Image as PILImage

from crossreid import data
from crossreid.__main__ import main
from crossreid.images import labels
from crossreid.records import UserError


def make(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def summary(splits):
    return {
        split: [(image.path.name, image.identity, image.camera) for image in images]
        for split, images in splits.items()
    }


def test_split_folders_of_people(tmp_path):
    root = make(
        tmp_path / "ein Ordner ü",
        [
            "train/anna/1.jpg",
            "train/bert/1.png",
            "Query/zoe/b.jpg",
            "gallery/anna/2.jpg",
            "gallery/zoe/a.jpg",
            "x.txt",
        ],
    )
    make(root, ["gallery/zoe/Thumbs.db", "gallery/zoe/.DS_Store", "gallery/zoe/._a.jpg"])
    make(root, ["__MACOSX/gallery/zoe/._a.jpg", "gallery/__MACOSX/zoe/._a.jpg"])
    splits = data.read("folder", root, camera=7)
    assert summary(splits) == {
        "train": [("1.jpg", 1, 7), ("1.png", 2, 7)],
        "query": [("b.jpg", 3, 7)],
        "gallery": [("2.jpg", 1, 7), ("a.jpg", 3, 7)],
    }
    assert splits["query"][0].modality == "visible"


def test_numbers_are_kept_and_one_level_is_tolerated(tmp_path):
    make(tmp_path, ["people/0012/1.jpg", "people/0007/1.jpg", "people/0007/2.jpg"])
    splits = data.read("folder", tmp_path, train_share=1)
    assert summary(splits) == {"train": [("1.jpg", 7, 1), ("2.jpg", 7, 1), ("1.jpg", 12, 1)]}
    assert data.read("folder", tmp_path / "people", train_share=1) == splits


def test_identities_are_divided_repeatably(tmp_path):
    make(tmp_path, [f"p{identity}/{n}.jpg" for identity in range(8) for n in range(3)])
    splits = data.read("folder", tmp_path, train_share=0.25, seed=1)
    people = {split: {image.identity for image in images} for split, images in splits.items()}
    assert len(people["train"]) == 2 and people["query"] == people["gallery"] and len(people["query"]) == 6
    assert not people["train"] & people["query"]
    assert data.read("folder", tmp_path, train_share=0.25, seed=1) == splits
    assert data.read("folder", tmp_path, train_share=0.25, seed=2)["train"] != splits["train"]
    assert set(data.read("folder", tmp_path, train_share=0)) == {"query", "gallery"}
    with pytest.raises(UserError, match="but 2 was given"):
        data.read("folder", tmp_path, train_share=2)


def test_a_test_folder_is_divided_by_roles(tmp_path):
    make(tmp_path, ["train/1/a.jpg", "test/2/a.jpg", "test/2/b.jpg"])
    assert summary(data.read("folder", tmp_path)) == {
        "train": [("a.jpg", 1, 1)],
        "query": [("a.jpg", 2, 1)],
        "gallery": [("b.jpg", 2, 1)],
    }
    make(tmp_path, ["query/2/c.jpg"])
    with pytest.raises(UserError, match="both were found"):
        data.read("folder", tmp_path)


def test_pattern_with_camera_and_modality(tmp_path):
    make(tmp_path, ["query/door/ir_P3_1.jpg", "gallery/yard/rgb_P3_1.jpg", "gallery/door/rgb_P12_2.jpg"])
    splits = data.read(
        "folder", tmp_path, pattern=r"(?P<camera>\w+)/(?P<modality>[a-z]+)_P(?P<identity>\d+)_"
    )
    assert summary(splits) == {
        "query": [("ir_P3_1.jpg", 3, 1)],
        "gallery": [("rgb_P12_2.jpg", 12, 1), ("rgb_P3_1.jpg", 3, 2)],
    }
    assert {image.path.name[:2]: image.modality for split in splits.values() for image in split} == {
        "ir": "infrared",
        "rg": "visible",
    }


def test_flat_folder_with_market_names(tmp_path):
    make(tmp_path, ["0002_c1s1_000451_03.jpg", "0002_c2s1_000451_03.jpg", "0005_c6s1_000451_03.jpg"])
    images = data.read("folder", tmp_path, pattern=r"(?P<identity>\d+)_c(?P<camera>\d)", train_share=1)[
        "train"
    ]
    assert [(image.identity, image.camera) for image in images] == [(2, 1), (2, 2), (5, 6)]


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        ([], {}, "no images were found"),
        (["notes.txt"], {}, "found notes.txt"),
        (["a.jpg", "b/1.jpg"], {}, r"directly in .* lie images .*pattern"),
        (["x/cam1/1.jpg", "y/cam1/1.jpg"], {}, "holds folders .cam1"),
        (["x/1.jpg"], {"pattern": "("}, "not a regular expression"),
        (["x/1.jpg"], {"pattern": r"(\d+)"}, r"named groups \(none\)"),
        (["x/1.jpg"], {"pattern": r"(?P<identity>\d+)(?P<cam>\w)"}, "cam, identity"),
        (["x/1.jpg", "x/b.jpg"], {"pattern": r"(?P<identity>\d+)"}, r"finds no identity in x/b\.jpg"),
        (["x_uv.jpg"], {"pattern": r"(?P<identity>\w)_(?P<modality>\w+)"}, "modality 'uv' is not known"),
    ],
)
def test_mistakes_are_one_paragraph(tmp_path, names, settings, words):
    with pytest.raises(UserError, match=words) as error:
        data.read("folder", make(tmp_path, names), **settings)
    assert "\n" not in str(error.value)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        data.read("folder", tmp_path / "absent")


def images(root, names):
    """Images that can be read, in the format of their suffix."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".pgm": "PPM"}.get(path.suffix)
        PILImage.new("L", (4, 8)).save(path, kind)
    return root


def test_check_remarks(tmp_path):
    images(tmp_path, ["train/a/1.jpg", "query/b/1.jpg", "gallery/b/2.jpg", "gallery/c/1.jpg"])
    findings = data.check("folder", tmp_path)
    assert [finding.text for finding in findings if finding.severity == "note"] == [
        "train: 1 identity, 1 image, 1 camera",
        "query: 1 identity, 1 image, 1 camera",
        "gallery: 2 identities, 2 images, 1 camera",
    ]
    warned = [finding.text for finding in findings if finding.severity != "note"]
    assert "2 of 3 identities have a single image" in warned[0]
    assert "all images have camera 1" in warned[1] and len(warned) == 2
    findings = data.check("folder", tmp_path, pattern=r"/?(?P<identity>\w)/(?P<camera>\d)")
    (finding,) = (finding for finding in findings if finding.severity != "note")
    assert "2 of 3 identities" in finding.text


def test_check_says_what_is_not_read_and_whom_it_costs(tmp_path, capsys):
    images(tmp_path, [f"{name}/{number}.png" for name in ("anna", "bert", "cleo") for number in range(2)])
    for path in (tmp_path / "cleo").iterdir():
        path.write_bytes(b"no image")
    make(tmp_path, ["dora/1.heic", "dora/2.heic", "notes.txt", "anna/Thumbs.db", "anna/.hidden"])
    texts = {finding.text: finding.severity for finding in data.check("folder", tmp_path)}
    assert sum("2 of 6 images cannot be read" in text for text in texts) == 1
    assert texts["no image can be read of 1 identity: cleo."] == "error"
    (dora,) = (text for text in texts if "dora" in text and "left out" in text)
    assert "holds no images, but 2 files (.heic 2)" in dora and texts[dora] == "warning"
    (over,) = (text for text in texts if text.startswith("passed over"))
    assert "3 files (.heic 2, .txt 1), the first is dora/1.heic" in over
    assert main(["data", "check", "folder", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "error: no image can be read of 1 identity: cleo." in said.out
    assert "train: 1 identity, 2 images" in said.out or "train: 2 identities, 4 images" in said.out


def test_every_suffix_that_can_be_decoded_is_listed(tmp_path):
    suffixes = [".jpg", ".jpe", ".jfif", ".gif", ".pgm", ".png", ".bmp", ".webp", ".tiff"]
    images(tmp_path, [f"p{suffix[1:]}/1{suffix}" for suffix in suffixes])
    found = data.read("folder", tmp_path, train_share=1)["train"]
    assert sorted(image.path.suffix for image in found) == sorted(suffixes)
    assert not [each for each in data.check("folder", tmp_path, train_share=1) if each.severity == "error"]


def test_junk_is_left_out_and_said(tmp_path):
    names = ["query/-1/1.jpg", "query/2/1.jpg", "gallery/-1/1.jpg", "gallery/-1/2.jpg", "gallery/2/1.jpg"]
    make(tmp_path / "folders", names)
    make(tmp_path / "names", [f"{name.split('/')[0]}/{name.split('/')[1]}_c1_{name[-5:]}" for name in names])
    for root, pattern in (("folders", None), ("names", labels.NAME)):
        junk = [f"{part} images have the identity -1" for part in ("query: 1 of 2", "gallery: 2 of 3")]
        with pytest.warns(UserWarning, match=junk[0]), pytest.warns(UserWarning, match=junk[1]):
            splits = data.read("folder", tmp_path / root, pattern=pattern)
        assert {split: [image.identity for image in found] for split, found in splits.items()} == {
            "query": [2],
            "gallery": [2],
        }
        splits = data.read("folder", tmp_path / root, pattern=pattern, keep_junk=True)
        assert sorted(image.identity for image in splits["gallery"]) == [-1, -1, 2]
    assert any("2 of 3 images" in each.text for each in data.check("folder", tmp_path / "folders"))


def test_folders_that_are_the_same_number_are_one_and_said(tmp_path):
    make(tmp_path, ["7/1.jpg", "007/2.jpg", "8/1.jpg"])
    with pytest.warns(UserWarning, match="'007' and '7'"):
        found = data.read("folder", tmp_path, train_share=1)["train"]
    assert [image.identity for image in found] == [7, 7, 8]


def test_links_to_folders_are_followed(tmp_path):
    make(tmp_path / "store", ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"])
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        (tmp_path / "mine" / name).symlink_to(tmp_path / "store" / name, target_is_directory=True)
    assert len(data.read("folder", tmp_path / "mine", train_share=1)["train"]) == 4
