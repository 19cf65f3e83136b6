from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from crossreid.data.sampling import SAMPLERS
from crossreid.records import Image, Labels, UserError, identities


def images(counts, modality="visible", domain=0, cameras=2):
    """``counts[i]`` images of identity 10 i + 7."""
    return [
        Image(Path(f"{identity}-{number}"), 10 * identity + 7, number % cameras, modality, domain)
        for identity, count in enumerate(counts)
        for number in range(count)
    ]


def labels(target, modality=None, domain=None, camera=None):
    target = np.asarray(target)
    columns = [
        np.zeros_like(target) if each is None else np.asarray(each) for each in (camera, modality, domain)
    ]
    return Labels(target, *columns)


def cross_modal(visible, infrared):
    return Labels.of(images(visible) + images(infrared, "infrared"))


def epoch(name, of, identities, instances, seed=0):
    return list(SAMPLERS[name](of, identities, instances).epoch(np.random.default_rng(seed)))


def test_labels_number_classes_by_domain_and_identity():
    given = [
        Image(Path("a"), 9, 4, "infrared", 1),
        Image(Path("b"), 30, 2, "visible", 0),
        Image(Path("c"), 9, 2, "visible", 0),
        Image(Path("d"), 9, 2, "visible", 1),
    ]
    found = Labels.of(given)
    assert identities(given) == [(0, 9), (0, 30), (1, 9)]
    assert found.target.tolist() == [2, 1, 0, 2]
    assert found.modality.tolist() == [1, 0, 0, 0]
    assert found.camera.tolist() == [4, 2, 2, 2]
    assert (found.classes, found.domains, len(found)) == (3, 2, 4)
    assert {column.dtype for column in (found.target, found.camera, found.modality, found.domain)} == {
        np.dtype("int64")
    }


def test_cameras_as_domains_numbers_cameras_of_each_data_set():
    of = labels([0, 0, 1, 2], domain=[0, 0, 0, 1], camera=[6, 2, 6, 2])
    again = of.cameras_as_domains()
    assert again.domain.tolist() == [1, 0, 1, 2]
    assert of.domain.tolist() == [0, 0, 0, 1]
    assert again.domains == 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_repeats_with_the_seed_and_changes_without_it(name):
    of = cross_modal([5] * 8, [4] * 8)
    assert epoch(name, of, 4, 4) == epoch(name, of, 4, 4)
    assert epoch(name, of, 4, 4) != epoch(name, of, 4, 4, seed=1)
    assert all(type(row) is int for batch in epoch(name, of, 4, 4) for row in batch)


def test_identity_takes_each_identity_once():
    of = Labels.of(images([6, 2, 4, 9, 5, 4, 4]))
    batches = epoch("identity", of, 3, 4)
    assert len(batches) == len(SAMPLERS["identity"](of, 3, 4)) == 2
    seen = []
    for batch in batches:
        rows = np.array(batch).reshape(3, 4)
        assert (of.target[rows] == of.target[rows[:, :1]]).all()
        seen += of.target[rows[:, 0]].tolist()
        for row in rows:
            if of.target[row[0]] != 1:
                assert len(set(row.tolist())) == 4
    assert len(set(seen)) == 6


def test_identity_has_the_published_number_of_steps():
    of = labels(np.arange(751).repeat(2))
    assert len(SAMPLERS["identity"](of, 8, 4)) == 93
    assert len(SAMPLERS["identity"](of, 4, 8)) == 187


