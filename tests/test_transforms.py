import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from crossreid.data import kernels, on_device, transforms
from crossreid.data.settings import DataConfig, EraseConfig, JitterConfig
from crossreid.images.resize import fit
from crossreid.records import UserError

STILL = {"flip": 0, "size": (24, 12)}
UNIT = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def generators(count, seed=0):
    return [np.random.default_rng((seed, place)) for place in range(count)]


def augmented(config, array, seed=0, modality=0):
    out = np.empty((3, *config.size), np.uint8)
    draw = transforms.augment(array, config, modality, np.random.default_rng(seed), out)
    return on_device.recolour(torch.from_numpy(out[None]), [draw])[0]


def trained_on(config, arrays, generators):
    return on_device.finish(*transforms.in_worker(arrays, [0] * len(arrays), generators, config), config)


def placed(array, size, *settings):
    out = np.full((3, *size), 7, np.uint8)
    kernels.place(array, out, *settings)
    return out.transpose(1, 2, 0)


def to_array(image):
    return image.permute(1, 2, 0).numpy()


def by_pillow(array, size, name):
    """First across, then down."""
    how = PILImage.Resampling[name.upper()]
    across = PILImage.fromarray(array).resize((size[1], array.shape[0]), how)
    return np.asarray(across.resize((size[1], size[0]), how))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "given", [(128, 64), (37, 91), (300, 200), (24, 12), (24, 50), (50, 12), (1, 1), (90, 9)]
)
def test_every_resize_is_pillows_to_the_byte(name, given):
    size, sharp = (24, 12), image(*given) // 128 * 255
    for array in (image(*given), sharp, np.full((*given, 3), 255, np.uint8)):
        expected = by_pillow(array, size, name)
        assert (fit(array, size, name) == expected).all()
        assert (placed(array, size, size, name) == expected).all()
        config = DataConfig(size=size, interpolation=name)
        assert (to_array(transforms.resized([array], config)[0]) == expected).all()


def test_pieces_of_an_image_are_resized_without_a_copy_of_the_frame():
    frame = image(80, 60)
    piece = frame[10:70, 5:40]
    assert (
        placed(piece, (24, 12), (24, 12), "bilinear") == by_pillow(piece.copy(), (24, 12), "bilinear")
    ).all()
    frame.setflags(write=False)
    assert (placed(frame, (24, 12), (24, 12), "bilinear") == by_pillow(frame, (24, 12), "bilinear")).all()


@pytest.mark.parametrize("given", [(30, 20), (24, 12), (20, 9)])
@pytest.mark.parametrize("larger", [(24, 12), (27, 14)])
def test_cut_moved_and_mirrored_as_numpy_would(given, larger):
    array, size = image(*given), (24, 12)
    resized = by_pillow(array, larger, "bicubic")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        cut = tuple(int(rng.integers(0, more - wanted + 1)) for more, wanted in zip(larger, size))
        shift = tuple(int(way) for way in rng.integers(-30, 31, 2))
        piece = resized[cut[0] : cut[0] + 24, cut[1] : cut[1] + 12]
        padded = np.pad(piece, ((30, 30), (30, 30), (0, 0)))
        moved = padded[30 + shift[0] : 54 + shift[0], 30 + shift[1] : 42 + shift[1]]
        assert (placed(array, size, larger, "bicubic", cut, shift, False) == moved).all()
        assert (placed(array, size, larger, "bicubic", cut, shift, True) == moved[:, ::-1]).all()


def test_images_for_testing_are_resized_and_normalised():
    config = DataConfig(size=(24, 12))
    arrays = [image(48, 31), image(24, 12, 1)]
    found = on_device.finish(transforms.resized(arrays, config), [], config)
    assert found.shape == (2, 3, 24, 12) and found.dtype == torch.float32 and found.is_contiguous()
    expected = (arrays[1] / 255 - np.array(config.mean)) / np.array(config.std)
    np.testing.assert_allclose(to_array(found[1]), expected, atol=1e-5)


def test_nothing_drawn_leaves_the_image():
    array = image(24, 12)
    assert (to_array(augmented(DataConfig(**STILL), array)) == array).all()


def test_flip_mirrors():
    array = image(24, 12)
    assert (to_array(augmented(DataConfig(size=(24, 12), flip=1), array)) == array[:, ::-1]).all()


def test_padding_reaches_every_offset():
    array = image(24, 12)
    padded = np.pad(array, ((1, 1), (1, 1), (0, 0)))
    cuts = {padded[t : t + 24, left : left + 12].tobytes() for t in range(3) for left in range(3)}
    config = DataConfig(**STILL, padding=1)
    assert {to_array(augmented(config, array, seed)).tobytes() for seed in range(100)} == cuts


def test_translate_cuts_from_the_enlarged_image():
    array = image(50, 30)
    larger = by_pillow(array, (288, 144), "bilinear")
    for down, right in ((0, 0), (1, 1), (0.26, 0.74)):
        top, left = round(down * 32), round(right * 16)
        size, cut = transforms.translation((256, 128), down, right)
        found = placed(array, (256, 128), size, "bilinear", cut)
        assert (found == larger[top : top + 256, left : left + 128]).all()


def test_what_a_translation_cuts_away_does_not_come_back_by_padding():
    array = np.full((24, 12, 3), 255, np.uint8)
    config = DataConfig(size=(24, 12), translate=1, padding=3, flip=0)
    sums = {int(augmented(config, array, seed).sum()) for seed in range(500)}
    assert max(sums) == 255 * 3 * 24 * 12 and min(sums) == 255 * 3 * 21 * 9


