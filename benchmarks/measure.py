"""Time and memory of one way of computing something against another, each in a fresh process."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def main(
    title: str,
    ways: Mapping[str, Callable],
    make: Callable,
    sizes: Mapping[str, tuple],
    doubled: Callable,
    peers: Mapping[str, Callable[[Path], Callable | None]],
):
    """Command line of one benchmark.

    ways: name -> function of what ``make(*size)`` returns; the last is the plain one, the others are ours. A way
        first runs once on a tiny size, so that compiling is not counted.
    sizes: name -> size, with ``tiny`` for that run and ``small`` as the default.
    doubled: size -> the size for measuring growth.
    peers: name -> function of the folder with clones that gives one more way, or None where that clone is missing.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--size", default="small", choices=[name for name in sizes if name != "tiny"])
    parser.add_argument("--ours-only", action="store_true", help="leave the plain version out")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="clones to measure too, see peers.py")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--exact-size", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        way = peers[given.way](given.peers) if given.way in peers else ways[given.way]
        print(json.dumps(_measure(way, make, sizes["tiny"], json.loads(given.exact_size))))
        return
    size = sizes[given.size]
    growth = size if given.size != "small" else doubled(size)
    *ours, plain = ways
    others = [] if given.ours_only else [plain]
    others += [name for name, find in peers.items() if given.peers and find(given.peers)]
    print(f"{title}, size {size}")
    found = {way: _fresh(way, size, given.peers) for way in (*ours, *others)}
    for way, (seconds, peak) in found.items():
        print(f"  {way:<12} {seconds:8.2f} s CPU  {peak:8.0f} MiB above the start")
    for way in others:
        ratios = [found[way][at] / max(found[ours[0]][at], small) for at, small in ((0, 1e-3), (1, 1.0))]
        print(f"  {way} / {ours[0]}: time {ratios[0]:.1f}, memory {ratios[1]:.1f}")
    if growth != size:
        for way in ours:
            twice = _fresh(way, growth, given.peers)
            ratios = [after / max(before, 1e-3) for after, before in zip(twice, found[way])]
            print(f"  {way} at {growth}: {twice[0]:.2f} s, {twice[1]:.0f} MiB")
            print(f"  growth of {way}: time x {ratios[0]:.1f}, memory x {ratios[1]:.1f}")


def _fresh(way, size, peers):
    """Median of three processes, by time."""
    command = [sys.executable, sys.argv[0], "--way", way, "--exact-size", json.dumps(size)]
    command += ["--peers", str(peers)] if peers else []
    repeats = 3 if max(size) < 6000 else 1
    runs = [
        json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        for _ in range(repeats)
    ]
    return sorted(runs)[repeats // 2]


def _measure(way, make, tiny, size):
    import torch

    torch.set_num_threads(1)
    way(*make(*tiny))
    inputs = make(*size)
    before = forget_peak()
    start = time.process_time()
    way(*inputs)
    return time.process_time() - start, peak() - before


def forget_peak() -> float:
    """Resident MiB now. Only Linux can forget the highest so far; elsewhere that may hide our peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return peak()


def peak() -> float:
    try:
        return _status("VmHWM")
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status(name) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def clustered(count: int, size: int, identities: int, seed: int = 0):
    """Unit vectors (count, size) float32 in clusters, with their identities (count,)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, size), dtype=np.float32)
    ids = rng.integers(0, identities, count)
    vectors = np.empty((count, size), np.float32)
    for start in range(0, count, 1000):
        part = ids[start : start + 1000]
        noise = rng.standard_normal((len(part), size), dtype=np.float32)
        vectors[start : start + 1000] = centres[part] + 2 * noise
    vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors, ids
