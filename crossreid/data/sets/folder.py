"""Own images in folders: one folder for each person, or names that a pattern explains."""

from __future__ import annotations

import os
import re
from pathlib import Path

from crossreid.data import own
from crossreid.data.source import Source, folder_names, image_names
from crossreid.records import VISIBLE, Image, UserError


def read(
    root: Path,
    *,
    pattern: str | None = None,
    camera: int = 1,
    train_share: float = 0.5,
    seed: int = 0,
) -> dict[str, list[Image]]:
    """Images by split, each sorted by path.

    The folders ``train``, ``validation``, ``query`` and ``gallery`` (or ``test``, which is divided into these
    two) directly in the root are splits. Without them, the identities are divided by ``train_share`` and
    ``seed``.

    pattern: regular expression, searched in the path of each image below its split (with ``/``), with the
        named groups ``identity`` and, if wanted, ``camera`` and ``modality``. Without a pattern every
        sub-folder is a person.
    camera: of images whose path does not tell it.
    train_share: share of the identities to train on where there are no split folders; 0 none, 1 all.
    """
    expression = compiled(pattern)
    root = _descend(root, expression)
    splits = {name: name.lower() for name in folder_names(root) if name.lower() in own.SPLITS} or {"": ""}
    rows = []
    for name, split in splits.items():
        folder = root / name if name else root
        found = by_pattern(folder, expression) if expression else by_folder(folder)
        rows += [(split, *fields) for fields in found]
    if not rows:
        raise UserError(
            f"no images were found in {root}: a sub-folder for each person with images (jpg, png, bmp, "
            f"...) is expected, perhaps below train, query and gallery; found "
            f"{', '.join(os.listdir(root)) or 'nothing'}."
        )
    identities = own.numbers(row[2] for row in rows)
    cameras = own.numbers(row[3] for row in rows if row[3] is not None)
    images: dict[str, list[Image]] = {}
    for split, path, identity, seen_by, modality in rows:
        number = camera if seen_by is None else cameras[seen_by]
        images.setdefault(split, []).append(Image(path, identities[identity], number, modality))
    return own.splits_of(images, train_share, seed)


def compiled(pattern: str | None) -> re.Pattern | None:
    """The expression, once its groups are known to be the right ones."""
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"the pattern {pattern!r} is not a regular expression: {error}.") from error
    known = {"identity", "camera", "modality"}
    groups = set(expression.groupindex)
    if "identity" not in groups or groups - known:
        raise UserError(
            f"the pattern {pattern!r} has the named groups {', '.join(sorted(groups)) or '(none)'}: "
            f"(?P<identity>...) is needed, (?P<camera>...) and (?P<modality>...) are possible. For "
            f"0002_c1s1_000451_03.jpg this would do: (?P<identity>\\d+)_c(?P<camera>\\d)"
        )
    return expression


def _descend(root: Path, expression: re.Pattern | None) -> Path:
    names = folder_names(root)
    if expression or image_names(root) or len(names) != 1 or names[0].lower() in own.SPLITS:
        return root
    inner = root / names[0]
    return inner if not image_names(inner) and folder_names(inner) else root


def by_folder(folder: Path) -> list[tuple[Path, str, None, str]]:
    """Path, identity, no camera and modality of the images in the sub-folders of persons."""
    loose = image_names(folder)
    if loose:
        raise UserError(
            f"{len(loose)} images lie directly in {folder}, the first is {loose[0]}, so that nothing says "
            f"whom they show: put the images of each person into a sub-folder, or give a pattern that "
            f"finds the identity in the name, such as data.settings.pattern: "
            f"'(?P<identity>\\d+)_c(?P<camera>\\d)'."
        )
    found = []
    for name in folder_names(folder):
        person = folder / name
        images = image_names(person)
        inner = folder_names(person)
        if inner and not images:
            raise UserError(
                f"{person} holds folders ({inner[0]}, ...) and no images: images directly in the folder "
                f"of each person are expected. Give a pattern for deeper trees, such as "
                f"'(?P<camera>[^/]+)/(?P<identity>[^/]+)/'."
            )
        found += [(person / file, name, None, VISIBLE) for file in images]
    return found


def by_pattern(folder: Path, expression: re.Pattern) -> list[tuple[Path, str, str | None, str]]:
    """The same of all images below a folder, as the expression reads their paths."""
    found = []
    for path in _images_below(folder, folder.name):
        below = path.relative_to(folder).as_posix()
        match = expression.search(below)
        fields = match.groupdict() if match else {}
        if not fields.get("identity"):
            raise UserError(
                f"the pattern {expression.pattern!r} finds no identity in {below} (in {folder}): correct the "
                f"pattern, or take the image away."
            )
        word = fields.get("modality")
        modality = VISIBLE if word is None else own.modality(word, str(path))
        found.append((path, fields["identity"], fields.get("camera") or None, modality))
    return found


def _images_below(folder: Path, name: str) -> list[Path]:
    paths = [folder / file for file in image_names(folder)]
    for inner in folder_names(folder):
        paths += _images_below(folder / inner, inner)
    return paths


SOURCE = Source(
    name="folder",
    title="own images in folders",
    paper="",
    obtain="Your own images.",
    licence="yours",
    caveats="Without camera numbers the same-camera rule has to be switched off.",
    layout="""people/
  anna/any name.jpg
  bert/...
or below train/, query/ and gallery/; or any names, with a pattern""",
    folder="folder",
    settings=("pattern", "camera", "train_share", "seed"),
    read=read,
    protocol="single_query",
    remarks=own.remarks,
)
