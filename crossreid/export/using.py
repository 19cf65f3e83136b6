"""The files of an exported model as a function from pixels to vectors, with onnxruntime alone, or with MindSpore."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from crossreid.export.description import DESCRIPTION, read
from crossreid.export.running import Run, onnx_run, open_mindir, open_session, run_graph
from crossreid.formats.pretenders import refuse_pretender
from crossreid.records import MODALITIES, Embedding, Metric, UserError

SUFFIXES = (".onnx", ".mindir")


def is_exported(path: str | Path) -> bool:
    """Whether ``path`` is meant as an exported model: a folder with its description, or one of its files."""
    path = Path(path)
    return path.suffix in SUFFIXES or (path / DESCRIPTION).is_file()


class Exported:
    """A model written by ``crossreid export``.

    path: its folder, whose ONNX files are run; or one of its ``.onnx`` or ``.mindir`` files, which then serves the
        modality it was written for alone.
    device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"npu"``, as far as the installed onnxruntime or MindSpore knows it.

    name, method, feature, fingerprint, precision: of the model. runtime: onnxruntime or MindSpore. dimension: D of its
    vectors; stripes: (S, C), or None.
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
        self.runtime = "MindSpore" if path.suffix == ".mindir" else "onnxruntime"
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
