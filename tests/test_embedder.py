"""A trained model as a function of pictures of any kind."""

import numpy as np
import pytest
from PIL import Image as Picture

import crossreid
from crossreid import checkpoint
from crossreid.records import UserError

INPUT = {"size": [48, 24], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}


def saved(folder, streams, trained):
    method = checkpoint.build("agw", {"backbone": "tiny", "pretrained": None, "streams": streams}, classes=4)
    path = folder / f"{streams}.pt"
    checkpoint.save(path, checkpoint.describe(method, "agw", input=INPUT, settings={}, trained=trained))
    return path


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 60, 30, 3)).astype(np.uint8)


def test_paths_pictures_arrays_and_boxes_give_the_same_unit_vectors(tmp_path, pictures):
    embed = crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), batch=2)
    files = []
    for number, array in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        Picture.fromarray(array).save(files[-1])
    vectors = embed(list(pictures))
    assert vectors.dtype == np.float32 and vectors.shape[0] == 5
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    for same in (
        embed(files),
        embed([Picture.fromarray(array) for array in pictures]),
        embed([files[0], *pictures[1:]]),
    ):
        assert same == pytest.approx(vectors, abs=1e-6)
    for number in range(5):
        assert embed(files[number]) == pytest.approx(vectors[number : number + 1], abs=1e-5)
    frame = np.concatenate(list(pictures), axis=1)
    boxes = [(30 * number, 0, 30 * number + 30, 60) for number in range(5)]
    assert embed(frame, boxes=boxes) == pytest.approx(vectors, abs=1e-6)
    assert embed([]).shape == (0, embed.dimension) == (0, 128)


def test_modality_is_asked_for_where_it_matters(tmp_path, pictures):
    embed = crossreid.Embedder(saved(tmp_path, 2, {"epoch": 1}))
    with pytest.raises(UserError, match="modality='infrared'"):
        embed(pictures)
    visible, infrared = embed(pictures, "visible"), embed(pictures, "infrared")
    assert not np.allclose(visible, infrared, atol=1e-3)
    mixed = embed(pictures, ["visible", "infrared", "visible", "visible", "infrared"])
    assert mixed[[0, 1]] == pytest.approx(np.stack([visible[0], infrared[1]]), abs=1e-5)


def test_mistakes_and_untrained_weights_are_named(tmp_path, pictures):
    with pytest.warns(UserWarning, match="may mean nothing"):
        embed = crossreid.Embedder(saved(tmp_path, 1, {}))
    for wrong, words in ((pictures[0].astype(float), "uint8"), (pictures[0][:, :, 0], "height, width, 3")):
        with pytest.raises(UserError, match=words):
            embed([wrong])
    with pytest.raises(UserError, match="outside of the frame"):
        embed(pictures[0], boxes=[(100, 0, 120, 10)])
    with pytest.raises(UserError, match="no feature 'nck'"):
        crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), feature="nck")
