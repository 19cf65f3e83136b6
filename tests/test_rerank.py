import numpy as np
import pytest
import torch
from tqdm import tqdm

from crossreid import memory
from crossreid.ops import alignment, neighbours, ranking, rerank
from crossreid.records import UserError


def dense(distance, queries, k1=20, k2=6, weight=0.3, half=False):
    """The whole matrix in plain numpy. distance: (N, N) symmetric, queries first, used as it is."""
    kind = np.float16 if half else np.float32
    distance = distance.astype(np.float32)
    largest = distance.max(axis=1, keepdims=True)
    distance = distance / np.where(largest > 0, largest, 1)
    order = np.argsort(distance, axis=1, kind="stable")
    total = len(distance)

    def reciprocal(i, k):
        return [j for j in order[i, : k + 1] if i in order[j, : k + 1]]

    encoding = np.zeros((total, total), kind)
    for i in range(total):
        own = reciprocal(i, k1)
        members = set(own)
        for c in own:
            other = reciprocal(c, int(np.around(k1 / 2)))
            if len(set(own) & set(other)) > 2 / 3 * len(other):
                members |= set(other)
        members = sorted(members)
        if members:
            share = np.exp(-distance[i, members])
            encoding[i, members] = share / share.sum()
    if k2 != 1:
        encoding = np.stack([encoding[order[i, :k2]].mean(axis=0) for i in range(total)])
    out = np.empty((queries, total - queries), np.float32)
    for i in range(queries):
        overlap = np.zeros(total, kind)
        for j in np.flatnonzero(encoding[i]):
            overlap += np.minimum(encoding[i, j], encoding[:, j])
        jaccard = kind(1) - overlap / (kind(2) - overlap)
        blended = jaccard * kind(1 - weight) + distance[i] * np.float32(weight)
        out[i] = blended[queries:]
    return out


def features(queries=15, gallery=75, size=16, seed=0, noise=0.6):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, size))
    values = centres[rng.integers(0, 12, queries + gallery)] + noise * rng.normal(
        size=(queries + gallery, size)
    )
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float32)


def squared(values):
    return np.square(values[:, None].astype(np.float64) - values[None]).sum(2)


@pytest.mark.parametrize(
    "k1, k2, weight", [(20, 6, 0.3), (5, 3, 0.5), (7, 1, 0.0), (4, 12, 0.3), (20, 6, 1.0)]
)
def test_equals_the_dense_algorithm(k1, k2, weight):
    values = features()
    got = rerank.k_reciprocal(values[:15], values[15:], k1, k2, weight)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, dense(squared(values), 15, k1, k2, weight), atol=1e-5)


def test_across_many_tiles(monkeypatch):
    values = features(40, 160, seed=2)
    expected = dense(squared(values), 40)
    monkeypatch.setattr(neighbours, "TILE", (16, 24))
    np.testing.assert_allclose(rerank.k_reciprocal(values[:40], values[40:]), expected, atol=1e-5)


def test_half_precision_form():
    values = features(seed=3)
    expected = dense(squared(values), 15, half=True)
    got = rerank.k_reciprocal(values[:15], values[15:], precision="float16")
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(rerank.k_reciprocal(values[:15], values[15:]).numpy() - expected).max() > 1e-6


@pytest.mark.parametrize("use", ["stripes", "both"])
def test_stripes(use):
    stripes = torch.nn.functional.normalize(torch.from_numpy(features(8, 40, 24)).reshape(48, 3, 8), dim=2)
    values = features(8, 40)
    distance = alignment.aligned(stripes, stripes).numpy()
    if use == "both":
        distance = distance + squared(values)
    got = rerank.k_reciprocal(
        values[:8], values[8:], 10, 4, query_stripes=stripes[:8], gallery_stripes=stripes[8:], use=use
    )
    np.testing.assert_allclose(got, dense(distance, 8, 10, 4), atol=1e-5)


def test_from_matrices_with_ties():
    rng = np.random.default_rng(4)
    matrix = rng.integers(0, 9, (60, 60)).astype(np.float32)
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    parts = matrix[:20, 20:], matrix[:20, :20], matrix[20:, 20:]
    given = rerank.k_reciprocal_distance(*parts, squared=True)
    np.testing.assert_allclose(given, dense(matrix, 20), atol=1e-5)
    np.testing.assert_allclose(rerank.k_reciprocal_distance(*parts), dense(matrix**2, 20), atol=1e-5)


