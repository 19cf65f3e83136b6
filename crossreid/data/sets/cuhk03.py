"""CUHK03 (Li et al. 2014): five pairs of campus cameras, boxes by hand (labelled) or by a detector."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from crossreid.data import market_like
from crossreid.data.combining import everything
from crossreid.data.source import Counts, Finding, Source, deviation, find_root, strays, within
from crossreid.files import replacing
from crossreid.formats import matlab
from crossreid.images.decode import PIXEL_LIMIT
from crossreid.images.listing import image_names
from crossreid.records import Image, UserError

# boxes: (word in the authors' names, identities and images of train, query and gallery, images altogether)
BOXES = {
    "detected": ("detected", ((767, 7365), (700, 1400), (700, 5332)), 14097),
    "labelled": ("labeled", ((767, 7368), (700, 1400), (700, 5328)), 14096),
}
IDENTITIES = 1467
PERSONS_PER_PAIR = 10_000
ARCHIVES = ("cuhk03_release/cuhk-03.mat", "cuhk-03.mat")

_NAME = re.compile(r"(\d)_(\d+)_([12])_(\d+)\.png$")

log = logging.getLogger(__name__)


def read(root: Path, *, boxes: str = "detected", all_images: bool = False) -> dict[str, list[Image]]:
    """Images of the protocol with 767 training and 700 test identities (Zhong et al. 2017); cameras 1 and 2.

    Identities are numbered anew in each of the five pairs of cameras: identity is the pair times 10000 plus the
    identity's own number. Cameras 1 and 2 are the two views of any pair, as the protocol has it. A copy that is divided
    into folders already (CUHK03-NP: ``detected``, ``labeled``) has the numbers of its names.

    boxes: ``detected`` or ``labelled``.
    all_images: every image of these boxes is training data; the protocol's configuration file is not
        needed.
    Raises UserError if the images have not been taken out of ``cuhk-03.mat`` yet.
    """
    if boxes not in BOXES:
        raise UserError(f"CUHK03 has no boxes {boxes!r}: choose one of {', '.join(BOXES)}.")
    word = BOXES[boxes][0]
    handed_on = _handed_on(root, word)
    if handed_on is not None:
        splits = market_like.read(handed_on, SOURCE.title, "0001_c1_1.png")
        return everything(splits) if all_images else splits
    root = _root(root, word)
    folder = root / f"images_{word}"
    if all_images:
        images = [_image(folder, name) for name in image_names(folder)]
        if not images:
            raise UserError(f"{folder} holds no images: remove it and prepare CUHK03 again.")
        return {"train": images}
    config = root / f"cuhk03_new_protocol_config_{word}.mat"
    fields = ("filelist", "labels", "train_idx", "query_idx", "gallery_idx")
    found = matlab.read_variables(config, list(fields))
    names = [str(name.item() if name.ndim else name) for name in found["filelist"].ravel()]
    present = set(image_names(folder))
    splits = {}
    for split in ("train", "query", "gallery"):
        rows = found[f"{split}_idx"].ravel().astype(int) - 1
        if len(rows) and not (0 <= rows.min() and rows.max() < len(names)):
            raise UserError(f"{config}: {split}_idx points outside the list of files. Copy the file again.")
        wanted = [names[row] for row in rows]
        missing = [name for name in wanted if name not in present]
        if missing:
            raise UserError(
                f"{folder} lacks {len(missing)} images of the {split} split, first {missing[0]}: remove "
                "the folder and make it anew with 'crossreid data prepare cuhk03'."
            )
        splits[split] = [_image(folder, name) for name in wanted]
    trained, tested = ({image.identity for image in splits[split]} for split in ("train", "gallery"))
    if trained & tested:
        raise UserError(f"{config}: persons are both in training and in the test. Copy the file again.")
    return splits


def extract(root: Path) -> list[Path]:
    """Write the images of ``cuhk-03.mat`` as PNG to ``images_detected`` and ``images_labeled``; the two
    folders.

    Names are ``pair_person_view_column.png``, such as ``1_001_1_01.png``, all counted from 1. A folder
    appears under its name only when it is complete; after an interruption what was written is kept and the
    rest is added.

    Nothing is to be done for a copy of CUHK03-NP. Raises UserError if the file is missing or is not the data set's.
    """
    if any(_handed_on(root, word) for word, _, _ in BOXES.values()):
        return []
    archive = _archive(root)
    if archive is None:
        raise UserError(
            f"CUHK03: no {ARCHIVES[0]} was found in {root}: copy it there from the data set's archive, which "
            "holds the images in this one file."
        )
    home = archive.parent.parent if archive.parent.name == "cuhk03_release" else archive.parent
    folders = []
    for word, _, _ in BOXES.values():
        folder = home / f"images_{word}"
        if not folder.is_dir():
            _extract(archive, word, folder)
        folders.append(folder)
    return folders


def check(root: Path) -> Iterator[Finding]:
    """Both kinds of boxes are complete; labelled ones that are not there at all are only worth a warning."""
    for boxes, (word, counts, total) in BOXES.items():
        try:
            found = read(root, boxes=boxes, all_images=True)["train"]
            splits = read(root, boxes=boxes)
        except UserError as error:
            yield Finding("error" if boxes == "detected" else "warning", str(error))
            continue
        if handed_on := _handed_on(root, word):
            yield from market_like.check(handed_on, SOURCE.title, r"\d{4}_c[12]_\d+\.(png|jpg)")
        else:
            yield from strays(found[0].path.parent, _NAME)
        yield from deviation(f"images_{word}", found, IDENTITIES, total)
        for split, counted in zip(splits, counts):
            yield from deviation(f"{boxes} {split}", splits[split], *counted)


def _archive(root: Path) -> Path | None:
    for name in ARCHIVES:
        home = within(root, (name,), SOURCE.title)
        if home is not None:
            return home / name
    return None


def _handed_on(root: Path, word: str) -> Path | None:
    """The folder of these boxes in a copy that is divided as in Market-1501, if it is one."""
    parts = tuple(f"{word}/{market_like.FOLDERS[split]}" for split in ("query", "gallery"))
    home = within(root, parts, SOURCE.title)
    return home and home / word


def _root(root: Path, word: str) -> Path:
    if within(root, (f"images_{word}",), SOURCE.title) is None and _archive(root) is not None:
        raise UserError(
            f"CUHK03: the images in {root} are still inside cuhk-03.mat. Take them out once with "
            f"'crossreid data prepare cuhk03 {root}'."
        )
    return find_root(root, (f"images_{word}",), SOURCE.title)


def _image(folder: Path, name: str) -> Image:
    match = _NAME.match(name)
    if match is None:
        raise UserError(
            f"{folder / name}: names such as 1_001_1_01.png (pair, person, view, column) are expected. Remove it."
        )
    return Image(folder / name, int(match[1]) * PERSONS_PER_PAIR + int(match[2]), int(match[3]))


def _extract(archive: Path, word: str, folder: Path) -> None:
    import h5py
    import numpy as np
    from PIL import Image as PILImage
    from tqdm import tqdm

    partial = folder.with_name(f"{folder.name}.partial")
    try:
        file = h5py.File(archive, "r")
    except OSError as error:
        raise UserError(
            f"{archive} is not a MATLAB file of version 7.3 ({error}): it is damaged or something else; copy "
            "it again from the data set's archive."
        ) from error
    with file:
        try:
            pairs = [np.asarray(file[reference]).T for reference in np.asarray(file[word]).ravel()]
            cells = [
                (pair, person, column, reference)
                for pair, persons in enumerate(pairs, 1)
                for (person, column), reference in np.ndenumerate(persons)
            ]
            if not all(isinstance(reference, h5py.Reference) for *_, reference in cells):
                raise ValueError("the cells hold no references")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{archive} has no variable {word!r} with images for each pair of cameras ({error}): copy "
                "it again from the data set's archive."
            ) from error
        partial.mkdir(exist_ok=True)
        done = set(os.listdir(partial))
        for pair, person, column, reference in tqdm(
            cells, desc=f"CUHK03 {word}", unit="image", disable=None, leave=False
        ):
            name = f"{pair}_{person + 1:03d}_{1 if column < 5 else 2}_{column + 1:02d}.png"
            if name in done:
                continue
            cell = file[reference]
            if cell.size > PIXEL_LIMIT:
                raise UserError(
                    f"{archive}: the image {name} would have {cell.size} numbers: the file is damaged"
                )
            pixels = np.asarray(cell).T
            if pixels.ndim < 3 or pixels.size == 0:
                continue  # an empty cell: fewer than five images in this view
            with replacing(partial / name) as temporary:
                PILImage.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(temporary, format="PNG")
    for leftover in partial.glob(".*.part"):
        leftover.unlink()
    os.replace(partial, folder)
    log.info("CUHK03: wrote %s", folder)


SOURCE = Source(
    name="cuhk03",
    title="CUHK03",
    paper="Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014; "
    "protocol: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017",
    obtain="Its authors hand it out on request, for research only; the two configuration files come with "
    "the code of Zhong et al.",
    licence="research only",
    address="http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
    paper_address="https://arxiv.org/abs/1701.08398",
    caveats="The images come inside cuhk-03.mat; take them out once with 'crossreid data prepare cuhk03'. "
    "Configuration files: https://github.com/zhunzhong07/person-re-ranking/tree/master/evaluation/data/CUHK03. "
    "Divided copies, CUHK03-NP: https://github.com/zhunzhong07/person-re-ranking/tree/master/CUHK03-NP.",
    layout="""cuhk03/
  cuhk03_release/cuhk-03.mat
  cuhk03_new_protocol_config_detected.mat  cuhk03_new_protocol_config_labeled.mat
  images_detected/1_001_1_01.png  images_labeled/   (made from cuhk-03.mat)
or CUHK03-NP/
  detected/bounding_box_train/0001_c1_1.png  detected/bounding_box_test/  detected/query/
  labeled/ ...""",
    folder="cuhk03",
    settings=("boxes", "all_images"),
    prepare=extract,
    read=read,
    protocol="single_query",
    expected={
        split: Counts(identities, images, 2)
        for split, (identities, images) in zip(("train", "query", "gallery"), BOXES["detected"][1])
    },
    check=check,
)
