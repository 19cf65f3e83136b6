"""Write the page of one run, or of several side by side, and its figures as files.

examples:
    crossreid report runs/agw
    crossreid report runs/agw runs/ddag --out both.html --figures figures
"""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    parser = parsing.parser("report", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: report.html in the first run's folder)"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="also write each figure as SVG, PNG, PDF and CSV into this folder",
    )
    parser.add_argument(
        "--group-by",
        metavar="SETTING",
        help="average the runs that differ in this setting alone, such as seed: mean and standard deviation (default: "
        "runs that differ in their seed or fold alone are found)",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="also write the table of results: FILE.md, FILE.csv or FILE.tex",
    )
    parser.add_argument(
        "--feature",
        help="show distances, map, activation and stripes of this feature of the method; embeds the test images "
        "again unless the run has stored it (default: the stored one)",
    )
    parser.add_argument(
        "--identities",
        type=int,
        default=30,
        help="how many identities the map of the features draws (default 30)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draws these identities and places the points (default 0)"
    )
    parser.add_argument(
        "--views",
        action="store_true",
        help="also draw a map of each branch and view of the method (MVD), the runs above each other; embeds the test "
        "images again",
    )
    chosen = parser.parse_args(words)
    from crossreid.report import Choice, check_table, save_table, write, write_table

    if chosen.table:
        check_table(chosen.table)
    choice = Choice(chosen.feature, chosen.identities, chosen.seed, chosen.views, chosen.group_by)
    print(write_table(chosen.runs, chosen.group_by))
    if chosen.table:
        save_table(chosen.runs, chosen.table, chosen.group_by)
        print(f"table: {chosen.table.resolve()}")
    out = write(
        chosen.runs, chosen.out or chosen.runs[0] / "report.html", figures_to=chosen.figures, choice=choice
    )
    print(f"report: {out.resolve().as_uri()}")
    if chosen.figures:
        print(f"figures: {chosen.figures.resolve()}")
