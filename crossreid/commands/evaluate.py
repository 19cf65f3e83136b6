"""Score a checkpoint, an exported model, or stored features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crossreid.commands import parsing
from crossreid.records import VISIBLE, UserError

_EPILOG = (
    "Settings are changed as --protocol.mode indoor or --evaluate.rerank true. Features are stored with "
    "--evaluate.features true and --out, or by crossreid embed."
)


def run(words: list[str]) -> None:
    parser = parsing.parser("evaluate", __doc__, _EPILOG)
    parser.add_argument(
        "model",
        type=Path,
        help="a checkpoint, our own or of a published system; an exported model; or stored features (.npz, .mat)",
    )
    parser.add_argument(
        "--config", help="settings file for data and protocol (default: those of the training)"
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="images to score on (default: %(default)s)",
    )
    parser.add_argument("--query", type=Path, metavar="DIR", help="folder of images to search for")
    parser.add_argument(
        "--gallery", type=Path, metavar="DIR", help="folder of images, or features, to search among"
    )
    parser.add_argument(
        "--pattern",
        help="regular expression that finds identity and camera in an image's path, such as "
        "'(?P<identity>-?\\d+)_c(?P<camera>\\d+)' (default: names as in Market-1501, or a folder for each person)",
    )
    parser.add_argument(
        "--query-modality", metavar="WORD", help="visible or infrared (default: by its folders)"
    )
    parser.add_argument("--gallery-modality", metavar="WORD", help="likewise")
    parser.add_argument(
        "--keep-junk", action="store_true", help="images of the two folders with the identity -1 count, too"
    )
    parser.add_argument(
        "--out", type=Path, help="also write evaluation.json and report.html into this folder"
    )
    parser.add_argument("--device", help="short for --train.device; cpu, cuda, npu, ...")
    chosen, overrides = parsing.parse(parser, words)
    from crossreid.export.using import is_exported
    from crossreid.exported import evaluate as evaluate_exported

    if is_exported(chosen.model):
        _no_folders(chosen, "an exported model")
        tree = None
        if chosen.config:
            from crossreid import config  # not at hand where torch is not

            tree = config.load(chosen.config).to_dict()
        device = chosen.device or "cpu"
        evaluate_exported(
            chosen.model, overrides, tree=tree, split=chosen.split, out=chosen.out, device=device
        )
        if chosen.out:
            print(
                f"scores: {(chosen.out / 'evaluation.json').resolve()} (crossreid report {chosen.out} makes a page)"
            )
        return
    if chosen.device:
        overrides += ["--train.device", chosen.device]
    from crossreid.evaluation.stored import is_stored

    rows, settings = (_stored if is_stored(chosen.model) else _checkpoint)(chosen, overrides)
    if rows and settings.protocol_name == "generalization":
        from crossreid.evaluation import summary
        from crossreid.report.generalization_table import generalization_table

        print(
            generalization_table(
                {row: [summary(trial) for trial in found.per_trial] for row, found in rows.items()}
            )
        )
    if chosen.out and rows:
        from crossreid.report import write

        print(f"report: {write([chosen.out], chosen.out / 'report.html').resolve()}")


def _checkpoint(chosen, overrides):
    from crossreid import checkpoint, config, evaluation

    protocol = None
    if chosen.config:
        tree = config.load(chosen.config).to_dict()
    elif checkpoint.ours(chosen.model):
        tree = checkpoint.read(chosen.model)["settings"]
    elif chosen.query:
        tree = {"method": {"name": _method(chosen.model)}}
    else:
        raise UserError(
            f"{chosen.model} does not record a data set or protocol: name a settings file that does with --config, or "
            "two folders with --query and --gallery"
        )
    if chosen.query or chosen.gallery:
        if not (chosen.query and chosen.gallery):
            raise UserError("two folders are needed, one of queries with --query and one with --gallery")
        from crossreid.data import two_folders
        from crossreid.protocols.single_query import SingleQuery

        tree = tree | {"protocol": {"name": "single_query"}}
        settings = config.load(tree, overrides)
        sides = two_folders.read(
            chosen.query,
            chosen.gallery,
            pattern=chosen.pattern,
            same_camera=settings.protocol["same_camera"],
            modalities=(chosen.query_modality, chosen.gallery_modality),
            keep_junk=chosen.keep_junk,
        )
        sides = _told_apart(sides, chosen)
        title = f"{chosen.query.name} in {chosen.gallery.name}"
        protocol = SingleQuery.between(*sides, title=title, same_camera=settings.protocol["same_camera"])
    else:
        settings = config.load(tree, overrides)
    _prepare(chosen.out, settings)
    rows = evaluation.evaluate(
        chosen.model, settings=settings, protocol=protocol, out=chosen.out, split=chosen.split
    )
    return rows, settings


def _told_apart(sides, chosen):
    """The images with their modality; where nobody said it, by their folders, and visible if the model does not tell
    modalities apart."""
    from crossreid import checkpoint
    from crossreid.data.modality import told

    if all(image.modality for side in sides for image in side):
        return sides
    needed = len(checkpoint.load(chosen.model).modalities) > 1
    return [
        [replace(image, modality=image.modality or VISIBLE) for image in told(side, needed, option)]
        for side, option in zip(sides, ("--query-modality", "--gallery-modality"))
    ]


def _stored(chosen, overrides):
    from crossreid import config, evaluation
    from crossreid.evaluation.stored import read_stored, recorded_settings

    if chosen.query:
        raise UserError("--query names a folder of images, but stored features were given: leave it out")
    changed = [word for word in overrides if word.startswith(("--protocol.", "--data."))]
    tree = config.load(chosen.config).to_dict() if chosen.config else recorded_settings(chosen.model)
    # Of features whose settings are unknown any method will do: its settings are not looked at.
    settings = config.load(tree or {"method": {"name": "agw"}}, overrides)
    rebuilt = chosen.config or (tree and changed)
    protocol = evaluation.protocol_of(settings, split=chosen.split) if rebuilt else None
    stored = read_stored(
        chosen.model,
        chosen.gallery,
        pattern=chosen.pattern,
        same_camera=settings.protocol.get("same_camera", True),
        protocol=protocol,
    )
    settings.protocol_name = stored.protocol.name
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
    device = "cpu" if settings.train.device == "auto" else settings.train.device
    rows = evaluation.evaluate_stored(stored, settings.evaluate, out=chosen.out, device=device)
    return rows, settings


def _prepare(out: Path | None, settings) -> None:
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(settings.to_yaml(), encoding="utf-8")


def _method(path: Path) -> str:
    from crossreid import originals

    return originals.read(path)[0]["method"]


def _no_folders(chosen, what: str) -> None:
    if chosen.query or chosen.gallery:
        raise UserError(
            f"--query and --gallery are for checkpoints and features, but {what} was given: score the checkpoint it "
            "was made of, or embed both folders with it and score the features"
        )
