"""The readers of files from outside: how to make sound files for each, how to change them, and how to read them."""

import io
import json
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import mutate
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Reader:
    """make(folder) writes sound files; ``files`` are the patterns of those that are changed, by ``change(path, content,
    random)``; read(folder) reads them, or, where ``alone``, read(path) the one that was changed. memory: that the
    reader needs for itself, in bytes."""

    make: Callable
    read: Callable
    patterns: tuple[str, ...] = ("*",)
    change: Callable = lambda path, content, random: mutate.blind(content, random)
    alone: bool = False
    memory: int = 0

    def files(self, folder: Path) -> list[Path]:
        return sorted(path for pattern in self.patterns for path in folder.rglob(pattern) if path.is_file())


def by_kind(path: Path, content: bytes, random) -> bytes:
    """Changes that get past the first check of a format."""
    if path.suffix in (".npz", ".pt", ".pth"):
        if content[:2] == b"PK":
            return mutate.archive(content, random)
    if path.suffix == ".json" or path.name == "config.yaml":
        import yaml

        value = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
        return mutate.written(value, random)
    if path.suffix == ".jsonl":
        lines = content.splitlines()
        place = random.randrange(len(lines))
        lines[place] = mutate.written(json.loads(lines[place]), random)
        return b"\n".join(lines)
    return mutate.blind(content, random)


# ---- weights


def _make_checkpoint(folder):
    from exported_models import TINY, checkpoint_file

    folder.mkdir()
    settings = {"data": {"name": "market1501", "fold": 2}, "protocol": {"name": "single_query"}}
    checkpoint_file(folder / "agw.pt", "agw", TINY, None, settings)


def _odd_checkpoint(path, content, random):
    """Half the time a whole checkpoint with odd values, else changed bytes."""
    import torch

    if random.random() < 0.3:
        return mutate.archive(content, random)
    made = io.BytesIO()
    known = torch.load(io.BytesIO(content), weights_only=True)
    weights = known["weights"]
    names = [name for name in known if name != "weights"]
    part = {name: known[name] for name in names}
    changed = mutate.tree(part, random)
    if random.random() < 0.15:
        name = random.choice(list(weights))
        value = weights[name]
        odd = [
            value.reshape(-1)[:1],
            value[None],
            value.new_zeros(()).expand(7, 8),
            torch.eye(2).to_sparse(),
            3,
            None,
        ]
        weights = weights | {name: random.choice(odd)}
    if isinstance(changed, dict):
        changed = changed | ({"weights": weights} if random.random() < 0.97 else {})
    torch.save(changed, made, _use_new_zipfile_serialization=random.random() < 0.8)
    return made.getvalue()


def _read_checkpoint(path):
    from crossreid.embedder import Embedder

    embedder = Embedder(path)
    assert embedder.dimension and embedder.fingerprint


def _make_weights(folder):
    import torch
    from safetensors.torch import save_file

    from crossreid.formats.mindspore import write_checkpoint

    folder.mkdir()
    torch.manual_seed(0)
    values = {
        "a.weight": torch.randn(4, 3),
        "a.bias": torch.randn(4),
        "b": torch.arange(5),
        "c": torch.randn(2).half(),
    }
    torch.save(
        {"state_dict": values, "epoch": 3, "best": np.float64(0.5), "n": np.arange(3)}, folder / "zip.pth"
    )
    torch.save({"net": values, "n": [1, "x"]}, folder / "old.t", _use_new_zipfile_serialization=False)
    save_file(values, folder / "safe.safetensors")
    write_checkpoint(
        folder / "mind.ckpt", {key: value.numpy() for key, value in values.items()} | {"words": "text"}
    )


def _read_weights(path):
    from crossreid.formats.pytorch import read_weights

    for value in read_weights(path)[0].values():
        value.float().sum()


# Files of the published programs: ours that are written in their form.
_ORIGINALS = {
    "fastreid": {
        "backbone": "resnet50_ibn_a",
        "variant": "fastreid",
        "attention": True,
        "pooling": "gem_learned",
        "classifier": "circle",
    },
    "strong_baseline": {"backbone": "resnet18", "variant": "strong_baseline"},
    "torchreid": {
        "backbone": "osnet_ain_x0_25",
        "embedding": 512,
        "neck": False,
        "losses": ["cross_entropy"],
    },
    "torchreid_ibn": {
        "backbone": "resnet50_ibn_b",
        "last_stride": 2,
        "neck": False,
        "losses": ["cross_entropy"],
    },
    "transreid": {"backbone": "transreid_deit_small", "pooling": "token"},
}


