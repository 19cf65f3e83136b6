"""Features in columns, Parquet fragments and Lance data sets, score as the ``.npy`` of the same vectors."""

import json
import shutil
import subprocess
import sys
import warnings
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from crossreid import fragments, memory
from crossreid.__main__ import main
from crossreid.evaluation import EvaluateConfig, evaluate_stored, mapped
from crossreid.evaluation.features import read_stored
from crossreid.images import tables
from crossreid.records import Embedding, Image, Metric, UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


class Known:
    """Vectors that are given for the images by their names, in place of a model."""

    name, feature, fingerprint, modalities = "known", "vector", "ab" * 16, ("visible",)
    dimension, stripes, size, interpolation = 8, None, (12, 8), "bilinear"
    metrics: ClassVar = {"vector": Metric("cosine")}

    def __init__(self, vectors):
        self.vectors, self.at = vectors, 0

    def embed(self, images, modality=None):
        self.at += len(images)
        return Embedding(self.vectors[self.at - len(images) : self.at])


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """A folder with query and gallery as .npy, fragments and Lance data set, of equal vectors."""
    from PIL import Image as PILImage

    lancedb = pytest.importorskip("lancedb")
    folder, rng = tmp_path_factory.mktemp("sides"), np.random.default_rng(0)
    PILImage.new("RGB", (8, 12)).save(folder / "one.png")
    for name, count in (("query", 20), ("gallery", 90)):
        who, where = rng.integers(0, 12, count), rng.integers(0, 4, count)
        vectors = rng.normal(size=(count, 8)).astype(np.float32)
        extra = [
            {"path": f"{name}/{at}.png", "identity": str(who[at]), "camera": str(where[at])}
            for at in range(count)
        ]
        images = [
            Image(folder / "one.png", box=(0, 0, 8, 1 + at % 12), extra=each) for at, each in enumerate(extra)
        ]
        write(images, vectors, folder / name)
        np.save(folder / f"{name}.npy", vectors)
        lines = [f"{each['path']},0,0,8,{1 + at % 12},{who[at]},{where[at]}" for at, each in enumerate(extra)]
        head = "path,x0,y0,x1,y1,identity,camera"
        (folder / f"{name}.npy.rows.csv").write_text("\n".join([head, *lines]) + "\n")
        lancedb.connect(folder).create_table(name, fragment_tables(folder / name))
    return folder


def write(images, vectors, folder):
    """What the processes of a cluster write, by one."""
    folder.mkdir()
    known = Known(vectors)
    about = {"form": 1, "model": known.name, "feature": known.feature, "fingerprint": known.fingerprint}
    about |= {"metrics": {"vector": {"feature": "cosine", "stripes": None}}, "dimension": 8, "stripes": None}
    about |= {"precision": "float32", "columns": ["path", "box", "identity", "camera"]}
    done = [
        fragments._fragment(known, folder, 4, about, number, images[start : start + 16])
        for number, start in enumerate(range(0, len(images), 16))
    ]
    fragments._end(folder, about, fragments.Embedded(done, set(), 0.0))


def fragment_tables(folder):
    names = json.loads((folder / "_embedding.json").read_text())["fragments"]
    return pa.concat_tables([pq.read_table(folder / name) for name in names])


def scored(folder, kind, out):
    config = EvaluateConfig(verification=True, rerank=True)
    stored = read_stored(folder / f"query{kind}", folder / f"gallery{kind}")
    evaluate_stored(stored, config, out=out, log=lambda text: None)
    content = json.loads((out / "evaluation.json").read_text())
    return {
        name: content[name] for name in ("rows", "reranked", "ranked", "pairs", "operating_points")
    }, stored


@pytest.mark.parametrize("large", [1, 2**28])
@pytest.mark.parametrize("kind", ["", ".lance"])
def test_they_score_as_the_npy_of_the_same_vectors(sides, tmp_path, monkeypatch, kind, large):
    monkeypatch.setattr(mapped, "LARGE", large)
    found, stored = scored(sides, kind, tmp_path / "found")
    expected, _ = scored(sides, ".npy", tmp_path / "expected")
    assert found == expected and len(found["rows"]) == 1
    assert stored.protocol.images[1].box == (0, 0, 8, 2)
    assert len(json.loads((sides / "gallery" / "_embedding.json").read_text())["fragments"]) == 6


@pytest.mark.parametrize("kind", ["", ".lance"])
def test_the_command_takes_them(sides, capsys, kind):
    assert main(["evaluate", str(sides / f"query{kind}"), "--gallery", str(sides / f"gallery{kind}")]) == 0
    assert "20 queries search 90 gallery images" in capsys.readouterr().out


