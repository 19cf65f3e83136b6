"""What every store must do, in the same words for all three; a Milvus server too, where CROSSREID_MILVUS names one."""

import os
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from crossreid.gallery import Entry, Filter, Gallery, flat
from crossreid.gallery.entries import readings
from crossreid.gallery.indexing import opened
from crossreid.gallery.store import NoGallery
from crossreid.records import UserError

NASTY = [
    "it's",
    'a "quoted" one',
    "x' OR '1'='1",
    "'; DROP TABLE entries; --",
    "back\\slash\\",
    "line\nbreak",
    "{curly} %like_ *?",
    "größe 相机 \U0001f4f7",
    '" or key != "',
    " ",
    "NULL",
]


@pytest.fixture(scope="session")
def milvus_file(tmp_path_factory):
    """One engine for all tests of this process."""
    pytest.importorskip("milvus_lite")
    file = f"milvus:{tmp_path_factory.mktemp('milvus') / 'all.db'}"
    keeper = Gallery.create(f"{file}#keeper", dimension=2, fingerprint="")
    yield file
    keeper.close()


@pytest.fixture(params=["memory", "lancedb", "copied", "table", "bucket", "milvus", "server"])
def place(request, tmp_path, monkeypatch):
    """Where to create a gallery; ``copied`` and ``table`` are folders with a copy of all rows, and with none."""
    if request.param == "memory":
        return None
    if request.param in ("lancedb", "copied", "table"):
        pytest.importorskip("lancedb")
        if request.param == "copied":
            monkeypatch.setattr(flat, "LOOSE", 0)
        elif request.param == "table":
            monkeypatch.setattr(flat.Flat, "snapshot", lambda *given: None)
        return str(tmp_path / "gallery")
    name = f"t{uuid.uuid4().hex}"
    if request.param == "bucket":
        return f"{request.getfixturevalue('bucket')}/{name}"
    if request.param == "milvus":
        return f"{request.getfixturevalue('milvus_file')}#{name}"
    if "CROSSREID_MILVUS" not in os.environ:
        pytest.skip("set CROSSREID_MILVUS to the address of a Milvus server to test one")
    return f"milvus:{os.environ['CROSSREID_MILVUS']}#{name}"


def make(place, dimension=8):
    return Gallery.create(place, dimension=dimension, fingerprint="f" * 64, model="toy")


def people(count=60, dimension=8, seed=0):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, dimension)) * random.uniform(0.1, 9, (count, 1))
    entries = [
        Entry(
            f"key{number}",
            f"people/{number}.jpg",
            ("visible", "infrared")[number % 2],
            None if number % 7 == 0 else f"camera {number % 3}",
            None if number % 5 == 0 else float(number),
            None if number % 4 == 0 else f"person {number % 6}",
            {"weather": "rain" if number % 2 else "sun", "speed": number % 3, "hat": number % 4 == 1},
        )
        for number in range(count)
    ]
    return entries, vectors


@pytest.mark.parametrize("emptied", ["before", "after"])
def test_a_gallery_that_is_emptied_while_its_index_is_built_says_so(place, monkeypatch, emptied):
    """Before the store has built the index, or after."""
    with make(place) as gallery:
        gallery.add(*people())
        build = gallery._store.index

        def index():
            if emptied == "before":
                gallery.delete(Filter())
            build()
            if emptied == "after":
                gallery.delete(Filter())

        monkeypatch.setattr(gallery._store, "index", index)
        with pytest.raises(UserError, match="was emptied while its index was built"):
            gallery.build_index()
        assert gallery.info().recall is None and gallery.count() == 0


def within(entry, filter, added):
    """The definition of a filter, written down once more."""
    moment = added if entry.time is None else entry.time

    def same(one, other):
        kinds = [bool if isinstance(x, bool) else str if isinstance(x, str) else float for x in (one, other)]
        return kinds[0] is kinds[1] and one == other

    return all(
        [
            not filter.cameras or entry.camera in filter.cameras,
            not filter.identities or entry.identity in filter.identities,
            not filter.keys or entry.key in filter.keys,
            filter.modality in (None, entry.modality),
            filter.since is None or (entry.time is not None and entry.time >= filter.since),
            filter.until is None or (entry.time is not None and entry.time < filter.until),
            filter.expired is None or moment < filter.expired,
            all(
                name in entry.columns
                and any(
                    same(entry.columns[name], each)
                    for each in (value if isinstance(value, tuple) else (value,))
                )
                for name, value in filter.columns.items()
            ),
        ]
    )


