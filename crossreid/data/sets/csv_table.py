"""Own images listed in a table: a CSV file with one line for each image, or a Lance data set with a row for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crossreid.data import own
from crossreid.data.source import Source
from crossreid.files import is_address
from crossreid.images import labels, lance, tables, tars
from crossreid.images.listing import SUFFIXES, is_hidden, is_image, name_of
from crossreid.records import VISIBLE, Image, UserError, by_key


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
    there: set[Path] = set()
    found, missing = [], []
    for line, image in tables.read(table, ("path", "identity", "camera"), VISIBLE):
        where = f"{table}, line {line}"
        if not _is_there(image, where, there):
            missing.append((line, image.path))
        first = lines.setdefault((image.path, image.array_index, image.box), line)
        if first != line:
            box = f" with the same box {image.box}" if image.box else ""
            raise UserError(
                f"{where}: {name_of(image)}{box} was listed on line {first} already. Remove one of the lines."
            )
        split = image.extra.get("split", "").lower()
        if "split" in image.extra and split not in own.SPLITS:
            raise UserError(
                f"{where}: split {image.extra['split']!r} is not known, expected {', '.join(own.SPLITS)}."
            )
        found.append(replace(image, extra={**image.extra, "split": split}))
    if missing:
        line, path = missing[0]
        more = f", nor are {len(missing) - 1} others of the {len(found)} listed" if missing[1:] else ""
        raise UserError(
            f"{table}, line {line}: there is no image {path}{more}; paths are relative to the folder of the table. "
            "Correct the paths, or remove the lines."
        )
    images = labels.without_junk(found, str(table), keep_junk)
    return own.splits_of(by_key((image.extra["split"], image) for image in images), train_share, seed)


def _table(root: Path) -> Path:
    if is_address(root) or root.is_file() or root.suffix.lower() == lance.SUFFIX:
        return root
    if not root.exists():
        raise UserError(f"the table {root} does not exist: give a CSV file, or the folder that holds one.")
    shown = [path for path in root.iterdir() if not is_hidden(path.name)]
    found = sorted(path.name for path in shown if path.suffix.lower() in tables.SUFFIXES and path.is_file())
    if not found and any(path.suffix.lower() == tars.SUFFIX for path in shown):
        raise UserError(
            f"{root} holds tars and no table that says where in them the images are: make one with `crossreid data "
            f"index {root}`"
        )
    if len(found) != 1:
        raise UserError(
            f"{root} holds {len(found)} CSV files ({', '.join(found) or 'none'}), but one was expected: "
            f"give the path of the table itself."
        )
    return root / found[0]


def _is_there(image: Image, where: str, there: set[Path]) -> bool:
    """there: files that were found, to which those of a table are added; files elsewhere are not looked for."""
    if image.path in there or is_address(image.path):
        return True
    if image.array_index is not None and image.path.exists():
        there.add(image.path)
        return True
    if image.array_index is None and not is_image(image.path.name):
        raise UserError(
            f"{where}: {image.extra['path']!r} is not the name of an image ({', '.join(sorted(SUFFIXES))})."
        )
    return image.path.is_file()


SOURCE = Source(
    name="csv",
    title="own images in a table",
    paper="",
    obtain="Your own images.",
    licence="yours",
    caveats="A CSV file in UTF-8 with a line of column names, or a Lance data set with such columns.",
    layout="""images.csv with the columns path, identity, camera
  and, if wanted, modality, split, time, x0, y0, x1, y1 and others; paths relative to the table;
with the column offset, images in tars (crossreid data index)""",
    folder="csv",
    settings=("train_share", "seed", "keep_junk"),
    read=read,
    protocol="single_query",
    remarks=own.remarks,
    at_address=True,
)
