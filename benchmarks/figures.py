"""The files of a report's charts: drawn with the small copy of their font, against the whole font."""

from __future__ import annotations

import time
from unittest import mock

from crossreid.report import fonts, plots

CHARTS = 20


def seconds() -> float:
    """Processor time of the SVG, PNG and PDF files of charts with two lines each."""
    started = time.process_time()
    for number in range(CHARTS):
        lines = [plots.Line(name, [1, 5, 10, 20], [0.4, 0.6, 0.7, 0.8]) for name in ("visible", "infrared")]
        plots.lines(f"chart-{number}", f"Rank {number}", "Rank k", "Identities found, %", lines).files()
    return time.process_time() - started


def main() -> None:
    started = time.process_time()
    fonts.family()
    made = time.process_time() - started
    seconds()
    with mock.patch.object(fonts, "family", lambda: [fonts.ORIGINAL]):
        whole = seconds()
    small = seconds()
    print(f"the copy is made once in {made:.2f} s CPU")
    print(f"files of {CHARTS} charts: {small:.2f} s CPU, with the whole font {whole:.2f} s")
    print(f"whole / copy: {whole / small:.1f}")


if __name__ == "__main__":
    main()
