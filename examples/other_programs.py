"""Do other programs make our vectors of an exported model? OpenCV's dnn, BoxMOT and Roboflow's reid, as far as they are
installed in the environment that runs this; crossreid need not be.

    crossreid export CHECKPOINT model --layout nchw --input float32
    python3 -m venv others && others/bin/pip install onnxruntime opencv-python-headless boxmot "reid==0.1.0rc1"
    others/bin/python examples/other_programs.py model

The reference is onnxruntime with the steps that ``model.json`` describes. Each program is given the same crops, already
of the model's size, so that only its own handling of the file is compared and not its filter for resizing.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def crops(height, width, count=5):
    """Smooth colours, (count, height, width, 3) uint8, red first."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / height
    waves = rng.uniform(2, 20, (count, 3, 2))
    values = [[np.sin(a * x + b * y + channel) for channel, (a, b) in enumerate(one)] for one in waves]
    return np.moveaxis(127 + 120 * np.array(values), 1, -1).astype(np.uint8)


def tensors(images, known):
    mean, std = np.array(known["input"]["mean"]), np.array(known["input"]["std"])
    return ((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy()


def opencv(file, images, known):
    import cv2

    net = cv2.dnn.readNetFromONNX(str(file))
    found = []
    for values in tensors(images, known):
        net.setInput(values[None], known["input"]["name"])
        found.append(net.forward()[0].copy())
    return np.stack(found)


def boxmot(file, images, known):
    from boxmot.reid.core.runtime import ReID

    model = ReID(weights=file, device="cpu", half=False).model
    height, width = images.shape[1:3]
    frame = np.concatenate(list(images), axis=1)[:, :, ::-1].copy()
    boxes = np.array([(at * width, 0, (at + 1) * width, height) for at in range(len(images))], np.float32)
    return model.get_features(boxes, frame)


def reid(file, images, known):
    import supervision
    import torch
    from reid import ReIDModel
    from reid.preprocessing import ReIDPreprocessing

    session = onnxruntime.InferenceSession(file)

    class Network(torch.nn.Module):
        def forward(self, batch):
            return torch.from_numpy(session.run(None, {known["input"]["name"]: batch.numpy()})[0])

    names = {"input_size": "size", "mean": "mean", "std": "std", "interpolation": "interpolation"}
    how = ReIDPreprocessing.from_dict({theirs: known["input"][ours] for theirs, ours in names.items()})
    model = ReIDModel(Network(), torch.device("cpu"), how)
    height, width = images.shape[1:3]
    frame = np.concatenate(list(images), axis=1)[:, :, ::-1].copy()
    boxes = np.array([(at * width, 0, (at + 1) * width, height) for at in range(len(images))], np.float32)
    return model.extract_embeddings(supervision.Detections(xyxy=boxes), frame)


def main(folder):
    known = json.loads((folder / "model.json").read_text())
    form = known["input"]
    if (form["layout"], form["type"], form["normalise"]) != ("NCHW", "float32", "outside"):
        sys.exit(f"{folder}: export it with --layout nchw --input float32, which these programs feed")
    file = folder / known["files"]["visible" if "visible" in known["files"] else "all"]["file"]
    images = crops(*form["size"])
    session = onnxruntime.InferenceSession(file)
    expected = session.run(None, {form["name"]: tensors(images, known)})[0]
    worst = 0.0
    for program, package in ((opencv, "cv2"), (boxmot, "boxmot"), (reid, "reid")):
        if importlib.util.find_spec(package) is None:
            print(f"{program.__name__:8} is not installed")
            continue
        off = float(np.linalg.norm(program(file, images, known) - expected, axis=1).max())
        print(f"{program.__name__:8} differs by at most {off:.1e} of a vector's length")
        worst = max(worst, off)
    return worst > 1e-3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