FILTERS = [
    Filter(),
    Filter(cameras=("camera 1",)),
    Filter(cameras=("camera 0", "camera 2"), modality="infrared"),
    Filter(modality="visible"),
    Filter(since=20),
    Filter(until=21.0),
    Filter(since=10, until=30, identities=("person 1", "person 5", "nobody")),
    Filter(keys=("key3", "key4", "none")),
    Filter(columns={"weather": "rain"}),
    Filter(columns={"weather": "rain", "speed": 2.0}),
    Filter(columns={"hat": True}),
    Filter(columns={"hat": False, "speed": 0}, since=-1e9),
    Filter(columns={"hat": "true"}),
    Filter(columns={"speed": True}),
    Filter(columns={"speed": "1"}),
    Filter(columns={"speed": ("1", 1)}),
    Filter(columns={"speed": (0, 2), "weather": readings("rain")}),
    Filter(columns={"speed": readings("2"), "hat": readings("False")}),
    Filter(columns={"absent": 1}),
    Filter(expired=12.0),
    Filter(cameras=("camera 9",)),
    Filter(since=1e12),
]


def keys(hits):
    return [hit.entry.key for hit in hits]


def test_exact_search_equals_sorting_all_cosines_within_every_filter(place):
    entries, vectors = people()
    with make(place) as gallery:
        assert gallery.add(entries, vectors) == 60
        added = gallery.get("key0").added
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        # Some stores search for several at once in another way than for one.
        queries = np.random.default_rng(1).standard_normal((6, 8))
        cosines = unit @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T
        sizes = set()
        for filter in FILTERS:
            rows = [row for row, entry in enumerate(entries) if within(entry, filter, added)]
            sizes.add(len(rows))
            together = gallery.search(queries, 7, filter)
            assert keys(gallery.search(queries[0], 7, filter)[0]) == keys(together[0])
            for query, hits in enumerate(together):
                expected = sorted(rows, key=lambda row: -cosines[row, query])[:7]
                assert keys(hits) == [entries[row].key for row in expected], filter
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                assert [hit.distance for hit in hits] == pytest.approx(
                    [1 - cosines[row, query] for row in expected], abs=1e-5
                )
            found = gallery.entries(filter, count=1000)
            assert gallery.count(filter) == len(rows)
            assert sorted(entry.key for entry in found) == sorted(entries[row].key for row in rows), filter
        assert {0, 60} < sizes


def test_entries_come_back_as_they_went_in(place):
    entries, vectors = people(9)
    images = [None if row % 3 == 0 else bytes(range(row, row + 200)) for row in range(9)]
    with make(place) as gallery:
        gallery.add(entries, vectors, images)
        for row, entry in enumerate(entries):
            found = gallery.get(entry.key)
            assert found.added > 1.7e9
            for name in ("key", "path", "modality", "camera", "time", "identity", "columns"):
                assert getattr(found, name) == getattr(entry, name)
            assert [type(value) for value in found.columns.values()] == [str, int, bool]
            expected = vectors[row] / np.linalg.norm(vectors[row])
            assert gallery.vector(entry.key) == pytest.approx(expected, abs=1e-6)
            assert gallery.vector(entry.key).dtype == np.float32
            assert gallery.image(entry.key) == images[row]
        assert gallery.get("no") is gallery.vector("no") is gallery.image("no") is None
        assert gallery.known(["key1", "no", "key2"]) == {"key1", "key2"} and gallery.known([]) == set()
        assert (
            gallery.known(key for key in ("key1", "no")) == set(gallery.vectors({"key1", "no"})) == {"key1"}
        )


def test_info(place):
    with make(place) as gallery:
        info = gallery.info()
        assert (info.entries, info.dimension, info.fingerprint, info.model) == (0, 8, "f" * 64, "toy")
        assert (info.cameras, info.modalities, info.columns) == ((), (), ())
        assert info.first is info.last is info.recall is info.recall_within is None
        gallery.add(*people())
        info = gallery.info()
        assert (info.entries, info.first, info.last) == (60, 1.0, 59.0)
        assert info.cameras == ("camera 0", "camera 1", "camera 2")
        assert info.modalities == ("infrared", "visible") and info.columns == ("hat", "speed", "weather")
        assert info.store in ("memory", "lancedb", "milvus")
        assert info.where == ("" if place is None else place)


