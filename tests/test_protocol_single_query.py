"""The protocol of Market-1501, and own data under it."""

import numpy as np
import pytest

from crossreid import data, protocols
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import Image, UserError


def make(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@pytest.fixture
def market(tmp_path):
    return make(
        tmp_path,
        [
            *(f"bounding_box_train/00{identity:02d}_c{camera}s1_000001_0{n}.jpg"
              for identity in range(2, 12) for camera in (1, 2) for n in (1, 2)),
            "query/0001_c1s1_000001_00.jpg",
            "query/0001_c2s1_000001_00.jpg",
            "query/0013_c1s1_000001_00.jpg",
            "bounding_box_test/0000_c1s1_000001_00.jpg",
            "bounding_box_test/0001_c1s1_000001_01.jpg",
            "bounding_box_test/0001_c3s1_000001_01.jpg",
            "bounding_box_test/0013_c1s1_000001_01.jpg",
        ],
    )  # fmt: skip


def pairs(protocol, trial):
    """The pairs of file names that are excluded."""
    mine, theirs = trial.excluded
    return {
        (protocol.images[q].path.name, protocol.images[g].path.name)
        for q, a in zip(trial.query, mine)
        for g, b in zip(trial.gallery, theirs)
        if a == b
    }


def test_the_same_person_by_the_same_camera_is_excluded(market):
    protocol = protocols.get("market1501")(market)
    (trial,) = protocol.trials()
    assert trial.subset == "Market-1501" and protocol.cmc == "image"
    assert trial.query.tolist() == [0, 1, 2] and trial.gallery.tolist() == [3, 4, 5, 6]
    assert pairs(protocol, trial) == {
        ("0001_c1s1_000001_00.jpg", "0001_c1s1_000001_01.jpg"),
        ("0013_c1s1_000001_00.jpg", "0013_c1s1_000001_01.jpg"),
    }
    assert "3 queries search 4 gallery images" in protocol.description
    assert "Queries without a match, left out: 1." in protocol.description
    assert "by the same camera are excluded" in protocol.description


def test_the_rule_off(market):
    protocol = SingleQuery(market, same_camera=False)
    assert protocol.trials()[0].excluded is None
    assert "rule is off" in protocol.description and "left out" not in protocol.description


def test_validation_on_held_out_images(market):
    with pytest.raises(UserError, match=r"data\.validation"):
        SingleQuery(market, split="validation")
    held = data.read("market1501", market, held_out=0.2)["validation"]
    protocol = SingleQuery(market, split="validation", images=held)
    (trial,) = protocol.trials()
    assert len(trial.query) == len(trial.gallery) == 4
    assert {image.identity for image in protocol.images} == {image.identity for image in held}
    assert "validation" in protocol.description
    with pytest.raises(UserError, match="expected test or validation"):
        SingleQuery(market, split="train")


def test_own_folders_without_cameras_meet_both_remedies(tmp_path):
    root = make(
        tmp_path / "staff", [f"{name}/{n}.jpg" for name in ("anna", "bert", "carl") for n in range(4)]
    )
    settings = {"train_share": 0}
    with pytest.raises(UserError) as error:
        SingleQuery(root, source="folder", settings=settings)
    text = str(error.value)
    assert "\n" not in text
    for words in (
        "none of the 3 queries (3 identities)",
        "9 gallery images",
        "cameras found: 1 (12 images)",
        "protocol.same_camera: false",
        "number of its camera",
    ):
        assert words in text
    protocol = SingleQuery(root, source="folder", settings=settings, same_camera=False)
    assert protocol.trials()[0].subset == "staff" and "rule is off" in protocol.description
    assert {image.identity for image in protocol.images} == {1, 2, 3}


def test_query_and_gallery_of_different_people(tmp_path):
    root = make(tmp_path, ["query/anna/1.jpg", "gallery/bert/1.jpg", "gallery/carl/1.jpg"])
    for same_camera in (True, False):
        with pytest.raises(UserError, match="have 0 identities in common"):
            SingleQuery(root, source="folder", same_camera=same_camera)


def test_a_file_never_finds_itself(tmp_path):
    root = make(tmp_path, ["query/anna/1.jpg", "query/bert/1.jpg", "gallery/anna/2.jpg"])
    (root / "list.csv").write_text(
        "path,identity,camera,split\n"
        "query/anna/1.jpg,anna,1,query\nquery/bert/1.jpg,bert,1,query\ngallery/anna/2.jpg,anna,1,gallery\n"
    )
    protocol = SingleQuery(root, source="csv", same_camera=False)
    assert protocol.trials()[0].excluded is None
    assert "Queries without a match, left out: 1." in protocol.description


def test_the_same_file_as_query_and_gallery(monkeypatch, tmp_path):
    one, two, other = Image("1.jpg", 1, 1), Image("2.jpg", 1, 1), Image("3.jpg", 2, 1)
    splits = {"query": [one, other], "gallery": [one, two, other]}
    monkeypatch.setattr(data, "read", lambda *arguments, **settings: splits)
    protocol = SingleQuery(tmp_path, source="folder", same_camera=False)
    mine, theirs = protocol.trials()[0].excluded
    assert (np.asarray(mine)[:, None] == np.asarray(theirs)).tolist() == [
        [True, False, False],
        [False, False, True],
    ]
    assert "Queries without a match, left out: 1." in protocol.description
    splits.update(query=[other], gallery=[one, other])
    with pytest.raises(UserError, match="apart from a query's own file"):
        SingleQuery(tmp_path, source="folder", same_camera=False)


def test_identities_with_one_image_are_reported(tmp_path):
    names = ["a/c1_1.jpg", "a/c2_1.jpg", "a/c2_2.jpg", "b/c1_1.jpg", "c/c2_1.jpg"]
    settings = {"train_share": 0, "pattern": r"(?P<identity>\w+)/c(?P<camera>\d)"}
    protocol = SingleQuery(make(tmp_path, names), source="folder", settings=settings)
    assert "Identities with a single image: 2." in protocol.description


def test_nothing_to_search(tmp_path):
    root = make(tmp_path, ["a/1.jpg", "b/1.jpg"])
    with pytest.raises(UserError, match="0 queries and 0 gallery"):
        SingleQuery(root, source="folder", settings={"train_share": 1})
