"""Images a second of processor time of `crossreid embed --ray` beside those of one process.

    python benchmarks/ray_embed.py
    python benchmarks/ray_embed.py --model run/last.pt --images 300 --address head:6379

So many images, and three times as many, are embedded in one process and by a local cluster. What the second run takes
more is the cost of the images; the rest is spent once, by starting and loading the model. Of the cluster everything
counts: the processes that embed, the one that gives the command, and Ray's own on this machine.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--address", default="")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray sets it
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = listed([people(folder / "people", 3 * chosen.images)])
        embedder = Embedder(chosen.model, "cpu")
        sizes = (chosen.images, 3 * chosen.images)

        alone = []
        for count in sizes:
            begun = time.process_time()
            embed_files(images[:count], embedder, folder / f"{count}.npz", log=lambda text: None)
            alone.append(time.process_time() - begun)

        make, across = on_ray.maker(embedder, chosen.model, "cpu", 64, None), []
        with on_ray.connected(chosen.address):
            from crossreid.fragments import embed_fragments

            for count in sizes:
                times = folder / f"times-{count}"
                times.mkdir()
                begun = spent()
                done = embed_fragments(
                    images[:count], embedder, partial(Timed, make, times), folder / f"out-{count}"
                )
                # Those that embed have ended or will soon; they have said what they took.
                workers = {int(path.name): float(path.read_text()) for path in times.iterdir()}
                ended = spent() | workers
                across.append(sum(ended[each] - begun.get(each, 0) for each in ended if each not in workers))
                across[-1] += sum(workers.values())
                assert done.rows == count
        rates = []
        for name, (few, many) in (("one process", alone), ("on Ray", across)):
            rates.append(2 * chosen.images / (many - few))
            once = few - (many - few) / 2
            print(f"{name:<12} {rates[-1]:7.0f} images a second of processor time, and {once:.1f} s once")
        print(f"ratio        {rates[1] / rates[0]:7.2f}")


if __name__ == "__main__":
    main()
