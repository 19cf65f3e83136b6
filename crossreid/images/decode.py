"""Images of every usual kind as (height, width, 3) uint8 RGB, and a plain word about those that are not.

Needs numpy and Pillow only; a plain JPEG is decoded by simplejpeg where that is installed, to the same pixels.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from crossreid import files
from crossreid.images import arrays, memory
from crossreid.records import UserError

# Pillow opens many more formats, some of which run other programs (EPS) or have seen little hostile input.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
# A small file can unpack to gigabytes, so the header is asked before anything is decoded.
PIXEL_LIMIT = 80_000_000
BYTE_LIMIT = 2**28
# A progressive JPEG is gone through once for each of its scans, of which programs write about ten.
SCAN_LIMIT, WORK_LIMIT = 100, 2_000_000_000
# What one image may take to decode, and what all threads of the process may take together.
MEMORY_LIMIT = 2**30
# At the height of decoding, measured; the coefficients of a progressive JPEG are what takes most.
BYTES_PER_PIXEL = {"JPEG": 10, "MPO": 10, "WEBP": 16}
BAND_PIXELS = 2_000_000


def decode(
    source, *, limit_pixels: int = PIXEL_LIMIT, limit_bytes: int = BYTE_LIMIT, name: str | None = None
) -> np.ndarray:
    """The pixels of one image, (H, W, 3) uint8 RGB.

    source: a path, the bytes of a file, a binary file object, a Pillow image, or an array or tensor of
        ``crossreid.images.arrays.checked``, red first.
    limit_pixels, limit_bytes: larger images are refused, by their header, before they are decoded.
    name: what errors call an image that has no path.

    The EXIF orientation is applied. Grey, palettes, 1-bit and CMYK become RGB by Pillow's plain formulas, without
    colour profiles (a CMYK JPEG is taken as inverted, as Adobe and the browsers do). 16-bit grey is scaled as
    ``crossreid.images.arrays.grey16`` says; of 16-bit colour the upper 8 are kept.
    What is transparent is laid on white. Of an animation or a file of several pages the first image is taken.
    Raises UserError naming the image: unreadable, truncated, too large, too laborious, of another format, or of float
    values.
    """
    with frame(source, limit_pixels=limit_pixels, limit_bytes=limit_bytes, name=name) as pixels:
        return pixels


@contextmanager
def frame(
    source, *, limit_pixels: int = PIXEL_LIMIT, limit_bytes: int = BYTE_LIMIT, name: str | None = None
) -> Iterator[np.ndarray]:
    """``decode`` for threads that decode many images at once: what the image takes in memory counts while the block
    runs, and large ones wait until others have made room."""
    if isinstance(source, np.ndarray) or arrays.is_tensor(source):
        yield arrays.checked(source)
        return
    if isinstance(source, PILImage.Image):
        name = name or getattr(source, "filename", "") or "the given image"
        _check_size(source.size, limit_pixels, name)
        with memory.room(_cost(source)):
            with _refusing(name):
                pixels = _turned(_rgb(source, name), _orientation(source))
            yield pixels
        return
    content, name = _content(source, limit_bytes, name)
    fast = _jpeg_cost(content, limit_pixels)
    if fast is not None:
        with memory.room(fast):
            array = _decode_jpeg(content)
            if array is not None:
                yield array
                return
    with _refusing(name):
        image = PILImage.open(io.BytesIO(content), formats=FORMATS)
        _check_size(image.size, limit_pixels, name)
        if image.format in ("JPEG", "MPO"):
            _check_scans(content, image.size, name)
        cost = _cost(image)
        if cost > MEMORY_LIMIT:
            raise UserError(
                f"{name}: has {image.width} x {image.height} pixels, which would take {cost / 2**30:.1f} GiB to decode "
                f"from {image.format}; expected a photograph: shrink the image, or leave it out"
            )
    with memory.room(cost):
        with _refusing(name):
            pixels, orientation = _rgb(image, name), _orientation(image)
            image.close()
            pixels = _turned(pixels, orientation)
        yield pixels


def check(
    source: str | Path | bytes,
    *,
    limit_pixels: int = PIXEL_LIMIT,
    limit_bytes: int = BYTE_LIMIT,
    name: str = "",
) -> None:
    """Raise the UserError that ``decode`` would, as far as the beginning of the file, or of its bytes, can tell; takes
    well under a millisecond. A file that breaks off later passes."""
    name = name or str(source)
    opened = io.BytesIO(source) if isinstance(source, bytes) else files.opened(source)
    with _refusing(name), opened as file:
        _check_bytes(_length(file), limit_bytes, name)
        with PILImage.open(file, formats=FORMATS) as image:
            _check_size(image.size, limit_pixels, name)
            _check_mode(image.mode, name)


def crop(array: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The part of (H, W, 3) that a box (left, top, right, bottom) in pixels shows, a view.

    Edges are rounded, and a box that reaches over the edge of the frame ends there.
    Raises UserError for a box that is not four finite numbers, is empty, or lies outside.
    """
    left, top, right, bottom = edges(box)
    height, width = array.shape[:2]
    if right <= left or bottom <= top:
        raise UserError(
            f"the box {_words(box)} is empty: expected (left, top, right, bottom) in pixels, left before right and "
            "top before bottom; boxes given as (left, top, width, height) are turned into that by adding"
        )
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise UserError(
            f"the box {_words(box)} lies outside of the frame, which is {width} x {height}: expected (left, top, "
            "right, bottom) in pixels of the frame as it is shown, after its EXIF rotation"
        )
    return array[max(top, 0) : bottom, max(left, 0) : right]


