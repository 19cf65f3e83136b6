"""Work done once for each copy of a data set: cutting out, unpacking and decoding images."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from crossreid.data import split_files
from crossreid.data.prepared import array_of, folder_of, name_of
from crossreid.data.sets import sysu_mm01
from crossreid.files import clear_leftovers, replacing, write_json
from crossreid.images.reading import ahead, bar, cut
from crossreid.images.resize import fit
from crossreid.records import Image, UserError


def prepare(
    name: str,
    root: str | os.PathLike,
    *,
    size: tuple[int, int] = (288, 144),
    interpolation: str | None = None,
    **settings,
) -> Path:
    """Prepare a copy of a data set and return the file or folder that is new.

    SYSU-MM01 gets its resized arrays in the originals' format. Any other data set gets what it needs to be read
    (``Source.prepare``) and, where ours are generated, the file of its splits; then its training images are decoded
    into one array.

    size: height and width in pixels.
    interpolation: bilinear (the default), bicubic or lanczos (the default for SYSU-MM01, as in the
        originals).
    settings: of the reader, such as all_images; they choose the images.
    """
    from crossreid import data

    if min(size) < 1:
        raise UserError(
            f"the size is {size[0]} {size[1]}: expected height and width in pixels, such as 256 128"
        )
    folder = folder_of(root)
    root = Path(root).expanduser()
    if name == "sysu_mm01":
        if interpolation not in (None, "lanczos") or settings:
            raise UserError(
                "the arrays of SYSU-MM01 are always of all training identities, resized by lanczos."
            )
        return sysu_arrays(root, size=size)
    source = data.get(name)
    if source.prepare is not None:
        source.prepare(root)
    split_files.keep(source, root)
    return write_array(training_images(name, root, **settings), folder, size, interpolation or "bilinear")


def training_images(name: str, root: Path, **settings) -> list[Image]:
    """Images of the training and validation splits, each once; of all folds unless ``fold`` is given."""
    from crossreid import data

    folds: Iterable[dict] = ({},)
    if data.get(name).takes("fold") and "fold" not in settings:
        folds = ({"fold": fold} for fold in range(1, split_files.SPLITS + 1))
    images: dict[tuple, Image] = {}
    for fold in folds:
        splits = data.read(name, root, **settings, **fold)
        images |= {
            (image.path, image.array_index, image.box): image
            for split in ("train", "validation")
            for image in splits.get(split, [])
        }
    return list(images.values())


def write_array(
    images: Sequence[Image], root: Path, size: tuple[int, int], interpolation: str = "bilinear"
) -> Path:
    """Decode, cut out and resize images into one array below ``root``, which ``prepared.rows`` then finds.

    The array is uint8 of shape (images, height, width, 3); a JSON file beside it says which row is which
    image. Training with that size and interpolation sees the very same pixels with it as without it.

    images: with paths below ``root``, perhaps in tars there, and perhaps boxes; no rows of another array.
    Returns the path of the array. Either both files are complete or neither is there.
    """

    array, index = array_of(root, size, interpolation)
    names = [name_of(image, root) for image in images]
    if not names:
        raise UserError(f"there are no training images in {root} to prepare: check the copy.")
    # The index goes first: an array without its index is never used.
    index.unlink(missing_ok=True)
    clear_leftovers(array)
    with replacing(array) as temporary:
        _fill(temporary, images, size, interpolation, root.name)
    write_json(index, {"size": list(size), "interpolation": interpolation, "images": names})
    return array


def sysu_arrays(root: Path, *, size: tuple[int, int] = (288, 144)) -> Path:
    """Write the four arrays of SYSU-MM01's 395 training identities as DDAG, AGW and their ports read them.

    ``train_rgb_resized_img.npy`` and ``train_ir_resized_img.npy`` hold uint8 RGB of shape (images, height,
    width, 3), resized by Pillow's Lanczos filter; the two ``_label.npy`` hold int64 positions of the
    identities in sorted order. Images are in order of identity, camera and file name. Either all four are
    new or none is.

    Returns the folder they are in.
    """
    root = sysu_mm01.find(root)
    images = sysu_mm01.read(root)["train"]
    label = {
        identity: position for position, identity in enumerate(sorted({image.identity for image in images}))
    }
    with ExitStack() as files:
        for modality, names in sysu_mm01.PREPARED.items():
            chosen = [image for image in images if image.modality == modality]
            clear_leftovers(root / names[0])
            array, labels = (files.enter_context(replacing(root / name)) for name in names)
            _fill(array, chosen, size, "lanczos", f"SYSU-MM01 {modality}")
            with open(labels, "wb") as file:
                np.save(file, np.array([label[image.identity] for image in chosen], dtype=np.int64))
    return root


def _fill(path: Path, images: Sequence[Image], size: tuple[int, int], interpolation: str, title: str) -> None:
    def resized(frame: np.ndarray, image: Image) -> np.ndarray:
        return fit(cut(frame, image), size, interpolation)

    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(images), *size, 3))
    _reserve(path)
    with bar(title, len(images), leave=False) as progress:
        for row, (_, shown) in enumerate(ahead(images, resized)):
            if isinstance(shown, UserError):
                raise shown
            array[row] = shown
            progress.update(1)
    array.flush()


def _reserve(path: Path) -> None:
    """Take the file's room on the disk now: a map that outgrows the disk while written kills the process."""
    with open(path, "r+b") as file:
        wanted = os.path.getsize(path)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, wanted)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise UserError(
                    f"{path.parent} has no room for the {wanted / 2**30:.1f} GiB of prepared images: free "
                    "some, or prepare a smaller size."
                ) from error
