"""The protocol of SYSU-MM01: who is drawn, what is left out, and the worked example."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from crossreid import protocols
from crossreid.data.sets import sysu_mm01 as source
from crossreid.formats import matlab
from crossreid.protocols.sysu_mm01 import CAMERAS, PLACES, SysuMM01, official_gallery, seeded_gallery
from crossreid.records import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "sysu"

# The real numbers of images of the first test identities, in cameras 1 to 6.
COUNTS = {6: (42, 29, 20, 20, 20, 20), 10: (34, 30, 20, 20, 20, 20), 17: (0, 0, 20, 20, 20, 20)}


def gallery_counts(mode, counts=COUNTS):
    return {
        (identity, camera): cameras[camera - 1]
        for identity, cameras in counts.items()
        for camera in CAMERAS[mode]
    }


def official_cells(counts, seed=0):
    state = np.random.RandomState(seed)
    outer = np.empty((6, 1), object)
    for camera in range(6):
        inner = np.empty((533, 1), object)
        for position in range(533):
            count = counts.get(position + 1, (0,) * 6)[camera]
            rows = [state.permutation(count) + 1 for _ in range(10)]
            inner[position, 0] = np.array(rows, dtype=np.uint8).reshape(10, count)
        outer[camera, 0] = inner
    return outer


@pytest.fixture
def root(tmp_path):
    counts = {**COUNTS, 1: (1, 1, 1, 1, 1, 1), 334: (0, 0, 3, 12, 2, 0), 335: (0, 0, 2, 11, 0, 0)}
    for identity, cameras in counts.items():
        for camera, count in enumerate(cameras, 1):
            folder = tmp_path / f"cam{camera}" / f"{identity:04d}"
            folder.mkdir(parents=True)
            for number in range(1, count + 1):
                (folder / f"{number:04d}.jpg").write_bytes(b"x")
    (tmp_path / "exp").mkdir()
    for part, ids in {"train": [1], "val": [334, 335], "test": COUNTS}.items():
        (tmp_path / "exp" / f"{part}_id.txt").write_text(",".join(map(str, ids)))
    return tmp_path


def test_seeded_draws_are_those_of_the_published_code():
    def draw(mode, trial):
        return seeded_gallery(gallery_counts(mode), 1, trial)

    assert draw("all", 0) == [
        (6, 1, 24), (6, 2, 24), (6, 4, 13), (6, 5, 1), (10, 1, 16), (10, 2, 16), (10, 4, 15), (10, 5, 12),
        (17, 4, 9), (17, 5, 15),
    ]  # fmt: skip
    assert draw("all", 1)[:6] == [(6, 1, 8), (6, 2, 18), (6, 4, 2), (6, 5, 8), (10, 1, 7), (10, 2, 15)]
    assert draw("indoor", 0) == [(6, 1, 24), (6, 2, 24), (10, 1, 26), (10, 2, 1)]


def test_ten_shots_follow_the_stated_rule():
    counts = gallery_counts("indoor") | {(99, 1): 4}
    state = np.random.RandomState(3)
    expected = []
    for identity, camera in sorted(key for key in counts if counts[key]):
        positions = state.choice(counts[identity, camera], min(10, counts[identity, camera]), replace=False)
        expected += [(identity, camera, position) for position in positions]
    drawn = seeded_gallery(counts, 10, 3)
    assert drawn == expected and len(drawn) == len(set(drawn)) == 44


@pytest.mark.skipif(not SHARED.exists(), reason="the official split files are not there")
@pytest.mark.parametrize(
    ("mode", "size", "digest", "sums"),
    [
        (
            "all",
            301,
            "0d9997b049a4316b59ddec15f1d976112bd70cb2",
            [3348, 3265, 3168, 3338, 3118, 3181, 3404, 3244, 3285, 3152],
        ),
        (
            "indoor",
            112,
            "4f5f5ea93646a9c3bab4c592ac0b00ee13d2c987",
            [1535, 1456, 1610, 1569, 1346, 1375, 1488, 1370, 1417, 1264],
        ),
    ],
)
def test_whole_galleries(mode, size, digest, sums):
    with open(SHARED / "image_counts.csv", newline="") as file:
        table = {
            int(row["pid"]): [int(row[f"cam{camera}"]) for camera in range(1, 7)]
            for row in csv.DictReader(file)
        }
    counts = gallery_counts(mode, {identity: table[identity] for identity in source.OFFICIAL["test"]})
    draws = np.array([seeded_gallery(counts, 1, trial) for trial in range(10)], dtype="<i4")
    assert draws.shape == (10, size, 3) and draws[:, :, 2].sum(1).tolist() == sums
    assert hashlib.sha1(draws.tobytes()).hexdigest() == digest
    cells = matlab.read_variables(SHARED / "rand_perm_cam.mat", ["rand_perm_cam"])["rand_perm_cam"]
    for shots in (1, 10):
        picks = official_gallery(cells, counts, shots, 9)
        assert len(picks) == len(set(picks)) == size * shots
        assert [pick[1::-1] for pick in picks] == sorted(pick[1::-1] for pick in picks)
        assert len(seeded_gallery(counts, shots, 9)) == size * shots
    # Of the 3803 queries, those whose identity has a gallery image that the room of camera 3 leaves them.
    places = {
        identity: {camera for camera in CAMERAS[mode] if table[identity][camera - 1]} for identity in table
    }
    queries = [
        (camera, table[identity][camera - 1])
        for identity in source.OFFICIAL["test"]
        for camera in (3, 6)
        if places[identity] - ({2} if camera == 3 else set())
    ]
    assert sum(count for _, count in queries) == (3803 if mode == "all" else 2208)
    assert sum(count for camera, count in queries if camera == 3) == (1883 if mode == "all" else 1088)


def test_official_draws_are_one_based_bytes():
    cells = official_cells(COUNTS)
    picks = official_gallery(cells, gallery_counts("all"), 10, 4)
    expected = []
    for camera in (1, 2, 4, 5):
        for identity in (6, 10, 17):
            row = cells[camera - 1, 0][identity - 1, 0]
            if row.shape[1]:
                expected += [(identity, camera, int(position) - 1) for position in row[4][:10]]
    assert (
        picks == expected
        and {pick[2] for pick in picks} <= set(range(42))
        and 0 in {pick[2] for pick in picks}
    )
    with pytest.raises(UserError, match=r"cam1/0006 has 41 images, but rand_perm_cam.mat counts 42"):
        official_gallery(cells, {(6, 1): 41}, 1, 0)
    with pytest.raises(UserError, match="counts 0 there"):
        official_gallery(cells, {(600, 1): 3}, 1, 0)


def test_roles_and_rooms(root):
    protocol = SysuMM01(root)
    assert protocol.name == "sysu_mm01" and protocol.cmc == "identity"
    trials = protocol.trials()
    assert len(trials) == 10 and {trial.subset for trial in trials} == {"all"}
    for trial in trials:
        queries = [protocol.images[index] for index in trial.query]
        gallery = [protocol.images[index] for index in trial.gallery]
        assert len(queries) == 120 and {image.camera for image in queries} == {3, 6}
        assert {image.modality for image in queries} == {"infrared"}
        assert {image.modality for image in gallery} == {"visible"} and len(gallery) == 10
        mine, theirs = trial.excluded
        for query, place in zip(queries, mine):
            dropped = {image.camera for image, other in zip(gallery, theirs) if other == place}
            assert dropped == ({2} if query.camera == 3 else set())
    assert PLACES[1:].tolist() == [1, 2, 2, 4, 5, 6]
    first = [protocol.images[index] for index in trials[0].gallery]
    assert first[0].path == root / "cam1" / "0006" / "0025.jpg"
    used = set(trials[0].query).union(*(trial.gallery for trial in trials))
    assert used == set(range(len(protocol.images))) and len(set(protocol.images)) == len(protocol.images)


@pytest.mark.parametrize("place", ["rand_perm_cam.mat", "exp/rand_perm_cam.mat"])
def test_auto_takes_the_official_file_where_it_is(root, place):
    seeded = SysuMM01(root, shots=10, mode="indoor")
    assert "rule of this library" in seeded.description and "indoor" in seeded.description
    with pytest.raises(UserError, match="neither in"):
        SysuMM01(root, gallery="official")
    cells = official_cells(COUNTS)
    savemat(root / place, {"rand_perm_cam": cells})
    auto = SysuMM01(root, shots=10, mode="indoor")
    assert "rand_perm_cam.mat" in auto.description
    for trial, (chosen, explicit) in enumerate(
        zip(auto.trials(), SysuMM01(root, shots=10, mode="indoor", gallery="official").trials())
    ):
        assert (chosen.gallery == explicit.gallery).all()
        first = auto.images[chosen.gallery[0]]
        assert first.path.name == f"{cells[0, 0][5, 0][trial, 0]:04d}.jpg" and first.camera == 1
    python = SysuMM01(root, shots=1, gallery="python")
    assert "as in DDAG and AGW" in python.description and len(python.trials()) == 10
    (root / place).write_text("not a matrix")
    with pytest.raises(UserError, match="cannot be read"):
        SysuMM01(root)
    SysuMM01(root, gallery="python")


def test_validation_identities(root):
    protocol = SysuMM01(root, split="validation", trials=2, shots=10)
    trial = protocol.trials()[1]
    assert {protocol.images[index].identity for index in trial.query} == {334, 335} and len(trial.query) == 5
    assert [(protocol.images[i].identity, protocol.images[i].camera) for i in trial.gallery] == [
        *[(334, 4)] * 10, *[(334, 5)] * 2, *[(335, 4)] * 10,
    ]  # fmt: skip
    assert "2 validation identities" in protocol.description and "mean of 2 trials" in protocol.description
    with pytest.raises(UserError, match="use mode 'all'"):
        SysuMM01(root, split="validation", mode="indoor")


@pytest.mark.parametrize(
    "settings",
    [{"mode": "outdoor"}, {"shots": 5}, {"trials": 0}, {"trials": 11}, {"gallery": "x"}, {"split": "train"}],
)
def test_unknown_settings(root, settings):
    with pytest.raises(UserError, match=f"{next(iter(settings))} is .*, expected one of"):
        SysuMM01(root, **settings)


def test_it_is_in_the_table():
    assert protocols.get("sysu_mm01") is SysuMM01
    with pytest.raises(UserError, match="did you mean 'sysu_mm01'"):
        protocols.get("sysu-mm01")


DISTANCE = [[0.5, 0.1, 0.2, 0.3, 0.05, 0.6], [0.4, 0.35, 0.1, 0.7, 0.2, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
QUERY, GALLERY = np.array([1, 2, 4]), np.array([1, 1, 2, 2, 3, 3])
GALLERY_CAMERAS = np.array([1, 2, 1, 4, 2, 5])


def identity_and_camera(identities, cameras):
    return np.asarray(identities) * 10 + np.asarray(cameras)


@pytest.mark.parametrize(
    ("excluded", "cmc", "curve", "mean_ap", "mean_inp"),
    [
        # SYSU-MM01: cameras 3, 6, 6 of the queries.
        ((PLACES[[3, 6, 6]], PLACES[GALLERY_CAMERAS]), "identity", [0.5, 1, 1], 0.5, 1 / 3),
        # RegDB: no rule.
        (None, "image", [0.5, 1, 1, 1, 1, 1], 0.45 / 2 + 1 / 3, (0.4 + 1 / 3) / 2),
        # LLCM: the same person by the same camera; cameras 1, 4, 6 of the queries.
        (
            (identity_and_camera(QUERY, [1, 4, 6]), identity_and_camera(GALLERY, GALLERY_CAMERAS)),
            "identity",
            [0.5, 1, 1],
            0.75,
            0.75,
        ),
    ],
)
def test_worked_example_of_the_documentation(excluded, cmc, curve, mean_ap, mean_inp):
    ranking = pytest.importorskip("crossreid.ops.ranking")
    scores = ranking.evaluate_distance(np.array(DISTANCE), QUERY, GALLERY, excluded=excluded, cmc=cmc)
    assert scores.valid == 2 and scores.queries == 3
    assert scores.cmc[: len(curve)] == pytest.approx(curve)
    assert scores.cmc[len(curve) :] == pytest.approx(1)
    assert scores.mean_ap == pytest.approx(mean_ap) and scores.mean_inp == pytest.approx(mean_inp)
