"""A trained model as a function of images of any kind."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import crossreid
from crossreid import checkpoint
from crossreid.embedder import modality_of
from crossreid.images import arrays
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


def test_paths_and_modalities_may_be_arrays(tmp_path, images):
    embed = crossreid.Embedder(saved(tmp_path, 2, {"epoch": 1}))
    files = [f"{tmp_path}/{number}.png" for number in range(2)]
    for file, image in zip(files, images):
        PILImage.fromarray(image).save(file)
    expected = embed(files, ["infrared", "visible"])
    for kind in (object, str):
        found = embed(np.array(files, kind), np.array(["infrared", "visible"], kind))
        np.testing.assert_array_equal(found, expected)


def test_an_embedder_is_opened_again_by_another_process(tmp_path, images):
    path = saved(tmp_path, 1, {"epoch": 1})
    for embed in (crossreid.Embedder(path, batch=3, size=(64, 32)), crossreid.Embedder("small")):
        again = pickle.loads(pickle.dumps(embed))
        assert (again.fingerprint, again.batch, again.size) == (embed.fingerprint, embed.batch, embed.size)
        np.testing.assert_array_equal(again(images), embed(images))
    kept = pickle.dumps(crossreid.Embedder(path))
    content = checkpoint.read(path)
    content["weights"]["neck.running_mean"][0] += 1e-3
    checkpoint.save(path, content)
    with pytest.raises(UserError, match="is another model than when"):
        pickle.loads(kept)


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
    for wrong, words in ((images[0].astype(float), "uint8"), (images[0][:, :, :2], "height, width, 3")):
        with pytest.raises(UserError, match=words):
            embed([wrong])
    with pytest.raises(UserError, match="outside of the frame"):
        embed(images[0], boxes=[(100, 0, 120, 10)])
    with pytest.raises(UserError, match="the feature is 'nck'"):
        crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), feature="nck")


def test_frames_come_with_boxes_in_every_usual_form(tmp_path, images):
    import torch

    embed = crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), batch=2)
    frame = np.concatenate(list(images), axis=1)
    boxes = np.array([(30 * number, 0, 30 * number + 30, 60) for number in range(5)], float)
    expected = embed(list(images))
    rows = np.column_stack([boxes, np.arange(5), np.full(5, 0.9), np.zeros(5)])  # track, confidence, class
    centres = np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
    for same in (
        embed(frame, boxes=rows),
        embed([frame], boxes=rows.tolist()),
        embed([frame], boxes=[rows.tolist()]),
        embed(frame, boxes=np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]), box_format="xywh"),
        embed(frame, boxes=centres, box_format="cxcywh"),
        embed(frame[:, :, ::-1].copy(), boxes=boxes, order="bgr"),
        embed(torch.from_numpy(frame), boxes=torch.from_numpy(boxes)),
        embed(torch.from_numpy(frame).permute(2, 0, 1) / 255, boxes=boxes),
        embed.detections(frame, type("Detections", (), {"xyxy": boxes})()),
        embed((frame for _ in range(2)), boxes=iter([boxes[:2], boxes[2:]])),
        embed(np.stack([frame, frame]), boxes=[boxes[:5], []]),
        embed(iter(images)),
        embed(torch.from_numpy(images).permute(0, 3, 1, 2)),
        embed(images[..., ::-1], order="bgr"),
    ):
        assert same == pytest.approx(expected, abs=2e-6)
    assert embed(frame, boxes=[]).shape == (0, 128)
    for wrong, given, words in (
        ([frame, frame], [boxes], "1 lists of boxes and more of the other"),
        (iter([frame]), [boxes, boxes], "1 frames and more of the other"),
        (frame, boxes[:, :3], "rows of 4 to 8 numbers"),
        (frame, [["a", "b", "c", "d"]], "rows of 4 to 8 numbers"),
    ):
        with pytest.raises(UserError, match=words):
            embed(wrong, boxes=given)
    with pytest.raises(UserError, match="did you mean 'xywh'"):
        embed(frame, boxes=boxes, box_format="xwyh")
    with pytest.raises(UserError, match="not normalised by means"):
        embed(torch.randn(3, 60, 30))


def test_one_bad_box_or_frame_never_ends_a_video(tmp_path, images):
    embed = crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}), batch=2)
    frame, good = images[0], (0, 0, 30, 60)
    wrong = [(40, 0, 50, 10), (5, 5, 5, 20), (20, 0, 10, 20), (0, float("nan"), 10, 20)]
    boxes = [good, *wrong, (-5, -5, 30, 60)]
    with pytest.raises(UserError, match=r"box 2: .* lies outside"):
        embed(frame, boxes=boxes)
    with pytest.warns(UserWarning, match="4 images have vectors that are not numbers: box 2: .*box 5: "):
        vectors = embed(frame, boxes=boxes, bad="nan")
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True, True, False]
    with pytest.warns(UserWarning, match="are left out"):
        assert embed(frame, boxes=boxes, bad="skip") == pytest.approx(vectors[[0, 5]], abs=1e-6)
    with pytest.warns(UserWarning, match="4 images have random vectors: box 2"):
        filled = embed(frame, boxes=boxes, bad="random")
    assert filled[[0, 5]] == pytest.approx(vectors[[0, 5]], abs=1e-6)
    assert np.linalg.norm(filled, axis=1) == pytest.approx(np.ones(6))
    assert abs(filled[1:5] @ filled.T - np.eye(6)[1:5]).max() < 0.5  # alike to nobody, each other included
    video = [frame, b"breaks off", images[1]]
    with pytest.warns(UserWarning, match="frame 2, box 1: .*not a readable image"):
        vectors = embed(iter(video), boxes=iter([[good, good], [good, good], [good]]), bad="nan")
    assert np.isnan(vectors[:, 0]).tolist() == [False, False, True, True, False]
    with pytest.warns(UserWarning, match="are left out"):
        assert embed(video, bad="skip").shape == (2, 128)
    with pytest.raises(UserError, match="choose one of raise, nan, random, skip"):
        embed(frame, boxes=boxes, bad="drop")


def test_modalities_go_with_frames_or_with_boxes(tmp_path, images):
    embed = crossreid.Embedder(saved(tmp_path, 2, {"epoch": 1}), batch=2)
    box = (0, 0, 30, 60)
    seen, warm = (embed(images[0], name, [box]) for name in ("visible", "infrared"))
    assert embed(images[0], ["rgb", "ir"], [box, box]) == pytest.approx(
        np.concatenate([seen, warm]), abs=1e-5
    )
    two = embed([images[0]] * 2, ["ir", "rgb"], [[box], [box, box]])
    assert two == pytest.approx(np.concatenate([warm, seen, seen]), abs=1e-5)
    with pytest.raises(UserError, match="3 modalities were given for 2"):
        embed(images[0], ["ir"] * 3, [box, box])
    with pytest.raises(UserError, match="treats visible and infrared"):
        embed(iter(images))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_floating_point_type(kind):
    steps = torch.arange(256).reshape(16, 16)
    image = torch.stack([steps, steps.T, steps.flip(0)])
    found = arrays.checked((image / 255).to(kind)).astype(int)
    # bfloat16 has eight bits.
    allowed = 1 if kind == torch.bfloat16 else 0
    assert np.abs(found - image.permute(1, 2, 0).numpy()).max() <= allowed


def test_grey_and_thermal_frames(tmp_path):
    embed = crossreid.Embedder(saved(tmp_path, 1, {"epoch": 1}))
    grey = np.random.default_rng(1).integers(0, 256, (60, 30)).astype(np.uint8)
    assert embed(grey) == pytest.approx(embed(grey[:, :, None].repeat(3, 2)), abs=1e-6)
    # A thermal camera's 14 bits, of which people and walls take a few hundred, and a dead pixel.
    thermal = (7000 + 3 * grey.astype(np.uint16)).astype(np.uint16)
    thermal[0, 0] = 65535
    file = tmp_path / "thermal.png"
    PILImage.fromarray(thermal).save(file)
    assert embed(thermal) == pytest.approx(embed(file), abs=1e-6)
    assert np.array_equal(embed(thermal.astype(">u2")), embed(thermal))
    assert embed(thermal, boxes=[(0, 1, 30, 60)])[0] @ embed(grey, boxes=[(0, 1, 30, 60)])[0] > 0.999
    with pytest.warns(UserWarning, match="fewer than 32 grey levels"):
        embed(thermal // 256)
