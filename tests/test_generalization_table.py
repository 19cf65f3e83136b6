"""The table of the published program, character by character."""

from crossreid.data.provenance import LAYOUT_OF
from crossreid.report.generalization_table import COLUMNS, generalization_table

KEYS = list(COLUMNS.values())[:8]


def split(*percent):
    return dict(zip(KEYS, (value / 100 for value in percent)))


def test_two_splits_by_hand():
    rows = {
        "GRID": [split(40, 60, 70, 50, 50, 0, 0, 40), split(50, 70, 80, 60, 60, 0, 0, 44)],
        "Market-1501": [split(90, 95, 98, 72, 34, 2.08, 25.6, 81.23)],
        "i-LIDS": [split(80, 90, 100, 85, 85, 0, 0, 50), split(70, 90, 100, 75, 75, 0, 0, 50)],
    }
    table = """\
| Datasets          | Rank-1   | Rank-5   | Rank-10   | mAP    | mINP   | TPR@FPR=0.0001   | TPR@FPR=0.001   | TPR@FPR=0.01   |
|:------------------|:---------|:---------|:----------|:-------|:-------|:-----------------|:----------------|:---------------|
| ALL_GRID_average  | 45.00%   | 65.00%   | 75.00%    | 55.00% | 55.00% | 0.00%            | 0.00%           | 42.00%         |
| ALL_GRID_std      | 5.00%    | 5.00%    | 5.00%     | 5.00%  | 5.00%  | 0.00%            | 0.00%           | 2.00%          |
| Market1501        | 90.00%   | 95.00%   | 98.00%    | 72.00% | 34.00% | 2.08%            | 25.60%          | 81.23%         |
| ALL_iLIDS_average | 75.00%   | 90.00%   | 100.00%   | 80.00% | 80.00% | 0.00%            | 0.00%           | 50.00%         |
| ALL_iLIDS_std     | 5.00%    | 0.00%    | 0.00%     | 5.00%  | 5.00%  | 0.00%            | 0.00%           | 0.00%          |
| ** all_average ** | 60.00%   | 77.50%   | 87.50%    | 67.50% | 67.50% | 0.00%            | 0.00%           | 46.00%         |
"""  # noqa: E501 -- the program's own width
    got = generalization_table(rows)
    assert got.startswith(table) and "exchanged" in got.removeprefix(table)


def test_names_and_what_enters_the_average():
    one = split(*range(10, 18))
    table = generalization_table({"VIPeR": [one] * 10, "VIPeR abcd": [one] * 8, "PRID": [one], "Own": [one]})
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    expected = ["ALL_VIPER_only_10", "ALL_VIPER_2", "ALL_PRID"]
    paired = [f"{name}_{kind}" for name in expected for kind in ("average", "std")]
    assert names == ["Datasets", *paired, "Own", "** all_average **"]
    assert "those of several splits" in table
    assert "several splits" not in generalization_table({"PRID": [one], "GRID": [one]})
    alone = generalization_table({"Market-1501": [one]})
    assert "Market1501" in alone and "all_average" not in alone


def test_rendered_identities_never_have_the_published_name_alone():
    one = split(*range(10, 18))
    rows = {f"{LAYOUT_OF}{name}": [one] * 10 for name in ("GRID", "VIPeR", "Market-1501")}
    names = [
        line.split("|")[1].strip()
        for line in generalization_table(rows).splitlines()
        if line.startswith("| ")
    ]
    expected = ["rendered ALL_GRID", "rendered ALL_VIPER_only_10", "rendered Market1501"]
    assert names[1:-1] == [f"{name}_{kind}" for name in expected for kind in ("average", "std")]


def test_columns_that_were_not_computed_are_left_out():
    few = dict.fromkeys(KEYS[:5], 0.5)
    table = generalization_table({"GRID": [few, few]})
    assert "TPR" not in table and table.splitlines()[0].count("|") == 7
    both = dict.fromkeys(COLUMNS.values(), 0.25)
    heads = generalization_table({"GRID": [both]}).splitlines()[0]
    assert heads.index("TPR@FPR=0.01") < heads.index("TPR@FAR=0.0001")


def test_the_spread_is_that_of_the_population():
    rows = {"GRID": [split(*range(8))] * 3}
    rows["GRID"][2] = split(3, 1, 2, 3, 4, 5, 6, 7)
    spread = generalization_table(rows).splitlines()[3]
    assert spread.split("|")[2].strip() == "1.41%"  # of 0, 0 and 3: the root of 2
