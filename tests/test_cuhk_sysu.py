import numpy as np
import pytest
from PIL import Image as PILImage
from scipy.io import savemat

from crossreid.data.sets import cuhk_sysu
from crossreid.records import UserError

SCENE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
# (person, [(scene, x y w h, hard)])
PEOPLE = [
    ("p1", [("s3.jpg", (1, 1, 4, 7), 0), ("s15533.jpg", (25, 10, 10, 15), 1)]),
    ("p11934", [("s3.jpg", (0, -2, 6, 9), 0)]),
]


def write(root, people=PEOPLE, name="Person"):
    scenes = root / "Image" / "SSM"
    scenes.mkdir(parents=True, exist_ok=True)
    for file in ("s3.jpg", "s15533.jpg"):
        # Lossless under the data set's name, so that pixels can be compared.
        PILImage.fromarray(SCENE).save(scenes / file, format="PNG")
    kind = [("imname", object), ("idlocate", object), ("ishard", object)]
    persons = np.empty((1, len(people)), [("idname", object), ("nAppear", object), ("scene", object)])
    for place, (idname, found) in enumerate(people):
        scene = np.empty((1, len(found)), kind)
        for number, (file, box, hard) in enumerate(found):
            scene[0, number] = (file, np.array([box], float), float(hard))
        persons[0, place] = (idname, float(len(found)), scene)
    (root / "annotation").mkdir(exist_ok=True)
    savemat(root / "annotation" / "Person.mat", {name: persons})
    return root


def pixels(path):
    with PILImage.open(path) as image:
        return np.asarray(image)


def test_boxes_count_from_one_and_include_both_ends(tmp_path):
    folder = cuhk_sysu.crop(write(tmp_path / "名前 x"), workers=2)
    assert sorted(path.name for path in folder.iterdir()) == [
        "p00001_n01_s00003_hard0.png",
        "p00001_n02_s15533_hard1.png",
        "p11934_n01_s00003_hard0.png",
    ]
    assert (pixels(folder / "p00001_n01_s00003_hard0.png") == SCENE[0:8, 0:5]).all()
    # Over the right and lower edge: clipped.
    assert (pixels(folder / "p00001_n02_s15533_hard1.png") == SCENE[9:20, 24:30]).all()
    # Over the left and upper edge: rows to y + h, columns to x + w, nothing wraps round.
    assert (pixels(folder / "p11934_n01_s00003_hard0.png") == SCENE[0:7, 0:6]).all()


@pytest.mark.parametrize("spelling", ["cropped_image", "cropped_images"])
def test_scene_numbers_take_the_place_of_cameras(tmp_path, spelling):
    cuhk_sysu.crop(write(tmp_path)).rename(tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / spelling)
    images = cuhk_sysu.read(tmp_path)["train"]
    assert [(i.identity, i.camera) for i in images] == [(1, 3), (1, 15533), (11934, 3)]


def test_cutting_out_continues_where_it_stopped(tmp_path, monkeypatch):
    write(tmp_path)
    cut = cuhk_sysu._cut

    def failing(path, appearances, folder):
        if path.name == "s15533.jpg":
            raise KeyboardInterrupt
        cut(path, appearances, folder)

    monkeypatch.setattr(cuhk_sysu, "_cut", failing)
    with pytest.raises(KeyboardInterrupt):
        cuhk_sysu.crop(tmp_path, workers=1)
    assert not (tmp_path / "cropped_image").exists()
    with pytest.raises(UserError, match="data prepare cuhk_sysu"):
        cuhk_sysu.read(tmp_path)
    done = []
    monkeypatch.setattr(cuhk_sysu, "_cut", lambda path, *rest: (done.append(path.name), cut(path, *rest)))
    cuhk_sysu.crop(tmp_path)
    assert done == ["s15533.jpg"]
    assert len(cuhk_sysu.read(tmp_path)["train"]) == 3
    assert not (tmp_path / "cropped_image.partial").exists()


def test_strange_files_among_the_cut_out_images_are_not_passed_over(tmp_path):
    write(tmp_path)
    (tmp_path / "cropped_image").mkdir()
    (tmp_path / "cropped_image" / "other.png").write_bytes(b"x")
    with pytest.raises(UserError, match="4 images, but 3 are annotated"):
        cuhk_sysu.crop(tmp_path)
    with pytest.raises(UserError, match=r"other\.png"):
        cuhk_sysu.read(tmp_path)


@pytest.mark.parametrize(
    "person",
    [
        ("../../p1", [("s3.jpg", (1, 1, 4, 7), 0)]),
        ("p1", [("../../../etc/passwd", (1, 1, 4, 7), 0)]),
        ("p1", [("s3.jpg", (1, 1, 4), 0)]),
    ],
)
def test_names_that_are_not_of_the_data_set_are_refused(tmp_path, person):
    write(tmp_path, [person])
    with pytest.raises(UserError, match=r"Person\.mat"):
        cuhk_sysu.crop(tmp_path)
    assert not (tmp_path / "cropped_image").exists()


def test_missing_parts_are_explained(tmp_path):
    with pytest.raises(UserError, match="Image/SSM"):
        cuhk_sysu.read(tmp_path)
    write(tmp_path, name="Images")
    with pytest.raises(UserError, match="no variable 'Person'"):
        cuhk_sysu.crop(tmp_path)
    (tmp_path / "annotation" / "Person.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match="cannot be read"):
        cuhk_sysu.crop(tmp_path)
    (tmp_path / "annotation" / "Person.mat").unlink()
    with pytest.raises(UserError, match="person search"):
        cuhk_sysu.crop(tmp_path)
    write(tmp_path, [("p1", [("s4.jpg", (1, 1, 4, 7), 0)])])
    with pytest.raises(UserError, match=r"first s4\.jpg"):
        cuhk_sysu.crop(tmp_path)
    write(tmp_path, [("p1", [("s3.jpg", (100, 1, 4, 7), 0)])])
    with pytest.raises(UserError, match="outside the image"):
        cuhk_sysu.crop(tmp_path)
