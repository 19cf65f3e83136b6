"""Train from a settings file, or continue a run.

examples:
    crossreid train agw_sysu_mm01 --data.roots.sysu_mm01 /data/SYSU-MM01 --run runs/agw
    crossreid train own.yaml --train.epochs 60 --train.optimizers.main.lr 0.0003
    crossreid train own.yaml --print-config
    crossreid train --resume runs/agw
    crossreid train --print-schema > settings.schema.json
"""

from __future__ import annotations

import os
from pathlib import Path

from crossreid.bundled import settings_files
from crossreid.commands import parsing
from crossreid.records import UserError


def run(words: list[str]) -> None:
    parser = parsing.parser(
        "train",
        __doc__,
        "Settings are changed as --train.epochs 60 or --data.roots.market1501 FOLDER; crossreid train CONFIG --help "
        f"lists them all. Settings files that come with crossreid: {', '.join(settings_files())}.",
    )
    config_file = parser.add_argument(
        "config", nargs="?", help="a YAML file, or the name of one that comes with crossreid"
    )
    parsing.complete(config_file, settings_files())
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    parser.add_argument("--run", type=Path, help="folder to write (default: runs/METHOD-DATA-DATE)")
    parser.add_argument("--device", help="short for --train.device")
    parser.add_argument("--print-config", action="store_true", help="print the resolved settings and stop")
    parser.add_argument(
        "--print-schema",
        action="store_true",
        help="print the JSON schema of settings files, for editors, and stop",
    )
    others = [word for word in words if word not in ("-h", "--help")]
    asked = len(others) < len(words) and others
    chosen, overrides = parsing.parse(parser, others if asked else words)
    if asked:  # of a settings file: everything that can be set in it too
        from crossreid import config

        print(parser.format_help())
        print(config.settings_help(config.load(chosen.config, overrides)) if chosen.config else "", end="")
        return
    if chosen.print_schema:
        import json

        from crossreid.schema import json_schema

        print(json.dumps(json_schema(), indent=1))
        return
    if (chosen.config is None) == (chosen.resume is None):
        other = parsing.Parser.unknown
        hint = f" It has no option {other}: settings are changed as --train.epochs 60." if other else ""
        raise UserError(f"crossreid train needs either a settings file or --resume RUN, and not both.{hint}")
    from crossreid import checkpoint, config, training
    from crossreid.formats.yaml_text import read_yaml

    if chosen.device:
        overrides += ["--train.device", chosen.device]
    source, last = chosen.config, None
    if chosen.resume and chosen.resume.is_file():
        raise UserError(
            f"--resume {chosen.resume} is a file: give the folder of the run, --resume {chosen.resume.parent}"
        )
    if chosen.resume and (chosen.resume / "fold_1").is_dir():
        # The folder of a run over all folds holds the settings and one run for each fold.
        # They are what the run recorded, as a checkpoint's are, and import nothing.
        source = read_yaml(chosen.resume / "config.yaml", "the settings of a run were expected")
    elif chosen.resume:
        last = checkpoint.read(chosen.resume / "last.pt")
        source = last["settings"]
    settings = config.load(source, overrides)
    if chosen.print_config:
        print(settings.to_yaml(), end="")
        return
    folder = chosen.resume or chosen.run or _new_run(settings)

    def begun() -> None:  # a mistake is named first, and not below two screens of settings
        print(settings.to_yaml())

    if settings.data.fold == "all":
        runs = training.train_folds(settings, folder, resume=bool(chosen.resume), begun=begun)
    else:
        runs = [folder]
        training.train(settings, folder, resume=last or False, begun=begun)
    if int(os.environ.get("RANK", 0)) == 0:
        from crossreid.report import write, write_table

        if len(runs) > 1:
            print(write_table(runs))
        print(f"report: {write(runs, folder / 'report.html').resolve().as_uri()}")


def _new_run(settings) -> Path:
    import time

    sources = settings.data.name if isinstance(settings.data.name, str) else "+".join(settings.data.name)
    name = f"{settings.method_name}-{sources}-{time.strftime('%Y%m%d-%H%M%S')}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # whose clocks differ
        from crossreid.engine import Engine

        name = Engine(settings.train.device).of_the_first(name)
    return Path("runs") / name
