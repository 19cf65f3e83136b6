"""The readers of the smaller sets, of sequences read as images, and of sets in which a part of the person is hidden."""

import numpy as np
import pytest
from scipy.io import savemat
from tiny_layouts import assert_perfect
from tiny_layouts import images as touch_images

from crossreid import data, protocols
from crossreid.data import split_files
from crossreid.data.prepare import prepare
from crossreid.records import UserError


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def numbers(images):
    return [(image.identity, image.camera) for image in images]


def write_cuhk01(root, identities=range(1, 972)):
    touch(root / "campus", [f"{n:04d}{k:03d}.png" for n in identities for k in range(1, 5)])


def write_prid450s(root, identities=range(1, 451)):
    for camera in "ab":
        touch(root / f"cam_{camera}", [f"img_{n:03d}.png" for n in identities])


def write_pku_reid(root, identities=range(1, 115)):
    names = [f"{n:02d}_{c}_{o}.png" for n in identities for c in (1, 2) for o in range(1, 9)]
    touch(root / "PKUv1a_128x48", names)


def write_sensereid(root, identities=range(1, 1718), queries=522):
    touch(
        root / "test_probe", [f"{n:05d}_{c}.jpg" for n in list(identities)[:queries] for c in (0, 1)][:1040]
    )
    touch(root / "test_gallery", [f"{n:05d}_{c}.jpg" for n in identities for c in (2, 3)][:3388])


def write_caviar4reid(root, identities=range(1, 73)):
    names = [f"{n:04d}{k:03d}.jpg" for n in identities for k in range(1, 21 if n <= 50 else 11)]
    touch(root / "CAVIARa", names)


def write_partial_reid(root, identities=range(1, 61)):
    for folder in ("partial_body_images", "whole_body_images", "occluded_body_images"):
        touch(root / folder, [f"{n:03d}_{k:03d}.jpg" for n in identities for k in range(1, 6)])


def write_partial_ilids(root, identities=range(1, 120), folders=("Probe", "Gallery")):
    for folder in folders:
        touch(root / folder, [f"{n:03d}.jpg" for n in identities])


