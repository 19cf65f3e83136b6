"""Data sets in shards, tars and Lance, and training from them."""

import dataclasses
import io
import json
import multiprocessing
import os
import shutil
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
import two_processes

from crossreid import __main__, checkpoint, config, data, files, training
from crossreid.data import prepare, prepared, provenance, shards
from crossreid.data.loading import Loader, training_set
from crossreid.data.settings import DataConfig, LoaderConfig
from crossreid.embedding_files import keys_of
from crossreid.images import tables, tars
from crossreid.images.listing import listed
from crossreid.images.reading import read
from crossreid.images.resize import fit
from crossreid.protocols.single_query import SingleQuery
from crossreid.records import UserError


def packed(images, place):
    """The same images as a Lance data set."""
    import lancedb
    import pyarrow as pa

    rows = [
        {
            "image": image.path.read_bytes(),
            "identity": image.identity,
            "camera": image.camera,
            "split": "train",
        }
        for image in images
    ]
    half = len(rows) // 2
    table = lancedb.connect(place.parent).create_table(place.stem, pa.Table.from_pylist(rows[:half]))
    table.add(pa.Table.from_pylist(rows[half:]))
    return place


@pytest.fixture(scope="module")
def copies(market, tmp_path_factory):
    """The table of a copy in shards of a few images each, and a copy of the training images in Lance."""
    folder = tmp_path_factory.mktemp("shards")
    splits = data.read("market1501", market)
    table = shards.write(splits, folder / "tars", size=50_000)
    return table, packed(splits["train"], folder / "people.lance")


def labels_of(images):
    return [(image.identity, image.camera, image.modality) for image in images]


def test_a_copy_in_shards_is_the_data_set(market, copies):
    splits = data.read("market1501", market)
    found = data.read("csv", copies[0])
    assert len(list(copies[0].parent.glob("*.tar"))) > 3
    assert {name: labels_of(some) for name, some in found.items()} == {
        name: labels_of(some) for name, some in splits.items()
    }
    for name, some in splits.items():
        assert all(np.array_equal(read(one), read(other)) for one, other in zip(some, found[name]))
    assert provenance.rendered(found["train"]) == 1
    (lanced,) = data.read("csv", copies[1]).values()
    assert labels_of(lanced) == labels_of(splits["train"])
    assert all(np.array_equal(read(one), read(other)) for one, other in zip(splits["train"], lanced))
    assert [each.severity for each in data.check("csv", copies[0])].count("error") == 0


