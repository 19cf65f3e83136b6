"""Distances of genuine and impostor pairs: histograms and rates, against all pairs kept and sorted."""

import numpy as np
import pytest
import torch
from test_report import features, make, write_features, written

from crossreid.ops import distance, ranking
from crossreid.records import Image, Metric, Trial, UserError
from crossreid.report import distances


class Protocol:
    def __init__(self, labels, trials):
        self.images = [
            Image(str(row), int(identity), int(camera), str(modality), int(domain))
            for row, (identity, camera, modality, domain) in enumerate(zip(*labels.values()))
        ]
        self._trials = trials

    def trials(self):
        return self._trials


def kept(values, labels, trial):
    """All allowed distances of a trial, of one person and of two."""
    value = distance.cosine(values[trial.query], values[trial.gallery]).numpy()
    same = labels["identity"][trial.query][:, None] == labels["identity"][trial.gallery]
    allowed = np.ones_like(same)
    if trial.excluded is not None:
        allowed = np.asarray(trial.excluded[0])[:, None] != np.asarray(trial.excluded[1])
    return value[same & allowed], value[~same & allowed]


def noisy(people=12, each=10, noise=0.9):
    rng = np.random.default_rng(3)
    identity = np.repeat(np.arange(people), each)
    vectors = rng.normal(size=(people, 12))[identity] + noise * rng.normal(size=(people * each, 12))
    labels = {
        "identity": identity,
        "camera": rng.integers(0, 4, people * each),
        "modality": np.where(rng.random(people * each) < 0.5, "infrared", "visible"),
        "domain": identity % 2,
    }
    return vectors.astype("f4"), labels


def trials(labels, count=2):
    rng = np.random.default_rng(1)
    for _ in range(count):
        order = rng.permutation(len(labels["identity"]))
        query, gallery = order[:40], order[40:]
        key = labels["identity"] * 10 + labels["camera"]
        yield Trial("all", query, gallery, (key[query], key[gallery]))


@pytest.mark.parametrize("block", [64, 10**7])
def test_rates_and_histograms_equal_those_of_all_pairs(monkeypatch, block):
    monkeypatch.setattr(distances, "BLOCK_BYTES", block)
    vectors, labels = noisy()
    chosen = list(trials(labels))
    found = distances.by_protocol(Protocol(labels, chosen), vectors, None, Metric("cosine"))["all"]
    pairs = [kept(torch.from_numpy(vectors), labels, trial) for trial in chosen]
    for position, kind in enumerate(("genuine", "impostor")):
        values = np.concatenate([pair[position] for pair in pairs])
        assert found.counts[kind].sum() == len(values)
        assert np.array_equal(found.counts[kind], np.histogram(values, found.edges)[0])
    assert found.rates[-1] == 1 and found.true[-1] == 1
    assert found.rates[0] * min(len(pair[1]) for pair in pairs) >= 1 - 1e-9
    for rate, share, threshold in zip(found.rates[:-1], found.true, found.thresholds):
        shares, limits = [], []
        for genuine, impostor in pairs:
            limit = np.sort(impostor)[int(np.floor(rate * len(impostor) * (1 + 1e-12)))]
            limits.append(limit)
            shares.append(np.mean([value < limit for value in genuine]))
            assert np.mean(impostor < limit) <= rate
        assert share == pytest.approx(np.mean(shares), abs=1e-12)
        assert threshold == pytest.approx(np.mean(limits), abs=1e-6)


def test_operating_points_are_those_of_the_metrics():
    vectors, labels = noisy(people=20, each=12)
    trial = next(trials(labels))
    found = distances.by_protocol(Protocol(labels, [trial]), vectors, None, Metric("cosine"))["all"]
    scores = ranking.evaluate(
        vectors[trial.query],
        vectors[trial.gallery],
        labels["identity"][trial.query],
        labels["identity"][trial.gallery],
        excluded=trial.excluded,
        verification=True,
    )
    for rate in (1e-2, 1e-3):
        assert found.at(rate)[0] == scores.verification[f"TPR@FAR={rate:g}"]
    assert found.at(1e-4) is None  # there are too few impostor pairs to tell