def test_adding_twice_is_adding_once(place):
    entries, vectors = people(20)
    with make(place) as gallery:
        assert gallery.add(entries[:12], vectors[:12]) == 12
        assert gallery.add(entries, vectors) == 8
        assert gallery.add(entries, -vectors) == 0
        assert gallery.add([entries[0]] * 3 + [Entry("new")] * 2, vectors[:5]) == 1
        assert gallery.info().entries == 21
        # The first to come is the one that stays.
        assert gallery.search(vectors[3], 1)[0][0].distance == pytest.approx(0, abs=1e-5)
        assert gallery.get("key3").path == "people/3.jpg"


def test_empty_galleries_and_empty_questions(place):
    with make(place) as gallery:
        assert gallery.search(np.ones((5, 8))) == [[]] * 5
        assert gallery.search(np.ones((2, 8)), rerank=True) == [[], []]
        assert gallery.search(np.empty((0, 8))) == []
        assert gallery.entries() == [] and gallery.delete(Filter()) == 0
        assert gallery.add([], np.empty((0, 8))) == 0
        with pytest.raises(UserError, match="empty gallery"):
            gallery.build_index()
        gallery.add([Entry("one")], np.ones((1, 8)))
        for rerank in (False, True):
            assert keys(gallery.search(np.ones(8), rerank=rerank)[0]) == ["one"]
        assert gallery.search(np.ones(8), filter=Filter(cameras=("1",)), rerank=True) == [[]]


def test_text_that_looks_like_a_query_is_text(place):
    entries = [
        Entry(f"key {text}", text, camera=text, identity=text, columns={text: text, "n": row})
        for row, text in enumerate(NASTY)
    ]
    vectors = np.random.default_rng(0).standard_normal((len(NASTY), 8))
    with make(place) as gallery:
        gallery.add(entries, vectors)
        for row, text in enumerate(NASTY):
            for filter in (
                Filter(cameras=(text,)),
                Filter(identities=(text, "' or true or '")),
                Filter(keys=(f"key {text}",)),
                Filter(columns={text: text}),
            ):
                (hits,) = gallery.search(vectors[row], 5, filter)
                assert keys(hits) == [f"key {text}"], (text, filter)
                assert hits[0].entry.path == hits[0].entry.camera == text
        assert gallery.delete(Filter(identities=("' or 1=1 --",))) == 0
        assert gallery.delete(Filter(columns={NASTY[2]: NASTY[2]})) == 1
        assert gallery.info().entries == len(NASTY) - 1
        assert gallery.info().cameras == tuple(sorted(set(NASTY) - {NASTY[2]}))


def test_deleting(place):
    entries, vectors = people()
    for filter in FILTERS[1:]:
        assert filter
    with make(place) as gallery:
        gallery.add(entries, vectors, [b"small" + bytes([row]) for row in range(60)])
        left = {entry.key for entry in entries}
        added = gallery.get("key0").added
        for filter in (Filter(identities=("person 1",)), Filter(keys=("key2", "key9")), Filter(until=12)):
            gone = {entry.key for entry in entries if entry.key in left and within(entry, filter, added)}
            assert gone and gallery.delete(filter) == len(gone)
            assert gallery.delete(filter) == 0
            left -= gone
            assert {entry.key for entry in gallery.entries(count=100)} == left
            assert all(gallery.vector(key) is gallery.image(key) is None for key in gone)
            assert set(keys(gallery.search(vectors[1], 100)[0])) == left
        assert gallery.add(entries, vectors) == 60 - len(left)
        assert gallery.delete(Filter()) == 60 and gallery.info().entries == 0
        assert gallery.add(entries[:2], vectors[:2]) == 2


