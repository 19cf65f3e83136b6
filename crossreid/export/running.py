"""A graph, by onnxruntime or by MindSpore, as a function from pixels to vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from crossreid.records import Embedding, UserError

# What a graph takes -> what it gives: vectors, and stripes where the feature has them.
Run = Callable[[np.ndarray], list[np.ndarray]]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "npu": "CANNExecutionProvider"}
_MINDSPORE = {"cpu": "CPU", "cuda": "GPU", "npu": "Ascend"}


def onnx_run(session) -> Run:
    """A session of onnxruntime as a function from what the graph takes to what it gives."""
    (given,) = session.get_inputs()
    return lambda values: session.run(None, {given.name: values})


def graph_values(pixels: np.ndarray, expects: Mapping) -> np.ndarray:
    """Pixels (N, H, W, 3) uint8 as a graph takes them. expects: ``input`` of the description, which says whether that
    is normalised, float, and channels first."""
    values = pixels.astype(expects["type"], copy=False)
    if expects["normalise"] == "outside":
        mean, std = np.array(expects["mean"]), np.array(expects["std"])
        values = pixels * (1 / (255 * std)).astype(np.float32) - (mean / std).astype(np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if expects["layout"] == "NCHW" else values)


def run_graph(run: Run, pixels: np.ndarray, expects: Mapping) -> Embedding:
    """What a graph makes of pixels (N, H, W, 3) uint8. expects: see ``graph_values``."""
    out = run(graph_values(pixels, expects))
    if len(out) == 1:
        return Embedding(out[0])
    return Embedding(out[0], out[1].transpose(0, 2, 1) if expects["layout"] == "NCHW" else out[1])


def open_session(content: bytes, path: Path, device: str = "cpu"):
    """An onnxruntime session over the content of an ONNX file; ``path`` is its name in messages."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} needs onnxruntime, which is not installed: pip install onnxruntime (or onnxruntime-gpu)"
        ) from error
    kind, _, index = device.partition(":")
    provider, available = PROVIDERS.get(kind), onnxruntime.get_available_providers()
    if provider not in available or not (index or "0").isdigit():
        here = [name for name, each in PROVIDERS.items() if each in available]
        raise UserError(
            f"the installed onnxruntime cannot run on {device!r}: it knows {', '.join(here)}. Choose one of these, or "
            "install the build of onnxruntime for that device"
        )
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    options.log_severity_level = 3
    chosen = (provider, {"device_id": index}) if index else provider
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[chosen])
    except Exception as error:  # onnxruntime has a class of its own for each kind of failure
        raise UserError(
            f"{path} cannot be run by onnxruntime {onnxruntime.__version__} "
            f"({str(error).splitlines()[0][:200]}): it is damaged or needs a newer onnxruntime"
        ) from error
    if session.get_providers()[0] != provider:
        raise UserError(
            f"onnxruntime could not start on {device!r} and would use the processor instead: check its driver and "
            "libraries, or choose device cpu"
        )
    return session


def open_mindir(path: Path, device: str = "cpu") -> Run:
    """A MINDIR file as a function from what the graph takes to what it gives."""
    mindspore = load_mindspore()
    kind, _, index = device.partition(":")
    if kind not in _MINDSPORE or not (index or "0").isdigit():
        raise UserError(f"MindSpore cannot run on {device!r}: choose one of {', '.join(_MINDSPORE)}")
    try:
        mindspore.set_device(_MINDSPORE[kind], 0 if kind == "cpu" else int(index or 0))
        graph = mindspore.nn.GraphCell(mindspore.load(str(path)))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be run by MindSpore {mindspore.__version__} on {device} "
            f"({(str(error).splitlines() or ['no further words'])[0][:200]}): choose another device, or the build of "
            "MindSpore for it"
        ) from error

    def run(values):
        found = graph(mindspore.Tensor(values))
        return [each.asnumpy() for each in (found if isinstance(found, tuple) else (found,))]

    return run


def load_mindspore():
    # On processors with AVX-512, oneDNN takes a reference implementation for MindSpore's 3 x 3 convolutions, which is
    # fifty times as slow (MindSpore 2.10); with AVX2 it takes a fast one.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    try:
        import mindspore
    except ImportError as error:
        raise UserError(
            "a MINDIR file needs MindSpore, which is not installed: pip install mindspore, in an environment with a "
            "NumPy below 2; or use the ONNX file that lies beside it"
        ) from error
    return mindspore
