"""A small gallery of coloured rectangles and a model that sees nothing but colour, for tests of the search page."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from crossreid.gallery import Entry, Gallery
from crossreid.images.decode import content_key

FINGERPRINT = "c0" * 32
HUES = [(200, 40, 40), (40, 180, 60), (50, 70, 210), (220, 200, 40), (170, 50, 190), (40, 190, 200)]
CAMERAS = ("1", "2", "north gate")
START = 1_780_000_000


class Colours:
    """The image shrunk to 2 x 4 pixels. Keeps the sizes of the batches it was given.

    pause: seconds that a batch takes; ``begun``, a file, appears when the first one is taken up.
    """

    name, fingerprint = "colours", FINGERPRINT
    size, interpolation = (64, 32), "bilinear"

    def __init__(self, modalities=("visible",), pause=0.0, begun=None):
        self.modalities, self.pause, self.begun, self.batches, self.asked = modalities, pause, begun, [], []

    def __call__(self, images, modality=None):
        self.batches.append(len(images))
        self.asked.append(modality)
        if self.begun is not None:
            self.begun.touch()
        time.sleep(self.pause)
        small = [np.asarray(Image.fromarray(image).resize((2, 4)), np.float32).ravel() for image in images]
        vectors = np.stack(small) - 100.3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def person(number, shot=0, size=(32, 64)):
    """(H, W, 3) uint8: coat and trousers in the colours of a person, in light that differs a little by shot."""
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2] = HUES[number % 6]
    pixels[size[1] // 2 :] = HUES[(number // 6 + number + 1) % 6]
    return np.clip(pixels.astype(int) + 5 * shot, 0, 255).astype(np.uint8)


def encoded(pixels, kind="PNG", **settings) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **settings)
    return file.getvalue()


def gallery(root: Path, embedder, people=8, times=True) -> Gallery:
    """Three images of each person, one from each camera, in files below ``root``; the last camera is infrared."""
    made = Gallery.create(None, dimension=24, fingerprint=FINGERPRINT, model="colours")
    entries, arrays = [], []
    for number in range(people):
        for shot, camera in enumerate(CAMERAS):
            path = Path(f"{number:02d}") / f"{shot}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = person(number, shot)
            (root / path).write_bytes(encoded(pixels))
            entries.append(
                Entry(
                    key=content_key(pixels),
                    path=path.as_posix(),
                    modality="infrared" if shot == 2 else "visible",
                    camera=camera,
                    time=START + 60.0 * (3 * number + shot) if times else None,
                    identity=f"p{number}",
                    columns={"place": "=1+1" if number == 0 else "hall"},
                )
            )
            arrays.append(pixels)
    if arrays:
        made.add(entries, Colours()(arrays), [encoded(array, "JPEG") for array in arrays])
    return made


SERVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import serving
from crossreid.serve import create_app, server
root = Path({root!r})
embedder = serving.Colours({modalities!r}, {pause!r}, root.parent / "begun" if {pause!r} else None)
app = create_app(serving.gallery(root, embedder, {people!r}), embedder, images=root, **{settings!r})
server.run(app, server.listen("127.0.0.1", 0), lambda address: print(address, flush=True))
print("stopped", flush=True)
"""


@contextmanager
def process(root, modalities=("visible",), pause=0.0, people=8, **settings):
    """A server in a process of its own: yields the process, with its ``address``."""
    root.mkdir(parents=True, exist_ok=True)
    code = SERVER.format(
        tests=str(Path(__file__).parent),
        modalities=modalities,
        pause=pause,
        root=str(root),
        people=people,
        settings=settings,
    )
    scratch = root.parent / f"{root.name}-scratch"
    scratch.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
    ) as server:
        try:
            server.address = server.stdout.readline().strip()
            server.scratch = scratch
            assert server.address.startswith("http://127.0.0.1:"), server.stderr.read()
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    server.kill()
