"""Stored features score as the model did; two plain folders; the exchange format of SYSU-MM01; damaged files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_layouts import noise

from crossreid import memory, protocols
from crossreid.__main__ import main
from crossreid.data import two_folders
from crossreid.evaluation import EvaluateConfig, evaluate_stored, mapped, score_subsets, verification
from crossreid.evaluation.features import is_stored, read_stored, write_stored
from crossreid.evaluation.stored import Stored
from crossreid.images import labels
from crossreid.ops import ranking
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import Embedding, Metric, UserError


def quiet(text):
    pass


def numbers(folder):
    content = json.loads((folder / "evaluation.json").read_text())
    return {key: content[key] for key in ("rows", "reranked", "ranked", "metric", "feature", "protocol")}


@pytest.fixture(scope="module")
def stripes_stored(tmp_path_factory, market, settings_file):
    """The folder of an evaluation of AlignedReID++, untrained, with its features.npz."""
    from crossreid import checkpoint, config

    folder = tmp_path_factory.mktemp("stored")
    method = checkpoint.build("alignedreid", {"backbone": "tiny", "pretrained": None}, 6)
    settings = config.load(
        {"method": {"name": "alignedreid"}, "data": {"roots": {"market1501": str(market)}, "workers": 0}}
    ).to_dict()
    shown = {"size": [64, 32], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    content = checkpoint.describe(method, "alignedreid", input=shown, settings=settings, trained={"epoch": 3})
    checkpoint.save(folder / "model.pt", content)
    words = ["--evaluate.features", "true", "--evaluate.rerank", "true", "--out", str(folder)]
    assert main(["evaluate", str(folder / "model.pt"), *words]) == 0
    return folder


def test_features_with_stripes_score_as_the_model_did(stripes_stored, tmp_path, capsys):
    with np.load(stripes_stored / "features.npz") as file:
        assert file["stripes"].shape[1:] == (2, 128) and str(file["feature"]) == "global_local"
        assert file["vectors"].shape[1:] == (128,)
    capsys.readouterr()
    words = ["--evaluate.rerank", "true", "--out", str(tmp_path)]
    assert main(["evaluate", str(stripes_stored / "features.npz"), *words]) == 0
    shown = capsys.readouterr().out
    assert "re-ranking (RK)" in shown and "queries search" in shown and "report.html" in shown
    assert numbers(tmp_path) == numbers(stripes_stored)


def test_features_by_another_protocol(stripes_stored, market, tmp_path, capsys):
    stored = str(stripes_stored / "features.npz")
    assert main(["evaluate", stored, "--protocol.same_camera", "false", "--out", str(tmp_path)]) == 0
    assert "same-camera rule is off" in capsys.readouterr().out
    model = str(stripes_stored / "model.pt")
    words = ["--protocol.same_camera", "false", "--out", str(tmp_path / "model")]
    assert main(["evaluate", model, *words]) == 0
    assert numbers_of_rows(tmp_path) == numbers_of_rows(tmp_path / "model")
    other = read_stored(stored)
    few = SingleQuery.between(other.protocol.images[:3], other.protocol.images[30:], title="few")
    assert len(read_stored(stored, protocol=few).embedding) == 3 + len(other.protocol.images) - 30
    few.images[4] = type(few.images[4])(tmp_path / "new.jpg", 1, 1)
    with pytest.raises(UserError, match=r"lack 1 of the \d+ images .*new\.jpg"):
        read_stored(stored, protocol=few)


def numbers_of_rows(folder):
    return json.loads((folder / "evaluation.json").read_text())["rows"]


def test_trials_and_rules_are_stored(sysu, tmp_path):
    protocol = protocols.get("sysu_mm01")(sysu)
    embedding = Embedding(torch.from_numpy(noise(protocol.images).astype(np.float32)))
    about = {"feature": "x", "metric": {"feature": "cosine", "stripes": None}, "notes": []}
    about["protocol"] = {"name": protocol.name, "description": protocol.description}
    write_stored(tmp_path / "f.npz", Stored(protocol, embedding, {"x": Metric("cosine")}, "x", about))
    stored = read_stored(tmp_path / "f.npz")
    assert stored.protocol.images == [
        type(image)(
            image.path.resolve(), *(getattr(image, n) for n in ("identity", "camera", "modality", "domain"))
        )
        for image in protocol.images
    ]
    (expected,) = score_subsets(protocol, embedding, Metric("cosine"), EvaluateConfig()).values()
    (found,) = evaluate_stored(stored, EvaluateConfig(), log=quiet).values()
    assert len(found.per_trial) == 10
    np.testing.assert_array_equal(found.cmc, expected.cmc)


def two_sides(rng, tmp_path, columns=True):
    """A query and a gallery file as `crossreid embed` writes them, and the protocol's slow result."""
    who, seen = np.array([3, 3, 5, 5, 9]), np.array([1, 2, 1, 2, 1])
    vectors = rng.normal(size=(5, 6)).astype(np.float32)
    names = np.array([f"some/{p:04d}_c{c}s1_000001_00.jpg" for p, c in zip(who, seen)])
    for name, rows in (("q", [0, 2]), ("g", [1, 3, 4])):
        table = {"vectors": vectors[rows], "path": names[rows], "fingerprint": "ab", "feature": "bn"}
        if columns:
            table |= {"identity": who[rows], "camera": seen[rows]}
        np.savez(tmp_path / f"{name}.npz", **table)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    away = 1 - unit[[0, 2]] @ unit[[1, 3, 4]].T
    ranks = [1 + (away[row] < away[row, row]).sum() for row in (0, 1)]
    return np.mean([1 / rank for rank in ranks])


