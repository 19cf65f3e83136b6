"""Rows in a bucket of an object store (``s3://bucket/folder``), kept by LanceDB: galleries that many machines share.

    entries    the table
    facts      the metadata, a table with one row; without it there is no gallery

There is no lock: LanceDB's commits are conditional writes, so that any number of processes may write. Two that add the
same keys at once are told so and one of them tries again, since ``key`` is marked as what tells rows apart; so are two
that change the metadata, each of whom says from what. Rows are searched in the table itself; a copy on every machine
would keep there what is deleted elsewhere.

Addresses and credentials come from the environment variables that the object store's own tools read
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from crossreid.gallery.entries import Entry, Filter
from crossreid.gallery.lance_rows import again, connector, expression, rows_table, schema
from crossreid.gallery.lance_table import TableStore, cells
from crossreid.gallery.sentences import in_sentences, speaking
from crossreid.gallery.store import Existing, Metadata, NoGallery, Row, metadata_from
from crossreid.records import UserError, counted

TABLE, FACTS = "entries", "facts"
# Every add is a file; more than these are merged, when adding and when closing.
MANY, SOME = 1000, 20
# How old files of earlier versions are when they are removed: others may still read what was merged, but not what was
# deleted.
MERGED, DELETED = timedelta(hours=1), timedelta(milliseconds=1)
# After so long, whoever built an index and noted no recall of it was killed before it looked for deletions.
ABANDONED = timedelta(days=1)
# How often a change is tried that others get in the way of.
TRIES = 10


class BucketStore(TableStore):
    """See ``Store``."""

    def __init__(self, place: str, database, facts, dimension: int):
        # Who made the metadata may have been killed before there was a table.
        super().__init__(place, database.create_table(TABLE, schema=_schema(dimension), exist_ok=True))
        self._facts, self._wrote = facts, False

    @classmethod
    def create(cls, place: str, metadata: Metadata) -> BucketStore:
        with speaking(place):
            database = connector()(place.rstrip("/"))
            try:
                facts = database.create_table(FACTS, _written(metadata))
            except ValueError as error:
                if "already exists" not in str(error):
                    raise
                raise Existing(f"{place} holds a gallery already: open it, or name another folder") from error
            return cls(place, database, facts, metadata.dimension)

    @classmethod
    def open(cls, place: str, read_only: bool) -> BucketStore:
        with speaking(place):
            database = connector()(place.rstrip("/"))
            try:
                facts = database.open_table(FACTS)
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                raise NoGallery(
                    f"there is no gallery in {place}: correct the bucket or the folder, or make one with "
                    "`crossreid index`"
                ) from error
            (row,) = facts.search().to_list()
            return cls(place, database, facts, metadata_from(row["metadata"], place).dimension)

    @property
    @in_sentences
    def metadata(self) -> Metadata:
        return metadata_from(self._stored_facts(), self.where)

    @in_sentences
    def insert(self, rows: Sequence[Row]) -> int:
        new = rows_table(rows)
        merge = self._table.merge_insert("key").when_not_matched_insert_all()
        inserted = self._tried(lambda: merge.execute(new).num_inserted_rows)
        self._merge_if(MANY)
        return inserted

    @in_sentences
    def update(self, entries: Sequence[Entry]) -> int:
        updated = self._tried(lambda: self._put(entries))
        if updated:
            self._settle()
        return updated

    @in_sentences
    def delete(self, filter: Filter) -> int:
        condition = expression(filter)
        count = self._tried(
            lambda: self._table.delete("true" if condition is None else condition).num_deleted_rows
        )
        # In this order, see ``index``; and also after a delete that found nothing: an earlier one may have been killed
        # on its way.
        self.note(None, None)
        self._drop_indices()
        self._settle()
        if self.metadata.recall is not None:  # of an index that was just dropped
            self.note(None, None)
        return count

    @in_sentences
    def index(self) -> None:
        from lancedb.index import IvfFlat

        for _ in range(TRIES):
            before = self._noted()
            # A quarter of the usual rows and a third of the usual rounds: cells need not be perfect, and the k-means is
            # what takes long.
            count = cells(self._table.count_rows())
            how = IvfFlat(distance_type="cosine", num_partitions=count, sample_rate=64, max_iterations=15)
            self._tried(partial(self._table.create_index, "vector", config=how))
            # Whoever deletes makes a note afterwards, and then drops what index there is. Without a new note any
            # deletion is still to drop this one; with one, it may hold copies of what is gone.
            if self._noted() == before:
                return
            self._drop_indices()
            self._settle()
        raise UserError(
            f"the index of the gallery {self.where} was not built: whenever it was finished, another process had "
            "deleted entries; build it when no one does"
        )

    def note(self, recall: float | None, within: float | None) -> None:
        self._change_metadata(recall=recall, recall_within=within)

    def remember(self, pattern: str) -> None:
        self._change_metadata(pattern=pattern)

    @in_sentences
    def close(self) -> None:
        if self._wrote:
            self._merge_if(SOME)
            self._drop_abandoned()

    @in_sentences
    def _change_metadata(self, **changes) -> None:
        """Change them from what they are, compared in the same commit: other processes change them too."""
        for _ in range(TRIES):
            old = self._stored_facts()
            new = json.dumps(asdict(replace(metadata_from(old, self.where), **changes)))
            same = "metadata = '{}'".format(old.replace("'", "''"))
            update = partial(self._facts.update, same, {"metadata": new})
            if self._tried(update).rows_updated:
                return
        raise UserError(
            f"the notes of the gallery {self.where} were not changed: other processes change them all the time; give "
            "the same command again"
        )

    def _stored_facts(self) -> str:
        (row,) = again(lambda: self._facts.search().to_list())
        return row["metadata"]

    def _noted(self) -> int:
        """A number that grows with every note."""
        self._facts.checkout_latest()
        return self._facts.version

    def _tried(self, write: Callable):
        """The function's value, which is called again where another process has committed in between."""
        self._wrote = True
        for _ in range(TRIES - 1):
            try:
                return again(write)
            except (RuntimeError, OSError, ValueError) as error:
                if not any(word in str(error).lower() for word in ("conflict", "concurrent writers")):
                    raise
        return again(write)

    def _drop_abandoned(self) -> None:
        """An index that may hold copies of what was deleted while it was built, as nobody looked."""
        late = datetime.now(UTC) - ABANDONED
        indices = self._table.list_indices() if self.metadata.recall is None else ()
        if any(index.created_at is not None and index.created_at < late for index in indices):
            self._drop_indices()
            self._settle()

    def _merge_if(self, many: int) -> None:
        if self._table.stats()["fragment_stats"]["num_fragments"] > many:
            self._table.optimize(cleanup_older_than=MERGED)

    def _settle(self) -> None:
        """Write all rows anew where some were deleted, so that no file holds those, and remove the files of before.
        Raises UserError where some are left."""
        for _ in range(TRIES):
            if self._versions()[-1]["metadata"]["total_deletion_files"] != "0":
                self._tried(lambda: self._table.update(values_sql={"modality": "modality"}).rows_updated)
            self._table.optimize(cleanup_older_than=DELETED)
            if not (left := len(self._versions()) - 1):
                return
        raise UserError(
            f"the entries are found by no search any more, but {counted(left, 'earlier version')} of the gallery "
            f"{self.where} that may hold them {'is' if left == 1 else 'are'} still there: another process writes at "
            "the same time, or its clock is ahead; delete again"
        )

    def _versions(self) -> list[dict]:
        self._table.checkout_latest()
        return self._table.list_versions()


def _written(metadata: Metadata):
    import pyarrow as pa

    return pa.table({"metadata": [json.dumps(asdict(metadata))]})


def _schema(dimension: int):
    """Of the table, whose key tells rows apart, also for two processes that add at once."""
    usual = schema(dimension)
    place = usual.get_field_index("key")
    return usual.set(place, usual.field(place).with_metadata({"lance-schema:unenforced-primary-key": "true"}))
