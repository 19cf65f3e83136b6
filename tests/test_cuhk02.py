import pytest
from tiny_layouts import image, images

from crossreid.data.sets import cuhk02
from crossreid.records import UserError


def write(root):
    for pair in range(1, 6):
        for side in (1, 2):
            images(root / f"P{pair}/cam{side}", ["001_1.png", "001_2.png", "312_1.png"])
    (root / "notes").mkdir()
    return root


@pytest.mark.parametrize("level", ["", "Dataset"])
def test_persons_and_cameras_of_different_pairs_stay_apart(tmp_path, level):
    write(tmp_path / level)
    images = cuhk02.read(tmp_path)["train"]
    assert len(images) == 30
    assert {image.identity for image in images} == {p * 10_000 + n for p in range(1, 6) for n in (1, 312)}
    assert {image.camera for image in images} == set(range(1, 11))
    assert {image.camera for image in images if image.identity == 30_001} == {5, 6}


def test_a_name_without_number_is_named(tmp_path):
    write(tmp_path)
    image(tmp_path / "P3/cam1/me.png")
    with pytest.raises(UserError, match=r"me\.png"):
        cuhk02.read(tmp_path)


def test_several_sets_in_training_keep_persons_and_cameras_apart(tmp_path):
    from test_dukemtmc import write as write_duke

    from crossreid.data.loading import training_set
    from crossreid.data.settings import DataConfig

    write(tmp_path / "cuhk02")
    write_duke(tmp_path / "duke")
    roots = {"cuhk02": str(tmp_path / "cuhk02"), "dukemtmc": str(tmp_path / "duke")}
    for settings, images_of_duke, classes in (({}, 3, 10 + 2), ({"all_images": True}, 8, 10 + 5)):
        config = DataConfig(name=["dukemtmc", "cuhk02"], roots=roots, settings=settings)
        images, labels, persons, _ = training_set(config)
        assert [image.domain for image in images] == [0] * images_of_duke + [1] * 30
        assert labels.classes == len(persons) == classes and labels.domains == 2
        assert persons == sorted(persons)