def test_identity_chunks_use_nearly_every_image_once():
    counts = [8, 3, 5, 4, 12, 8]
    of = Labels.of(images(counts))
    batches = epoch("identity_chunks", of, 2, 4)
    for batch in batches:
        rows = of.target[batch].reshape(2, 4)
        assert (rows == rows[:, :1]).all() and rows[0, 0] != rows[1, 0]
    # Chunks per identity: 2 1 2 1 3 2, and fewer than two identities may be left over.
    drawn = Counter(int(of.target[batch[place]]) for batch in batches for place in (0, 4))
    assert all(drawn[target] <= most for target, most in enumerate([2, 1, 2, 1, 3, 2]))
    assert sum(drawn[target] < most for target, most in enumerate([2, 1, 2, 1, 3, 2])) <= 1
    uses = Counter(row for batch in batches for row in batch)
    whole = [row for row in range(len(of)) if of.target[row] in (0, 3, 5)]
    assert all(uses[row] <= 1 for row in whole)
    # The identity with 5 images is completed by 3 different ones of them.
    if drawn[2] == 2:
        assert sorted(uses[row] for row in np.flatnonzero(of.target == 2)) == [1, 1, 2, 2, 2]


def test_identity_chunks_length_follows_the_authors_count():
    # Rounded up to multiples of 4: 8 + 8 + 4 = 20 = 5 chunks; 5 // 2 - 1.
    assert len(SAMPLERS["identity_chunks"](Labels.of(images([8, 5, 2])), 2, 4)) == 1
    of = labels(np.arange(100).repeat(17))
    nominal = len(SAMPLERS["identity_chunks"](of, 20, 4))
    assert nominal == 24
    assert abs(len(epoch("identity_chunks", of, 20, 4)) - nominal) <= 3


def test_identity_whole_chunks_leaves_out_what_fills_no_chunk():
    counts = [8, 3, 5, 4, 15, 8]
    of = Labels.of(images(counts))
    assert len(SAMPLERS["identity_whole_chunks"](of, 2, 4)) == 5  # (2 + 1 + 1 + 1 + 3 + 2) // 2
    seen = Counter()
    for seed in range(20):
        batches = epoch("identity_whole_chunks", of, 2, 4, seed)
        uses = Counter(row for batch in batches for row in batch)
        assert all(times == 1 for row, times in uses.items() if of.target[row] != 1)
        drawn = Counter(int(of.target[batch[place]]) for batch in batches for place in (0, 4))
        assert all(drawn[target] <= most for target, most in enumerate([2, 1, 1, 1, 3, 2]))
        seen.update(uses)
    assert len(seen) == len(of)  # each epoch leaves out others
    # Completed chunks would make a sixth more steps of an epoch in which most identities have 17 images.
    of = labels(np.arange(750).repeat(17))
    whole, completed = (len(epoch(name, of, 16, 4)) for name in ("identity_whole_chunks", "identity_chunks"))
    assert 180 <= whole <= 187 < 225 <= completed <= 234


def test_images_takes_each_image_once():
    of = labels(np.arange(10).repeat(3))
    batches = epoch("images", of, 2, 4)
    assert len(batches) == len(SAMPLERS["images"](of, 2, 4)) == 3
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert len({row for batch in batches for row in batch}) == 24
    # Images, whoever they show: the product counts, and there may be fewer identities than its first factor.
    assert len(epoch("images", labels(np.arange(3).repeat(30)), 16, 4)) == 1


def test_cross_modal_has_aligned_halves():
    of = cross_modal([5, 1, 3, 4, 2], [2, 2, 1, 6, 3])
    batches = epoch("cross_modal", of, 3, 4)
    assert len(batches) == len(SAMPLERS["cross_modal"](of, 3, 4)) == 15 // 12 + 1
    for batch in batches:
        first, second = batch[:12], batch[12:]
        assert len(batch) == 24
        assert (of.modality[first] == 0).all() and (of.modality[second] == 1).all()
        assert (of.target[first] == of.target[second]).all()
        rows = of.target[first].reshape(3, 4)
        assert (rows == rows[:, :1]).all() and len(set(rows[:, 0].tolist())) == 3


@pytest.mark.parametrize(
    "visible, infrared, classes, steps", [(22258, 11909, 395, 696), (2060, 2060, 206, 65)]
)
def test_cross_modal_has_the_published_number_of_batches(visible, infrared, classes, steps):
    target = np.concatenate([np.arange(visible) % classes, np.arange(infrared) % classes])
    of = labels(target, modality=np.arange(visible + infrared) >= visible)
    assert len(SAMPLERS["cross_modal"](of, 8, 4)) == steps