def test_the_command_says_that_an_address_is_to_be_copied(sides, capsys):
    for words in (
        ["s3://bucket/q", "--gallery", "g"],
        [str(sides / "query"), "--gallery", "s3://bucket/g.lance"],
    ):
        assert main(["evaluate", *words]) == 2
        assert "is an address, and models and features are scored from this" in capsys.readouterr().err


def first(folder):
    return folder / json.loads((folder / "_embedding.json").read_text())["fragments"][0]


def lacks(folder):
    first(folder).unlink()


def unfinished(folder):
    (folder / "_embedding.json").unlink()


def said(folder, **changes):
    about = json.loads((folder / "_embedding.json").read_text()) | changes
    (folder / "_embedding.json").write_text(json.dumps(about))


def rewritten(folder, change):
    table = pq.read_table(first(folder))
    pq.write_table(change(table), first(folder))


def vectors_as(table, values):
    return table.set_column(table.schema.get_field_index("vectors"), "vectors", values)


def short(table):
    rows = table["vectors"].to_pylist()
    return vectors_as(table, pa.array([rows[0][:-1], *rows[1:]], pa.list_(pa.float32())))


def narrow(table):
    return vectors_as(
        table, pa.array([row[:4] for row in table["vectors"].to_pylist()], pa.list_(pa.float32()))
    )


def words(table):
    return vectors_as(table, pa.array(["x"] * len(table)))


