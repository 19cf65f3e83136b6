import numpy as np
import pytest
from PIL import Image as PILImage
from tiny_layouts import image

from crossreid import data
from crossreid.data import prepare, prepared
from crossreid.data.sets import cuhk02, sysu_mm01
from crossreid.images.reading import read
from crossreid.images.resize import fit
from crossreid.records import INFRARED, VISIBLE, UserError

IDS = {"train": (5, 20, 1), "val": (334,), "test": (6,)}


def write_sysu(root):
    rng = np.random.default_rng(0)
    for identity in (1, 5, 6, 20, 334):
        for camera in range(1, 7):
            for number in (1, 2) if camera % 2 else (1,):
                path = root / f"cam{camera}" / f"{identity:04d}" / f"{number:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (int(rng.integers(12, 20)), 7, 3), dtype=np.uint8)
                grey = camera in (3, 6)
                PILImage.fromarray(pixels[..., 0] if grey else pixels).save(path)
    (root / "exp").mkdir()
    for part, ids in IDS.items():
        (root / "exp" / f"{part}_id.txt").write_text(",".join(map(str, ids)) + "\n")
    (root / "cam1" / "0001" / "Thumbs.db").write_bytes(b"x")
    return root


def test_arrays_of_sysu_are_the_originals(tmp_path):
    root = write_sysu(tmp_path / "名 SYSU")
    assert prepare.prepare("sysu_mm01", root, size=(16, 8)) == root
    for colour, cameras in (("rgb", (1, 2, 4, 5)), ("ir", (3, 6))):
        array, label = (np.load(root / f"train_{colour}_resized_{kind}.npy") for kind in ("img", "label"))
        expected, labels = [], []
        for target, identity in enumerate(sorted((*IDS["train"], *IDS["val"]))):
            for camera in cameras:
                for path in sorted((root / f"cam{camera}" / f"{identity:04d}").glob("*.jpg")):
                    with PILImage.open(path) as one:
                        # Across first, as Pillow did when the originals were written; since 13 it may not.
                        across = one.convert("RGB").resize((8, one.height), PILImage.LANCZOS)
                        expected.append(np.array(across.resize((8, 16), PILImage.LANCZOS)))
                    labels.append(target)
        assert array.dtype == np.uint8 and array.shape == (len(expected), 16, 8, 3)
        assert (array == np.stack(expected)).all()
        assert label.dtype == np.int64 and label.tolist() == labels


def test_training_reads_our_arrays_of_sysu(tmp_path):
    root = write_sysu(tmp_path)
    prepare.sysu_arrays(root, size=(16, 8))
    plain, rows = (sysu_mm01.read(root, prepared=prepared)["train"] for prepared in (False, True))
    assert [(i.identity, i.camera, i.modality) for i in plain] == [
        (i.identity, i.camera, i.modality) for i in rows
    ]
    for one, row in zip(plain, rows):
        assert (fit(read(one), (16, 8), "lanczos") == read(row)).all()


def test_an_interrupted_preparation_leaves_what_was_there(tmp_path):
    root = write_sysu(tmp_path)
    prepare.sysu_arrays(root, size=(16, 8))
    before = {path.name: path.read_bytes() for path in root.glob("*.npy")}
    assert len(before) == 4
    broken = root / "cam6" / "0334" / "0001.jpg"
    broken.write_bytes(b"torn")
    with pytest.raises(UserError, match="0334"):
        prepare.sysu_arrays(root, size=(32, 16))
    assert {path.name: path.read_bytes() for path in root.glob("*.npy")} == before
    assert not list(root.glob(".*"))


def write_pairs(root, suffix=".png"):
    rng = np.random.default_rng(1)
    for pair in range(1, 6):
        for side in (1, 2):
            path = root / f"P{pair}" / f"cam{side}" / f"001_1{suffix}"
            path.parent.mkdir(parents=True)
            PILImage.fromarray(rng.integers(0, 256, (13, 9, 3), dtype=np.uint8)).save(path)
    return root


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_decoded_images_are_the_very_same_pixels(tmp_path, interpolation):
    root = write_pairs(tmp_path / "a b")
    images = cuhk02.read(root)["train"]
    array = prepare.write_array(images, root, (16, 8), interpolation)
    assert np.load(array, mmap_mode="r").shape == (10, 16, 8, 3)
    rows = prepared.rows(images[::-1], root, (16, 8), interpolation)
    assert [(i.identity, i.camera) for i in rows] == [(i.identity, i.camera) for i in images[::-1]]
    for one, row in zip(images[::-1], rows):
        assert (fit(read(one), (16, 8), interpolation) == read(row)).all()


