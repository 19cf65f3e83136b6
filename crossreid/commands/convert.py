"""Convert a checkpoint of a published system to ours, or ours to theirs.

examples:
    crossreid convert sysu_best.t ours.pt
    crossreid convert ours.pt theirs.t --to original
"""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    epilog = "What a published system's file does not record is given as --method.NAME VALUE."
    parser = parsing.parser("convert", __doc__, epilog)
    parser.add_argument(
        "checkpoint", type=Path, help="one of a published system; with --to original one of ours, or small"
    )
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument(
        "--to",
        choices=("ours", "original"),
        default="ours",
        help="whose form is written; original is that of the published program (default: %(default)s)",
    )
    chosen, changes = parsing.parse(parser, words)
    settings = parsing.prefixed_settings(changes, "method", "the method")
    from crossreid.checkpoint import convert as turn

    print("\n".join(turn(chosen.checkpoint, chosen.out, to=chosen.to, **settings)))