def test_streams_into_the_evaluation():
    values = features(seed=5)
    ids = np.arange(15) % 5, np.arange(75) % 5
    rows = rerank.k_reciprocal_rows(values[:15], values[15:])
    whole = rerank.k_reciprocal(values[:15], values[15:])
    streamed = ranking.evaluate_blocks(rows, *ids, block=4)
    assert streamed.mean_ap == ranking.evaluate_distance(whole, *ids).mean_ap
    torch.testing.assert_close(rows(3, 7), whole[3:7])


@pytest.mark.parametrize("queries, gallery", [(1, 3), (1, 1), (2, 5), (0, 4), (3, 0)])
def test_few_items(queries, gallery):
    values = features(queries, gallery)
    got = rerank.k_reciprocal(values[:queries], values[queries:])
    assert got.shape == (queries, gallery)
    if queries and gallery:
        np.testing.assert_allclose(got, dense(squared(values), queries), atol=1e-5)


def test_duplicates_give_no_nan():
    values = np.tile(features(1, 0), (40, 1))
    got = rerank.k_reciprocal(values[:5], values[5:], 4, 2)
    assert torch.isfinite(got).all()
    zero = np.zeros((30, 30), np.float32)
    got = rerank.k_reciprocal_distance(zero[:4, 4:], zero[:4, :4], zero[4:, 4:], 5, 3)
    np.testing.assert_allclose(got, dense(zero, 4, 5, 3), atol=1e-6)


def test_bad_input_is_named():
    values = features()
    values[17, 3] = np.nan
    with pytest.raises(UserError, match="gallery features of row 2"):
        rerank.k_reciprocal(values[:15], values[15:])
    with pytest.raises(UserError, match="k1 and k2"):
        rerank.k_reciprocal(values[:15], values[:15], k1=0)
    with pytest.raises(UserError, match="needs the stripes"):
        rerank.k_reciprocal(values[:15], values[:15], use="both")
    with pytest.raises(UserError, match=r"\(Q, Q\)"):
        rerank.k_reciprocal_distance(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros((3, 3)))
    bad = np.zeros((3, 3))
    bad[1, 2] = np.inf
    with pytest.raises(UserError, match=r"gallery-gallery distance at \(1, 2\)"):
        rerank.k_reciprocal_distance(np.zeros((2, 3)), np.zeros((2, 2)), bad)


def test_stripes_that_do_not_fit_are_named():
    values, stripes = features(3, 9), torch.from_numpy(features(3, 9, 24).reshape(12, 3, 8).copy())
    parts = {"query_stripes": stripes[:3], "gallery_stripes": stripes[3:, :, :6], "use": "both"}
    with pytest.raises(UserError, match=r"stripes need 3 axes .*\(3, 3, 8\) and \(9, 3, 6\)"):
        rerank.k_reciprocal(values[:3], values[3:], **parts)
    stripes[7, 1, 0] = np.inf
    with pytest.raises(UserError, match="gallery stripes of row 4"):
        rerank.k_reciprocal(values[:3], values[3:], **parts | {"gallery_stripes": stripes[3:]})


def test_a_result_larger_than_memory_is_refused_and_blocks_are_offered(monkeypatch):
    values = features()
    monkeypatch.setattr(memory, "free", lambda: 4499)
    with pytest.raises(
        UserError, match=r"15 queries to 75 gallery items, whole, would take 4,500 bytes .*rows"
    ):
        rerank.k_reciprocal(values[:15], values[15:])
    rows = rerank.k_reciprocal_rows(values[:15], values[15:])
    assert ranking.evaluate_blocks(rows, np.arange(15) % 5, np.arange(75) % 5).valid == 15


