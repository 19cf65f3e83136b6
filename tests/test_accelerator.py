"""The script for the day a device is at hand, run at tiny size on the processor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerator.py"


@pytest.mark.slow
def test_every_part_runs_on_the_processor(tmp_path):
    if not SCRIPT.is_file():
        pytest.skip("the benchmarks are not part of an installation")
    words = [sys.executable, str(SCRIPT), str(tmp_path), "--tiny", "--device", "cpu", "--minutes", "60"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ, check=False)
    assert not done.returncode, done.stderr
    page = (tmp_path / "accelerator.md").read_text()
    assert "stopped:" not in page, page
    rows = [line for line in page.splitlines() if "| float32 |" in line and "yes" in line]
    assert len(rows) == 5 and "| NO |" not in page
    assert "resumed: 0 at most" in page and "ends with 0." in page
    for word in ("agw | 32 x 16", "compiled", "| 4 | ", "ranking from features", "re-ranking"):
        assert word in page
