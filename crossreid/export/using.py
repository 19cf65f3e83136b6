"""The files of an exported model as a function from pixels to vectors, with onnxruntime alone, or with MindSpore."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from crossreid.files import understood
from crossreid.formats.pretenders import refuse_pretender
from crossreid.formats.shape import NOTHING, NUMBER, TEXT, WHOLE, unlike
from crossreid.formats.text import read_json
from crossreid.images.resize import FILTERS
from crossreid.records import MODALITIES, Embedding, Metric, UserError

FORMAT = 1
DESCRIPTION = "model.json"
SUFFIXES = (".onnx", ".mindir")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "npu": "CANNExecutionProvider"}
# What a graph takes -> what it gives: vectors, and stripes where the feature has them.
Run = Callable[[np.ndarray], list[np.ndarray]]
LARGEST_INPUT = 2**20
_METRIC = {"feature": (TEXT, NOTHING), "stripes": (TEXT, NOTHING)}
_FILES = {"*": {"file": TEXT, "sha256": TEXT}}
_FORM = {
    "name": TEXT,
    "method": TEXT,
    "feature": TEXT,
    "dimension": lambda value: WHOLE(value) and 0 < value < 10**7,
    "stripes": lambda value: value is None or (not unlike(value, [WHOLE]) and len(value) == 2),
    "metric": _METRIC,
    "metrics": {"*": _METRIC},
    "input": {
        "size": [WHOLE],
        "interpolation": lambda value: isinstance(value, str) and value in FILTERS,
        "type": lambda value: value in ("uint8", "float32"),
        "name": TEXT,
        "layout": lambda value: value in ("NHWC", "NCHW"),
        "normalise?": lambda value: value in ("inside", "outside"),
        "mean": lambda value: not unlike(value, [NUMBER]) and len(value) == 3,
        "std": lambda value: not unlike(value, [NUMBER]) and len(value) == 3 and min(value) > 0,
    },
    "modalities": lambda value: value in ([*MODALITIES], [*MODALITIES[:1]]),
    "files": _FILES,
    "mindir?": {"files": _FILES},
    "precision": TEXT,
    "fingerprint": TEXT,
    "trained": {},
    "settings": {},
    "verification": {},
    "versions": {},
}


def is_exported(path: str | Path) -> bool:
    """Whether ``path`` is meant as an exported model: a folder with its description, or one of its files."""
    path = Path(path)
    return path.suffix in SUFFIXES or (path / DESCRIPTION).is_file()


class Exported:
    """A model written by ``crossreid export``.

    path: its folder, whose ONNX files are run; or one of its ``.onnx`` or ``.mindir`` files, which then serves the
        modality it was written for alone.
    device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"npu"``, as far as the installed onnxruntime or MindSpore knows it.

    name, method, feature, fingerprint, precision: of the model. dimension: D of its vectors; stripes: (S, C), or None.
    modalities: what it tells apart; serves: whose images it takes. size (H, W) and interpolation: see ``fit``. metric:
    how its vectors are compared; metrics: by the name of each feature that they serve. trained: what it learned from,
    empty when unknown. settings: the data set, protocol and evaluation settings of its training.
    """

    def __init__(self, path: str | Path, device: str = "cpu"):
        path = Path(path)
        folder = path.parent if path.suffix in SUFFIXES else path
        known = read(folder)
        files = known["files"]
        if path.suffix in SUFFIXES:
            written = [*files.items(), *known.get("mindir", {}).get("files", {}).items()]
            files = {modality: entry for modality, entry in written if entry["file"] == path.name}
            if not files:
                raise UserError(
                    f"{folder / DESCRIPTION} does not speak of {path.name}: give a file that was exported "
                    f"with it ({', '.join(entry['file'] for _, entry in written)}), or the folder"
                )
        self.name: str = known["name"]
        self.method: str = known["method"]
        self.feature: str = known["feature"]
        self.dimension: int = known["dimension"]
        self.fingerprint: str = known["fingerprint"]
        self.precision: str = known["precision"]
        self.trained: dict = known["trained"]
        self.settings: dict = known["settings"]
        self.serves = MODALITIES if "all" in files else tuple(files)
        self.modalities = tuple(name for name in known["modalities"] if name in self.serves)
        height, width = known["input"]["size"]
        self.size, self.interpolation = (height, width), known["input"]["interpolation"]
        self.metric = Metric(**known["metric"])
        self.metrics = {name: Metric(**each) for name, each in known["metrics"].items()}
        self.stripes: tuple[int, int] | None = None
        if known["stripes"] is not None:
            count, channels = known["stripes"]
            self.stripes = count, channels
        self._input: dict = known["input"]
        self._runs = {
            name: self._open(folder / entry["file"], entry, device) for name, entry in files.items()
        }

    def __call__(self, pixels: np.ndarray, modality: np.ndarray) -> Embedding[np.ndarray]:
        """Embed images of the model's size.

        pixels: (N, H, W, 3) uint8 RGB. modality: (N,), 0 visible and 1 infrared.

        Returns arrays: vectors (N, D) float32 of unit length, and stripes (N, S, C) where the model has them.
        Raises UserError for an image of a modality that this file was not written for.
        """
        for name in MODALITIES:
            if name not in self.serves and np.any(np.equal(modality, MODALITIES.index(name))):
                raise UserError(f"{self.name} was exported for {self.serves[0]} images, but one is {name}")
        vector = np.zeros((len(pixels), self.dimension), np.float32)
        stripes = None if self.stripes is None else np.zeros((len(pixels), *self.stripes), np.float32)
        for name, run in self._runs.items():
            rows = (
                np.arange(len(pixels))
                if name == "all"
                else np.flatnonzero(modality == MODALITIES.index(name))
            )
            if len(rows):
                out = run_graph(run, pixels[rows], self._input)
                vector[rows] = out.feature
                if stripes is not None:
                    stripes[rows] = out.stripes
        return Embedding(vector, stripes)

    def _open(self, path: Path, entry: dict, device: str) -> Run:
        refuse_pretender(path)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise UserError(
                f"{path} is not the file that {DESCRIPTION} was written for: it is damaged or was replaced; copy the "
                "whole folder again, or export the checkpoint again"
            )
        if path.suffix == ".mindir":
            from crossreid.export.mindir import open_mindir

            return open_mindir(path, device)
        session = open_session(content, path, device)
        shapes = {node.name: list(node.shape[1:]) for node in [*session.get_inputs(), *session.get_outputs()]}
        first = self._input["layout"] == "NCHW"
        pixels = [3, *self.size] if first else [*self.size, 3]
        wanted = {self._input["name"]: pixels, "vector": [self.dimension]}
        if self.stripes is not None:
            wanted["stripes"] = list(self.stripes[::-1] if first else self.stripes)
        if shapes != wanted:
            raise UserError(
                f"{path} takes and gives {shapes} where {DESCRIPTION} says {wanted}: export the checkpoint again"
            )
        return onnx_run(session)


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


def read(folder: Path) -> dict:
    """The description of an exported model, checked. Files are named in the folder itself, never elsewhere."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder.resolve()} has no {DESCRIPTION}, which says how images are prepared for the model: give a folder "
            "that `crossreid export` wrote, and keep its files together"
        )
    expected = "a description written by `crossreid export` was expected: export again"
    known = read_json(path, expected)
    with understood(path, expected):
        version = known["format"]
    if version != FORMAT:
        raise UserError(
            f"{path} has format {version!r} and this version reads format {FORMAT}: install a newer crossreid, or "
            "export the checkpoint again"
        )
    wrong = unlike(known, _FORM)
    if not wrong:  # files of before it was said
        known["input"].setdefault("normalise", "inside" if known["input"]["type"] == "uint8" else "outside")
    size: Sequence[int] = known["input"]["size"] if not wrong else ()
    if not wrong and not (len(size) == 2 and min(size) > 0 and size[0] * size[1] <= LARGEST_INPUT):
        wrong = "input.size"
    for name, holder, suffix in (("files", known, ".onnx"), ("mindir", known.get("mindir"), ".mindir")):
        if wrong or holder is None:
            continue
        files = holder["files"]
        if set(files) not in ({"all"}, set(known["modalities"])) or not all(
            _here(entry["file"], folder, suffix) for entry in files.values()
        ):
            wrong = name
    if wrong:
        raise UserError(f"{path}: {wrong} is missing or not valid; copy the folder again, or export again")
    return known


def _here(name, folder: Path, suffix: str) -> bool:
    """Whether a name is that of such a file in the folder, and not a way out of it."""
    plain = isinstance(name, str) and name == Path(name.replace("\\", "/")).name and name.endswith(suffix)
    return plain and (folder / name).is_file() and not (folder / name).is_symlink()
