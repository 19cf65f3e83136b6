"""From weights to scores: embedding in any partition, a slow recount, and ranked lists that agree."""

import copy
import errno
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_layouts import noise, plain_scores

from crossreid import checkpoint, config, evaluation
from crossreid.engine import Engine
from crossreid.evaluation.ranked_lists import LISTED
from crossreid.files import write_json
from crossreid.protocols import get
from crossreid.records import Embedding, Metric, Scores, UserError


def silent(text):
    pass


@pytest.fixture(scope="module")
def model(trained):
    return checkpoint.load(trained / "last.pt")


def test_vectors_do_not_depend_on_batches_or_workers_and_the_mode_is_given_back(model, experiment, market):
    settings = config.load(experiment)
    images = get("market1501")(market).images[:13]
    whole = evaluation.embed(model, images, settings.data, batch=64)
    assert whole.feature.shape == (
        13,
        model.embed(torch.zeros(1, 3, 48, 24), modality=torch.zeros(1, dtype=int)).feature.shape[1],
    )
    settings.data.workers = 1
    model.train()
    parts = evaluation.embed(model, images, settings.data, batch=4)
    assert model.training
    model.eval()
    torch.testing.assert_close(parts.feature, whole.feature, rtol=1e-4, atol=1e-5)
    for row in (0, 12):
        alone = evaluation.embed(model, images[row : row + 1], settings.data)
        torch.testing.assert_close(alone.feature[0], whole.feature[row], rtol=1e-4, atol=1e-5)


class Rank(Engine):
    """One of several processes, played by a thread."""

    def __init__(self, rank, world, shared, barrier):
        super().__init__("cpu")
        self.rank, self.world, self.main, self.shared, self.barrier = rank, world, rank == 0, shared, barrier

    def gather(self, tensor):
        self.shared[self.rank] = tensor
        self.barrier.wait(timeout=30)
        together = torch.cat(self.shared)
        self.barrier.wait(timeout=30)
        return together


