"""Galleries in a bucket, beside what every gallery must do (``test_gallery.py``): several who write, deletion to the
last byte, and what is said where the bucket cannot be reached. The server is moto's, on the loopback interface."""

import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest

from crossreid.gallery import Entry, Filter, Gallery, lance_table
from crossreid.gallery import bucket as stored
from crossreid.gallery.lance_rows import connector
from crossreid.gallery.sentences import sentence
from crossreid.records import UserError


@pytest.fixture
def place(bucket):
    return f"{bucket}/{uuid.uuid4().hex}"


def make(place, dimension=16):
    return Gallery.create(place, dimension=dimension, fingerprint="f" * 64, model="toy")


def vectors(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 16))


def objects(place):
    """The bytes of all objects of a gallery, as the server has them."""
    from moto.s3.models import s3_backends

    name, _, folder = place.removeprefix("s3://").partition("/")
    kept = [store for regions in s3_backends.values() for store in regions.values() if name in store.buckets]
    found = [
        key.value
        for store in kept
        for path, key in store.buckets[name].keys.items()
        if path.startswith(folder)
    ]
    assert found
    return found


def address():
    return os.environ["AWS_ENDPOINT"]


WRITER = """
import sys, numpy as np
from crossreid.gallery import Entry, Gallery
with Gallery.open(sys.argv[1]) as gallery:
    print("open", flush=True)
    new = 0
    for start in range(0, 24, 8):
        made = np.random.default_rng(start).standard_normal((8, 16))
        new += gallery.add([Entry(f"k{start + row}") for row in range(8)], made, [b"small"] * 8)
    print(new)
"""


@pytest.mark.slow
def test_two_processes_write_at_once_and_every_row_is_there_once(place):
    make(place).close()
    words = [sys.executable, "-c", WRITER, place]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0].split() for process in processes]
    with Gallery.open(place, read_only=True) as gallery:
        found = [entry.key for entry in gallery.entries(count=1000)]
        assert sorted(found) == sorted(f"k{row}" for row in range(24))
        assert [word for word, _ in told] == ["open", "open"] and sum(int(new) for _, new in told) == 24
        assert gallery.image("k7") == b"small"


def test_two_who_add_the_same_at_once_add_it_once(place):
    """Both have seen the same version, and one commits before the other."""
    entries = [Entry(f"k{row}") for row in range(20)]
    with make(place) as one, Gallery.open(place) as other:
        merge = other._store._table.merge_insert

        def late(key):
            assert one.add(entries[:12], vectors(12)) == 12
            return merge(key)

        other._store._table.checkout_latest()
        other._store._table.merge_insert = late
        assert other.add(entries, vectors(20)) == 8
        assert one.count() == other.count() == 20


NOTER = """
import sys
from crossreid.gallery import Gallery
with Gallery.open(sys.argv[1]) as gallery:
    print("open", flush=True)
    for number in range(6):
        if sys.argv[2] == "pattern":
            gallery.remember(f"{{camera}}-{number}")
        else:
            gallery._store.note(number / 10, None)
"""


@pytest.mark.slow
def test_two_processes_make_notes_at_once_and_none_is_lost(place):
    make(place).close()
    words = [[sys.executable, "-c", NOTER, place, which] for which in ("pattern", "recall")]
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in words]
    assert [process.communicate()[0].split() for process in processes] == [["open"], ["open"]]
    assert [process.returncode for process in processes] == [0, 0]
    with Gallery.open(place) as gallery:
        assert gallery.pattern == "{camera}-5" and gallery.info().recall == 0.5


def test_a_note_that_another_overtakes_keeps_what_that_one_noted(place, monkeypatch):
    with make(place) as one, Gallery.open(place) as other:
        update = other._store._facts.update

        def late(*given):
            monkeypatch.undo()
            one.remember("it's {camera}")
            return update(*given)

        monkeypatch.setattr(other._store._facts, "update", late)
        other._store.note(0.5, None)
        assert one.info().recall == 0.5 and other.pattern == "it's {camera}"
        other.remember("{camera}")
        assert one.pattern == "{camera}" and one.info().recall == 0.5


def test_what_is_deleted_while_the_index_is_built_is_not_in_it(place, monkeypatch):
    """The index, made of the rows of before, reaches the bucket when the deletion has returned."""
    from moto.s3.models import S3Backend

    made, ready, go = vectors(40), threading.Event(), threading.Event()
    made[7] = 0.25  # of unit length to the last bit, so that an index holds the same bytes
    needle = made[7].astype(np.float32).tobytes()
    put, written = S3Backend.put_object, []

    def late(server, bucket, name, value, *given, **settings):
        if "_indices" in name:
            written.append(value)
            ready.set()
            assert go.wait(60)
        return put(server, bucket, name, value, *given, **settings)

    with make(place) as one, Gallery.open(place) as other, ThreadPoolExecutor(1) as pool:
        one.add([Entry(f"k{row}") for row in range(40)], made)
        monkeypatch.setattr(S3Backend, "put_object", late)
        recall = pool.submit(one.build_index, 10)
        try:
            assert ready.wait(60)
            assert other.delete(Filter(keys=("k7",))) == 1
            assert not any(needle in content for content in objects(place))
        finally:
            go.set()
        assert recall.result() == other.info().recall > 0
        assert any(needle in content for content in written), "an index that held the row was on its way"
        assert not any(needle in content for content in objects(place))
        (index,) = one._store._table.list_indices()
        assert one.count() == index.num_indexed_rows == 39


