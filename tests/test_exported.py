"""Exported models are scored on the road of checkpoints, by everything that is measured there."""

import json

import numpy as np
import pytest
from exported_models import INPUT, SIZE, exported

import crossreid
from crossreid import config, evaluation
from crossreid.__main__ import main
from crossreid.export.using import Exported
from crossreid.records import UserError


def quiet(text):
    pass


@pytest.fixture(scope="module")
def alignedreid(tmp_path_factory):
    return exported(tmp_path_factory, "alignedreid")


def words_of(market):
    return ["--protocol.name", "single_query", f"--data.roots.market1501={market}", "--train.device", "cpu"]


def test_an_exported_model_scores_as_its_checkpoint_does(alignedreid, tmp_path, market, experiment, capsys):
    """All that is measured: ranks, re-ranking, verification, ranked lists, baselines, pairs."""
    file, folder = alignedreid
    asked = {"rerank": True, "verification": True, "baseline": True, "examples": 2}
    tree = experiment | {
        "method": {"name": "alignedreid", "backbone": "tiny", "pretrained": None},
        "data": experiment["data"] | INPUT | {"roots": {"market1501": str(market)}},
        "evaluate": asked,
    }
    expected = evaluation.evaluate(file, settings=config.resolve(tree), out=tmp_path / "one", log=quiet)
    capsys.readouterr()
    words = [f"--evaluate.{name}={str(value).lower()}" for name, value in asked.items()]
    assert main(["evaluate", str(folder), *words_of(market), *words, "--out", str(tmp_path / "two")]) == 0
    said = capsys.readouterr().out
    for text in ("Rank-1(RK)", "mAP(RK)", "TPR@FAR=0.01", "striped colour histogram", "report.html"):
        assert text in said
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert one.keys() | {"fingerprint"} == two.keys()
    assert two["metric"] == one["metric"] == {"feature": "squared_euclidean_unit", "stripes": "aligned"}
    ((name, scores),) = expected.items()
    for part in ("rows", "reranked"):
        # The two may resize images a grey level apart here and there.
        assert two[part][0]["mean_ap"] == pytest.approx(one[part][0]["mean_ap"], abs=0.01)
        assert two[part][0]["valid"] == scores.valid
    assert two["baselines"] == one["baselines"] and len(two["ranked"]) == 6
    assert two["pairs"][0]["genuine"] == one["pairs"][0]["genuine"]
    assert two["pairs"][0]["true_positive"] == pytest.approx(one["pairs"][0]["true_positive"], abs=0.02)
    assert two["operating_points"][0]["subset"] == name


@pytest.mark.slow
def test_each_feature_that_the_vectors_serve_can_be_asked_for(alignedreid, market, tmp_path, capsys):
    file, folder = alignedreid
    found = {}
    for feature in ("global_local", "local", "global", "local_unaligned"):
        for model in (file, folder):
            out = tmp_path / f"{feature}-{model.name}"
            words = ["--evaluate.feature", feature, "--out", str(out)]
            assert main(["evaluate", str(model), *words_of(market), *words]) == 0
            content = json.loads((out / "evaluation.json").read_text())
            assert content["feature"] == feature
            found[feature, model.name] = content["rows"][0]["mean_ap"]
        assert found[feature, folder.name] == pytest.approx(found[feature, file.name], abs=0.01)
    assert len({round(value, 6) for (_, name), value in found.items() if name == file.name}) == 4
    assert main(["evaluate", str(folder), *words_of(market), "--evaluate.feature", "bn"]) == 2
    assert "these features serve global_local" in capsys.readouterr().err


def test_what_is_not_known_or_not_asked_rightly_is_said(alignedreid, market, capsys):
    _, folder = alignedreid
    for words, text in (
        ([], "does not record a data set or protocol"),
        (["--protocol.name", "sysu_mm01", "--protocol.mod", "all"], "did you mean 'mode'"),
        ([*words_of(market), "--evaluate.ranks", "5"], "evaluate.ranks is 5"),
        ([*words_of(market), "--split", "validation", "--data.validation", "0.3"], "score the checkpoint"),
    ):
        assert main(["evaluate", str(folder), *words]) == 2
        assert text in capsys.readouterr().err


def test_two_folders_by_an_exported_model(tmp_path_factory, sysu, tmp_path):
    """The modalities are given, or the folders tell them."""
    file, folder = exported(tmp_path_factory, "agw")
    found = []
    for model in (file, folder):
        out = tmp_path / model.name
        sides = ["--query", str(sysu / "cam3"), "--gallery", str(sysu / "cam4")]
        more = ["--query-modality", "infrared", "--gallery-modality", "visible", "--train.device", "cpu"]
        assert main(["evaluate", str(model), *sides, *more, "--out", str(out)]) == 0
        found.append(json.loads((out / "evaluation.json").read_text()))
    assert found[1]["rows"][0]["mean_ap"] == pytest.approx(found[0]["rows"][0]["mean_ap"], abs=0.01)
    assert found[1]["operating_points"][0]["modalities"] == ["infrared", "visible"]


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


def test_one_half_of_a_model_cannot_be_scored_across(tmp_path_factory, sysu, capsys):
    _, folder = exported(tmp_path_factory, "agw")
    words = ["--protocol.name=sysu_mm01", f"--data.roots.sysu_mm01={sysu}", "--train.device=cpu"]
    assert main(["evaluate", str(folder / "infrared.onnx"), *words]) == 2
    assert "is the infrared half" in capsys.readouterr().err
    assert main(["evaluate", str(folder), *words, "--protocol.trials", "2"]) == 0
    assert "2 trials" in capsys.readouterr().out


def test_vectors_and_stripes_of_an_embedder(alignedreid):
    file, folder = alignedreid
    pixels = [np.full((*SIZE, 3), 90, np.uint8), np.full((*SIZE, 3), 200, np.uint8)]
    one, two = (crossreid.Embedder(path) for path in (file, folder))
    assert one.stripes == two.stripes == (2, 128) and one.metrics == two.metrics
    for embed in (one, two):
        found = embed.embed(pixels)
        assert found.stripes.shape == (2, 2, 128)
        np.testing.assert_array_equal(found.feature, embed(pixels))
        with pytest.warns(UserWarning, match="1 images have random vectors"):
            filled = embed.embed(pixels[0], boxes=[(0, 0, 9, 9), (9, 9, 9, 9)], bad="random")
        assert np.linalg.norm(filled.feature[1]) == pytest.approx(1) and np.isfinite(filled.stripes).all()
    np.testing.assert_allclose(one.embed(pixels).stripes, two.embed(pixels).stripes, atol=1e-4)
