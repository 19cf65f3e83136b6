import numpy as np
import pytest
from tiny_layouts import assert_perfect, image, noise, plain_scores, scores

from crossreid.data.sets import regdb
from crossreid.protocols.regdb import RegDB
from crossreid.records import INFRARED, VISIBLE, UserError

PERSONS = range(1, 9)


def trained(fold):
    return [n for n in PERSONS if (n + fold) % 2 == 0]


def write(root, end="\n", folds=10):
    names = {}
    for folder, letter in (("Visible", "v"), ("Thermal", "t")):
        for person in PERSONS:
            names[folder, person] = [
                f"{folder}/{person}/male_back_{letter}_{frame:05d}_{person}.bmp" for frame in (7, 8)
            ]
            for name in names[folder, person]:
                image(root / name, person)
    (root / "idx").mkdir()
    for fold in range(1, folds + 1):
        for part in ("train", "test"):
            members = [n for n in PERSONS if (n in trained(fold)) == (part == "train")]
            for folder in ("Visible", "Thermal"):
                # The thermal lists run in another order than the visible ones.
                order = members if folder == "Visible" else members[::-1]
                lines = [f"{name} {members.index(n)}" for n in order for name in names[folder, n]]
                file = root / "idx" / f"{part}_{folder.lower()}_{fold}.txt"
                file.write_bytes("".join(line + end for line in lines).encode())
    return root


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_images_of_a_fold(tmp_path, end):
    root = write(tmp_path / "Реестр mit Lücke" / "RegDB", end)
    for fold in (1, 2, 10):
        splits = regdb.read(root, fold=fold)
        assert [i.modality for i in splits["train"]] == [VISIBLE] * 8 + [INFRARED] * 8
        assert [i.identity for i in splits["train"]][:8:2] == trained(fold)
        assert {i.modality for i in splits["query"]} == {VISIBLE}
        assert {(i.modality, i.camera) for i in splits["gallery"]} == {(INFRARED, 2)}
        assert not {i.identity for i in splits["train"]} & {
            i.identity for i in splits["query"] + splits["gallery"]
        }
        assert all(i.path.is_file() for images in splits.values() for i in images)


def test_the_folder_may_be_a_link(tmp_path):
    write(tmp_path / "somewhere")
    (tmp_path / "RegDB").symlink_to(tmp_path / "somewhere")
    assert len(regdb.read(tmp_path / "RegDB")["train"]) == 16


@pytest.mark.parametrize("fold", [0, 11, "all"])
def test_there_are_ten_folds(tmp_path, fold):
    with pytest.raises(UserError, match="1 to 10"):
        regdb.read(tmp_path, fold=fold)


