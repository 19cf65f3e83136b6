"""The first run: what it says, what it does not do twice, and whose folder it refuses. The commands' tests train."""

import json

import pytest

from crossreid import demo
from crossreid.records import UserError


def whole(folder):
    """The files of a demo that ended."""
    chosen = demo.settings(folder, quick=True)
    for name in ("run", "unseen-place", "visible-infrared"):
        (folder / name).mkdir(parents=True)
    (folder / "visible-infrared" / "rendered.json").write_text(json.dumps({"seed": 0, "identities": 40}))
    (folder / "run" / "config.yaml").write_text(chosen.to_yaml())
    for name in ("run", "unseen-place"):
        rows = [{"subset": "all", "cmc": [0.25], "mean_ap": 0.5, "mean_inp": 0.125}]
        (folder / name / "evaluation.json").write_text(json.dumps({"rows": rows}))
        (folder / name / "report.html").write_text("")
    (folder / "search.html").write_text("")
    return folder


def test_what_is_done_is_shown_and_not_done_again(tmp_path, capsys):
    folder = whole(tmp_path / "demo")
    assert demo.run(folder, quick=True) == folder / "run" / "report.html"
    said = capsys.readouterr().out
    for page in ("run/report.html", "search.html", "unseen-place/report.html"):
        assert (folder / page).resolve().as_uri() in said
    assert "a place it never saw: all Rank-1 25.0%, mAP 50.0%" in said and "rendering" not in said


@pytest.mark.parametrize("options", [{"seed": 1, "quick": True}, {"quick": False}])
def test_a_demo_of_other_options_is_not_gone_on_with(tmp_path, options):
    with pytest.raises(UserError, match="holds a demo with other options"):
        demo.run(whole(tmp_path / "demo"), **options)


def test_an_interrupted_demo_goes_on(tmp_path, capsys, monkeypatch):
    """Stopped in the training: nothing is rendered again, and the training is resumed."""
    folder = whole(tmp_path / "demo")
    for name in ("run/evaluation.json", "run/report.html", "search.html"):
        (folder / name).unlink()
    (folder / "unseen-place" / "people").mkdir()
    (folder / "run" / "last.pt").touch()
    asked = []

    def train(settings, run, resume):
        asked.append(resume)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.training, "train", train)
    monkeypatch.setattr(demo.synthetic, "write", lambda *given, **named: pytest.fail("rendered again"))
    with pytest.raises(KeyboardInterrupt):
        demo.run(folder, quick=True)
    said = capsys.readouterr().out
    assert asked == [True] and "about a minute" in said and "the same command goes on" in said


def test_results_are_a_table_in_a_notebook():
    import numpy as np

    from crossreid.evaluation.entry import Results
    from crossreid.records import Scores

    one, other = (
        Scores(np.array([rank1, 1.0]), 0.5, 0.25, {}, {}, valid=3, queries=4) for rank1 in (0.25, 0.75)
    )
    mean = Scores(np.array([0.5, 1.0]), 0.5, 0.25, {}, {}, (one, other), 3, 4)
    shown = Results({"<all>": mean})._repr_html_()
    assert "<th>&lt;all&gt;</th><td>50.00 ± 25.00</td><td>100.00 ± 0.00</td>" in shown and "3 of 4" in shown