def test_boxes_of_a_table_are_prepared_each_as_an_image(tmp_path):
    rng = np.random.default_rng(2)
    lines = ["path,identity,camera,x0,y0,x1,y1"]
    for frame in range(4):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(tmp_path / f"{frame}.png")
        lines += [
            f"{frame}.png,{1 + person},{frame},{5 + 20 * person},3,{22 + 20 * person},35" for person in (0, 1)
        ]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(lines))
    for root in (tmp_path, table):
        array = prepare.prepare("csv", root, size=(16, 8), train_share=1.0)
        images = data.read("csv", root, train_share=1.0)["train"]
        rows = prepared.rows(images, root, (16, 8), "bilinear")
        assert len({row.array_index for row in rows}) == len(images) == 8 == len(np.load(array))
        for one, row in zip(images, rows):
            assert row.box is None and (fit(read(one), (16, 8), "bilinear") == read(row)).all()


def test_absolute_paths_of_a_table_are_those_below_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        PILImage.new("RGB", (4, 8)).save(name)
    lines = ["path,identity,camera,split", "a.png,1,1,train", f"{tmp_path / 'b.png'},1,2,train"]
    (tmp_path / "people.csv").write_text("\n".join(lines))
    prepare.prepare("csv", "people.csv", size=(8, 4))
    images = data.read("csv", tmp_path / "people.csv")["train"]
    rows = prepared.rows(images, tmp_path / "people.csv", (8, 4), "bilinear")
    assert [row.array_index for row in rows] == [0, 1]
    with pytest.raises(UserError, match="the size is 0 4: expected height and width"):
        prepare.prepare("csv", "people.csv", size=(0, 4))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "people.csv").write_text(f"{lines[0]}\n{lines[2]}")
    with pytest.raises(UserError, match=r"b\.png is not an image below .*: put the data set, or its table"):
        prepare.prepare("csv", "below/people.csv", size=(8, 4))


def test_decoding_again_with_a_torn_image_keeps_no_half_array(tmp_path):
    root = write_pairs(tmp_path)
    images = cuhk02.read(root)["train"]
    images[7].path.write_bytes(b"torn")
    with pytest.raises(UserError, match="P4"):
        prepare.write_array(images, root, (16, 8))
    assert [path.name for path in root.iterdir() if not path.name.startswith("P")] == []
    with pytest.raises(UserError, match="data prepare"):
        prepared.rows(images, root, (16, 8), "bilinear")


def test_images_that_came_later_are_noticed(tmp_path):
    root = write_pairs(tmp_path)
    prepare.write_array(cuhk02.read(root)["train"], root, (16, 8))
    image(root / "P1/cam1/002_1.png")
    with pytest.raises(UserError, match="002_1"):
        prepared.rows(cuhk02.read(root)["train"], root, (16, 8), "bilinear")
    array = root / "crossreid_16x8_bilinear.npy"
    np.save(array, np.zeros((3, 16, 8, 3), np.uint8))
    with pytest.raises(UserError, match="shape"):
        prepared.rows(cuhk02.read(root)["train"], root, (16, 8), "bilinear")


def test_all_folds_are_prepared_together(tmp_path):
    from test_regdb import write

    root = write(tmp_path)
    images = prepare.training_images("regdb", root)
    assert len(images) == 32 and {i.modality for i in images} == {VISIBLE, INFRARED}
    assert len(prepare.training_images("regdb", root, fold=1)) == 16


def test_all_images_of_any_data_set_can_be_prepared(tmp_path):
    from test_regdb import write

    root = write(tmp_path)
    assert len(prepare.training_images("regdb", root, fold=1, all_images=True)) == 32


def test_what_a_killed_process_left_is_removed(tmp_path):
    root = write_pairs(tmp_path)
    (root / ".crossreid_16x8_bilinear.npy.12345.part").write_bytes(b"half")
    prepare.write_array(cuhk02.read(root)["train"], root, (16, 8))
    assert not list(root.glob(".*"))


def test_a_full_disk_is_one_paragraph(tmp_path, monkeypatch):
    root = write_pairs(tmp_path)

    def full(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match="no room"):
        prepare.write_array(cuhk02.read(root)["train"], root, (16, 8))
    assert not list(root.glob("*.npy")) and not list(root.glob(".*"))


def test_prepare_by_name(tmp_path):
    root = write_pairs(tmp_path)
    assert prepare.prepare("cuhk02", root, size=(16, 8)) == root / "crossreid_16x8_bilinear.npy"
    with pytest.raises(UserError, match="lanczos"):
        prepare.prepare("sysu_mm01", root, interpolation="bicubic")
    with pytest.raises(UserError, match="no training images"):
        prepare.write_array([], root, (16, 8))
