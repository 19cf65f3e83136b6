import json
import pickle
import warnings
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from crossreid.data import loading
from crossreid.data.loading import Loader
from crossreid.data.sampling import SAMPLERS
from crossreid.data.settings import DataConfig, EraseConfig, JitterConfig, LoaderConfig
from crossreid.images import decode as decoding
from crossreid.images.reading import read
from crossreid.records import Image, Labels, UserError

SIZE = (16, 8)
FIELDS = ("images", "target", "camera", "modality", "domain")


def image(height=20, width=10, seed=0):
    """Smooth, so that JPEG's colour subsampling has something to interpolate."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return np.array(PILImage.fromarray(small).resize((width, height), PILImage.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Eight identities of two domains with four visible and four infrared images each."""
    folder = tmp_path_factory.mktemp("images")
    found = []
    for number in range(64):
        path = folder / f"{number:02d}.png"
        PILImage.fromarray(image(seed=number)).save(path)
        identity, place = divmod(number, 8)
        found.append(
            Image(path, 100 + identity % 4, place % 3, ("visible", "infrared")[place % 2], identity // 4)
        )
    return found


def lively(**changes):
    """Settings with every random step, so that any change of the random numbers shows."""
    settings = {
        "size": SIZE,
        "padding": 2,
        "translate": 0.5,
        "grey": 0.3,
        "jitter": JitterConfig(0.5),
        "erase": EraseConfig(),
        "workers": 0,
    }
    return DataConfig(**(settings | changes))


def loader(images, sampler="identity", config=None, **options):
    options = {"seed": 3} | options
    return Loader(images, Labels.of(images), LoaderConfig(sampler, 4, 2), config or lively(), **options)


def same(first, second):
    return all(torch.equal(getattr(first, field), getattr(second, field)) for field in FIELDS)


# The stream


def test_a_batch_holds_the_images_and_labels_of_its_sampler(images):
    labels = Labels.of(images)
    config = DataConfig(size=SIZE, flip=0, workers=0)
    stream = loader(images, "cross_modal", config)
    draw, batch = next(stream)
    assert draw == 0 and batch.images.shape == (16, 3, *SIZE) and batch.images.dtype == torch.float32
    assert batch.modality.tolist() == [0] * 8 + [1] * 8
    assert torch.equal(batch.target[:8], batch.target[8:])
    assert all(getattr(batch, field).dtype == torch.int64 for field in FIELDS[1:])
    _, pixels, _ = next(loading.test_loader(images, config, 64, 0))
    for row in range(16):
        alike = [index for index in range(64) if torch.equal(pixels[index], batch.images[row])]
        assert len(alike) == 1
        for field in FIELDS[1:]:
            assert getattr(labels, field)[alike[0]] == getattr(batch, field)[row]


def test_new_labels_hold_from_the_next_batch_and_after_a_stop(images):
    stream = loader(images)
    length = len(stream)
    next(stream)
    target = np.arange(64) // 4  # sixteen classes in the place of eight
    stream.relabel(target)
    assert stream.state() == {"batch_index": 1, "epoch": 1, "offset": 0, "target": target.tolist()}
    number, batch = next(stream)
    assert number == 1 and batch.target.max() > 7 and len(stream) == length
    again = loader(images, state=json.loads(json.dumps(stream.state())))
    assert len(again) == length
    for _ in range(5):
        (first, one), (second, other) = next(stream), next(again)
        assert first == second and same(one, other)
    for wrong in ([0] * 63, [-2] * 64, [0.5] * 64):
        with pytest.raises(UserError, match="expected one whole number from 0 for each of 64 images"):
            stream.relabel(wrong)
    with pytest.raises(UserError, match="leave out every image"):
        stream.relabel([-1] * 64)


def test_a_state_without_new_labels_takes_them_back(images):
    stream, plain = loader(images), loader(images)
    before = stream.state()
    stream.relabel(np.arange(64) // 4)
    stream.go_on(before)
    assert stream.state() == before
    for _ in range(3):
        (first, one), (second, other) = next(stream), next(plain)
        assert first == second and same(one, other)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_the_new_label_minus_one_are_left_out(images, workers):
    target = np.arange(64) // 8
    target[::3] = -1
    stream = loader(images, workers=workers)
    stream.relabel(target)
    again = loader(images, state=json.loads(json.dumps(stream.state())))
    rows = [row for batch in stream.sampler.epoch(np.random.default_rng(1)) for row in batch]
    assert rows and all(target[row] >= 0 for row in rows)
    seen = set()
    for _ in range(6):
        (first, one), (second, other) = next(stream), next(again)
        assert first == second and same(one, other)
        seen |= set(one.target.tolist())
    assert -1 not in seen and len(seen) > 4


@pytest.mark.parametrize("workers", [0, 1])
def test_columns_that_are_asked_for_come_with_the_batch(images, workers):
    texts = ["red", "", "blue", "green"]
    dressed = [replace(one, extra={"clothes": texts[row % 4]}) for row, one in enumerate(images)]
    stream = loader(dressed, columns=("clothes",), workers=workers)
    rows = next(stream.sampler.epoch(loading._generator(stream.dataset.stream, loading._EPOCH, 0, 0)))
    _, batch = next(stream)
    expected = [[2, -1, 0, 1][row % 4] for row in rows]
    assert batch.extra["clothes"].tolist() == expected
    assert batch.select(np.array([2, 0])).to("cpu").extra["clothes"].tolist() == [expected[2], expected[0]]
    assert next(loader(dressed))[1].extra == {}
    with pytest.raises(
        UserError, match="asks for the column 'hair' of the training images, which have clothes"
    ):
        loader(dressed, columns=("hair",))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_stream_continues_exactly_after_a_stop(images, sampler):
    whole = list(islice(loader(images, sampler), 9))
    assert [draw for draw, _ in whole] == list(range(9))
    for stop in (1, len(loader(images, sampler)), 7):
        first = loader(images, sampler)
        list(islice(first, stop))
        state = json.loads(json.dumps(first.state()))
        again = loader(images, sampler, state=state)
        for (draw, batch), (other_draw, other) in zip(whole[stop:], again):
            assert draw == other_draw and same(batch, other)


def test_workers_change_nothing_and_their_prefetch_does_not_count(images):
    alone = list(islice(loader(images), 6))
    stream = loader(images, workers=2)
    for place, (draw, batch) in enumerate(islice(stream, 6)):
        assert draw == place and same(batch, alone[place][1])
        assert stream.state()["batch_index"] == place + 1
    stream.close()
    draw, _ = next(stream)
    assert draw == 6
    stream.close()


def test_ranks_share_the_stream_and_a_stop_may_change_their_number(images):
    whole = list(islice(loader(images), 12))
    ranks = [loader(images, rank=rank, world=2) for rank in range(2)]
    for turn in range(2):
        for rank, stream in enumerate(ranks):
            draw, batch = next(stream)
            assert draw == 2 * turn + rank and same(batch, whole[draw][1])
    assert ranks[0].state() == ranks[1].state() and ranks[0].state()["batch_index"] == 4
    for rank in range(3):
        stream = loader(images, rank=rank, world=3, state=ranks[0].state())
        for turn in range(2):
            draw, batch = next(stream)
            assert draw == 4 + 3 * turn + rank and same(batch, whole[draw][1])


def test_seed_and_name_choose_the_stream(images):
    _, batch = next(loader(images))
    for options in ({"seed": 4}, {"name": "meta"}):
        assert not same(batch, next(loader(images, **options))[1])


def test_epochs_and_draws_differ(images):
    length = len(loader(images))
    batches = [batch for _, batch in islice(loader(images), 3 * length)]
    orders = {
        tuple(torch.cat([b.target for b in batches[s : s + length]]).tolist())
        for s in (0, length, 2 * length)
    }
    assert len(orders) == 3
    config = lively()
    labels = Labels.of(images[:1])
    alone = Loader(images[:1], labels, LoaderConfig("identity", 1, 1), config, seed=0)
    crops = [batch.images for _, batch in islice(alone, 4)]
    assert not torch.equal(crops[0], crops[1])


def test_iterating_leaves_the_global_random_states_alone(images):
    torch.manual_seed(0)
    np.random.seed(0)
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(islice(loader(images), 2))
    list(loading.test_loader(images, lively(), 30, 0))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()


def test_what_goes_to_the_workers_can_be_pickled(images):
    stream = loader(images)
    next(stream)
    again = pickle.loads(pickle.dumps(stream.dataset))
    key = (0, {}, [0, 1])
    assert same(again[key][2], stream.dataset[key][2])


def test_test_loader_keeps_order_and_tail(images):
    config = lively()
    parts = list(loading.test_loader(images, config, 24, 1))
    assert [len(rows) for rows, _, _ in parts] == [24, 24, 16]
    assert torch.cat([rows for rows, _, _ in parts]).tolist() == list(range(64))
    assert torch.cat([m for _, _, m in parts]).tolist() == [image.modality == "infrared" for image in images]
    single = torch.cat([pixels for _, pixels, _ in loading.test_loader(images, config, 1, 0)])
    assert torch.equal(torch.cat([pixels for _, pixels, _ in parts]), single)
    assert list(loading.test_loader([], config, 4, 2)) == []


# Broken files


@pytest.fixture
def damaged(images, tmp_path):
    path = tmp_path / "damaged.jpg"
    path.write_bytes(b"\xff\xd8 this is no image")
    target = [i for i in images if i.identity == 100 and i.domain == 0]
    other = [i for i in images if i.identity == 101 and i.domain == 0]
    return [Image(path, 100, 0), *target[:3], *other], path


def test_a_broken_file_stops_training_by_name(damaged):
    given, path = damaged
    for workers in (0, 1):
        stream = Loader(
            given, Labels.of(given), LoaderConfig("identity", 2, 4), lively(), seed=0, workers=workers
        )
        with pytest.raises(UserError) as caught:
            next(stream)
        assert str(path) in str(caught.value) and "Traceback" not in str(caught.value)
        assert "data.broken: skip" in str(caught.value)


def test_what_replaces_a_broken_file_keeps_its_own_camera_and_domain(damaged):
    given, path = damaged
    given = [replace(image, camera=9 if image.path == path else image.camera) for image in given]
    labels = Labels.of(given).cameras_as_domains()
    config = DataConfig(size=SIZE, flip=0, workers=0, broken="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = [
            batch
            for _, batch in islice(Loader(given, labels, LoaderConfig("identity", 2, 4), config, seed=0), 5)
        ]
    assert all((batch.camera != 9).all() for batch in batches)
    assert all((batch.domain != labels.domain[labels.camera == 9][0]).all() for batch in batches)


def test_a_broken_file_is_replaced_by_the_same_identity_and_modality(damaged):
    given, path = damaged
    config = DataConfig(size=SIZE, flip=0, workers=0, broken="skip")

    def stream(seed=0):
        return Loader(given, Labels.of(given), LoaderConfig("identity", 2, 4), config, seed=seed)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = [batch for _, batch in islice(stream(), 5)]
    assert len([w for w in caught if str(path) in str(w.message)]) == 1
    sound = [i for i in given[1:4] if i.modality == "visible"]
    allowed = [pixels for _, pixels, _ in loading.test_loader(sound, config, 1, 0)]
    infrared = [i for i in given[1:4] if i.modality == "infrared"]
    others = [pixels for _, pixels, _ in loading.test_loader(infrared, config, 1, 0)]
    for batch in batches:
        rows = batch.images[batch.target == 0]
        found = [sum(torch.equal(row, known[0]) for row in rows) for known in allowed]
        assert sum(found) == 4 - len(others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(same(batch, other) for batch, (_, other) in zip(batches, stream()))


def test_an_identity_with_nothing_readable_stops_training(tmp_path):
    given = [Image(tmp_path / f"{number}.jpg", 5, 0) for number in range(2)]
    stream = Loader(
        given, Labels.of(given), LoaderConfig("identity", 1, 2), lively(broken="skip"), seed=0, workers=0
    )
    with pytest.raises(UserError, match="identity 5"):
        next(stream)


# Reading


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(128, 64), (37, 21), (1, 1), (200, 333)])
def test_the_fast_decoder_equals_pillow(tmp_path, subsampling, size):
    pytest.importorskip("simplejpeg")
    paths = [tmp_path / "colour.jpg", tmp_path / "grey.jpg", tmp_path / "progressive.jpg"]
    shown = PILImage.fromarray(image(*size))
    shown.save(paths[0], quality=80, subsampling=subsampling)
    shown.convert("L").save(paths[1])
    shown.save(paths[2], progressive=True, subsampling=subsampling)
    for path in paths:
        assert decoding._jpeg_cost(path.read_bytes(), 10**6) is not None
        fast = read(Image(path, 0, 0))
        with PILImage.open(path) as opened:
            assert (fast == np.asarray(opened.convert("RGB"))).all()


def test_orientation_is_applied(tmp_path):
    shown = PILImage.fromarray(image(20, 10))
    exif = PILImage.Exif()
    exif[0x0112] = 6
    shown.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown.save(tmp_path / "plain.jpg", quality=95)
    turned, plain = (read(Image(tmp_path / f"{name}.jpg", 0, 0)) for name in ("turned", "plain"))
    assert turned.shape == (10, 20, 3)
    assert (turned == np.rot90(plain, -1)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_three_channels(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        values = np.linspace(0, 65535, 200).reshape(20, 10).astype(np.uint16)
        PILImage.fromarray(values).save(path)
        # Half a percent of 200 pixels is one: the second and the last but one become black and white.
        low, high = float(values.flat[1]), float(values.flat[-2])
        scaled = np.clip((values - low) * 255 / (high - low) + 0.5, 0, 255).astype(np.uint8)
        expected = scaled[:, :, None].repeat(3, 2)
    else:
        shown = PILImage.fromarray(image()).convert(mode)
        shown.save(path)
        expected = np.asarray(shown.convert("RGB"))
    found = read(Image(path, 0, 0))
    assert found.dtype == np.uint8 and found.shape == (20, 10, 3)
    assert (found == expected).all()


def test_boxes_are_cut_out_and_end_at_the_frame(tmp_path):
    path, array = tmp_path / "frame.png", image(20, 10)
    PILImage.fromarray(array).save(path)
    assert (read(Image(path, 0, 0, box=(2, 3, 8, 19))) == array[3:19, 2:8]).all()
    assert (read(Image(path, 0, 0, box=(-4, 15, 5, 40))) == array[15:20, 0:5]).all()
    with pytest.raises(UserError, match=r"frame\.png.*box"):
        read(Image(path, 0, 0, box=(10, 0, 20, 20)))


def test_rows_of_prepared_arrays(tmp_path):
    path = tmp_path / "prepared.npy"
    array = np.stack([image(seed=0), image(seed=1)])
    np.save(path, array)
    assert (read(Image(path, 0, 0, array_index=1)) == array[1]).all()
    assert (read(Image(path, 0, 0, array_index=1, box=(1, 2, 5, 9))) == array[1, 2:9, 1:5]).all()
    with pytest.raises(UserError, match=r"prepared\.npy.*2 images"):
        read(Image(path, 0, 0, array_index=2))
    np.save(tmp_path / "grey.npy", array[..., 0])
    assert (read(Image(tmp_path / "grey.npy", 0, 0, array_index=0)) == array[0, :, :, :1]).all()
    np.save(tmp_path / "float.npy", array.astype(np.float32))
    with pytest.raises(UserError, match="float32"):
        read(Image(tmp_path / "float.npy", 0, 0, array_index=0))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"objects\.npy"):
        read(Image(tmp_path / "objects.npy", 0, 0, array_index=0))


def test_unreadable_files_are_named(tmp_path):
    whole = tmp_path / "whole.jpg"
    PILImage.fromarray(image(64, 64)).save(whole)
    short = tmp_path / "short.jpg"
    short.write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("short.jpg", "empty.png", "missing.jpg"):
        with pytest.raises(UserError, match=rf"{name}: "):
            read(Image(tmp_path / name, 0, 0))


# Settings


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"size": (256, 0)}, "size"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"grey": -0.1}, "grey"),
        ({"validation": 1}, "validation"),
        ({"interpolation": "bilinar"}, "did you mean 'bilinear'"),
        ({"broken": "ignore"}, "stop, skip"),
        ({"padding": -1}, "padding"),
        ({"std": (1, 1, 0)}, "std"),
        ({"name": []}, "name"),
        ({"name": ["grid", "grid"]}, "different"),
        ({"loaders": {"base": LoaderConfig()}}, "'train'"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(UserError, match=words):
        DataConfig(**settings)


def test_settings_of_parts_are_checked():
    for make, words in (
        (lambda: LoaderConfig("cross_model"), "did you mean 'cross_modal'"),
        (lambda: LoaderConfig(instances=0), "instances"),
        (lambda: EraseConfig(area=(0.4, 0.1)), "area"),
        (lambda: EraseConfig(probability=2), "probability"),
        (lambda: JitterConfig(hue=0.7), "hue"),
    ):
        with pytest.raises(UserError, match=words):
            make()


# The training set


@pytest.fixture
def market(tmp_path):
    """Three training identities with two images each, and two more among the test images."""
    for folder, numbers in {
        "bounding_box_train": (2, 7, 9),
        "query": (3, 5),
        "bounding_box_test": (3, 5),
    }.items():
        (tmp_path / folder).mkdir()
        for number in numbers:
            for camera in (1, 4):
                name = f"{number:04d}_c{camera}s1_{number:06d}_00.jpg"
                PILImage.fromarray(image()).save(tmp_path / folder / name)
    return {"market1501": str(tmp_path)}


def test_training_set_reads_and_relabels(market):
    found, labels, identities, validation = loading.training_set(DataConfig(roots=market))
    assert identities == [(0, 2), (0, 7), (0, 9)] and validation is None
    assert len(found) == 6 and labels.classes == 3 and labels.domains == 1
    assert [identities[target][1] for target in labels.target] == [image.identity for image in found]


def test_training_set_holds_out_identities(market):
    found, labels, identities, validation = loading.training_set(DataConfig(roots=market, validation=0.34))
    assert labels.classes == len(identities) == 2
    assert {i.identity for i in validation} | {i.identity for i in found} == {2, 7, 9}
    assert not {i.identity for i in validation} & {i.identity for i in found}


def test_training_set_takes_cameras_as_domains_and_all_images(market):
    _, labels, _, _ = loading.training_set(DataConfig(roots=market, cameras_as_domains=True))
    assert labels.domains == 2
    everything, labels, _, _ = loading.training_set(DataConfig(roots=market, settings={"all_images": True}))
    assert len(everything) == 14 and labels.classes == 5


def test_training_set_numbers_data_sets_as_domains(monkeypatch, images):
    from crossreid import data

    def read(name, root, held_out=0, **settings):
        seen[name] = settings
        return {"train": [Image(image.path, image.identity, image.camera) for image in images]}

    seen = {}
    monkeypatch.setattr(data, "read", read)
    monkeypatch.setattr(data, "locate", lambda name, roots: None)
    sources = {
        name: replace(data.get("regdb"), folds=folds) for name, folds in (("first", 10), ("second", 1))
    }
    monkeypatch.setattr(data, "get", sources.get)
    config = DataConfig(name=["first", "second"], fold=3, settings={"shared": 1, "second": {"own": 2}})
    found, labels, identities, _ = loading.training_set(config)
    assert seen == {"first": {"shared": 1, "fold": 3}, "second": {"shared": 1, "own": 2}}
    assert labels.domains == 2 and labels.classes == 8 and len(found) == 128
    assert identities[:5] == [(0, 100), (0, 101), (0, 102), (0, 103), (1, 100)]
    with pytest.raises(UserError, match="fold"):
        loading.training_set(DataConfig(name="second", fold=3))
