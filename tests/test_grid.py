import json

import numpy as np
import pytest
from scipy.io import savemat
from tiny_layouts import assert_perfect, images, noise, plain_scores, scores

from crossreid.data.sets import grid
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError

IDENTITIES = 6
TAIL = "25004_107_32_106_221.jpeg"


def write(root):
    images(root / "probe", [f"{n:04d}_{1 + n % 3}_{TAIL}" for n in range(1, IDENTITIES + 1)])
    images(root / "gallery", [f"{n:04d}_{5 + n % 3}_{TAIL}" for n in range(1, IDENTITIES + 1)])
    images(root / "gallery", [f"0000_{n}_{n}{TAIL}" for n in range(1, 5)])
    return root


def training(fold):
    return sorted({1 + (fold + step) % IDENTITIES for step in range(3)})


def write_matrix(root):
    cells = np.empty((1, 10), object)
    for place in range(10):
        kind = [(name, object) for name in ("probe", "test", "training")]
        inner = np.empty((1, 1), kind)
        inner[0, 0] = (np.array([[1]]), np.array([[2]]), np.array([training(place + 1)], np.uint8))
        cells[0, place] = inner
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cells, "features": np.zeros((3, 3))})
    return root


def expected(fold):
    tested = sorted(set(range(1, IDENTITIES + 1)) - set(training(fold)))
    return tested, [0, 0, 0, 0, *tested]


def test_official_partitions(tmp_path):
    root = write_matrix(write(tmp_path / "GRID ß"))
    for fold in range(1, 11):
        splits = grid.read(root, fold=fold)
        assert sorted({i.identity for i in splits["train"]}) == training(fold) and len(splits["train"]) == 6
        assert ([i.identity for i in splits["query"]], [i.identity for i in splits["gallery"]]) == expected(
            fold
        )
    assert splits["query"][0].camera == 1 + splits["query"][0].identity % 3


def test_a_split_file_is_read_by_names_alone(tmp_path):
    root = write(tmp_path)
    splits = []
    for fold in range(1, 11):
        trained = set(training(fold))
        split = {"train": [], "query": [], "gallery": []}
        for part in ("probe", "gallery"):
            for path in sorted((root / part).iterdir()):
                identity = int(path.name[:4])
                key = "train" if identity in trained else {"probe": "query"}.get(part, part)
                # Training persons carry class indices in such files.
                split[key].append([f"datasets/GRID/{part}/{path.name}", 0 if key == "train" else identity, 0])
        splits.append({**split, "num_gallery_pids": 900})
    (root / "splits.json").write_text(json.dumps(splits))
    from_file = [grid.read(root, fold=fold) for fold in range(1, 11)]
    (root / "splits.json").unlink()
    write_matrix(root)
    assert from_file == [grid.read(root, fold=fold) for fold in range(1, 11)]
    splits[0]["train"][0][0] = "datasets/GRID/probe/9999_1_x.jpeg"
    (root / "splits_single_shot.json").write_text(json.dumps(splits))
    with pytest.raises(UserError, match="9999"):
        grid.read(root)


def test_without_partitions_nothing_is_guessed(tmp_path):
    root = write(tmp_path)
    with pytest.raises(UserError, match="features_and_partitions"):
        grid.read(root)
    (root / "features_and_partitions.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"x" * 200)
    with pytest.raises(UserError, match="features_and_partitions"):
        grid.read(root)
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": np.arange(10)})
    with pytest.raises(UserError, match="trainIdxAll"):
        grid.read(root)


def test_a_missing_probe_is_an_error(tmp_path):
    root = write_matrix(write(tmp_path))
    next((root / "probe").glob(f"{training(1)[0]:04d}*")).unlink()
    with pytest.raises(UserError, match="without a probe"):
        grid.read(root)


def test_known_scores(tmp_path):
    write_matrix(write(tmp_path / "GRID"))
    protocol = Generalization(tmp_path, targets=["grid"])
    assert_perfect(protocol, ["GRID"])
    vectors = noise(protocol.images)
    found = scores(protocol, vectors)["GRID"]
    slow = np.array([plain_scores(trial, protocol.images, vectors, "image") for trial in protocol.trials()])
    assert found.cmc[0] == pytest.approx(slow[:, 0].mean())
    assert found.mean_ap == pytest.approx(slow[:, 1].mean())
    # Every distractor is nearer than any match: each query finds its own as the fifth.
    by_hand = np.array(
        [[0.0] if i.identity == 0 else [i.identity + (i.camera > 4) * 100.0] for i in protocol.images]
    )
    by_hand[[i.camera <= 4 and i.identity > 0 for i in protocol.images]] = 0
    by_hand[[i.camera > 4 for i in protocol.images]] = 50
    tie = scores(protocol, by_hand)["GRID"]
    assert tie.cmc[3] == 0 and tie.cmc[6] == 1
    assert tie.mean_ap == pytest.approx((1 / 5 + 1 / 6 + 1 / 7) / 3)
