"""Rows on a Milvus server, for galleries that many machines share; or in a file, by the engine Milvus Lite.

A place is an address (``http://localhost:19530``) or the name of a file that ends in ``.db``, and perhaps ``#`` and the
name of a collection (``crossreid``). The environment variable ``CROSSREID_MILVUS_TOKEN`` holds a server's token.

Whatever text a filter compares is kept as a digest, and conditions are made of digests, numbers and the two modalities:
no value of a filter is ever part of an expression. The metadata are the one row of a second collection.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from crossreid.gallery.comparing import FEW, compare, probes
from crossreid.gallery.entries import Entry, Filter, age, tags
from crossreid.gallery.nearest import Nearest
from crossreid.gallery.store import (
    Existing,
    Metadata,
    NoAnswer,
    NoGallery,
    Row,
    Summary,
    metadata_from,
    summarised,
)
from crossreid.records import UserError, pip_install

COLLECTION, FACTS = "crossreid", "_facts"
# Milvus keeps text of up to 65535 bytes, a vector for every row, and answers with at most 16384 rows.
TEXT, PAGE, BATCH, TAGS = 65535, 10000, 500, 1024
# Comparisons with a moment before any other are false, as they are with a time that is not known.
UNKNOWN = -1e300
# Seconds that the client goes on asking a server that does not answer, and the calls that no server takes longer for;
# left to itself the client would ask for some minutes.
PATIENCE = 30
QUICK = {"delete", "describe_index", "has_collection", "query", "query_iterator", "search", "upsert"}
# How many galleries of this process lie in a file, whose engine they share.
_OPEN: Counter[str] = Counter()


class MilvusStore:
    """See ``Store``."""

    name = "milvus"

    def __init__(self, place: str, client, collection: str):
        self.where, self._client, self._collection = f"milvus:{place}", client, collection
        self._file = place.partition("#")[0]
        _OPEN[self._file] += 1

    @classmethod
    def create(cls, place: str, metadata: Metadata) -> MilvusStore:
        store = cls(place, *_connect(place))
        try:
            if store._stored_facts() is not None:
                raise Existing(
                    f"{store.where} holds a gallery already: open it, or name another collection behind a '#'"
                )
            store._create(metadata)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, place: str, read_only: bool) -> MilvusStore:
        file = place.partition("#")[0]
        if file.endswith(".db") and not Path(file).exists():
            raise NoGallery(
                f"there is no gallery in {file}: correct the name, or make one with `crossreid index`"
            )
        store = cls(place, *_connect(place))
        try:
            if store._stored_facts() is None:
                raise NoGallery(
                    f"there is no gallery in {store.where}: correct the address or the collection, or make one with "
                    "`crossreid index`"
                )
            store.metadata  # noqa: B018  raises for a newer format
            store._client.load_collection(store._collection)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def metadata(self) -> Metadata:
        return metadata_from(self._stored_facts() or "", self.where)

    def insert(self, rows: Sequence[Row]) -> int:
        inserted = 0
        for start in range(0, len(rows), BATCH):
            values = {_digest(row.entry.key): row for row in rows[start : start + BATCH]}
            known = {row["id"] for row in self._named(values, ["id"])}
            new = [_values(name, row) for name, row in values.items() if name not in known]
            if new:
                # Not insert, which would keep a second row where another process has just written the same key.
                self._client.upsert(self._collection, new)
            inserted += len(new)
        return inserted

    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        index = self._client.describe_index(self._collection, "vector")
        cells = int(index.get("nlist", 1)) if index["index_type"] != "FLAT" else 0
        if cells:
            kept = self.count(filter)
            if kept <= FEW:
                return self._nearest_of_rows(vectors, top, filter)
            looked_at = cells
            if approximate:
                looked_at = probes(cells, self.count(Filter()) if filter else kept, kept)
        found = self._client.search(
            self._collection,
            data=vectors.tolist(),
            limit=min(top, 16384),
            filter=_condition(filter),
            output_fields=["entry"],
            search_params={"metric_type": "COSINE", "params": {"nprobe": looked_at} if cells else {}},
            consistency_level="Strong",
        )
        lists = [[(1 - hit["distance"], _entry(hit["entity"]["entry"])) for hit in hits] for hits in found]
        if cells and any(len(hits) < min(top, 16384, kept) for hits in lists):
            # What a server has not sealed yet it searches through an index of its own, which may leave rows out.
            return self._nearest_of_rows(vectors, top, filter)
        return lists

    def _nearest_of_rows(
        self, vectors: np.ndarray, top: int, filter: Filter
    ) -> list[list[tuple[float, Entry]]]:
        """The same by comparing all rows within the filter here, which no index can leave out."""
        nearest, rows = Nearest(len(vectors), top), self._rows(_condition(filter), ["id", "vector"])
        names: list[str] = []
        while part := list(itertools.islice(rows, PAGE)):
            matrix = np.array([row["vector"] for row in part], np.float32)
            compare(nearest, matrix, None, vectors, len(names))
            names += [row["id"] for row in part]
        lists = nearest.lists()
        wanted = {names[place] for hits in lists for _, place in hits}
        entries = {row["id"]: _entry(row["entry"]) for row in self._named(wanted, ["id", "entry"])}
        # A row that another process has removed in between is no answer any more.
        return [
            [(distance, entries[names[place]]) for distance, place in hits if names[place] in entries]
            for hits in lists
        ]

    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        rows = self._rows(_condition(filter), ["entry"])
        return [_entry(row["entry"]) for row in itertools.islice(rows, start, start + count)]

    def count(self, filter: Filter) -> int:
        (row,) = self._asked(self._collection, _condition(filter), ["count(*)"])
        return row["count(*)"]

    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        named = {_digest(key): key for key in keys}
        rows = self._named(named, ["id", "vector"])
        return {named[row["id"]]: np.asarray(row["vector"], np.float32) for row in rows}

    def image(self, key: str) -> bytes | None:
        text = "".join(row["image"] for row in self._named([_digest(key)], ["image"]))
        return base64.b64decode(text) if text else None

    def update(self, entries: Sequence[Entry]) -> int:
        updated = 0
        for start in range(0, len(entries), BATCH):
            new = {_digest(entry.key): entry for entry in entries[start : start + BATCH]}
            rows = [
                {
                    **_values(row["id"], Row(new[row["id"]], np.asarray(row["vector"], np.float32))),
                    "image": row["image"],
                }
                for row in self._named(new, ["id", "vector", "image"])
            ]
            if rows:
                self._client.upsert(self._collection, rows)
            updated += len(rows)
        return updated

    def delete(self, filter: Filter) -> int:
        count = self.count(filter)
        if count:
            self._client.delete(self._collection, filter=_condition(filter))
        self._client.flush(self._collection)
        self._client.compact(self._collection)
        return count

    def summary(self) -> Summary:
        return summarised(_entry(row["entry"]) for row in self._rows(_condition(Filter()), ["entry"]))

    def index(self) -> None:
        cells = max(1, round(math.sqrt(self.count(Filter()))))
        self._client.flush(self._collection)
        self._client.release_collection(self._collection)
        self._client.drop_index(self._collection, "vector")
        self._client.create_index(self._collection, self._index("IVF_FLAT", {"nlist": cells}))
        self._client.load_collection(self._collection)

    def note(self, recall: float | None, within: float | None) -> None:
        self._write_metadata(replace(self.metadata, recall=recall, recall_within=within))

    def remember(self, pattern: str) -> None:
        self._write_metadata(replace(self.metadata, pattern=pattern))

    def close(self) -> None:
        self._client.close()
        if self._file.endswith(".db"):
            _OPEN[self._file] -= 1
            if not _OPEN[self._file]:
                # Else this process would keep the file from others until it ends.
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self._file)

    def _create(self, metadata: Metadata) -> None:
        from pymilvus import DataType

        for name in (self._collection, self._collection + FACTS):
            # Without the metadata this can only be what a process that was killed here had begun.
            if self._client.has_collection(name):
                self._client.drop_collection(name)
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        for name in ("camera", "identity", "modality"):
            schema.add_field(name, DataType.VARCHAR, max_length=64)
        for name in ("time", "age"):
            schema.add_field(name, DataType.DOUBLE)
        schema.add_field(
            "tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=TAGS, max_length=64
        )
        for name in ("entry", "image"):
            schema.add_field(name, DataType.VARCHAR, max_length=TEXT)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=metadata.dimension)
        index = self._index("FLAT", {})
        self._client.create_collection(
            self._collection, schema=schema, index_params=index, consistency_level="Strong"
        )
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("metadata", DataType.VARCHAR, max_length=TEXT)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        name = self._collection + FACTS
        self._client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
        self._write_metadata(metadata)

    def _index(self, kind: str, parameters: dict):
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="COSINE", params=parameters)
        return index

    def _write_metadata(self, metadata: Metadata) -> None:
        row = {"id": "metadata", "metadata": json.dumps(asdict(metadata)), "vector": [1.0, 0.0]}
        self._client.upsert(self._collection + FACTS, [row])

    def _stored_facts(self) -> str | None:
        name = self._collection + FACTS
        if not self._client.has_collection(name):
            return None
        self._client.load_collection(name)
        rows = self._asked(name, 'id == "metadata"', ["metadata"])
        return rows[0]["metadata"] if rows else None

    def _asked(self, collection: str, condition: str, fields: Sequence[str]) -> list[dict]:
        return self._client.query(
            collection, filter=condition, output_fields=list(fields), consistency_level="Strong"
        )

    def _named(self, names: Iterable[str], fields: Sequence[str]) -> Iterator[dict]:
        """The rows of these digests that are there."""
        names = list(names)
        for start in range(0, len(names), BATCH):
            condition = f"id in {json.dumps(names[start : start + BATCH])}"
            yield from self._asked(self._collection, condition, fields)

    def _rows(self, condition: str, fields: Sequence[str]) -> Iterator[dict]:
        """All rows within a condition, page by page."""
        pages = self._client.query_iterator(
            self._collection,
            batch_size=PAGE,
            filter=condition,
            output_fields=list(fields),
            consistency_level="Strong",
        )

        def following():
            with _answering(self._file):
                return pages.next()

        try:
            while page := following():
                yield from page
        finally:
            pages.close()


class _Client:
    """Milvus's client, whose errors are those of a gallery."""

    def __init__(self, client, address: str):
        self._client, self._address = client, address

    def __getattr__(self, name: str):
        method = getattr(self._client, name)

        @functools.wraps(method)
        def asked(*given, **settings):
            if name in QUICK:
                settings["timeout"] = PATIENCE
            with _answering(self._address):
                return method(*given, **settings)

        return asked


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """What the client raises, as NoAnswer: that of a server which has died, starts or lacks what it had."""
    import grpc
    from pymilvus import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        raise NoAnswer(
            f"Milvus at {address} does not answer, or not as expected ({_reason(error)}): see that it runs and has "
            "finished starting, and do the same again; what it had taken before is kept"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _client(address: str, tries: int):
    """Asked again where the embedded engine has closed an idle connection: the client gives out that one once more."""
    from pymilvus import MilvusClient, MilvusException

    for left in reversed(range(tries)):
        try:
            return MilvusClient(address, token=os.environ.get("CROSSREID_MILVUS_TOKEN", ""), timeout=10)
        except MilvusException:
            if not left:
                raise


def _connect(place: str):
    """(client, name of the collection)."""
    address, _, collection = place.partition("#")
    try:
        import pymilvus  # noqa: F401

        # It logs, over pages, what it then raises.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    except ImportError as error:
        raise UserError(
            f"a gallery in Milvus needs its client, which is not installed: {pip_install('milvus')}"
        ) from error
    file = address.endswith(".db")
    try:
        if file:
            import milvus_lite  # noqa: F401

            Path(address).absolute().parent.mkdir(parents=True, exist_ok=True)
        client = _client(address, tries=3 if file else 1)
    except ImportError as error:
        raise UserError(
            "a Milvus gallery in a file needs Milvus Lite, which is not installed: pip install "
            "'pymilvus[milvus-lite]', give the address of a server, or keep the gallery in a folder"
        ) from error
    except Exception as error:
        mend = (
            "another process may have it open: one at a time can"
            if file
            else "start the server, or correct the address"
        )
        raise NoAnswer(f"Milvus does not answer at {address} ({_reason(error)}): {mend}") from error
    return _Client(client, address), collection or COLLECTION


def _values(name: str, row: Row) -> dict:
    entry = row.entry
    values = {
        "id": name,
        "camera": _digest(entry.camera),
        "identity": _digest(entry.identity),
        "modality": entry.modality,
        "time": UNKNOWN if entry.time is None else float(entry.time),
        "age": age(entry),
        "tags": sorted(map(_digest, tags(entry))),
        "entry": json.dumps({field: getattr(entry, field) for field in Entry.__slots__}, ensure_ascii=False),
        "image": base64.b64encode(row.image or b"").decode(),
        "vector": row.vector.tolist(),
    }
    for what in ("entry", "image"):
        length = len(values[what].encode("utf-8"))
        if length > TEXT or len(values["tags"]) > TAGS:
            raise UserError(
                f"the {what} of {entry.path or entry.key!r} takes {length} bytes and it has "
                f"{len(values['tags'])} columns: Milvus keeps at most {TEXT} bytes and {TAGS} columns; make "
                "it smaller, or keep the gallery in a folder"
            )
    return values


def _entry(text: str) -> Entry:
    return Entry(**json.loads(text))


def _digest(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode("utf-8")).hexdigest()


def _condition(filter: Filter) -> str:
    parts = ['id != ""']
    for name, wanted in (("id", filter.keys), ("camera", filter.cameras), ("identity", filter.identities)):
        if wanted:
            parts.append(f"{name} in {json.dumps([_digest(text) for text in wanted])}")
    if filter.modality is not None:
        parts.append(f'modality == "{filter.modality}"')
    if filter.since is not None:
        parts.append(f"time >= {float(filter.since)!r}")
    if filter.until is not None:
        parts.append(f"time < {float(filter.until)!r} and time > {UNKNOWN / 2!r}")
    if filter.expired is not None:
        parts.append(f"age < {float(filter.expired)!r}")
    for any_of in filter.marks():
        parts.append("(" + " or ".join(f'array_contains(tags, "{_digest(tag)}")' for tag in any_of) + ")")
    return " and ".join(parts)
