"""A checkpoint and its exported folder for each method, made once for all tests of a session."""

import os
import time

import torch

from crossreid import checkpoint
from crossreid.export.writing import export

SIZE = (64, 32)
# Channels that differ, so that exchanged ones are noticed.
INPUT = {
    "size": list(SIZE),
    "interpolation": "bicubic",
    "mean": [0.3, 0.45, 0.6],
    "std": [0.2, 0.25, 0.3],
}
TINY = {"backbone": "tiny", "pretrained": None}


def checkpoint_file(path, name, config=TINY, trained=None, settings=None):
    """A checkpoint whose every part has an effect: random statistics, gates and attention."""
    torch.manual_seed(0)
    method = checkpoint.build(name, config, classes=4, domains=3)
    for key, value in method.state_dict().items():
        if value.dtype == torch.float32 and value.ndim == 1:
            low, high = (0.4, 1.0) if not key.endswith(("bias", "mean")) else (-0.2, 0.2)
            value.uniform_(low, high)
    trained = {"source": "market1501", "epoch": 1} if trained is None else trained
    content = checkpoint.describe(method, name, input=INPUT, settings=settings or {}, trained=trained)
    checkpoint.save(path, content)
    return path


def exported(tmp_path_factory, name, config=TINY):
    """(checkpoint, exported folder) of a method; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place, lock = base / f"exported-{name}", base / f"exported-{name}.lock"
    file, folder = place / f"{name}.pt", place / "model"
    try:
        lock.mkdir()
    except FileExistsError:
        while lock.exists() and not folder.exists():
            time.sleep(0.05)
    else:
        try:
            place.mkdir(exist_ok=True)
            export(checkpoint_file(file, name, config), folder, overwrite=True, log=str)
        except BaseException:
            lock.rmdir()
            raise
    return file, folder
