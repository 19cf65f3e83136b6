"""Own images listed in a table: a CSV file with one line for each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crossreid.data import own
from crossreid.data.source import Source
from crossreid.images import labels, tables
from crossreid.images.listing import SUFFIXES, is_image
from crossreid.records import VISIBLE, Image, UserError


def read(
    root: Path, *, train_share: float = 0.5, seed: int = 0, keep_junk: bool = False
) -> dict[str, list[Image]]:
    """Images by split, in the order of the table.

    root: the table, or the folder that holds it as its only one. Its columns are those of
        ``crossreid.images.tables.read``; ``path``, ``identity`` and ``camera`` must be there. ``split`` is train,
        validation, query, gallery, or test, which is divided into query and gallery.
    train_share: share of the identities, chosen by ``seed``, to train on where there is no column ``split``.
    keep_junk: whether identity -1 is an identity like any other; else its images are left out.
    Raises UserError that gives the line.
    """
    table = _table(root)
    lines: dict[tuple, int] = {}
    found = []
    for line, image in tables.read(table, ("path", "identity", "camera"), VISIBLE):
        where = f"{table}, line {line}"
        _check_file(image, where)
        first = lines.setdefault((image.path, image.box), line)
        if first != line:
            box = f" with the same box {image.box}" if image.box else ""
            raise UserError(
                f"{where}: {image.extra['path']}{box} was listed on line {first} already. Remove one of the lines."
            )
        split = image.extra.get("split", "").lower()
        if "split" in image.extra and split not in own.SPLITS:
            raise UserError(
                f"{where}: split {image.extra['split']!r} is not known, expected {', '.join(own.SPLITS)}."
            )
        found.append(replace(image, extra={**image.extra, "split": split}))
    images: dict[str, list[Image]] = {}
    for image in labels.without_junk(found, str(table), keep_junk):
        images.setdefault(image.extra["split"], []).append(image)
    return own.splits_of(images, train_share, seed)


def _table(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.exists():
        raise UserError(f"the table {root} does not exist: give a CSV file, or the folder that holds one.")
    found = sorted(
        path.name for path in root.iterdir() if path.suffix.lower() in tables.SUFFIXES and path.is_file()
    )
    found = [name for name in found if name[0] != "."]
    if len(found) != 1:
        raise UserError(
            f"{root} holds {len(found)} CSV files ({', '.join(found) or 'none'}), but one was expected: "
            f"give the path of the table itself."
        )
    return root / found[0]


def _check_file(image: Image, where: str) -> None:
    if not is_image(image.path.name):
        raise UserError(
            f"{where}: {image.extra['path']!r} is not the name of an image ({', '.join(sorted(SUFFIXES))})."
        )
    if not image.path.is_file():
        raise UserError(
            f"{where}: there is no image {image.path}; paths are relative to the folder of the table."
        )


SOURCE = Source(
    name="csv",
    title="own images in a table",
    paper="",
    obtain="Your own images.",
    licence="yours",
    caveats="A CSV file in UTF-8 with a line of column names.",
    layout="""images.csv with the columns path, identity, camera
  and, if wanted, modality, split, time, x0, y0, x1, y1 and others; paths relative to the table""",
    folder="csv",
    settings=("train_share", "seed", "keep_junk"),
    read=read,
    protocol="single_query",
    remarks=own.remarks,
)
