"""A trained model as a function of images of any kind."""

import io

import numpy as np
import pytest
from PIL import Image as PILImage

import crossreid
from crossreid import checkpoint
from crossreid.embedder import modality_of
from crossreid.records import Image, UserError

INPUT = {"size": [48, 24], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}


def saved(folder, streams, trained):
    method = checkpoint.build("agw", {"backbone": "tiny", "pretrained": None, "streams": streams}, classes=4)
    path = folder / f"{streams}.pt"
    checkpoint.save(path, checkpoint.describe(method, "agw", input=INPUT, settings={}, trained=trained))
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 60, 30, 3)).astype(np.uint8)


def test_paths_images_arrays_and_boxes_give_the_same_unit_vectors(tmp_path, images):
    embed = crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), batch=2)
    files = []
    for number, array in enumerate(images):
        files.append(tmp_path / f"{number}.png")
        PILImage.fromarray(array).save(files[-1])
    vectors = embed(list(images))
    assert vectors.dtype == np.float32 and vectors.shape[0] == 5
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    for same in (
        embed(files),
        embed([PILImage.fromarray(array) for array in images]),
        embed([files[0], *images[1:]]),
    ):
        assert same == pytest.approx(vectors, abs=1e-6)
    content = files[0].read_bytes()
    for one in (content, bytearray(content), io.BytesIO(content)):
        assert embed(one) == pytest.approx(vectors[:1], abs=1e-5)
    for number in range(5):
        assert embed(files[number]) == pytest.approx(vectors[number : number + 1], abs=1e-5)
    frame = np.concatenate(list(images), axis=1)
    boxes = [(30 * number, 0, 30 * number + 30, 60) for number in range(5)]
    assert embed(frame, boxes=boxes) == pytest.approx(vectors, abs=1e-6)
    assert embed([]).shape == (0, embed.dimension) == (0, 128)


def test_modality_is_asked_for_where_it_matters(tmp_path, images):
    embed = crossreid.Embedder(saved(tmp_path, 2, {"epoch": 1}))
    with pytest.raises(UserError, match="modality='infrared'"):
        embed(images)
    visible, infrared = embed(images, "visible"), embed(images, "infrared")
    assert not np.allclose(visible, infrared, atol=1e-3)
    mixed = embed(images, ["visible", "infrared", "visible", "visible", "infrared"])
    assert mixed[[0, 1]] == pytest.approx(np.stack([visible[0], infrared[1]]), abs=1e-5)
    assert np.array_equal(embed(images, ["rgb", "IR", "vis", "v", "thermal"]), mixed)
    assert np.array_equal(embed(images, "nir"), infrared)


def test_modality_is_guessed_by_the_data_sets_rule_alone(tmp_path, images):
    for place, modality in (
        ("SYSU-MM01/cam3/0001/0002.jpg", "infrared"),
        ("cam4/0001/0002.jpg", "visible"),
        ("RegDB/Thermal/12/male_front_t_04253_12.bmp", "infrared"),
        ("Visible/12/male_front_v_04253_12.bmp", "visible"),
        ("LLCM/nir/0001/0001_c1.jpg", "infrared"),
        ("LLCM/test_vis/cam2/0003/a.jpg", "visible"),
    ):
        assert modality_of(place) == modality_of(tmp_path / place) == modality, place
    # Folders of one's own that merely look alike, and what has no place.
    for image in (
        "cam3/anna/1.jpg",
        "cam7/0001/0001.jpg",
        "thermal/a.jpg",
        "night/0001/1.jpg",
        images[0],
        b"GIF",
    ):
        with pytest.raises(UserError, match="cannot be guessed"):
            modality_of(image)

    embed = crossreid.Embedder(saved(tmp_path, 2, {"epoch": 1}))
    files = [tmp_path / "cam1" / "0001" / "0001.png", tmp_path / "cam6" / "0001" / "0001.png"]
    for file in files:
        file.parent.mkdir(parents=True)
        PILImage.fromarray(images[0]).save(file)
    vectors = embed(files, "guess")
    assert vectors == pytest.approx(embed(files, ["visible", "infrared"]), abs=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    records = [Image(file, 1, 1, modality) for file, modality in zip(files, ("infrared", "visible"))]
    assert embed(records) == pytest.approx(embed(files, ["infrared", "visible"]), abs=1e-6)
    for wrong, words in (
        (["visible"] * 3, "3 modalities .* for 2 images"),
        (["visible", "warm"], "image 2: modality 'warm' is not known"),
        ([None, "visible"], "modality 'None' is not known"),
    ):
        with pytest.raises(UserError, match=words):
            embed(files, wrong)


def test_fingerprints_tell_models_apart(tmp_path):
    path = saved(tmp_path, 1, {"epoch": 1})
    embed = crossreid.Embedder(path)
    assert embed.fingerprint == crossreid.Embedder(path).fingerprint and len(embed.fingerprint) == 64
    content = checkpoint.read(path)
    content["trained"] = {"epoch": 2}  # says nothing about the vectors
    checkpoint.save(tmp_path / "same.pt", content)
    assert crossreid.Embedder(tmp_path / "same.pt").fingerprint == embed.fingerprint
    others = [crossreid.Embedder(path, feature="global"), crossreid.Embedder(path, size=(64, 32))]
    content["weights"]["neck.running_mean"][0] += 1e-3
    checkpoint.save(tmp_path / "other.pt", content)
    others.append(crossreid.Embedder(tmp_path / "other.pt"))
    assert len({embed.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_mistakes_and_untrained_weights_are_named(tmp_path, images):
    with pytest.warns(UserWarning, match="may mean nothing"):
        embed = crossreid.Embedder(saved(tmp_path, 1, {}))
    for wrong, words in ((images[0].astype(float), "uint8"), (images[0][:, :, 0], "height, width, 3")):
        with pytest.raises(UserError, match=words):
            embed([wrong])
    with pytest.raises(UserError, match="outside of the frame"):
        embed(images[0], boxes=[(100, 0, 120, 10)])
    with pytest.raises(UserError, match="the feature is 'nck'"):
        crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), feature="nck")
