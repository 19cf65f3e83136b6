"""Export a checkpoint to ONNX and MINDIR, and compare the files with it.

examples:
    crossreid export small model
    crossreid export runs/agw/last.pt model --half
"""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing
from crossreid.records import UserError


def run(words: list[str]) -> None:
    parser = parsing.parser("export", __doc__, "docs/howto/export.md says how the files are used.")
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="our own, one of a published system, or small"
    )
    parser.add_argument("out", type=Path, nargs="?", help="the folder to write")
    parser.add_argument("--feature", help="which of the method's vectors (default: the method's first)")
    parser.add_argument("--half", action="store_true", help="float16 weights; the error is measured and said")
    parser.add_argument(
        "--format",
        choices=("onnx", "mindir"),
        default="onnx",
        help="mindir also writes the form of MindSpore (default: %(default)s)",
    )
    parser.add_argument(
        "--layout",
        choices=("nhwc", "nchw"),
        default="nhwc",
        help="nchw: channels first (default: %(default)s)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        default="uint8",
        help="float32: numbers and not bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--normalise",
        choices=("inside", "outside"),
        help="outside: float32 images that are normalised already (default: outside for float32, inside for uint8)",
    )
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="an exported model to which MINDIR files are added, without torch",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the exported model in that folder")
    chosen = parser.parse_args(words)
    if chosen.folder is not None:
        _add(chosen)
        return
    if chosen.out is None:
        raise UserError(
            "a checkpoint and a folder to write are needed: crossreid export CHECKPOINT FOLDER; or an exported model, "
            "crossreid export --from FOLDER --format mindir"
        )
    from crossreid.export.writing import export

    export(
        chosen.checkpoint,
        chosen.out,
        feature=chosen.feature,
        half=chosen.half,
        overwrite=chosen.overwrite,
        format=chosen.format,
        layout=chosen.layout,
        input=chosen.input,
        normalise=chosen.normalise,
    )


def _add(chosen) -> None:
    fixed = (
        chosen.feature
        or chosen.half
        or chosen.normalise
        or (chosen.layout, chosen.input) != ("nhwc", "uint8")
    )
    if chosen.format != "mindir" or chosen.checkpoint is not None or fixed:
        raise UserError(
            f"--from {chosen.folder} adds MINDIR files to an exported model, of what its ONNX files hold: give nothing "
            "beside it but --format mindir, and --overwrite to write them again"
        )
    from crossreid.export import mindir

    mindir.add(chosen.folder, overwrite=chosen.overwrite)