def test_age_is_counted_from_the_image_or_else_from_adding(place):
    day = 86400.0
    entries = [Entry("old", time=0.0), Entry("new", time=90 * day), Entry("unknown", added=50 * day)]
    with make(place) as gallery:
        gallery.add(entries, np.eye(8)[:3])
        assert gallery.delete_older(30, now=70 * day) == 1 and gallery.get("old") is None
        assert gallery.delete_older(30, now=80.5 * day) == 1 and gallery.get("unknown") is None
        assert gallery.delete_older(30, now=120 * day) == 0
        assert gallery.delete_older(30) == 1
        with pytest.raises(UserError, match="number of days"):
            gallery.delete_older(-1)


def test_an_entry_from_the_future_is_as_old_as_its_adding(place):
    """A clock that is fast, or a wrong zone: the entry must not outlive its retention."""
    day, now = 86400.0, time.time()
    with make(place) as gallery:
        gallery.add(
            [Entry("ahead", time=now + 3600, added=now - 40 * day), Entry("b", time=now + 3600)],
            np.eye(8)[:2],
        )
        assert gallery.delete_older(30) == 1 and gallery.get("ahead") is None and gallery.get("b") is not None


@pytest.mark.parametrize(
    "ahead, words", [(10 * 365 * 86400, "lies ahead"), (1e12, "looks like milliseconds")]
)
def test_times_that_cannot_be_are_refused(place, ahead, words):
    when = time.time() + ahead if ahead < 1e12 else time.time() * 1e3
    with make(place) as gallery, pytest.raises(UserError, match=f"the time of the entry 'k'.*{words}"):
        gallery.add([Entry("k", time=when)], np.ones((1, 8)))


def test_pages_hold_every_entry_once(place):
    entries, vectors = people(23)
    with make(place) as gallery:
        gallery.add(entries[:10], vectors[:10])
        gallery.add(entries[10:], vectors[10:])
        for filter, count in ((Filter(), 23), (Filter(modality="visible"), 12)):
            pages = [gallery.entries(filter, start, 5) for start in range(0, 30, 5)]
            assert [len(page) for page in pages] == [min(5, max(0, count - at)) for at in range(0, 30, 5)]
            assert len({entry.key for page in pages for entry in page}) == count
        assert gallery.entries(count=0) == []
        with pytest.raises(UserError, match="page"):
            gallery.entries(start=-1)


def test_wrong_vectors_are_refused_and_nothing_is_added(place):
    entries, vectors = people(4)
    with make(place) as gallery:
        for bad, said in (
            (vectors[:, :7], "length 8"),
            (vectors[:3], "4 entries came with 3 vectors"),
            (np.where(np.arange(8) == 3, np.nan, vectors), "row 0 .people/0.jpg. is zero or not"),
            (vectors * np.array([[1], [1], [0], [1]]), "row 2"),
            (np.where(np.arange(4)[:, None] == 1, np.inf, vectors), "row 1"),
        ):
            with pytest.raises(UserError, match=said):
                gallery.add(entries, bad)
        with pytest.raises(UserError, match="3 images"):
            gallery.add(entries, vectors, [b""] * 3)
        assert gallery.info().entries == 0
        with pytest.raises(UserError, match="length 8"):
            gallery.search(np.ones(7))
        with pytest.raises(UserError, match="row 0"):
            gallery.search(np.zeros(8))
        with pytest.raises(UserError, match="length of a ranked list is 0: expected a whole number from 1"):
            gallery.search(np.ones(8), top=0)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(""),
        Entry("k" * 129),
        Entry("k", modality="thermal"),
        Entry("k", camera=1),
        Entry("k", path="a\0b"),
        Entry("k", path="\udcff.jpg"),
        Entry("k", path=None),
        Entry("k", identity="p" * 300),
        Entry("k", time=float("nan")),
        Entry("k", time="1"),
        Entry("k", columns={"a": None}),
        Entry("k", columns={"a": float("inf")}),
        Entry("k", columns={"": 1}),
        Entry("k", columns={"a": [1]}),
        Entry("k", columns={"a": "b" * 40000}),
    ],
    ids=repr,
)
def test_entries_that_no_store_could_hold_are_refused(entry):
    with make(None) as gallery, pytest.raises(UserError):
        gallery.add([entry], np.ones((1, 8)))


def test_a_generator_of_names_is_a_condition_like_any_other():
    """Were it used up while it is checked, all entries would be meant."""
    assert Filter(identities=(name for name in ("a", "b"))) == Filter(identities=("a", "b"))
    with pytest.raises(UserError, match="empty generator"):
        Filter(identities=(name for name in ()))


