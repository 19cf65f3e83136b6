import json
import os
import subprocess
import sys

import pytest
from tiny_layouts import assert_perfect, images

from crossreid import data
from crossreid.data import split_files
from crossreid.data.prepare import prepare
from crossreid.data.sets import prid2011
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError

SHARED = 12


def write(root):
    # 201 and 202 are other persons in cam_a than in cam_b.
    images(root / "single_shot/cam_a", [f"person_{n:04d}.png" for n in [*range(1, SHARED + 1), 201, 202]])
    images(
        root / "single_shot/cam_b", [f"person_{n:04d}.png" for n in [*range(1, SHARED + 1), 201, 202, 203]]
    )
    (root / "single_shot/cam_b/Thumbs.db").write_bytes(b"x")
    return root


def test_halves_and_strangers(tmp_path):
    root = write(tmp_path / "Ü x" / "prid_2011")
    for fold in (1, 10):
        splits = prid2011.read(root, fold=fold)
        train, test = ({i.identity for i in splits[name]} for name in ("train", "query"))
        assert len(train) == len(test) == SHARED // 2 and train | test == set(range(1, SHARED + 1))
        assert len(splits["train"]) == SHARED and {i.camera for i in splits["train"]} == {1, 2}
        assert {i.camera for i in splits["query"]} == {1} and {i.camera for i in splits["gallery"]} == {2}
        assert [i.identity for i in splits["gallery"]] == [*sorted(test), 201, 202, 203]
    assert prid2011.read(root, fold=1)["query"] != prid2011.read(root, fold=2)["query"]


def test_a_complete_copy_has_equal_halves_that_never_change():
    splits = prid2011._generate(list(range(1, 201)))
    assert [len(half) for split in splits for half in (split["train"], split["test"])] == [100] * 20
    assert splits[0]["train"][:10] == FIRST
    # A missing person does not move the others by more than the border between the halves.
    fewer = prid2011._generate([n for n in range(1, 201) if n != 77])
    assert all(len(set(a["test"]) - set(b["test"])) <= 1 for a, b in zip(splits, fewer))


FIRST = [4, 5, 6, 7, 8, 10, 11, 14, 15, 17]


def test_splits_are_written_by_prepare_alone_and_kept(tmp_path):
    root = write(tmp_path / "data")
    there = sorted(root.rglob("*"))
    before = prid2011.read(root)
    data.check("prid2011", root)
    assert sorted(root.rglob("*")) == there
    prepare("prid2011", root, size=(8, 4))
    file = root / split_files.FILE
    content = json.loads(file.read_text())
    assert prid2011.read(root) == before and len(content["splits"]) == 10
    content["splits"][0] = content["splits"][1]
    file.write_text(json.dumps(content))
    assert prid2011.read(root) == prid2011.read(root, fold=2) != before
    prepare("prid2011", root, size=(8, 4))
    assert json.loads(file.read_text()) == content
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_the_authors_file_comes_first(tmp_path):
    root = write(tmp_path / "data")
    prid2011.read(root)
    theirs = [{"train": [1, 2, 3], "test": list(range(4, 13))}] * 10
    (root / "splits_single_shot.json").write_text(json.dumps(theirs))
    assert {i.identity for i in prid2011.read(root)["train"]} == {1, 2, 3}


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '[{"train": [1]}]',
        json.dumps([{"train": [1, 2], "test": [2, 3]}] * 10),
        json.dumps([{"train": [1, 2], "test": [3, 444]}] * 10),
    ],
)
def test_a_file_that_does_not_fit_is_an_error_and_stays(tmp_path, content):
    root = write(tmp_path / "data")
    file = root / "splits_single_shot.json"
    file.write_text(content)
    with pytest.raises(UserError, match="splits_single_shot"):
        prid2011.read(root)
    assert file.read_text() == content
    assert not (root / split_files.FILE).exists()


def test_other_hash_seeds_give_the_same_splits(tmp_path):
    root = write(tmp_path / "data")
    here = [i.identity for i in prid2011.read(root)["query"]]
    program = (
        "import sys; from pathlib import Path; from crossreid.data.sets import prid2011 as p; "
        "print([i.identity for i in p.read(Path(sys.argv[1]))['query']]); assert 'torch' not in sys.modules"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert there.stdout.strip() == str(here)


@pytest.mark.parametrize("fold", [0, 11, "1"])
def test_there_are_ten_folds(tmp_path, fold):
    with pytest.raises(UserError, match="1 to 10"):
        prid2011.read(write(tmp_path), fold=fold)


def test_perfect_vectors_score_one(tmp_path):
    write(tmp_path / "prid_2011")
    protocol = Generalization(tmp_path, targets=["prid2011"])
    assert len(protocol.trials()) == 10
    assert_perfect(protocol, ["PRID"])
