"""The thread that searches: batches, failures, cancelled searches, a full line."""

import threading

import pytest
from serving import Colours, gallery, person

from crossreid.gallery import Filter
from crossreid.images.decode import content_key
from crossreid.serve.refusal import Refusal
from crossreid.serve.searcher import BATCH, Search, Searcher


class Held(Colours):
    """Waits in its first call until it is let go, so that a line forms behind it. Fails on a black image."""

    def __init__(self):
        super().__init__()
        self.held, self.go = threading.Event(), threading.Event()

    def __call__(self, images, modality=None):
        self.held.set()
        assert self.go.wait(60)
        if any(image.max() == 0 for image in images):
            raise RuntimeError("black")
        return super().__call__(images, modality)


@pytest.fixture
def filled(tmp_path):
    return gallery(tmp_path, Colours())


@pytest.fixture
def held(filled):
    embedder = Held()
    searcher = Searcher(filled, embedder, waiting=1000)
    yield embedder, searcher
    embedder.go.set()
    searcher.close()


def wanted(number, shot=0, top=3, **filters):
    return Search(person(number, shot), None, None, Filter(**filters), top)


def people(answer):
    return [hit.entry.identity for hit in answer.result(60).hits]


def line_up(held, searches):
    """Submit all while the thread is held by a first search, then let it go."""
    embedder, searcher = held
    first = searcher.submit(wanted(0))
    assert embedder.held.wait(60)
    answers = [searcher.submit(search) for search in searches]
    return first, answers


def test_what_waits_is_answered_together_and_each_gets_its_own(held, filled):
    searches = [wanted(number % 8, number % 3, top=1 + number % 4) for number in range(30)]
    first, answers = line_up(held, searches)
    held[0].go.set()
    assert people(first) == ["p0"] * 3
    for number, answer in enumerate(answers):
        alone = filled.search(Colours()([person(number % 8, number % 3)]), top=1 + number % 4)[0]
        assert [hit.entry.key for hit in answer.result(60).hits] == [hit.entry.key for hit in alone]
    assert held[0].batches == [1, BATCH, 14]


def test_filters_of_neighbours_do_not_mix(held):
    cameras = ["1", "2", "north gate"]
    searches = [wanted(1, top=24, cameras=(cameras[number % 3],)) for number in range(9)]
    _, answers = line_up(held, searches)
    held[0].go.set()
    for number, answer in enumerate(answers):
        assert {hit.entry.camera for hit in answer.result(60).hits} == {cameras[number % 3]}


def test_a_bad_image_fails_alone(held, capsys):
    searches = [wanted(1), wanted(2), Search(person(0) * 0, None, None, Filter(), 3)]
    _, (one, two, dark) = line_up(held, searches)
    held[0].go.set()
    assert people(one) == ["p1"] * 3 and people(two) == ["p2"] * 3
    with pytest.raises(Refusal) as refusal:
        dark.result(60)
    assert refusal.value.status == 500 and "black" not in refusal.value.text
    assert "RuntimeError: black" in capsys.readouterr().err


def test_entries_and_images_in_one_batch(held, filled):
    entry = filled.get(content_key(person(4)))
    gone = Search(None, type(entry)(key="gone"), None, Filter(), 2)
    _, (one, two, missing) = line_up(held, [Search(None, entry, None, Filter(), 2), wanted(4), gone])
    held[0].go.set()
    assert people(one) == ["p4", "p4"] and people(two) == ["p4"] * 3
    assert entry.key not in {hit.entry.key for hit in one.result().hits}
    with pytest.raises(Refusal) as refusal:
        missing.result(60)
    assert refusal.value.status == 404


def test_a_cancelled_search_is_not_embedded(held):
    _, answers = line_up(held, [wanted(1) for _ in range(5)])
    assert all(answer.cancel() for answer in answers[1:])
    held[0].go.set()
    assert people(answers[0]) == ["p1"] * 3
    assert held[0].batches == [1, 1]


def test_closing_refuses_what_waits(filled):
    embedder = Held()
    searcher = Searcher(filled, embedder, waiting=100)
    first, answers = line_up((embedder, searcher), [wanted(1) for _ in range(40)])
    searcher._line.put(None)  # the stop, as close() sends it
    late = searcher.submit(wanted(2))
    embedder.go.set()
    searcher.close()
    assert people(first) == ["p0"] * 3
    for answer in answers:  # were before the stop
        assert people(answer) == ["p1"] * 3
    with pytest.raises(Refusal) as refusal:
        late.result(60)
    assert refusal.value.status == 503 and refusal.value.retry


def test_a_full_line_is_said_at_once(filled):
    searcher = Searcher(filled, Colours(), waiting=2)
    with searcher.place(), searcher.place():
        with pytest.raises(Refusal) as refusal, searcher.place():
            pass
        assert refusal.value.status == 503 and int(refusal.value.headers["Retry-After"]) > 0
    with searcher.place():
        pass
    searcher.close()
