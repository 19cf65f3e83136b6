"""What the commands about galleries share: which entries are meant, and ranked lists for reading."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crossreid.commands import parsing
from crossreid.records import UserError

PLACE = (
    "folder of the gallery, here or in a bucket (s3://bucket/folder); or milvus: and the address of a server, such as "
    "milvus:http://localhost:19530"
)


def add_filter(parser: argparse.ArgumentParser, what: str) -> None:
    """Arguments that choose entries; ``what`` is done with them."""
    group = parser.add_argument_group(f"which entries are {what} (all that are given must hold)")
    group.add_argument("--camera", nargs="+", default=[], metavar="NAME", help="taken by one of these")
    group.add_argument("--modality", type=parsing.modality, metavar="WORD", help="visible or infrared")
    group.add_argument(
        "--since",
        metavar="TIME",
        help="taken then or later: 2026-11-21, 2026-11-21T04:30 (UTC), or seconds since 1970",
    )
    group.add_argument("--until", metavar="TIME", help="taken before then")
    group.add_argument("--identity", nargs="+", default=[], metavar="NAME", help="of one of these people")
    group.add_argument("--key", nargs="+", default=[], metavar="KEY", help="with one of these keys")
    group.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="with this text in a column; may be repeated",
    )


def check_images(folder: Path | None) -> None:
    """Raise UserError where ``--images`` names no folder: no image would be found below it."""
    if folder is not None and not folder.is_dir():
        raise UserError(f"--images {folder}: is no folder; give the one below which the images lie")


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """The names and texts of an option's ``NAME=TEXT`` words."""
    found = {}
    for pair in words:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UserError(f"{option} {pair!r} was not understood: expected NAME=TEXT")
        found[name] = text
    return found


def chosen_filter(chosen: argparse.Namespace):
    """The ``Filter`` that those arguments mean."""
    from crossreid.gallery import Filter
    from crossreid.gallery.entries import readings
    from crossreid.images.timestamps import timestamp

    columns = {name: readings(text) for name, text in pairs(chosen.column, "--column").items()}
    return Filter(
        cameras=tuple(chosen.camera),
        modality=chosen.modality,
        since=None if chosen.since is None else timestamp(chosen.since, "--since"),
        until=None if chosen.until is None else timestamp(chosen.until, "--until"),
        identities=tuple(chosen.identity),
        keys=tuple(chosen.key),
        columns=columns,
    )