def change(root, name, old, new):
    file = root / "idx" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_person_in_training_and_test_is_refused(tmp_path):
    root = write(tmp_path)
    for kind in ("visible", "thermal"):
        (root / "idx" / f"test_{kind}_3.txt").write_bytes((root / "idx" / f"train_{kind}_3.txt").read_bytes())
    with pytest.raises(UserError, match="both in training and in the test, first 1"):
        regdb.read(root, fold=3)
    assert regdb.read(root, fold=4)
    assert any("fold 3" in finding.text for finding in regdb.check(root))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("8.bmp 3", "8.bmp 2"),
        ("00007_8.bmp 3", "00007_8.bmp 1"),
        ("Visible/8/", "Thermal/8/"),
        ("Visible/8/", "../../Visible/8/"),
        ("Visible/8/", "Visible/9/"),
        (".bmp 0", ".bmp"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(tmp_path, old, new):
    root = write(tmp_path)
    change(root, "train_visible_2.txt", old, new)
    with pytest.raises(UserError, match="again"):
        regdb.read(root, fold=2)


def test_check_names_what_is_missing(tmp_path):
    root = write(tmp_path)
    (root / "Thermal/5/male_back_t_00008_5.bmp").unlink()
    texts = " ".join(finding.text for finding in regdb.check(root))
    assert "1 of 32 listed images are missing, first Thermal/5/male_back_t_00008_5.bmp" in texts
    assert "206 and 2060 expected" in texts
    (root / "idx/test_thermal_7.txt").unlink()
    assert "test_thermal_7.txt is missing" in " ".join(finding.text for finding in regdb.check(root))


def test_wrong_case_is_explained(tmp_path):
    root = write(tmp_path)
    (root / "Visible").rename(root / "visible")
    with pytest.raises(UserError, match="case"):
        regdb.read(root)


ROWS = ["visible to thermal", "thermal to visible"]


def test_known_scores(tmp_path):
    protocol = RegDB(write(tmp_path), fold=2)
    assert_perfect(protocol, ROWS)
    assert protocol.cmc == "image" and "fold 2" in protocol.description
    assert {image.identity for image in protocol.images} == {1, 3, 5, 7}
    # On a line, visible at the person's number and thermal a little more than two on: person 1 finds itself
    # first, 3 after the two images of one other person, 5 and 7 after those of two.
    vectors = np.array([[i.identity + 2.25 * (i.modality == INFRARED)] for i in protocol.images], float)
    found = scores(protocol, vectors)
    assert found["visible to thermal"].cmc[:6].tolist() == [0.25, 0.25, 0.5, 0.5, 1, 1]
    assert found["visible to thermal"].mean_ap == pytest.approx(
        (1 + (1 / 3 + 2 / 4) / 2 + (1 / 5 + 2 / 6)) / 4
    )
    assert found["thermal to visible"].mean_inp == pytest.approx((1 + 2 / 4 + 2 / 6 + 2 / 6) / 4)


def test_random_scores_agree_with_the_slow_way(tmp_path):
    protocol = RegDB(write(tmp_path))
    vectors = noise(protocol.images)
    found = scores(protocol, vectors)
    for trial in protocol.trials():
        hit, precision = plain_scores(trial, protocol.images, vectors, "image")
        assert (found[trial.subset].cmc[0], found[trial.subset].mean_ap) == pytest.approx((hit, precision))


def test_worked_example():
    """Three queries and six gallery images; values by hand."""
    distance = np.array(
        [[0.5, 0.1, 0.2, 0.3, 0.05, 0.6], [0.4, 0.35, 0.1, 0.7, 0.2, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
    )
    from crossreid.ops import ranking

    found = ranking.evaluate_distance(
        distance, [1, 2, 4], [1, 1, 2, 2, 3, 3], excluded=None, cmc=RegDB.cmc, ranks=6
    )
    assert found.cmc.tolist() == [0.5, 1, 1, 1, 1, 1]
    assert (found.mean_ap, found.mean_inp) == pytest.approx((0.558333, 0.366667), abs=1e-6)


def test_validation_is_on_the_held_out_images(tmp_path):
    root = write(tmp_path)
    held = [i for i in regdb.read(root)["train"] if i.identity in (1, 3)]
    assert_perfect(RegDB(root, split="validation", images=held), ROWS)
    with pytest.raises(UserError, match="validation"):
        RegDB(root, split="validation")


def test_lists_with_tabs_and_a_leading_dot(tmp_path):
    root = write(tmp_path)
    whole = regdb.read(root)
    for file in (root / "idx").iterdir():
        lines = file.read_text().splitlines()
        file.write_text("".join("./" + line.replace(" ", "\t") + "\n" for line in lines))
    assert regdb.read(root) == whole
    file.write_text("../outside/1/a.bmp 0\n")
    with pytest.raises(UserError, match="leads out of the data set"):
        regdb.read(root, fold=int(file.stem.rpartition("_")[2]))


def test_the_test_lists_alone_can_be_scored(tmp_path):
    root = write(tmp_path)
    whole = RegDB(root, fold=3).images
    for file in (root / "idx").glob("train_*"):
        file.unlink()
    assert set(regdb.read(root)) == {"query", "gallery"} and RegDB(root, fold=3).images == whole
