"""The table of results in the form that MetaBIN's program prints it (Choi et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from crossreid.data.provenance import LAYOUT_OF

RATES = ("0.0001", "0.001", "0.01")
# Their headings -> our numbers. Their TPR@FPR exchanges the roles of genuine and impostor pairs.
COLUMNS = {
    "Rank-1": "rank1",
    "Rank-5": "rank5",
    "Rank-10": "rank10",
    "mAP": "mean_ap",
    "mINP": "mean_inp",
    **{f"TPR@FPR={rate}": f"legacy TPR@FPR={rate}" for rate in RATES},
    **{f"TPR@FAR={rate}": f"TPR@FAR={rate}" for rate in RATES},
}
_SPLIT = {"GRID": "ALL_GRID", "PRID": "ALL_PRID", "i-LIDS": "ALL_iLIDS"}
_WHOLE = {"Market-1501": "Market1501", "DukeMTMC-reID": "DukeMTMC"}
_NOTE = (
    "TPR@FPR has genuine and impostor pairs exchanged, as in the published tables; TPR@FAR is the share of genuine "
    "pairs accepted where at most that share of impostors is."
)

_ALONE = "As in the published program, all_average counts the rows that end in _average alone: those of several splits."


def generalization_table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A pipe table in percent: rows ``_average`` and ``_std`` (of the population) for a data set that is tested on
    several splits, one row for another, and last the plain mean of the averages, if there are any. Rows of rendered
    identities say so before the name.

    rows: name of each row of the protocol ``generalization`` -> the numbers of each of its splits, fractions by the
        names that ``evaluation.json`` has in ``trials``. Columns that no split has are left out.
    """
    columns = {
        title: key
        for title, key in COLUMNS.items()
        if all(key in one for splits in rows.values() for one in splits)
    }
    lines, averages = [], []
    for row, splits in rows.items():
        numbers = [[one[key] for one in splits] for key in columns.values()]
        name = _name(row, len(splits))
        mean = [fmean(column) for column in numbers]
        if name.removeprefix("rendered ").startswith("ALL_") or len(splits) > 1:
            averages.append(mean)
            lines.append((f"{name}_average", mean))
            lines.append((f"{name}_std", [pstdev(column) for column in numbers]))
        else:
            lines.append((name, mean))
    if averages:
        lines.append(("** all_average **", [fmean(column) for column in zip(*averages)]))
    table = _pipes(["Datasets", *columns], [[name, *(f"{n:.2%}" for n in ns)] for name, ns in lines])
    notes = [_NOTE] if any("TPR" in title for title in columns) else []
    if 0 < len(averages) < len(rows):
        notes.append(_ALONE)
    return "\n".join([table, *notes])


def _name(row: str, splits: int) -> str:
    """The row's name in the published program: ``ALL_VIPER_only_10`` for variant a of ten VIPeR splits,
    ``ALL_VIPER_10`` for all four."""
    if row.startswith(LAYOUT_OF):
        return f"rendered {_name(row.removeprefix(LAYOUT_OF), splits)}"
    if row.startswith("VIPeR"):
        variants = row.removeprefix("VIPeR").strip() or "a"
        kind = {"a": "only_", "abcd": ""}.get(variants, f"{variants}_")
        return f"ALL_VIPER_{kind}{splits // len(variants)}"
    return _SPLIT.get(row) or _WHOLE.get(row, row)


def _pipes(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    body = [[*row, *[""] * (len(heads) - len(row))] for row in body]
    widths = [max(len(head) + 2, *(len(row[at]) for row in body)) for at, head in enumerate(heads)]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in (heads, *body)
    ]
    rule = "|" + "|".join(":" + "-" * (width + 1) for width in widths) + "|"
    return "\n".join([drawn[0], rule, *drawn[1:]])
