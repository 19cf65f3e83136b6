from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image as PILImage
from scipy.io import savemat
from tiny_layouts import assert_perfect, noise, one_hot, plain_scores, scores

from crossreid.data.sets import cuhk03
from crossreid.protocols.cuhk03 import CUHK03
from crossreid.records import UserError

PERSONS = (3, 2, 1, 1, 1)


def shade(pair, person, column):
    return 40 * pair + 10 * person + column


def write_archive(path):
    """As MATLAB writes version 7.3: cells are references, and every array is transposed."""
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for kind, columns in (("detected", (0, 1, 5, 6)), ("labeled", (0, 5))):
            outer = file.create_dataset(kind, (1, 5), dtype=h5py.ref_dtype)
            for pair, persons in enumerate(PERSONS, 1):
                cells = file.create_dataset(f"#refs#/{kind}{pair}", (10, persons), dtype=h5py.ref_dtype)
                for person in range(persons):
                    for column in range(10):
                        name = f"#refs#/{kind}{pair}_{person}_{column}"
                        if column in columns:
                            pixels = np.zeros((8, 4, 3), np.uint8)
                            pixels[:, 0, 0] = shade(pair, person, column)
                            file[name] = pixels.T
                        else:
                            file[name] = np.zeros(2, np.uint64)
                        cells[column, person] = file[name].ref
                outer[0, pair - 1] = cells.ref


