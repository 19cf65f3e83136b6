"""Every reader of files from outside, with files that somebody or something has changed.

``CROSSREID_HOSTILE=20000 python -m pytest tests/hostile -k images`` tries so many inputs instead of 500.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and measures are those of Linux"),
]
COUNT = int(os.environ.get("CROSSREID_HOSTILE", 500))
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from readers import READERS  # noqa: E402


@pytest.mark.parametrize("name", sorted(READERS))
def test_nothing_uncaught_nothing_dead_nothing_over_the_limits(name, tmp_path):
    wrong, first = [], 0
    while first < COUNT:
        run = subprocess.run(
            [sys.executable, str(HERE / "worker.py"), name, str(tmp_path), str(first), str(COUNT)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        wrong += [line for line in lines if "wrong" in line]
        if lines and "done" in lines[-1]:
            break
        assert (tmp_path / "at").exists(), run.stderr[-2000:]
        at = int((tmp_path / "at").read_text())
        wrong.append({"input": at, "wrong": f"died: {run.returncode}"})
        first = at + 1
    assert not wrong, f"{len(wrong)} of {COUNT}: " + "\n".join(map(str, wrong[:20]))