WRITERS = {
    "cuhk01": write_cuhk01,
    "prid450s": write_prid450s,
    "pku_reid": write_pku_reid,
    "caviar4reid": write_caviar4reid,
    "partial_reid": write_partial_reid,
    "partial_ilids": write_partial_ilids,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_complete_copy_has_no_findings_and_another_has(tmp_path, name):
    root = tmp_path / "ü x" / data.get(name).folder
    WRITERS[name](root)
    assert data.check(name, root.parent) == []
    WRITERS[name](tmp_path / "fewer", identities=range(1, 41))
    assert data.check(name, tmp_path / "fewer")


@pytest.mark.parametrize("name", ["cuhk01", "prid450s", "pku_reid"])
def test_ten_halves_and_camera_1_searches_camera_2(tmp_path, name):
    WRITERS[name](tmp_path, identities=range(1, 21))
    before = sorted(tmp_path.rglob("*"))
    found = [data.read(name, tmp_path, fold=fold) for fold in range(1, 11)]
    for splits in found:
        trained, tested = ({image.identity for image in splits[split]} for split in ("train", "query"))
        assert len(trained) == len(tested) == 10 and not trained & tested
        assert {image.camera for image in splits["query"]} == {1}
        assert {image.camera for image in splits["gallery"]} == {2}
        assert {image.identity for image in splits["gallery"]} == tested
    assert len({tuple(splits["query"]) for splits in found}) == 10
    assert sorted(tmp_path.rglob("*")) == before
    # The file that prepare writes is read, and belongs to this copy.
    split_files.keep(data.get(name), tmp_path)
    assert [data.read(name, tmp_path, fold=fold) for fold in range(1, 11)] == found
    WRITERS[name](tmp_path, identities=[77])
    with pytest.raises(UserError, match=split_files.FILE):
        data.read(name, tmp_path)


def test_the_first_half_of_cuhk01_never_changes(tmp_path):
    write_cuhk01(tmp_path)
    train = {image.identity for image in data.read("cuhk01", tmp_path)["train"]}
    assert sorted(train)[:8] == [4, 5, 6, 7, 8, 10, 11, 14]


def test_masks_beside_the_images_of_prid450s_are_not_read(tmp_path):
    write_prid450s(tmp_path, identities=range(1, 5))
    before = data.read("prid450s", tmp_path)
    touch(tmp_path / "cam_a", ["mask_001.png", "parts_001.png"])
    assert data.read("prid450s", tmp_path) == before


def test_sensereid_is_read_under_both_names(tmp_path):
    write_sensereid(tmp_path / "SenseReID")
    assert [f for f in data.check("sensereid", tmp_path) if f.severity == "error"] == []
    splits = data.read("sensereid", tmp_path)
    assert set(splits) == {"query", "gallery"} and numbers(splits["query"][:3]) == [(1, 0), (1, 1), (2, 0)]
    (tmp_path / "SenseReID" / "test_probe").rename(tmp_path / "SenseReID" / "test_prob")
    assert numbers(data.read("sensereid", tmp_path)["query"]) == numbers(splits["query"])


def test_the_second_camera_of_caviar_begins_at_image_11(tmp_path):
    write_caviar4reid(tmp_path)
    splits = data.read("caviar4reid", tmp_path)
    assert numbers(splits["query"]) == [(n, 1) for n in range(1, 51) for _ in range(10)]
    assert {camera for identity, camera in numbers(splits["gallery"]) if identity > 50} == {1}
    assert len(data.read("caviar4reid", tmp_path, all_images=True)["train"]) == 1220


def test_sequences_take_the_cameras_place_in_3dpes(tmp_path):
    names = [
        "100_3_FRAME_26_RGB.bmp",
        "100_3_FRAME_51_RGB.bmp",
        "100_12_FRAME_1_RGB.bmp",
        "7_1_FRAME_2_RGB.bmp",
    ]
    touch(tmp_path / "RGB", [*names, "7_2_FRAME_2_RGB.bmp"])
    splits = data.read("pes3d", tmp_path)
    assert numbers(splits["query"]) == [(100, 12), (100, 3), (7, 1)]
    assert numbers(splits["gallery"]) == [(100, 3), (7, 2)]
    assert "papers say 192 and 1011" in data.check("pes3d", tmp_path)[-1].text


def test_scenes_and_views_of_lpw(tmp_path):
    for scene, view, identity in [(1, 1, 5), (1, 2, 5), (1, 3, 5), (2, 4, 5), (3, 1, 5), (3, 4, 6)]:
        touch(tmp_path / f"scen{scene}/view{view}/{identity}", ["1.jpg", "2.jpg"])
    splits = data.read("lpw", tmp_path)
    assert numbers(splits["query"]) == [(100005, 2)] * 2
    assert numbers(splits["gallery"]) == [(100005, 1)] * 2 + [(100005, 3)] * 2
    assert numbers(splits["train"]) == [(200005, 7)] * 2 + [(300005, 8)] * 2 + [(300006, 11)] * 2
    assert "scen2/view1 is missing." in {finding.text for finding in data.check("lpw", tmp_path)}


def write_mars(root, parts=("train", "test")):
    (root / "info").mkdir(parents=True)
    tracklets = {
        "train": [(1, 2, 1, 1), (3, 3, 1, 2)],
        "test": [(1, 1, -1, 1), (2, 2, 0, 3), (3, 4, 2, 1), (5, 6, 2, 6)],
    }
    for part in parts:
        names = []
        for number, (first, last, identity, camera) in enumerate(tracklets[part], 1):
            word = "00-1" if identity < 0 else f"{identity:04d}"
            here = [f"{word}C{camera}T{number:04d}F{frame:03d}.jpg" for frame in range(1, last - first + 2)]
            touch(root / f"bbox_{part}" / word, here)
            names += here
        (root / f"info/{part}_name.txt").write_text("".join(f"{name}\r\n" for name in names))
        savemat(
            root / f"info/tracks_{part}_info.mat", {f"track_{part}_info": np.array(tracklets[part], np.int32)}
        )
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[4]], np.uint16)})


def test_mars_as_images(tmp_path):
    write_mars(tmp_path / "MARS")
    splits = data.read("mars", tmp_path)
    assert numbers(splits["train"]) == [(1, 1), (1, 1), (1, 2)]
    assert numbers(splits["query"]) == [(2, 6)] and splits["query"][0].path.name == "0002C6T0004F001.jpg"
    assert numbers(splits["gallery"]) == [(0, 3), (2, 1), (2, 1)]
    assert all(image.path.is_file() for images in splits.values() for image in images)
    assert_perfect(protocols.build("single_query", {"source": "mars"}, {"mars": tmp_path}), ["MARS"])
    splits["gallery"][1].path.unlink()
    assert "1 of 7 listed images are missing" in " ".join(f.text for f in data.check("mars", tmp_path))


def test_mars_as_tracklets(tmp_path):
    import torch

    from crossreid.evaluation.embedding import of_tracklets
    from crossreid.records import Embedding

    write_mars(tmp_path / "MARS")
    splits = data.read("mars", tmp_path, tracklets=True)
    assert numbers(splits["train"]) == [(1, 1), (1, 1), (1, 2)]
    assert numbers(splits["query"]) == [(2, 6)] and numbers(splits["gallery"]) == [(0, 3), (2, 1)]
    assert [path.name for path in splits["query"][0].others] == ["0002C6T0004F002.jpg"]
    protocol = protocols.build(
        "single_query", {"source": "mars", "settings": {"tracklets": True}}, {"mars": tmp_path}
    )
    assert len(protocol.images) == 3 and len(protocol.trials()[0].gallery) == 2

    def crops(images):
        return Embedding(torch.tensor([[2.0, 0], [0, 3.0]] if len(images) == 2 else [[1.0, 0]] * len(images)))

    found = of_tracklets(splits["query"], crops)
    assert torch.allclose(found.feature, torch.tensor([[0.5**0.5, 0.5**0.5]]))
    with pytest.raises(UserError, match="did you mean 'tracklets'"):
        data.read("mars", tmp_path, tracklet=True)


