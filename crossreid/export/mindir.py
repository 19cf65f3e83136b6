"""MINDIR, the form in which MindSpore takes a network, beside the ONNX files of an exported model.

Needs numpy, onnx and MindSpore alone, so that it can be written where torch is not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crossreid.export.comparison import BATCHES, TOLERANCE, difference, recorded, rendered
from crossreid.export.description import DESCRIPTION, read
from crossreid.export.running import load_mindspore, open_mindir, run_graph
from crossreid.files import write_json
from crossreid.records import MODALITIES, UserError, pip_install


def add(folder: str | Path, *, overwrite: bool = False, log: Callable[[str], None] = print) -> Path:
    """Write ``model.mindir`` beside ``model.onnx``, or ``visible.mindir`` and ``infrared.mindir``, with a free batch.

    folder: an exported model; its ONNX files are what is written, and stay.
    overwrite: replace MINDIR files that are there already.

    Before the files get their names, rendered people are embedded by ONNX's reference implementation and by MindSpore
    from the files, in batches of 1, 2 and 5. Raises UserError, and leaves the folder as it was, when a vector is off by
    more than the tolerance of ``crossreid.export.writing.export``. The largest difference is said and recorded.
    """
    check_packages()
    mindspore = load_mindspore()
    import onnx

    from crossreid.export import mindspore_cell

    folder = Path(folder)
    known = read(folder)
    if known.get("mindir") and not overwrite:
        raise UserError(
            f"{folder} holds MINDIR files already: leave it, or write them again with --overwrite"
        )
    expects, precision = known["input"], known["precision"]
    people = rendered(expects["size"], expects["interpolation"])
    files, errors = {}, []
    with tempfile.TemporaryDirectory(prefix=".mindir.", dir=folder) as place:
        for name, entry in known["files"].items():
            content = (folder / entry["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise UserError(
                    f"{folder / entry['file']} is not the file that {DESCRIPTION} was written for: copy the whole "
                    "folder again, or export the checkpoint again"
                )
            model = onnx.load_from_string(content)
            graph_input = model.graph.input[0].type.tensor_type
            shape = [None, *(each.dim_value for each in graph_input.shape.dim[1:])]
            example = mindspore.Tensor(shape=shape, dtype=mindspore_cell.TYPES[graph_input.elem_type])
            path = Path(place, entry["file"]).with_suffix(".mindir")
            with mindspore_cell.written_as_cell(model) as cell:
                mindspore.export(cell, example, file_name=str(path.with_suffix("")), file_format="MINDIR")
            os.chmod(path, 0o644)  # MindSpore leaves it readable by its owner alone
            files[name] = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            pixels = people[MODALITIES[0] if name == "all" else name]
            errors.append(_compare(model, path, pixels, expects, TOLERANCE[precision]))
        for entry in files.values():
            os.replace(Path(place, entry["file"]), folder / entry["file"])
    known["mindir"] = {
        "files": files,
        "verification": recorded(errors, precision),
        "versions": {"mindspore": mindspore.__version__, "onnx": onnx.__version__},
    }
    write_json(folder / DESCRIPTION, known)
    log(
        f"wrote {', '.join(entry['file'] for entry in files.values())} beside the ONNX: MindSpore "
        f"{mindspore.__version__} differs from it by at most {max(errors):.1e} of a vector's length, on rendered "
        f"people in batches of {', '.join(map(str, BATCHES))}"
    )
    return folder


def check_packages() -> None:
    missing = [name for name in ("onnx", "mindspore") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"writing MINDIR needs {' and '.join(missing)}, not installed here: {pip_install('mindir')}; or, "
            "since MindSpore wants a NumPy below 2, export to ONNX here and, in an environment with mindspore, onnx "
            "and numpy<2, run crossreid export --from FOLDER --format mindir"
        )


def _compare(model, path: Path, pixels, expects: dict, tolerance: float) -> float:
    """The largest difference of the MINDIR file from the ONNX graph it was made of."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    run, worst = open_mindir(path), 0.0
    for batch in BATCHES:
        expected = run_graph(
            lambda values: [np.asarray(each) for each in evaluator.run(None, {expects["name"]: values})],
            pixels[:batch],
            expects,
        )
        error = difference(expected, run_graph(run, pixels[:batch], expects))
        if not error <= tolerance:
            raise UserError(
                f"{path.name} does not agree with the ONNX file: a vector is off by {error:.1e} of its length in a "
                f"batch of {batch}, more than {tolerance:.0e}, so nothing was kept. A version of MindSpore may do "
                "this, and float16: export without --half."
            )
        worst = max(worst, error)
    return worst
