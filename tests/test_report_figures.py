"""What figures are drawn with, the kinds of charts, gates over time, and figures as files."""

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from crossreid.report import charts, drawing, figures, gates, runs
from crossreid.report.drawing import Drawing


def pixels(sheet, scale=1.0):
    return np.asarray(Image.open(io.BytesIO(drawing.png(sheet, scale))).convert("RGB")).astype(int)


def colour(name):
    return np.array([int(drawing.LIGHT[name][at : at + 2], 16) for at in (1, 3, 5)])


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_svg_and_png_show_the_same_marks():
    sheet = Drawing(60, 40)
    sheet.rectangle(5, 5, 20, 10, fill="s0", about="a < b")
    sheet.circle(45, 12, 6, fill="s1")
    sheet.polygon([(5, 22), (25, 22), (25, 37), (5, 37)], "s2", alpha=0.5)
    sheet.path([(35, 30), (55, 30)], "ink", 4)
    shown = pixels(sheet)
    assert shown.shape == (40, 60, 3)
    for (x, y), expected in (
        ((15, 10), colour("s0")),
        ((45, 12), colour("s1")),
        ((15, 30), (colour("s2") + 255) / 2),
        ((45, 30), colour("ink")),
        ((57, 2), np.full(3, 255)),
    ):
        assert np.abs(shown[y, x] - expected).max() <= 3
    page = ElementTree.fromstring(drawing.svg(sheet, "some marks"))
    assert [mark.tag for mark in page] == ["rect", "circle", "polygon", "line"]
    assert page[0].attrib["fill"] == "var(--s0)" and page[0][0].text == "a < b"
    alone = drawing.svg(sheet, "some marks", standalone=True)
    assert "var(" not in alone and f'fill="{drawing.LIGHT["s0"]}"' in alone


def test_words_stand_where_they_are_anchored():
    for anchor, left, right in (("start", 100, 200), ("middle", 50, 150), ("end", 0, 100)):
        sheet = Drawing(200, 40)
        sheet.text(100, 30, "anchor", "ink", anchor)
        across = np.flatnonzero((pixels(sheet) < 128).any(axis=(0, 2)))
        assert left - 2 <= across[0] and across[-1] <= right + 2
    sheet = Drawing(40, 200)
    sheet.text(30, 100, "upwards", "ink", "middle", turned=True)
    dark = (pixels(sheet) < 128).any(axis=2)
    assert np.ptp(np.flatnonzero(dark.any(axis=1))) > 3 * np.ptp(np.flatnonzero(dark.any(axis=0)))
    assert abs(np.flatnonzero(dark.any(axis=1)).mean() - 100) < 8


def test_dashes_have_the_lengths_asked_for():
    pieces = list(drawing._dashes([(0.0, 0.0), (6.0, 0.0), (20.0, 0.0)], [4.0, 3.0]))
    assert [(piece[0][0], piece[-1][0]) for piece in pieces] == [(0, 4), (7, 11), (14, 18)]
    bent = list(drawing._dashes([(0.0, 0.0), (3.0, 0.0), (3.0, 3.0)], [4.0, 9.0]))
    assert bent == [[(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)]]


def test_images_are_inside_the_file():
    sheet = Drawing(20, 20)
    sheet.image(0, 0, 20, 20, np.full((8, 8, 3), (200, 30, 40), np.uint8))
    assert np.abs(pixels(sheet)[10, 10] - (200, 30, 40)).max() <= 3
    assert 'href="data:image/jpeg;base64,' in drawing.svg(sheet, "red")


def test_names_of_lines_do_not_cover_each_other():
    found = charts._spread([(0, 100.0), (1, 101.0), (2, 99.0), (3, 200.0)], 260)
    heights = [y for _, y in found]
    assert [index for index, _ in found] == [2, 0, 1, 3] and np.diff(heights).min() > 12
    assert heights[-1] == pytest.approx(200)