def test_test_tracklets_of_mars_alone_can_be_scored(tmp_path):
    write_mars(tmp_path, parts=["test"])
    assert set(data.read("mars", tmp_path)) == {"query", "gallery"}


@pytest.mark.parametrize(
    ("file", "variable", "value", "words"),
    [
        ("query_IDX", "query_IDX", [[5]], "points outside"),
        ("tracks_test_info", "track_test_info", [[1, 9, 2, 1]], "does not list tracklets"),
        ("tracks_test_info", "track_test_info", [[1, 1, 7, 1]] * 4, "00-1C1T0001F001.jpg to identity 7"),
    ],
)
def test_lists_of_mars_that_do_not_fit_are_an_error(tmp_path, file, variable, value, words):
    write_mars(tmp_path)
    savemat(tmp_path / f"info/{file}.mat", {variable: np.array(value)})
    with pytest.raises(UserError, match=words):
        data.read("mars", tmp_path)


def write_ilids_vid(root, folders=(1, 2, 5, 319)):
    for camera in (1, 2):
        for number in folders:
            name = f"person{number:03d}"
            sequence = root / f"i-LIDS-VID/sequences/cam{camera}/{name}"
            touch(sequence, [f"cam{camera}_{name}_{frame:05d}.png" for frame in (317, 318)])
    home = root / "train-test people splits"
    home.mkdir()
    orders = [np.roll([3, 1, 4, 2], fold) for fold in range(10)]
    savemat(home / "train_test_splits_ilidsvid.mat", {"ls_set": np.array(orders, np.float64)})


def test_official_partitions_of_ilids_vid(tmp_path):
    write_ilids_vid(tmp_path)
    splits = data.read("ilids_vid", tmp_path)
    # Places 3 and 1 of the sorted folders are for testing.
    assert numbers(splits["query"]) == [(1, 1), (5, 1)]
    assert numbers(splits["gallery"]) == [(1, 2)] * 2 + [(5, 2)] * 2
    assert numbers(splits["train"]) == [(2, 1)] * 2 + [(319, 1)] * 2 + [(2, 2)] * 2 + [(319, 2)] * 2
    assert {i.identity for i in data.read("ilids_vid", tmp_path, fold=2)["query"]} == {2, 5}
    touch(tmp_path / "i-LIDS-VID/sequences/cam1/person400", ["a.png"])
    with pytest.raises(UserError, match="same folders"):
        data.read("ilids_vid", tmp_path)


def test_queries_of_partial_reid(tmp_path):
    write_partial_reid(tmp_path)
    assert {i.camera for i in data.read("partial_reid", tmp_path)["query"]} == {1}
    occluded = data.read("partial_reid", tmp_path, queries="occluded")
    assert occluded["query"][0].path.parent.name == "occluded_body_images"
    assert {i.camera for i in occluded["gallery"]} == {2}
    with pytest.raises(UserError, match="partial, occluded"):
        data.read("partial_reid", tmp_path, queries="whole")


def test_partial_ilids_is_read_under_both_names(tmp_path):
    write_partial_ilids(tmp_path / "a", identities=[1, 12, 119])
    write_partial_ilids(tmp_path / "b", identities=[1, 12, 119], folders=("query", "gallery"))
    for root in (tmp_path / "a", tmp_path / "b"):
        splits = data.read("partial_ilids", root)
        assert numbers(splits["query"]) == [(1, 1), (12, 1), (119, 1)]
        assert numbers(splits["gallery"]) == [(1, 2), (12, 2), (119, 2)]


def test_half_a_million_distractors_have_a_name_of_their_own(tmp_path):
    for folder, names in {
        "query": ["0001_c1s1_000001_00.jpg"],
        "bounding_box_test": ["0001_c2s1_000001_00.jpg"],
        "images": ["00000001.jpg", "00000002.jpg"],
    }.items():
        touch(tmp_path / folder, names)
    gallery = data.read("market1501_500k", tmp_path)["gallery"]
    assert numbers(gallery) == [(1, 2), (0, 0), (0, 0)]
    assert numbers(data.read("market1501", tmp_path)["gallery"]) == [(1, 2)]


def test_sets_for_testing_are_trained_on_by_choice_only(tmp_path):
    from crossreid.data.loading import training_set
    from crossreid.data.settings import DataConfig

    write_caviar4reid(tmp_path, identities=range(45, 55))
    config = {"name": "caviar4reid", "roots": {"caviar4reid": str(tmp_path)}}
    with pytest.raises(UserError, match=r"data\.settings\.caviar4reid\.all_images"):
        training_set(DataConfig(**config))
    images, labels, _, _ = training_set(DataConfig(**config, settings={"all_images": True}))
    assert len(images) == 160 and labels.classes == 10


def test_prepare_decodes_a_new_set_too(tmp_path):
    touch_images(tmp_path / "campus", [f"{n:04d}{k:03d}.png" for n in range(1, 5) for k in range(1, 5)])
    assert prepare("cuhk01", tmp_path, size=(8, 4)).is_file()
    assert (tmp_path / split_files.FILE).is_file()
