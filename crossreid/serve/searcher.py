"""One thread that turns images into ranked lists, with a bounded line before it."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from crossreid.gallery import Entry, Filter, Hit
from crossreid.gallery.store import NoAnswer
from crossreid.records import by_key
from crossreid.serve.refusal import Refusal, without_answer

BATCH = 16
# Seconds that a batch under way may still take when the server is stopped.
PATIENCE = 0.8


@dataclass(eq=False)
class Search:
    """One search: with the pixels of an image as the model takes them, or with an entry of the gallery.

    modality: of the image. filter, top: of the list. rerank: by k-reciprocal re-ranking. box: of the person in the
        image. preview: a small copy of the image, a JPEG. answer: becomes an Answer, or fails with a Refusal.
    """

    pixels: np.ndarray | None
    entry: Entry | None
    modality: str | None
    filter: Filter
    top: int
    rerank: bool = False
    box: tuple[int, int, int, int] | None = None
    preview: bytes | None = None
    answer: Future = field(default_factory=Future)


@dataclass(frozen=True)
class Answer:
    """hits: the ranked list. preview: the image as it was understood, a small JPEG; None for an entry."""

    hits: list[Hit]
    preview: bytes | None


class Searcher:
    """Searches one after another in a thread of its own, as many together as are waiting.

    waiting: how many requests may be in the line or be decoded for it; more are refused at once.
    """

    def __init__(self, gallery, embedder, *, waiting: int):
        self._gallery, self._embedder, self._waiting = gallery, embedder, waiting
        self._taken = 0
        self._line: queue.SimpleQueue[Search | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="crossreid-search", daemon=True)
        self._thread.start()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the line, to be taken once the image is received; for the event loop's thread only."""
        if self._taken >= self._waiting:
            raise Refusal(
                503, f"The server is busy: {self._taken} searches are waiting. Try again shortly.", 2
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def submit(self, search: Search) -> Future:
        self._line.put(search)
        return search.answer

    def close(self) -> None:
        """Refuse what still waits, and let the thread end; it is not waited for longer than ``PATIENCE``."""
        self._line.put(None)
        self._thread.join(PATIENCE)
        while True:
            try:
                search = self._line.get_nowait()
            except queue.Empty:
                return
            if search is not None:
                _fail(search, Refusal(503, "The server is being stopped.", 10))

    def _run(self) -> None:
        while True:
            line, stop = [self._line.get()], False
            while len(line) < BATCH and not self._line.empty():
                line.append(self._line.get())
            if None in line:
                stop, rest = True, line[line.index(None) + 1 :]
                line = line[: line.index(None)]
                for search in filter(None, rest):
                    _fail(search, Refusal(503, "The server is being stopped.", 10))
            searches = [search for search in line if search is not None]
            # Those whose client went away in the meantime are not worth the work.
            self._answer([each for each in searches if each.answer.set_running_or_notify_cancel()])
            if stop:
                return

    def _answer(self, searches: list[Search]) -> None:
        self._embed([each for each in searches if each.pixels is not None])
        self._rank([each for each in searches if each.entry is not None])

    def _embed(self, searches: list[Search]) -> None:
        if not searches:
            return
        try:
            modality = [each.modality for each in searches] if len(self._embedder.modalities) > 1 else None
            vectors = self._embedder([each.pixels for each in searches], modality=modality)
        except Exception as error:
            if len(searches) > 1:  # one image that upsets the model is not to fail its neighbours
                for search in searches:
                    self._embed([search])
            else:
                _fail(searches[0], error)
            return
        self._rank(searches, vectors)

    def _rank(self, searches: list[Search], vectors=None) -> None:
        """Search for all that share a filter and a length at once."""
        alike = by_key(
            (f"{search.top} {search.filter!r} {search.entry is None} {search.rerank}", place)
            for place, search in enumerate(searches)
        )
        for places in alike.values():
            try:
                self._rank_group([searches[place] for place in places], vectors, places)
            except Exception as error:
                for place in places:
                    _fail(searches[place], error)

    def _rank_group(self, searches: list[Search], vectors, places: list[int]) -> None:
        first = searches[0]
        if first.entry is None:
            lists = self._gallery.search(
                vectors[places], top=first.top, filter=first.filter, rerank=first.rerank
            )
            for search, hits in zip(searches, lists):
                search.answer.set_result(Answer(hits, search.preview))
            return
        found: list[tuple[Search, str, np.ndarray]] = []
        for search in searches:
            key = search.entry.key if search.entry is not None else ""
            vector = self._gallery.vector(key)
            if vector is None:
                _fail(search, Refusal(404, "That image is no longer in the gallery."))
            else:
                found.append((search, key, vector))
        if found:
            vectors = np.stack([vector for _, _, vector in found])
            lists = self._gallery.search(vectors, top=first.top + 1, filter=first.filter, rerank=first.rerank)
            for (search, key, _), hits in zip(found, lists):
                search.answer.set_result(Answer(_without(hits, key)[: first.top], None))


def _without(hits: list[Hit], key: str) -> list[Hit]:
    """The list without the entry that was searched with, ranks counted anew."""
    others = (hit for hit in hits if hit.entry.key != key)
    return [Hit(rank, hit.distance, hit.entry) for rank, hit in enumerate(others, 1)]


def _fail(search: Search, error: Exception) -> None:
    if isinstance(error, NoAnswer):
        error = without_answer(error)
    elif not isinstance(error, Refusal):
        traceback.print_exception(error)
        error = Refusal(500, "The search failed on the server; its own window says why.")
    if not search.answer.done():
        search.answer.set_exception(error)
