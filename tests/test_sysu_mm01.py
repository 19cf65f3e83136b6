"""The reader of SYSU-MM01, on a small tree with the official numbers of images of some identities."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from crossreid import data
from crossreid.data.sets import sysu_mm01
from crossreid.protocols.sysu_mm01 import SysuMM01
from crossreid.records import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "sysu"

# Images in cameras 1 to 6; those of 6, 10, 17 and 21 are the real ones.
COUNTS = {
    2: (2, 0, 3, 1, 0, 2),
    4: (0, 2, 2, 0, 0, 1),
    334: (0, 0, 3, 2, 1, 0),
    3: (1, 1, 1, 1, 1, 1),
    6: (42, 29, 20, 20, 20, 20),
    10: (34, 30, 20, 20, 20, 20),
    17: (0, 0, 20, 20, 20, 20),
    21: (0, 0, 0, 20, 20, 20),
}
IDS = {"train": [2, 4], "val": [334], "test": [6, 10, 17, 21]}


def write_tree(root, counts=COUNTS, suffix=".txt"):
    for identity, cameras in counts.items():
        for camera, count in enumerate(cameras, 1):
            (root / f"cam{camera}").mkdir(parents=True, exist_ok=True)
            folder = root / f"cam{camera}" / f"{identity:04d}"
            if count:
                folder.mkdir()
            for number in range(1, count + 1):
                (folder / f"{number:04d}.jpg").write_bytes(b"x")
    (root / "exp").mkdir()
    for part, ids in IDS.items():
        write_ids(root, part, ids, suffix)
    return root


def write_ids(root, part, ids, suffix):
    file = root / "exp" / f"{part}_id{suffix}"
    if suffix == ".txt":
        file.write_bytes(", ".join(map(str, ids)).encode() + b"\r\n")
    else:
        savemat(file, {"id": np.array([ids], dtype=np.uint16)})


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "SYSU MM01 é")


def summary(images):
    return [(image.identity, image.camera, image.path.name) for image in images]


def test_read_in_order_of_identity_camera_and_name(root):
    splits = data.read("sysu_mm01", root)
    assert set(splits) == {"train", "query", "gallery"}
    assert summary(splits["train"]) == [
        (2, 1, "0001.jpg"), (2, 1, "0002.jpg"), (2, 4, "0001.jpg"),
        (4, 2, "0001.jpg"), (4, 2, "0002.jpg"),
        (334, 4, "0001.jpg"), (334, 4, "0002.jpg"), (334, 5, "0001.jpg"),
        (2, 3, "0001.jpg"), (2, 3, "0002.jpg"), (2, 3, "0003.jpg"), (2, 6, "0001.jpg"), (2, 6, "0002.jpg"),
        (4, 3, "0001.jpg"), (4, 3, "0002.jpg"), (4, 6, "0001.jpg"),
        (334, 3, "0001.jpg"), (334, 3, "0002.jpg"), (334, 3, "0003.jpg"),
    ]  # fmt: skip
    assert {(image.camera, image.modality) for image in splits["train"]} == {
        (1, "visible"), (2, "visible"), (4, "visible"), (5, "visible"), (3, "infrared"), (6, "infrared"),
    }  # fmt: skip
    assert len(splits["query"]) == 140 and {image.camera for image in splits["query"]} == {3, 6}
    assert len(splits["gallery"]) == 42 + 29 + 34 + 30 + 8 * 20
    assert splits["gallery"][0].path == root / "cam1" / "0006" / "0001.jpg"


def test_training_identities_only(root):
    splits = data.read("sysu_mm01", root, trainval=False)
    assert {image.identity for image in splits["train"]} == {2, 4}
    assert {image.identity for image in splits["validation"]} == {334} and len(splits["validation"]) == 6
    assert data.read("sysu_mm01", root, held_out=0.5) == splits


def test_matlab_lists_and_one_level_more(tmp_path):
    text, matlab = write_tree(tmp_path / "a" / "SYSU"), write_tree(tmp_path / "b" / "SYSU", suffix=".mat")
    for split, images in data.read("sysu_mm01", tmp_path / "a").items():
        others = data.read("sysu_mm01", tmp_path / "b")[split]
        assert summary(images) == summary(others)
    assert sysu_mm01.find(tmp_path / "a") == text and sysu_mm01.find(matlab) == matlab


def test_damaged_copies_are_one_paragraph(root):
    def says(*words, **settings):
        with pytest.raises(UserError) as error:
            data.read("sysu_mm01", root, **settings)
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value)

    text = root / "exp" / "test_id.txt"
    text.write_text("")
    says("test_id.txt", "is empty")
    text.write_text("<html>\nno access</html>")
    says("test_id.txt", "begins with '<html>'", "numbers with commas or line ends")
    text.unlink()
    says("exp/test_id.txt and exp/test_id.mat", "found train_id.txt, val_id.txt")
    (root / "exp" / "test_id.mat").write_text("<html>no access</html>")
    says("test_id.mat", "cannot be read")
    savemat(root / "exp" / "test_id.mat", {"ids": np.arange(3)})
    says("no variable 'id'")
    write_ids(root, "test", [6, 4], ".mat")
    says("identity 4 is in the lists train_id and test_id")
    write_ids(root, "test", [500], ".mat")
    says("no image for query", "cam1/0001/0001.jpg")
    (root / "cam6").rename(root / "Cam6")
    says("missing cam6", "rename Cam6")


def test_strays_are_not_read(root):
    before = data.read("sysu_mm01", root)
    for name in ("Thumbs.db", ".DS_Store", "._0001.jpg", "desktop.ini"):
        (root / "cam1" / "0006" / name).write_bytes(b"x")
    (root / "cam1" / "Thumbs.db").write_bytes(b"x")
    assert data.read("sysu_mm01", root) == before


def write_prepared(root):
    for modality, images in (
        (modality, [image for image in data.read("sysu_mm01", root)["train"] if image.modality == modality])
        for modality in ("visible", "infrared")
    ):
        crops, labels = sysu_mm01.PREPARED[modality]
        target = {2: 0, 4: 1, 334: 2}
        np.save(root / crops, np.zeros((len(images), 4, 2, 3), np.uint8))
        np.save(root / labels, np.array([target[image.identity] for image in images]))


def test_prepared_arrays(root):
    with pytest.raises(UserError, match=r"missing.*crossreid data prepare"):
        data.read("sysu_mm01", root, prepared=True)
    write_prepared(root)
    plain, prepared = (data.read("sysu_mm01", root, prepared=choice) for choice in (False, True))
    assert prepared["query"] == plain["query"] and prepared["gallery"] == plain["gallery"]
    for one, other in zip(plain["train"], prepared["train"], strict=True):
        assert (one.identity, one.camera, one.modality) == (other.identity, other.camera, other.modality)
    assert [image.array_index for image in prepared["train"]] == [*range(8), *range(11)]
    assert prepared["train"][8].path == root / "train_ir_resized_img.npy"
    part = data.read("sysu_mm01", root, prepared=True, trainval=False)
    assert [image.array_index for image in part["train"]] == [*range(5), *range(8)]
    assert all(image.array_index is None for image in part["validation"])


def test_prepared_arrays_of_another_copy(root):
    write_prepared(root)
    (root / "cam6" / "0002" / "0003.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="has 11 rows, and 12 images"):
        data.read("sysu_mm01", root, prepared=True)
    (root / "train_rgb_resized_img.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        data.read("sysu_mm01", root, prepared=True)


def test_official_lists():
    sizes = {part: len(ids) for part, ids in sysu_mm01.OFFICIAL.items()}
    assert sizes == {"train": 296, "val": 99, "test": 96}
    learned = sorted(sysu_mm01.OFFICIAL["train"] | sysu_mm01.OFFICIAL["val"])
    assert len(learned) == 395 and not sysu_mm01.OFFICIAL["test"] & set(learned)
    labels = {1: 0, 2: 1, 4: 2, 5: 3, 332: 199, 334: 200, 346: 212, 348: 213, 433: 298, 434: 299, 533: 394}
    assert {identity: learned.index(identity) for identity in labels} == labels


def cells(counts=COUNTS):
    outer = np.empty((6, 1), object)
    for camera in range(6):
        inner = np.empty((533, 1), object)
        for identity in range(1, 534):
            count = counts.get(identity, (0,) * 6)[camera]
            inner[identity - 1, 0] = np.tile(np.arange(1, count + 1, dtype=np.uint8), (10, 1))
        outer[camera, 0] = inner
    return outer


def test_check_names_the_first_deviating_identity_and_camera(root):
    texts = [finding.text for finding in data.check("sysu_mm01", root)]
    assert "train: 3 identities found, 395 expected." in texts
    assert (
        "exp/test_id.txt: 4 identities, 96 expected; the first that differs is 24, which is missing." in texts
    )
    assert any(
        text.startswith("test identities in camera 1: 76 images of 2 identities found, 1374 of 56")
        for text in texts
    )
    savemat(root / "rand_perm_cam.mat", {"rand_perm_cam": cells()})
    assert not any("first is identity" in finding.text for finding in sysu_mm01.check(root))
    (root / "cam4" / "0010" / "0020.jpg").unlink()
    (root / "cam2" / "0017").mkdir()
    (root / "cam2" / "0017" / "0001.jpg").write_bytes(b"x")
    (root / "cam5" / "0010" / "Thumbs.db").write_bytes(b"x")
    (root / "cam5" / "extra").mkdir()
    texts = [finding.text for finding in sysu_mm01.check(root)]
    assert any(
        "2 folders differ" in text
        and "identity 10, camera 4 (cam4/0010): 19 images found, 20 expected" in text
        for text in texts
    )
    assert any("Thumbs.db" in text for text in texts) and any("first extra" in text for text in texts)


def test_check_without_the_permutations_shows_a_gap(root):
    assert not any("is not there" in finding.text for finding in sysu_mm01.check(root))
    (root / "cam4" / "0010" / "0007.jpg").unlink()
    texts = [finding.text for finding in sysu_mm01.check(root)]
    assert "identity 10, camera 4: 0007.jpg is not there, others are." in texts


def test_check_compares_both_kinds_of_lists(root):
    write_ids(root, "val", [335], ".mat")
    texts = [finding.text for finding in sysu_mm01.check(root)]
    assert sum("val_id" in text for text in texts) == 2


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the official split files are not there")
def test_a_whole_copy_is_as_expected(tmp_path):
    import csv
    import shutil

    with open(SHARED / "image_counts.csv", newline="") as file:
        counts = {
            int(row["pid"]): [int(row[f"cam{camera}"]) for camera in range(1, 7)]
            for row in csv.DictReader(file)
        }
    write_tree(tmp_path, counts)
    shutil.rmtree(tmp_path / "exp")
    shutil.copytree(SHARED, tmp_path / "exp")
    assert data.check("sysu_mm01", tmp_path) == []
    splits = data.read("sysu_mm01", tmp_path)
    target = {identity: index for index, identity in enumerate(sorted({i.identity for i in splits["train"]}))}
    for modality, rows, digest in (
        ("visible", 22258, "d99822d79cd5521dd8923396bb1ef7dac7f4cc1b"),
        ("infrared", 11909, "0ef72127c24c9686feef703f3006632279d4a197"),
    ):
        labels = [target[image.identity] for image in splits["train"] if image.modality == modality]
        assert len(labels) == rows
        assert hashlib.sha1(np.array(labels, "<i8").tobytes()).hexdigest() == digest
    (tmp_path / "cam2" / "0010" / "0030.jpg").unlink()
    texts = [finding.text for finding in data.check("sysu_mm01", tmp_path)]
    assert "gallery: 6774 images found, 6775 expected." in texts
    assert any("identity 10, camera 2 (cam2/0010): 29 images found, 30 expected" in text for text in texts)


@pytest.mark.parametrize("form", ["{}\n", "{}\r\n", "{},\n", " {:04d}\n"])
def test_lists_with_one_identity_on_each_line(root, form):
    whole = data.read("sysu_mm01", root)
    (root / "exp" / "test_id.txt").write_bytes("".join(map(form.format, IDS["test"])).encode())
    assert data.read("sysu_mm01", root) == whole
    assert len(SysuMM01(root, trials=1).trials()[0].query) == 140


def test_the_list_of_test_identities_alone_can_be_scored(root):
    whole, protocol = data.read("sysu_mm01", root), SysuMM01(root, trials=1)
    for part in ("train", "val"):
        (root / "exp" / f"{part}_id.txt").unlink()
    assert data.read("sysu_mm01", root) == {split: whole[split] for split in ("query", "gallery")}
    alone = SysuMM01(root, trials=1)
    assert alone.images == protocol.images and alone.description == protocol.description
    write_ids(root, "train", IDS["train"], ".mat")
    # As in the owner's evaluation code, which has no val_id: that is enough for testing, but not for training.
    assert SysuMM01(root, trials=1).images == protocol.images
    with pytest.raises(UserError, match="its val part"):
        data.read("sysu_mm01", root)