def test_an_index_whose_process_was_killed_goes_with_the_next_who_writes(place, monkeypatch):
    def add(number):
        with Gallery.open(place) as gallery:
            gallery.add([Entry(f"k{number}")], vectors(1, number))
            table = gallery._store._table
        return len(table.list_indices())

    made = vectors(300)
    with make(place) as gallery:
        gallery.add([Entry(f"k{row}") for row in range(300)], made)
        gallery._store.index()  # of which no recall is noted
    assert add(1000) == 1 and any(b"vector_idx" in content for content in objects(place))
    monkeypatch.setattr(stored, "ABANDONED", timedelta(0))
    assert add(1001) == 0 and not any(b"vector_idx" in content for content in objects(place))
    with Gallery.open(place) as gallery:
        gallery.build_index()
    assert add(1002) == 1


def test_what_was_deleted_is_gone_from_the_bucket(place):
    with make(place) as gallery:
        for part in range(3):
            gallery.add(
                [
                    Entry(
                        f"{part}-{row}",
                        f"secret path {row}",
                        identity=f"p{row}",
                        columns={"n": f"note {row}"},
                    )
                    for row in range(5)
                ],
                vectors(5, part),
                [b"secret image %d" % row for row in range(5)],
            )
        bytes_of = gallery.vector("1-1").tobytes()
        needles = (b"secret path 1", b"secret image 1", b"note 1", bytes_of)

        def held(needle):
            return any(needle in content for content in objects(place))

        assert all(map(held, needles)), "the test must be able to see what lies in the bucket"
        gallery.build_index(queries=10)
        assert gallery.delete(Filter(identities=("p1",))) == 3
        assert not any(map(held, needles)) and held(b"secret path 2")
        assert gallery.info().recall is None and gallery.count() == 12
        assert gallery.update({"0-2": {"path": "another"}}) == 1
        assert gallery.get("0-2").path == "another" and gallery.image("0-2") == b"secret image 2"
        assert gallery.delete(Filter()) == 12 and not held(b"secret") and not held(b"another")


def test_a_deletion_that_left_something_is_no_success(place, monkeypatch):
    monkeypatch.setattr(stored, "TRIES", 2)
    with make(place) as gallery:
        gallery.add([Entry("a"), Entry("b")], vectors(2))
        with monkeypatch.context() as patched:
            patched.setattr(gallery._store._table, "optimize", lambda **given: None)
            with pytest.raises(UserError, match=r"earlier versions? of the gallery .* delete again"):
                gallery.delete(Filter(keys=("a",)))
        assert gallery.get("a") is None and gallery.delete(Filter(keys=("a",))) == 0


def test_approximate_search_looks_at_more_cells_within_a_filter(place, monkeypatch):
    monkeypatch.setattr(lance_table, "FEW", 50)
    random = np.random.default_rng(0)
    made = random.standard_normal((1200, 16))
    with make(place) as gallery:
        gallery.add([Entry(str(row), camera=str(row % 4), time=float(row)) for row in range(1200)], made)
        recall = gallery.build_index(queries=20)
        info = gallery.info()
        assert 0.5 < recall == info.recall <= 1 and 0.5 < info.recall_within <= 1
        filter = Filter(cameras=("2",), since=600.0)
        exact, near = (gallery.search(made[:20], 10, filter, approximate=way) for way in (False, True))
        shared = [len({h.entry.key for h in a} & {h.entry.key for h in b}) for a, b in zip(exact, near)]
        assert sum(shared) > 195 and all(len(hits) == 10 for hits in near)


def test_small_files_are_merged(place, monkeypatch):
    monkeypatch.setattr(stored, "MANY", 6)
    monkeypatch.setattr(stored, "SOME", 1)
    with make(place) as gallery:
        for row in range(9):
            gallery.add([Entry(str(row))], vectors(1, row))
            assert gallery._store._table.stats()["fragment_stats"]["num_fragments"] <= 7
    with Gallery.open(place) as gallery:
        assert gallery._store._table.stats()["fragment_stats"]["num_fragments"] == 1 and gallery.count() == 9


def test_a_process_that_was_killed_while_it_made_a_gallery_is_no_obstacle(place):
    with make(place, 32) as gallery:
        connector()(place).drop_table("entries")
    with Gallery.open(place) as gallery:
        assert gallery.add([Entry("a")], np.ones((1, 32))) == 1


def test_buckets_that_cannot_be_reached(bucket, place, monkeypatch):
    with pytest.raises(UserError, match="no gallery in"):
        Gallery.open(place)
    for act in (make, Gallery.open):
        with pytest.raises(
            UserError, match=r"s3://no-such-bucket/g cannot be reached.*no such bucket: make it"
        ):
            act("s3://no-such-bucket/g")
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(UserError, match="does not answer: look at the network, and at AWS_ENDPOINT"):
            Gallery.open(place)
    # What is said where a bucket has to be asked for its region, which needs a network to be tried.
    error = RuntimeError("Generic S3 error: Failed to resolve region for bucket 'people'")
    assert "cannot be reached, since nothing says in which region" in sentence(place, error)


def test_credentials_that_are_refused(bucket, place):
    make(place).close()
    reset = f"{address()}/moto-api/reset-auth"

    def checked_after(requests):
        urllib.request.urlopen(urllib.request.Request(reset, requests, {"Content-Type": "text/plain"})).read()

    checked_after(b"0")
    try:
        with pytest.raises(UserError, match=r"refuses the credentials.*AWS_SECRET_ACCESS_KEY") as told:
            Gallery.open(place)
        assert "test-secret" not in str(told.value)
    finally:
        checked_after(b"inf")
    Gallery.open(place).close()
