import json

import numpy as np
import pytest
from tiny_layouts import assert_perfect, image, images

from crossreid.data import split_files
from crossreid.data.sets import ilids
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError


def write(root, identities=9):
    counts = np.random.RandomState(0).randint(2, 6, identities)
    images(root / "images", [f"{n:04d}{k:03d}.jpg" for n, c in enumerate(counts, 1) for k in range(1, c + 1)])
    return root


def test_one_query_and_one_other_image_of_each_test_person(tmp_path):
    root = write(tmp_path / "é 中" / "QMUL-iLIDS")
    whole = {name.name for name in (root / "images").iterdir()}
    for fold in range(1, 11):
        splits = ilids.read(root, fold=fold)
        assert len({i.identity for i in splits["train"]}) == 4
        assert [i.identity for i in splits["query"]] == [i.identity for i in splits["gallery"]]
        assert len(splits["query"]) == len({i.identity for i in splits["query"]}) == 5
        assert not {i.path for i in splits["query"]} & {i.path for i in splits["gallery"]}
        tested = {i.identity for i in splits["query"]}
        assert {i.path.name for i in splits["train"]} == {n for n in whole if int(n[:4]) not in tested}
        # The running number stands where the camera would, so no match is lost to the same-camera rule.
        assert all(q.camera != g.camera for q, g in zip(splits["query"], splits["gallery"]))


def test_splits_of_a_complete_copy_never_change(tmp_path):
    write(tmp_path, identities=119)
    splits = ilids._generate(ilids._images(tmp_path))
    assert [len(split["query"]) for split in splits] == [60] * 10
    assert splits[0]["query"][:3] == FIRST


FIRST = ["0051001.jpg", "0064003.jpg", "0115002.jpg"]


def test_the_authors_file_comes_first_with_paths_of_their_machine(tmp_path):
    root = write(tmp_path)
    one = {
        "train": [["/home/them/images/0001001.jpg", 0, 0]],
        "query": ["C:\\them\\0002001.jpg"],
        "gallery": ["0002002.jpg"],
    }
    (root / "splits.json").write_text(json.dumps([one] * 10))
    splits = ilids.read(root)
    assert [i.path.name for images in splits.values() for i in images] == [
        "0001001.jpg",
        "0002001.jpg",
        "0002002.jpg",
    ]
    assert splits["query"][0].path == root / "images" / "0002001.jpg"


@pytest.mark.parametrize(
    "change",
    [
        {"query": ["9999001.jpg"]},
        {"query": ["0001002.jpg"]},
        {"gallery": ["0003001.jpg"]},
    ],
)
def test_a_file_that_does_not_fit_is_an_error(tmp_path, change):
    root = write(tmp_path)
    one = {"train": ["0001001.jpg"], "query": ["0002001.jpg"], "gallery": ["0002002.jpg"], **change}
    (root / "splits.json").write_text(json.dumps([one] * 10))
    with pytest.raises(UserError, match=r"splits\.json"):
        ilids.read(root)


def test_a_missing_person_is_found(tmp_path):
    write(tmp_path, identities=118)
    assert "118 identities found, 119 expected" in " ".join(finding.text for finding in ilids.check(tmp_path))


def test_an_image_added_later_does_not_change_the_splits(tmp_path):
    root = write(tmp_path)
    before = ilids.read(root)
    split_files.keep(ilids.SOURCE, root)
    image(root / "images" / "0010001.jpg")
    assert ilids.read(root) == before


def test_perfect_vectors_score_one(tmp_path):
    write(tmp_path / "QMUL-iLIDS")
    assert_perfect(Generalization(tmp_path, targets=["ilids"]), ["i-LIDS"])