@pytest.mark.parametrize(
    "words",
    [
        {"cameras": "1"},
        {"cameras": (1,)},
        {"identities": []},
        {"keys": set()},
        {"modality": "thermal"},
        {"since": "yesterday"},
        {"until": float("nan")},
        {"columns": {"a": None}},
        {"columns": {"a": ()}},
        {"columns": {"a": ("1", None)}},
        {"keys": ("\udcff",)},
    ],
    ids=repr,
)
def test_filters_that_mean_nothing_are_refused(words):
    with pytest.raises(UserError):
        Filter(**words)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rain", ("rain",)),
        ("10", ("10", 10)),
        ("007", ("007", 7)),
        ("-1.5", ("-1.5", -1.5)),
        ("1795255200.0", ("1795255200.0", 1795255200)),
        ("True", ("True", True)),
        ("nan", ("nan",)),
        ("1e999", ("1e999",)),
        ("9" * 5000, ("9" * 5000,)),
        ("", ("",)),
    ],
)
def test_what_a_typed_text_may_mean_in_a_column(text, values):
    assert [(type(each) is bool, each) for each in readings(text)] == [
        (type(each) is bool, each) for each in values
    ]


def test_re_ranking_without_what_it_needs_is_refused_in_words(monkeypatch):
    gallery = make(None)
    gallery.add(*people(9))
    monkeypatch.delattr("crossreid.ops.rerank", raising=False)
    monkeypatch.setitem(sys.modules, "crossreid.ops.rerank", None)
    with pytest.raises(UserError, match="search without re-ranking"):
        gallery.search(np.ones(8), 3, rerank=True)


def test_a_gallery_refuses_the_vectors_of_another_model(place):
    gallery = make(place)
    with pytest.raises(UserError, match=r"toy with the fingerprint ffff.*eeee.*mean nothing"):
        gallery.require("e" * 64)
    gallery.require("f" * 64)
    gallery.add(*people(3))
    gallery.close()
    if place is None:
        return
    with pytest.raises(UserError, match="mean nothing"):
        Gallery.open(place, fingerprint="e" * 64)
    with pytest.raises(UserError, match="already"):
        make(place)
    with Gallery.open(place, fingerprint="f" * 64) as gallery:
        assert gallery.info().entries == 3


def test_read_only_galleries_are_searched_and_not_changed(place):
    if place is None:
        pytest.skip("nothing is left of a gallery in memory to be opened")
    entries, vectors = people(5)
    with make(place) as gallery:
        gallery.add(entries, vectors)
    with Gallery.open(place, read_only=True) as gallery:
        assert keys(gallery.search(vectors[2], 1)[0]) == ["key2"]
        for act in (
            lambda: gallery.add(entries, vectors),
            lambda: gallery.delete(Filter()),
            lambda: gallery.build_index(),
        ):
            with pytest.raises(UserError, match="reading only"):
                act()


def test_visible_finds_infrared_and_the_reverse(place):
    random = np.random.default_rng(0)
    centres = random.standard_normal((10, 8)) * 4
    entries, vectors = [], []
    for person in range(10):
        for modality in ("visible", "infrared"):
            entries.append(Entry(f"{modality} {person}", modality=modality, identity=str(person)))
            vectors.append(centres[person] + random.standard_normal(8) * 0.2)
    with make(place) as gallery:
        gallery.add(entries, np.stack(vectors))
        for asked, wanted in (("visible", "infrared"), ("infrared", "visible")):
            queries = np.stack([gallery.vector(f"{asked} {person}") for person in range(10)])
            for rerank in (False, True):
                lists = gallery.search(queries, 4, Filter(modality=wanted), rerank=rerank)
                assert all(hit.entry.modality == wanted for hits in lists for hit in hits)
                assert [hits[0].entry.identity for hits in lists] == [str(person) for person in range(10)]