def edges(box: Sequence[float]) -> tuple[int, int, int, int]:
    """The four edges of a box in whole pixels. Raises UserError when they are not four finite numbers."""
    try:
        left, top, right, bottom = (round(float(edge)) for edge in box)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"the box {_words(box)} was not understood: expected four numbers, (left, top, right, bottom) in pixels"
        ) from error
    return left, top, right, bottom


def content_key(array: np.ndarray, box: Sequence[float] | None = None) -> str:
    """A hex SHA-256 of what an image shows, and of the box that is looked at.

    The same pixels have the same key whatever file or format they came from, as long as it is lossless. Decoders of
    JPEG may differ by a grey level between versions, and then the key differs.
    """
    array = np.ascontiguousarray(arrays.checked(array))
    digest = hashlib.sha256(repr((array.shape, None if box is None else edges(box))).encode())
    digest.update(array.data)
    return digest.hexdigest()


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turns whatever Pillow's decoders raise for damaged files, which is nearly anything, into a UserError."""
    try:
        yield
    except UserError:
        raise
    except PILImage.DecompressionBombError as error:
        raise UserError(
            f"{name}: has too many pixels to be opened safely ({error}); expected a photograph: shrink the image, or "
            "leave it out"
        ) from error
    except Exception as error:
        reason = (
            f"it is none of {', '.join(FORMATS)}, or its beginning is damaged"
            if isinstance(error, UnidentifiedImageError)
            else files.reason_of(error)
        )
        raise UserError(
            f"{name}: is not a readable image ({reason}); restore the file, save it again as JPEG or PNG, or leave it "
            "out"
        ) from error


def _content(source, limit: int, name: str | None) -> tuple[bytes, str]:
    """The bytes of the file, and what to call it."""
    if isinstance(source, (str, Path)) or hasattr(source, "as_posix"):
        name = str(source)
        with _refusing(name), files.opened(source) as file:
            _check_bytes(_length(file), limit, name)
            return file.read(), name
    if isinstance(source, (bytes, bytearray, memoryview)):
        name = name or f"the given image of {len(source)} bytes"
        _check_bytes(len(source), limit, name)
        return bytes(source), name
    if hasattr(source, "read"):
        name = name or str(getattr(source, "name", "") or "the given image")
        with _refusing(name):
            content = source.read(limit + 1)
        if not isinstance(content, bytes):
            raise UserError(f"{name}: was opened as text; open it in binary, with open(path, 'rb')")
        _check_bytes(len(content), limit, name)
        return content, name
    raise UserError(
        f"an image was given as {type(source).__name__}: expected a path, the bytes of a file, a Pillow image, or "
        "an array of (height, width, 3) uint8, red first"
    )


def _length(file: BinaryIO) -> int:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    return length


def _check_bytes(count: int, limit: int, name: str) -> None:
    if count > limit:
        raise UserError(
            f"{name}: the file has {count / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB allowed; expected a "
            "photograph: shrink the image, or leave it out"
        )
    if count == 0:
        raise UserError(f"{name}: the file is empty; restore it, or leave it out")


