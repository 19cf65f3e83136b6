"""Synthetic data sets on disk: the layouts that the readers expect, and nothing half-written is left."""

import re
import shutil
import zlib
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from crossreid import data
from crossreid.records import INFRARED, UserError
from crossreid.synthetic import LAYOUTS, write
from crossreid.synthetic import writing as synthetic_writing
from crossreid.synthetic.plans import STRANGERS

IDENTITIES = 8
# One name of each layout, as the data set's owners write it.
NAMES = {
    "market1501": r"bounding_box_train/\d{4}_c[1-6]s\d_\d{6}_\d\d\.jpg",
    "dukemtmc": r"query/\d{4}_c[1-8]_f\d{7}\.jpg",
    "msmt17": r"test/\d{4}/\d{4}_\d{3}_\d\d_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg",
    "cuhk02": r"P5/cam2/\d+_\d\.png",
    "cuhk03": r"images_labeled/\d_\d{3}_[12]_\d\d\.png",
    "cuhk_sysu": r"cropped_image/p\d{5}_n\d\d_s\d{5}_hard[01]\.png",
    "grid": r"probe/\d{4}_[1-8]_\d+_\d+_\d+_\d+_\d+\.jpeg",
    "prid2011": r"single_shot/cam_b/person_\d{4}\.png",
    "ilids": r"images/\d{7}\.jpg",
    "viper": r"cam_a/\d{3}_\d{3}\.bmp",
    "sysu_mm01": r"cam6/\d{4}/\d{4}\.jpg",
    "regdb": r"Thermal/\d+/(fe)?male_(front|back)_t_\d{5}_\d+\.bmp",
    "llcm": r"test_nir/cam\d/\d{4}/\d{4}_c\d\d_s\d+_f\d+_nir\.jpg",
    "market1501_500k": r"images/0000_c\ds1_\d{6}_00\.jpg",
    "occluded_duke": r"bounding_box_test/\d{4}_c[1-8]_f\d{7}\.jpg",
    "cuhk01": r"campus/\d{7}\.png",
    "prid450s": r"cam_b/img_\d{3}\.png",
    "pku_reid": r"PKUv1a_128x48/\d+_[12]_[1-8]\.png",
    "sensereid": r"test_probe/\d{5}_\d\.jpg",
    "caviar4reid": r"CAVIARa/\d{7}\.jpg",
    "pes3d": r"RGB/\d+_\d+_FRAME_\d+_RGB\.bmp",
    "lpw": r"scen1/view2/\d+/\d+\.jpg",
    "mars": r"bbox_test/(\d{4}|00-1)/(\d{4}|00-1)C[1-6]T\d{4}F\d{3}\.jpg",
    "ilids_vid": r"i-LIDS-VID/sequences/cam2/person\d{3}/cam2_person\d{3}_\d{5}\.png",
    "partial_reid": r"whole_body_images/\d{3}_\d{3}\.jpg",
    "partial_ilids": r"Probe/\d{3}\.jpg",
    "folder": r"gallery/\d{4}/c\d_\d{4}\.jpg",
    "csv": r"images/\d{6}\.jpg",
}


