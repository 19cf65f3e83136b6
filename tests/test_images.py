"""Images of every kind, made on the fly, become what a viewer would show, or are refused by name."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image as PILImage

from crossreid.images import decode as decoding
from crossreid.images.decode import content_key, crop, decode
from crossreid.records import UserError

COLOURS = np.array(
    [[[250, 10, 20], [20, 240, 30]], [[10, 30, 230], [240, 230, 10]], [[128, 128, 128], [0, 0, 0]]], np.uint8
)


def blocks(scale=8):
    """(3 scale, 2 scale, 3): six flat colours, no two alike, so that any turn and any mix-up shows."""
    return COLOURS.repeat(scale, 0).repeat(scale, 1)


def stored(array_or_image, kind, **options) -> bytes:
    image = (
        array_or_image if isinstance(array_or_image, PILImage.Image) else PILImage.fromarray(array_or_image)
    )
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(left, right):
    assert left.shape == right.shape and left.dtype == right.dtype == np.uint8
    return np.abs(left.astype(int) - right).max()


# From anywhere


def test_every_source_gives_the_same_pixels(tmp_path):
    path, content = tmp_path / "a.png", stored(blocks(), "PNG")
    path.write_bytes(content)
    for source in (path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert difference(decode(source), blocks()) == 0
    with open(path, "rb") as file:
        assert difference(decode(file), blocks()) == 0
    with PILImage.open(path) as opened:
        assert difference(decode(opened), blocks()) == 0
    assert difference(decode(blocks()), blocks()) == 0


def test_arrays_turned_from_blue_first_can_go_to_torch():
    torch = pytest.importorskip("torch")
    turned = decode(blocks()[:, :, ::-1])
    assert (torch.from_numpy(turned).numpy() == blocks()[:, :, ::-1]).all()


def test_what_is_no_image_is_refused(tmp_path):
    for wrong in (blocks()[:, :, :2], blocks().astype(float), blocks()[:0], np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(UserError, match=r"expected .height, width, 3. uint8"):
            decode(wrong)
    for wrong in (None, 3, [blocks()]):
        with pytest.raises(UserError, match="expected a path"):
            decode(wrong)
    with pytest.raises(UserError, match="binary"):
        decode(io.StringIO("text"))
    with pytest.raises(UserError, match=r"nothing.jpg: cannot be opened"):
        decode(tmp_path / "nothing.jpg")
    with pytest.raises(UserError, match="cannot be opened"):
        decode(tmp_path)


# Every kind


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_formats_without_loss(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert difference(decode(stored(blocks(), kind, **options)), blocks()) == 0


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(mode, progressive, fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    shown = PILImage.fromarray(blocks(16)).convert(mode)
    content = stored(shown, "JPEG", quality=98, subsampling=0, progressive=progressive)
    assert difference(decode(content), np.array(shown.convert("RGB"))) < 12
    if mode == "CMYK":
        assert b"Adobe" in content and difference(decode(content), blocks(16)) < 12


def test_the_two_jpeg_decoders_agree(monkeypatch):
    pytest.importorskip("simplejpeg")
    content = stored(np.random.default_rng(0).integers(0, 256, (61, 37, 3), np.uint8), "JPEG")
    fast = decode(content)
    assert decoding._jpeg_cost(content, 10**6) is not None
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    assert difference(decode(content), fast) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes_of_pillow(mode):
    shown = PILImage.fromarray(blocks()).convert(mode)
    assert difference(decode(shown), np.array(shown.convert("RGB"))) == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP", "GIF"])
def test_one_bit(kind):
    bits = np.indices((12, 9)).sum(0) % 3 == 0
    found = decode(stored(PILImage.fromarray(bits), kind))
    assert difference(found, bits[:, :, None].repeat(3, 2).astype(np.uint8) * 255) == 0


def png(width, height, depth, colour, rows: bytes) -> bytes:
    """A PNG made by hand, for what Pillow does not write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 200).astype(np.uint16).reshape(20, 10)
    # Half a percent at either end is black and white: one pixel of 200.
    low, high = int(values.ravel()[1]), int(values.ravel()[-2])
    scaled = np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255
    expected = np.floor(scaled + 0.5).astype(np.uint8)[:, :, None].repeat(3, 2)
    assert expected.min() == 0 and expected.max() == 255
    for kind in ("PNG", "TIFF", "PPM"):
        assert difference(decode(stored(values, kind)), expected) == 0
    assert difference(decode(PILImage.fromarray(values)), expected) == 0
    assert difference(decode(PILImage.fromarray(values.astype(np.int32))), expected) == 0
    colour = np.stack([values, values[::-1], values // 2], 2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    assert difference(decode(png(10, 20, 16, 2, rows)), (colour >> 8).astype(np.uint8)) == 0


def test_numbers_without_a_scale_are_refused():
    for values in (
        np.zeros((4, 4), np.float32),
        np.full((4, 4), 70000, np.int32),
        np.full((4, 4), -1, np.int32),
    ):
        with pytest.raises(UserError, match=r"0 to 255|0 to 65535"):
            decode(PILImage.fromarray(values))
        with pytest.raises(UserError, match=r"float.tif: .*(0 to 255|0 to 65535)"):
            decode(stored(values, "TIFF"), name="float.tif")


def test_transparency_is_laid_on_white():
    alpha = np.linspace(0, 255, 24 * 16).astype(np.uint8).reshape(24, 16)
    share = alpha[:, :, None] / 255
    expected = np.round(blocks() * share + 255 * (1 - share)).astype(np.uint8)
    content = stored(np.dstack([blocks(), alpha]), "PNG")
    assert difference(decode(content), expected) <= 1
    assert difference(decode(stored(np.dstack([blocks(), alpha]), "TIFF")), expected) <= 1
    grey = PILImage.merge("LA", [PILImage.new("L", (16, 24), 40), PILImage.fromarray(alpha)])
    on_white = np.round(40 * share + 255 * (1 - share)).astype(np.uint8).repeat(3, 2)
    for kind in ("PNG", "TIFF"):
        assert difference(decode(stored(grey, kind)), on_white) <= 1
    assert difference(decode(grey.convert("La")), on_white) <= 6
    # A colour of the palette, or one colour, that counts as transparent.
    for shown in (PILImage.fromarray(blocks()).quantize(6), PILImage.fromarray(blocks()[:, :, 0])):
        for kind in ("PNG", "GIF"):
            found = decode(stored(shown, kind, transparency=shown.getpixel((0, 0))))
            assert (found[:8, :8] == 255).all() and (found[8:, 8:] != 255).any()


def test_the_first_image_of_several_is_taken():
    frames = [PILImage.fromarray(blocks()[::step]) for step in (1, -1, 1)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = stored(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        with PILImage.open(io.BytesIO(content)) as opened:
            assert opened.n_frames == 3
        assert difference(decode(content), blocks()) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(kind, orientation):
    upright = blocks(16)
    # What a camera stores, so that the named turn makes it upright again.
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    content = stored(np.ascontiguousarray(undo(upright)), kind, exif=exif, **options)
    assert difference(decode(content), upright) < 12
    if kind != "TIFF":  # of which Pillow turns the opened image itself
        with PILImage.open(io.BytesIO(content)) as opened:
            assert difference(decode(opened), upright) < 12


# Damaged and enormous


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_truncated_files_are_refused(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    content = stored(noise, kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        path = tmp_path / f"cut{share}.x"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=r"cut.*: is not a readable image") as error:
            decode(path)
        assert "\n" not in str(error.value) and "BytesIO" not in str(error.value)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of odd tags
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_damaged_bytes_never_end_in_anything_but_an_image_or_a_user_error(kind):
    rng = np.random.default_rng(1)
    content = np.frombuffer(stored(rng.integers(0, 256, (20, 16, 3), np.uint8), kind), np.uint8)
    refused = 0
    for _ in range(150):
        damaged = content.copy()
        places = rng.integers(0, min(len(content), 200), 4)
        damaged[places] = rng.integers(0, 256, 4)
        try:
            assert decode(damaged.tobytes(), limit_pixels=10**6).shape[2] == 3
        except UserError:
            refused += 1
    assert refused or kind in ("PPM", "BMP")


def test_other_formats_are_not_opened(tmp_path):
    shown = PILImage.fromarray(blocks())
    for kind in ("EPS", "ICO", "TGA", "PCX"):
        with pytest.raises(UserError, match=r"a.x: is not a readable image .*none of JPEG"):
            decode(stored(shown, kind), name="a.x")
    with pytest.raises(UserError, match="none of JPEG"):
        decode(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UserError, match="given image of 0 bytes: the file is empty"):
        decode(b"")


def test_enormous_images_are_refused_by_their_header():
    bomb = png(40_000, 40_000, 1, 0, b"")  # 1.6 gigapixels in a hundred bytes, and no pixel in it
    with pytest.raises(UserError, match=r"bomb.png: has too many pixels"):
        decode(bomb, name="bomb.png")
    with pytest.raises(UserError, match="has 9000 x 9000 pixels, more than the 80000000 allowed"):
        decode(png(9000, 9000, 1, 0, b""))
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "PPM", "BMP", "WEBP"):
        with pytest.raises(UserError, match="16 x 24 pixels, more than the 383"):
            decode(stored(blocks(), kind), limit_pixels=16 * 24 - 1)
        assert decode(stored(blocks(), kind), limit_pixels=16 * 24).shape == (24, 16, 3)
    with pytest.raises(UserError, match="more than the 383"):
        decode(PILImage.fromarray(blocks()), limit_pixels=383)


def test_files_of_too_many_bytes_are_refused_unread(tmp_path):
    path = tmp_path / "long.bmp"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with open(path, "rb") as file:
        for source in (path, file):
            with pytest.raises(UserError, match=r"long.bmp: the file has .* MB, more than the 268 MB"):
                decode(source)
    with pytest.raises(UserError, match="more than the 0 MB"):
        decode(stored(blocks(), "PNG"), limit_bytes=10)


def test_check_knows_what_the_beginning_of_a_file_tells(tmp_path):
    good = tmp_path / "good.png"
    good.write_bytes(stored(blocks(), "PNG"))
    decoding.check(good)
    for name, content, words in (
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"no image", "none of JPEG"),
        ("bomb.png", png(9000, 9000, 1, 0, b""), "81|9000 x 9000"),
        ("float.tif", stored(np.zeros((4, 4), np.float32), "TIFF"), "floating point"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: .*({words})"):
            decoding.check(tmp_path / name)
    with pytest.raises(UserError, match=r"none.png: cannot be opened"):
        decoding.check(tmp_path / "none.png")


# Boxes and keys


def test_crops():
    frame = np.arange(20 * 10 * 3, dtype=np.uint8).reshape(20, 10, 3)
    assert (crop(frame, (2, 3, 8, 19)) == frame[3:19, 2:8]).all()
    assert (crop(frame, (-4, 15, 5, 40)) == frame[15:20, 0:5]).all()
    assert (crop(frame, np.array([1.6, 0.4, 3.4, 2])) == frame[0:2, 2:3]).all()
    for box in ((10, 0, 20, 20), (0, 20, 5, 30), (-5, 0, 0, 5), (0, -9, 5, -1)):
        with pytest.raises(UserError, match="outside of the frame, which is 10 x 20"):
            crop(frame, box)
    for box in ((5, 0, 5, 9), (8, 0, 2, 9), (0, 9, 5, 3)):
        with pytest.raises(UserError, match=r"is empty.*left before right"):
            crop(frame, box)
    for box in ((1, 2, 3), (0, 0, float("nan"), 4), (0, 0, float("inf"), 4), "abcd", None, 7):
        with pytest.raises(UserError, match="four numbers"):
            crop(frame, box)


def test_keys_follow_the_content_and_the_box():
    key = content_key(blocks())
    assert len(key) == 64 and int(key, 16) >= 0
    assert key == content_key(decode(stored(blocks(), "PNG"))) == content_key(decode(stored(blocks(), "BMP")))
    assert key == content_key(blocks()[:, ::-1][:, ::-1])
    other = blocks()
    other[3, 3, 1] += 1
    different = [
        key,
        content_key(other),
        content_key(blocks().reshape(16, 24, 3)),
        content_key(blocks(), (0, 0, 4, 4)),
    ]
    assert len(set(different)) == 4
    assert content_key(blocks(), (0, 0, 4, 4)) == content_key(blocks(), np.array([0.2, 0, 4.0, 4]))


def test_no_torch_is_needed():
    code = "import crossreid.images.decode, sys; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"