def wide(table):
    """Some kilobytes in the file, 40 MB in memory."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(10**7, np.float32)), 10**7 // len(table))
    return vectors_as(table, lists.cast(pa.list_(pa.float32())))


def named(table, length):
    paths = pa.array(["y" * length] * len(table))
    return table.set_column(table.schema.get_field_index("path"), "path", paths)


def untold(table):
    return vectors_as(table, pa.array([None, *table["vectors"].to_pylist()[1:]], pa.list_(pa.float32())))


@pytest.mark.parametrize(
    "damage, told",
    [
        (lacks, r"lacks 1 of its 6 fragments, the first is 0000000-"),
        (unfinished, r"has no _embedding\.json"),
        (lambda folder: said(folder, fingerprint="cd" * 16), "is of another fingerprint than"),
        (lambda folder: said(folder, rows=91), "do not have the 91 rows"),
        (lambda folder: said(folder, rows=20), "do not have the 20 rows"),
        (lambda folder: said(folder, fragments=["../query/x.parquet"]), r"does not say fragments\[0\]"),
        (lambda folder: said(folder, stripes="all"), "stripes of its model"),
        (lambda folder: first(folder).write_bytes(b"PAR1 no more"), "cannot be read"),
        (lambda folder: (folder / "_embedding.json").write_text("[" * 100_000), "cannot be read"),
        (lambda folder: rewritten(folder, short), "not of one length"),
        (lambda folder: rewritten(folder, narrow), "have 8 numbers, and those of the rows before 4"),
        (lambda folder: rewritten(folder, words), "of the type string"),
        (lambda folder: rewritten(folder, partial(named, length=5000)), "path has 5000 characters, where at"),
        (lambda folder: rewritten(folder, untold), "missing in some rows"),
        (lambda folder: rewritten(folder, lambda table: table.drop_columns("identity")), "identity"),
        (lambda folder: rewritten(folder, lambda table: table.replace_schema_metadata({})), "crossreid"),
    ],
)
def test_damaged_fragments_are_told_in_one_paragraph(sides, tmp_path, capsys, damage, told):
    shutil.copytree(sides / "gallery", tmp_path / "gallery")
    damage(tmp_path / "gallery")
    with pytest.raises(UserError, match=told) as error:
        read_stored(sides / "query", tmp_path / "gallery")
    assert "\n" not in str(error.value) and str(tmp_path / "gallery") in str(error.value)


@pytest.mark.parametrize(
    "change, told",
    [
        (wide, r"rows of .*parquet would take 120,[\d,]+ bytes"),
        (partial(named, length=4000), "column path of .*, with texts of up to 4000 characters, would take"),
    ],
)
def test_what_a_small_file_would_grow_to_is_refused_before(sides, tmp_path, monkeypatch, change, told):
    shutil.copytree(sides / "gallery", tmp_path / "gallery")
    monkeypatch.setattr(memory, "free", lambda: 2**20)
    assert read_stored(sides / "query", tmp_path / "gallery")
    rewritten(tmp_path / "gallery", change)
    assert first(tmp_path / "gallery").stat().st_size < 2**17
    with pytest.raises(UserError, match=told):
        read_stored(sides / "query", tmp_path / "gallery")


def lance(folder, name, table):
    import lancedb

    lancedb.connect(folder).create_table(name, table)
    return folder / f"{name}.lance"


def test_a_query_and_a_gallery_of_two_models(sides, tmp_path):
    table = fragment_tables(sides / "query")
    about = json.loads(table.schema.metadata[b"crossreid"]) | {"fingerprint": "cd" * 16}
    other = lance(tmp_path, "query", table.replace_schema_metadata({b"crossreid": json.dumps(about)}))
    for gallery in (sides / "gallery.lance", sides / "gallery"):
        with pytest.raises(UserError, match="were made by different models: embed both with the same"):
            read_stored(other, gallery)
    # Of vectors that do not say which model made them nothing can be said.
    assert read_stored(lance(tmp_path, "untold", table.replace_schema_metadata(None)), sides / "gallery")


def compared(table, **how):
    said = {"metrics": {"vector": how}}
    return table.replace_schema_metadata({b"crossreid": json.dumps(said)})


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda table: table.drop_columns("vectors"), "holds no vectors"),
        (lambda table: narrow(table), "have 4 numbers and those in .*gallery 8: embed both with the same"),
        (lambda table: words(table), "of the type string"),
        (lambda table: untold(table), "missing in some rows"),
        (
            lambda table: table.drop_columns("identity").drop_columns("path"),
            "does not say who is on each image",
        ),
        (lambda table: table.append_column("stripes", table["vectors"]), "does not say how many they are"),
        (
            lambda table: table.replace_schema_metadata({b"crossreid": b'{"stripes": 3}'}),
            "says stripes of its model",
        ),
        (lambda table: table.replace_schema_metadata({b"crossreid": b"{"}), "cannot be read"),
        (
            lambda table: compared(table, feature=["cosine"]),
            r"how its features are compared \(metrics\.vector\.feature",
        ),
        (lambda table: compared(table, feature=None), "one of the metrics compares nothing"),
        (
            lambda table: compared(table, stripes="nearest"),
            r"how its features are compared \(metrics\.vector\.stripes",
        ),
    ],
)
def test_other_lance_data_sets_are_told_in_one_paragraph(sides, tmp_path, change, told):
    made = lance(tmp_path, "query", change(fragment_tables(sides / "query")))
    with pytest.raises(UserError, match=told) as error:
        read_stored(made, sides / "gallery")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="there are no features at"):
        read_stored(tmp_path / "none.lance", sides / "gallery")


def test_a_lance_data_set_is_read_as_it_is_now(sides, tmp_path):
    for count in (20, 7):
        made = lance(tmp_path, "query", fragment_tables(sides / "query")[:count])
        stored = read_stored(made, sides / "gallery")
        assert len(stored.embedding.feature) == count + 90
        shutil.rmtree(made)


def test_a_path_that_no_file_can_have(sides, tmp_path, capsys):
    table = fragment_tables(sides / "query")
    paths = pa.array(["a\0b", *table["path"].to_pylist()[1:]])
    made = lance(tmp_path, "query", table.set_column(table.schema.get_field_index("path"), "path", paths))
    assert main(["evaluate", str(made), "--gallery", str(sides / "gallery")]) == 0
    assert "20 queries search 90 gallery images" in capsys.readouterr().out


def test_what_is_not_a_number_is_told_with_its_image(sides, tmp_path, capsys):
    table = fragment_tables(sides / "query")
    rows = table["vectors"].to_pylist()
    rows[3][2] = float("nan")
    made = lance(tmp_path, "query", vectors_as(table, pa.array(rows, pa.list_(pa.float32(), 8))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["evaluate", str(made), "--gallery", str(sides / "gallery")]) == 2
    assert "the feature of query/3.png is not a finite number" in capsys.readouterr().err


def test_stripes_are_those_of_the_archive(sides, tmp_path):
    rng = np.random.default_rng(1)
    for name, count in (("query", 20), ("gallery", 90)):
        table = fragment_tables(sides / name)
        stripes = rng.normal(size=(count, 3, 4)).astype(np.float32)
        metrics = {"local": {"feature": None, "stripes": "aligned"}}
        about = json.loads(table.schema.metadata[b"crossreid"])
        about |= {"stripes": [3, 4], "feature": "local", "metrics": metrics}
        lists = pa.FixedSizeListArray.from_arrays(pa.array(stripes.reshape(-1)), 12)
        with_stripes = table.append_column("stripes", lists)
        lance(tmp_path, name, with_stripes.replace_schema_metadata({b"crossreid": json.dumps(about)}))
        told = {key: np.array(table[key].to_pylist()) for key in ("path", "identity", "camera")}
        vectors = np.load(sides / f"{name}.npy")
        more = {"feature": "local", "metrics": json.dumps(metrics), "fingerprint": about["fingerprint"]}
        np.savez(tmp_path / f"{name}.npz", vectors=vectors, stripes=stripes, **told, **more)
    found, _ = scored(tmp_path, ".lance", tmp_path / "found")
    expected, _ = scored(tmp_path, ".npz", tmp_path / "expected")
    for each in (found, expected):
        for shown in each.pop("ranked"):
            assert shown["query"]["path"].endswith(".png")
    assert found == expected


def test_a_text_that_a_dictionary_repeats_is_in_memory_once(sides, tmp_path):
    """Some kilobytes in the file; written out, two gigabytes."""
    shutil.copytree(sides / "gallery", tmp_path / "gallery")
    long = pa.DictionaryArray.from_arrays(np.zeros(2000, np.int32), ["y" * 2**20])
    pq.write_table(pa.table({"path": long}), tmp_path / "table.parquet", compression="zstd")
    rewritten(tmp_path / "gallery", lambda table: long_paths(table, long))
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(UserError, match="path has 1048576 characters, where at"):
            read_stored(sides / "query", tmp_path / "gallery")
        lines = list(tables.lines_of(tmp_path / "table.parquet", lambda columns: None))
    finally:
        pa.set_memory_pool(before)
    assert len(lines) == 2000 and lines[7][1]["path"] is lines[0][1]["path"]
    assert pool.max_memory() < 2**25
    assert (tmp_path / "table.parquet").stat().st_size < 2**17


def long_paths(table, long):
    return table.set_column(table.schema.get_field_index("path"), "path", long[: len(table)])


def test_a_lance_data_set_whose_rows_are_too_large_is_refused_before_they_are_read(
    sides, tmp_path, monkeypatch
):
    table = fragment_tables(sides / "query")
    lists = pa.array([[0] * (1 + at) for at in range(len(table))], pa.list_(pa.int32()))
    monkeypatch.setattr(memory, "free", lambda: 2**20)
    made = lance(tmp_path, "wide", wide(table).select(["path", "vectors"]))
    with pytest.raises(UserError, match=r"20 rows of the vectors of .* would take 120,000,000 bytes"):
        read_stored(made, sides / "gallery")
    with pytest.raises(UserError, match="the stripes are missing in some rows, or are not of one length"):
        read_stored(lance(tmp_path, "lists", table.append_column("stripes", lists)), sides / "gallery")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_lists_of_any_length_do_where_they_have_one(sides, tmp_path, monkeypatch, kind):
    import lancedb

    table = vectors_as(
        fragment_tables(sides / "query"), fragment_tables(sides / "query")["vectors"].cast(kind)
    )
    # LanceDB would write lists of one length.
    made = lancedb.connect(tmp_path).create_table("query", schema=table.schema)
    made.add(table)
    assert made.schema.field("vectors").type == kind
    found = read_stored(tmp_path / "query.lance", sides / "gallery")
    expected = read_stored(sides / "query", sides / "gallery")
    assert np.array_equal(found.embedding.feature, expected.embedding.feature)
    monkeypatch.setattr(memory, "free", lambda: 1000)
    with pytest.raises(UserError, match=r"20 rows of the vectors of .* would take 1,920 bytes"):
        read_stored(tmp_path / "query.lance", sides / "gallery")


READER = """
import resource, sys
from pathlib import Path
from crossreid.evaluation.columnar import columnar
from crossreid.images import lance, tables
from crossreid.records import UserError
place = Path(sys.argv[1])
lance.opened(place)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (columnar, lambda place: list(tables.lines_of(place, lambda columns: None))):
    try:
        read(place)
    except UserError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_long_texts_of_a_lance_data_set_are_refused_before_they_are_read(sides, tmp_path):
    """Some kilobytes on the disk; written out, more than a gigabyte."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3000, np.float32)), 2)
    content = pa.table({"path": pa.DictionaryArray.from_arrays(np.zeros(1500, np.int32), ["y" * 2**20])})
    content = content.set_column(0, "path", content["path"].cast(pa.string())).append_column(
        "vectors", vectors
    )
    made = lance(tmp_path, "long", content)
    read = subprocess.run(
        [sys.executable, "-c", READER, str(made)], capture_output=True, text=True, check=True
    )
    stored, listed, taken = read.stdout.splitlines()
    assert "a text in the column path has more than 4096 characters" in stored
    assert "a text in the column path has more than 131072 bytes: shorten it" in listed
    assert int(taken) < 2**19  # kilobytes
