"""From records to pixels: one decoder for every way in, and threads ahead of who takes them."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from crossreid.data.settings import DataConfig
from crossreid.data.transforms import resized
from crossreid.images.listing import SUFFIXES, image_names, is_image, listed, passed_over
from crossreid.images.reading import ahead, batches, cut, read, unreadable
from crossreid.images.resize import FILTERS, fit
from crossreid.images.thumbnail import thumbnail
from crossreid.records import Image, UserError
from crossreid.report.rankings import _shown
from crossreid.report.runs import Run


@pytest.fixture
def turned(tmp_path):
    """The path of a photograph that is stored lying on its side, as cameras do, and its pixels upright."""
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:20, :, 0] = 255
    path = tmp_path / "turned.png"
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.fromarray(np.rot90(upright)).save(path, exif=exif)
    return path, upright


def test_exif_rotation_is_respected_by_every_reader(turned):
    path, upright = turned
    assert (read(Image(path)) == upright).all()
    assert (read(Image(path, box=(0, 0, 20, 20))) == upright[:20]).all()
    run = Run("run", path.parent, image_folders=(path.parent,))
    for box, size in ((None, (20, 40)), ((0, 0, 20, 20), (20, 20))):
        source = _shown(run, {"path": str(path), "box": box})
        shown = PILImage.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert shown.size == size and shown.getpixel((10, 5))[0] > 240
    assert _shown(run, {"path": str(path) + " lost"}) is None


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(16, 8), (128, 64), (40, 20)])
def test_training_resizes_as_evaluation_and_export_do(interpolation, size):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    config = DataConfig(size=size, interpolation=interpolation)
    trained = resized([pixels], config)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(trained, fit(pixels, size, interpolation))
    filter = PILImage.Resampling[interpolation.upper()]
    assert np.array_equal(trained, np.asarray(PILImage.fromarray(pixels).resize(size[::-1], filter)))


def test_ahead_keeps_the_order_and_decodes_a_frame_once(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (9, 12, 8, 3), np.uint8)
    for number, frame in enumerate(frames):
        PILImage.fromarray(frame).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes(b"nothing")
    boxes = [(0, 0, 4, 6), (90, 90, 99, 99), None]
    images = [Image(tmp_path / f"{number}.png", box=box) for number in range(9) for box in boxes]
    decoded = []
    from crossreid.images import reading

    usual = reading.frame
    monkeypatch.setattr(reading, "frame", lambda path: decoded.append(path) or usual(path))
    found = list(ahead(images, lambda frame, image: cut(frame, image).copy()))
    assert [image for image, _ in found] == images and len(decoded) == 9
    for (image, made), original in zip(found, frames.repeat(3, 0)):
        if image.path.name == "4.png" or image.box == (90, 90, 99, 99):
            assert isinstance(made, UserError) and image.path.name in str(made)
        else:
            assert np.array_equal(made, original if image.box is None else original[:6, :4])
    assert [len(batch) for batch in batches(found, 10)] == [10, 10, 7] and list(batches([], 3)) == []


def test_a_mistake_in_the_work_is_not_taken_for_a_bad_image(tmp_path):
    PILImage.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ZeroDivisionError):
        list(ahead([Image(tmp_path / "a.png")], lambda frame, image: 1 / 0))


def test_unreadable_images_are_told_by_position(tmp_path):
    PILImage.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    images = [Image(tmp_path / name) for name in ("a.png", "b.png", "a.png", "c.png", "b.png")]
    reasons = unreadable(images)
    assert list(reasons) == [1, 3, 4] and "b.png" in reasons[1] and "c.png" in reasons[3]


def test_thumbnails_fit_and_are_never_enlarged():
    pixels = np.full((400, 100, 3), 90, np.uint8)
    sizes = [
        PILImage.open(io.BytesIO(thumbnail(pixels, *size))).size for size in ((), ((50, 50),), ((999, 999),))
    ]
    assert sizes == [(48, 192), (12, 50), (100, 400)]


def test_one_list_of_suffixes(tmp_path):
    for suffix in [*SUFFIXES, ".JPG", ".heic", ".txt"]:
        (tmp_path / f"x{suffix}").write_bytes(b"x")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    names = image_names(tmp_path)
    assert len(names) == len(SUFFIXES) + 1 and names == sorted(filter(is_image, names))
    with pytest.warns(UserWarning, match="2 files"):
        assert [image.path.name for image in listed([tmp_path])] == names
    assert passed_over(tmp_path).startswith("2 files (.heic 1, .txt 1)")


def test_images_of_a_folder_without_any_are_not_swallowed(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no images.*but 1 file \(.heic 1\), the first is a.heic"):
        listed([tmp_path])


@pytest.mark.parametrize("name", ["closed/a.jpg", "closed/*.jpg", "n" * 300 + ".jpg"])
def test_names_that_may_not_be_looked_up_are_told(name, tmp_path, monkeypatch):
    look = Path.stat

    def closed(path, **how):
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **how)

    monkeypatch.setattr(Path, "stat", closed)
    # Newer versions of Python say that there is no such file.
    with pytest.raises(
        UserError, match=r"may not be read by this user|cannot be read|there is nothing|no image fits"
    ):
        listed([tmp_path / name])
