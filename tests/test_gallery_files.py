"""Galleries on disk: killed, locked, written by two processes at once, of another version, damaged; and what was
deleted is gone from the files."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from crossreid.gallery import (
    Entry,
    Filter,
    Gallery,
    comparing,
    flat,
    lance,
    lance_rows,
    lance_table,
    updating,
)
from crossreid.gallery import gallery as gallery_module
from crossreid.records import UserError

pytest.importorskip("lancedb")

WRITER = """
import sys, numpy as np
from crossreid.gallery import Entry, Gallery
where, name, size, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Gallery.open(where) as gallery:
    for start in range(gallery.info().entries if name == "k" else 0, end, size):
        numbers = range(start, start + size)
        vectors = np.stack([np.random.default_rng(number).standard_normal(64) for number in numbers])
        gallery.add([Entry(f"{name}{number}", f"{number}.jpg") for number in numbers], vectors, [b"p" * 9] * size)
        print(start + size, flush=True)
"""


def writer(where, name, size, end):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", WRITER, str(where), name, str(size), str(end)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def vector(number):
    found = np.random.default_rng(number).standard_normal(64)
    return found / np.linalg.norm(found)


def make(where, dimension=64):
    return Gallery.create(where, dimension=dimension, fingerprint="f" * 64, model="toy")


def files_with(folder, needle):
    return [path for path in Path(folder).rglob("*") if path.is_file() and needle in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lancedb", "milvus"])
def test_every_acknowledged_row_survives_a_kill(kind, tmp_path):
    if kind == "milvus":
        pytest.importorskip("milvus_lite")
    where = str(tmp_path / "gallery") if kind == "lancedb" else f"milvus:{tmp_path / 'gallery.db'}"
    make(where).close()
    moments, acknowledged = random.Random(0), 0
    for _ in range(3):
        process = writer(where, "k", 7, 10**9)
        lines = [process.stdout.readline()]
        wanted = moments.randrange(1, 8)
        while len(lines) <= wanted:
            lines.append(process.stdout.readline())
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        with process.stdout as rest:
            lines += rest.readlines()
        assert process.wait() == -signal.SIGKILL
        numbers = [int(line) for line in lines if line.endswith("\n")]
        assert numbers and numbers[-1] > acknowledged
        acknowledged = numbers[-1]
        with Gallery.open(where) as gallery:
            entries = gallery.entries(count=10**5)
            keys = {entry.key for entry in entries}
            assert len(keys) == len(entries) and {f"k{number}" for number in range(acknowledged)} <= keys
            # What was on its way may be there or not, but whole: the writer goes on from the count.
            assert keys == {f"k{number}" for number in range(len(keys))}
            for number in (0, acknowledged - 1, len(keys) - 1):
                assert gallery.vector(f"k{number}") == pytest.approx(vector(number), abs=1e-6)
                assert gallery.image(f"k{number}") == b"p" * 9
                assert gallery.search(vector(number), 1)[0][0].entry.path == f"{number}.jpg"


@pytest.mark.slow
def test_two_processes_write_at_once_and_nothing_is_lost_or_doubled(tmp_path):
    where = tmp_path / "gallery"
    make(where).close()
    reader = Gallery.open(where, read_only=True)
    processes = [writer(where, name, 5, 50) for name in ("a", "b", "a")]
    counts = []
    while any(process.poll() is None for process in processes):
        counts.append(reader.info().entries)
        reader.search(vector(3), 3)
        time.sleep(0.05)
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdout.close()
    assert counts == sorted(counts)
    entries = reader.entries(count=1000)
    assert len(entries) == 100 == reader.info().entries
    assert {entry.key for entry in entries} == {f"{name}{number}" for name in "ab" for number in range(50)}


def test_a_reader_goes_on_while_another_process_deletes_and_cleans_up(tmp_path):
    gallery = make(tmp_path / "gallery")
    reader = Gallery.open(tmp_path / "gallery")
    vectors = np.stack([vector(number) for number in range(60)])
    for start in range(0, 60, 20):
        gallery.add([Entry(f"k{row}") for row in range(start, start + 20)], vectors[start : start + 20])
    assert reader.search(vectors[7], 1)[0][0].entry.key == "k7"
    assert gallery.delete(Filter(keys=("k7",))) == 1
    assert reader.search(vectors[7], 1)[0][0].entry.key != "k7"
    assert reader.get("k7") is None and reader.info().entries == 59


READS = {
    "search": lambda gallery: gallery.search(vector(3), 2)[0][0].entry.key,
    "within": lambda gallery: gallery.search(vector(3), 2, Filter(modality="visible"))[0][0].entry.key,
    "together": lambda gallery: [hits[0].entry.key for hits in gallery.search(np.stack([vector(3)] * 5), 2)],
    "approximate": lambda gallery: gallery.search(vector(3), 2, approximate=True)[0][0].entry.key,
    "rerank": lambda gallery: gallery.search(vector(3), 2, rerank=True)[0][0].entry.key,
    "get": lambda gallery: gallery.get("k3").key,
    "known": lambda gallery: gallery.known(["k3", "none"]),
    "vector": lambda gallery: gallery.vector("k3").tolist(),
    "image": lambda gallery: gallery.image("k3"),
    "entries": lambda gallery: len(gallery.entries(start=10, count=100)),
    "count": lambda gallery: (gallery.count(), gallery.count(Filter(keys=("k3",)))),
    "info": lambda gallery: gallery.info().entries,
    "open": lambda gallery: Gallery.open(gallery._store.where, read_only=True).info().entries,
}


@pytest.mark.parametrize("name", READS)
def test_a_read_whose_files_were_just_removed_is_tried_again(name, tmp_path, monkeypatch):
    """As if another process replaced the files between finding the newest version and reading it."""
    folder = tmp_path / "gallery"
    with make(folder) as gallery:
        vectors = np.stack([vector(number) for number in range(60)])
        gallery.add([Entry(f"k{row}") for row in range(60)], vectors, [b"small"] * 60)
        gallery.build_index()
    reader, read = Gallery.open(folder, read_only=True), READS[name]
    expected, versions, slept = read(reader), folder / "entries.lance" / "_versions", []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "away").rename(versions)

    with monkeypatch.context() as patched:
        patched.setattr(lance_rows.time, "sleep", sleep)
        versions.rename(tmp_path / "away")
        assert read(reader) == expected
        assert len(slept) >= 3
        # What stays away is damage, and is said.
        versions.rename(tmp_path / "gone")
        with pytest.raises(UserError, match=r"cannot be (read or changed|opened)"):
            read(reader)


CLEANER = """
import sys, numpy as np
from crossreid.gallery import Entry, Filter, Gallery
with Gallery.open(sys.argv[1]) as gallery:
    for round in range(12):
        keys = [f"w{round}-{number}" for number in range(10)]
        gallery.add([Entry(key) for key in keys], np.random.default_rng(round).standard_normal((10, 64)))
        gallery.delete(Filter(keys=keys[::2]))
