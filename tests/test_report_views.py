"""Maps of each branch and view: what is drawn where, two runs above each other, and whom they are not for."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crossreid.methods.agw import AGW
from crossreid.methods.mvd import MVD, PROFILES, VIEWS
from crossreid.records import UserError
from crossreid.report import evidence, page, views
from crossreid.report.evidence import Features
from crossreid.report.runs import Run

WIDTH = 4


def method(profile="authors"):
    torch.manual_seed(0)
    config = MVD.Config(profile=profile, backbone="tiny", pretrained=None, width=WIDTH)
    return MVD(config, 6).eval()


@pytest.mark.parametrize("profile", PROFILES)
def test_views_lie_where_they_are_said_to(profile):
    mvd, images = method(profile), torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        whole = mvd.embed(images, feature="both").feature
        seen = mvd._observe(images)
    places = mvd.views()
    assert len(places) == 8 and sorted(
        i for each in places.values() for i in range(whole.shape[1])[each]
    ) == list(range(whole.shape[1]))
    for name, (branch, grey, _) in VIEWS.items():
        key = ("shared" if branch == "shared" else "specific", "infrared" if grey else "visible")
        kept = mvd.bottlenecks[branch](seen[name])
        for kind, expected in (("observation", seen[name]), ("representation", kept)):
            found = whole[:, places[kind, *key]]
            near = torch.nn.functional.cosine_similarity(found, expected)
            torch.testing.assert_close(near, torch.ones(3))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs whose features are drawn at random: six people, four visible and three infrared images each."""
    mvd, rng = method(), np.random.default_rng(0)
    identity = np.repeat(np.arange(6), 7)
    modality = np.tile(np.array(["visible"] * 4 + ["infrared"] * 3), 6)
    labels = {"identity": identity, "modality": modality, "domain": identity * 0}
    size = max(each.stop for each in mvd.views().values())
    found = Features(rng.normal(size=(42, size)), None, labels, "test", "both")
    monkeypatch.setattr(evidence, "model", lambda run: mvd)
    monkeypatch.setattr(evidence, "features", lambda run, name: found if name == "both" else None)
    monkeypatch.setattr(views, "plane", lambda vectors, seed: vectors[:, :2])
    return [Run(name, tmp_path / name) for name in ("authors", "conventional")], found


def kept(monkeypatch):
    """Name of a figure -> run -> title -> panel, of what is drawn from here on."""
    made, draw = {}, views.draw

    def drawing(name, title, lines, note):
        made[name] = lines
        return draw(name, title, lines, note)

    monkeypatch.setattr(views, "draw", drawing)
    return made


def test_one_figure_of_observations_and_one_of_representations(runs, monkeypatch):
    given, found = runs
    made = kept(monkeypatch)
    drawn = views.section(given, identities=4, seed=0).figures
    assert [figure.name for figure in drawn] == ["views-observation", "views-representation"]
    titles = ["specific, visible", "specific, infrared", "shared, visible", "shared, infrared", "joint"]
    for lines in made.values():
        assert list(lines) == ["authors", "conventional"]
        for panels in lines.values():
            assert list(panels) == titles
            assert [len(panel.identity) for panel in panels.values()] == [16, 12, 16, 12, 28]
            assert set(panels["specific, infrared"].view) == {"infrared"}
            assert len(np.unique(panels["joint"].identity)) == 4
    place = method().views()["representation", "shared", "infrared"]
    panel = made["views-representation"]["authors"]["shared, infrared"]
    rows = np.isin(found.labels["identity"], panel.identity) & (found.labels["modality"] == "infrared")
    assert np.array_equal(panel.coordinates, found.vectors[rows][:, place][:, :2])
    rows = list(csv.reader(io.StringIO(drawn[0].csv())))
    assert rows[0] == ["run", "panel", "x", "y", "identity", "view"] and len(rows) == 1 + 2 * 84
    points = [len(axes.collections[0].get_offsets()) for axes in drawn[0].axes]
    assert sum(points) == 2 * 84 and len(points) == 2 * len(titles)
    assert "authors" in drawn[0].description and drawn[0].get_figwidth() > page.WIDE


def test_data_of_one_modality_are_drawn_in_every_view(runs, monkeypatch):
    given, found = runs
    plain = Features(
        found.vectors,
        None,
        {"identity": found.labels["identity"], "domain": found.labels["domain"]},
        "test",
        "both",
    )
    monkeypatch.setattr(evidence, "features", lambda run, name: plain)
    made = kept(monkeypatch)
    views.section(given[:1], identities=9, seed=0)
    panels = made["views-observation"]["authors"]
    assert [len(panel.identity) for panel in panels.values()] == [42, 42, 42, 42, 84]


def test_methods_of_one_branch_and_too_few_images_are_refused(runs, monkeypatch):
    given, _ = runs
    with pytest.raises(UserError, match=r"4 visible images are too few for a map, which takes 5"):
        views.section(given, identities=1, seed=0)
    plain = AGW(AGW.Config(backbone="tiny", pretrained=None), 3)
    monkeypatch.setattr(evidence, "model", lambda run: plain)
    run = SimpleNamespace(folder="runs/agw", name="agw", evaluation={"method": "agw"}, settings={})
    with pytest.raises(UserError, match=r"the method agw has one branch and no views"):
        views.section([run], identities=1, seed=0)