def _make_original(folder):
    from crossreid import checkpoint, originals

    folder.mkdir()
    method = checkpoint.build("metabin", {"pretrained": None}, 4, 3)
    # Names and kinds are what is looked at: some weights, and few numbers of each, keep the inputs quick.
    state = list(method.state_dict().items())
    few = {
        name: value[:2].clone() if value.numel() > 2000 else value for name, value in state[:40] + state[-20:]
    }
    originals.to_original("metabin", few, folder / "metabin.pth", {})
    for name, config in _ORIGINALS.items():
        state = checkpoint.build("baseline", {"pretrained": None} | config, 4).state_dict()
        small = {key: value for key, value in state.items() if value.numel() <= 4000}
        small |= {key: _cut(value) for key, value in state.items() if key not in small}
        originals.to_original("baseline", small, folder / f"{name}.pth", config)


def _cut(value):
    """A few of its numbers, in as many dimensions; as many positions of a transformer as there are."""
    return (value[..., :2] if value.ndim == 3 else value[:2, :2] if value.ndim > 1 else value[:2]).clone()


def _odd_original(path, content, random):
    import torch

    if random.random() < 0.3:
        return mutate.archive(content, random)
    known = torch.load(io.BytesIO(content), weights_only=True)
    weights = next((value for value in known.values() if isinstance(value, dict)), known)
    for _ in range(random.randint(1, 3)):
        name = random.choice(list(weights))
        value = weights[name]
        odd = [value.reshape(-1)[:1], value.reshape(-1), value[None], value.long(), torch.zeros(0), "x"]
        weights[name] = random.choice(odd)
        if random.random() < 0.2:
            weights[random.choice(["x", name + ".y", "module." + name])] = weights.pop(name)
    made = io.BytesIO()
    torch.save(known, made)
    return made.getvalue()


def _read_original(path):
    from crossreid import originals

    originals.read(path)


# ---- data sets


def _make_matlab(folder):
    from scipy.io import savemat

    folder.mkdir()

    def cells(values):
        made = np.empty((len(values), 1), object)
        made[:, 0] = values
        return made

    permutations = cells([cells([np.arange(3, dtype=np.uint8)[None], np.zeros((0, 0))]) for _ in range(6)])
    scene = np.array(
        [("s1.jpg", np.array([[1, 2, 3, 4]]), 0), ("s2.jpg", np.array([[1, 2, 3, 4]]), 1)],
        [("imname", object), ("idlocate", object), ("ishard", object)],
    )
    person = np.array([("p1", 2, scene)], [("idname", object), ("nAppear", object), ("scene", object)])
    for packed in (False, True):
        savemat(
            folder / f"ids{packed}.mat", {"id": np.arange(9, dtype=np.uint16)[None]}, do_compression=packed
        )
        savemat(folder / f"perm{packed}.mat", {"rand_perm_cam": permutations}, do_compression=packed)
        savemat(folder / f"Person{packed}.mat", {"Person": person}, do_compression=packed)
        savemat(folder / f"x_cam{1 + packed}.mat", {"feature": cells([np.ones((2, 3)), np.zeros((0, 0))])})


def _packed(path, content, random):
    """Changes inside of compressed variables too."""
    import zlib

    if path.stem.endswith("True") and random.random() < 0.7:
        inner = mutate.blind(zlib.decompress(content[136:]), random)
        body = zlib.compress(inner)
        return content[:132] + len(body).to_bytes(4, "little") + body
    return mutate.blind(content, random)


def _read_matlab(path):
    from crossreid.data.sets import cuhk_sysu, sysu_mm01
    from crossreid.formats import matlab

    if path.name.startswith("ids"):
        sysu_mm01._ids_of_matlab(path)
    elif path.name.startswith("perm"):
        sysu_mm01.official_counts(path)
    elif path.name.startswith("Person"):
        cuhk_sysu._appearances(path)
    else:
        matlab.read_variables(path, ["feature"])


