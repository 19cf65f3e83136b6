"""Images of every usual kind as (height, width, 3) uint8 RGB, and a plain word about those that are not.

Needs numpy and Pillow only; a plain JPEG is decoded by simplejpeg where that is installed, to the same pixels.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from crossreid.records import UserError

# Pillow opens many more formats, some of which run other programs (EPS) or have seen little hostile input.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
# A small file can unpack to gigabytes, so the header is asked before anything is decoded.
PIXEL_LIMIT = 80_000_000
BYTE_LIMIT = 2**28


def decode(
    source, *, limit_pixels: int = PIXEL_LIMIT, limit_bytes: int = BYTE_LIMIT, name: str | None = None
) -> np.ndarray:
    """The pixels of one image, (H, W, 3) uint8 RGB.

    source: a path, the bytes of a file, a binary file object, a Pillow image, or an array that is (H, W, 3) uint8
        RGB already.
    limit_pixels, limit_bytes: larger images are refused, by their header, before they are decoded.
    name: what errors call an image that has no path.

    The EXIF orientation is applied. Grey, palettes, 1-bit and CMYK become RGB by Pillow's plain formulas, without
    colour profiles (a CMYK JPEG is taken as inverted, as Adobe and the browsers do). Of 16 bits the upper 8 are kept.
    What is transparent is laid on white. Of an animation or a file of several pages the first image is taken.
    Raises UserError naming the image: unreadable, truncated, too large, of another format, or of float values.
    """
    if isinstance(source, np.ndarray):
        return _checked(source)
    if isinstance(source, PILImage.Image):
        name = name or getattr(source, "filename", "") or "the given image"
        with _refusing(name):
            _check_size(source.size, limit_pixels, name)
            return _rgb(source, name)
    content, name = _content(source, limit_bytes, name)
    fast = _decode_jpeg(content, limit_pixels)
    if fast is not None:
        return fast
    with _refusing(name), PILImage.open(io.BytesIO(content), formats=FORMATS) as image:
        _check_size(image.size, limit_pixels, name)
        return _rgb(image, name)


def check(path: str | Path, *, limit_pixels: int = PIXEL_LIMIT, limit_bytes: int = BYTE_LIMIT) -> None:
    """Raise the UserError that ``decode`` would, as far as the beginning of the file can tell; takes well under a
    millisecond. A file that breaks off later passes."""
    name = str(path)
    with _refusing(name), _opened(path) as file:
        _check_bytes(os.fstat(file.fileno()).st_size, limit_bytes, name)
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
    array = np.ascontiguousarray(_checked(array))
    digest = hashlib.sha256(repr((array.shape, None if box is None else edges(box))).encode())
    digest.update(array.data)
    return digest.hexdigest()


class _refusing:
    """Turns whatever Pillow's decoders raise for damaged files, which is nearly anything, into a UserError."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return
        if isinstance(error, PILImage.DecompressionBombError):
            raise UserError(
                f"{self.name}: has too many pixels to be opened safely ({error}); expected a photograph: shrink the "
                "image, or leave it out"
            ) from error
        reason = (
            f"it is none of {', '.join(FORMATS)}, or its beginning is damaged"
            if isinstance(error, UnidentifiedImageError)
            else " ".join(str(error).split()) or type(error).__name__
        )
        raise UserError(
            f"{self.name}: is not a readable image ({reason}); restore the file, save it again as JPEG or PNG, or "
            "leave it out"
        ) from error


def _content(source, limit: int, name: str | None) -> tuple[bytes, str]:
    """The bytes of the file, and what to call it."""
    if isinstance(source, (str, Path)):
        name = str(source)
        # Unbuffered: the file is read in one go, and training reads many small ones.
        with _refusing(name), _opened(source, buffering=0) as file:
            _check_bytes(os.fstat(file.fileno()).st_size, limit, name)
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


def _opened(path, buffering: int = -1):
    try:
        return open(path, "rb", buffering)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}); check the path, and whether you may read it"
        ) from error


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


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(
            f"an image given as an array has shape {array.shape} and type {array.dtype}: expected (height, width, 3) "
            "uint8, red first"
        )
    # Views such as frame[:, :, ::-1], the usual way from OpenCV's blue-first order, have steps torch does not take.
    return array if min(array.strides) > 0 else np.ascontiguousarray(array)


def _rgb(image: PILImage.Image, name: str) -> np.ndarray:
    _check_mode(image.mode, name)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _upper_bits(np.asarray(image))
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data or image.mode == "RGBa":
        ground = PILImage.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return np.array(image.convert("RGB"))


def _upper_bits(values: np.ndarray) -> np.ndarray:
    """16-bit grey as RGB, 65535 being white; the upper byte, as Pillow does with 16-bit colour."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"its values go from {values.min()} to {values.max()}, but whole numbers from 0 to 65535 were expected"
        )
    return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)


def _decode_jpeg(content: bytes, limit: int) -> np.ndarray | None:
    """Decode a plain JPEG with simplejpeg where that is installed, else None.

    Both it and Pillow use libjpeg-turbo with the exact inverse transform and smooth chroma, so pixels are equal;
    whatever is out of the ordinary (EXIF orientation, CMYK, damage, size) is left to Pillow.
    """
    decoder = _simplejpeg()
    if decoder is None or content[:2] != b"\xff\xd8" or b"Exif\0" in content:
        return None
    try:
        height, width, colour, subsampling = decoder.decode_jpeg_header(content)
        if height * width > limit or colour not in ("YCbCr", "Gray"):
            return None
        if colour == "YCbCr" and subsampling not in ("444", "422", "420"):
            return None
        return decoder.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False)
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