def test_histogram_draws_shares_and_tells_counts():
    chart = charts.Histogram(
        "h", "H", "Distance", [0, 1, 2, 3], {"genuine": [3, 1, 0], "impostor": [0, 4, 12]}
    )
    assert rows(chart.csv()) == [
        ["from", "to", "genuine", "impostor"],
        ["0", "1", "3", "0"],
        ["1", "2", "1", "4"],
        ["2", "3", "0", "12"],
    ]
    lines = re.findall(r'<polyline points="(.*?)"', drawing.svg(chart.draw(), ""))
    stairs = [np.array([point.split(",") for point in line.split()], float) for line in lines[-2:]]
    base = stairs[0][0, 1]
    heights = [base - each[:, 1].min() for each in stairs]
    assert heights[0] == pytest.approx(heights[1])  # both kinds have three quarters of their pairs in one bar
    assert stairs[0][-1, 0] == pytest.approx(
        stairs[1][len(stairs[1]) // 2, 0]
    )  # genuine ends where it is empty


def test_colours_of_a_table_run_from_one_end_to_the_other():
    assert charts._shade(0, charts.RAMP) == "#c9500a" and charts._shade(1, charts.RAMP) == "#2159c4"
    assert charts._shade(0.5, charts.RAMP) == "#f4f1ea" and charts._shade(7, charts.RAMP) == "#2159c4"


def logged(epochs, **gates_of):
    return runs.Run(
        "run",
        ".",
        epochs=[
            {"epoch": epoch, "gates": {name: each[epoch] for name, each in gates_of.items()}}
            for epoch in range(epochs)
        ],
    )


def test_share_of_batch_normalisation():
    assert gates.share([0] * 9 + [16]) == 1 and gates.share([16] + [0] * 9) == 0
    assert gates.share([8] + [0] * 8 + [8]) == 0.5
    assert gates.share([0, 0, 0, 0, 10, 10, 0, 0, 0, 0]) == pytest.approx(0.5)


def test_gates_by_layer_and_over_time():
    full, half, none = [0] * 9 + [4], [2] + [0] * 8 + [2], [4] + [0] * 9
    section = gates.section([logged(3, **{"bn1": [full, full, full], "layer1.0.bn1": [full, half, none]})])
    over, end, time = section.figures
    assert over.lines[0].x == [1, 2, 3] and over.lines[0].y == [1.0, 0.75, 0.5]
    assert rows(end.csv())[1:] == [["bn1", *map(str, full), "1.0"], ["layer1.0.bn1", *map(str, none), "0.0"]]
    assert rows(time.csv())[1:] == [["bn1", "1.0", "1.0", "1.0"], ["layer1.0.bn1", "1.0", "0.5", "0.0"]]
    assert end.beside == ["100 %", "0 %"] and "after epoch 3" in end.title
    for figure in section.figures:
        ElementTree.fromstring(drawing.svg(figure.draw(), figure.description))
    assert gates.section([runs.Run("plain", ".", epochs=[{"epoch": 0}])]).figures == []


def test_many_epochs_are_thinned_out_in_the_figure_only():
    section = gates.section([logged(100, bn1=[[1] * 10] * 100)])
    time = section.figures[2]
    assert time.values.shape == (1, 33) and time.columns[-1] == "99"
    assert len(rows(time.csv())[1]) == 101


def test_figures_as_files(tmp_path):
    line = charts.Chart("loss", "Loss", "Epoch", "Mean", [charts.Line("total", [1, 2, 3], [3.0, 2.0, 1.5])])
    written = figures.write([line], tmp_path / "new" / "folder")
    assert sorted(path.name for path in written) == ["loss.csv", "loss.png", "loss.svg"]
    assert not [path for path in (tmp_path / "new" / "folder").iterdir() if path not in written]
    folder = written[0].parent
    data = rows((folder / "loss.csv").read_text())
    assert data[0] == ["Epoch", "total"] and [list(map(float, row)) for row in data[1:]] == [
        [1, 3],
        [2, 2],
        [3, 1.5],
    ]
    assert "Loss" in (folder / "loss.svg").read_text()
    shape = Image.open(folder / "loss.png").size
    root = ElementTree.parse(folder / "loss.svg").getroot()
    assert shape == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