def test_cross_modal_draws_with_replacement_and_uniformly():
    of = cross_modal([2] * 4, [2] * 4)
    batches = epoch("cross_modal", of, 2, 8)
    assert any(len(set(batch)) < len(batch) for batch in batches)
    sampler = SAMPLERS["cross_modal"](of, 1, 1)
    rng = np.random.default_rng(0)
    uses = Counter(row for _ in range(200) for batch in sampler.epoch(rng) for row in batch)
    expected = 200 * len(sampler) / 8
    assert len(uses) == 16
    assert all(abs(count - expected) < 5 * expected**0.5 for count in uses.values())


def test_cross_modal_once_halves_the_instances():
    of = cross_modal([5, 1, 3, 4, 2], [2, 2, 1, 6, 3])
    batches = epoch("cross_modal_once", of, 2, 4)
    assert len(batches) == len(SAMPLERS["cross_modal_once"](of, 2, 4)) == 2
    seen = []
    for batch in batches:
        first, second = batch[:4], batch[4:]
        assert len(batch) == 8
        assert (of.modality[first] == 0).all() and (of.modality[second] == 1).all()
        assert (of.target[first] == of.target[second]).all()
        seen += of.target[first][::2].tolist()
        for half in (first, second):
            for pair in np.array(half).reshape(2, 2):
                enough = (
                    np.sum((of.target == of.target[pair[0]]) & (of.modality == of.modality[pair[0]])) >= 2
                )
                assert (pair[0] != pair[1]) == enough
    assert len(set(seen)) == 4


def test_domain_balanced_takes_domain_after_domain():
    given = images([4] * 3, domain=0) + images([8, 5, 9, 4], domain=1)
    of = Labels.of(given)
    batches = epoch("domain_balanced", of, 4, 4)
    for batch in batches:
        assert of.domain[batch].tolist() == [0] * 8 + [1] * 8
        rows = of.target[batch].reshape(4, 4)
        assert (rows == rows[:, :1]).all() and len(set(rows[:, 0].tolist())) == 4
    # The smaller domain (3 chunks, 2 a batch) is refilled while the larger one (8 chunks) lasts.
    assert 3 <= len(batches) <= 4
    assert len(SAMPLERS["domain_balanced"](of, 4, 4)) == 26 // 8


def test_domain_balanced_with_cameras_takes_images_of_one_camera():
    of = Labels.of(images([8] * 6)).cameras_as_domains()
    for batch in epoch("domain_balanced", of, 4, 4):
        cameras = of.camera[batch].reshape(4, 4)
        assert (cameras == cameras[:, :1]).all()
        assert of.domain[batch].tolist() == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    "name, of, identities, instances, words",
    [
        ("identity", labels([]), 1, 1, "no training images"),
        ("identity", labels([0, 1]), 3, 1, "3 identities .* 2 training identities"),
        ("identity", labels([0, 1]), 0, 4, "empty"),
        ("images", labels([0, 1, 1]), 2, 2, "2 x 2 images cannot be drawn from 3"),
        ("cross_modal", cross_modal([2, 2, 2], [2, 0, 0]), 1, 1, "2 of 3 .* no infrared image .*1, 2"),
        ("cross_modal_once", cross_modal([0, 2], [2, 2]), 1, 2, "1 of 2 .* no visible image .*0"),
        ("cross_modal_once", cross_modal([2, 2], [2, 2]), 1, 3, "even"),
        ("domain_balanced", labels([0, 1, 2, 3], domain=[0, 0, 1, 1]), 3, 1, "multiple of 2"),
        ("domain_balanced", labels([0, 1, 2, 3], domain=[0, 0, 0, 1]), 4, 1, "domain 1 has only 1"),
    ],
)
def test_impossible_batches_are_refused(name, of, identities, instances, words):
    with pytest.raises(UserError, match=words):
        SAMPLERS[name](of, identities, instances)