"""


def test_threads_search_while_another_process_adds_deletes_and_cleans_up(tmp_path):
    vectors = np.random.default_rng(99).standard_normal((500, 64))
    with make(tmp_path / "gallery") as gallery:
        gallery.add([Entry(f"k{row}") for row in range(500)], vectors)
    reader = Gallery.open(tmp_path / "gallery", read_only=True)
    process = subprocess.Popen([sys.executable, "-c", CLEANER, str(tmp_path / "gallery")])

    def search(seed):
        rows = np.random.default_rng(seed)
        count = 0
        while process.poll() is None:
            row = int(rows.integers(500))
            assert reader.search(vectors[row], 3)[0][0].entry.key == f"k{row}"
            assert reader.get(f"k{row}") is not None
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(search, range(3)))
    assert process.wait() == 0 and reader.info().entries == 560


def test_a_search_sees_all_rows_whatever_a_writer_in_another_thread_has_just_done(tmp_path, monkeypatch):
    with make(tmp_path / "gallery") as gallery:
        for start in (0, 5):
            vectors = np.stack([vector(row) for row in range(start, start + 5)])
            gallery.add([Entry(f"k{row}") for row in range(start, start + 5)], vectors)
        copies = gallery._store._flat
        both = copies._loose
        assert len(both) == 2
        for states in itertools.permutations([both, both[:1], ()]):
            # As if the writer came between any two looks at them.
            turns = itertools.cycle(states)
            seen = property(lambda own, turns=turns: next(turns), lambda own, value: None)
            with monkeypatch.context() as patched:
                patched.setattr(flat.Flat, "_loose", seen, raising=False)
                copies._latest = None
                assert sorted(each.key for each in gallery.entries()) == [f"k{row}" for row in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("loose", [0, flat.LOOSE])
def test_what_was_deleted_is_gone_from_the_files(loose, tmp_path, monkeypatch):
    """With a copy of all rows for searching, and with none."""
    monkeypatch.setattr(flat, "LOOSE", loose)
    folder = tmp_path / "gallery"
    rows = 300
    vectors = np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float32)
    with make(folder) as gallery:
        # One large file of which little is deleted, and small ones.
        for start, end in ((0, 270), (270, 285), (285, 300)):
            gallery.add(
                [
                    Entry(
                        f"secret key {row:04d}",
                        f"secret path {row:04d}",
                        camera=f"secret camera {row:04d}",
                        identity=f"person {row % 100}",
                        columns={"note": f"secret note {row:04d}"},
                        time=float(row),
                    )
                    for row in range(start, end)
                ],
                vectors[start:end],
                [b"secret image %04d" % row for row in range(start, end)],
            )
        stored = [gallery.vector(f"secret key {row:04d}").tobytes() for row in range(rows)]

        def present(row):
            words = [
                f"secret {what} {row:04d}".encode() for what in ("key", "path", "camera", "note", "image")
            ]
            return [bool(files_with(folder, needle)) for needle in (*words, stored[row])]

        assert present(5)[-2:] == [True, True], "the test must be able to see what lies in the files"
        gallery.build_index()
        assert gallery.delete(Filter(identities=("person 5",))) == 3
        for row in (5, 105, 205):
            assert not any(present(row)), row
        assert present(6)[-2:] == [True, True]
        # The index held copies, so it went too.
        assert gallery.info().recall is None
        assert gallery.delete(Filter(keys=("secret key 0299",))) == 1 and not any(present(299))
        assert gallery.delete(Filter(expired=50.0)) == 49
        assert not any(any(present(row)) for row in range(50))
        assert gallery.info().entries == 247 and gallery.search(vectors[60], 1)[0][0].entry.time == 60.0


@pytest.mark.parametrize("others", [0, 20])
def test_what_was_asked_for_when_deleting_is_gone_too(tmp_path, others):
    folder = tmp_path / "gallery"
    secret = "the name of somebody"
    with make(folder) as gallery:
        if others:
            gallery.add(
                [Entry(f"other {row}") for row in range(others)],
                np.random.default_rng(0).normal(size=(others, 64)),
            )
        gallery.add([Entry("a", identity=secret, columns={secret: secret})], vector(1)[None])
        assert files_with(folder, secret.encode())
        for condition in (Filter(identities=(secret,)), Filter(columns={secret: secret})):
            gallery.delete(condition)
            assert not files_with(folder, secret.encode())
        assert gallery.info().entries == others


def test_searching_goes_on_in_a_gallery_of_an_earlier_version(tmp_path, monkeypatch):
    """Without a copy for searching, until the next writing makes one."""
    folder = tmp_path / "gallery"
    vectors = np.random.default_rng(0).standard_normal((90, 64))
    with make(folder) as gallery:
        gallery.add([Entry(str(row)) for row in range(90)], vectors)
    for name, value in (("LOOSE", 20), ("LIMIT", 40)):
        monkeypatch.setattr(flat, name, value)
    reader = Gallery.open(folder, read_only=True)
    assert [hit.entry.key for hit in reader.search(vectors[7], 1)[0]] == ["7"] and not (
        folder / "flat"
    ).exists()
    with Gallery.open(folder) as gallery:
        assert gallery.add([Entry("8"), Entry("x")], vectors[:2]) == 1
    assert (folder / "flat").is_dir() and reader.count() == 91
    assert reader.search(vectors[7], 1)[0][0].entry.key == "7"
    # Copies of another kind, cut short, or of other rows do not count, and the table is asked.
    (copy,) = (folder / "flat").iterdir()
    for name, content in (
        ("vectors", b"short"),
        ("rows.json", b'{"format": 9}'),
        ("text_ends", bytes(8 * 91)),
    ):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(content)
        again = Gallery.open(folder, read_only=True)
        assert again.search(vectors[7], 1)[0][0].entry.key == "7" and again.image("7") is None
        (copy / name).write_bytes(whole)


def test_approximate_search_finds_what_exact_search_finds(tmp_path, monkeypatch):
    """Without structure, which is the hardest: the recall that was measured holds, with and without filters."""
    monkeypatch.setattr(flat, "LOOSE", 900)
    monkeypatch.setattr(comparing, "CHEAPER", 1000)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((4000, 60)) + random.standard_normal(60)
    entries = [Entry(str(row), camera=str(row % 3), time=float(row)) for row in range(4000)]
    with make(tmp_path / "gallery", 60) as gallery:
        gallery.add(entries[:3000], vectors[:3000])
        assert gallery.build_index() > 0.98
        # Copied later, and left without a copy: both are found.
        gallery.add(entries[3000:3990], vectors[3000:3990])
        gallery.add(entries[3990:], vectors[3990:])
    with Gallery.open(tmp_path / "gallery", read_only=True) as gallery:
        snapshot = gallery._store._snapshot()
        assert 0 < snapshot.coding.refined < 2000
        assert [(len(part.block), part.codes is not None) for part in snapshot.parts] == [
            (3000, True),
            (990, True),
            (10, False),
        ]
        queries = vectors[::80] + 0.3 * random.standard_normal((50, 60))
        for filter in (
            Filter(),
            Filter(cameras=("0", "2")),
            Filter(since=3000.0),
            Filter(cameras=("1",), until=30.0),
        ):
            exact, near = (gallery.search(queries, 50, filter, approximate=way) for way in (False, True))
            found = [
                len({hit.entry.key for hit in one} & {hit.entry.key for hit in other})
                for one, other in zip(exact, near)
            ]
            assert sum(found) >= 0.97 * sum(map(len, exact))
            assert all(len(hits) == len(others) for hits, others in zip(exact, near))


def test_an_index_that_another_process_builds_again_is_the_one_that_is_used(tmp_path, monkeypatch):
    """The mean of the vectors has changed since, and with it all codes."""
    monkeypatch.setattr(flat, "LOOSE", 0)
    vectors = np.random.default_rng(0).standard_normal((400, 64)) + 3
    with make(tmp_path / "gallery") as gallery:
        gallery.add([Entry(f"a{row}") for row in range(400)], vectors)
        gallery.build_index()
        reader = Gallery.open(tmp_path / "gallery", read_only=True)
        before = reader._store._snapshot().parts[0].codes.words.copy()
        gallery.add([Entry(f"b{row}") for row in range(400)], -vectors[::-1])
        gallery.build_index()
    parts = reader._store._snapshot().parts
    fresh = Gallery.open(tmp_path / "gallery", read_only=True)._store._snapshot().parts
    assert len(parts) == len(fresh) == 2 and not np.array_equal(before, fresh[0].codes.words)
    for one, other in zip(parts, fresh):
        assert np.array_equal(one.codes.words, other.codes.words)
        assert np.array_equal(one.codes.factors, other.codes.factors)


def test_no_recall_is_kept_of_an_index_that_another_process_drops_while_it_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(flat, "LOOSE", 0)
    vectors = np.random.default_rng(0).standard_normal((400, 64))
    with make(tmp_path / "gallery") as gallery, Gallery.open(tmp_path / "gallery") as other:
        gallery.add([Entry(str(row), camera=str(row % 2)) for row in range(400)], vectors)
        measure = gallery._recall

        def late(*given):
            other.delete(Filter(keys=("7",)))
            return measure(*given)

        for _ in range(2):  # the first time there is no recall of an index of before
            with monkeypatch.context() as patched, pytest.raises(UserError, match="build it again"):
                patched.setattr(gallery, "_recall", late)
                gallery.build_index(queries=10)
            assert gallery.info().recall is None and not (tmp_path / "gallery" / "flat" / "coding").exists()
            assert gallery.build_index(queries=10) == gallery.info().recall > 0.9


def test_many_changes_are_settled_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lance_table, "PART", 7)
    monkeypatch.setattr(gallery_module, "PAGE", 9)
    monkeypatch.setattr(updating, "PAGE", 11)
    settled, settle = [], lance.LanceStore._settle
    monkeypatch.setattr(lance.LanceStore, "_settle", lambda store: settled.append(1) or settle(store))
    with make(tmp_path / "gallery") as gallery:
        vectors = np.stack([vector(row) for row in range(40)])
        gallery.add([Entry(f"k{row}", camera="1" if row < 30 else "2") for row in range(40)], vectors)
        assert updating.by_filter(gallery, Filter(cameras=("1",)), {"camera": "door", "Note": "x"}) == 30
        assert len(settled) == 1 and gallery.count(Filter(cameras=("door",), columns={"Note": "x"})) == 30
        table = tmp_path / "changes.csv"
        table.write_text(
            "\ufeffKey;camera;identity\n" + "".join(f"k{row};gate;'=1\n" for row in range(25)), "utf-8"
        )
        assert updating.by_table(gallery, table) == 25 and len(settled) == 2
        assert gallery.count(Filter(cameras=("gate",), identities=("=1",))) == 25
        assert gallery.vector("k24") == pytest.approx(vector(24), abs=1e-6)
        for text, said in (
            ("camera\n1\n", "line 1: the columns are camera: expected key or path"),
            ("key,camera,camera\nk1,1,2\n", "each once"),
            ("key,camera\nk1\n", "line 2: 1 field, but 2 columns"),
            ("key,camera\nk1,1\nk99,1\n", "line 3: no entry of the gallery has the key 'k99'"),
        ):
            table.write_text(text)
            with pytest.raises(UserError, match=said):
                updating.by_table(gallery, table)


def test_a_delete_that_was_killed_on_its_way_is_finished_by_the_next(tmp_path, monkeypatch):
    folder = tmp_path / "gallery"
    vectors = np.random.default_rng(0).standard_normal((50, 64))
    with make(folder) as gallery:
        gallery.add([Entry(str(row)) for row in range(50)], vectors)
        needle = gallery.vector("3").tobytes()
        with monkeypatch.context() as patched:
            patched.setattr(
                lance.LanceStore, "_merge", lambda store: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                gallery.delete(Filter(keys=("3",)))
        assert gallery.get("3") is None and files_with(folder, needle)
        assert gallery.delete(Filter(keys=("3",))) == 0
        assert not files_with(folder, needle)


def test_small_files_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(lance, "MANY", 12)
    folder = tmp_path / "gallery"
    with make(folder) as gallery:
        for row in range(30):
            gallery.add([Entry(str(row))], vector(row)[None])
            assert len(os.listdir(folder / "entries.lance" / "data")) <= 13
        assert [hit.entry.key for hit in gallery.search(vector(4), 1)[0]] == ["4"]
    monkeypatch.setattr(lance, "SOME", 0)
    with Gallery.open(folder) as gallery:
        gallery.add([Entry("x")], vector(99)[None])
    assert len(os.listdir(folder / "entries.lance" / "data")) == 1
    with Gallery.open(folder) as gallery:
        assert gallery.info().entries == 31 and gallery.known(["0", "29", "x"]) == {"0", "29", "x"}


def test_a_locked_gallery_is_searched_but_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(lance, "PATIENCE", 0.1)
    with make(tmp_path / "gallery") as gallery:
        gallery.add([Entry("a")], vector(0)[None])
        with FileLock(tmp_path / "gallery" / lance.LOCK):
            with pytest.raises(UserError, match=r"locked by another process for 0\.1 seconds"):
                gallery.add([Entry("b")], vector(1)[None])
            # What the gallery notes of itself is read and written in one go, too.
            for change in (lambda: gallery.remember("{camera}.jpg"), lambda: gallery._store.note(0.9, None)):
                with pytest.raises(UserError, match="locked by another process"):
                    change()
            assert gallery.search(vector(1), 1)[0][0].entry.key == "a"
        assert gallery.add([Entry("b")], vector(1)[None]) == 1


def test_a_folder_that_may_not_be_written_is_searched(tmp_path, monkeypatch):
    make(tmp_path / "gallery").close()

    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    with Gallery.open(tmp_path / "gallery") as gallery, monkeypatch.context() as patched:
        patched.setattr(FileLock, "acquire", refuse)
        assert gallery.search(vector(0)) == [[]]
        with pytest.raises(UserError, match=r"cannot be changed .Permission denied.*read_only=True"):
            gallery.add([Entry("b")], vector(1)[None])


def test_galleries_of_a_newer_version_and_damaged_ones(tmp_path):
    folder = tmp_path / "gallery"
    make(folder).close()
    metadata = json.loads((folder / "gallery.json").read_text())
    for text, said in (
        (
            json.dumps(metadata | {"format": 2, "dimension": "whatever"}),
            "format 2, written by a newer version",
        ),
        (json.dumps({"format": 1}), "dimension"),
        ("[1, 2]", "the whole"),
        ("{", "does not describe a gallery"),
    ):
        (folder / "gallery.json").write_text(text)
        with pytest.raises(UserError, match=said):
            Gallery.open(folder)
    (folder / "gallery.json").write_text(json.dumps(metadata))
    Gallery.open(folder).close()
    for path in (folder / "entries.lance" / "_versions").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="cannot be opened"):
        Gallery.open(folder)


def three_writes(folder):
    random = np.random.default_rng(0)
    gallery = make(folder)
    for part in range(3):
        entries = [Entry(f"{part}-{row}", f"secret path {row}", identity=f"p{row}") for row in range(5)]
        gallery.add(entries, random.standard_normal((5, 64)), [b"secret image %d" % row for row in range(5)])
    return gallery


def test_deletion_does_not_go_by_age(tmp_path, monkeypatch):
    """As if the clock had been ahead when the rows were written: LanceDB then removes nothing."""
    monkeypatch.setattr(lance.LanceStore, "_merge", lambda store: store._table.optimize())
    with three_writes(tmp_path / "gallery") as gallery:
        assert gallery.delete(Filter(identities=("p1",))) == 3
        assert not files_with(tmp_path / "gallery", b"secret path 1")
        assert not files_with(tmp_path / "gallery", b"secret image 1")
        assert files_with(tmp_path / "gallery", b"secret image 2")
        assert gallery.count() == 12 == len(gallery.entries())
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert gallery.count() == 12 and gallery.get("0-2") is not None
        assert gallery.delete(Filter()) == 12 and gallery.count() == 0
    assert not files_with(tmp_path / "gallery", b"secret")


def test_a_deletion_that_left_something_is_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr(lance.LanceStore, "_merge", lambda store: store._table.optimize())
    with three_writes(tmp_path / "gallery") as gallery:
        with monkeypatch.context() as held:
            held.setattr(Path, "unlink", lambda path: (_ for _ in ()).throw(PermissionError()))
            with pytest.raises(UserError, match="files that may hold them are still there"):
                gallery.delete(Filter(identities=("p1",)))
        assert gallery.delete(Filter(identities=("p1",))) == 0
    assert not files_with(tmp_path / "gallery", b"secret image 1")


def test_damaged_rows_give_a_sentence(tmp_path):
    with three_writes(tmp_path / "gallery"):
        pass
    for path in (tmp_path / "gallery" / "entries.lance" / "data").iterdir():
        content = bytearray(path.read_bytes())
        content[-200:] = b"\xff" * 200
        path.write_bytes(content)
    with (
        Gallery.open(tmp_path / "gallery") as gallery,
        pytest.raises(UserError, match="cannot be read or changed"),
    ):
        gallery.search(np.ones((1, 64)))


def test_folders_that_are_no_galleries(tmp_path):
    with pytest.raises(UserError, match="no gallery in"):
        Gallery.open(tmp_path / "absent")
    with pytest.raises(UserError, match="no gallery in"):
        Gallery.open(tmp_path)
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds holiday\.jpg and is not a gallery"):
        make(tmp_path)
    with pytest.raises(UserError, match="cannot be made"):
        make(tmp_path / "holiday.jpg" / "gallery")
    with pytest.raises(UserError, match="a whole number from 1"):
        make(tmp_path / "new", dimension=0)
    # What a process that was killed while it made a gallery leaves behind is no obstacle.
    make(tmp_path / "new").close()
    (tmp_path / "new" / "gallery.json").unlink()
    with make(tmp_path / "new", 32) as gallery:
        assert gallery.add([Entry("a")], np.ones((1, 32))) == 1


def test_milvus_places_that_do_not_answer(tmp_path):
    pytest.importorskip("milvus_lite")
    with pytest.raises(UserError, match="no gallery in"):
        Gallery.open(f"milvus:{tmp_path / 'absent.db'}")
    assert not (tmp_path / "absent.db").exists()
    where = f"milvus:{tmp_path / 'one.db'}"
    with make(where) as gallery:
        with pytest.raises(UserError, match="no gallery in"):
            Gallery.open(f"{where}#other")
        code = f"from crossreid.gallery import Gallery\nGallery.open({where!r})"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert found.returncode and "one at a time" in found.stderr.splitlines()[-1]
        gallery.add([Entry("a")], vector(0)[None])
    with Gallery.open(where) as gallery:
        assert gallery.info().entries == 1