@pytest.mark.parametrize("columns", [True, False])
def test_two_files_of_vectors(tmp_path, columns, capsys):
    expected = two_sides(np.random.default_rng(0), tmp_path, columns)
    stored = read_stored(tmp_path / "q.npz", tmp_path / "g.npz")
    assert [image.identity for image in stored.protocol.images] == [3, 5, 3, 5, 9]
    assert [image.camera for image in stored.protocol.images] == [1, 1, 2, 2, 1]
    (scores,) = evaluate_stored(stored, EvaluateConfig(), log=quiet).values()
    assert scores.mean_ap == pytest.approx(expected)
    assert main(["evaluate", str(tmp_path / "q.npz"), "--gallery", str(tmp_path / "g.npz")]) == 0
    assert f"{100 * expected:.2f}" in capsys.readouterr().out


def test_one_file_with_the_column_split(tmp_path):
    expected = two_sides(np.random.default_rng(1), tmp_path)
    parts = [np.load(tmp_path / f"{name}.npz") for name in "qg"]
    both = {key: np.concatenate([part[key] for part in parts]) for key in ("vectors", "identity", "camera")}
    split = np.array(["Query"] * 2 + ["gallery"] * 3)
    np.savez(tmp_path / "both.npz", **both, split=split)
    (scores,) = evaluate_stored(read_stored(tmp_path / "both.npz"), EvaluateConfig(), log=quiet).values()
    assert scores.mean_ap == pytest.approx(expected)
    np.savez(tmp_path / "none.npz", **both)
    with pytest.raises(UserError, match="does not say which vectors are queries"):
        read_stored(tmp_path / "none.npz")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"PK\x03\x04 no archive", "cannot be read"),
        (None, "there are no features"),
        ({"vectors": np.zeros((3, 2, 1))}, r"vectors of shape \(3, 2, 1\)"),
        ({"other": np.zeros(3)}, "holds other: expected"),
        (
            {"vectors": np.zeros((3, 2)), "identity": np.zeros(2)},
            r"identity has the shape \(2,\), but there are 3",
        ),
        ({"vectors": np.zeros((1, 2)), "split": ["query"]}, "does not say who is on each image"),
        (
            {"vectors": np.zeros((1, 2)), "path": ["anna.jpg"], "split": ["query"]},
            r"the name anna\.jpg does not say",
        ),
        (
            {"vectors": np.zeros((1, 2)), "path": ["1_c1.jpg"], "split": ["probe"]},
            "the split of row 0 is 'probe', but query and gallery",
        ),
        ({"vectors": np.zeros((1, 2)), "record": "{}"}, r"cannot be read \(KeyError"),
        ({"vectors": np.array([None])}, "cannot be read"),
    ],
)
def test_damaged_and_foreign_files(tmp_path, content, words):
    path = tmp_path / "f.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **{name: np.array(value) for name, value in content.items()})
    with pytest.raises(UserError, match=words):
        read_stored(path)