def _check_size(size: tuple[int, int], limit: int, name: str) -> None:
    width, height = size
    if width * height > limit:
        raise UserError(
            f"{name}: has {width} x {height} pixels, more than the {limit} allowed; expected a photograph: shrink the "
            "image, or leave it out"
        )


def _check_mode(mode: str, name: str) -> None:
    if mode == "F":
        raise UserError(
            f"{name}: holds floating point numbers, of which nothing says what is black and what is white; scale it "
            "to whole numbers from 0 to 255 and save it again as PNG"
        )


def _rgb(image: PILImage.Image, name: str) -> np.ndarray:
    """The pixels as they lie in the file, brought to RGB in bands, so that no second whole image is ever held."""
    image.load()
    _check_mode(image.mode, name)
    if image.mode.startswith("I"):
        return _grey(np.asarray(image))
    width, height = image.size
    rows = max(1, BAND_PIXELS // max(width, 1))
    if rows >= height:
        return _band(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        below = min(top + rows, height)
        pixels[top:below] = _band(image.crop((0, top, width, below)))
    return pixels


def _band(image: PILImage.Image) -> np.ndarray:
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data or image.mode == "RGBa":
        ground = PILImage.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: PILImage.Image) -> int:
    """What EXIF says of how the camera was held, 1 to 8."""
    return image.getexif().get(0x0112, 1)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the orientation."""
    turns = {
        2: lambda array: array[:, ::-1],
        3: lambda array: array[::-1, ::-1],
        4: lambda array: array[::-1],
        5: lambda array: array.transpose(1, 0, 2),
        6: lambda array: np.rot90(array, -1),
        7: lambda array: array[::-1, ::-1].transpose(1, 0, 2),
        8: lambda array: np.rot90(array),
    }
    turn = turns.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _grey(values: np.ndarray) -> np.ndarray:
    """16-bit grey as RGB."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"its values go from {values.min()} to {values.max()}, but whole numbers from 0 to 65535 were expected"
        )
    return np.repeat(arrays.grey16(values.astype(np.uint16))[:, :, None], 3, axis=2)


# Work and memory that an image asks for


def _cost(image: PILImage.Image) -> int:
    """Bytes that decoding takes at its height: what Pillow holds, what its decoder holds, and the array."""
    return image.width * image.height * BYTES_PER_PIXEL.get(image.format or "", 8)


def _scans(content: bytes) -> int:
    """How often the whole image is gone through in a JPEG. Markers of scans occur in no compressed data; a small copy
    of the image in the header adds its own."""
    return content.count(b"\xff\xda")


def _check_scans(content: bytes, size: tuple[int, int], name: str) -> None:
    scans, (width, height) = _scans(content), size
    if scans > SCAN_LIMIT or scans * width * height > WORK_LIMIT:
        raise UserError(
            f"{name}: is a JPEG of {width} x {height} pixels in {scans} scans, far more than any camera or program "
            "writes; expected a photograph: save the image again, or leave it out"
        )


def _jpeg_cost(content: bytes, limit: int) -> int | None:
    """Bytes that decoding takes with simplejpeg, where that is installed and the file is a plain JPEG; else None.

    Both it and Pillow use libjpeg-turbo with the exact inverse transform and smooth chroma, so pixels are equal;
    whatever is out of the ordinary (EXIF orientation, CMYK, damage, size) is left to Pillow.
    """
    decoder = _simplejpeg()
    if decoder is None or content[:2] != b"\xff\xd8" or b"Exif\0" in content:
        return None
    try:
        height, width, colour, subsampling = decoder.decode_jpeg_header(content)
    except ValueError:
        return None
    scans = _scans(content)
    if height * width > limit or scans > SCAN_LIMIT or scans * height * width > WORK_LIMIT:
        return None
    if colour != "Gray" and (colour != "YCbCr" or subsampling not in ("444", "422", "420")):
        return None
    return height * width * (3 if scans <= 1 else 9)


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    try:
        return _simplejpeg().decode_jpeg(content, "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None


@functools.cache
def _simplejpeg():
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def _words(box) -> str:
    try:
        return f"({', '.join(f'{float(edge):g}' for edge in box)})"
    except (TypeError, ValueError):
        return repr(box)