def _make_sysu(folder):
    from tiny_layouts import image

    from crossreid.data.sets import sysu_mm01

    (folder / "exp").mkdir(parents=True)
    for camera in range(1, 7):
        for identity in (1, 2, 6):
            image(folder / f"cam{camera}" / f"{identity:04d}" / "0001.jpg")
    for part, identity in (("train", 1), ("val", 2), ("test", 6)):
        (folder / "exp" / f"{part}_id.txt").write_text(f"{identity}\n")
    for modality, count in (("visible", 8), ("infrared", 4)):
        crops, labels = sysu_mm01.PREPARED[modality]
        np.save(folder / crops, np.zeros((count, 8, 4, 3), np.uint8))
        np.save(folder / labels, np.repeat([0, 1], count // 2))


def _read_sysu(folder):
    from crossreid import data
    from crossreid.images.reading import read

    for image in data.read("sysu_mm01", folder, prepared=True)["train"]:
        read(image)


def _make_prepared(folder):
    from tiny_layouts import image

    from crossreid.data.prepare import write_array
    from crossreid.records import Image

    folder.mkdir()
    names = [image(folder / "images" / f"{number}.png", number) for number in range(4)]
    write_array([Image(name, 1, 1) for name in names], folder, (8, 4))


def _read_prepared(folder):
    from crossreid.data import prepared
    from crossreid.images.reading import read
    from crossreid.records import Image

    names = sorted((folder / "images").iterdir())
    for image in prepared.rows([Image(name, 1, 1) for name in names], folder, (8, 4), "bilinear"):
        read(image)


def _make_tables(folder):
    from tiny_layouts import image

    folder.mkdir()
    for number in range(4):
        image(folder / "images" / f"{number}.png", number)
    rows = [f"images/{number}.png,{number // 2},{number % 2},rgb,query,{number}.5" for number in range(4)]
    (folder / "own.csv").write_text("path,identity,camera,modality,split,time\n" + "\n".join(rows))
    rows = [f'"images/{number}.png",1,2,3,4,ir,north' for number in range(4)]
    (folder / "boxes.csv").write_text("path,x0,y0,x1,y1,modality,place\n" + "\n".join(rows))


def _read_tables(folder):
    from crossreid import data
    from crossreid.gallery.indexing import listed

    data.read("csv", folder / "own.csv")
    for candidate in listed([folder / "boxes.csv", folder / "own.csv"]):
        assert candidate.path


def _make_shards(folder):
    import tarfile

    from tiny_layouts import image

    folder.mkdir()
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(folder / f"{kind}.tar", "w", format=kind) as shard:
            for number in range(2):
                file = folder / f"{number}.png"
                image(file, number)
                # Names of more than 100 letters need a header of their own.
                shard.add(file, f"{'long' * 30}/{number}.png")
                labels = b'{"identity": %d, "camera": 1, "split": "train"}' % number
                member = tarfile.TarInfo(f"{'long' * 30}/{number}.json")
                member.size = len(labels)
                shard.addfile(member, io.BytesIO(labels))
                file.unlink()


def _read_shards(folder):
    from crossreid import data
    from crossreid.data.shards import index
    from crossreid.images.reading import read

    for images in data.read("csv", index([folder], folder / "index.csv"), train_share=1).values():
        for each in images:
            read(each)


def _make_tracklets(folder):
    import test_tracklets

    from crossreid import tracklets

    folder.mkdir()
    rows = [(str(at % 2), f"t{at}", at * 1.0, "red") for at in range(6)]
    tracklets.save(folder / "some.npz", test_tracklets.made_of(rows))
    (folder / "travel.csv").write_text("from,to,seconds\n0,1,1\n1,2,30\n")
    (folder / "gt").mkdir()
    boxes = [f"{frame},{name},{frame}.5,20,10,30,1,-1,-1" for frame in range(1, 9) for name in (1, 2)]
    (folder / "gt" / "gt.txt").write_text("\n".join(boxes))
    about = "name=s\nimDir=img1\nframeRate=30\nseqLength=8\nimWidth=640\nimHeight=480\n"
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{about}")


def _odd_tracklets(path, content, random):
    """Half the time a whole file that says odd things, else changed bytes."""
    if path.suffix != ".npz" or random.random() < 0.5:
        return by_kind(path, content, random)
    arrays = dict(np.load(io.BytesIO(content)))
    said = mutate.written(json.loads(arrays["about"].tobytes()), random)
    file = io.BytesIO()
    np.savez(file, **arrays | {"about": np.frombuffer(said, np.uint8)})
    return file.getvalue()


def _read_tracklets(folder):
    from crossreid import linking, tracklets
    from crossreid.images import mot

    mot.read(mot.sequence(folder).boxes, 50)
    travel = linking.read_travel(folder / "travel.csv")
    made = tracklets.load(folder / "some.npz")
    found = linking.link(made, threshold=0.3, travel=travel)
    linking.write_csv(folder.parent / "who.csv", made, found)


def _make_splits(folder):
    from tiny_layouts import image

    from crossreid import data
    from crossreid.data import split_files

    for camera in ("cam_a", "cam_b"):
        for identity in range(12):
            image(folder / camera / f"{identity:03d}_45.bmp", identity)
    split_files.keep(data.get("viper"), folder)


def _read_splits(folder):
    from crossreid import data

    data.read("viper", folder)


# ---- images

_KINDS = {
    "jpg": {},
    "png": {},
    "gif": {},
    "webp": {},
    "bmp": {},
    "ppm": {},
    "tif": {"compression": "tiff_lzw"},
    "progressive.jpg": {"progressive": True},
    "rgba.png": {},
    "grey.tif": {},
}


def _make_images(folder):
    from PIL import Image as PILImage

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 4), np.uint8)
    for kind, settings in _KINDS.items():
        mode = {"rgba.png": "RGBA", "grey.tif": "L"}.get(kind, "RGB")
        exif = PILImage.Exif()
        exif[0x0112] = 6
        extra = {"exif": exif} if kind.endswith("jpg") else {}
        PILImage.fromarray(pixels).convert(mode).save(folder / f"image.{kind}", **settings, **extra)


