"""Score a checkpoint by a protocol."""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import parsing
from crossreid.records import UserError


def run(words: list[str]) -> None:
    parser = parsing.parser(
        "evaluate", __doc__, "Settings are changed as --protocol.mode indoor or --evaluate.rerank true."
    )
    parser.add_argument("checkpoint", type=Path, help="our own, or one of a published system")
    parser.add_argument(
        "--config", help="settings file for data and protocol (default: those of the training)"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument(
        "--out", type=Path, help="also write evaluation.json and report.html into this folder"
    )
    chosen, overrides = parsing.parse(parser, words)
    from crossreid import checkpoint, config, evaluation

    if chosen.config:
        tree = chosen.config
    elif checkpoint.ours(chosen.checkpoint):
        tree = checkpoint.read(chosen.checkpoint)["settings"]
    else:
        raise UserError(
            f"{chosen.checkpoint} does not record a data set or protocol: name a settings file that does with --config"
        )
    settings = config.load(tree, overrides)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "config.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    evaluation.evaluate(chosen.checkpoint, settings=settings, out=chosen.out, split=chosen.split)
    if chosen.out:
        from crossreid.report import write

        print(f"report: {write([chosen.out], chosen.out / 'report.html').resolve()}")