def test_images_that_cannot_be_decoded_are_named_before_anything_is_written(market, tmp_path):
    whole, broken = data.read("market1501", market)["train"][:2]
    broken = dataclasses.replace(broken, path=tmp_path / "broken.jpg")
    provenance.mark(tmp_path, "market1501")
    content = whole.path.read_bytes()
    broken.path.write_bytes(content[: len(content) // 2])  # with a header that is in order
    outside = dataclasses.replace(whole, box=(5000, 0, 5010, 10))
    with pytest.raises(UserError, match=r"2 of 3 images cannot be read: .*broken\.jpg.*lies outside"):
        shards.write({"train": [whole, broken, outside]}, tmp_path / "tars")
    assert not list((tmp_path / "tars").iterdir())


def test_each_image_of_a_shard_is_known_by_its_own_key(copies):
    images = [image for _, image in tables.read(copies[0])]
    keys = set(keys_of(images))
    assert len(keys) == len(images) > len({image.path for image in images})


def test_shards_are_prepared(copies, tmp_path):
    shutil.copytree(copies[0].parent, tmp_path / "tars")
    table = tmp_path / "tars" / copies[0].name
    array = prepare.prepare("csv", table, size=(16, 8))
    images = data.read("csv", table)["train"]
    rows = prepared.rows(images, table, (16, 8), "bilinear")
    assert len({row.array_index for row in rows}) == len(images) == len(np.load(array))
    for one, row in zip(images, rows):
        assert (fit(read(one), (16, 8), "bilinear") == read(row)).all()
    with pytest.raises(UserError, match=r"crossreid data shards csv s3://bucket/people\.csv FOLDER"):
        prepare.prepare("csv", "s3://bucket/people.csv", size=(16, 8))


def batches(name, root, count, workers=0, **where):
    inputs = DataConfig(name=name, roots={name: str(root)}, size=(48, 24), workers=workers)
    images, labels, _, _ = training_set(inputs)
    loader = Loader(images, labels, LoaderConfig("identity", 2, 3), inputs, seed=3, **where)
    found = [(at, batch.images, batch.target) for at, batch in islice(loader, count)]
    state = loader.state()
    loader.close()
    return found, state


def assert_equal(ones, others):
    for (at, pixels, target), (other_at, other_pixels, other_target) in zip(ones, others, strict=True):
        assert at == other_at and torch.equal(pixels, other_pixels) and torch.equal(target, other_target)


@pytest.mark.parametrize("kind", (0, 1))
def test_batches_are_those_of_the_folder(market, copies, kind):
    whole, _ = batches("market1501", market, 7)
    assert_equal(batches("csv", copies[kind], 7)[0], whole)
    first, state = batches("csv", copies[kind], 3)
    assert_equal([*first, *batches("csv", copies[kind], 4, state=state)[0]], whole)


@pytest.mark.slow
def test_workers_read_shards(market, copies):
    assert_equal(batches("csv", copies[0], 3, workers=1)[0], batches("market1501", market, 3)[0])


def _train(rank, trees, folder):
    """Train by each tree of settings, and note how many images of shards this process has read."""
    from crossreid.images import reading

    drawn = []
    for suffix, content in list(reading._PACKED.items()):
        reading._PACKED[suffix] = lambda *place, _content=content: drawn.append(place) or _content(*place)
    counts = []
    for number, tree in enumerate(trees):
        training.train(config.load(tree), folder / str(number), evaluate=False)
        counts.append(len(drawn))
    (folder / f"{rank}.json").write_text(json.dumps(counts))


@pytest.mark.slow
def test_two_processes_read_their_shares_and_take_equal_steps(experiment, copies, tmp_path):
    changes = [{"name": "csv", "roots": {"csv": str(place)}} for place in copies]
    trees = [experiment, *(experiment | {"data": experiment["data"] | each} for each in changes)]
    two_processes.run(_train, trees, tmp_path)
    whole, *others = (checkpoint.read(tmp_path / str(number) / "last.pt") for number in range(3))
    for other in others:
        assert other["training"]["steps"] == whole["training"]["steps"] == 4
        assert all(torch.equal(value, other["weights"][key]) for key, value in whole["weights"].items())
    # Four steps of a batch of six images in each process; a batch may be drawn ahead.
    for rank in range(2):
        none, tarred, lanced = json.loads((tmp_path / f"{rank}.json").read_text())
        assert none == 0 and 24 <= tarred <= 30 and 24 <= lanced - tarred <= 30


def test_a_run_from_shards_is_resumed_exactly(experiment, copies, tmp_path):
    tree = experiment | {"data": experiment["data"] | {"name": "csv", "roots": {"csv": str(copies[0])}}}
    training.train(config.load(tree), tmp_path / "whole", evaluate=False)
    training.train(config.load(tree, ["--train.epochs", "1"]), tmp_path / "run", evaluate=False)
    training.train(config.load(tree), tmp_path / "run", evaluate=False, resume=True)
    one, other = (checkpoint.read(tmp_path / name / "last.pt")["weights"] for name in ("whole", "run"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_shards_lie_at_addresses(copies, memory):
    place = "memory://bucket/people"
    memory.put(str(copies[0].parent), "/bucket/people", recursive=True)
    written = memory.cat("/bucket/people/index.csv")
    assert __main__.main(["data", "index", place, "--out", f"{place}/index.csv"]) == 0
    assert memory.cat("/bucket/people/index.csv") == written and b"\n000000.tar,0,1," in written
    here = data.read("csv", copies[0])["train"]
    found = training_set(DataConfig(name="csv", roots={"csv": f"{place}/index.csv"}))[0]
    assert labels_of(found) == labels_of(here)
    assert all(np.array_equal(read(one), read(other)) for one, other in zip(here, found))
    protocol = SingleQuery(f"{place}/index.csv", source="csv")
    assert labels_of(protocol.images) == labels_of(SingleQuery(copies[0], source="csv").images)
    assert provenance.rendered(found) == 1 and provenance.rendered([*here, *found]) == 1
    memory.rm("/bucket/people/000000.tar")
    with pytest.raises(UserError, match=r"memory://bucket/people/000000\.tar: cannot be opened"):
        read(found[0])


def test_a_table_at_an_address_is_checked_and_copied_into_shards(copies, memory, tmp_path, capsys):
    table = "memory://checked/index.csv"
    memory.put(str(copies[0].parent), "/checked", recursive=True)
    words = ["data", "check", "csv"]
    assert __main__.main([*words, table]) == __main__.main([*words, str(copies[0])]) == 0
    there, here = capsys.readouterr().out.replace(table, str(copies[0])).split("train:")[1:]
    assert there == here
    assert __main__.main(["data", "shards", "csv", table, str(tmp_path / "shards")]) == 0
    copied, known = (data.read("csv", each)["train"] for each in (tmp_path / "shards", copies[0]))
    assert labels_of(copied) == labels_of(known)
    assert all(np.array_equal(read(one), read(other)) for one, other in zip(copied, known))


@pytest.mark.parametrize(
    "words, told",
    [
        (["data", "check", "market1501", "memory://x"], "market1501 is read from a folder of this computer"),
        (["data", "check", "csv", "memory://x/none.csv"], "cannot be opened"),
        (["data", "prepare", "csv", "memory://x/t.csv"], "prepared images are mapped from a disk"),
        (["data", "make", "market1501", "memory://x"], "this is written on this computer"),
        (["data", "shards", "market1501", "people", "memory://x"], "this is written on this computer"),
        (
            ["train", "small_folder", "--data.roots.folder", "memory://x"],
            "folder is read from a folder of this computer",
        ),
    ],
)
def test_what_cannot_lie_at_an_address_is_told(words, told, tmp_path, monkeypatch, capsys):
    pytest.importorskip("upath")
    monkeypatch.chdir(tmp_path)
    assert __main__.main(words) == 2
    said = capsys.readouterr()
    assert told in said.out + said.err and not list(tmp_path.iterdir())


def test_a_table_that_cannot_be_read_back_is_not_written(copies, memory, tmp_path, capsys):
    folder = copies[0].parent
    memory.put(str(folder / "000000.tar"), "/shop/a.tar")
    out = tmp_path / "index.csv"
    for place, table in (
        ("memory://shop", out),
        ("memory://shop", "memory://x/i.csv"),
        (folder, "memory://x/i.csv"),
    ):
        assert __main__.main(["data", "index", str(place), "--out", str(table)]) == 2
        assert "cannot be named in" in capsys.readouterr().err
    assert not out.exists() and not memory.exists("/x")
    assert __main__.main(["data", "index", f"file://{folder}", "--out", f"file://{out}"]) == 0
    assert len(tables.read(out)) == len(tables.read(copies[0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # fsspec's thread is what is tested
def test_a_forked_worker_asks_the_store_itself():
    pytest.importorskip("fsspec")
    from fsspec.asyn import AsyncFileSystem

    class Store(AsyncFileSystem):
        async def _cat_file(self, path, start=None, end=None, **_):
            return path.encode()[start:end]

    class Address:
        fs, path = Store(), "bucket/people"

        def __str__(self):
            return "store://bucket/people"

    assert files.piece(Address(), 2, 4) == b"cket"
    context = multiprocessing.get_context("fork")
    given, taken = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: taken.send(files.piece(Address(), 2, 4)))
    worker.start()
    taken.close()
    assert given.poll(60) and given.recv() == b"cket"
    worker.join()


@pytest.mark.slow
def test_workers_read_shards_in_a_bucket(copies, bucket, monkeypatch):
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT"])
    place = files.place(f"{bucket}/shards")
    for path in copies[0].parent.iterdir():
        files.write_whole(place / path.name, path.read_bytes())
    whole, _ = batches("csv", copies[0], 3)
    for workers in (0, 1):
        assert_equal(batches("csv", place / "index.csv", 3, workers=workers)[0], whole)


def test_many_files_at_an_address_cost_one_list_and_few_none(memory, tmp_path, monkeypatch):
    listed = []
    names = [f"memory://stats/{number}.jpg" for number in range(9)]
    for name in names[1:]:
        memory.pipe(name, b"x" * len(name))
    usual = type(memory).ls
    monkeypatch.setattr(
        type(memory), "ls", lambda *given, **how: listed.append(given[1]) or usual(*given, **how)
    )
    paths = [files.place(name) for name in names]
    # Whose folder may hold millions of others.
    assert list(files.stats(paths)) == paths[1:] and not listed
    monkeypatch.setattr(files, "_MANY", 9)
    found = files.stats(paths * 2)
    assert listed == ["/stats"] and list(found) == paths[1:]
    assert all(found[path].st_mtime_ns == path.stat().st_mtime_ns for path in paths[1:])
    monkeypatch.setattr(type(memory), "ls", None)
    assert list(files.stats(paths)) == paths[1:] and files.stats([tmp_path / "none", *paths[:2]]).keys() == {
        paths[1]
    }


# Tars of others


def add(shard, name, content, **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    shard.addfile(member, io.BytesIO(content))


def tar(path, *files, **how):
    with tarfile.open(path, "w", **how) as shard:
        for name, content in files:
            add(shard, name, content)
    return path


@pytest.fixture
def image(market):
    return next((market / "query").glob("*.jpg")).read_bytes()


def indexed(path):
    return data.read("csv", shards.index([path], path.parent / "own.csv"), train_share=1)["train"]


@pytest.mark.parametrize("format", (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
def test_tars_of_every_format(tmp_path, image, format):
    """Names of more than 100 letters stand in headers of their own, which the offsets must pass over."""
    long = "/".join(["folder" * 8] * 3)
    path = tar(
        tmp_path / "a.tar",
        (f"{long}/one.JPG", image),
        (f"{long}/one.json", b'{"Identity": "anna", "camera": "door", "other": [1]}'),
        (f"{long}/two.seg.jpg", image),
        (f"{long}/two.json", b'{"identity": "bert", "camera": "yard", "time": 5}'),
        (f"{long}/notes.txt", b"without an image"),
        format=format,
    )
    found = indexed(path)
    assert [(each.extra["identity"], each.extra["camera"], each.time) for each in found] == [
        ("anna", "door", None),
        ("bert", "yard", 5.0),
    ]
    assert all(tars.content(path, each.array_index) == image for each in found)


def test_classes_of_webdataset_are_identities(tmp_path, image):
    path = tar(tmp_path / "a.tar", ("1.jpg", image), ("1.cls", b"7"), ("2.jpg", image), ("2.cls", b"9"))
    assert labels_of(indexed(path)) == [(7, 1, "visible"), (9, 1, "visible")]


def test_what_macos_adds_is_passed_over(tmp_path, image):
    labelled = (("./1.jpg", image), ("./1.cls", b"7"))
    added = [(f"{place}._{name[2:]}", b"x") for place in ("./", "__MACOSX/./") for name, _ in labelled]
    path = tar(tmp_path / "a.tar", *added, *labelled, ("./.DS_Store", b"x"), ("__MACOSX/2.jpg", b"x"))
    assert labels_of(indexed(path)) == [(7, 1, "visible")]
    (tmp_path / "._a.tar").write_bytes(b"x")
    assert labels_of(indexed(tmp_path)) == [(7, 1, "visible")]


def refused(path, *words):
    with pytest.raises(UserError) as error:
        indexed(path)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_hostile_tars_are_refused(tmp_path, image):
    labelled = (("1.jpg", image), ("1.cls", b"7"), ("2.jpg", image), ("2.cls", b"9"))
    whole = tar(tmp_path / "whole.tar", *labelled).read_bytes()
    place = tmp_path / "a.tar"

    def given(content):
        place.write_bytes(content)
        return place

    refused(given(b""), "refused as an archive")
    refused(given(image), "refused as an archive")
    refused(given(whole[: len(image) // 2]), "refused as an archive")
    # A damaged header in the middle, which tarfile takes for the end.
    second = next(member.offset for member in tars.members(tmp_path / "whole.tar") if member.name == "2.jpg")
    refused(given(whole[:second] + b"x" + whole[second + 1 :]), "is no header")
    compressed = tar(tmp_path / "b.tar", *labelled)
    with tarfile.open(compressed, "w:gz") as shard:
        add(shard, "1.jpg", image)
    refused(compressed, "not compressed")

    def claiming(**fields):
        with tarfile.open(place, "w") as shard:
            member = tarfile.TarInfo("1.jpg")
            for name, value in fields.items():
                setattr(member, name, value)
            shard.addfile(member)
        return place

    refused(claiming(size=2**40), "refused as an archive")  # it breaks off
    claiming(size=2**28 + 1)
    os.truncate(place, 2**28 + 2048)  # of which the disk holds the header alone
    refused(place, "more than the 268 MB allowed")
    refused(claiming(type=tarfile.XHDTYPE, size=2**32), "a header claims")
    sparse = claiming(type=tarfile.GNUTYPE_SPARSE, size=0)
    refused(sparse, "no plain file")
    # Links and folders lead nowhere: they are passed over.
    refused(claiming(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "no images")
    chain = tarfile.TarInfo("x")
    chain.type, chain.size = tarfile.XHDTYPE, 0
    refused(given(chain.tobuf(tarfile.USTAR_FORMAT) * 5000), "refused as an archive")


def test_tars_among_images_are_told_to_be_indexed(tmp_path, image):
    made = tar(tmp_path / "a.tar", ("1.jpg", image), ("1.cls", b"1"))
    for source in (made, tmp_path):
        with pytest.raises(UserError, match=rf"`crossreid data index {source} --out shards\.csv`"):
            listed([source])


def test_labels_that_are_wrong_are_named(tmp_path, image):
    def refuses(*files_and_words):
        files, words = files_and_words[:-1], files_and_words[-1]
        refused(tar(tmp_path / "a.tar", *files), *words)

    refuses(("1.jpg", image), ["a.tar: 1 has no labels", "expected .json"])
    refuses(("1.jpg", image), ("1.json", b"[1]"), ["1.json"])
    refuses(("1.jpg", image), ("1.json", b'{"camera": 1}'), ["no identity"])
    refuses(("1.jpg", image), ("1.a.jpg", image), ("1.cls", b"1"), ["1 is 2 images"])
    refuses(("1.jpg", image), ("1.json", b" " * (2**20 + 1)), ["1048577 bytes"])


def test_a_table_that_belongs_to_another_tar(tmp_path, image):
    path = tar(tmp_path / "a.tar", ("1.jpg", image), ("1.cls", b"7"))
    (found,) = indexed(path)
    tar(path, ("0.txt", b"moved" * 200), ("1.jpg", image), ("1.cls", b"7"))
    for offset in (512, 700, 2**40):
        with pytest.raises(UserError, match=f"no file begins at byte {offset}"):
            tars.content(path, offset)
    path.unlink()
    with pytest.raises(UserError, match="cannot be opened"):
        read(found)


def test_tables_with_a_wrong_offset(tmp_path, image):
    tar(tmp_path / "a.tar", ("1.jpg", image))
    (tmp_path / "b.jpg").write_bytes(image)
    for line, words in (
        ("a.tar,-1", "offset in a.tar is '-1'"),
        ("a.tar,", "offset in a.tar is ''"),
        ("b.jpg,0", "b.jpg is not a tar"),
        ("c.tar,0", "there is no image"),
    ):
        (tmp_path / "own.csv").write_text(f"path,offset,identity,camera\n{line},1,1\n")
        with pytest.raises(UserError, match=words):
            data.read("csv", tmp_path / "own.csv", train_share=1)


def test_lance_that_is_wrong(copies, tmp_path):
    import lancedb
    import pyarrow as pa

    with pytest.raises(UserError, match="Lance data set"):
        data.read("csv", tmp_path / "nothing.lance")
    connection = lancedb.connect(tmp_path)
    connection.create_table("bare", pa.table({"identity": [1], "camera": [1]}))
    with pytest.raises(UserError, match="missing path"):
        data.read("csv", tmp_path / "bare.lance")
    connection.create_table("nobody", pa.table({"image": [b"x"], "camera": [1]}))
    with pytest.raises(UserError, match="missing identity"):
        data.read("csv", tmp_path / "nobody.lance")
    connection.create_table("broken", pa.table({"image": [b"x", None], "identity": [1, 1], "camera": [1, 2]}))
    first, second = data.read("csv", tmp_path / "broken.lance", train_share=1)["train"]
    with pytest.raises(UserError, match=r"broken\.lance, the image at 0"):
        read(first)
    with pytest.raises(UserError, match="no image in row 1"):
        read(second)


def test_the_commands_write_shards_and_tables(market, tmp_path, capsys):
    __main__.main(["data", "shards", "market1501", str(market), str(tmp_path / "new"), "--size", "0.2"])
    assert "--data.name csv" in capsys.readouterr().out
    table = (tmp_path / "new" / "index.csv").read_bytes()
    (tmp_path / "new" / "index.csv").unlink()
    with pytest.raises(UserError, match="crossreid data index"):
        data.read("csv", tmp_path / "new")
    __main__.main(["data", "index", str(tmp_path / "new")])
    assert (tmp_path / "new" / "index.csv").read_bytes() == table
    with pytest.raises(UserError, match="not empty"):
        shards.write(data.read("market1501", market), tmp_path / "new")


def test_boxes_become_images_of_their_own(market, tmp_path):
    whole = sorted((market / "query").glob("*.jpg"))[:2]
    lines = [f"{path},{number},1,{number},2,20,40" for number, path in enumerate(whole)]
    (tmp_path / "own.csv").write_text("path,identity,camera,x0,y0,x1,y1\n" + "\n".join(lines))
    images = data.read("csv", tmp_path / "own.csv", train_share=1)
    table = shards.write(images, tmp_path / "new")
    found = data.read("csv", table)["train"]
    assert all(each.box is None for each in found)
    assert all(np.array_equal(read(one), read(other)) for one, other in zip(images["train"], found))
