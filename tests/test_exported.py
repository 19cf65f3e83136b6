"""Scores of exported models, made with NumPy: the same as torch's."""

import json

import numpy as np
import pytest
from exported_models import INPUT, SIZE, exported

import crossreid
from crossreid import config, evaluation
from crossreid.data.provenance import LAYOUT_OF
from crossreid.export.using import Exported
from crossreid.exported import evaluate, scoring
from crossreid.ops import alignment, ranking
from crossreid.protocols.results import mean_scores
from crossreid.records import Embedding, Metric, UserError


@pytest.mark.parametrize("cmc", ["image", "identity"])
@pytest.mark.parametrize("restricted", [True, False])
def test_scores_with_ties_equal_those_of_the_compiled_ranking(cmc, restricted):
    rng = np.random.default_rng(3)
    queries, gallery = 40, 90
    distance = rng.integers(0, 12, (queries, gallery)).astype(np.float32)  # many ties
    ids = rng.integers(0, 15, queries), rng.integers(2, 18, gallery)
    excluded = (rng.integers(0, 6, queries), rng.integers(0, 6, gallery)) if restricted else None
    found = scoring.score(lambda a, b: distance[a:b], *ids, excluded, cmc=cmc, ranks=20, block=7)
    expected = ranking.evaluate_distance(distance, *ids, excluded=excluded, cmc=cmc, ranks=20)
    assert (
        found.cmc == pytest.approx(expected.cmc) and found.valid == expected.valid < queries == found.queries
    )
    assert (found.mean_ap, found.mean_inp) == pytest.approx((expected.mean_ap, expected.mean_inp))
    assert found.per_query.keys() == expected.per_query.keys()
    for name, values in expected.per_query.items():
        assert found.per_query[name] == pytest.approx(values, nan_ok=True), name
    both = mean_scores([found, found]), mean_scores([expected, expected])
    assert both[0].valid == both[1].valid and len(both[0].per_trial) == 2
    assert both[0].cmc == pytest.approx(both[1].cmc)


def test_distances_equal_those_of_torch():
    rng = np.random.default_rng(4)

    def embedding(count):
        vector, stripes = rng.normal(size=(count, 16)), rng.normal(size=(count, 5, 8))
        unit = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (vector, stripes))
        return Embedding(*(part.astype(np.float32) for part in unit))

    query, gallery = embedding(7), embedding(11)
    for vector in ("cosine", "squared_euclidean_unit", None):
        for stripes in ("aligned", "unaligned", None):
            if vector or stripes:
                metric = Metric(vector, stripes)
                expected = evaluation.distance_rows(metric, query, gallery)
                assert scoring.distances(metric, query, gallery)(0, 7) == pytest.approx(
                    np.asarray(expected), abs=1e-5
                )
    # Blocks do not matter.
    scoring.BLOCK_BYTES, before = 1, scoring.BLOCK_BYTES
    again = scoring.stripe_distances(query.stripes, gallery.stripes, aligned=True)
    scoring.BLOCK_BYTES = before
    assert again == pytest.approx(np.asarray(alignment.aligned(query.stripes, gallery.stripes)), abs=1e-5)


def test_nothing_to_score_is_said():
    distance = np.zeros((2, 3), np.float32)
    with pytest.raises(UserError, match="none of the 2 queries"):
        scoring.score(lambda a, b: distance[a:b], np.array([1, 2]), np.array([3, 4, 5]))
    distance[1, 1] = np.nan
    with pytest.raises(UserError, match="query 1 is not a finite number"):
        scoring.score(lambda a, b: distance[a:b], np.array([3, 3]), np.array([3, 4, 5]))


def test_an_exported_model_scores_as_its_checkpoint_does(
    tmp_path_factory, tmp_path, market, experiment, capsys
):
    file, folder = exported(tmp_path_factory, "alignedreid")
    tree = experiment | {
        "method": {"name": "alignedreid", "backbone": "tiny", "pretrained": None},
        "data": experiment["data"] | INPUT | {"roots": {"market1501": str(market)}},
    }
    expected = evaluation.evaluate(file, settings=config.resolve(tree), log=str)
    changes = [
        "--protocol.name",
        "single_query",
        f"--data.roots.market1501={market}",
        "--evaluate.batch",
        "5",
    ]
    found = evaluate(folder, changes, out=tmp_path)
    assert "Rank-1" in capsys.readouterr().out
    assert found.keys() == expected.keys()
    for row, scores in expected.items():
        # Torch resizes images a grey level apart from Pillow here and there.
        assert found[row].mean_ap == pytest.approx(scores.mean_ap, abs=0.01)
        assert found[row].valid == scores.valid
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["metric"] == {"feature": "squared_euclidean_unit", "stripes": "aligned"}
    assert content["rows"][0]["mean_ap"] == pytest.approx(found[content["rows"][0]["subset"]].mean_ap)


def test_recorded_settings_are_used_and_changes_checked(tmp_path_factory, market, experiment):
    _, folder = exported(tmp_path_factory, "alignedreid")
    tree = {
        "data": {"name": "market1501", "roots": {"market1501": str(market)}, "size": list(SIZE)},
        "protocol": {"name": "single_query", "same_camera": True},
        "evaluate": {"ranks": 30},
    }
    rows = evaluate(folder, tree=tree, log=str)
    assert len(rows[f"{LAYOUT_OF}Market-1501"].cmc) == 30
    assert evaluate(folder, ["--protocol.same_camera", "false"], tree=tree, log=str)[
        f"{LAYOUT_OF}Market-1501"
    ].mean_ap != (rows[f"{LAYOUT_OF}Market-1501"].mean_ap)
    for changes, words in (
        (["--protocol.mode", "all"], "unknown setting protocol.mode"),
        (["--train.epochs", "3"], "does not apply to an exported model"),
        (["--evaluate.rerank", "true"], "needs the checkpoint"),
        (["--data.fold"], "needs a value"),
        (["--data.fold.deeper", "1"], "nothing below it"),
        (["--evaluate.batch", "0"], "a whole number from 1"),
        (["--evaluate.ranks", "5"], "a whole number from 20"),
        (["--protocol.name", "market"], "did you mean 'market1501'"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate(folder, changes, tree=tree, log=str)
    with pytest.raises(UserError, match="score the checkpoint"):
        evaluate(folder, tree=tree, split="validation")
    with pytest.raises(UserError, match="records no protocol"):
        evaluate(folder, log=str)


def test_one_half_of_a_model_refuses_images_of_the_other_modality(tmp_path_factory):
    _, folder = exported(tmp_path_factory, "agw")
    model = Exported(folder / "infrared.onnx")
    pixels = np.zeros((2, *model.size, 3), np.uint8)
    assert np.linalg.norm(model(pixels, np.ones(2, int)).feature, axis=1) == pytest.approx(1, abs=1e-5)
    for embed in (
        model,
        lambda some, _: crossreid.Embedder(folder / "infrared.onnx")(list(some), modality="visible"),
    ):
        with pytest.raises(UserError, match="exported for infrared images, but one is visible"):
            embed(pixels, np.array([1, 0]))


def test_one_half_of_a_model_cannot_be_scored_across(tmp_path_factory, sysu):
    _, folder = exported(tmp_path_factory, "agw")
    changes = ["--protocol.name=sysu_mm01", f"--data.roots.sysu_mm01={sysu}"]
    with pytest.raises(UserError, match="is the infrared half"):
        evaluate(folder / "infrared.onnx", changes)
    rows = evaluate(folder, [*changes, "--protocol.trials", "2"], log=str)
    assert len(rows["all"].per_trial) == 2