@pytest.fixture(scope="module", autouse=True)
def quick_images():
    """Plain images that still depend on all that a real one depends on; rendering has its own tests."""

    def quick(who, what, view, *, size, jitter, yaw, occlusion):
        shade = zlib.crc32(repr((who, what, view, size, jitter, yaw, occlusion)).encode()) % 251
        return np.full((*size, 3), shade, np.uint8)

    patch = pytest.MonkeyPatch()
    patch.setattr(synthetic_writing, "render", quick)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> root of a small copy, written once."""
    roots = {}

    def make(name):
        if name not in roots:
            root = tmp_path_factory.mktemp("made") / name
            roots[name] = write(name, root, identities=IDENTITIES, images=2, progress=False)
        return roots[name]

    return make


@pytest.mark.parametrize("name", LAYOUTS)
def test_file_names_are_the_data_sets_own(name, made):
    root = made(name)
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert any(re.fullmatch(NAMES[name], file) for file in files)
    assert not [file for file in files if "/." in f"/{file}"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_our_readers_take_them(name, made):
    settings = {"pattern": r"(?P<identity>\d+)/c(?P<camera>\d+)"} if name == "folder" else {}
    splits = data.read(name, made(name), **settings)
    for images in splits.values():
        assert images
        for image in images:
            Image.open(image.path).verify()
    if name in ("cuhk02", "cuhk_sysu"):
        assert len({image.identity for image in splits["train"]}) == IDENTITIES
        return
    identities = {split: {image.identity for image in images} for split, images in splits.items()}
    trained = identities.get("train", set())
    assert not trained & (identities["query"] | identities["gallery"])
    assert ("train" in data.get(name).expected) <= (len(trained) >= 2) and len(identities["query"]) >= 2
    assert (
        len({image.identity for image in data.read(name, made(name), all_images=True, **settings)["train"]})
        >= 4
    )
    seen = {(image.identity, image.camera) for image in splits["gallery"]}
    for query in splits["query"]:
        assert any(identity == query.identity and camera != query.camera for identity, camera in seen)


def test_market_has_distractors_and_bad_boxes(made):
    files = [path.name for path in (made("market1501") / "bounding_box_test").iterdir()]
    assert (
        sum(name.startswith("0000_") for name in files) == sum(name.startswith("-1_") for name in files) == 4
    )
    assert min(STRANGERS, 10**6) > 533  # strangers never are somebody


def test_sysu_has_the_cameras_of_the_original(made):
    root = made("sysu_mm01")

    def ids(part):
        return [int(word) for word in (root / f"exp/{part}_id.txt").read_text().split(",")]

    def present(camera):
        return {int(path.name) for path in (root / f"cam{camera}").iterdir()}

    test = set(ids("test"))
    assert sorted({*ids("train"), *ids("val"), *test}) == ids("available") == list(range(1, IDENTITIES + 1))
    assert test <= present(3) & present(6) & present(4) & present(5)
    assert len(test & present(1)) * 2 >= len(test) and present(1) == present(2)
    assert set(ids("val")) <= present(3) - present(6) - present(1)
    from scipy.io import loadmat

    found = loadmat(root / "exp/test_id.mat")["id"]
    assert found.dtype == np.uint16 and found.tolist() == [sorted(test)]


def test_regdb_lists_halves_that_differ_between_folds(made):
    splits = [data.read("regdb", made("regdb"), fold=fold) for fold in (1, 2)]
    trained = [{image.identity for image in found["train"]} for found in splits]
    assert all(len(found) == IDENTITIES // 2 for found in trained) and trained[0] != trained[1]
    assert {image.modality for image in splits[0]["gallery"]} == {INFRARED}


def test_cuhk03_comes_out_of_its_container_as_it_went_in(made, tmp_path):
    root = tmp_path / "cuhk03"
    shutil.copytree(made("cuhk03"), root)
    before = {}
    for word in ("detected", "labeled"):
        folder = root / f"images_{word}"
        before[word] = {path.name: np.asarray(Image.open(path)) for path in folder.iterdir()}
        shutil.rmtree(folder)
    import_module("crossreid.data.sets.cuhk03").extract(root)
    for word, images in before.items():
        after = {path.name: np.asarray(Image.open(path)) for path in (root / f"images_{word}").iterdir()}
        assert after.keys() == images.keys()
        assert all(np.array_equal(after[name], images[name]) for name in images)


def test_cuhk_sysu_is_cut_out_of_its_scenes_as_it_was(made, tmp_path):
    root = tmp_path / "CUHK-SYSU"
    shutil.copytree(made("cuhk_sysu"), root)
    before = {path.name: np.asarray(Image.open(path)) for path in (root / "cropped_image").iterdir()}
    shutil.rmtree(root / "cropped_image")
    import_module("crossreid.data.sets.cuhk_sysu").crop(root, workers=1)
    after = {path.name: np.asarray(Image.open(path)) for path in (root / "cropped_image").iterdir()}
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_seed_gives_the_same_bytes(name, made, tmp_path):
    again = write(name, tmp_path / "again", identities=IDENTITIES, images=2, progress=False)
    first = {
        path: data for path, data in contents(made(name)).items() if path.name != "splits_crossreid.json"
    }
    assert contents(again) == first


def test_another_seed_gives_other_bytes(made, tmp_path):
    other = write("csv", tmp_path / "other", identities=IDENTITIES, images=2, seed=1, progress=False)
    assert contents(other) != contents(made("csv"))


def test_workers_do_not_change_a_byte(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(synthetic_writing, "render", import_module("crossreid.synthetic.rendering").render)
    alone = write("sysu_mm01", tmp_path / "alone", identities=4, images=1, progress=False)
    helped = write("sysu_mm01", tmp_path / "helped", identities=4, images=1, workers=2, progress=False)
    assert contents(alone) == contents(helped)


def test_domain_and_jitter_are_used(tmp_path, made):
    first = contents(made("folder"))
    for number, settings in enumerate(({"domain": "grid"}, {"domain": 3}, {"jitter": 0.0})):
        root = write(
            "folder", tmp_path / str(number), identities=IDENTITIES, images=2, progress=False, **settings
        )
        other = contents(root)
        assert other.keys() == first.keys() and other != first


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def interrupt(*arguments, **settings):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return np.zeros((*settings["size"], 3), np.uint8)

    monkeypatch.setattr(synthetic_writing, "render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write("market1501", tmp_path / "data" / "Market", progress=False)
    assert len(calls) == 5 and not list((tmp_path / "data").iterdir())


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    write("csv", tmp_path / "empty", identities=4, images=1, progress=False)
    before = contents(tmp_path / "empty")
    with pytest.raises(UserError, match="not empty"):
        write("csv", tmp_path / "empty", identities=4, progress=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write("csv", tmp_path / "file", identities=4, progress=False)
    assert contents(tmp_path / "empty") == before and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "market"}, "market1501"),
        ({"identities": 3}, "at least 4"),
        ({"images": 0}, "at least 1"),
        ({"workers": -1}, "processes"),
        ({"domain": "moon"}, "grid"),
    ],
)
def test_mistakes_are_explained(arguments, words, tmp_path):
    with pytest.raises(UserError, match=words):
        write(**{"name": "csv", "root": tmp_path / "new", "progress": False, **arguments})
    assert not list(tmp_path.iterdir())


def test_progress_is_shown_only_when_asked(tmp_path, capsys):
    write("csv", tmp_path / "quiet", identities=4, images=1, progress=False)
    assert capsys.readouterr().err == ""
    write("csv", tmp_path / "loud", identities=4, images=1, progress=True)
    assert "csv" in capsys.readouterr().err