def _read_image(path):
    from crossreid.images.decode import check, decode

    check(path)
    decode(path)


# ---- what was computed


def _make_features(folder):
    from dataclasses import replace

    from crossreid.evaluation import features

    folder.mkdir()
    random = np.random.default_rng(0)
    vectors = random.normal(size=(8, 4)).astype(np.float32)
    columns = {
        "identity": np.repeat([1, 2], 4),
        "camera": np.arange(8) % 2,
        "split": np.array(["query", "gallery"] * 4),
        "path": np.array([f"{number}.jpg" for number in range(8)]),
    }
    np.savez(folder / "table.npz", vectors=vectors, **columns, feature="bn", model="m", fingerprint="f")
    found = features.read_stored(folder / "table.npz")
    features.write_stored(folder / "features.npz", replace(found))


def _read_features(path):
    from crossreid.evaluation import EvaluateConfig, evaluate_stored, features

    evaluate_stored(features.read_stored(path), EvaluateConfig(examples=1), log=str)


def _make_columns(folder):
    import lancedb
    import test_columnar
    from tiny_layouts import image

    from crossreid.records import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    file = image(folder / "one.png")
    for name in ("query", "gallery"):
        told = [{"path": f"{at}.png", "identity": str(at % 3), "camera": str(at % 2)} for at in range(20)]
        images = [Image(file, box=(0, 0, 4, 1 + at), extra=each) for at, each in enumerate(told)]
        test_columnar.write(images, random.normal(size=(20, 8)).astype(np.float32), folder / name)
    lancedb.connect(folder).create_table("gallery", test_columnar.fragment_tables(folder / "gallery"))
    file.unlink()


