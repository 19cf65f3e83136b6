"""A checkpoint as ONNX files that need neither torch nor this library, compared with it before they are kept.

The graph takes images as uint8 RGB (N, H, W, 3) of the model's size and gives unit vectors (N, D) float32, and the
stripes where the feature has them: scaling, the means and the lengths are inside, unless normalised numbers are asked
for. What is before it, decoding and resizing, stands in ``model.json`` and in ``crossreid.images.resize.fit``.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from crossreid import __version__
from crossreid.checkpoint import plain
from crossreid.embedder import Trained
from crossreid.evaluation import thresholds
from crossreid.export import mindir
from crossreid.export.comparison import BATCHES, TOLERANCE, difference, recorded, rendered
from crossreid.export.description import DESCRIPTION, FORMAT
from crossreid.export.running import graph_values, onnx_run, open_session, run_graph
from crossreid.export.using import SUFFIXES, Exported
from crossreid.files import Unwritable, check_folder, write_json
from crossreid.ops import degenerate
from crossreid.records import MODALITIES, UserError, pip_install

OPSET = 18
FORMATS = ("onnx", "mindir")
LAYOUTS = {"nhwc": "NHWC", "nchw": "NCHW"}
INPUTS = ("uint8", "float32")
NORMALISE = ("inside", "outside")
# What the tensor of images is called: as an array of images here, and as the programs that feed channels first call it.
NAMES = {"nhwc": "pixels", "nchw": "images"}
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    feature: str | None = None,
    half: bool = False,
    overwrite: bool = False,
    format: str = "onnx",
    layout: str = "nhwc",
    input: str = "uint8",
    normalise: str | None = None,
    log: Callable[[str], None] = print,
    **settings,
) -> Path:
    """Write a checkpoint as a folder with ``model.onnx``, or ``visible.onnx`` and ``infrared.onnx`` for a model that
    tells them apart, and ``model.json``.

    checkpoint: our own, or one of a published system; settings: passed on to ``crossreid.load``.
    out: the folder, which must not exist unless ``overwrite``, and then only an exported model is replaced.
    feature: one of the method's features; None is its default. A feature with stripes is exported with them.
    half: weights and maps in float16, half of the size; from the pooling on it is float32 again.
    format: ``mindir`` writes MindSpore's form beside the ONNX files, see ``crossreid.export.mindir``.
    layout: ``nchw`` takes images, called ``images`` and not ``pixels``, and gives stripes, with the channels first.
    input: ``float32`` takes numbers and not bytes.
    normalise: ``inside`` takes numbers from 0 to 255, ``outside`` float32 ones that are normalised already, by
        ``input.mean`` and ``input.std`` of ``model.json``; None is ``inside`` for uint8 and ``outside`` for float32.

    Before the folder gets its name, rendered people are embedded by torch and by onnxruntime from the files, in batches
    of 1, 2 and 5. Raises UserError, and leaves nothing, when a vector is off by more than 1e-4 of its length (3e-2 with
    ``half``). The largest difference is said and recorded.
    """
    for value, known, name in (
        (format, FORMATS, "format"),
        (layout, LAYOUTS, "layout"),
        (input, INPUTS, "input"),
        (normalise, (None, *NORMALISE), "normalise"),
    ):
        if value not in known:
            raise UserError(f"{name} is {value!r}: choose {' or '.join(filter(None, known))}")
    normalise = normalise or ("inside" if input == "uint8" else "outside")
    if normalise == "outside" and input == "uint8":
        raise UserError(
            "images that are normalised outside of the graph are no bytes: give input float32 too (--input float32), "
            "or leave normalise out"
        )
    if Path(checkpoint, DESCRIPTION).is_file() or Path(checkpoint).suffix in SUFFIXES:
        raise UserError(
            f"{checkpoint} is exported already: give the checkpoint that it was made of, or, to add MINDIR to its "
            "folder, crossreid export --from FOLDER --format mindir"
        )
    _check_packages()
    if format == "mindir":
        mindir.check_packages()
    out = Path(out)
    _check_place(out, overwrite)
    check_folder(out.resolve().parent)
    model = Trained(checkpoint, "cpu", feature, **settings)
    if not model.trained:
        log(f"mind that {checkpoint} does not say that it was trained to tell people apart")
    out = out.resolve()
    temporary, before = (out.with_name(f".{out.name}.{os.getpid()}.{word}") for word in ("part", "old"))
    temporary.mkdir()
    try:
        expects = {
            "name": NAMES[layout],
            "type": input,
            "layout": LAYOUTS[layout],
            "colour": "RGB",
            "normalise": normalise,
        }
        description = _write(model, temporary, "float16" if half else "float32", expects, log)
        Exported(temporary)  # readable as it will be read
        if format == "mindir":
            mindir.add(temporary, log=log)
        if out.exists():
            os.replace(out, before)
        os.replace(temporary, out)
        shutil.rmtree(before, ignore_errors=True)
    except UserError:
        raise
    except OSError as error:
        raise Unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for entry in description["files"].values():
        log(f"wrote {out / entry['file']} ({(out / entry['file']).stat().st_size / 1e6:.1f} MB)")
    log(_sentence(description))
    return out


class Graph(nn.Module):
    """What is exported: pixels to unit vectors, for images of one modality."""

    def __init__(self, model: Trained, modality: str, half: bool, expects: dict):
        super().__init__()
        self.normalised = expects["normalise"] == "outside"
        self.channels_first = expects["layout"] == "NCHW"
        self.network = copy.deepcopy(model.network) if half else model.network
        self.normalise, self.modality, self.feature, self.half_maps = (
            model.normalise,
            modality,
            model.feature,
            half,
        )
        if half:
            for module in self.network.modules():
                if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.InstanceNorm2d)):
                    module.half()

    def forward(self, pixels: torch.Tensor):
        if self.normalised:
            images = pixels if self.channels_first else pixels.permute(0, 3, 1, 2)
        else:
            images = self.normalise(pixels.permute(0, 2, 3, 1) if self.channels_first else pixels)
        out = self.network.embed(
            images.half() if self.half_maps else images, modality=self.modality, feature=self.feature
        )
        feature = out.feature.float()
        # As normalize() has it, but broadcast: OpenCV cannot expand to a batch that is free.
        vector = feature / torch.linalg.vector_norm(feature, dim=1, keepdim=True).clamp_min(1e-12)
        if out.stripes is None:
            return vector
        stripes = out.stripes.float()
        return vector, stripes.transpose(1, 2) if self.channels_first else stripes


def _write(model: Trained, folder: Path, precision: str, expects: dict, log: Callable[[str], None]) -> dict:
    """Write and compare the files, then their description, which is returned."""
    files, errors = {}, []
    expects = {**expects, **plain(model.input)}
    names = (
        {name: f"{name}.onnx" for name in MODALITIES} if len(model.modalities) > 1 else {"all": "model.onnx"}
    )
    people = rendered(model.size, model.interpolation)
    for name, file in names.items():
        modality = MODALITIES[0] if name == "all" else name
        path = folder / file
        graph = Graph(model, modality, precision == "float16", expects).eval()
        _trace(graph, graph_values(people[modality][:2], expects), path, expects["name"])
        content = path.read_bytes()
        files[name] = {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
        run = onnx_run(open_session(content, path))
        for batch in BATCHES:
            pixels = people[modality][:batch]
            expected = model(pixels, np.full(batch, MODALITIES.index(modality)))
            errors.append(difference(expected, run_graph(run, pixels, expects)))
            if batch == max(BATCHES):
                names_of = [f"rendered person {number}" for number in range(batch)]
                for note in degenerate.notes(expected.feature, names_of):
                    log(f"mind: {note}")
            if not errors[-1] <= TOLERANCE[precision]:
                raise UserError(
                    f"the exported {file} does not agree with the checkpoint: a vector is off by {errors[-1]:.1e} of "
                    f"its length in a batch of {batch}, more than {TOLERANCE[precision]:.0e}, so nothing was kept. "
                    + (
                        "Export without --half."
                        if precision == "float16"
                        else "Weights that give huge or no numbers do this, and a version of torch or onnxruntime may; "
                        "embed images with the checkpoint first."
                    )
                )
    description = {
        "crossreid": __version__,
        "format": FORMAT,
        "name": model.name,
        "method": model.method,
        "feature": model.feature,
        "dimension": model.dimension,
        "unit_length": True,
        "stripes": None if model.stripes is None else list(model.stripes),
        "metric": vars(model.metric),
        "metrics": {name: vars(metric) for name, metric in model.metrics.items()},
        "input": expects,
        "modalities": list(model.modalities),
        "files": files,
        "precision": precision,
        "fingerprint": model.fingerprint,
        "trained": plain(model.trained),
        "operating_points": thresholds.known(model.path, model.fingerprint, model.feature)[0],
        "settings": {
            key: model.settings[key] for key in ("data", "protocol", "evaluate") if key in model.settings
        },
        "verification": recorded(errors, precision),
        "versions": {name: importlib.import_module(name).__version__ for name in _PACKAGES}
        | {"opset": OPSET},
    }
    write_json(folder / DESCRIPTION, description)
    return description


def _trace(graph: Graph, pixels: np.ndarray, path: Path, name: str) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, LiftConstantsToInitializersPass
    from onnxscript import optimizer

    with warnings.catch_warnings():
        # Of the exporter's own making, about its own parts.
        warnings.simplefilter("ignore")
        stripes = ["stripes"] if isinstance(graph(torch.from_numpy(pixels)), tuple) else []
        program = torch.onnx.export(
            graph,
            (torch.from_numpy(pixels),),
            input_names=[name],
            output_names=["vector", *stripes],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            # It would drop the addition of numbers below 1e-8, such as the one that keeps generalised-mean pooling
            # from zero, and fold normalisations in half precision. Every runtime simplifies graphs when it loads them.
            optimize=False,
        )
        assert program is not None  # as it is with dynamo
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        # OpenCV reads constants as tensors only.
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program.model)
        # Where on this machine each line of the network stood.
        ClearMetadataAndDocStringPass()(program.model)
        program.save(path, external_data=False)


def _sentence(description: dict) -> str:
    checked = description["verification"]
    return (
        f"{description['name']}, feature {description['feature']}, {description['dimension']} numbers an image, "
        f"{description['precision']}: torch and onnxruntime differ by at most "
        f"{checked['largest_relative_difference']:.1e} of a vector's length, on rendered people in batches of "
        f"{', '.join(map(str, BATCHES))}. Images are resized to {' x '.join(map(str, description['input']['size']))} "
        f"({description['input']['interpolation']}) before the graph, as {DESCRIPTION} says; "
        + (
            "and normalised before it too."
            if description["input"]["normalise"] == "outside"
            else "normalisation is inside."
        )
    )


def _check_packages() -> None:
    # Not the names of distributions: onnxruntime-gpu gives the same package.
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f"exporting needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"{pip_install('export')}"
        )


def _check_place(out: Path, overwrite: bool) -> None:
    if out.suffix in SUFFIXES:
        raise UserError(
            f"{out} would be one file, but an exported model is a folder with its description: give a name "
            f"such as {out.with_suffix('')}"
        )
    if out.exists() and not (out / DESCRIPTION).is_file():
        raise UserError(f"{out} exists and is not an exported model: choose another name")
    if out.exists() and not overwrite:
        raise UserError(
            f"{out} holds an exported model already: choose another name, or replace it with --overwrite"
        )
    if out.exists():
        others = [name for name in sorted(os.listdir(out)) if not name.endswith((*SUFFIXES, ".json"))]
        if others:
            raise UserError(
                f"{out} holds {others[0]}, which is no part of an exported model and would be removed with it: move it "
                "elsewhere, or choose another name"
            )