def write_config(root, word):
    names = sorted(path.name for path in (root / f"images_{word}").iterdir())
    person = {name: name[:5] for name in names}
    labels = sorted(set(person.values()))
    tested = set(labels[::2])
    first = {}
    for index, name in enumerate(names):
        if person[name] in tested:
            first.setdefault((person[name], name[6]), index)
    query = sorted(first.values())
    gallery = [i for i, name in enumerate(names) if person[name] in tested and i not in query]
    files = np.empty((len(names), 1), object)
    files[:, 0] = names
    savemat(
        root / f"cuhk03_new_protocol_config_{word}.mat",
        {
            "filelist": files,
            "labels": np.array([[labels.index(person[name]) + 1] for name in names]),
            "train_idx": np.array([[i + 1] for i, name in enumerate(names) if person[name] not in tested]),
            "query_idx": np.array([[i + 1] for i in query]),
            "gallery_idx": np.array([[i + 1] for i in gallery]),
        },
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "cuhk03"
    write_archive(root / "cuhk03_release" / "cuhk-03.mat")
    cuhk03.extract(root)
    write_config(root, "detected")
    return root


def test_images_come_out_upright_and_under_the_right_names(copy):
    assert sorted(path.name for path in copy.iterdir() if path.is_dir()) == [
        "cuhk03_release",
        "images_detected",
        "images_labeled",
    ]
    assert len(list((copy / "images_detected").iterdir())) == 8 * 4
    assert len(list((copy / "images_labeled").iterdir())) == 8 * 2
    with PILImage.open(copy / "images_detected" / "1_003_2_06.png") as image:
        assert image.size == (4, 8)
        assert image.getpixel((0, 7)) == (shade(1, 2, 5), 0, 0)
        assert image.getpixel((1, 0)) == (0, 0, 0)


def test_images_by_split(copy):
    splits = cuhk03.read(copy)
    assert {image.camera for image in splits["train"]} == {1, 2}
    assert [i.identity for i in splits["query"]] == [10001, 10001, 10003, 10003, 20002, 20002, 40001, 40001]
    assert len(splits["gallery"]) == 8
    assert not {i.identity for i in splits["train"]} & {i.identity for i in splits["gallery"]}
    assert len(cuhk03.read(copy, boxes="labelled", all_images=True)["train"]) == 16
    with pytest.raises(UserError, match="config_labeled"):
        cuhk03.read(copy, boxes="labelled")
    with pytest.raises(UserError, match="labelled"):
        cuhk03.read(copy, boxes="labeled")


def test_unpacking_continues_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    archive = tmp_path / "cuhk03_release" / "cuhk-03.mat"
    write_archive(archive)
    saved = PILImage.Image.save
    written = []

    def failing(self, path, **options):
        if len(written) == 5:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)
        saved(self, path, **options)

    monkeypatch.setattr(PILImage.Image, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        cuhk03.extract(tmp_path)
    assert not (tmp_path / "images_detected").exists()
    assert len(list((tmp_path / "images_detected.partial").iterdir())) == 5
    with pytest.raises(UserError, match="data prepare cuhk03"):
        cuhk03.read(tmp_path)
    monkeypatch.setattr(PILImage.Image, "save", saved)
    cuhk03.extract(tmp_path)
    assert len(list((tmp_path / "images_detected").iterdir())) == 32
    assert not (tmp_path / "images_detected.partial").exists()


def test_what_is_not_an_archive_is_refused(tmp_path):
    with pytest.raises(UserError, match="cuhk-03"):
        cuhk03.extract(tmp_path)
    (tmp_path / "cuhk-03.mat").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(UserError, match=r"7\.3"):
        cuhk03.extract(tmp_path)
    with h5py.File(tmp_path / "cuhk-03.mat", "w") as file:
        file["other"] = [1]
    with pytest.raises(UserError, match="detected"):
        cuhk03.extract(tmp_path)


def test_a_damaged_configuration_is_refused(copy, tmp_path):
    (tmp_path / "images_detected").symlink_to(copy / "images_detected")
    config = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    for content in (b"", b"not a matrix" * 50):
        config.write_bytes(content)
        with pytest.raises(UserError, match="config_detected"):
            cuhk03.read(tmp_path)
    savemat(config, {"filelist": 1})
    with pytest.raises(UserError, match="no variable"):
        cuhk03.read(tmp_path)


def test_perfect_vectors_score_one(copy):
    assert_perfect(CUHK03(copy, repetitions=5), ["single shot"])


def test_each_repetition_has_one_image_of_each_identity(copy):
    protocol = CUHK03(copy)
    trials = protocol.trials()
    assert len(trials) == 100
    for trial in trials:
        assert sorted(protocol.images[i].identity for i in trial.gallery) == [10001, 10003, 20002, 40001]
    drawn = np.stack([trial.gallery for trial in trials])
    assert (np.diff(np.sort(drawn, axis=0), axis=0) != 0).sum(axis=0).tolist() == [1, 1, 1, 1]
    again = np.stack([trial.gallery for trial in CUHK03(copy).trials()])
    assert (drawn == again).all()
    assert (drawn != np.stack([trial.gallery for trial in CUHK03(copy, seed=1).trials()])).any()


def test_the_mean_is_that_of_a_draw_for_each_query(copy):
    """Against the published way: each query drops its camera's images, then draws its own gallery."""
    protocol = CUHK03(copy, repetitions=400)
    vectors = noise(protocol.images, 3)
    found = scores(protocol, vectors)["single shot"]
    splits = cuhk03.read(copy)
    queries, rng, hits = len(splits["query"]), np.random.default_rng(0), []
    images = protocol.images
    for query in range(queries):
        pool = {}
        for g in range(queries, len(images)):
            if (images[g].identity, images[g].camera) != (images[query].identity, images[query].camera):
                pool.setdefault(images[g].identity, []).append(g)
        for _ in range(400):
            drawn = [rng.choice(found) for found in pool.values()]
            nearest = min(drawn, key=lambda g: np.sum((vectors[query] - vectors[g]) ** 2))
            hits.append(images[nearest].identity == images[query].identity)
    assert found.cmc[0] == pytest.approx(np.mean(hits), abs=0.04)
    slow = []
    for query in range(queries):
        alone = [
            replace(
                trial, query=trial.query[[query]], excluded=(trial.excluded[0][[query]], trial.excluded[1])
            )
            for trial in protocol.trials()
            if any(
                images[g].identity == images[query].identity and images[g].camera != images[query].camera
                for g in trial.gallery
            )
        ]
        slow.append(np.mean([plain_scores(trial, images, vectors, "image") for trial in alone], axis=0))
    assert (found.cmc[0], found.mean_ap) == pytest.approx(tuple(np.mean(slow, axis=0)))


def test_validation_needs_held_out_images(copy):
    with pytest.raises(UserError, match="validation"):
        CUHK03(copy, split="validation")
    held = cuhk03.read(copy)["train"]
    protocol = CUHK03(copy, split="validation", images=held, repetitions=2)
    assert len(protocol.images) == len(held)
    assert len(one_hot(held)) == len(held)


def write_divided(root, word):
    names = {
        "bounding_box_train": ["0001_c1_1.png", "0001_c2_6.png"],
        "query": ["0003_c1_1.png", "0003_c2_6.png", "1467_c1_1.png"],
        "bounding_box_test": ["0003_c1_2.png", "0003_c2_7.png", "1467_c2_6.png"],
    }
    for folder, files in names.items():
        (root / word / folder).mkdir(parents=True)
        for name in files:
            (root / word / folder / name).write_bytes(b"x")


def test_copies_that_are_divided_already(tmp_path):
    root = tmp_path / "CUHK03-NP"
    for word in ("detected", "labeled"):
        write_divided(root, word)
    for boxes, word in (("detected", "detected"), ("labelled", "labeled")):
        splits = cuhk03.read(tmp_path, boxes=boxes)
        assert [(i.identity, i.camera) for i in splits["query"]] == [(3, 1), (3, 2), (1467, 1)]
        assert splits["train"][0].path == root / word / "bounding_box_train" / "0001_c1_1.png"
        assert len(cuhk03.read(root, boxes=boxes, all_images=True)["train"]) == 8
    assert cuhk03.extract(root) == []
    protocol = CUHK03(root, repetitions=3)
    assert len(protocol.trials()) == 3
    assert "detected query: 2 identities and 3 images found" in " ".join(f.text for f in cuhk03.check(root))