def test_approximate_search_is_asked_for_and_its_recall_is_measured(place):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 8)).repeat(20, axis=0) * 3 + random.standard_normal((800, 8))
    with make(place) as gallery:
        gallery.add([Entry(str(row), camera=str(row % 4), time=float(row)) for row in range(800)], vectors)
        with pytest.raises(UserError, match="build_index"):
            gallery.search(vectors[0], approximate=True)
        recall = gallery.build_index()
        info = gallery.info()
        assert 0.8 < recall <= 1 and info.recall == recall and 0.8 < info.recall_within <= 1
        shared = 0
        for filter in (Filter(), Filter(cameras=("2",))):
            exact, near = (gallery.search(vectors[::40], 10, filter, approximate=way) for way in (0, 1))
            assert all(len(hits) == 10 for hits in near)
            shared += sum(len({*keys(one)} & {*keys(other)}) for one, other in zip(exact, near))
        assert shared > 320
        # Exact search stays exact, also for rows that came after the index.
        gallery.add([Entry("late")], vectors[:1] * 2)
        assert {"0", "late"} == set(keys(gallery.search(vectors[0], 2)[0]))
        assert "late" in keys(gallery.search(vectors[0], 2, approximate=True)[0])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        (hits,) = gallery.search(unit[7], 30)
        order = np.argsort(-(unit @ unit[7]), kind="stable")
        assert [key for key in keys(hits) if key != "late"] == [str(row) for row in order[: len(hits)]][
            : len(hits) - ("late" in keys(hits))
        ]
        assert gallery.delete(Filter(cameras=("1",))) == 200
        assert len(gallery.search(vectors[1], 900)[0]) == 601


def test_reranking_orders_the_candidates_by_k_reciprocal_distance():
    from crossreid.ops import rerank

    entries, vectors = people(50)
    with make(None) as gallery:
        gallery.add(entries, vectors)
        unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        query = unit[7] + 0.3
        query /= np.linalg.norm(query)
        near = np.argsort(1 - unit @ query, kind="stable")
        distance = rerank.k_reciprocal(query[None].astype(np.float32), unit[near])[0].numpy()
        expected = [f"key{near[place]}" for place in np.argsort(distance, kind="stable")]
        plain, changed = (gallery.search(query, 50, rerank=way)[0] for way in (False, True))
        assert keys(changed) == expected != keys(plain)
        distances = {hit.entry.key: hit.distance for hit in plain}
        assert all(hit.distance == distances[hit.entry.key] for hit in changed)
        assert keys(gallery.search(query, 5, rerank=True)[0]) == expected[:5]


@pytest.mark.parametrize("left", [0, 2, 30])
def test_reranking_leaves_out_what_was_deleted_meanwhile(left, monkeypatch):
    entries, vectors = people(50)
    with make(None) as gallery:
        gallery.add(entries, vectors)
        vectors_of = gallery._store.vectors
        monkeypatch.setattr(
            gallery._store, "vectors", lambda wanted: dict(list(vectors_of(wanted).items())[:left])
        )
        assert len(gallery.search(vectors[0], 50, rerank=True)[0]) == left