@pytest.mark.parametrize("count", [1, 2, 7])
def test_processes_share_the_images_whatever_their_number(experiment, market, count):
    """Three processes and one image too: some have nothing to do, and must take part all the same."""
    settings = config.load(experiment)
    images = get("market1501")(market).images[:count]
    method = checkpoint.build("alignedreid", {"backbone": "tiny", "pretrained": None}, 6).eval()
    expected = evaluation.embed(method, images, settings.data)
    shared, barrier, found = [None] * 3, threading.Barrier(3), [None] * 3

    def work(rank):
        engine = Rank(rank, 3, shared, barrier)
        found[rank] = evaluation.embed(copy.deepcopy(method), images, settings.data, engine, batch=2)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for embedding in found:
        torch.testing.assert_close(embedding.feature, expected.feature, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(embedding.stripes, expected.stripes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vector", ["cosine", "euclidean", "squared_euclidean_unit"])
def test_scores_agree_with_a_slow_recount(market, vector):
    protocol = get("market1501")(market)
    vectors = noise(protocol.images)
    if vector != "euclidean":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # where all three give one order
    embedding = Embedding(torch.from_numpy(vectors.astype(np.float32)))
    (scores,) = evaluation.score_subsets(
        protocol, embedding, Metric(vector), evaluation.EvaluateConfig()
    ).values()
    (trial,) = protocol.trials()
    first, mean_ap = plain_scores(trial, protocol.images, vectors, protocol.cmc)
    assert scores.cmc[0] == pytest.approx(first) and scores.mean_ap == pytest.approx(mean_ap)


def test_distances_of_vectors_and_stripes_add_up():
    torch.manual_seed(0)
    query, gallery = (Embedding(torch.randn(n, 6), torch.randn(n, 4, 5)) for n in (3, 5))
    parts = [Metric("euclidean", None), Metric(None, "aligned")]
    together = evaluation.distance_rows(Metric("euclidean", "aligned"), query, gallery)
    torch.testing.assert_close(
        together, sum(evaluation.distance_rows(part, query, gallery) for part in parts)
    )
    assert together.shape == (3, 5)
    slow = (query.feature[:, None] - gallery.feature[None]).norm(dim=2)
    torch.testing.assert_close(evaluation.distance_rows(parts[0], query, gallery), slow, rtol=1e-4, atol=1e-4)


def agree(ranked, count):
    """Each list is in order, and its first right image stands where the metric says."""
    kinds = [listed["kind"] for listed in ranked]
    assert kinds == ["good"] * count + ["median"] * count + ["worst"] * count
    hits = 0
    for listed in ranked:
        distances = [shown["distance"] for shown in listed["gallery"]]
        assert distances == sorted(distances) and len(distances) <= LISTED
        right = [shown["right"] for shown in listed["gallery"]]
        for shown in listed["gallery"]:
            assert shown["right"] == (shown["identity"] == listed["query"]["identity"])
        if listed["first_rank"] <= len(right):
            assert right.index(True) == listed["first_rank"] - 1
            hits += 1
        else:
            assert not any(right)
    precision = [listed["average_precision"] for listed in ranked]
    good, median, worst = precision[:count], precision[count : 2 * count], precision[2 * count :]
    assert good == sorted(good, reverse=True) and worst == sorted(worst)
    assert min(good) >= max(median) and min(median) >= max(worst) and hits >= count


def test_ranked_lists_agree_with_the_metrics(trained):
    result = json.loads((trained / "evaluation.json").read_text())
    agree(result["ranked"], 2)
    for listed in result["ranked"]:
        query = listed["query"]
        for shown in listed["gallery"]:
            assert (shown["identity"], shown["camera"]) != (query["identity"], query["camera"])


@pytest.mark.parametrize("name", ["market1501", "sysu_mm01"])
def test_ranked_lists_of_vectors_that_know_nothing(name, request):
    """SYSU-MM01 counts identities and forbids a place; the lists show images in the metrics' order."""
    protocol = get(name)(request.getfixturevalue({"market1501": "market", "sysu_mm01": "sysu"}[name]))
    embedding = Embedding(torch.from_numpy(noise(protocol.images).astype(np.float32)))
    rows = evaluation.score_subsets(
        protocol, embedding, Metric("cosine"), evaluation.EvaluateConfig(), measures=("ranked_lists",)
    )
    ranked = [listed for scores in rows.values() for listed in scores.results["ranked"]]
    for row in rows:
        agree([listed for listed in ranked if listed["subset"] == row], 3)
    if name == "sysu_mm01":
        for listed in ranked:
            for shown in listed["gallery"]:
                assert (listed["query"]["camera"], shown["camera"]) != (3, 2)


def test_a_protocol_of_several_trials(trained, experiment, sysu, tmp_path):
    """A model scored by a protocol it was not trained for, which averages over ten galleries."""
    settings = config.load(
        experiment | {"data": experiment["data"] | {"name": "sysu_mm01", "roots": {"sysu_mm01": str(sysu)}}}
    )
    said = []
    rows = evaluation.evaluate(trained / "last.pt", settings=settings, out=tmp_path, log=said.append)
    ((name, scores),) = rows.items()
    assert len(scores.per_trial) == 10
    assert scores.mean_ap == pytest.approx(np.mean([trial.mean_ap for trial in scores.per_trial]))
    spread = 100 * np.std([trial.mean_ap for trial in scores.per_trial])
    for text in ("10 trials", name, f"{100 * scores.mean_ap:.2f}", f"±{spread:.2f}"):
        assert text in said[-1]
    (row,) = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert [trial["mean_ap"] for trial in row["trials"]] == pytest.approx(
        [t.mean_ap for t in scores.per_trial]
    )


def test_everything_that_can_be_asked_for(trained, experiment, market, model, tmp_path):
    asked = ["rerank", "baseline", "features", "verification"]
    overrides = [word for name in asked for word in (f"--evaluate.{name}", "true")]
    settings = config.load(experiment, [*overrides, "--evaluate.feature", "global"])
    said = []
    evaluation.evaluate(trained / "last.pt", settings=settings, out=tmp_path, log=said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "features.npz"]
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["feature"] == "global" and result["reranked"][0]["cmc"] != result["rows"][0]["cmc"]
    assert [each["name"] for each in result["baselines"]] == ["striped colour histogram", "raw pixels"]
    rates = result["rows"][0]["verification"]
    assert any(name.startswith("TPR@FAR=") for name in rates) and all(
        0 <= rate <= 1 for rate in rates.values()
    )
    protocol = get("market1501")(market)
    with np.load(tmp_path / "features.npz") as features:
        expected = evaluation.embed(model, protocol.images, settings.data, feature="global")
        np.testing.assert_allclose(features["vectors"], expected.feature.numpy(), rtol=1e-4, atol=1e-5)
        assert features["identity"].tolist() == [image.identity for image in protocol.images]
        assert features["camera"].tolist() == [image.camera for image in protocol.images]
        assert set(features["modality"]) == {"visible"} and str(features["split"]) == "test"
    assert "re-ranking" in "".join(said) and "raw pixels" in "".join(said)


def test_a_short_curve_holds_its_last_value_and_short_ranks_are_refused():
    scores = Scores(np.array([0.25, 0.5, 1.0]), 0.4, 0.3, {"TPR@FAR=0.001": 0.2}, {}, valid=4, queries=5)
    numbers = evaluation.summary(scores)
    assert numbers == {
        "rank1": 0.25,
        "rank5": 1.0,
        "rank10": 1.0,
        "rank20": 1.0,
        "mean_ap": 0.4,
        "mean_inp": 0.3,
        "TPR@FAR=0.001": 0.2,
    }
    assert evaluation.sentence("all", numbers) == "all Rank-1 25.0%, mAP 40.0%, mINP 30.0%"
    assert "4 of 5 queries have a valid match" in evaluation.table({"all": scores})
    with pytest.raises(UserError, match=r"evaluate\.ranks is 10"):
        evaluation.EvaluateConfig(ranks=10)


def test_a_full_disk_leaves_the_evaluation_before_it(tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    write_json(path, {"rows": []})
    whole = Path.write_text

    def full(self, text, **more):
        whole(self, text[: len(text) // 2], **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"rows": [1, 2, 3]})
    assert json.loads(path.read_text()) == {"rows": []}


class Listing:
    """A measure whose result is no dict."""

    def __init__(self, subset):
        pass

    def offer(self, block):
        pass

    def numbers(self):
        return [{}]

    def result(self, scores):
        return [1, 2]


def test_a_measure_of_ones_own_whose_result_is_no_dict_is_named(market):
    protocol = get("market1501")(market)
    embedding = Embedding(torch.from_numpy(noise(protocol.images).astype(np.float32)))
    with pytest.raises(UserError, match=r"the result of .*Listing is of type list: a dict is expected"):
        evaluation.score_subsets(
            protocol, embedding, Metric("cosine"), evaluation.EvaluateConfig(measures=(Listing,))
        )


def test_distances_are_made_once_for_all_who_measure(market, monkeypatch):
    """Ranks, ranked lists, verification, histograms, operating points and ties, from one pass."""
    from crossreid.evaluation.measures import MEASURES
    from crossreid.ops import ranking

    protocol = get("market1501")(market)
    embedding = Embedding(torch.from_numpy(noise(protocol.images).astype(np.float32)))
    made, blocks = [], ranking.blocks

    def counted(*given):
        rows = blocks(*given)
        return ranking.Rows(rows.shape, lambda start, stop: made.append((start, stop)) or rows(start, stop))

    monkeypatch.setattr(ranking, "blocks", counted)
    config = evaluation.EvaluateConfig(verification=True)
    (scores,) = evaluation.score_subsets(
        protocol, embedding, Metric("cosine"), config, measures=tuple(MEASURES)
    ).values()
    queries = scores.queries
    assert sorted(made) == sorted(set(made)) and sum(stop - start for start, stop in made) == queries
    assert {"pairs", "operating_points", "ranked"} <= scores.results.keys() and scores.verification


class FirstOnly(Rank):
    """A process of which only the first may score; what it found is given to the others."""

    def share(self, value):
        self.shared[self.rank] = value
        self.barrier.wait()
        found = self.shared[0]
        self.barrier.wait()
        return found


@pytest.mark.parametrize("fails", [False, True])
def test_one_process_scores_for_all(experiment, market, monkeypatch, fails):
    from crossreid.evaluation import entry

    settings = config.load(experiment)
    protocol = get("market1501")(market)
    method = checkpoint.build("agw", {"backbone": "tiny", "pretrained": None}, 6).eval()
    shared, barrier, found, scored = [None] * 2, threading.Barrier(2), [None] * 2, []
    score_subsets = entry.score_subsets

    def counted(*given, **more):
        scored.append(threading.current_thread().name)
        if fails:
            raise UserError("nothing to score")
        return score_subsets(*given, **more)

    monkeypatch.setattr(entry, "score_subsets", counted)

    def work(rank):
        engine = FirstOnly(rank, 2, shared, barrier)
        try:
            found[rank] = evaluation.score(copy.deepcopy(method), protocol, settings, engine)
        except UserError as error:
            found[rank] = str(error)

    threads = [threading.Thread(target=work, args=(rank,), name=str(rank)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scored == ["0"]
    assert found == ["nothing to score"] * 2 if fails else found[0] is found[1] is not None
