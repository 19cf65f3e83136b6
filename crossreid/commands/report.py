"""Write the page of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    parser = parsing.parser("report", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: report.html in the first run's folder)"
    )
    chosen = parser.parse_args(words)
    from crossreid.report import write, write_table

    print(write_table(chosen.runs))
    print(f"report: {write(chosen.runs, chosen.out or chosen.runs[0] / 'report.html').resolve()}")
