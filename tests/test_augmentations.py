"""Augmentations chosen by name: their operations, what they draw, and that a run can be repeated."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from crossreid import config
from crossreid.data import augmentations, transforms
from crossreid.data.augmentations import augmix, auto_augment, channel_exchange, random_patch
from crossreid.data.settings import DataConfig
from crossreid.records import UserError


def image(seed=0, height=48, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def generators(count, seed=0):
    return [np.random.default_rng((seed, place)) for place in range(count)]


@pytest.mark.parametrize(
    "name, amount, expected",
    [
        ("contrast_stretch", 0.0, ImageOps.autocontrast),
        ("equalize", 0.0, ImageOps.equalize),
        ("invert", 0.0, ImageOps.invert),
        ("posterize", 0.8, lambda image: ImageOps.posterize(image, 7)),
        ("posterize", 0.0, lambda image: ImageOps.posterize(image, 4)),
        ("solarize", 0.3, lambda image: ImageOps.solarize(image, 76)),
        ("color", 0.0, lambda image: ImageEnhance.Color(image).enhance(0.1)),
        ("contrast", 0.5, lambda image: image),
        ("brightness", 1.0, lambda image: ImageEnhance.Brightness(image).enhance(1.9)),
        ("sharpness", 0.7, lambda image: ImageEnhance.Sharpness(image).enhance(1.36)),
        ("rotate", -0.5, lambda image: image.rotate(-15, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)),
    ],
)
def test_an_operation_by_its_amount(name, amount, expected):
    given = Image.fromarray(image())
    found = augmentations._OPERATIONS[name](given, amount, (128,) * 3, Image.Resampling.BILINEAR)
    assert np.array_equal(found, expected(given))


def test_a_shear_moves_rows_by_their_height():
    given = np.zeros((40, 20, 3), np.uint8)
    given[:, 10] = 255
    found = augmentations._OPERATIONS["shear_x"](
        Image.fromarray(given), 1.0, (0,) * 3, Image.Resampling.NEAREST
    )
    columns = np.asarray(found)[:, :, 0].argmax(1)
    assert columns[0] == 10 and abs(int(columns[20]) - 4) <= 1  # 0.3 of a pixel for each row


def test_policies_are_drawn_evenly_and_change_most_images():
    given, rng = image(), np.random.default_rng(0)
    changed = [auto_augment(given, rng) for _ in range(400)]
    assert all(each.shape == given.shape and each.dtype == np.uint8 for each in changed)
    assert 0.8 < np.mean([not np.array_equal(each, given) for each in changed]) <= 1
    assert len(augmentations._POLICIES) == 25


class Fixed:
    """Draws that are given beforehand, in the place of a generator."""

    def __init__(self, **values):
        self.values = {name: iter(list(each)) for name, each in values.items()}

    def __getattr__(self, name):
        return lambda *given: next(self.values[name])


def test_augmix_by_hand():
    given = image()
    # Chains: equalize; posterize, then invert's neighbour; brightness at the weakest.
    rng = Fixed(
        dirichlet=[[0.5, 0.3, 0.2]], beta=[0.25], integers=[1, 1, 2, 2, 0, 1, 7], uniform=[0.05, 0.05, 0.1]
    )
    first = np.asarray(ImageOps.equalize(Image.fromarray(given)), float)
    second = np.asarray(ImageOps.autocontrast(ImageOps.posterize(Image.fromarray(given), 4)), float)
    third = np.asarray(ImageEnhance.Brightness(Image.fromarray(given)).enhance(0.28), float)
    mixture = 0.5 * first + 0.3 * second + 0.2 * third
    expected = (0.75 * given + 0.25 * mixture).round().astype(np.uint8)
    assert np.array_equal(augmix(given, rng, []), expected)


def test_a_patch_comes_from_the_batch_and_fits():
    batch = [np.full((48, 24, 3), value, np.uint8) for value in (10, 20, 30)]
    shares, seen = [], set()
    for rng in generators(300):
        changed = random_patch(batch[0], rng, batch, probability=1.0)
        other = changed != 10
        shares.append(other.mean())
        seen |= set(np.unique(changed).tolist())
    assert {10, 20, 30} <= seen <= {0, 10, 20, 30}  # 0 where a patch was turned
    assert 0.05 < np.mean(shares) < 0.3 and max(shares) <= 0.51
    assert random_patch(batch[0], np.random.default_rng(0), batch, probability=0.0) is batch[0]
    assert (batch[0] == 10).all()


def test_they_come_in_their_place_and_again_from_the_same_draws():
    names = ("auto_augment", "augmix", {"name": "random_patch", "probability": 1.0})
    settings = DataConfig(size=(24, 12), flip=0.5, augment=names)
    arrays, modalities = [image(seed) for seed in range(6)], [0] * 6
    first, second = (transforms.in_worker(arrays, modalities, generators(6), settings)[0] for _ in range(2))
    assert first.shape == (6, 3, 24, 12) and first.dtype == torch.uint8 and torch.equal(first, second)
    plain = transforms.in_worker(arrays, modalities, generators(6), DataConfig(size=(24, 12), flip=0.5))[0]
    assert all(not torch.equal(one, other) for one, other in zip(first, plain))


@pytest.mark.parametrize(
    "words, said",
    [
        ("[auto_augmet]", "did you mean 'auto_augment'"),
        (
            "[{name: random_patch, probability: 2}]",
            "random_patch the option probability 2: it takes probability",
        ),
        ("[{name: augmix, severity: 3}]", "augmix the option severity 3: it takes none"),
    ],
)
def test_wrong_lists_are_explained(words, said):
    with pytest.raises(UserError, match=said):
        config.load({"method": {"name": "agw"}, "data": {"name": "market1501"}}, ["--data.augment", words])


def test_a_list_comes_through_settings():
    words = "[augmix, {name: random_patch, probability: 0.3}]"
    settings = config.load(
        {"method": {"name": "agw"}, "data": {"name": "market1501"}}, ["--data.augment", words]
    )
    assert config.load(settings.to_dict()).data.augment == settings.data.augment
    early, late = augmentations.chosen(settings.data.augment)
    assert not early and [each.func for each in late] == [augmix, random_patch]


def test_a_channel_takes_the_place_of_all_in_visible_images():
    given = image()
    seen = {channel_exchange(given, rng, 0, probability=1.0).tobytes() for rng in generators(30)}
    assert seen == {np.repeat(given[:, :, channel, None], 3, axis=2).tobytes() for channel in range(3)}
    assert channel_exchange(given, np.random.default_rng(0), 1, probability=1.0) is given
    share = np.mean([channel_exchange(given, rng, 0) is given for rng in generators(300)])
    assert 0.4 < share < 0.6


def test_those_of_torchvision_draw_from_each_images_own_generator():
    settings = DataConfig(
        size=(24, 12), augment=[{"name": "RandAugment", "num_ops": 3}, "AutoAugment", "channel_exchange"]
    )
    arrays, modalities = [image(seed) for seed in range(6)], [0, 1] * 3
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = transforms.in_worker(arrays, modalities, generators(6), settings)[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    # The last image alone comes out the same as in its batch, whatever torch's own generator says.
    alone = transforms.in_worker(arrays[5:], modalities[5:], generators(6)[5:], settings)[0]
    assert torch.equal(alone[0], first[5])
    plain = transforms.in_worker(arrays, modalities, generators(6), DataConfig(size=(24, 12)))[0]
    assert sum(not torch.equal(one, other) for one, other in zip(first, plain)) >= 4


@pytest.mark.parametrize(
    "words, said",
    [
        ("[RandAugmnt]", "did you mean 'RandAugment'"),
        ("[{name: RandAugment, magnitudes: 3}]", "unexpected keyword argument 'magnitudes'"),
        ("[{name: RandAugment, magnitude: 99}]", "RandAugment with {'magnitude': 99} fails"),
        ("[MixUp]", "MixUp with no options fails"),
        ("[{name: Grayscale, num_output_channels: 1}]", "expected bytes of three channels"),
        ("[{probability: 1}]", "data.augment has None"),
    ],
)
def test_wrong_transforms_of_torchvision_are_explained(words, said):
    with pytest.raises(UserError, match=said):
        config.load({"method": {"name": "agw"}, "data": {"name": "market1501"}}, ["--data.augment", words])
