import random

import numpy as np
import pytest
from tiny_layouts import assert_perfect, image, noise, plain_scores, scores

from crossreid.data.sets import llcm
from crossreid.ops import ranking
from crossreid.protocols.llcm import LLCM
from crossreid.records import INFRARED, VISIBLE, UserError

TESTED = (2, 3, 30, 101)
CAMERAS = {"vis": (1, 3, 9), "nir": (1, 4)}


def write(root, end="\n"):
    for word in ("vis", "nir"):
        lines = []
        for label, person in enumerate((1, 4, 700)):
            for frame in range(2):
                name = f"{word}/{person:04d}/{person:04d}_c{frame + 1:02d}_s1796_f{frame}_{word}.jpg"
                image(root / name, person)
                lines.append(f"{name} {label}{end}")
        (root / "idx").mkdir(exist_ok=True)
        (root / "idx" / f"train_{word}.txt").write_bytes("".join(lines).encode())
        for camera in CAMERAS[word]:
            for person in TESTED[:3] if camera == 9 else TESTED:
                for frame in range(3):
                    name = f"{person:04d}_c{camera:02d}_s1_f{frame}_{word}.jpg"
                    image(root / f"test_{word}/cam{camera}/{person:04d}/{name}", person)
    # Listed nowhere, so not of the test.
    image(root / "test_vis/cam1/0999/0999_c01_s1_f1_vis.jpg")
    (root / "test_vis/cam1/0002/Thumbs.db").write_bytes(b"x")
    (root / "idx/test_id.txt").write_bytes((",".join(map(str, TESTED[::-1])) + end).encode())
    return root


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_images_by_split(tmp_path, end):
    splits = llcm.read(write(tmp_path / "cam5 ü" / "LLCM", end))
    assert [(i.identity, i.camera, i.modality) for i in splits["train"][:3]] == [
        (1, 1, VISIBLE),
        (1, 2, VISIBLE),
        (4, 1, VISIBLE),
    ]
    assert len(splits["train"]) == 12
    assert len(splits["query"]) == 2 * 4 * 3 and {i.modality for i in splits["query"]} == {INFRARED}
    assert len(splits["gallery"]) == (2 * 4 + 3) * 3 and {i.modality for i in splits["gallery"]} == {VISIBLE}
    order = [(i.identity, i.camera, i.path.name) for i in splits["gallery"]]
    assert order == sorted(order)


def test_a_test_person_in_the_training_lists_is_refused(tmp_path):
    root = write(tmp_path)
    (root / "idx/test_id.txt").write_text("2,4,30")
    with pytest.raises(UserError, match="first 4"):
        llcm.read(root)


@pytest.mark.parametrize("content", ["", "two,three", "2;3"])
def test_a_list_of_identities_that_is_none_is_refused(tmp_path, content):
    root = write(tmp_path)
    (root / "idx/test_id.txt").write_text(content)
    with pytest.raises(UserError, match=r"test_id\.txt"):
        llcm.read(root)


def test_check_names_what_is_missing(tmp_path):
    root = write(tmp_path)
    (root / "nir/0700/0700_c02_s1796_f1_nir.jpg").unlink()
    for camera in CAMERAS["nir"]:
        (root / f"test_nir/cam{camera}/0030").rename(root / f"test_nir/cam{camera}/x0030")
    texts = " ".join(finding.text for finding in llcm.check(root))
    assert "first nir/0700/0700_c02_s1796_f1_nir.jpg" in texts
    assert "test_nir has no image of 1 persons of test_id.txt, first 30" in texts
    assert "4 identities found, 351 expected" in texts


def test_galleries_are_drawn_as_published(tmp_path):
    protocol = LLCM(write(tmp_path), trials=3)
    trials = protocol.trials()
    assert [trial.subset for trial in trials] == ["infrared to visible"] * 3 + ["visible to infrared"] * 3
    for seed, trial in enumerate(trials[:3]):
        generator = random.Random(seed)
        drawn = []
        for person in TESTED:
            for camera in CAMERAS["vis"]:
                names = [
                    i.path
                    for i in protocol.images
                    if (i.identity, i.camera, i.modality) == (person, camera, VISIBLE)
                ]
                if names:
                    drawn.append(generator.choice(sorted(names)))
        assert [protocol.images[i].path for i in trial.gallery] == drawn
        assert len(trial.query) == 24


def test_only_images_of_the_same_identity_and_camera_are_left_out(tmp_path):
    protocol = LLCM(write(tmp_path), trials=1)
    trial = protocol.trials()[0]
    left_out = trial.excluded[0][:, None] == trial.excluded[1][None]
    for q, g in np.ndindex(left_out.shape):
        query, gallery = protocol.images[trial.query[q]], protocol.images[trial.gallery[g]]
        assert left_out[q, g] == ((query.identity, query.camera) == (gallery.identity, gallery.camera))
    assert left_out.any()


def test_worked_example():
    distance = np.array(
        [[0.5, 0.1, 0.2, 0.3, 0.05, 0.6], [0.4, 0.35, 0.1, 0.7, 0.2, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
    )
    found = ranking.evaluate_distance(
        distance, [1, 2, 4], [1, 1, 2, 2, 3, 3], [1, 4, 6], [1, 2, 1, 4, 2, 5], cmc=LLCM.cmc, ranks=3
    )
    assert found.cmc.tolist() == [0.5, 1, 1]
    assert (found.mean_ap, found.mean_inp) == (0.75, 0.75)


def test_known_scores(tmp_path):
    protocol = LLCM(write(tmp_path))
    assert_perfect(protocol, ["infrared to visible", "visible to infrared"])
    vectors = noise(protocol.images)
    found = scores(protocol, vectors)
    for row, score in found.items():
        slow = [
            plain_scores(t, protocol.images, vectors, "identity")
            for t in protocol.trials()
            if t.subset == row
        ]
        assert (score.cmc[0], score.mean_ap) == pytest.approx(tuple(np.mean(slow, axis=0)))


def test_the_flipped_definition_exchanges_the_roles(tmp_path):
    root = write(tmp_path)
    plain, flipped = LLCM(root, trials=2).trials(), LLCM(root, trials=2, flipped=True).trials()
    assert [trial.subset for trial in flipped[2:]] == ["visible to infrared (flipped)"] * 2
    for a, b in zip(plain[:2], flipped[:2]):
        assert (a.query == b.query).all() and (a.gallery == b.gallery).all()
    for a, b in zip(plain[2:], flipped[2:]):
        assert sorted(b.query) == sorted(a.gallery) and len(b.gallery) == 33
    assert "roles exchanged" in LLCM(root, flipped=True).description


def test_validation_is_on_the_held_out_images(tmp_path):
    root = write(tmp_path)
    assert_perfect(
        LLCM(root, trials=1, split="validation", images=llcm.read(root)["train"]),
        ["infrared to visible", "visible to infrared"],
    )


def test_the_list_of_test_identities_alone_can_be_scored(tmp_path):
    root = write(tmp_path)
    whole = LLCM(root, trials=2).images
    for word in ("vis", "nir"):
        (root / f"idx/train_{word}.txt").unlink()
    (root / "idx/test_id.txt").write_text("\n".join(map(str, TESTED)))
    assert set(llcm.read(root)) == {"query", "gallery"} and LLCM(root, trials=2).images == whole
