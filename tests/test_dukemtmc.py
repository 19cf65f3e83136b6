import pytest
from tiny_layouts import assert_perfect, image, images

from crossreid import data
from crossreid.data.combining import everything
from crossreid.data.sets import dukemtmc
from crossreid.protocols.generalization import Generalization
from crossreid.records import Image, UserError


def write(root):
    images(
        root / "bounding_box_train", ["0001_c2_f0046182.jpg", "0001_c3_f0046182.jpg", "0007_c8_f0000001.jpg"]
    )
    images(root / "query", ["0002_c1_f0000001.jpg", "0005_c2_f0000001.jpg"])
    images(
        root / "bounding_box_test", ["0002_c4_f0000002.jpg", "0005_c5_f0000002.jpg", "0009_c1_f0000002.jpg"]
    )
    (root / "query" / "Thumbs.db").write_bytes(b"stray")
    return root


def test_images_by_split(tmp_path):
    splits = dukemtmc.SOURCE.read(write(tmp_path / "Straße mit Lücke" / "DukeMTMC-reID"))
    assert [(i.identity, i.camera) for i in splits["train"]] == [(1, 2), (1, 3), (7, 8)]
    assert [(i.identity, i.camera) for i in splits["query"]] == [(2, 1), (5, 2)]
    assert [i.identity for i in splits["gallery"]] == [2, 5, 9]


def test_all_images_are_training_images(tmp_path):
    splits = data.read("dukemtmc", write(tmp_path), all_images=True)
    assert set(splits) == {"train"}
    assert len(splits["train"]) == 8


def test_a_foreign_name_is_named(tmp_path):
    write(tmp_path)
    image(tmp_path / "query" / "holiday.jpg")
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        dukemtmc.SOURCE.read(tmp_path)


def test_wrong_case_of_a_folder_is_explained(tmp_path):
    write(tmp_path)
    (tmp_path / "query").rename(tmp_path / "Query")
    with pytest.raises(UserError, match="missing query"):
        dukemtmc.SOURCE.read(tmp_path)


def test_perfect_vectors_score_one(tmp_path):
    write(tmp_path / "DukeMTMC-reID")
    assert_perfect(Generalization(tmp_path, targets=["dukemtmc"]), ["DukeMTMC-reID"])


def test_identity_zero_is_a_distractor_only_where_the_gallery_alone_has_it():
    a, b, c = (Image(f"{name}.jpg", identity, 1) for name, identity in (("a", 0), ("b", 1), ("c", 0)))
    assert everything({"train": [b], "query": [b], "gallery": [a, c]})["train"] == [b]
    assert everything({"train": [a, b], "gallery": [c]})["train"] == [a, b, c]
    assert everything({"train": [a, b]})["train"] == [a, b]


def test_a_camera_is_read_to_its_last_digit(tmp_path):
    write(tmp_path)
    image(tmp_path / "query" / "0002_c12_f0000001.jpg")
    assert {i.camera for i in dukemtmc.SOURCE.read(tmp_path)["query"]} == {1, 2, 12}
