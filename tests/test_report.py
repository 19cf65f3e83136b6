"""The report page, its charts and its tables, on run folders made here."""

import base64
import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crossreid import records, report
from crossreid.evaluation import features as stored
from crossreid.records import UserError
from crossreid.report import embedding_map, evidence, figure, groups, plots, rankings, runs, style, tables

VOID = {"meta", "br", "img", "wbr"}


class Checker(HTMLParser):
    """Collects tags and texts, and finds elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.tags, self.text = [], [], [], ""
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text += data

    def having(self, tag, **attributes):
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def row(name, mean_ap, trials=3, step=0.02, length=20):
    cmc = [1 - (1 - mean_ap) * 0.85**rank for rank in range(length)]
    each = [
        {
            **{f"rank{k}": cmc[k - 1] + step * (t - (trials - 1) / 2) for k in (1, 5, 10, 20) if k <= length},
            "mean_ap": mean_ap + step * (t - (trials - 1) / 2),
            "mean_inp": mean_ap / 2,
            "TPR@FAR=0.001": mean_ap / 3 + step * t,
        }
        for t in range(trials)
    ]
    return {
        "subset": name,
        "cmc": cmc,
        "mean_ap": mean_ap,
        "mean_inp": mean_ap / 2,
        "verification": {"TPR@FAR=0.001": mean_ap / 3},
        "valid": 38,
        "queries": 40,
        "trials": each,
    }


def person(folder, identity, camera, modality):
    rng = np.random.default_rng([identity, camera])
    pixels = np.full((128, 64, 3), 200, np.uint8)
    coat, legs = (np.random.default_rng(identity + 1).integers(0, 255, (2, 3))).astype(np.uint8)
    pixels[14:34, 24:40] = (205, 160, 130)
    pixels[34:78, 16:48] = coat
    pixels[78:124, 20:44] = legs
    if modality == "infrared":
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    pixels = np.clip(pixels + rng.normal(0, 9, pixels.shape), 0, 255).astype(np.uint8)
    path = folder / f"{identity:04d}_c{camera}_{modality}.png"
    Image.fromarray(pixels).save(path)
    return {"path": str(path), "identity": identity, "camera": camera, "modality": modality}


def ranked(folder, name):
    lists = []
    for kind, hits, precision in (
        ("good", {1, 2, 3, 4}, 1.0),
        ("median", {2, 5, 7}, 0.41),
        ("worst", set(), 0.02),
    ):
        gallery = [
            {
                **person(folder, 6 if rank in hits else 10 + rank, 1 + rank % 4, "visible"),
                "distance": 0.2 + 0.05 * rank,
                "right": rank in hits,
            }
            for rank in range(1, 11)
        ]
        lists.append(
            {
                "subset": name,
                "kind": kind,
                "average_precision": precision,
                "first_rank": min(hits, default=31),
                "query": person(folder, 6, 3, "infrared"),
                "gallery": gallery,
            }
        )
    return lists


def settings(**train):
    return {
        "method": {"name": "agw", "stride": 1, "margin": None},
        "data": {
            "name": "sysu_mm01",
            "batch": {"identities": 8, "instances": 4},
            "size": [288, 144],
            "fold": 0,
        },
        "protocol": {"name": "sysu_mm01", "mode": "all"},
        "train": {"epochs": 60, "seed": 1, **train},
        "evaluate": {"feature": "bn", "flip": True},
    }


def make(folder, mean_ap=0.5, names=("all", "indoor"), images=True, features=True, **train):
    """A run folder with everything in it."""
    folder.mkdir(parents=True)
    tree = settings(**train)
    tree["data"]["roots"] = {"sysu_mm01": str(folder.parent)}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    records = []
    for epoch in range(60):
        rate = 0.1 * 0.1 ** ((epoch >= 20) + (epoch >= 50)) * min(1, (epoch + 1) / 10)
        identity, triplet = 5.2 * 0.94**epoch + 0.1, 0.7 * 0.96**epoch
        records.append(
            {
                "kind": "epoch",
                "epoch": epoch,
                "seconds": 12.3,
                "lrs": {"main": [rate / 10, rate, rate]},
                "losses": {
                    "train/identity": identity,
                    "train/triplet": triplet,
                    "train/total": identity + triplet,
                },
            }
        )
        if epoch % 10 == 9:
            score = {"rank1": mean_ap * epoch / 59, "mean_ap": 0.9 * mean_ap * epoch / 59, "mean_inp": 0.2}
            records.append(
                {"kind": "evaluation", "epoch": epoch, "split": "validation", "rows": {"all": score}}
            )
    records.append(
        {
            "kind": "summary",
            "step_ms": 81.5,
            "seconds": 4321.0,
            "parameters": 23_500_000,
            "device": "cpu",
            "checkpoint_bytes": 94_000_000,
            "peak_memory_bytes": 3 << 30,
            "processes": 1,
        }
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shown = folder.parent / f"{folder.name}-images"
    shown.mkdir()
    evaluation = {
        "protocol": {
            "name": "sysu_mm01",
            "description": "Infrared queries, visible gallery; ten draws of the gallery.",
        },
        "method": "agw",
        "feature": "bn",
        "metric": {"feature": "cosine", "stripes": None},
        "checkpoint": "last.pt",
        "epoch": 59,
        "selection": "the last epoch",
        "date": "2024-05-01",
        "versions": {"crossreid": "0.1", "torch": "2.11"},
        "notes": [],
        "rows": [row(name, mean_ap) for name in names],
        "reranked": [row(name, mean_ap + 0.08) for name in names],
        "baselines": [{"name": "striped colour histogram", "rows": [row(name, 0.07) for name in names]}],
        "ranked": [each for name in names for each in ranked(shown, name)] if images else [],
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    if features:
        write_features(folder)
    return folder


def features(people=6, each=8):
    """Vectors of people by four cameras, every second image infrared: (N, 16), and the labels of N."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(people, 16))
    identity = np.repeat(np.arange(people), each)
    vectors = (centre[identity] + 0.2 * rng.normal(size=(people * each, 16))).astype("f4")
    labels = {
        "identity": identity,
        "camera": np.tile(np.arange(4), people * each // 4),
        "modality": np.where(np.arange(people * each) % 2, "infrared", "visible"),
        "domain": np.zeros(people * each, int),
    }
    return vectors, labels


def write_features(folder, people=6, each=8):
    """As an evaluation writes them: infrared images are searched for among the visible ones."""
    vectors, labels = features(people, each)
    images = [
        records.Image(folder / f"{row}.png", int(i), int(c), str(m), int(d))
        for row, (i, c, m, d) in enumerate(zip(*labels.values()))
    ]
    query, gallery = (np.flatnonzero(labels["modality"] == name) for name in ("infrared", "visible"))
    keys = labels["camera"] // 2
    trial = records.Trial("all", query, gallery, (keys[query], keys[gallery]))
    metric = {"feature": "cosine", "stripes": None}
    about = {
        "protocol": {"name": "small", "description": "Few."},
        "feature": "bn",
        "metric": metric,
        "notes": [],
    }
    protocol = stored.Recorded("small", "Few.", "image", "trials", (), images, (trial,))
    embedding = records.Embedding(torch.from_numpy(vectors))
    found = stored.Stored(protocol, embedding, {"bn": records.Metric(**metric)}, "bn", about)
    stored.write_stored(folder / "features.npz", found)
    return found


def change(folder, **changes):
    path = folder / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def written(tmp_path, *folders, saving=False):
    """The page. saving: with the files behind the links of its figures, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if not saving:
            patch.setattr(figure.Plot, "files", lambda plot: {"csv": plot.csv().encode()})
        return report.write(folders, tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return written(folder, make(folder / "run"), saving=True)


def test_page_has_every_part(whole):
    page = Checker(whole)
    assert not page.wrong
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", whole)
    assert headings == [
        "Results",
        "CMC curves",
        "Training",
        "Ranked lists",
        "Distances",
        "Embedding map",
        "Settings",
        "Cost",
    ]
    for text in (
        "Infrared queries, visible gallery",
        "striped colour histogram",
        "re-ranked",
        "Average precision 41.0 %",
        "mean inverse negative penalty",
        "nearest first",
        "3 trials",
        "38 of 40",
        "1 h 12 min",
    ):
        assert text in page.text
    links = {a["href"] for a in page.having("a") if a["href"].startswith("#")}
    assert links == {f"#{a['id']}" for a in page.having("h2")}


def test_page_asks_for_nothing_from_elsewhere(whole):
    page = Checker(whole)
    assert "://" not in whole
    assert (
        not page.having("script")
        and not page.having("link")
        and "@import" not in whole
        and "url(" not in whole.replace("url(#", "")
    )
    for _, attributes in page.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:"))


def test_right_and_wrong_differ_by_more_than_colour(whole):
    page = Checker(whole)
    assert len(page.having("li", class_="right")) == 2 * 7
    assert len(page.having("li", class_="wrong")) == 2 * 23
    assert whole.count("✓ 1<") == 2 and "✕ 10" in whole
    assert ".wrong .image { border-color: var(--wrong); border-style: dashed; }" in whole
    texts = [a["alt"] for a in page.having("img")]
    assert len(texts) == 2 * 33 and all(texts)
    assert (
        "query: identity 6, camera 3, infrared" in texts
        and "rank 1, right: identity 6, camera 2, visible" in texts
    )


def test_tables_and_charts_are_named_for_all_readers(whole):
    page = Checker(whole)
    assert whole.count("<table>") == whole.count("<caption>")
    assert all(a.get("scope") for a in page.having("th"))
    images = page.having("svg")
    assert images and all(a["role"] == "img" and a["aria-label"] for a in images)
    assert whole.startswith('<!doctype html><html lang="en">') and "prefers-color-scheme: dark" in whole


def test_figures_can_be_saved_with_their_data(whole):
    links = Checker(whole).having("a")
    saved = {a["download"]: base64.b64decode(a["href"].partition(",")[2]) for a in links if "download" in a}
    rows = list(csv.reader(io.StringIO(saved["cmc-all.csv"].decode())))
    assert rows[0] == ["Rank", "this run", "re-ranked", "striped colour histogram"]
    assert [float(value) for value in rows[1]] == pytest.approx([1, 0.5, 0.58, 0.07])
    assert len(rows) == 21
    rows = list(csv.reader(io.StringIO(saved["loss-train.csv"].decode())))
    assert rows[0] == ["Epoch", "identity", "triplet", "total"] and len(rows) == 61
    assert [float(value) for value in rows[1]] == pytest.approx([1, 5.3, 0.7, 6.0])
    drawing = ElementTree.fromstring(saved["cmc-all.svg"])
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg" and len(list(drawing.iter())) > 40
    assert Image.open(io.BytesIO(saved["cmc-all.png"])).width > 600
    assert saved["cmc-all.pdf"].startswith(b"%PDF-")
    # A learning rate over a hundred times its least has a logarithmic axis: its ticks are powers of ten.
    ticks = re.sub(r"<[^>]*>|\s", "", saved["lr-main.svg"].decode())
    assert "10−4" in ticks and "10−2" in ticks
    rows = list(csv.reader(io.StringIO(saved["map-run-identity.csv"].decode())))
    assert rows[0] == ["x", "y", "identity", "camera", "modality", "domain"] and len(rows) == 49
    assert {
        "loss-train.csv",
        "lr-main.csv",
        "scores-all-validation.csv",
        "map-run-camera.svg",
    } <= saved.keys()


def test_a_figure_is_drawn_once_as_each_kind_of_file(tmp_path, monkeypatch):
    drawn = []
    save = figure.Plot.savefig

    def counting(plot, file, **given):
        drawn.append((plot.name, given["format"]))
        save(plot, file, **given)

    monkeypatch.setattr(figure.Plot, "savefig", counting)
    folder = make(tmp_path / "run", names=("all",), features=False)
    page = report.write([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(drawn) == len(set(drawn)) and ("cmc-all", "svg") in drawn
    assert not [
        name for name, _ in drawn if name.startswith("ranked-")
    ]  # is shown by the page in its own way
    drawn.clear()
    report.write([folder], tmp_path / "again.html", figures_to=tmp_path / "figures")
    assert len(drawn) == len(set(drawn)) and ("ranked-run-all", "pdf") in drawn
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "figures" / "ranked-run-all.svg").is_file()


def test_text_of_files_is_escaped(tmp_path):
    folder = make(tmp_path / "run", names=("<script>alert(1)</script>",), features=False)
    change(
        folder,
        protocol={"name": "<b>", "description": '"><img src=x onerror=y>'},
        method="<i>",
        notes=["<u>note"],
    )
    (folder / "config.yaml").write_text(yaml.safe_dump({"train": {"<s>": "<q>"}}))
    page = Checker(written(tmp_path, folder))
    assert not page.wrong
    assert not any(page.having(tag) for tag in ("script", "i", "u", "s", "q"))
    assert all(a.get("src", "").startswith("data:") for a in page.having("img"))


def test_choice_on_the_test_set_and_notes_are_loud(tmp_path):
    folder = make(tmp_path / "run", images=False, features=False)
    assert 'class="loud"' not in written(tmp_path, folder)
    change(folder, selection="stored features, /data/test/v.npz", epoch="<i>4</i>")
    assert 'class="loud"' not in (text := written(tmp_path, folder)) and "epoch &lt;i&gt;4" in text
    change(folder, selection="the epoch best on the TEST set", notes=["the same-camera rule is off"])
    text = written(tmp_path, folder)
    assert text.count('class="loud"') == 2
    assert (
        "Reported epoch: the epoch best on the TEST set. Numbers chosen on" in text
        and "The same-camera rule is off" in text
    )


def test_page_holds_what_there_is(tmp_path):
    folder = make(tmp_path / "run", images=False, features=False)
    (folder / "evaluation.json").unlink()
    text = written(tmp_path, folder)
    assert "not evaluated" in text and "Losses, phase train" in text and "Ranked lists" not in text
    (folder / "metrics.jsonl").unlink()
    text = written(tmp_path, folder)
    assert "<svg" not in text and "All settings" in text
    assert "not evaluated" in report.write_table([folder])


def test_missing_images_leave_the_numbers(tmp_path):
    folder = make(tmp_path / "run", names=("all",), features=False)
    for path in (tmp_path / "run-images").iterdir():
        path.write_bytes(b"no image")
    text = written(tmp_path, folder)
    assert text.count("image not found") == 33 and "<img" not in text


def test_folder_that_is_no_run(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="is not the folder of a run"):
        report.write([tmp_path / "other"], tmp_path / "report.html")
    with pytest.raises(UserError, match="at least one run"):
        report.write([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("file", "text"), [("evaluation.json", "{"), ("evaluation.json", "[1]"), ("config.yaml", "a: [")]
)
def test_files_that_cannot_be_read(tmp_path, file, text):
    folder = make(tmp_path / "run", images=False, features=False)
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=file) as error:
        report.write([folder], tmp_path / "report.html")
    assert "\n" not in str(error.value)


def test_log_of_a_killed_and_resumed_run(tmp_path):
    lines = [
        {"kind": "epoch", "epoch": e, "losses": {"train/total": v}} for e, v in ((0, 3.0), (1, 2.0), (1, 1.5))
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "ep')
    assert [epoch["losses"]["train/total"] for epoch in runs.read(tmp_path).epochs] == [3.0, 1.5]
    path.write_text('{"kind": "ep\n{"kind": "epoch", "epoch": 0}\n')
    with pytest.raises(UserError, match="Line 1"):
        runs.read(tmp_path)


def test_several_runs_side_by_side(tmp_path):
    folders = [
        make(tmp_path / "first", 0.5, images=False, features=False),
        make(tmp_path / "second", 0.6, images=False, features=False, epochs=80),
    ]
    text = written(tmp_path, *folders)
    page = Checker(text)
    assert not page.wrong
    assert "<h1>agw on SYSU-MM01: 2 runs side by side</h1>" in text
    assert "What differs" in text and "train.<wbr>epochs" in text
    assert "average of" not in text and "must not be compared" not in text
    assert "Loss train/identity" in page.text and "first, re-ranked" in text
    assert page.text.count("first striped colour histogram") == 0
    assert len(re.findall(r"<th scope=\"row\"><span>striped colour histogram</span></th>", text)) == 2
    change(folders[1], protocol={"name": "sysu_mm01", "description": "Other words."})
    assert "must not be compared" in written(tmp_path, *folders)


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make(tmp_path / name / "run", images=False, features=False) for name in "ab"]
    assert [run.name for run in runs.read_all(folders)] == ["a/run", "b/run"]


def test_average_over_folds(tmp_path):
    values = (0.4, 0.5, 0.9)
    folders = []
    for fold, value in enumerate(values):
        folders.append(make(tmp_path / f"fold{fold}", value, images=False, features=False, seed=fold))
    first = report.average(folders)[0]
    assert first["subset"] == "all" and first["runs"] == 3 and len(first["trials"]) == 3
    assert first["mean"]["mean_ap"] == pytest.approx(0.6)
    assert first["std"]["mean_ap"] == pytest.approx((sum((v - 0.6) ** 2 for v in values) / 3) ** 0.5)
    assert first["mean"]["rank1"] == pytest.approx(np.mean([1 - (1 - v) for v in values]))
    assert first["cmc"][4] == pytest.approx(np.mean([1 - (1 - v) * 0.85**4 for v in values]))
    assert first["verification"]["TPR@FAR=0.001"] == pytest.approx(0.2)
    assert (first["valid"], first["queries"]) == (38, 40)  # of each run, not 114 of 120
    lines = report.write_table(folders).splitlines()
    assert len(lines) == 2 + 6  # a line for all three runs: two subsets, plain, re-ranked and the baseline
    assert (
        lines[2].startswith("| agw ")
        and lines[2].rstrip(" |").endswith("3 runs")
        and "60.00 ± 21.60" in lines[2]
    )
    text = written(tmp_path, *folders)
    assert "the standard deviation over the runs" in text and "Each run on its own" in text
    change(folders[2], rows=[row("other", 0.5)])
    with pytest.raises(UserError, match="cannot be averaged"):
        report.average(folders)
    (folders[2] / "evaluation.json").unlink()
    with pytest.raises(UserError, match="no results to average"):
        report.average(folders)


def test_table_by_hand(tmp_path):
    folder = make(tmp_path / "a|b", 0.5, names=("all",), images=False, features=False)
    single = row("single", 0.25, trials=1)
    change(folder, rows=[row("all", 0.5), single], reranked=[], baselines=[])
    lines = report.write_table([folder]).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    cells = [cell.strip() for cell in lines[2].replace("\\|", "/").strip("|").split("|")]
    # Three trials 0.48, 0.50, 0.52: population standard deviation 0.02 * sqrt(2 / 3).
    assert cells[:3] == ["a/b", "all", "50.00 ± 1.63"] and cells[6:] == ["50.00 ± 1.63", "25.00 ± 0.00", "3"]
    assert "±" not in lines[3] and lines[3].rstrip(" |").endswith(" 1")


def test_numbers_that_a_row_does_not_know():
    short = row("all", 0.5, length=5)
    assert tables.number(short, "rank5") == pytest.approx(short["cmc"][4])
    assert tables.number(short, "rank10") is None
    assert tables.number({"cmc": [], "mean_ap": float("nan")}, "mean_ap") is None
    assert tables.percent(None) == "–" and tables.percent(0.5, 0.01) == "50.00 ± 1.00"
    assert tables.spread({"trials": [{"mean_ap": 0.5}]}, "mean_ap") is None


def in_page(plot):
    return ElementTree.fromstring(plot.in_page())


def test_points_of_a_line_lie_where_they_should():
    plot = plots.lines("c", "C", "Rank", "Share", [plots.Line("a", [1, 2, 3], [0.0, 0.5, 1.0])], percent=True)
    (axes,) = plot.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 0], [2, 50], [3, 100]]
    assert axes.get_ylabel() == "Share (%)" and axes.get_ylim()[0] == 0
    titles = [part.text for part in in_page(plot).iter("title")]
    assert titles == ["a, rank 1: 0.0 %", "a, rank 2: 50.0 %", "a, rank 3: 100.0 %"]


def test_charts_of_odd_values():
    nan = plots.lines("c", "C", "Epoch", "Loss", [plots.Line("a", [0, 1, 2], [1.0, float("nan"), 0.5])])
    one = plots.lines("c", "C", "Epoch", "Rate", [plots.Line("a", [0], [0.1])], log_y=True)
    flat = plots.lines("c", "C", "Epoch", "Loss", [plots.Line("a", [0, 1], [0.0, 0.0])])
    gone = plots.lines("c", "C", "Epoch", "Loss", [plots.Line("a", [0, 1], [float("inf"), float("nan")])])
    for plot in (nan, one, flat, gone):
        assert "nan" not in re.sub('<title>.*?</title>|aria-label=".*?"', "", plot.in_page())


def test_groups_of_a_map_have_different_marks():
    marks = {(style.colour(index), style.marker(index)) for index in range(embedding_map.IDENTITIES)}
    assert len(marks) == embedding_map.IDENTITIES


def test_map_is_repeatable_and_limited(tmp_path, monkeypatch):
    write_features(tmp_path)
    monkeypatch.setattr(embedding_map, "POINTS", 20)
    found = evidence.read_features(tmp_path / "features.npz")
    first, second = (embedding_map.embedding_map(found, identities=4) for _ in range(2))
    assert first.coordinates.shape == (20, 2) and np.array_equal(first.coordinates, second.coordinates)
    assert len(np.unique(first.labels["identity"])) <= 4
    assert first.note == "feature bn, test split, 20 of 48 images, 4 of 6 identities, seed 0"
    drawn = first.plots("m", "t-SNE")
    assert [plot.name for plot in drawn] == ["m-identity", "m-camera", "m-modality"]
    assert drawn[0].description.endswith("hollow: infrared") and "hollow" not in drawn[2].description
    rows = list(csv.reader(io.StringIO(drawn[0].csv())))[1:]
    assert np.allclose(np.array([row[:2] for row in rows], float), first.coordinates)
    np.savez(tmp_path / "bad.npz", vectors=np.zeros((4, 2)), identity=np.zeros(3))
    with pytest.raises(UserError, match="does not hold what a map needs"):
        evidence.read_features(tmp_path / "bad.npz")


def test_map_leaves_out_whom_nobody_searches_for(tmp_path):
    found = write_features(tmp_path)
    trial = found.protocol.recorded[0]
    few = records.Trial("all", trial.query[:8], trial.gallery)  # the infrared images of two people
    protocol = stored.Recorded("small", "Few.", "image", "trials", (), found.protocol.images, (few,))
    stored.write_stored(tmp_path / "features.npz", dataclasses.replace(found, protocol=protocol))
    drawn = embedding_map.embedding_map(evidence.read_features(tmp_path / "features.npz"))
    assert set(drawn.labels["identity"].tolist()) == {0, 1} and "16 of 48 images" in drawn.note


def test_file_without_trials_still_gives_a_map(tmp_path):
    folder = make(tmp_path / "run", images=False)
    vectors, labels = features()
    np.savez(folder / "features.npz", vectors=vectors, split="test", **labels)
    text = written(tmp_path, folder)
    assert "does not say who is searched for where" in text and "t-SNE, by identity" in text


def test_no_other_image_of_this_computer_comes_into_the_page(tmp_path):
    """An evaluation from elsewhere may name any file; links in a run's folder lead nowhere else either."""
    folder = make(tmp_path / "data" / "run", names=("all",), features=False)
    private = person(tmp_path, 1, 1, "visible")
    (folder / "link.png").symlink_to(private["path"])
    shown = runs.read(folder)
    around = str(tmp_path / "data" / "run" / ".." / ".." / "0001_c1_visible.png")
    for path in (private["path"], around, str(folder / "link.png"), "/dev/zero", "a\0b", "x" * 5000):
        assert rankings._shown(shown, private | {"path": path}) is None
    kept = person(folder, 1, 1, "visible")
    assert rankings._shown(shown, kept) is not None
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation["ranked"][0]["query"] = private
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    assert written(tmp_path, folder).count("outside this run&#39;s data") == 1
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["data"]["roots"] = {"sysu_mm01": "/"}  # the folder of everything is the folder of no data
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    assert runs.read(folder).image_folders == ()


def test_relative_data_roots_are_found_from_anywhere(tmp_path, monkeypatch):
    """A run names its data as seen from where it was started; its report may be asked for from elsewhere."""
    folder = make(tmp_path / "work" / "runs" / "run", names=("all",), features=False)
    data = tmp_path / "work" / "data"
    (tmp_path / "work" / "runs" / "run-images").rename(data)
    evaluation = (folder / "evaluation.json").read_text()
    (folder / "evaluation.json").write_text(evaluation.replace("runs/run-images", "data"))
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["data"]["roots"] = {"sysu_mm01": "data"}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    for place in (tmp_path / "work", tmp_path):
        monkeypatch.chdir(place)
        run = runs.read(folder)
        assert rankings._shown(run, run.evaluation["ranked"][0]["query"]) is not None


def test_thumbnails_of_rows_and_boxes(tmp_path):
    array = np.zeros((3, 40, 20, 3), np.uint8)
    array[1] = 255
    np.save(tmp_path / "all.npy", array)
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[20:60, 30:50] = (255, 0, 0)
    Image.fromarray(frame).save(tmp_path / "frame.png")

    run = runs.Run("run", tmp_path, image_folders=(tmp_path,))

    def opened(record):
        return np.asarray(
            Image.open(io.BytesIO(base64.b64decode(rankings._shown(run, record).partition(",")[2])))
        )

    assert opened({"path": tmp_path / "all.npy", "array_index": 1}).mean() == 255
    cut = opened({"path": tmp_path / "frame.png", "box": [30, 20, 50, 60]})
    assert cut.shape == (40, 20, 3) and cut[..., 0].mean() > 240 and cut[..., 1:].mean() < 12
    assert rankings._shown(run, {"path": tmp_path / "all.npy", "array_index": 7}) is None


def test_several_methods_are_told_as_people_do():
    of = [runs.Run(name, ".", evaluation={"method": name}) for name in ("agw", "ddag", "mvd")]
    assert report.page.title(of) == "agw, ddag and mvd: 3 runs side by side"
    assert report.page.title(of[:2]) == "agw and ddag: 2 runs side by side"
    assert report.page._and({"a, b": None}) == "a, b"


def test_title_says_method_and_data_and_the_date_is_readable(tmp_path):
    folder = make(tmp_path / "run", images=False, features=False)
    text = written(tmp_path, folder)
    assert "<h1>agw on SYSU-MM01</h1>" in text and "evaluated 1 May 2024" in text
    rendered = "rendered identities in the layout of SYSU-MM01"
    change(
        folder,
        protocol={"name": "sysu_mm01", "description": "Few.", "provenance": rendered},
        date="2026-11-28T09:10:20+00:00",
    )
    text = written(tmp_path, folder)
    assert f"<h1>agw on {rendered}</h1>" in text and "28 November 2026, 09:10 UTC" in text


def test_settings_break_at_their_dots_and_not_inside_words(whole):
    assert "batch.<wbr>identities" in whole
    css = re.search(r"\.settings th[^{]*{[^}]*}", whole)[0]
    assert "anywhere" not in css


def test_terms_that_are_no_losses_are_not_drawn_as_losses():
    def epoch(number, **losses):
        return {"epoch": number, "losses": {f"train/{name}": value for name, value in losses.items()}}

    epochs = [
        epoch(n, triplet=3.0 - n, positive_weights=1.0, negative_weights=0.99999, accuracy=0.1 * n)
        for n in range(3)
    ]
    run = runs.Run("run", ".", epochs=epochs)
    drawn = {plot.name: plot for plot in report.page.curves.training([groups.Group("run", (run,))])}
    assert list(drawn) == ["loss-train", "accuracy-train"]
    assert drawn["loss-train"].header == ["Epoch", "triplet"]
    assert drawn["accuracy-train"].title == "Training accuracy, phase train"


def test_equal_learning_rates_of_two_runs_are_one_line(tmp_path):
    folders = [make(tmp_path / name, images=False, features=False, margin=m) for m, name in enumerate("ab")]
    drawn = report.page.curves.training(groups.grouped(runs.read_all(folders)))
    (lr,) = [plot for plot in drawn if plot.name == "lr-main"]
    assert lr.header == [
        "Epoch",
        "a, main group 1 = b, main group 1",
        "a, main groups 2-3 = b, main groups 2-3",
    ]


def seeds(tmp_path, **of_method):
    """Two methods with three seeds each."""
    folders = []
    for name, values in of_method.items():
        for seed, value in enumerate(values):
            folder = make(
                tmp_path / f"{name}-{seed}", value, names=("all",), images=False, features=False, seed=seed
            )
            tree = yaml.safe_load((folder / "config.yaml").read_text())
            tree["method"]["name"] = name
            (folder / "config.yaml").write_text(yaml.safe_dump(tree))
            change(folder, method=name, baselines=[])
            folders.append(folder)
    return folders


def test_runs_that_differ_in_the_seed_alone_are_averaged(tmp_path):
    folders = seeds(tmp_path, agw=(0.4, 0.5, 0.6), ddag=(0.5, 0.6, 0.7))
    found = groups.grouped(runs.read_all(folders))
    assert [(each.name, len(each.runs)) for each in found] == [("agw", 3), ("ddag", 3)]
    table = report.write_table(folders)
    deviation = 100 * np.std([0.4, 0.5, 0.6])
    assert f"50.00 ± {deviation:.2f}" in table and f"**60.00 ± {deviation:.2f}**" in table
    text = written(tmp_path, *folders)
    page = Checker(text)
    assert not page.wrong and len(page.having("td", class_="best")) >= 6
    assert len(page.having("details", class_="run")) == 0  # neither images nor features: nothing repeats
    (cmc,) = report.page.curves.found_by_rank(found)
    assert cmc.header[:3] == ["Rank", "agw", "agw, standard deviation"]
    # Two folders of one run are no repetition, and settings that differ keep runs apart.
    assert [len(each.runs) for each in groups.grouped(runs.read_all([folders[0], folders[0]]))] == [1, 1]
    apart = groups.grouped(runs.read_all([folders[0], folders[3]]))
    assert [each.name for each in apart] == ["agw-0", "ddag-0"]
    by_method = groups.grouped(runs.read_all(folders), "method.name")
    assert [each.name for each in by_method] == ["agw, seed 0", "agw, seed 1", "agw, seed 2"]
    with pytest.raises(UserError, match=r"--group-by sed: no run has such a setting .did you mean 'seed'"):
        groups.grouped(runs.read_all(folders), "sed")


def test_tables_as_files(tmp_path):
    folders = seeds(tmp_path, agw=(0.4, 0.5, 0.6), ddag=(0.5, 0.6, 0.7))
    for ending in report.tables.TABLES:
        report.save_table(folders, tmp_path / f"table{ending}")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [(line["run"], line["system"], line["runs"]) for line in lines[:3]] == [
        ("agw", "", "3"), ("agw", "re-ranked", "3"), ("ddag", "", "3")
    ]  # fmt: skip
    assert float(lines[0]["mAP"]) == pytest.approx(50) and float(lines[0]["mAP std"]) == pytest.approx(8.165)
    tex = (tmp_path / "table.tex").read_text()
    assert (
        "\\toprule" in tex and "\\textbf{60.00} $\\pm$ 8.16" in tex and "standard deviation over runs" in tex
    )
    assert (tmp_path / "table.md").read_text() == report.write_table(folders)
    with pytest.raises(UserError, match=r"ends in \.md, \.csv or \.tex"):
        report.save_table(folders, tmp_path / "table.xlsx")


def test_sections_of_each_run_are_folded(tmp_path):
    folders = [make(tmp_path / name, names=("all",), batch=number) for number, name in enumerate("ab")]
    text = written(tmp_path, *folders)
    page = Checker(text)
    assert not page.wrong
    summaries = re.findall(r'<details class="run"><summary>(.*?)</summary>', text)
    assert summaries == [
        f"{title} of {run}" for title in ("Ranked lists", "Distances", "Embedding map") for run in "ab"
    ]


def test_other_pages_are_linked(tmp_path):
    folder = make(tmp_path / "run", images=False, features=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure.Plot, "files", lambda plot: {})
        out = report.write([folder], tmp_path / "r.html", links={"The search": "search.html"})
    assert '<a href="search.html">The search</a>' in out.read_text(encoding="utf-8")
