"""The people of a frame: ``Embedder(frame, boxes=...)`` against what is written by hand.

    python benchmarks/frames.py [MODEL]

32 boxes of a frame of 1280 x 720 in OpenCV's order of channels, by an exported model: cropped, resized by Pillow's
filter and given to onnxruntime in a few plain lines, and by the embedder. Both in one process on one thread, in turn;
processor time, the median of rounds, and the largest difference of a vector. The ratio is what counts.

MODEL: an exported model; the default is the small one that comes along, exported for it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnxruntime
from PIL import Image

import crossreid

BOXES, ROUNDS = 32, 15


def plain(folder: Path):
    """What a program of one's own does with the exported file."""
    known = json.loads((folder / "model.json").read_text())
    name = "visible" if "visible" in known["files"] else "all"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / known["files"][name]["file"], options)
    height, width = known["input"]["size"]
    how = Image.Resampling[known["input"]["interpolation"].upper()]

    def embed(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        crops = [
            Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right, ::-1]))
            for left, top, right, bottom in boxes
        ]
        pixels = np.stack([np.asarray(crop.resize((width, height), how)) for crop in crops])
        return session.run(["vector"], {"pixels": pixels})[0]

    return embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (720, 1280, 3), np.uint8)
    left, top = rng.integers(0, 1150, BOXES), rng.integers(0, 450, BOXES)
    boxes = np.column_stack(
        [left, top, left + rng.integers(50, 120, BOXES), top + rng.integers(120, 260, BOXES)]
    )
    with tempfile.TemporaryDirectory() as place:
        model = given.model
        if model is None:
            from crossreid.export.writing import export

            model = export("small", Path(place, "model"), log=lambda text: None)
        embed, own = crossreid.Embedder(model), plain(model)
        modality = "visible" if len(embed.modalities) > 1 else None
        ways = {
            "plain": lambda few: own(frame, boxes[:few]),
            "embedder": lambda few: embed(frame, modality, boxes[:few], order="bgr"),
        }
        for few in (1, BOXES):
            taken: dict[str, list[float]] = {name: [] for name in ways}
            found = {}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    start = time.process_time()
                    found[name] = way(few)
                    taken[name].append(1000 * (time.process_time() - start))
            medians = {name: float(np.median(times)) for name, times in taken.items()}
            off = float(np.abs(found["plain"] - found["embedder"]).max())
            print(
                f"{few:3d} boxes: plain {medians['plain']:7.2f} ms, embedder {medians['embedder']:7.2f} ms, "
                f"ratio {medians['embedder'] / medians['plain']:.3f}; vectors differ by {off:.1e}"
            )


if __name__ == "__main__":
    main()