def test_equal_distances_and_negative_ones():
    def rows(start, stop):
        return np.array([[-0.5, 0.0, 0.0, 0.25, 0.25, 0.5]], np.float32)

    kinds = np.array([[0, 1, 0, 1, 1, 0]])
    found = distances.measure(
        [distances.Trial(rows, lambda start, stop: kinds, 1, 6)], ("genuine", "impostor"), (1 / 3, 2 / 3, 1.0)
    )
    # Impostors at 0, 1/4, 1/4: a third may be accepted below 1/4, as two thirds may; genuine at -1/2, 0, 1/2.
    assert found.thresholds.tolist() == [0.25, 0.25, 0.5] and found.true.tolist() == [2 / 3, 2 / 3, 1]
    assert {kind: int(counts.sum()) for kind, counts in found.counts.items()} == {"genuine": 3, "impostor": 3}


def test_order_of_fine_bins_is_that_of_the_values():
    values = np.sort(np.random.default_rng(0).normal(size=1000).astype("f4"))
    values = np.concatenate([[-np.inf, -1e30], values, [1e-42, 1e30]]).astype("f4")
    values.sort()
    keys = distances._keys(values)
    assert (np.diff(keys) >= 0).all() and 0 <= keys.min() and keys.max() < 2**20


def test_pairs_within_and_across():
    vectors, labels = noisy(people=8, each=6)
    values = distance.cosine(torch.from_numpy(vectors), torch.from_numpy(vectors)).numpy()
    person, camera = labels["identity"], labels["camera"] * 10 + labels["domain"]
    for key in ("modality", "domain"):
        found = distances.within_and_across(labels, key, lambda start, stop: values[start:stop])
        sums = {}
        for i in range(len(vectors)):
            for j in range(i + 1, len(vectors)):
                if camera[i] != camera[j]:
                    kind = "genuine" if person[i] == person[j] else "impostor"
                    where = f"within a {key}" if labels[key][i] == labels[key][j] else "across"
                    where = where.replace(
                        "across", "across modalities" if key == "modality" else "across domains"
                    )
                    sums[f"{kind}, {where}"] = sums.get(f"{kind}, {where}", 0) + 1
        assert {kind: int(counts.sum()) for kind, counts in found.counts.items()} == sums
        assert ("genuine, across domains" in sums) is False


def test_rule_that_disregards_everything():
    vectors, labels = noisy(people=2, each=4)
    half = np.arange(4), np.arange(4, 8)
    trial = Trial("all", *half, (np.zeros(4, int), np.zeros(4, int)))
    with pytest.raises(UserError, match="every pair is disregarded"):
        distances.by_protocol(Protocol(labels, [trial]), vectors, None, Metric("cosine"))


def test_stripes_count_where_the_method_compares_them():
    vectors, labels = noisy(people=4, each=4)
    stripes = np.random.default_rng(0).normal(size=(16, 3, 5)).astype("f4")
    stripes /= np.linalg.norm(stripes, axis=2, keepdims=True)
    trial = Trial("all", np.arange(0, 16, 2), np.arange(1, 16, 2))
    whole = [
        distances.by_protocol(Protocol(labels, [trial]), vectors, stripes, Metric("cosine", kind))["all"]
        for kind in (None, "unaligned")
    ]
    assert whole[1].edges[-1] > whole[0].edges[-1] + 0.3


def test_page_shows_them_with_their_numbers(tmp_path):
    folder = make(tmp_path / "run", images=False)
    write_features(folder)
    text = written(tmp_path, folder)
    vectors, labels = features()
    infrared, visible = (np.flatnonzero(labels["modality"] == name) for name in ("infrared", "visible"))
    keys = labels["camera"] // 2
    trial = Trial("all", infrared, visible, (keys[infrared], keys[visible]))
    genuine, impostor = kept(torch.from_numpy(vectors), labels, trial)
    assert f"{len(genuine)} genuine, {len(impostor)} impostor pairs; feature bn" in text
    assert "ROC" in text and "TPR<br>@FPR=0.01" in text and "Distances within and across modalities" in text
    several = written(tmp_path, folder, make(tmp_path / "other", images=False))
    assert "ROC, all" in several and "Distances of other, all" in several
