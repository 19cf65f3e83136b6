"""Images a second of processor time of `crossreid embed --ray` beside those of one process.

    python benchmarks/ray_embed.py
    python benchmarks/ray_embed.py --model run/last.pt --images 300 --address head:6379

So many images, and three times as many, are embedded in one process and by a local cluster, in turns. What the second
run takes more is the cost of the images; the rest is spent each time, on starting processes and loading the model. Of
the cluster everything counts: the processes that embed, the one that gives the command, and Ray's own on this machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as PILImage

from crossreid import on_ray
from crossreid.embedder import Embedder
from crossreid.embedding_files import embed_files
from crossreid.images.listing import listed


class Timed:
    """An embedder that keeps the processor time of its process in a file."""

    def __init__(self, make, folder: Path):
        self._embedder, self._file = make(), folder / str(os.getpid())

    def __getattr__(self, name):
        return getattr(self._embedder, name)

    def embed(self, images, modality=None):
        found = self._embedder.embed(images, modality)
        self._file.write_text(str(time.process_time()))
        return found


def people(folder: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        small = PILImage.fromarray(random.integers(0, 256, (16, 8, 3), np.uint8))
        small.resize((64, 128)).save(folder / f"{number:06}.jpg", quality=90)
    return folder


def spent() -> dict[int, float]:
    """Processor time of this process and of Ray's on this machine, by their numbers."""
    times = {os.getpid(): time.process_time()}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times[process.pid] = sum(process.cpu_times()[:2])
    return times


def alone(images, embedder, folder: Path) -> float:
    begun = time.process_time()
    embed_files(images, embedder, folder / "vectors.npz", log=lambda text: None)
    return time.process_time() - begun


def on_the_cluster(images, embedder, make, folder: Path) -> float:
    from crossreid.fragments import embed_fragments

    times = folder / "times"
    times.mkdir()
    begun = spent()
    done = embed_fragments(images, embedder, partial(Timed, make, times), folder / "vectors")
    assert done.rows == len(images)
    # Those that embed have ended or will soon; they have said what they took.
    workers = {int(path.name): float(path.read_text()) for path in times.iterdir()}
    others = {each: used for each, used in spent().items() if each not in workers}
    return sum(workers.values()) + sum(used - begun.get(each, 0) for each, used in others.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--address", default="")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray sets it
    with tempfile.TemporaryDirectory() as place, on_ray.connected(chosen.address):
        images = listed([people(Path(place) / "people", 3 * chosen.images)])
        embedder = Embedder(chosen.model, "cpu")
        make = on_ray.maker(embedder, chosen.model, "cpu", 64, None)
        ways = {"one process": alone, "on Ray": partial(on_the_cluster, make=make)}
        more, each_time = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
        for turn in range(chosen.rounds + 1):  # the first warms up and is not counted
            for name, way in ways.items():
                sizes = (64, 64) if turn == 0 else (chosen.images, 3 * chosen.images)
                took = []
                for count in sizes:
                    with tempfile.TemporaryDirectory(dir=place) as folder:
                        took.append(way(images[:count], embedder, folder=Path(folder)))
                if turn:
                    more[name] += took[1] - took[0]
                    each_time[name] += (took[0] - (took[1] - took[0]) / 2) / chosen.rounds
        rates = {name: 2 * chosen.images * chosen.rounds / more[name] for name in ways}
        for name in ways:
            rate = f"{rates[name]:7.0f} images a second of processor time"
            print(f"{name:<12} {rate}, and {each_time[name]:.1f} s each time")
        print(f"ratio        {rates['on Ray'] / rates['one process']:7.2f}")


if __name__ == "__main__":
    main()