def test_files_of_different_models(tmp_path):
    two_sides(np.random.default_rng(2), tmp_path)
    with np.load(tmp_path / "g.npz") as file:
        table = dict(file)
    np.savez(tmp_path / "g.npz", **table | {"fingerprint": "cd"})
    with pytest.raises(UserError, match="made by different models"):
        read_stored(tmp_path / "q.npz", tmp_path / "g.npz")
    np.savez(tmp_path / "g.npz", **table | {"vectors": np.ones((3, 7))})
    with pytest.raises(UserError, match=r"6 numbers and those in .* 7: embed both"):
        read_stored(tmp_path / "q.npz", tmp_path / "g.npz")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
def test_stopping_a_re_ranking_by_the_keyboard(tmp_path):
    rng = np.random.default_rng(0)
    people = {"identity": rng.integers(0, 20, 300), "camera": rng.integers(0, 4, 300)}
    split = np.where(np.arange(300) < 60, "query", "gallery")
    np.savez(tmp_path / "f.npz", vectors=rng.normal(size=(300, 8)), split=split, **people)
    script = (
        "import signal, sys, time\nfrom crossreid.ops import neighbours, rerank\nfrom crossreid.__main__ import main\n"
        # A shell that runs the tests in the background has its children ignore the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "tile = rerank._Features.tile\nneighbours.TILE = 16, 16\n"
        "def slow(*given):\n    print('tile', flush=True)\n    time.sleep(1)\n    return tile(*given)\n"
        "rerank._Features.tile = slow\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["evaluate", str(tmp_path / "f.npz"), "--evaluate.rerank", "true", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line == "tile\n":
            break
    process.send_signal(signal.SIGINT)
    # Undisturbed it would go on for minutes, and end with 0.
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130 and said.strip().endswith("crossreid: stopped.")
    assert "Traceback" not in said and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["feature", "feature_test"])
def test_the_exchange_format_of_sysu(sysu, tmp_path, name):
    from scipy.io import savemat

    protocol = protocols.get("sysu_mm01")(sysu)
    vectors = noise(protocol.images)
    known = {image.path: vector for image, vector in zip(protocol.images, vectors)}
    for camera in range(1, 7):
        cell = np.empty((1, 533) if name == "feature_test" else (533, 1), object)
        flat = cell.reshape(-1)
        for identity in range(533):
            folder = sysu / f"cam{camera}" / f"{identity + 1:04d}"
            names = sorted(path for path in folder.glob("*.jpg")) if folder.is_dir() else []
            rows = [known.get(path, np.zeros(vectors.shape[1])) for path in names]
            matrix = np.array(rows).reshape(len(rows), -1) if rows else np.zeros((0, 0))
            flat[identity] = matrix.T if name == "feature_test" else matrix
        savemat(tmp_path / f"net_cam{camera}.mat", {name: cell})
    assert is_stored(tmp_path) and is_stored(tmp_path / "net_cam1.mat") and not is_stored(sysu)
    embedding = Embedding(torch.from_numpy(vectors).float())
    (expected,) = score_subsets(protocol, embedding, Metric("euclidean"), EvaluateConfig()).values()
    for path in (tmp_path, tmp_path / "net_cam3.mat"):
        stored = read_stored(path, protocol=protocol)
        (found,) = evaluate_stored(stored, EvaluateConfig(), log=quiet).values()
        assert found.mean_ap == pytest.approx(expected.mean_ap)
    with pytest.raises(UserError, match="name the settings and the data set"):
        read_stored(tmp_path)
    (tmp_path / "net_cam3.mat").unlink()
    with pytest.raises(UserError, match="no file for camera 3"):
        read_stored(tmp_path, protocol=protocol)


def test_two_plain_folders_score_as_the_layout_does(trained, market, tmp_path, capsys):
    (tmp_path / "q").symlink_to(market / "query")
    (tmp_path / "g").symlink_to(market / "bounding_box_test")
    folders = ["--query", str(tmp_path / "q"), "--gallery", str(tmp_path / "g")]
    assert main(["evaluate", str(trained / "last.pt"), *folders, "--out", str(tmp_path / "out")]) == 0
    assert "q in g" in capsys.readouterr().out
    assert main(["evaluate", str(trained / "last.pt"), "--out", str(tmp_path / "usual")]) == 0
    one, other = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("out", "usual"))
    assert one["rows"][0]["mean_ap"] == other["rows"][0]["mean_ap"]
    assert main(["evaluate", str(trained / "last.pt"), *folders[:2]]) == 2
    assert "two folders are needed" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*have the identity -1", "ignore:.*no camera is known")
