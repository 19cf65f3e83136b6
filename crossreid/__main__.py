"""The commands: a table from name to function. A command only turns its words into one call of the library."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from crossreid import __version__
from crossreid.records import UserError


def demo(words: list[str]) -> None:
    """Render people, train, evaluate, and write a report; needs no download."""
    parser = _parser("demo", demo)
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
    from crossreid.demo import run

    run(Path(chosen.folder), seed=chosen.seed, quick=chosen.quick, device=chosen.device)


def data(words: list[str]) -> None:
    """List, check, make or prepare data sets."""
    parser = _parser("data", data)
    acts = parser.add_subparsers(dest="act", required=True, metavar="list|check|make|prepare")
    acts.add_parser("list", help="what is known of each data set, and where to apply for it")
    check = acts.add_parser("check", help="compare a copy on disk with what is known of the data set")
    make = acts.add_parser("make", help="write a synthetic copy in the data set's own layout")
    prepare = acts.add_parser(
        "prepare", help="decode pictures once, into arrays that training maps into memory"
    )
    for act in (check, make, prepare):
        act.add_argument("name", help="name of the data set, as `crossreid data list` shows it")
        act.add_argument("root", type=Path, help="its folder")
    make.add_argument("--identities", type=int, default=40, help="how many people (default: %(default)s)")
    make.add_argument(
        "--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)"
    )
    make.add_argument("--images", type=int, help="pictures of a person in a camera (default: by data set)")
    make.add_argument(
        "--jitter", type=float, default=1.0, help="how badly boxes fit, 0 exactly (default: %(default)s)"
    )
    make.add_argument(
        "--workers", type=int, default=1, help="processes; the result is the same (default: %(default)s)"
    )
    prepare.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(288, 144))
    prepare.add_argument(
        "--interpolation", choices=("bilinear", "bicubic", "lanczos"), help="default: by data set"
    )
    for act in (check, prepare):
        act.epilog = "Settings of the data set's reader follow as --settings.NAME VALUE."
    chosen, rest = _parse(parser, words)
    settings = _reader_settings(rest)
    if chosen.act == "list":
        from crossreid.data import describe

        print(describe())
    elif chosen.act == "check":
        from crossreid.data import check as compare

        findings = compare(chosen.name, chosen.root, **settings)
        for finding in findings:
            print(f"{finding.severity}: {finding.text}")
        if any(finding.severity == "error" for finding in findings):
            raise UserError(
                f"the copy of {chosen.name} in {chosen.root} is not complete or not as handed out; see above. "
                "(A synthetic copy never has the counts of the real one, and is usable all the same.)"
            )
        print(f"{chosen.name} in {chosen.root}: " + ("usable, see the warnings" if findings else "complete"))
    elif chosen.act == "make":
        from crossreid.synthetic import write

        options = {"identities": chosen.identities, "seed": chosen.seed, "jitter": chosen.jitter}
        if chosen.images is not None:
            options["images"] = chosen.images
        print(f"wrote {write(chosen.name, chosen.root, workers=chosen.workers, **options)}")
    else:
        from crossreid.data.prepare import prepare as decode

        size = tuple(chosen.size)
        made = decode(chosen.name, chosen.root, size=size, interpolation=chosen.interpolation, **settings)
        print(f"wrote {made}")


def train(words: list[str]) -> None:
    """Train from a settings file, or continue a run."""
    parser = _parser(
        "train", train, "Settings are changed as --train.epochs 60 or --data.roots.market1501 FOLDER."
    )
    parser.add_argument("config", nargs="?", help="a YAML file, or the name of one that comes with crossreid")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    parser.add_argument("--run", type=Path, help="folder to write (default: runs/METHOD-DATA-DATE)")
    parser.add_argument("--device", help="short for --train.device")
    parser.add_argument("--print-config", action="store_true", help="print the resolved settings and stop")
    chosen, overrides = _parse(parser, words)
    if (chosen.config is None) == (chosen.resume is None):
        raise UserError("crossreid train needs either a settings file or --resume RUN, and not both.")
    from crossreid import checkpoint, config, training

    if chosen.device:
        overrides += ["--train.device", chosen.device]
    source = chosen.config
    if chosen.resume:
        # The folder of a run over all folds holds the settings and one run for each fold.
        folds = (chosen.resume / "fold_1").is_dir()
        source = (
            chosen.resume / "config.yaml" if folds else checkpoint.read(chosen.resume / "last.pt")["settings"]
        )
    settings = config.load(source, overrides)
    if chosen.print_config:
        print(settings.to_yaml(), end="")
        return
    run = chosen.resume or chosen.run or _new_run(settings)
    print(settings.to_yaml())
    if settings.data.fold == "all":
        runs = training.train_folds(settings, run, resume=bool(chosen.resume))
    else:
        runs = [run]
        training.train(settings, run, resume=bool(chosen.resume))
    if int(os.environ.get("RANK", 0)) == 0:
        from crossreid.report import write, write_table

        if len(runs) > 1:
            print(write_table(runs))
        print(f"report: {write(runs, run / 'report.html').resolve()}")


def evaluate(words: list[str]) -> None:
    """Score a checkpoint by a protocol."""
    parser = _parser(
        "evaluate", evaluate, "Settings are changed as --protocol.mode indoor or --evaluate.rerank true."
    )
    parser.add_argument("checkpoint", type=Path, help="our own, or one of a published system")
    parser.add_argument(
        "--config", help="settings file for data and protocol (default: those of the training)"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument(
        "--out", type=Path, help="also write evaluation.json and report.html into this folder"
    )
    chosen, overrides = _parse(parser, words)
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


def convert(words: list[str]) -> None:
    """Turn the checkpoint of a published system into ours, or ours into theirs."""
    parser = _parser("convert", convert)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=("ours", "original"), default="ours")
    chosen = parser.parse_args(words)
    from crossreid.checkpoint import convert as turn

    print("\n".join(turn(chosen.checkpoint, chosen.out, to=chosen.to)))


def report(words: list[str]) -> None:
    """Write the page of one run, or of several side by side."""
    parser = _parser("report", report)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: report.html in the first run's folder)"
    )
    chosen = parser.parse_args(words)
    from crossreid.report import write, write_table

    print(write_table(chosen.runs))
    print(f"report: {write(chosen.runs, chosen.out or chosen.runs[0] / 'report.html').resolve()}")


COMMANDS = {
    "demo": demo,
    "data": data,
    "train": train,
    "evaluate": evaluate,
    "convert": convert,
    "report": report,
}


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a mistake of the user, 1 for a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: crossreid COMMAND ...   (crossreid COMMAND --help says more; --debug shows tracebacks)\n"
        )
        for name, command in COMMANDS.items():
            print(f"  {name:<10} {command.__doc__}")
        return 0
    if words[0] == "--version":
        print(f"crossreid {__version__}")
        return 0
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return _fail(f"unknown command {words[0]!r}{hint}: choose one of {', '.join(COMMANDS)}.", 2)
    try:
        COMMANDS[words[0]](words[1:])
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("stopped.", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            return 130
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)
    return 0


def _reader_settings(words: list[str]) -> dict:
    """``--settings.NAME VALUE`` pairs, values read as YAML."""
    if not words:
        return {}
    import yaml

    settings = {}
    for flag, value in zip(words[::2], [*words[1::2], None]):
        name = flag.removeprefix("--settings.")
        if name == flag or value is None:
            raise UserError(
                f"{flag!r} was not understood: settings of the reader follow as --settings.NAME VALUE"
            )
        settings[name] = yaml.safe_load(value)
    return settings


def _parser(name: str, command, epilog: str | None = None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"crossreid {name}", description=command.__doc__, epilog=epilog, allow_abbrev=False
    )


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The words that ``parser`` knows, and the changes of settings, wherever among them they stand."""
    own, changes, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and "." in word.partition("=")[0]:
            # argparse would take the value that follows for one of the command's own words.
            changes += [word] if "=" in word else [word, *rest[:1]]
            rest = rest if "=" in word else rest[1:]
        else:
            own.append(word)
    chosen, unknown = parser.parse_known_args(own)
    return chosen, unknown + changes


def _new_run(settings) -> Path:
    import time

    sources = settings.data.name if isinstance(settings.data.name, str) else "+".join(settings.data.name)
    stamp = os.environ.get("TORCHELASTIC_RUN_ID", "") + time.strftime("%Y%m%d-%H%M")
    return Path("runs") / f"{settings.method_name}-{sources}-{stamp}"


def _fail(text: str, code: int) -> int:
    print(f"crossreid: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