def _odd_columns(path, content, random):
    """Half the time a whole fragment with an odd column or odd metadata, else changed bytes."""
    if path.suffix != ".parquet" or random.random() < 0.5:
        return by_kind(path, content, random)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    said = table.schema.metadata[b"crossreid"]
    name, count = random.choice(table.schema.names), len(table)
    kinds = [
        pa.array([random.choice([None, -1, 7, 2**62]) for _ in range(count)], pa.int64()),
        pa.array([random.choice([None, 0.5, 1e300, float("nan")]) for _ in range(count)], pa.float64()),
        pa.array([random.choice(["", "x", "a\0b", "../../etc/passwd", "y" * 20_000]) for _ in range(count)]),
        pa.array([b"\xff"] * count),
        pa.array([{"a": 1}] * count),
        pa.array([10**15] * count, pa.timestamp("s")),
        pa.array([[random.choice([1.0, 1e300, float("nan"), None])] * 8] * count, pa.list_(pa.float64())),
        pa.array([[2**62] * 8] * count, pa.large_list(pa.int64())),
        pa.array([[0.0] * 100_000] * count, pa.list_(pa.float32())),
        pa.array([[]] * count, pa.list_(pa.float32())),
        pa.array([[[1.0]]] * count),
        pa.nulls(count),
    ]
    match random.randrange(5):
        case 0:
            said = mutate.written(json.loads(said), random)
        case 1:
            table = table.append_column(
                random.choice(["modality", "split", "stripes", name]), random.choice(kinds)
            )
        case 2:
            table = table.drop_columns([name])
        case _:
            table = table.set_column(table.schema.get_field_index(name), name, random.choice(kinds))
    made = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"crossreid": said}), made)
    return made.getvalue()


def _read_columns(folder):
    from crossreid.evaluation import EvaluateConfig, evaluate_stored, features

    for gallery in ("gallery", "gallery.lance"):
        stored = features.read_stored(folder / "query", folder / gallery)
        evaluate_stored(stored, EvaluateConfig(examples=1), log=str)


def _make_run(folder):
    import test_report

    test_report.make(folder / "run", names=("all",), features=False)
    for path in (folder / "run-images").iterdir():
        path.unlink()


def _read_run(folder):
    from crossreid.report import results, settings_and_cost, write_table
    from crossreid.report.groups import grouped
    from crossreid.report.page import Choice, page, sections
    from crossreid.report.runs import read_all

    groups = grouped(read_all([folder / "run"]))
    write_table([folder / "run"])
    found = [results.section(groups), settings_and_cost.settings(groups[0].runs)]
    # Drawing takes nearly all the time: one of ten pages is drawn.
    content = b"".join(path.read_bytes() for path in sorted((folder / "run").glob("*.*")))
    drawn = zlib.crc32(content) % 10 == 0
    page(groups, sections(groups, Choice(), saving=True) if drawn else found, {}, {})


def _make_settings(folder):
    import yaml

    folder.mkdir()
    tree = {
        "method": {"name": "agw", "backbone": "tiny", "pretrained": None, "streams": 1},
        "data": {
            "name": "market1501",
            "roots": {"market1501": "somewhere"},
            "size": [48, 24],
            "padding": 2,
            "loaders": {"train": {"sampler": "identity", "identities": 2, "instances": 3}},
        },
        "protocol": {"name": "single_query"},
        "train": {"epochs": 2, "device": "cpu"},
        "evaluate": {"examples": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))


def _read_settings(path):
    from crossreid import config

    config.load(path).to_yaml()


def _make_exported(folder):
    import hashlib

    (folder).mkdir()
    content = b"not looked at"
    (folder / "model.onnx").write_bytes(content)
    known = {
        "format": 1,
        "name": "m",
        "method": "agw",
        "feature": "bn",
        "dimension": 4,
        "stripes": None,
        "metric": {"feature": "cosine", "stripes": None},
        "metrics": {},
        "input": {
            "type": "uint8",
            "layout": "NHWC",
            "name": "pixels",
            "normalise": "inside",
            "size": [64, 32],
            "interpolation": "bicubic",
            "mean": [0.5] * 3,
            "std": [0.2] * 3,
        },
        "modalities": ["visible"],
        "files": {"all": {"file": "model.onnx", "sha256": hashlib.sha256(content).hexdigest()}},
        "precision": "float32",
        "fingerprint": "f",
        "trained": {"source": "market1501"},
        "settings": {"data": {"roots": {}}},
        "verification": {},
        "versions": {},
    }
    (folder / "model.json").write_text(json.dumps(known))


def _read_exported(folder):
    from crossreid.export.description import read
    from crossreid.records import Metric

    known = read(folder)
    Metric(**known["metric"])
    assert known["files"] and known["input"]["size"][0] > 0