def test_a_bar_with_the_time_left_is_shown_on_a_terminal_only(capsys, monkeypatch):
    values = features()
    rerank.k_reciprocal(values[:15], values[15:], progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    rerank.k_reciprocal(values[:15], values[15:], progress=True)
    shown = capsys.readouterr().err
    assert "neighbours" in shown and "pairs/s" in shown
    rerank.k_reciprocal(values[:15], values[15:])
    assert capsys.readouterr().err == ""


def test_the_bar_counts_every_pair_once(monkeypatch):
    steps, total = [], []

    def bar(**settings):
        total.append(settings["total"])
        whole = tqdm(**settings)
        monkeypatch.setattr(whole, "update", steps.append)
        return whole

    monkeypatch.setattr(neighbours, "tqdm", bar)
    monkeypatch.setattr(neighbours, "TILE", (16, 24))
    values = features(40, 160)
    rerank.k_reciprocal_rows(values[:40], values[40:])
    assert total == [sum(steps)] == [20000]


def test_query_expansion_by_hand():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    plain, kept = rerank.expand_features(query, gallery, k=2, alpha=0, queries_only=True)
    np.testing.assert_allclose(plain, np.array([[1.6, 0.8]]) / 2, atol=1e-6)
    np.testing.assert_allclose(kept, gallery)
    weighted, _ = rerank.expand_features(query, gallery, k=4, alpha=2, queries_only=True)
    expected = np.array([1 + 0.36 * 0.6, 0.36 * 0.8])
    np.testing.assert_allclose(weighted[0], expected / 4, atol=1e-6)


@pytest.mark.parametrize("times", [1, 2])
def test_query_expansion_of_both_sides_against_a_slow_recomputation(times):
    """Lengths differ, and an exact copy must not take the place of the feature itself."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 6)) * rng.uniform(0.5, 3, (40, 1))
    values[7] = values[3]
    expected = values.copy()
    for _ in range(times):
        unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        similar = unit @ unit.T
        after = []
        for row in range(40):
            others = [at for at in np.argsort(-similar[row], kind="stable") if at != row][:4]
            share = np.maximum(similar[row, others], 0) ** 3
            after.append((expected[row] + (share[:, None] * expected[others]).sum(0)) / 5)
        expected = np.array(after)
    query, gallery = rerank.expand_features(values[:10], values[10:], k=5, alpha=3.0, times=times)
    np.testing.assert_allclose(np.concatenate([query, gallery]), expected, atol=1e-5)
    same = rerank.expand_features(values[:10], values[10:], k=1)
    np.testing.assert_allclose(np.concatenate(same), values, atol=1e-6)
    with pytest.raises(UserError, match="at least 1"):
        rerank.expand_features(values[:10], values[10:], k=0)


def test_the_number_of_workers_changes_nothing(monkeypatch):
    monkeypatch.setattr(neighbours, "TILE", (16, 24))
    values = features(40, 160, seed=2)
    found = [rerank.k_reciprocal(values[:40], values[40:], workers=workers) for workers in (1, 2, 3)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_it_goes_on_where_it_was_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(neighbours, "TILE", (16, 24))
    monkeypatch.setattr(neighbours, "KEEP_EVERY", 0.0)
    values, keep = features(40, 160, seed=2), tmp_path / "lists"
    expected = rerank.k_reciprocal(values[:40], values[40:])
    tile, made = rerank._Features.tile, []

    def stopped(self, *span):
        if len(made) == 60:
            raise KeyboardInterrupt
        made.append(span)
        return tile(self, *span)

    monkeypatch.setattr(rerank._Features, "tile", stopped)
    with pytest.raises(KeyboardInterrupt):
        rerank.k_reciprocal(values[:40], values[40:], keep=keep)
    before = [span[0] for span in made]
    monkeypatch.setattr(rerank._Features, "tile", lambda self, *span: made.append(span) or tile(self, *span))
    found = rerank.k_reciprocal(values[:40], values[40:], keep=keep, workers=2)
    again = [span[0] for span in made[60:] if span[1] - span[0] < 40 and span[2] >= span[0]]
    assert torch.equal(found, expected)
    assert before[0] == 0 and min(again[:-1]) > 0  # what was done is not done again
    # Other features begin anew.
    other = rerank.k_reciprocal(values[:40] + 1, values[40:], keep=keep)
    assert torch.equal(other, rerank.k_reciprocal(values[:40] + 1, values[40:]))
