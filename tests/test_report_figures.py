"""Figures: their files, their colours in a page, gates over time, images."""

import base64
import csv
import io
import re
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

from crossreid.report import figure, fonts, gates, groups, images, plots, runs, style


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def histogram():
    counts = {"genuine": [3, 1, 0], "impostor": [0, 4, 12]}
    return plots.distances([0, 1, 2, 3], counts, "h", "H")


def test_histogram_draws_shares_and_tells_counts():
    plot = histogram()
    assert rows(plot.csv()) == [
        ["from", "to", "genuine", "impostor"],
        ["0", "1", "3", "0"],
        ["1", "2", "1", "4"],
        ["2", "3", "0", "12"],
    ]
    shares = [patch.get_data().values.tolist() for patch in plot.axes[0].patches if patch.get_fill() is False]
    assert shares == [[75, 25, 0], [0, 25, 75]]


def test_any_name_can_stand_in_a_figure():
    name = "\x1b[2J \x00 \udcff \ufffe <b> & $x^$\nnext"
    line = plots.Line(name, [1, 10, 100], [0.1, 0.5, 0.9])
    table = plots.heatmap(
        "t",
        name,
        name,
        [name, "b"],
        [name, "d"],
        np.eye(2),
        (name, "k"),
        ([name], [[name]]),
        beside=[name, "e"],
    )
    for drawn in (plots.lines("n", name, name, name, [line, line], log_x=True, note=name), table):
        files = drawn.files()
        shown = "".join(ElementTree.fromstring(files["svg"]).itertext())
        assert "\\x1b[2J \\x00 \\udcff \\ufffe <b> & $x^$" in shown
        ElementTree.fromstring(drawn.in_page())
        assert "mathdefault" not in shown


def test_pages_have_their_own_colours_and_files_have_plain_ones():
    plot = histogram()
    page, alone = plot.in_page(), plot.files()["svg"].decode()
    root = ElementTree.fromstring(page)
    assert root.get("aria-label") == plot.description and "://" not in page
    for colour, variable in style.VARIABLES.items():
        assert colour not in page
        if variable in ("s0", "s1", "ink", "muted", "card"):
            assert f"var(--{variable})" in page and colour in alone
    assert "var(" not in alone and ">H<" in alone and ">H<" not in page
    # The page's style gives each of them a light value, which is the figure's own, and a dark one.
    css = resources.files("crossreid.pages").joinpath("page.css").read_text(encoding="utf-8")
    for colour, variable in style.VARIABLES.items():
        values = re.findall(rf"--{variable}: (#\w+)", css)
        assert len(values) == 2 and (variable == "card" or values[0] == colour)


def test_two_figures_of_a_page_share_no_names():
    first, second = histogram(), plots.distances([0, 1], {"genuine": [1]}, "other", "H")
    names = [set(re.findall(r' id="(.*?)"', each.in_page())) for each in (first, second)]
    assert names[0] and not names[0] & names[1]
    used = set(re.findall(r"#([\w.-]+)[\")]", first.in_page()))
    assert used - set(style.VARIABLES) <= names[0]


def test_ranked_lists_are_a_figure_with_their_data():
    person = np.full((8, 4, 3), (200, 30, 40), np.uint8)
    lists = [
        [
            images.Ranked(person, about=["id 6"]),
            images.Ranked(person, True, 0.25, ["id 6"]),
            images.Ranked(None, False),
        ]
    ]
    plot = images.ranked_lists(lists, ["good"])
    assert rows(plot.csv())[1:] == [
        ["good", "0", "", "", "id 6"],
        ["good", "1", "yes", "0.25", "id 6"],
        ["good", "2", "no", "", ""],
    ]
    page = plot.in_page()
    titles = [part.text for part in ElementTree.fromstring(page).iter("title")]
    assert titles == ["query: id 6", "rank 1, right: id 6, distance 0.250"]
    assert page.count("data:image/jpeg") == 2 and "not found" in page
    content = re.search(r"data:image/jpeg;base64,([^\"]*)", page)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)
    assert np.abs(shown - (200, 30, 40)).max() <= 4


def test_a_notebook_shows_a_figure():
    assert Image.open(io.BytesIO(histogram()._repr_png_())).width > 500


def logged(epochs, **gates_of):
    return runs.Run(
        "run",
        ".",
        epochs=[
            {"epoch": epoch, "gates": {name: each[epoch] for name, each in gates_of.items()}}
            for epoch in range(epochs)
        ],
    )


def alone(run):
    return groups.Group(run.name, (run,))


def test_share_of_batch_normalisation():
    assert gates.share([0] * 9 + [16]) == 1 and gates.share([16] + [0] * 9) == 0
    assert gates.share([8] + [0] * 8 + [8]) == 0.5
    assert gates.share([0, 0, 0, 0, 10, 10, 0, 0, 0, 0]) == pytest.approx(0.5)


