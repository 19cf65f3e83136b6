"""Turn the checkpoint of a published system into ours, or ours into theirs."""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    parser = parsing.parser("convert", __doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=("ours", "original"), default="ours")
    chosen = parser.parse_args(words)
    from crossreid.checkpoint import convert as turn

    print("\n".join(turn(chosen.checkpoint, chosen.out, to=chosen.to)))