# ---- galleries


def _make_gallery(folder):
    from crossreid.gallery import Entry, Gallery

    random = np.random.default_rng(0)
    with Gallery.create(folder / "gallery", dimension=8, fingerprint="f" * 64, model="m") as gallery:
        for part in range(2):
            entries = [
                Entry(
                    f"{part}-{number}", f"{number}.jpg", camera="1", time=5.0, identity="p", columns={"a": 1}
                )
                for number in range(5)
            ]
            gallery.add(entries, random.normal(size=(5, 8)), [b"small"] * 5)


def _read_gallery(folder):
    from crossreid.gallery import Filter, Gallery

    # A folder of its own, because LanceDB keeps what it has read of a file.
    copy = folder.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "gallery", copy)
    with Gallery.open(copy) as gallery:
        gallery.info()
        gallery.search(np.ones((1, 8)), top=3, filter=Filter(cameras=("1",)))
        gallery.search(np.ones((5, 8)), top=3)
        gallery.entries(count=20)
        gallery.image("0-1")
        gallery.delete(Filter(keys=("0-2",)))


# ---- the server


def _make_uploads(folder):
    folder.mkdir()
    (folder / "form").write_bytes(
        b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nabc\r\n--b\r\nContent-Disposition: form-data; '
        b'name="top"\r\n\r\n5\r\n--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\nnot an image\r\n--b--\r\n"
    )
    (folder / "words").write_bytes(b"key=abc&top=5&camera=1&since=2026-01-01&query_modality=visible")
    (folder / "page").write_bytes(b"camera=1&modality=visible&since=5&until=2026-01-01&start=3&count=10")


_SERVED = {}


def _read_uploads(folder):
    from starlette.testclient import TestClient

    if not _SERVED:
        import serving

        from crossreid.serve import create_app

        embedder = serving.Colours()
        app = create_app(serving.gallery(folder.parent / "images", embedder), embedder)
        _SERVED["client"] = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        _SERVED["client"].__enter__()
    client = _SERVED["client"]
    for name, kind in (
        ("form", "multipart/form-data; boundary=b"),
        ("words", "application/x-www-form-urlencoded"),
    ):
        answer = client.post(
            "/api/search", content=(folder / name).read_bytes(), headers={"content-type": kind}
        )
        assert answer.status_code < 500, answer.text
    answer = client.get("/api/entries?" + quote((folder / "page").read_bytes(), safe="=&"))
    assert answer.status_code < 500, answer.text


READERS = {
    "checkpoint": Reader(_make_checkpoint, _read_checkpoint, ("*.pt",), _odd_checkpoint, True),
    "weights": Reader(_make_weights, _read_weights, ("*",), by_kind, True),
    "original": Reader(_make_original, _read_original, ("*.pth",), _odd_original, True, 2**27),
    "matlab": Reader(_make_matlab, _read_matlab, ("*.mat",), _packed, True),
    "sysu": Reader(_make_sysu, _read_sysu, ("*.npy", "*.txt")),
    "prepared": Reader(_make_prepared, _read_prepared, ("crossreid*",), by_kind),
    "tables": Reader(_make_tables, _read_tables, ("*.csv",)),
    "shards": Reader(_make_shards, _read_shards, ("*.tar",)),
    "tracklets": Reader(
        _make_tracklets, _read_tracklets, ("*.npz", "*.csv", "*.txt", "*.ini"), _odd_tracklets
    ),
    "splits": Reader(_make_splits, _read_splits, ("splits*.json",), by_kind),
    "images": Reader(_make_images, _read_image, alone=True),
    "features": Reader(_make_features, _read_features, ("*.npz",), by_kind, True),
    "columns": Reader(_make_columns, _read_columns, ("*",), _odd_columns),
    "run": Reader(_make_run, _read_run, ("*.json", "*.jsonl", "*.yaml"), by_kind),
    "settings": Reader(_make_settings, _read_settings, ("*.yaml",), by_kind, True),
    "exported": Reader(_make_exported, _read_exported, ("*.json",), by_kind),
    "gallery": Reader(_make_gallery, _read_gallery, ("*",), by_kind),
    "uploads": Reader(_make_uploads, _read_uploads),
}