def test_how_two_folders_are_read(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    make("q/0007_c1s1_0.jpg", "g/0007_c02_0.jpg", "g/0000_c3s1_0.jpg", "g/-1_c1s1_0.jpg", "g/notes.txt")
    query, gallery = two_folders.read(tmp_path / "q", tmp_path / "g", modalities=("infrared", None))
    assert [(image.identity, image.camera, image.modality) for image in query] == [(7, 1, "infrared")]
    assert [(image.identity, image.camera) for image in gallery] == [(0, 3), (7, 2)]
    make("people/anna/1.jpg", "more/anna/2.jpg", "more/bert/3.jpg")
    with pytest.warns(UserWarning, match="no camera is known, so all queries count as camera 1"):
        query, gallery = two_folders.read(tmp_path / "people", tmp_path / "more")
    assert [image.identity for image in query] == [1] and [image.identity for image in gallery] == [1, 2]
    # Of which nothing tells the cameras, two folders are two cameras; one folder given twice is one.
    assert [{image.camera for image in side} for side in (query, gallery)] == [{1}, {2}]
    assert len(SingleQuery.between(query, gallery, title="own").trials()) == 1
    same = two_folders.read(tmp_path / "more", tmp_path / "more")
    with pytest.raises(UserError, match="same_camera: false"):
        SingleQuery.between(*same, title="own")
    (tmp_path / "more.csv").write_text(
        "path,identity,camera\nmore/anna/2.jpg,anna,door\nmore/bert/3.jpg,-1,door\n"
    )
    for keep, count in ((False, 1), (True, 2)):
        query, gallery = two_folders.read(
            tmp_path / "people", tmp_path / "more.csv", same_camera=False, keep_junk=keep
        )
        assert query[0].identity == gallery[0].identity and len(gallery) == count
    with pytest.raises(UserError, match="the camera of 1 of 2 images is not told"):
        two_folders.read(tmp_path / "people", tmp_path / "more.csv")
    make("odd/hello.jpg", "empty/notes.txt")
    with pytest.raises(UserError, match=r"name hello\.jpg does not say whom"):
        two_folders.read(tmp_path / "odd", tmp_path / "g")
    with pytest.raises(UserError, match="no images were found in"):
        two_folders.read(tmp_path / "q", tmp_path / "empty")
    query, _ = two_folders.read(tmp_path / "odd", tmp_path / "odd", pattern=r"(?P<identity>\w+)\.jpg")
    assert [image.identity for image in query] == [1]


@pytest.mark.filterwarnings("ignore:.*have the identity -1")
def test_junk_among_names_is_left_out_of_features_too(tmp_path):
    rng = np.random.default_rng(0)
    names = {"q": ["0001_c1_0.jpg", "0002_c1_0.jpg"], "g": ["0001_c2_0.jpg", "0002_c2_0.jpg", "-1_c2_0.jpg"]}
    for side, paths in names.items():
        np.savez(tmp_path / f"{side}.npz", vectors=rng.normal(size=(len(paths), 4)).astype("f4"), path=paths)
    stored = read_stored(tmp_path / "q.npz", tmp_path / "g.npz")
    assert [image.identity for image in stored.protocol.images] == [1, 2, 1, 2]
    assert len(stored.embedding) == 4
    assert "junk (identity -1) was left out: 1 image." in stored.about["notes"][0]
    with pytest.warns(UserWarning, match=r"g.npz: 1 of 3 images have the identity -1"):
        named = read_stored(tmp_path / "q.npz", tmp_path / "g.npz", pattern=labels.NAME)
    assert len(named.protocol.images) == 4
    assert len(read_stored(tmp_path / "q.npz", tmp_path / "g.npz", keep_junk=True).protocol.images) == 5
    with pytest.raises(UserError, match="begins inside a longer number"):
        read_stored(tmp_path / "q.npz", tmp_path / "g.npz", pattern=r"(?P<identity>\d+)_c(?P<camera>\d)")
    for side, paths in names.items():
        told = {
            "identity": [name.split("_")[0] for name in paths],
            "camera": [1 + (side == "g")] * len(paths),
        }
        np.savez(tmp_path / f"{side}.npz", vectors=np.eye(len(paths), 4), **told)
    assert len(read_stored(tmp_path / "q.npz", tmp_path / "g.npz").protocol.images) == 4


def labelled(file, **columns):
    count = len(columns["identity"])
    np.savez(file, vectors=np.eye(count, 6, dtype="f4") + 0.1, **columns)
    return file


def test_cameras_are_known_of_all_or_of_none(tmp_path):
    query = labelled(tmp_path / "q.npz", identity=[1, 2], camera=["1", "2"])
    gallery = labelled(tmp_path / "g.npz", identity=[1, 2])
    for other in (gallery, labelled(tmp_path / "h.npz", identity=[1, 2], camera=["", "3"])):
        with pytest.raises(UserError, match="is not told"):
            read_stored(query, other)
        assert len(read_stored(query, other, same_camera=False).protocol.images) == 4


@pytest.mark.parametrize("identity", [["7", ""], [7.0, float("nan")]])
def test_an_image_of_nobody_is_named(tmp_path, identity):
    file = labelled(tmp_path / "q.npz", identity=identity, camera=[1, 1])
    with pytest.raises(UserError, match=r"row 1 \(.*has no identity"):
        read_stored(file, file)


def test_people_of_one_frame_are_different_images(tmp_path):
    boxes = [[0, 0, 9, 9], [9, 0, 18, 9], [-1, -1, -1, -1]]
    query = labelled(tmp_path / "q.npz", identity=[1], path=["f.jpg"], box=boxes[:1])
    gallery = labelled(tmp_path / "g.npz", identity=[2, 1], path=["f.jpg", "g.jpg"], box=boxes[1:])
    protocol = read_stored(query, gallery, same_camera=False).protocol
    assert [image.box for image in protocol.images] == [(0, 0, 9, 9), (9, 0, 18, 9), None]
    assert protocol.trials()[0].excluded is None


def test_notes_are_those_of_the_protocol_that_scores(tmp_path, market):
    usual, off = (protocols.get("market1501")(market, same_camera=way) for way in (True, False))
    embedding = Embedding(torch.from_numpy(noise(off.images)).float())
    about = {"notes": list(off.notes), "protocol": {"name": off.name, "description": off.description}}
    write_stored(tmp_path / "f.npz", Stored(off, embedding, {"x": Metric("cosine")}, "x", about))
    assert "rule is off" in read_stored(tmp_path / "f.npz").about["notes"][0]
    assert read_stored(tmp_path / "f.npz", protocol=usual).about["notes"] == []
    sides = [labelled(tmp_path / f"{side}.npz", identity=[1, 2]) for side in "qg"]
    assert "rule is off" in read_stored(*sides, same_camera=False).about["notes"][0]


def test_two_folders_at_addresses_are_as_here(memory, tmp_path, capsys):
    people = [f"people/{name}.jpg" for name in ("anna/1", "anna/2", "bert/1", "bert/.hidden")]
    named = [f"named/{name}_1.jpg" for name in ("0001_c1s1", "0002_c2s1", "-1_c2s1")]
    for number, name in enumerate([*people, *named]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 16), (number * 20, 90, 90)).save(tmp_path / name)
    (tmp_path / "named.csv").write_text("path,identity,camera\nnamed/0001_c1s1_1.jpg,1,1\n")
    (tmp_path / "loose" / "anna").mkdir(parents=True)
    memory.put(str(tmp_path), "/shop", recursive=True)
    for names in (("people", "people"), ("people", "named"), ("named", "named"), ("named.csv", "named")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            here = two_folders.read(*(tmp_path / name for name in names), same_camera=False)
            there = two_folders.read(*(f"memory://shop/{name}" for name in names), same_camera=False)
            mixed = two_folders.read(f"memory://shop/{names[0]}", tmp_path / names[1], same_camera=False)
        assert mixed == (there[0], here[1]) or names[0] == names[1]  # where they are two cameras
        for one, other in zip(here, there):
            assert [str(each.path).replace("memory://shop", str(tmp_path)) for each in other] == [
                str(each.path) for each in one
            ]
            assert [replace(each, path=Path()) for each in other] == [
                replace(each, path=Path()) for each in one
            ]
    sides = ["--query", "memory://shop/people", "--gallery", "memory://shop/people"]
    assert main(["evaluate", "small", *sides, "--protocol.same_camera", "false"]) == 0
    assert "3 queries search 3 gallery images" in capsys.readouterr().out
    for place, word in (("shop/nowhere", "cannot be listed"), ("shop/loose", "holds no images")):
        with pytest.raises(UserError, match=word):
            two_folders.read(f"memory://{place}", tmp_path / "people")
    with pytest.raises(UserError, match="cannot be reached"):
        two_folders.read("nothing://shop/people", tmp_path / "people")


def test_two_folders_of_a_model_that_tells_modalities_apart(sysu, tmp_path, capsys):
    from exported_models import checkpoint_file

    file = checkpoint_file(tmp_path / "two.pt", "agw", settings={"method": {"name": "agw"}})

    def scored(name, *options):
        folders = ["--query", str(tmp_path / name), "--gallery", str(sysu / "cam4")]
        out = tmp_path / f"out-{name}-{len(options)}"
        words = [
            "evaluate",
            str(file),
            *folders,
            "--protocol.same_camera",
            "false",
            "--out",
            str(out),
            *options,
        ]
        if main(words):
            return capsys.readouterr().err
        capsys.readouterr()
        return json.loads((out / "evaluation.json").read_text())["rows"][0]["mean_ap"]

    (tmp_path / "cam3").symlink_to(sysu / "cam3")
    (tmp_path / "plain").symlink_to(sysu / "cam3")
    assert "Give --query-modality visible or infrared" in scored("plain")
    said = scored("plain", "--query-modality", "infrared")
    assert scored("cam3") == said != scored("plain", "--query-modality=visible")


@pytest.mark.slow
def test_embedded_files_with_stripes_score_as_the_checkpoint(market, tmp_path, capsys):
    """Features to files, then scores: global, local or both, aligned and re-ranked."""
    from exported_models import checkpoint_file

    file = checkpoint_file(tmp_path / "model.pt", "alignedreid")
    sides = {"q": market / "query", "g": market / "bounding_box_test"}
    for name, folder in sides.items():
        for more in ([], ["--half"]):
            out = tmp_path / f"{name}{len(more)}.npz"
            assert main(["embed", str(file), str(folder), "--out", str(out), *more]) == 0
            assert "the stripes of" in capsys.readouterr().out
    with np.load(tmp_path / "q0.npz") as whole, np.load(tmp_path / "q1.npz") as half:
        assert whole["stripes"].shape[1:] == (2, 128) and half["stripes"].dtype == np.float16
        assert whole["stripes"].dtype == np.float32
    for feature in ("global_local", "local", "global", "global_local_unaligned"):
        words = ["--evaluate.feature", feature, "--evaluate.rerank", "true", "--train.device", "cpu"]
        found = []
        for count, given in enumerate(
            (
                [str(file), "--query", str(sides["q"]), "--gallery", str(sides["g"])],
                [str(tmp_path / "q0.npz"), "--gallery", str(tmp_path / "g0.npz")],
                [str(tmp_path / "q1.npz"), "--gallery", str(tmp_path / "g1.npz")],
            )
        ):
            out = tmp_path / f"{feature}-{count}"
            assert main(["evaluate", *given, *words, "--out", str(out)]) == 0
            content = json.loads((out / "evaluation.json").read_text())
            found.append([content[part][0]["mean_ap"] for part in ("rows", "reranked")])
        # Images may be resized a grey level apart here and there.
        assert found[1] == pytest.approx(found[0], abs=0.01)
        assert found[2] == pytest.approx(found[1], abs=0.01)
    assert main(["embed", str(file), str(sides["q"]), "--out", str(tmp_path / "q.csv")]) == 0
    assert "are left out, which .csv cannot hold" in capsys.readouterr().out
    np.savez(tmp_path / "other.npz", **dict(np.load(tmp_path / "g0.npz")) | {"stripes": np.zeros((1, 2, 3))})
    with pytest.raises(UserError, match="stripes have the shape"):
        read_stored(tmp_path / "q0.npz", tmp_path / "other.npz")


def test_query_expansion_and_another_metric_are_settings(stripes_stored, tmp_path, capsys):
    stored = read_stored(stripes_stored / "features.npz")

    def mean_ap(**settings):
        config = EvaluateConfig(feature="global", **settings)
        (scores,) = evaluate_stored(stored, config, log=quiet).values()
        return scores.mean_ap

    from crossreid.evaluation import ExpandConfig
    from crossreid.ops import ranking, rerank
    from crossreid.protocols.results import identities_and_cameras

    (trial,) = stored.protocol.trials()
    who, seen = identities_and_cameras(stored.protocol)
    feature = stored.embedding.feature
    for side in ("both", "query"):
        sides = rerank.expand_features(
            feature[trial.query], feature[trial.gallery], k=4, alpha=2.0, queries_only=side == "query"
        )
        labels = who[trial.query], who[trial.gallery], seen[trial.query], seen[trial.gallery]
        expected = ranking.evaluate(*sides, *labels, excluded=trial.excluded).mean_ap
        assert mean_ap(expand=ExpandConfig(k=4, side=side, alpha=2.0)) == pytest.approx(expected)
        assert expected != mean_ap()
    sides = feature[trial.query], feature[trial.gallery]
    expected = ranking.evaluate(*sides, *labels, excluded=trial.excluded, metric="euclidean").mean_ap
    assert mean_ap(metric="euclidean") == pytest.approx(expected)
    words = ["evaluate", str(stripes_stored / "features.npz"), "--evaluate.feature", "global"]
    assert main([*words, "--evaluate.expand.k", "3", "--out", str(tmp_path)]) == 0
    assert "means of 3 neighbours" in capsys.readouterr().out
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["expand"] == {"k": 3, "side": "both", "alpha": 3.0, "times": 1}
    for changes, told in (
        (["--evaluate.expand.side", "gallery"], "evaluate.expand.side is 'gallery'"),
        (["--evaluate.expand.times", "2"], "give k, such as 5"),
        (["--evaluate.metric", "hamming"], "evaluate.metric is 'hamming'"),
    ):
        assert main([*words, *changes]) == 2 and told in capsys.readouterr().err
    stripes = ["evaluate", str(stripes_stored / "features.npz")]
    assert main([*stripes, "--evaluate.expand.k", "3"]) == 2
    assert "compared by stripes too" in capsys.readouterr().err
    assert main([*stripes, "--evaluate.feature", "local", "--evaluate.metric", "cosine"]) == 2
    assert "by its stripes alone" in capsys.readouterr().err


def test_vectors_that_stay_on_the_disk_score_as_those_of_an_archive(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, count in (("query", 30), ("gallery", 200)):
        identity, camera = rng.integers(0, 12, count), rng.integers(0, 4, count)
        vectors = rng.normal(size=(count, 8)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", vectors=vectors, identity=identity, camera=camera)
        np.save(tmp_path / f"{name}.npy", vectors)
        lines = [f"{at}.jpg,{who},{where}" for at, (who, where) in enumerate(zip(identity, camera))]
        (tmp_path / f"{name}.npy.rows.csv").write_text("\n".join(["path,identity,camera", *lines]) + "\n")

    def scores(kind, workers):
        stored = read_stored(tmp_path / f"query{kind}", tmp_path / f"gallery{kind}")
        config = EvaluateConfig(verification=True, rerank=True, workers=workers)
        found = evaluate_stored(stored, config, out=tmp_path / kind[1:], log=quiet)["Stored features"]
        return found, json.loads((tmp_path / kind[1:] / "evaluation.json").read_text())["pairs"]

    archive, pairs = scores(".npz", 1)
    monkeypatch.setattr(mapped, "LARGE", 1)
    monkeypatch.setattr(ranking, "PIECE", 8 * 64)
    monkeypatch.setattr(verification, "TOGETHER", 300)
    disk, pairs_on_disk = scores(".npy", 2)
    assert archive.mean_ap == disk.mean_ap and archive.verification == disk.verification
    assert pairs == pairs_on_disk
    assert not list((tmp_path / "npy").glob("neighbours*"))
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=100))
        with pytest.raises(UserError, match=r"room for 0\.0 GiB.*set TMPDIR"):
            scores(".npy", 1)
    (tmp_path / "query.npy.rows.csv").unlink()
    with pytest.raises(UserError, match="has no table"):
        read_stored(tmp_path / "query.npy", tmp_path / "gallery.npy")


PEAK = """
import sys
from crossreid.__main__ import main
from crossreid.evaluation import mapped
from crossreid.ops import ranking

mapped.LARGE, mapped.ROWS, ranking.PIECE = 1, 512, 2**20
words = ["--gallery", sys.argv[2], "--workers", "1", *sys.argv[3:]]
assert main(["evaluate", sys.argv[1], *words]) == 0
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory a process had")
@pytest.mark.parametrize(
    "kind, count, options, share",
    [
        ("<f4", 14_000, [], 0.5),
        # Lists of neighbours take their part.
        (">f8", 8_000, ["--evaluate.metric", "euclidean", "--evaluate.rerank", "true"], 1),
    ],
)
def test_a_larger_gallery_on_the_disk_takes_less_memory_than_its_vectors(
    tmp_path, kind, count, options, share
):
    def side(name, count):
        vectors = np.lib.format.open_memmap(tmp_path / name, "w+", np.dtype(kind), (count, 2048))
        vectors[:, :64] = np.random.default_rng(count).normal(size=(count, 64))
        vectors.flush()
        lines = [f"{at}.jpg,{at % 50},{count}" for at in range(count)]
        (tmp_path / f"{name}.rows.csv").write_text("\n".join(["path,identity,camera", *lines]) + "\n")
        return str(tmp_path / name)

    def peak(gallery):
        words = [sys.executable, "-c", PEAK, query, gallery, *options]
        found = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return 1024 * int(found.stdout.split()[-1])

    # glibc would keep freed blocks of some megabytes, now more of them and now fewer.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    query = side("query.npy", 64)
    less, more = side("less.npy", 2000), side("more.npy", count)
    assert peak(more) - peak(less) < share * (count - 2000) * 2048 * 4


@pytest.mark.parametrize("large", [1, 2**28])
@pytest.mark.parametrize("kind", ["<f2", "<f8", ">f4", "<i2", "F"])
def test_vectors_of_another_type_are_those_numbers_in_float32(tmp_path, monkeypatch, kind, large):
    monkeypatch.setattr(mapped, "LARGE", large)
    monkeypatch.setattr(mapped, "ROWS", 3)
    vectors = np.random.default_rng(0).normal(size=(8, 4)).round(1) * 10
    written = np.asarray(vectors, np.float32, order="F") if kind == "F" else vectors.astype(kind)
    np.save(tmp_path / "q.npy", written)
    lines = [f"{at % 2},{at % 3},{'query' if at < 4 else 'gallery'}" for at in range(8)]
    (tmp_path / "q.npy.rows.csv").write_text("\n".join(["identity,camera,split", *lines]))
    found = read_stored(tmp_path / "q.npy").embedding.feature
    assert found.dtype == torch.float32 and np.array_equal(found, written.astype(np.float32))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("large", [1, 2**28])
def test_numbers_beyond_float32_are_told_with_their_image_and_no_warning(tmp_path, monkeypatch, large):
    monkeypatch.setattr(mapped, "LARGE", large)
    np.save(tmp_path / "q.npy", np.array([[1.0, 2], [1e300, 1]]))
    (tmp_path / "q.npy.rows.csv").write_text("path,identity,camera,split\na,1,1,query\nb,1,2,gallery\n")
    with pytest.raises(UserError, match="the feature of b is not a finite number"):
        evaluate_stored(read_stored(tmp_path / "q.npy"), EvaluateConfig(), log=quiet)


@pytest.mark.parametrize("name", ["v.csv", "v.parquet"])
def test_a_table_of_vectors_is_told_where_features_are_expected(tmp_path, capsys, name):
    (tmp_path / name).write_text("path,v0\n")
    assert main(["evaluate", str(tmp_path / name)]) == 2
    assert "is a table, from which no features are scored: give them as .npz" in capsys.readouterr().err


def test_a_table_of_rows_whose_boxes_are_no_numbers(tmp_path):
    np.save(tmp_path / "q.npy", np.eye(2, dtype=np.float32))
    lines = [
        "path,identity,camera,split,x0,y0,x1,y1",
        "a.png,1,1,query,0,0,4,8",
        "b.png,1,2,gallery,0,0,4,wide",
    ]
    (tmp_path / "q.npy.rows.csv").write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=r"q\.npy\.rows\.csv cannot be read .*wide.*: expected the table"
    ) as error:
        read_stored(tmp_path / "q.npy")
    assert "\n" not in str(error.value)


def test_pages_that_are_let_go_come_back(tmp_path):
    values = np.arange(300_000, dtype=np.float32)
    kept = memory.mapped(np.memmap(tmp_path / "values", np.float32, "w+", shape=values.shape))
    kept[:] = values
    for part in (kept, kept[5000:6000], kept[:0], kept[299_999:], values):
        memory.let_go(part)
    assert np.array_equal(kept, np.arange(300_000)) and np.array_equal(values, kept)
