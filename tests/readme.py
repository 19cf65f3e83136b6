"""Run every ``python`` and ``console`` block of the given Markdown files, each file in a fresh folder.

    python tests/readme.py README.md docs/howto/own-data.md

Blocks of a file run in order and share the folder, so a later one may use what an earlier one wrote. In ``console``
blocks the lines that begin with ``$ `` run. A block after a line ``<!-- not run: why -->`` is passed over.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>python|console)\n(?P<body>.*?)\n```", re.S)


def blocks(text: str):
    """(kind, body) of each block that is to be run."""
    for found in BLOCK.finditer(text):
        if not found["before"].startswith("<!-- not run"):
            yield found["kind"], found["body"]


def run(path: Path) -> int:
    count = 0
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        for kind, body in blocks(path.read_text(encoding="utf-8")):
            if kind == "console":
                lines = [line[2:] for line in body.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
                command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
            else:
                command = [sys.executable, "-c", body]
            started = time.monotonic()
            outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if outcome.returncode:
                sys.exit(
                    f"{path}: this block failed\n\n{body}\n\n{outcome.stdout[-3000:]}\n{outcome.stderr[-3000:]}"
                )
            print(f"{path}: a {kind} block ran in {time.monotonic() - started:.0f} s")
            count += 1
    return count


if __name__ == "__main__":
    print(f"{sum(run(Path(name).resolve()) for name in sys.argv[1:])} blocks ran")
