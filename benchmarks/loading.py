"""Training input: images per second and core, ours against the plain torchvision pipeline on Pillow images.

    python benchmarks/loading.py [--images 4000] [--repeats 3] [--peers FOLDER]

Both resize 64 x 128 images to 256 x 128, pad and crop, flip, normalise and stack batches of 64, in one
process with one thread. Ours reads JPEG files and a prepared array of decoded images (64 x 128, and 128 x
256, which need no resizing any more). Fewer than 4000 images a repeat measure start-up more than work.
Last, the steps of ours are measured one by one, beside the resizing of Pillow.

With --peers (see peers.py) the training input of torchreid and of fast-reid runs too, each from JPEG by its own reader
and transforms, and ours with the same settings: torchreid's by the transforms of its README, fast-reid's by its
Base-bagtricks.yml, with the normalisation that its model does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import peers
import torch
from PIL import Image as PILImage

from crossreid.data.loading import Loader
from crossreid.data.on_device import normalise
from crossreid.data.settings import DataConfig, EraseConfig, LoaderConfig
from crossreid.data.transforms import augment
from crossreid.images.reading import read
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


def ours(images: list[Image], count: int, **settings) -> None:
    loader = Loader(
        images,
        Labels.of(images),
        LoaderConfig("identity", BATCH // 4, 4),
        DataConfig(**(settings or {"padding": 10})),
        seed=0,
        workers=0,
    )
    for _ in range(0, count, BATCH):
        next(loader)


def torchreid(folder: Path):
    """torchreid's way from paths to a batch, and our settings that do the same; None without its clone."""
    build = peers.function(folder, "torchreid/data/transforms.py", "build_transforms")
    read = peers.function(folder, "torchreid/utils/tools.py", "read_image")
    if build is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        steps, _ = build(256, 128, ["random_flip", "random_crop"])
    return lambda paths: torch.stack([steps(read(path)) for path in paths]), {"translate": 0.5}


def fastreid(folder: Path):
    """fast-reid's, likewise."""
    build = peers.function(folder, "fastreid/data/transforms/build.py", "build_transforms")
    read = peers.function(folder, "fastreid/data/data_utils.py", "read_image")
    if build is None:
        return None
    settings = peers.function(folder, "fastreid/config/defaults.py", "_C").clone()
    settings.merge_from_file(str(next(folder.glob("*/configs/Base-bagtricks.yml"))))
    steps = build(settings)
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1) for each in (settings.MODEL.PIXEL_MEAN, settings.MODEL.PIXEL_STD)
    )
    erase = EraseConfig(settings.INPUT.REA.PROB) if settings.INPUT.REA.ENABLED else None
    same = {"padding": settings.INPUT.PADDING.SIZE, "interpolation": "bicubic", "erase": erase}
    return lambda paths: torch.stack([steps(read(path)) for path in paths]).sub_(mean).div_(std), same


def peer(way, files: list[Image], count: int) -> None:
    for start in range(0, count, BATCH):
        way([files[index % len(files)].path for index in range(start, start + BATCH)])


def steps(files: list[Image]) -> dict:
    """The steps of ours, and the resizing of Pillow, each on its own."""
    config, rng = DataConfig(padding=10), np.random.default_rng(0)
    frames = [read(image) for image in files]
    pillow = [PILImage.fromarray(frame) for frame in frames]
    batch = torch.zeros((BATCH, 3, *config.size), dtype=torch.uint8)
    out = batch[0].numpy()
    each = {
        "Pillow resizes": lambda at: pillow[at].resize(config.size[::-1], PILImage.Resampling.BILINEAR),
        "ours reads a JPEG": lambda at: read(files[at]),
        "ours resizes, cuts, mirrors": lambda at: augment(frames[at], config, 0, rng, out),
        "ours normalises": lambda at: at % BATCH or normalise(batch, config),
    }

    def all_of(work, count: int) -> None:
        for at in range(count):
            work(at % len(files))

    return {name: partial(all_of, work) for name, work in each.items()}


def rate(work, count: int) -> float:
    start = time.process_time()
    work(count=count)
    return -(-count // BATCH) * BATCH / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1024, help="images in a repeat; 4000 or more to quote")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="clones to measure too, see peers.py")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sets = write_images(Path(folder))
        groups = {"plain": (partial(plain, sets["JPEG"]), {})}
        for find in (torchreid, fastreid) if given.peers else ():
            found = find(given.peers)
            if found:
                groups[find.__name__] = partial(peer, found[0], sets["JPEG"]), found[1]
        for name, (theirs, settings) in groups.items():
            ways = {f"{name}, JPEG": theirs}
            ways |= {f"ours, {each}": partial(ours, images, **settings) for each, images in sets.items()}
            show(ways, given)
        show(steps(sets["JPEG"]), given)


def show(ways: dict, given) -> None:
    for work in ways.values():
        work(count=BATCH)
    # Interleaved, so that a busy machine slows all of them alike.
    rates = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, work in ways.items():
            rates[name].append(rate(work, given.images))
    base = np.median(rates[next(iter(rates))])
    print(f"{'':28}images/s per core   ratio")
    for name, values in rates.items():
        print(f"{name:28}{np.median(values):17.0f}{np.median(values) / base:8.2f}")


if __name__ == "__main__":
    main()
