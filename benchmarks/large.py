"""Evaluation of a gallery that stays on the disk, at ten times the size of MSMT17: processor time and memory of the
command.

    python benchmarks/large.py FOLDER                      3 368 queries, 519 732 gallery images, and twice as many
    python benchmarks/large.py FOLDER --rerank --once      re-ranked; again after a stop, it goes on

The vectors are random and clustered: Market-1501's identities among distractors, the shape of its half million. They
lie in FOLDER as `crossreid embed --out NAME.npy` writes them, and `crossreid evaluate` scores them, in a process of its
own. Memory is the most that the process had at once, pages of the memory maps included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

IDENTITIES, CAMERAS, MATCHES = 750, 6, 19_732


def write(path: Path, count: int, length: int, matches: int, seed: int) -> None:
    """Vectors of ``matches`` images of the identities, and of distractors, each of whom is alone."""
    random, drawn = np.random.default_rng(seed), np.random.default_rng(0)
    centres = drawn.standard_normal((IDENTITIES, length), np.float32)
    identity = np.concatenate([random.integers(0, IDENTITIES, matches), np.arange(count - matches) + 10_000])
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, length))
    for start in range(0, count, 8192):
        some = identity[start : start + 8192]
        known = some < IDENTITIES
        values = random.standard_normal((len(some), length), np.float32)
        values[known] += centres[some[known]]
        vectors[start : start + 8192] = values / np.linalg.norm(values, axis=1, keepdims=True)
    vectors.flush()
    cameras = random.integers(1, CAMERAS + 1, count)
    with open(f"{path}.rows.csv", "w", encoding="utf-8") as file:
        file.write("path,identity,camera\n")
        file.writelines(
            f"{at}.jpg,{who},{camera}\n" for at, (who, camera) in enumerate(zip(identity, cameras))
        )


def made(folder: Path, name: str, count: int, length: int, matches: int, seed: int) -> Path:
    path = folder / f"{name}-{count}-{length}.npy"
    if not Path(f"{path}.rows.csv").exists():
        write(path, count, length, matches, seed)
    return path


def measured(query: Path, gallery: Path, words: list[str]) -> None:
    """Run the command in a child of its own, whose time and memory the system counts."""
    pid = os.fork()
    if pid == 0:
        command = [
            sys.executable,
            "-m",
            "crossreid",
            "evaluate",
            str(query),
            "--gallery",
            str(gallery),
            *words,
        ]
        code = subprocess.run(command).returncode
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{gallery.name}: {used.ru_utime + used.ru_stime:.1f} s of processor time, "
            f"{used.ru_maxrss / 2**20:.2f} GiB at most",
            flush=True,
        )
        os._exit(code)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"the command failed on {gallery}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=519_732)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--workers", default="1")
    parser.add_argument("--rerank", action="store_true")
    parser.add_argument("--once", action="store_true", help="not also with twice the gallery")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    words = ["--workers", chosen.workers, "--out", str(chosen.folder / "scores")]
    words += ["--evaluate.rerank", "true"] if chosen.rerank else []
    query = made(chosen.folder, "query", chosen.queries, chosen.length, chosen.queries, 1)
    for factor in (1,) if chosen.once else (1, 2):
        count = factor * chosen.gallery
        gallery = made(chosen.folder, "gallery", count, chosen.length, min(MATCHES, count), 2)
        measured(query, gallery, words)