def test_gates_by_layer_and_over_time():
    full, half, none = [0] * 9 + [4], [2] + [0] * 8 + [2], [4] + [0] * 9
    section = gates.section(
        [alone(logged(3, **{"bn1": [full, full, full], "layer1.0.bn1": [full, half, none]}))]
    )
    (over,), (end, time) = section.figures, section.folded["run"]
    assert rows(over.csv())[1:] == [["1", "1.0"], ["2", "0.75"], ["3", "0.5"]]
    assert rows(end.csv())[1:] == [["bn1", *map(str, full), "1.0"], ["layer1.0.bn1", *map(str, none), "0.0"]]
    assert rows(time.csv())[1:] == [["bn1", "1.0", "1.0", "1.0"], ["layer1.0.bn1", "1.0", "0.5", "0.0"]]
    assert "after epoch 3" in end.title and "100 %" in end.in_page()
    ElementTree.fromstring(time.in_page())
    assert not gates.section([groups.Group("plain", (runs.Run("plain", ".", epochs=[{"epoch": 0}]),))])


def test_many_epochs_are_thinned_out_in_the_figure_only():
    section = gates.section([alone(logged(100, bn1=[[1] * 10] * 100))])
    _, time = section.folded["run"]
    assert time.axes[0].collections[0].get_array().shape == (1, 33)
    assert len(rows(time.csv())[1]) == 101


def test_a_line_without_points_is_left_out():
    both = [plots.Line("none", [], []), plots.Line("total", [1, 2], [3.0, 2.0])]
    drawn = plots.lines("loss", "Loss", "Epoch", "Mean", both)
    assert rows(drawn.csv())[0] == ["Epoch", "total"]


def test_figures_as_files(tmp_path):
    line = plots.lines("loss", "Loss", "Epoch", "Mean", [plots.Line("total", [1, 2, 3], [3.0, 2.0, 1.5])])
    written = figure.write([line], tmp_path / "new" / "folder")
    assert sorted(path.name for path in written) == ["loss.csv", "loss.pdf", "loss.png", "loss.svg"]
    assert not [path for path in (tmp_path / "new" / "folder").iterdir() if path not in written]
    folder = written[0].parent
    data = rows((folder / "loss.csv").read_text())
    assert data[0] == ["Epoch", "total"] and [list(map(float, row)) for row in data[1:]] == [
        [1, 3],
        [2, 2],
        [3, 1.5],
    ]
    # Names of other writing may come out alike: neither file is lost.
    assert figure.write([line, line], folder)[-1].name == "loss-2.csv"
    assert "Loss" in (folder / "loss.svg").read_text()
    shape = Image.open(folder / "loss.png").size
    assert np.allclose(shape, 200 * line.get_size_inches(), atol=1)
    content = (folder / "loss.pdf").read_bytes()
    assert content.startswith(b"%PDF-") and b"/Type3" not in content  # which publishers refuse


@pytest.mark.parametrize(
    ("high", "low"), [((0.8, 0.95, 1.0), (0.6, 0.9, 1.0)), ((0.8, 0.95, 1.0), (0.1, 0.2, 0.3))]
)
def test_no_curve_runs_through_the_legend(high, low):
    plot = plots.cmc({"this run": high, "striped colour histogram": low})
    plot.files()
    axes = plot.axes[0]
    box = axes.get_legend().get_window_extent()
    for line in axes.lines:
        x, y = (
            np.array([np.linspace(*ends, 50) for ends in zip(line.get_xydata(), line.get_xydata()[1:])])
            .reshape(-1, 2)
            .T
        )
        places = axes.transData.transform(np.stack([x, y], axis=1))
        assert not any(box.contains(*place) for place in places)


def test_legends_have_room_beside_the_figure_and_lines_differ():
    long = [f"metabin-second-order-{number}, a name of some length" for number in range(3)]
    for names in (long, ["baseline, re-ranked", *"abcdefgh"], [" = ".join(long), "other"]):
        plot = plots.cmc({name: [0.5, 0.6, 0.7] for name in names})
        plot.files()
        legend, axes = plot.axes[0].get_legend(), plot.axes[0]
        told = ["".join(text.get_text().split()) for text in legend.get_texts()]
        assert told == ["".join(name.split()) for name in names]
        wide = plot.bbox.width
        assert legend.get_window_extent().x1 <= wide and axes.get_window_extent().width > 0.75 * wide
        assert legend.get_window_extent().y1 < plot.bbox.height
    kinds = {(style.colour(index), str(style.dash(index))) for index in range(64)}
    assert len(kinds) == 64


@pytest.mark.filterwarnings("error")
def test_text_takes_the_room_that_it_has_in_the_whole_font_and_other_letters_come_from_it():
    def width(text, names, weight):
        letters = FontProperties(family=names, weight=weight, size=9)
        return text_to_path.get_text_width_height_descent(text, letters, ismath=False)[0]

    for text in ("AVATAR To 99.5 % of Łódź, α ≤ 0.1 − 2 → ∞", "Иван 5"):
        for weight in ("normal", "bold"):
            assert width(text, fonts.family(), weight) == pytest.approx(
                width(text, fonts.ORIGINAL, weight), abs=0.01
            )
    small = font_manager.findfont(FontProperties(family=fonts.family(), weight="bold"))
    assert Path(small).stat().st_size < 200_000 and Path(small).name == "bold.ttf"


def test_letters_of_a_pdf_file_are_outlines_that_journals_take():
    content = plots.lines("n", "T", "x", "Иван", [plots.Line("a", [1, 2], [1, 2])]).files()["pdf"]
    assert b"/CIDFontType2" in content and b"/Type3" not in content and b"/FontFile2" in content
