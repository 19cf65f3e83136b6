"""Write a checkpoint as ONNX files, compared with it before they are kept."""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    parser = parsing.parser("export", __doc__, "docs/export.md says how the files are used.")
    parser.add_argument("checkpoint", type=Path, help="our own, one of a published system, or small")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--feature", help="which of the method's vectors (default: the method's first)")
    parser.add_argument("--half", action="store_true", help="float16 weights; the error is measured and said")
    parser.add_argument("--overwrite", action="store_true", help="replace the exported model in that folder")
    chosen = parser.parse_args(words)
    from crossreid.export.writing import export

    export(
        chosen.checkpoint, chosen.out, feature=chosen.feature, half=chosen.half, overwrite=chosen.overwrite
    )
