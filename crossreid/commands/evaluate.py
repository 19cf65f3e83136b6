"""Score a checkpoint, an exported model, or stored features.

examples:
    crossreid evaluate runs/agw/last.pt
    crossreid evaluate runs/agw/last.pt --protocol.mode indoor --evaluate.rerank true --out scores
    crossreid evaluate small --query queries --gallery gallery
    crossreid evaluate features.npz
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crossreid.commands import parsing
from crossreid.files import is_address, place
from crossreid.records import VISIBLE, UserError

_EPILOG = (
    "Settings are changed as --protocol.mode indoor or --evaluate.rerank true. Features are stored with "
    "--evaluate.features true and --out, or by crossreid embed."
)


def _here(text: str) -> Path:
    if is_address(text):
        raise UserError(
            f"{text} is an address, and models and features are scored from this computer: copy it here first"
        )
    return Path(text)


def run(words: list[str]) -> None:
    parser = parsing.parser("evaluate", __doc__, _EPILOG)
    parser.add_argument(
        "model",
        help="a checkpoint, our own or of a published system; an exported model; or stored features (.npz, .npy, .mat, "
        "a folder of .mat or of what embed --ray wrote, or .lance)",
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
    parser.add_argument(
        "--query", metavar="DIR", help="folder or table of images to search for, here or at an address"
    )
    parser.add_argument("--gallery", metavar="DIR", help="likewise to search among; or features")
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
        "--keep-junk",
        action="store_true",
        help="images with the identity -1 count, too, in two folders and in stored features",
    )
    parser.add_argument(
        "--out", type=Path, help="also write evaluation.json and report.html into this folder"
    )
    parser.add_argument("--device", help="short for --train.device; cpu, cuda, npu, ...")
    parser.add_argument(
        "--workers", metavar="N", help="short for --evaluate.workers: threads that compare and rank"
    )
    chosen, overrides = parsing.parse(parser, words)
    chosen.model = _here(chosen.model)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"scoring needs torch and the other packages of a whole installation ({error}): install "
            "crossreid with its dependencies. Without them an exported model embeds, compares, indexes and "
            "searches, and the features that `crossreid embed` writes can be scored elsewhere"
        ) from error
    if chosen.device:
        overrides += ["--train.device", chosen.device]
    if chosen.workers:
        overrides += ["--evaluate.workers", chosen.workers]
    from crossreid.evaluation.features import is_stored

    rows, settings = (_stored if is_stored(chosen.model) else _model)(chosen, overrides)
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

        print(f"report: {write([chosen.out], chosen.out / 'report.html').resolve().as_uri()}")


def _model(chosen, overrides):
    from crossreid import config, evaluation
    from crossreid.experiment import recorded

    # What the file of a published system does not record; its settings file says nothing of the file at hand.
    given = parsing.prefixed_settings(parsing.those_of("method", overrides), "method", "the method")
    given.pop("name", None)
    protocol, model = None, evaluation.open_model(chosen.model, **given)
    if chosen.config:
        tree = config.load(chosen.config).to_dict()
    else:
        named = chosen.query or any(word.startswith("--protocol.name") for word in overrides)
        tree = recorded(model, chosen.model, needed=not named)
    if chosen.query or chosen.gallery:
        if not (chosen.query and chosen.gallery):
            raise UserError("two folders are needed, one of queries with --query and one with --gallery")
        from crossreid.data import two_folders
        from crossreid.protocols.single_query import SingleQuery

        tree = tree | {"protocol": {"name": "single_query"}}
        data = tree.get("data") or {}
        # The report shows images of these folders.
        query, gallery = place(chosen.query), place(chosen.gallery)
        folders = {
            side: str(where if is_address(where) else where.absolute())
            for side, where in (("query", query), ("gallery", gallery))
        }
        tree["data"] = data | {"roots": (data.get("roots") or {}) | folders}
        settings = config.load(tree, overrides)
        sides = two_folders.read(
            query,
            gallery,
            pattern=chosen.pattern,
            same_camera=settings.protocol["same_camera"],
            modalities=(chosen.query_modality, chosen.gallery_modality),
            keep_junk=chosen.keep_junk,
        )
        sides = _told_apart(sides, len(model.modalities) > 1)
        title = f"{query.name} in {gallery.name}"
        protocol = SingleQuery.between(*sides, title=title, same_camera=settings.protocol["same_camera"])
    else:
        settings = config.load(tree, overrides)
    _prepare(chosen.out, settings)
    rows = evaluation.evaluate(
        chosen.model, settings=settings, model=model, protocol=protocol, out=chosen.out, split=chosen.split
    )
    return rows, settings


def _told_apart(sides, needed: bool):
    """The images with their modality; where nobody said it, by their folders, or visible if the model does not tell
    modalities apart."""
    from crossreid.data.modality import with_modalities

    return [
        [
            replace(image, modality=image.modality or VISIBLE)
            for image in with_modalities(side, needed, option)
        ]
        for side, option in zip(sides, ("--query-modality", "--gallery-modality"))
    ]


def _stored(chosen, overrides):
    from crossreid import config, evaluation
    from crossreid.evaluation.features import read_stored, recorded_settings

    if chosen.query:
        raise UserError("--query names a folder of images, but stored features were given: leave it out")
    gallery = _here(chosen.gallery) if chosen.gallery else None
    changed = [word for word in overrides if word.startswith(("--protocol.", "--data."))]
    tree = config.load(chosen.config).to_dict() if chosen.config else recorded_settings(chosen.model)
    # Of features whose settings are unknown any method will do: its settings are not looked at.
    settings = config.load(tree or {"method": {"name": "agw"}}, overrides)
    rebuilt = chosen.config or (tree and changed)
    protocol = evaluation.protocol_of(settings, split=chosen.split) if rebuilt else None
    stored = read_stored(
        chosen.model,
        gallery,
        pattern=chosen.pattern,
        same_camera=settings.protocol.get("same_camera", True),
        protocol=protocol,
        keep_junk=chosen.keep_junk,
    )
    settings.protocol_name = stored.protocol.name
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
    from crossreid.engine import choose_device

    device = str(choose_device(settings.train.device))
    rows = evaluation.evaluate_stored(stored, settings.evaluate, out=chosen.out, device=device)
    return rows, settings


def _prepare(out: Path | None, settings) -> None:
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(settings.to_yaml(), encoding="utf-8")
