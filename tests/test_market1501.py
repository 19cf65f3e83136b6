"""The reader of Market-1501."""

import shutil

import numpy as np
import pytest
from tiny_layouts import scores

from crossreid import data, protocols
from crossreid.data import market_like
from crossreid.data.sets import market1501
from crossreid.records import Image, UserError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "Market x_c1" / "Market-1501-v15.09.15"
    names = {
        "bounding_box_train": [
            "0002_c1s1_000451_03.jpg",
            "0002_c6s2_000801_01.jpg",
            "0007_c3s3_077419_03.jpg",
        ],
        "query": ["0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg"],
        "bounding_box_test": [
            "-1_c1s1_000401_03.jpg",
            "0000_c4s6_014016_02.jpg",
            "0001_c1s1_001051_03.jpg",
            "0001_c5s1_001426_00.jpg",
        ],
        "gt_bbox": ["0001_c1s1_001051_00.jpg"],
    }
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for name in files:
            (root / folder / name).write_bytes(b"x")
    (root / "bounding_box_test" / "Thumbs.db").write_bytes(b"x")
    (root / "readme.txt").write_text("x")
    return root


def test_read(root):
    splits = data.read("market1501", root.parent)
    assert {
        split: [(image.identity, image.camera) for image in images] for split, images in splits.items()
    } == {
        "train": [(2, 1), (2, 6), (7, 3)],
        "query": [(1, 1), (1, 2)],
        "gallery": [(0, 4), (1, 1), (1, 5)],
    }
    assert splits["query"][0] == Image(root / "query" / "0001_c1s1_001051_00.jpg", 1, 1)


def test_extra_distractors(root):
    with pytest.raises(UserError, match="looked for images"):
        data.read("market1501", root, distractors=True)
    (root / "images").mkdir()
    (root / "images" / "00000001.jpg").write_bytes(b"x")
    gallery = data.read("market1501", root, distractors=True)["gallery"]
    assert gallery[-1] == Image(root / "images" / "00000001.jpg", 0, 0) and len(gallery) == 4


def test_a_name_that_says_nothing_is_an_error(root):
    (root / "query" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"photo\.jpg.*0002_c1s1"):
        data.read("market1501", root)
    assert [finding.severity for finding in data.check("market1501", root)] == ["error"]


def test_missing_folder(root):
    (root / "query").rename(root / "Query")
    with pytest.raises(UserError, match=r"missing query; found .*Query.*rename Query"):
        data.read("market1501", root)


def test_check_names_what_deviates(root):
    findings = {finding.text for finding in data.check("market1501", root)}
    assert "train: 2 identities found, 751 expected." in findings
    assert "gallery: 3 images found, 15913 expected." in findings
    assert any("Thumbs.db" in text and "not images" in text for text in findings)
    assert not any(text.startswith("identity") for text in findings)
    (root / "query" / "0009_c2s1_000301_00.jpg").write_bytes(b"")
    (root / "bounding_box_test" / "0007_c2s1_000301_00.jpg").write_bytes(b"x")
    (root / "bounding_box_train" / "0011_c1s1_1_copy.jpg").write_bytes(b"x")
    texts = [finding.text for finding in market1501.check(root)]
    assert any("zero bytes, the first is 0009_c2s1_000301_00.jpg" in text for text in texts)
    assert any("unexpected name, the first is 0011_c1s1_1_copy.jpg" in text for text in texts)
    assert "identity 7 is in the training folder and also among the test images." in texts
    assert "identity 9 is a query without any image in bounding_box_test." in texts
    assert "identity 7 is in bounding_box_test but not a query." in texts


def test_an_empty_copy(tmp_path):
    for folder in market_like.FOLDERS.values():
        (tmp_path / folder).mkdir()
    findings = data.check("market1501", tmp_path)
    assert "query: 0 images found, 3368 expected." in {finding.text for finding in findings}


def test_a_camera_is_read_to_its_last_digit(tmp_path):
    """The query's own camera is 1 and the only right image is of camera 12, behind two others."""
    names = {
        "query": ["0009_c1_0001.jpg", "0010_c1_0001.jpg", "0011_c1_0001.jpg"],
        "bounding_box_test": ["0009_c12_0003.jpg", "0010_c2_0003.jpg", "0011_c3_0003.jpg"],
    }
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).write_bytes(b"x")
    splits = data.read("market1501", tmp_path)
    assert [image.camera for image in splits["gallery"]] == [12, 2, 3]
    protocol = protocols.build("single_query", {"source": "market1501"}, {"market1501": tmp_path})
    # The first query finds its image first, the others find theirs last.
    vectors = np.array([[0.0], [10.0], [20.0], [0.1], [31.0], [-40.0]])
    (score,) = scores(protocol, vectors).values()
    assert score.valid == 3 and score.cmc[0] == pytest.approx(1 / 3)


def test_the_test_images_alone_can_be_scored(root):
    for file in (root / "bounding_box_train").iterdir():
        file.unlink()
    (root / "bounding_box_train").rmdir()
    assert set(data.read("market1501", root)) == {"query", "gallery"}
    assert "train: 0 images found, 12936 expected." in {f.text for f in data.check("market1501", root)}


def test_a_root_under_which_several_copies_lie_is_refused(root):
    other = root.with_name("another copy")
    shutil.copytree(root, other)
    with pytest.raises(UserError, match=r"2 folders in .* fit, Market-1501-v15.09.15, another copy"):
        data.read("market1501", root.parent)
    shutil.rmtree(other)
    # A second name of the same folder is no second copy.
    other.symlink_to(root, target_is_directory=True)
    assert data.read("market1501", root.parent)["query"]
