"""Training input: images per second and core, ours against the plain torchvision pipeline on Pillow images.

    python benchmarks/loading.py [--images 4000] [--repeats 3]

Both resize 64 x 128 images to 256 x 128, pad and crop, flip, normalise and stack batches of 64, in one
process with one thread. Ours reads JPEG files and a prepared array of decoded images (64 x 128, and 128 x
256, which need no resizing any more). Fewer than 4000 images a repeat measure start-up more than work.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image as PILImage

from crossreid.data.loading import Loader
from crossreid.data.settings import DataConfig, LoaderConfig
from crossreid.records import Image, Labels

BATCH = 64
IMAGES = 512


def write_images(folder: Path) -> dict[str, list[Image]]:
    """Smooth random images with a little noise, as JPEG files and as prepared arrays."""
    rng = np.random.default_rng(0)
    arrays = {"small": [], "full": []}
    files = []
    for number in range(IMAGES):
        rough = PILImage.fromarray(rng.integers(0, 255, (16, 8, 3), dtype=np.uint8))
        smooth = np.asarray(rough.resize((64, 128), PILImage.Resampling.BICUBIC)).astype(int)
        image = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{number:04d}.jpg"
        PILImage.fromarray(image).save(path, quality=90)
        files.append(Image(path, number // 4, 0))
        decoded = PILImage.open(path)
        arrays["small"].append(np.asarray(decoded))
        arrays["full"].append(np.asarray(decoded.resize((128, 256), PILImage.Resampling.BILINEAR)))
    sets = {"JPEG": files}
    for name, size in (("small", "64 x 128"), ("full", "128 x 256")):
        path = folder / f"{name}.npy"
        np.save(path, np.stack(arrays[name]))
        sets[f"map {size}"] = [Image(path, number // 4, 0, array_index=number) for number in range(IMAGES)]
    return sets


def plain(files: list[Image], count: int) -> None:
    from torchvision import transforms

    steps = transforms.Compose(
        [
            transforms.Resize((256, 128)),
            transforms.Pad(10),
            transforms.RandomCrop((256, 128)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    for start in range(0, count, BATCH):
        paths = [files[index % len(files)].path for index in range(start, start + BATCH)]
        torch.stack([steps(PILImage.open(path).convert("RGB")) for path in paths])


def ours(images: list[Image], count: int) -> None:
    loader = Loader(
        images,
        Labels.of(images),
        LoaderConfig("identity", BATCH // 4, 4),
        DataConfig(padding=10),
        seed=0,
        workers=0,
    )
    for _ in range(0, count, BATCH):
        next(loader)


def rate(work, count: int) -> float:
    start = time.process_time()
    work(count)
    return -(-count // BATCH) * BATCH / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1024, help="images in a repeat; 4000 or more to quote")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sets = write_images(Path(folder))
        ways = {"plain, JPEG": lambda count: plain(sets["JPEG"], count)}
        ways |= {f"ours, {name}": lambda count, own=images: ours(own, count) for name, images in sets.items()}
        for work in ways.values():
            work(BATCH)
        # Interleaved, so that a busy machine slows all of them alike.
        rates = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, work in ways.items():
                rates[name].append(rate(work, given.images))
    base = np.median(rates["plain, JPEG"])
    print(f"{'':18}images/s per core   ratio")
    for name, values in rates.items():
        print(f"{name:18}{np.median(values):17.0f}{np.median(values) / base:8.2f}")


if __name__ == "__main__":
    main()
