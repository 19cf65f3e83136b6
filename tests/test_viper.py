import json

import numpy as np
import pytest
from tiny_layouts import assert_perfect, image, images

from crossreid.data import split_files
from crossreid.data.sets import viper
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError

IDENTITIES = [0, 1, 2, 3, 45, 46, 100, 873]


def write(root):
    images(root / "cam_a", [f"{n:03d}_45.bmp" for n in IDENTITIES])
    images(root / "cam_b", [f"{n:03d}_{90 if n % 2 else 180}.bmp" for n in IDENTITIES])
    return root


def test_permutations_are_those_that_matlab_documents():
    assert (viper.permutations(6)[0] + 1).tolist() == [6, 3, 5, 1, 2, 4]
    assert (viper.permutations(8)[0] + 1).tolist() == [6, 3, 7, 8, 5, 1, 2, 4]
    drawn = viper.permutations(632)
    assert drawn[0][:10].tolist() == [608, 451, 122, 447, 98, 173, 332, 555, 395, 293]
    stream = np.random.RandomState(5489).random_sample(632 * 10).reshape(10, 632)
    assert (np.array(drawn) == np.argsort(stream, axis=1, kind="stable")).all()


def test_the_four_variants(tmp_path):
    root = write(tmp_path / "VIPeR mit Ä")
    half = {variant: viper.read(root, fold=3, variant=variant) for variant in "abcd"}
    order = viper.permutations(8)[2]
    first, last = ({IDENTITIES[place] for place in part} for part in (order[:4], order[4:]))
    for variant, trained, tested, camera in (
        ("a", first, last, 1),
        ("b", last, first, 1),
        ("c", first, last, 2),
        ("d", last, first, 2),
    ):
        splits = half[variant]
        assert {i.identity for i in splits["train"]} == trained and len(splits["train"]) == 8
        assert {i.identity for i in splits["query"]} == {i.identity for i in splits["gallery"]} == tested
        assert {i.camera for i in splits["query"]} == {camera}
        assert {i.camera for i in splits["gallery"]} == {3 - camera}
    split_files.keep(viper.SOURCE, root)
    assert json.loads((root / split_files.FILE).read_text())["splits"][2]["train"] == [
        IDENTITIES[place] for place in order[:4]
    ]
    assert {variant: viper.read(root, fold=3, variant=variant) for variant in "abcd"} == half


def test_folders_of_the_authors_script_come_first(tmp_path):
    root = write(tmp_path)
    images(root / "split_1a/train", ["p000_c1_d045.png", "p000_c2_d180.png"])
    images(root / "split_1a/query", ["p873_c1_d045.png"])
    images(root / "split_1a/gallery", ["p873_c2_d090.png"])
    splits = viper.read(root)
    assert [(i.identity, i.camera) for i in splits["query"] + splits["gallery"]] == [(873, 1), (873, 2)]
    assert len(viper.read(root, variant="b")["query"]) == 4
    image(root / "split_1a/query/p000_c1_d045.png")
    with pytest.raises(UserError, match="split_1a"):
        viper.read(root)


def test_cameras_with_different_persons_are_an_error(tmp_path):
    root = write(tmp_path)
    (root / "cam_b" / "045_90.bmp").unlink()
    with pytest.raises(UserError, match="45"):
        viper.read(root)


def test_an_old_split_file_of_another_copy_is_an_error(tmp_path):
    root = write(tmp_path)
    split_files.keep(viper.SOURCE, root)
    for camera in ("a", "b"):
        next((root / f"cam_{camera}").glob("873*")).unlink()
    with pytest.raises(UserError, match=split_files.FILE):
        viper.read(root)


def test_unknown_variant(tmp_path):
    with pytest.raises(UserError, match="a, b, c, d"):
        viper.read(write(tmp_path), variant="e")


@pytest.mark.parametrize(("variants", "row", "trials"), [("a", "VIPeR", 10), ("abcd", "VIPeR abcd", 40)])
def test_perfect_vectors_score_one(tmp_path, variants, row, trials):
    write(tmp_path / "viper")
    protocol = Generalization(tmp_path, targets=["viper"], viper_variants=variants)
    assert len(protocol.trials()) == trials
    assert len(protocol.images) <= 16
    assert_perfect(protocol, [row])
