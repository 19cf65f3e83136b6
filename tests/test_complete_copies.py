"""Copies with every file of the real data sets, without images in them: the published numbers are found."""

import json
import os

import numpy as np
import pytest
import test_grid
from scipy.io import savemat

from crossreid.data import split_files
from crossreid.data.sets import cuhk02, dukemtmc, grid, ilids, prid2011, regdb, viper
from crossreid.records import UserError


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        # One byte, because images without any are reported.
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"x")


def write_viper(root):
    numbers = [n for n in range(1000) if n % 10 < 7][:632]
    for letter in "ab":
        touch(root / f"cam_{letter}", [f"{n:03d}_45.bmp" for n in numbers])


def write_prid2011(root):
    for letter, count in (("a", 385), ("b", 749)):
        touch(root / f"single_shot/cam_{letter}", [f"person_{n:04d}.png" for n in range(1, count + 1)])


def write_ilids(root):
    touch(root / "images", [f"{n:04d}{k:03d}.jpg" for n in range(1, 120) for k in range(1, 5)])


def write_grid(root):
    touch(root / "probe", [f"{n:04d}_1_{test_grid.TAIL}" for n in range(1, 251)])
    touch(root / "gallery", [f"{n:04d}_5_{test_grid.TAIL}" for n in range(1, 251)])
    touch(root / "gallery", [f"0000_5_{n}_{test_grid.TAIL}" for n in range(775)])
    cells = np.empty((1, 10), object)
    for place in range(10):
        cells[0, place] = np.empty((1, 1), [("a", object), ("b", object), ("training", object)])
        cells[0, place][0, 0] = (0, 0, np.array([np.random.RandomState(place).permutation(250)[:125] + 1]))
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cells})


def write_cuhk02(root):
    for pair, count in enumerate((971, 306, 107, 193, 239), 1):
        for side in (1, 2):
            touch(
                root / f"P{pair}/cam{side}", [f"{n:03d}_{k}.png" for n in range(1, count + 1) for k in (1, 2)]
            )


def write_regdb(root):
    names = {}
    for folder, letter in (("Visible", "v"), ("Thermal", "t")):
        for n in range(1, 413):
            files = [f"male_back_{letter}_{k:05d}_{n}.bmp" for k in range(10)]
            touch(root / folder / str(n), files)
            names[folder, n] = [f"{folder}/{n}/{file}" for file in files]
    (root / "idx").mkdir()
    for fold in range(1, 11):
        order = np.random.RandomState(fold).permutation(412) + 1
        for part, members in (("train", order[:206]), ("test", order[206:])):
            for folder in ("Visible", "Thermal"):
                lines = [f"{name} {label}\n" for label, n in enumerate(members) for name in names[folder, n]]
                (root / f"idx/{part}_{folder.lower()}_{fold}.txt").write_text("".join(lines))


MODULES = {module.SOURCE.name: module for module in (viper, prid2011, ilids, grid, cuhk02, regdb)}
# One file of one person, or a whole person: what an incomplete copy lacks.
LACKING = {
    "viper": "cam_b/000_45.bmp",
    "prid2011": "single_shot/cam_b/person_0500.png",
    "ilids": "images/0007001.jpg",
    "grid": "gallery/0000_5_3_" + test_grid.TAIL,
    "cuhk02": "P4/cam2/100_1.png",
    "regdb": "Thermal/9/male_back_t_00003_9.bmp",
}


def findings(module, root):
    splits = module.read(root)
    wrong = []
    for split, counts in module.SOURCE.expected.items():
        found = splits[split]
        numbers = len({i.identity for i in found}), len(found), len({i.camera for i in found})
        expected = counts.identities, counts.images, numbers[2] if counts.cameras is None else counts.cameras
        if numbers != expected:
            wrong.append((split, numbers, expected))
    return [*wrong, *module.check(root)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_complete_copy_has_no_findings_and_an_incomplete_one_has(tmp_path, name, monkeypatch):
    root = tmp_path / "copy"
    globals()[f"write_{name}"](root)
    assert findings(MODULES[name], root) == []
    (root / LACKING[name]).unlink()
    try:
        assert findings(MODULES[name], root)
    except UserError as error:
        # Where a split would be another without the file, reading stops.
        assert name in ("viper", "ilids") and str(tmp_path) in str(error)


@pytest.mark.parametrize("name", ["viper", "prid2011", "ilids", "grid"])
def test_strays_are_reported_and_not_read(tmp_path, name):
    root = tmp_path / "copy"
    globals()[f"write_{name}"](root)
    folder = (root / LACKING[name]).parent
    before = MODULES[name].read(root)
    touch(folder, ["Thumbs.db", ".DS_Store"])
    assert MODULES[name].read(root) == before
    assert [finding.severity for finding in MODULES[name].check(root)] == ["warning"]


def test_strays_of_duke_are_reported(tmp_path):
    from test_dukemtmc import write

    assert [finding.severity for finding in dukemtmc.SOURCE.check(write(tmp_path))] == ["warning"]


def test_generated_splits_are_json_that_others_can_read(tmp_path):
    write_ilids(tmp_path)
    split_files.keep(ilids.SOURCE, tmp_path)
    content = json.loads((tmp_path / "splits_crossreid.json").read_text())
    assert {len(split["query"]) for split in content["splits"]} == {60}
    assert content["data"] == "ilids" and content["made by"].startswith("crossreid")
