"""A searchable gallery: checks what comes in, and leaves the keeping to a store."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from crossreid.files import as_path, is_address
from crossreid.gallery.entries import Entry, Filter, Hit, Info, Value, checked
from crossreid.gallery.memory import MemoryStore
from crossreid.gallery.store import Metadata, Row, Store
from crossreid.records import UserError, counted

EVERYTHING = Filter()
# Of an entry, what can be changed beside its columns.
FIELDS = ("camera", "identity", "time", "modality", "path")
CANDIDATES = 200
# So many keys are asked for at once.
PAGE = 1000
# So many of its cameras are tried for what approximate search finds within a filter.
CAMERAS = 3
# How places in a bucket of an object store begin.
SCHEMES = ("s3://", "gs://", "az://")
DAY = 86400.0
STEP = 64


class Gallery:
    """Images of people by what a model says of them; ``Gallery.create`` and ``Gallery.open`` give one.

    Vectors of any length come in and are kept with unit length; distances are 1 - cosine. One gallery holds the
    vectors of one model: its fingerprint is kept, and ``open`` compares it. A gallery is a context manager.
    """

    def __init__(self, store: Store, read_only: bool = False):
        if isinstance(store, str | os.PathLike):
            raise UserError(
                f"Gallery({store!r}): a gallery is had by Gallery.open(place) or Gallery.create(place, ...)"
            )
        self._store, self._read_only = store, read_only
        # Which never changes: every search asks for it, and stores read their metadata anew.
        self._dimension = store.metadata.dimension

    @classmethod
    def create(
        cls, where: str | os.PathLike | None, *, dimension: int, fingerprint: str, model: str = ""
    ) -> Gallery:
        """A new, empty gallery.

        where: None for memory; a folder, which LanceDB fills; a folder of a bucket (``s3://bucket/folder``), which
            LanceDB fills too; or ``"milvus:"`` followed by the address of a server (``milvus:http://localhost:19530``)
            or a file (``milvus:gallery.db``), and perhaps by ``#`` and the name of a collection.
        dimension: length of the vectors. fingerprint: of the model that makes them. model: its name, for reading.
        """
        _check_whole("the length of the vectors of a gallery", dimension)
        for what, value in (("fingerprint", fingerprint), ("name", model)):
            if not isinstance(value, str):
                raise UserError(f"the {what} of a model is {value!r}: expected text, as an Embedder has it")
        metadata = Metadata(int(dimension), fingerprint, model)
        if where is None:
            return cls(MemoryStore(metadata))
        kind, place = _kind(where)
        return cls(kind.create(place, metadata))

    @classmethod
    def open(
        cls, where: str | os.PathLike, *, fingerprint: str | None = None, read_only: bool = False
    ) -> Gallery:
        """The gallery that was created there.

        fingerprint: of the model whose vectors will be used. Raises UserError when the gallery is of another.
        read_only: refuse to add and delete.
        """
        kind, place = _kind(where)
        gallery = cls(kind.open(place, read_only), read_only)
        try:
            if fingerprint is not None:
                gallery.require(fingerprint)
        except UserError:
            gallery.close()
            raise
        return gallery

    def __repr__(self) -> str:
        metadata = self._store.metadata
        where = repr(self._store.where) if self._store.where else "in memory"
        return f"Gallery({where}, vectors of {metadata.dimension} numbers by the model {metadata.model!r})"

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    @property
    def pattern(self) -> str:
        """By which names of images were read into it; empty where none was given."""
        return self._store.metadata.pattern

    def require(self, fingerprint: str) -> None:
        """Raise UserError unless this gallery holds vectors of the model with this fingerprint."""
        metadata = self._store.metadata
        if fingerprint != metadata.fingerprint:
            raise UserError(
                f"the gallery {self._store.where or 'in memory'} holds vectors of the model "
                f"{metadata.model or 'without a name'} with the fingerprint {metadata.fingerprint[:16]}, and the "
                f"model given has {str(fingerprint)[:16]}: distances between the vectors of two models mean nothing. "
                "Use the model the gallery was made with, or index the images again into a new gallery"
            )

    def add(
        self,
        entries: Sequence[Entry],
        vectors: np.ndarray,
        images: Sequence[bytes | None] | None = None,
    ) -> int:
        """Add entries with their vectors (N, D), and perhaps a small encoded image of each.

        An entry whose key is there already is left as it is. Returns the number of new rows, and returns only when
        they would survive the end of this process by any means.
        """
        self._writable()
        for entry in _listed(entries):
            if not isinstance(entry, Entry):
                raise UserError(
                    f"an entry was given as {type(entry).__name__}: expected crossreid.gallery.Entry"
                )
        vectors = self._checked(vectors, [entry.path or entry.key for entry in entries])
        if len(entries) != len(vectors) or (images is not None and len(images) != len(entries)):
            raise UserError(
                f"{counted(len(entries), 'entry')} came with {counted(len(vectors), 'vector')}"
                + (f" and {counted(len(images), 'image')}" if images is not None else "")
                + ": expected one for each"
            )
        for image in images or ():
            if not isinstance(image, bytes | None):
                raise UserError(
                    f"a small image was given as {type(image).__name__}: expected the bytes of a JPEG or PNG, or None"
                )
        now = time.time()
        rows: dict[str, Row] = {}
        for entry, vector, image in zip(entries, vectors, images or [None] * len(entries)):
            rows.setdefault(entry.key, Row(checked(entry, now), vector, image))
        return self._store.insert(list(rows.values())) if rows else 0

    def search(
        self,
        vectors: np.ndarray,
        top: int = 20,
        filter: Filter = EVERYTHING,
        approximate: bool = False,
        rerank: bool = False,
    ) -> list[list[Hit]]:
        """The nearest entries to each of (Q, D) vectors, nearest first; fewer than ``top`` when fewer are there.

        filter: only entries within it count; the list is as long as if nothing else were there.
        approximate: look only at the cells of the index nearest to the query; see ``build_index``.
        rerank: order the first 200 (or ``top``, if more) by k-reciprocal re-ranking (Zhong et al. 2017) among
            themselves; the distances given stay 1 - cosine. Needs torch.
        """
        vectors = self._checked(vectors, None)
        _check_whole("the length of a ranked list", top)
        if approximate and self._store.metadata.recall is None:
            raise UserError(
                f"the gallery {self._store.where or 'in memory'} has no index for approximate search: build one with "
                "build_index() (crossreid gallery index), or search exactly"
            )
        if not len(vectors):
            return []
        length = max(top, CANDIDATES) if rerank else top
        found = self._store.nearest(vectors, length, _checked_filter(filter), approximate)
        lists = []
        for vector, pairs in zip(vectors, found):
            pairs = sorted(
                ((min(max(distance, 0.0), 2.0), entry) for distance, entry in pairs),
                key=lambda pair: (pair[0], pair[1].key),
            )
            if rerank:
                pairs = self._reranked(vector, pairs)
            lists.append([Hit(rank, *pair) for rank, pair in enumerate(pairs[:top], 1)])
        return lists

    def get(self, key: str) -> Entry | None:
        """The entry of that key."""
        return next(iter(self._store.select(Filter(keys=(key,)), 0, 1)), None)

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are in the gallery."""
        return {entry.key for entry in self._named(list(keys))}

    def vector(self, key: str) -> np.ndarray | None:
        """The unit vector (D,) float32 of that key."""
        return self._store.vectors([key]).get(key)

    def vectors(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The unit vectors (D,) float32 of those keys that are there."""
        return self._store.vectors(list(keys))

    def image(self, key: str) -> bytes | None:
        """The small image that was added with that key."""
        return self._store.image(key)

    def entries(self, filter: Filter = EVERYTHING, start: int = 0, count: int = 100) -> list[Entry]:
        """A page of entries, in an order that is the same while nothing is written."""
        if start < 0 or count < 0:
            raise UserError(f"a page starts at {start} and has {count} entries: expected numbers from 0")
        return self._store.select(_checked_filter(filter), start, count) if count else []

    def count(self, filter: Filter = EVERYTHING) -> int:
        """How many entries are within the filter."""
        return self._store.count(_checked_filter(filter))

    def update(self, changes: Mapping[str, Mapping[str, Value | None]]) -> int:
        """Change what is said of entries; their vectors and images stay. Returns how many of them were there.

        changes: by key, fields of an entry (``camera``, ``identity``, ``time``, ``modality``, ``path``) and columns by
            their names; None takes away a column, or what a field says.
        """
        self._writable()
        found = self._named(list(changes))
        new = [checked(_changed(entry, changes[entry.key]), entry.added) for entry in found]
        return self._store.update(new) if new else 0

    def remember(self, pattern: str) -> None:
        """Keep by which pattern names of images are read here, for the next time."""
        self._writable()
        self._store.remember(pattern)

    def delete(self, filter: Filter) -> int:
        """Remove the entries within the filter, their vectors and images, and return how many there were. A filter
        without conditions removes all. When this returns, nothing of them is left in memory or in the gallery's folder;
        a Milvus server removes the bytes in its own time."""
        self._writable()
        return self._store.delete(_checked_filter(filter))

    def delete_older(self, days: float, now: float | None = None) -> int:
        """Remove what was taken (or, where that is not known, added) more than ``days`` days ago.

        now: seconds since 1970, None for this moment.
        """
        if not isinstance(days, Real) or not days >= 0:
            raise UserError(f"an age is {days!r}: expected a number of days from 0")
        return self.delete(Filter(expired=(time.time() if now is None else now) - days * DAY))

    def build_index(self, queries: int = 100, top: int = 20) -> float:
        """Build the index of approximate search and return its recall: the share of the true first ``top`` that it
        finds, for ``queries`` vectors drawn from the gallery and moved a little. Kept in ``Info.recall``, and what it
        finds within filters in ``Info.recall_within``."""
        self._writable()
        _check_whole("the number of queries", queries)
        _check_whole("the length of a ranked list", top)
        rows = self._store.count(EVERYTHING)
        if not rows:
            raise UserError("an empty gallery cannot be indexed: add entries first")
        self._store.index()
        random = np.random.default_rng(0)
        starts = random.integers(0, max(1, rows - 9), max(1, queries // 10))
        keys = {entry.key for start in starts for entry in self._store.select(EVERYTHING, int(start), 10)}
        # Of the entries that were counted another process may have deleted some, or all.
        if not (known := self._store.vectors(sorted(keys))):
            raise UserError(
                f"the gallery {self._store.where or 'in memory'} was emptied while its index was built: add entries "
                "first"
            )
        vectors = np.stack(list(known.values()))
        noise = random.standard_normal(vectors.shape).astype(np.float32)
        vectors, _ = _unit(vectors + noise * (0.3 / np.sqrt(vectors.shape[1])))
        recall = self._recall(vectors, top, EVERYTHING)
        # Fewer queries will do for each of several filters.
        within = [self._recall(vectors[::4], top, filter) for filter in self._conditions()]
        self._store.note(recall, min(within, default=None))
        return recall

    def _recall(self, vectors: np.ndarray, top: int, filter: Filter) -> float:
        """What approximate search finds of the true first ``top`` within a filter, all queries together."""
        truth, found = (
            [{entry.key for _, entry in pairs} for pairs in self._store.nearest(vectors, top, filter, way)]
            for way in (False, True)
        )
        # Entries may be deleted meanwhile.
        return sum(len(one & other) for one, other in zip(truth, found)) / max(1, sum(map(len, truth)))

    def _conditions(self) -> list[Filter]:
        """Filters that divide the entries, as searches have them: a few cameras, each modality, halves of the time."""
        summary = self._store.summary()
        filters = []
        if len(cameras := summary.cameras) > 1:
            filters += [Filter(cameras=(camera,)) for camera in cameras[:: math.ceil(len(cameras) / CAMERAS)]]
        if len(summary.modalities) > 1:
            filters += [Filter(modality=modality) for modality in summary.modalities]
        if summary.first is not None and summary.last is not None and summary.first < summary.last:
            middle = (summary.first + summary.last) / 2
            filters += [Filter(until=middle), Filter(since=middle)]
        return filters

    def info(self) -> Info:
        """What the gallery holds."""
        metadata = self._store.metadata
        return Info(
            dimension=metadata.dimension,
            fingerprint=metadata.fingerprint,
            model=metadata.model,
            store=self._store.name,
            where=self._store.where,
            recall=metadata.recall,
            recall_within=metadata.recall_within,
            pattern=metadata.pattern,
            **vars(self._store.summary()),
        )

    def close(self) -> None:
        """Let go of files and connections."""
        self._store.close()

    def _named(self, keys: Sequence[str]) -> Iterator[Entry]:
        """The entries of those keys that are there."""
        for start in range(0, len(keys), PAGE):
            yield from self._store.select(Filter(keys=tuple(keys[start : start + PAGE])), 0, PAGE)

    def _writable(self) -> None:
        if self._read_only:
            raise UserError(
                f"the gallery {self._store.where} was opened for reading only: open it without read_only to change it"
            )

    def _checked(self, vectors, names: Sequence[str] | None) -> np.ndarray:
        """(N, D) float32 of unit length."""
        try:
            vectors = np.asarray(vectors, np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"vectors were given as {type(vectors).__name__}: expected numbers (rows, D), as an Embedder makes them"
            ) from error
        if vectors.ndim == 1 and names is None:
            vectors = vectors[None]
        if not vectors.size:
            vectors = vectors.reshape(0, self._dimension)
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            metadata = self._store.metadata
            raise UserError(
                f"the vectors have the shape {vectors.shape}, and this gallery holds vectors of length "
                f"{self._dimension}: expected (rows, {self._dimension}), made by its own model "
                f"({metadata.model or 'fingerprint ' + metadata.fingerprint[:16]})"
            )
        unit, lengths = _unit(vectors)
        wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(wrong):
            place = int(wrong[0])
            name = f" ({names[place]})" if names is not None and place < len(names) else ""
            raise UserError(
                f"the vector of row {place}{name} is zero or not a finite number, so it has no direction: look at that "
                "image and at the model"
            )
        return unit

    def _reranked(self, vector: np.ndarray, pairs: list[tuple[float, Entry]]) -> list[tuple[float, Entry]]:
        try:
            from crossreid.ops import rerank
        except ModuleNotFoundError as error:
            raise UserError(
                f"re-ranking needs {error.name}, which is not installed here: install it, or search without re-ranking"
            ) from error

        known = self._store.vectors([entry.key for _, entry in pairs])
        pairs = [
            pair for pair in pairs if pair[1].key in known
        ]  # another process may have deleted some meanwhile
        if len(pairs) < 3:
            return pairs
        candidates = np.stack([known[entry.key] for _, entry in pairs])
        distance = rerank.k_reciprocal(vector[None], candidates)[0].numpy()
        return [pairs[place] for place in np.argsort(distance, kind="stable")]


def _changed(entry: Entry, changes: Mapping[str, Value | None]) -> Entry:
    if fixed := {"key", "added"}.intersection(changes):
        raise UserError(
            f"the {min(fixed)} of an entry cannot be changed, since it is found by its key and ages from when it was "
            "added: delete the entry and add it again, or give a column another name"
        )
    fields: dict[str, Any] = {name: value for name, value in changes.items() if name in FIELDS}
    columns = {**entry.columns, **{name: value for name, value in changes.items() if name not in FIELDS}}
    return replace(
        entry, **fields, columns={name: value for name, value in columns.items() if value is not None}
    )


def _check_whole(what: str, value) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise UserError(f"{what} is {value!r}: expected a whole number from 1")


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) vectors with unit length, as float32, and the (N,) lengths that they had."""
    unit, lengths = np.empty(vectors.shape, np.float32), np.empty(len(vectors))
    with np.errstate(divide="ignore", invalid="ignore"):
        # As many at once as stay in the cache.
        for start in range(0, len(vectors), STEP):
            part = slice(start, start + STEP)
            precise = vectors[part].astype(np.float64)
            lengths[part] = np.sqrt(np.einsum("ij,ij->i", precise, precise))
            unit[part] = precise / lengths[part, None]
    return unit, lengths


def _listed(entries) -> Sequence:
    if isinstance(entries, Sequence) and not isinstance(entries, str):
        return entries
    raise UserError(
        f"entries were given as {type(entries).__name__}: expected a list of crossreid.gallery.Entry"
    )


def _checked_filter(filter: Filter) -> Filter:
    if isinstance(filter, Filter):
        return filter
    raise UserError(
        f"a filter was given as {type(filter).__name__}: expected crossreid.gallery.Filter, such as "
        "Filter(cameras=('1',))"
    )


def _kind(where: str | os.PathLike):
    """The store that keeps galleries at such a place, and the place as it wants it."""
    if isinstance(where, str) and where.startswith("milvus:"):
        from crossreid.gallery.milvus import MilvusStore

        return MilvusStore, where.removeprefix("milvus:")
    if isinstance(where, str) and where.startswith(SCHEMES):
        from crossreid.gallery.bucket import BucketStore

        return BucketStore, where
    if isinstance(where, str) and is_address(where):
        raise UserError(
            f"{where} is no place for a gallery: expected a folder of this computer, a folder of a bucket "
            f"({', '.join(SCHEMES)} in small letters), or milvus: and the address of a server or a file"
        )
    from crossreid.gallery.lance import LanceStore

    return LanceStore, as_path(where, "a gallery").expanduser()
