import pytest
from tiny_layouts import assert_perfect, image

from crossreid.data.sets import msmt17
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError

LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0008_0.jpg 1"],
    "list_val.txt": ["0000/0000_001_02_0303morning_0008_0.jpg 0"],
    "list_query.txt": ["0000/0000_000_03_0303morning_0009_0.jpg 0"],
    "list_gallery.txt": [
        "0000/0000_001_04_0303morning_0009_0.jpg 0",
        "0001/0001_001_04_0303noon_0009_0.jpg 1",
    ],
}


def write(root, train="train", test="test", end="\n"):
    for number, (name, lines) in enumerate(LISTS.items()):
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes("".join(line + end for line in lines).encode())
        for line in lines:
            image(root / (train if number < 2 else test) / line.split()[0])
    return root


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_images_by_split(tmp_path, folders, end):
    splits = msmt17.read(write(tmp_path, *folders, end=end))
    assert [(i.identity, i.camera) for i in splits["train"]] == [(0, 1), (1, 15)]
    assert [(i.identity, i.camera) for i in splits["query"]] == [(1041, 3)]
    assert [(i.identity, i.camera) for i in splits["gallery"]] == [(1041, 4), (1042, 4)]
    assert all(image.path.is_file() for images in splits.values() for image in images)
    assert msmt17.check(tmp_path) == []


def test_validation_images_join_training_when_asked(tmp_path):
    assert len(msmt17.read(write(tmp_path), with_validation=True)["train"]) == 3
    # Person 0 of training is a person, not a distractor.
    assert len(msmt17.read(tmp_path, all_images=True)["train"]) == 6


def test_missing_images_are_found(tmp_path):
    write(tmp_path)
    (tmp_path / "test/0001/0001_001_04_0303noon_0009_0.jpg").unlink()
    assert "0001_001_04" in msmt17.check(tmp_path)[0].text
    (tmp_path / "test/0001").rmdir()
    with pytest.raises(UserError, match="incomplete"):
        msmt17.read(tmp_path)


@pytest.mark.parametrize("line", ["../../etc/passwd 0", "/etc/passwd 0", "C:/windows 0"])
def test_a_list_may_not_lead_out_of_the_data_set(tmp_path, line):
    write(tmp_path)
    (tmp_path / "list_train.txt").write_text(line)
    with pytest.raises(UserError, match="refused"):
        msmt17.read(tmp_path)


@pytest.mark.parametrize("line", ["0000/0000_000_01_x.jpg", "0000/a.jpg 0", ""])
def test_a_line_that_says_too_little_is_named(tmp_path, line):
    write(tmp_path)
    (tmp_path / "list_train.txt").write_text(line)
    (tmp_path / "train/0000").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"list_train\.txt"):
        msmt17.read(tmp_path)


def test_perfect_vectors_score_one(tmp_path):
    write(tmp_path / "MSMT17_V1")
    assert_perfect(Generalization(tmp_path, targets=["msmt17"]), ["MSMT17"])


def test_the_test_lists_alone_can_be_scored(tmp_path):
    write(tmp_path)
    for name in ("list_train.txt", "list_val.txt"):
        (tmp_path / name).unlink()
    assert set(msmt17.read(tmp_path)) == {"query", "gallery"} and msmt17.check(tmp_path) == []
