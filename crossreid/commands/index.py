"""Add images to a gallery.

Images that are in it already are skipped, so the same command continues after an interruption.

examples:
    crossreid index small people --gallery people.gallery --camera front
    crossreid index small market --source market1501 --split gallery --gallery market.gallery
    crossreid index small s3://bucket/people --gallery /shared/people.gallery --ray head:6379
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from crossreid.commands import filters, parsing
from crossreid.files import several
from crossreid.records import UserError, counted


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = parsing.parser(
        "index",
        __doc__,
        "Given again after an interruption, the same command goes on where it was. With --source, settings of the data "
        "set's reader follow as --settings.NAME VALUE.",
    )
    parsing.add_model(parser)
    parser.add_argument(
        "images",
        nargs="+",
        help="images, folders, patterns such as 'shop/*.jpg', or tables (CSV, Parquet, Lance) with a column path "
        "and perhaps camera, time, identity, modality, x0, y0, x1, y1 (a box in pixels), and others; or addresses, "
        "such as s3://bucket/people; with --source a data set's folder",
    )
    parser.add_argument("--gallery", required=True, help=f"{filters.PLACE}; made if it is not there")
    parser.add_argument("--source", help="the images are a data set of this name: see `crossreid data list`")
    parser.add_argument("--split", nargs="+", help="only these splits of the data set, such as query gallery")
    parser.add_argument("--camera", help="of all images of which no table says another")
    parser.add_argument(
        "--modality", type=parsing.modality, metavar="WORD", help="likewise: visible or infrared"
    )
    parser.add_argument("--time", help="likewise: 2026-11-21T04:30:00 (UTC), or seconds since 1970")
    parser.add_argument("--identity", help="likewise")
    parser.add_argument(
        "--pattern",
        help="what names say: a template such as '{camera}_{track}_{time}.jpg', or a regular expression with named "
        "groups; identity, camera, modality and time are understood, others become columns. The gallery remembers it",
    )
    parser.add_argument("--keep-junk", action="store_true", help="also images that have the identity -1")
    parser.add_argument(
        "--root", type=Path, help="keep paths relative to this folder (default: absolute paths)"
    )
    parser.add_argument("--no-thumbnails", action="store_true", help="keep no small copies of the images")
    parsing.add_use(parser, batch=True)
    parsing.add_ray(parser)
    chosen, rest = parsing.parse(parser, words)
    chosen.settings = parsing.reader_settings(rest)
    return chosen


def run(words: list[str]) -> None:
    chosen = _parsed(words)
    if chosen.batch < 1:
        raise UserError(f"--batch is {chosen.batch}: expected 1 or more")
    if chosen.ray is None:
        _run(chosen)
        return
    from crossreid import on_ray

    # First of all, since LanceDB does not like processes to be started once it is loaded.
    with on_ray.connected(chosen.ray):
        _run(chosen)


def _run(chosen: argparse.Namespace) -> None:
    from crossreid.gallery.indexing import opened

    images = _images(chosen)
    embedder = parsing.opened(chosen, [chosen.modality], tell=chosen.ray is None)
    gallery, new = opened(
        chosen.gallery,
        dimension=embedder.dimension,
        fingerprint=embedder.fingerprint,
        model=embedder.name,
    )
    try:
        with gallery:
            if chosen.pattern is not None and chosen.pattern != gallery.pattern:
                gallery.remember(chosen.pattern)
            done = _fill(chosen, gallery, embedder, images)
            total = gallery.info().entries
    except KeyboardInterrupt:
        print("\nwhat was added stays in the gallery; give the same command again to go on", file=sys.stderr)
        raise
    except UserError:
        if new:
            _remove_empty(chosen.gallery)
        raise
    reasons = several([reason for _, reason in done.bad])
    if done.bad and len(done.bad) == len(images):
        if new:
            _remove_empty(chosen.gallery)
        raise UserError(f"no image can be read: {reasons}.")
    known = f", {done.known} were there already or came twice, and stay as they are" if done.known else ""
    print(f"{chosen.gallery}: {counted(done.new, 'image')} added{known}; it holds {total}")
    for note in done.notes[:3]:
        print(f"mind: {note}", file=sys.stderr)
    if done.bad:
        print(
            f"left out {len(done.bad)} of {len(images)} images: {reasons}",
            file=sys.stderr,
        )


def _fill(chosen: argparse.Namespace, gallery, embedder, images):
    from crossreid.gallery.indexing import fill, fill_on_ray

    settings = {"root": chosen.root, "thumbnails": not chosen.no_thumbnails}
    if chosen.ray is None:
        return fill(gallery, embedder, images, **settings)
    from crossreid import on_ray

    # Other processes have other folders.
    elsewhere = chosen.gallery.startswith("milvus:") or "://" in chosen.gallery
    place = chosen.gallery if elsewhere else str(Path(chosen.gallery).expanduser().absolute())
    return fill_on_ray(
        gallery,
        embedder,
        on_ray.maker(embedder, chosen.model, chosen.device, chosen.batch, chosen.feature),
        place,
        images,
        accelerators=on_ray.takes_accelerators(embedder, chosen.device),
        **settings,
    )


def _remove_empty(place: str) -> None:
    """Take away the folder of a gallery that was made for images none of which came in."""
    from crossreid.gallery import Gallery

    if place.startswith("milvus:") or "://" in place:  # what is empty there may be somebody's
        return
    with Gallery.open(place, read_only=True) as gallery:
        empty = not gallery.count()
    if empty:
        shutil.rmtree(Path(place).expanduser())


def _remembered(place: str) -> str:
    """The pattern that an earlier `index --pattern` gave the gallery."""
    from crossreid.gallery import Gallery
    from crossreid.gallery.store import NoGallery

    try:
        with Gallery.open(place, read_only=True) as gallery:
            return gallery.pattern
    except NoGallery:
        return ""


def _images(chosen):
    from crossreid.gallery.indexing import listed, of_images
    from crossreid.images.timestamps import taken

    given = {name: getattr(chosen, name) for name in ("modality", "camera", "identity")}
    if chosen.source is None:
        if chosen.split:
            raise UserError("--split chooses among the splits of a data set: name the data set with --source")
        if chosen.settings:
            raise UserError(
                f"--settings.{next(iter(chosen.settings))} is for the reader of a data set: name "
                "the data set with --source"
            )
        time = None if chosen.time is None else taken(chosen.time, "--time")
        pattern = _remembered(chosen.gallery) if chosen.pattern is None else chosen.pattern
        return listed(
            chosen.images,
            **given,
            time=time,
            keep_junk=chosen.keep_junk,
            pattern=pattern,
            strict=chosen.pattern is not None,
        )
    if chosen.pattern is not None:
        raise UserError("a data set's names are read by its own reader: leave out --pattern, or --source")
    if any(given.values()) or chosen.time or len(chosen.images) > 1:
        raise UserError(
            "a data set knows the cameras, times, modalities and identities of its images: give its folder, --source "
            "and perhaps --split, and none of these"
        )
    from crossreid import data, outside

    outside.load_all(chosen.source)
    settings = {"keep_junk": True} if chosen.keep_junk else {}
    splits = data.read(chosen.source, chosen.images[0], **settings | chosen.settings)
    for name in chosen.split or ():
        if name not in splits:
            raise UserError(f"{chosen.source} has no split {name!r}: it has {', '.join(splits)}")
    return of_images({name: splits[name] for name in chosen.split or splits})