def test_grey_is_pillows_and_can_spare_infrared():
    array = image(24, 12)
    expected = np.asarray(PILImage.fromarray(array).convert("L"))[:, :, None].repeat(3, 2)
    everyone, visible = DataConfig(**STILL, grey=1), DataConfig(**STILL, grey=1, grey_modality="visible")
    assert (to_array(augmented(everyone, array, modality=1)) == expected).all()
    assert (to_array(augmented(visible, array, modality=0)) == expected).all()
    assert (to_array(augmented(visible, array, modality=1)) == array).all()


def test_jitter_without_spread_changes_nothing_and_with_spread_something():
    array = image(24, 12)
    none = JitterConfig(brightness=0, contrast=0, saturation=0, hue=0)
    same = to_array(augmented(DataConfig(**STILL, jitter=none), array)).astype(int)
    assert np.abs(same - array).max() <= 2
    assert (to_array(augmented(DataConfig(**STILL, jitter=JitterConfig()), array)) != array).mean() > 0.3
    never = DataConfig(**STILL, jitter=JitterConfig(probability=0))
    assert (to_array(augmented(never, array)) == array).all()


def test_brightness_stays_within_its_spread():
    array = np.full((24, 12, 3), 100, np.uint8)
    config = DataConfig(**STILL, jitter=JitterConfig(brightness=0.15, contrast=0, saturation=0, hue=0))
    values = [int(augmented(config, array, seed)[0, 0, 0]) for seed in range(60)]
    assert 84 <= min(values) < 90 and 110 < max(values) <= 116


def test_erase_fills_one_rectangle_within_bounds():
    erase = EraseConfig(probability=1, area=(0.1, 0.2), aspect=(0.5, 2), fill=(7, 8, 9))
    config = DataConfig(flip=0, size=(64, 32), erase=erase, **UNIT)
    array = np.zeros((64, 32, 3), np.uint8)
    found = trained_on(config, [array] * 20, generators(20))
    for image in found:
        rows, columns = torch.where(image[0] == 7)
        tall, wide = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == tall * wide
        assert 0.08 < len(rows) / (64 * 32) < 0.22
        assert 0.4 < tall / wide < 2.3
        assert (image[1] == 8).sum() == (image[2] == 9).sum() == len(rows)
        assert (image == 0).sum() == 3 * (64 * 32 - len(rows))


@pytest.mark.parametrize(
    ("ratio", "median"), [("height_over_width", 2.125), ("width_over_height", 1 / 2.125), ("logarithmic", 1)]
)
def test_the_ratio_of_an_erased_rectangle_is_drawn_as_the_programs_draw_it(ratio, median):
    erase = EraseConfig(probability=1, area=(0.05, 0.05), aspect=(0.25, 4), ratio=ratio)
    boxes = [transforms.erase_box(np.random.default_rng(seed), erase, (512, 512)) for seed in range(400)]
    found = np.array([tall / wide for _, _, tall, wide in boxes])
    assert 0.24 < found.min() < found.max() < 4.1
    assert np.median(found) == pytest.approx(median, rel=0.15)
    with pytest.raises(UserError, match=r"data.erase.ratio .*width_over_height"):
        EraseConfig(ratio="tall")


def test_erase_gives_up_after_its_attempts():
    impossible = EraseConfig(probability=1, area=(0.9, 0.9), aspect=(4, 4), attempts=3)
    assert transforms.erase_box(np.random.default_rng(0), impossible, (64, 32)) is None
    share = EraseConfig(probability=0.3)
    drawn = [
        transforms.erase_box(np.random.default_rng(seed), share, (64, 32)) is not None for seed in range(400)
    ]
    assert 0.2 < np.mean(drawn) < 0.4


def test_an_image_depends_on_its_own_generator_only():
    config = DataConfig(
        size=(24, 12), padding=2, translate=0.5, grey=0.5, jitter=JitterConfig(0.5), erase=EraseConfig()
    )
    arrays = [image(30, 20, seed) for seed in range(6)]
    together = trained_on(config, arrays, generators(6))
    for place, array in enumerate(arrays):
        alone = trained_on(config, [array], [generators(6)[place]])
        assert torch.equal(alone[0], together[place])
    assert not torch.equal(together, trained_on(config, arrays, generators(6, seed=1)))


def test_each_image_of_a_batch_is_jittered_by_its_own_amounts_as_torchvision_does():
    from torchvision.transforms.v2 import functional as colour

    changes = (
        colour.adjust_brightness,
        colour.adjust_contrast,
        colour.adjust_saturation,
        colour.adjust_hue,
    )
    smooth = PILImage.fromarray(image(8, 4)).resize((32, 64), PILImage.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(smooth)).permute(2, 0, 1).expand(12, 3, 64, 32)
    rng = np.random.default_rng(3)
    drawn = [transforms.jitter_amounts(rng, JitterConfig(1.0, 0.4, 0.4, 0.3, 0.1)) for _ in pixels]
    assert len({order for _, order in drawn}) > 6
    amounts, orders = (np.array(each) for each in zip(*drawn))
    found = on_device.jitter(pixels, amounts.astype(np.float32), orders)
    for picture, result, amount, order in zip(pixels, found, amounts, orders):
        wanted = picture
        for step in order:
            wanted = changes[step](wanted, float(amount[step]))
        away = (result.int() - wanted.int()).abs()
        assert away.max() <= 4 and (away > 1).float().mean() < 0.01


def test_an_image_moved_out_of_its_frame_leaves_black():
    for shift in ((24, 0), (-24, 0), (0, 12), (0, -12), (24, 12)):
        for array in (image(40, 30), image(24, 12)):
            assert not placed(array, (24, 12), (24, 12), "bilinear", (0, 0), shift, True).any(), shift