def test_the_memory_store_needs_neither_torch_nor_a_database():
    code = (
        "import sys, numpy as np\nfrom crossreid import Gallery\nfrom crossreid.gallery import Entry\n"
        "g = Gallery.create(None, dimension=2, fingerprint='')\ng.add([Entry('a')], np.ones((1, 2)))\n"
        "assert g.search(np.ones(2))[0][0].entry.key == 'a'\n"
        "print([n for n in ('torch', 'lancedb', 'pymilvus', 'pyarrow', 'scipy') if n in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("place", "module", "extra"),
    [
        ("gallery", "lancedb", r"pip install .*(lancedb|\[search\])"),
        ("milvus:http://localhost:1", "pymilvus", r"pip install .*(pymilvus|\[milvus\])"),
        ("milvus:gallery.db", "milvus_lite", r"pymilvus\[milvus-lite\]"),
    ],
)
def test_what_is_not_installed_is_named(place, module, extra, tmp_path, monkeypatch):
    if module == "milvus_lite":
        pytest.importorskip("pymilvus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=extra):
        make(place)
    assert list(tmp_path.iterdir()) == []


def test_a_number_is_one_identity_however_it_is_written():
    gallery = Gallery.create(None, dimension=2, fingerprint="ab")
    entries = [
        Entry(f"key{at}", f"{at}.jpg", "visible", camera, None, identity)
        for at, (identity, camera) in enumerate((("0002", "1"), ("2", "01"), ("2.0", "1.0"), ("two", "a")))
    ]
    gallery.add(entries, np.eye(2, dtype=np.float32)[[0, 1, 0, 1]])
    for name in ("2", "002", "2.0"):
        assert gallery.count(Filter(identities=(name,))) == gallery.count(Filter(cameras=("01",))) == 3
    assert gallery.delete(Filter(identities=("0002",))) == 3 and gallery.info().entries == 1


def test_columns_change_and_vectors_stay(place):
    entries, vectors = people(30)
    with make(place) as gallery:
        gallery.add(entries, vectors, [b"small %d" % at for at in range(30)])
        key, other = entries[3].key, entries[4].key
        before = gallery.vector(key), gallery.get(key)
        changes = {"camera": "99", "mended": "rain", "time": None, "identity": "007"}
        assert gallery.update({key: changes, "not there": {"camera": "1"}}) == 1
        found = gallery.get(key)
        assert (found.camera, found.identity, found.time, found.columns["mended"]) == (
            "99",
            "7",
            None,
            "rain",
        )
        assert found.added == before[1].added and found.path == before[1].path
        assert np.array_equal(gallery.vector(key), before[0]) and gallery.image(key) == b"small 3"
        assert gallery.count() == 30 and gallery.get(other).camera == entries[4].camera
        assert [entry.key for entry in gallery.entries(Filter(cameras=("99",)))] == [key]
        assert gallery.count(Filter(columns={"mended": "rain"})) == 1
        for name, value in (("key", "another"), ("added", 5.0)):
            with pytest.raises(UserError, match=f"the {name} of an entry cannot be changed"):
                gallery.update({key: {name: value}})
        assert gallery.get(key) == found
        assert gallery.update({key: {"mended": None}}) == 1
        assert "mended" not in gallery.get(key).columns
        assert gallery.search(vectors[3:4], 1)[0][0].entry.camera == "99"
        gallery.remember("{camera}_{track}.jpg")
        assert gallery.pattern == gallery.info().pattern == "{camera}_{track}.jpg"
        with pytest.raises(UserError, match="lies ahead"):
            gallery.update({key: {"time": 1e12}})
    if place is not None:
        with Gallery.open(place, read_only=True) as gallery:
            assert gallery.get(key).camera == "99" and gallery.pattern
            with pytest.raises(UserError, match="reading only"):
                gallery.update({key: {"camera": "1"}})


@pytest.mark.parametrize(
    "where", ["gcs://bucket/shop", "S3://bucket/shop", "http://localhost:19530", "memory://shop"]
)
def test_an_address_of_another_kind_is_no_folder(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (make, Gallery.open):
        with pytest.raises(
            UserError, match="is no place for a gallery: expected a folder of this computer, a folder"
        ):
            call(where)
    assert not list(tmp_path.iterdir())


def test_a_gallery_that_two_make_at_once_is_one(place, monkeypatch):
    if place is None:
        pytest.skip("memory is of one process")
    about = {"dimension": 8, "fingerprint": "f" * 64, "model": "toy"}
    look, entries = Gallery.open, people()

    def late(where, **given):
        """Another process makes the gallery just after this one has seen that there is none."""
        monkeypatch.setattr(Gallery, "open", look)
        with make(where) as other:
            other.add(*entries)
        raise NoGallery("none")

    monkeypatch.setattr(Gallery, "open", late)
    gallery, new = opened(place, **about)
    with gallery:
        assert not new and gallery.count() == len(entries[0])
    with pytest.raises(UserError, match="holds vectors of the model"):
        opened(place, **about | {"fingerprint": "e" * 64})


def test_a_folder_in_which_another_process_makes_a_gallery_is_no_other_folder(tmp_path):
    pytest.importorskip("lancedb")
    (tmp_path / "gallery").mkdir()
    for name in ("lock", ".gallery.json.4711.part"):
        (tmp_path / "gallery" / name).touch()
    with make(tmp_path / "gallery") as gallery:
        assert gallery.count() == 0


def test_a_number_of_numpy_in_a_filter_is_told():
    with pytest.raises(UserError, match=r"column speed of a filter is np.int64.*of Python's own types"):
        Filter(columns={"speed": np.int64(4)})
    with pytest.raises(UserError, match="column speed of a filter has no value"):
        Filter(columns={"speed": ()})
