import pytest
import test_dukemtmc
import test_grid
import test_ilids
import test_prid2011
import test_viper
from tiny_layouts import assert_perfect, noise, scores

from crossreid import data
from crossreid.protocols import build
from crossreid.protocols.generalization import Generalization
from crossreid.records import UserError

SMALL = {"grid": "GRID", "viper": "viper", "prid2011": "prid_2011", "ilids": "QMUL-iLIDS"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("all targets")
    test_grid.write_matrix(test_grid.write(root / "GRID"))
    test_viper.write(root / "viper")
    test_prid2011.write(root / "prid_2011")
    test_ilids.write(root / "QMUL-iLIDS")
    test_dukemtmc.write(root / "dukemtmc")
    return root


def test_one_row_for_each_target(folder):
    protocol = Generalization(folder)
    rows = [trial.subset for trial in protocol.trials()]
    assert rows == ["GRID"] * 10 + ["VIPeR"] * 10 + ["PRID"] * 10 + ["i-LIDS"] * 10
    assert len({(i.domain, i.path) for i in protocol.images}) == len(protocol.images)
    assert_perfect(protocol, ["GRID", "VIPeR", "PRID", "i-LIDS"])
    assert len(protocol.trials()[0].query) == 3


def test_the_mean_over_folds_is_plain(folder):
    protocol = Generalization(folder, targets=["viper", "grid"], folds=4)
    found = scores(protocol, noise(protocol.images))
    assert list(found) == ["VIPeR", "GRID"]
    for score in found.values():
        assert len(score.per_trial) == 4
        assert score.mean_ap == pytest.approx(sum(trial.mean_ap for trial in score.per_trial) / 4)


def test_roots_by_name(folder, monkeypatch):
    monkeypatch.delenv("CROSSREID_DATA", raising=False)
    protocol = Generalization(
        {"grid": folder / "GRID", "dukemtmc": folder / "dukemtmc"}, targets=["grid", "dukemtmc"]
    )
    assert {image.domain for image in protocol.images} == {0, 1}
    assert [trial.subset for trial in protocol.trials()][-2:] == ["GRID", "DukeMTMC-reID"]
    with pytest.raises(UserError, match="viper"):
        Generalization({"grid": folder / "GRID"}, targets=["grid", "viper"])


def test_mistakes_are_explained(folder, tmp_path):
    for settings, text in (
        ({"targets": []}, "targets"),
        ({"targets": ["grid", "grid"]}, "once"),
        ({"folds": 11}, "1 to 10"),
        ({"viper_variants": "ax"}, "abcd"),
        ({"targets": ["gird"]}, "grid"),
        ({"split": "validation"}, "validation"),
    ):
        with pytest.raises(UserError, match=text):
            Generalization(folder, **settings)
    with pytest.raises(UserError, match="GRID was not found"):
        Generalization(tmp_path)
    (tmp_path / "cuhk02").mkdir()
    from test_cuhk02 import write

    write(tmp_path / "cuhk02")
    with pytest.raises(UserError, match="training only"):
        Generalization(tmp_path, targets=["cuhk02"])


def test_validation_has_a_row_for_each_domain(folder):
    from dataclasses import replace

    held = [
        replace(i, domain=d)
        for d, root in enumerate(("viper", "prid2011"))
        for i in data.read(root, folder / SMALL[root])["train"]
    ]
    assert_perfect(Generalization(folder, split="validation", images=held), ["validation 0", "validation 1"])


def test_what_was_trained_on_is_said_of_the_targets(folder):
    def said(*names):
        settings = {"targets": ["grid", "dukemtmc"]}
        roots = {"grid": folder / "GRID", "dukemtmc": folder / "dukemtmc"}
        return build("generalization", settings, roots, trained_on=names).description

    assert "not trained on" not in said() and "was trained on" not in said()
    assert "trained on data.name market1501, cuhk02: none of these is tested on." in said(
        "market1501", "cuhk02"
    )
    seen = said("market1501", "dukemtmc")
    assert (
        "trained on data.name market1501, dukemtmc: the row of dukemtmc is not of an unseen domain." in seen
    )
    assert "Means over 10 random splits: GRID." in seen
