"""Render people, train, evaluate, and write a report; needs no download.

examples:
    crossreid demo
    crossreid demo --quick --folder try
"""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing


def run(words: list[str]) -> None:
    parser = parsing.parser("demo", __doc__)
    parser.add_argument(
        "--folder", default="crossreid-demo", help="where everything is written (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other people (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute's version, to see that everything works"
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu (repeatable to the bit), auto, cuda, npu (default: %(default)s)"
    )
    chosen = parser.parse_args(words)
    from crossreid import demo

    demo.run(Path(chosen.folder), seed=chosen.seed, quick=chosen.quick, device=chosen.device)
