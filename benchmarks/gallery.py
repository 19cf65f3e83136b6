"""Galleries: how fast rows go in, how long a search takes, and what approximate search finds.

    python benchmarks/gallery.py [--stores memory lancedb] [--rows 10000 1000000] [--dimension 512] [--folder FOLDER]
    OMP_NUM_THREADS=1 python benchmarks/gallery.py --beside-faiss --rows 200000

20 images of each person around a random direction, at a cosine of about 0.7 to each other, from 10 cameras; the filter
is one camera and a half of the time. Queries are new images of people in the gallery, the first 50 are asked for, and
times are of the processor, with Milvus of the clock; those of searches are medians of single queries. The memory store
shows what a plain matrix product costs. Each store runs in a process of its own; memory is the largest resident set of
that process, and how much of it at most was no page of a file, which the system may take back.

With --beside-faiss a gallery in a folder is compared with faiss (``pip install faiss-cpu``) and NumPy in one process,
by processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.gallery import Entry, Filter, Gallery

TOP, BATCH, QUERIES = 50, 5000, 30
# What is printed: the head of each column, the name of the number, and how it is written.
COLUMNS = {
    "rows/s in": ("insert", ".0f"),
    "files merged, s": ("merging", ".0f"),
    "exact, ms": ("exact", ".1f"),
    "exact, filter, ms": ("filtered", ".1f"),
    "100 queries, s": ("hundred", ".1f"),
    "index built, s": ("building", ".0f"),
    "approximate, ms": ("approximate", ".1f"),
    "recall at 50": ("recall", ".3f"),
    "approximate, filter, ms": ("approximate filtered", ".1f"),
    "its recall": ("recall within", ".3f"),
    "memory, GiB": ("memory", ".2f"),
    "of which no file": ("own", ".2f"),
    "disk, GiB": ("disk", ".2f"),
}
FILTER = Filter(cameras=("3",), since=0.0, until=0.5)


def images(dimension: int, start: int, stop: int, seed: int = 0) -> np.ndarray:
    """Vectors of rows start to stop; a person's 20 rows follow each other."""
    people = range(start // 20, (stop + 19) // 20)
    centres = np.stack(
        [np.random.default_rng(number).standard_normal(dimension, np.float32) for number in people]
    )
    noise = np.random.default_rng((seed, start)).standard_normal((stop - start, dimension), np.float32)
    return centres.repeat(20, axis=0)[: stop - start] + 0.65 * noise


def entries(start: int, stop: int) -> list[Entry]:
    return [
        Entry(
            f"{row:064x}",
            f"camera {row % 10}/{row:09d}.jpg",
            camera=str(row % 10),
            time=(row * 7919 % 10007) / 10007,
            identity=str(row // 20),
        )
        for row in range(start, stop)
    ]


def new_images(dimension: int, rows: int) -> np.ndarray:
    """Queries: of people of whom so many rows are in the gallery."""
    people = np.random.default_rng(1).integers(0, rows // 20, QUERIES)
    return np.concatenate([images(dimension, 20 * person, 20 * person + 1, 1) for person in people])


def peak() -> float:
    """Gibibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Own(threading.Thread):
    """The most memory of this process that is no page of a file."""

    def __init__(self):
        super().__init__(daemon=True)
        self.gibibytes = 0.0

    def run(self):
        while True:
            status = dict(
                line.split(":", 1)
                for line in Path("/proc/self/status").read_text().splitlines()
                if ":" in line
            )
            self.gibibytes = max(self.gibibytes, int(status["RssAnon"].split()[0]) / 2**20)
            time.sleep(0.05)


def recalled(exact: Sequence[Sequence], near: Sequence[Sequence]) -> float:
    """The share of the entries of lists that other lists hold too."""
    both = [[{hit.entry.key for hit in hits} for hits in lists] for lists in (exact, near)]
    return sum(len(one & other) for one, other in zip(*both)) / sum(map(len, both[0]))


def measure(store: str, sizes: list[int], dimension: int, folder: str) -> None:
    where = {"memory": None, "lancedb": f"{folder}/lancedb", "milvus": f"milvus:{folder}/gallery.db"}[store]
    clock = time.perf_counter if store == "milvus" else time.process_time

    def timed(function, *given, **settings):
        """The function's value, and seconds."""
        started = clock()
        return function(*given, **settings), clock() - started

    def searched(queries: np.ndarray, **settings) -> tuple[float, list]:
        """Milliseconds of one query, and all lists."""
        gallery.search(queries[0], TOP, **settings)
        found = [timed(gallery.search, query, TOP, **settings) for query in queries]
        return 1e3 * float(np.median([seconds for _, seconds in found])), [lists[0] for lists, _ in found]

    own = Own()
    own.start()
    gallery = Gallery.create(where, dimension=dimension, fingerprint="benchmark")
    rows = 0
    for size in sizes:
        adding = 0.0
        for start in range(rows, size, BATCH):
            stop = min(start + BATCH, size)
            batch, vectors = entries(start, stop), images(dimension, start, stop)
            adding += timed(gallery.add, batch, vectors)[1]
        line = {"rows": size, "insert": (size - rows) / adding}
        rows = size
        if where is not None:
            # As a program that indexes images ends: small files are merged.
            line["merging"] = timed(gallery.close)[1]
            gallery = Gallery.open(where)
        queries = new_images(dimension, rows)
        line["exact"], exact = searched(queries)
        line["filtered"], filtered = searched(queries, filter=FILTER)
        line["hundred"] = timed(gallery.search, np.repeat(queries, 4, axis=0)[:100], TOP)[1]
        if store != "memory":
            line["building"] = timed(gallery.build_index)[1]
            line["approximate"], near = searched(queries, approximate=True)
            line["recall"] = recalled(exact, near)
            line["approximate filtered"], near = searched(queries, approximate=True, filter=FILTER)
            line["recall within"] = recalled(filtered, near)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            line["disk"] = sum(path.stat().st_size for path in files) / 2**30
        line["memory"], line["own"] = peak(), own.gibibytes
        print(json.dumps(line), flush=True)
    line, seconds = timed(gallery.delete, Filter(identities=("7",)))
    print(json.dumps({"deleted": line, "seconds": seconds}), flush=True)
    gallery.close()


def beside_faiss(rows: int, dimension: int, folder: str) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    parts = [images(dimension, start, min(start + BATCH, rows)) for start in range(0, rows, BATCH)]
    vectors = np.concatenate(parts)
    del parts
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = entries(0, rows)
    queries = new_images(dimension, rows)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    kept = np.array([row for row, entry in enumerate(known) if entry.camera == "3" and entry.time < 0.5])

    def used(function, *given, **settings) -> float:
        started = time.process_time()
        function(*given, **settings)
        return time.process_time() - started

    def single(search) -> float:
        """Milliseconds of processor time of one query."""
        search(queries[0])
        return 1e3 * float(np.median([used(search, query) for query in queries]))

    def show(name: str, value: float, other: float | None = None, words: str = "") -> None:
        ratio = "" if other is None else f"  ratio {value / other:.2f}"
        print(f"{name:<46} {value:10.1f}{ratio}{words}", flush=True)

    flat = faiss.IndexFlatIP(dimension)
    flat.add(vectors)
    few = vectors[kept]
    gallery = Gallery.create(f"{folder}/beside", dimension=dimension, fingerprint="benchmark")
    adding = sum(
        used(gallery.add, known[at : at + BATCH], vectors[at : at + BATCH]) for at in range(0, rows, BATCH)
    )
    show("rows added, a second", rows / adding)
    plain = single(lambda query: flat.search(query[None], TOP))
    show("faiss flat, ms", plain)
    show("NumPy, product and first 50, ms", single(lambda query: np.argpartition(vectors @ query, -TOP)))
    show("exact, ms", single(lambda query: gallery.search(query, TOP)), plain)
    scan = single(lambda query: np.argpartition(vectors[kept] @ query, -TOP))
    show(f"NumPy, {len(kept)} rows picked and multiplied, ms", scan)
    show("NumPy, a copy of these alone, ms", single(lambda query: np.argpartition(few @ query, -TOP)))
    show("exact, filter, ms", single(lambda query: gallery.search(query, TOP, FILTER)), scan)
    show("index built, s", used(gallery.build_index))
    info = gallery.info()
    print(f"recall at 20 when the index was built {info.recall:.3f}, within filters {info.recall_within:.3f}")
    truth = flat.search(queries, TOP)[1]
    keys = [{known[place].key for place in places} for places in truth]
    found = [gallery.search(query, TOP, approximate=True)[0] for query in queries]
    shared = np.mean([len({hit.entry.key for hit in hits} & key) / TOP for hits, key in zip(found, keys)])
    ours = single(lambda query: gallery.search(query, TOP, approximate=True))
    show("approximate, ms", ours, plain, f"  recall at 50 {shared:.3f}")
    # The last, since its k-means takes long.
    cells = round(4 * rows**0.5)
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, cells, faiss.METRIC_INNER_PRODUCT)
    show(
        "faiss IVF built, s",
        used(lambda: (inverted.train(vectors[:: max(1, rows // (40 * cells))]), inverted.add(vectors))),
    )
    for inverted.nprobe in (cells // 32, cells // 8):
        found = inverted.search(queries, TOP)[1]
        shared = np.mean([len({*one} & {*other}) / TOP for one, other in zip(truth, found)])
        theirs = single(lambda query: inverted.search(query[None], TOP))
        show(
            f"faiss IVF, {inverted.nprobe} of {cells} cells, ms",
            theirs,
            ours,
            f" to ours  recall at 50 {shared:.3f}",
        )
    print(f"memory {peak():.2f} GiB at most, faiss's and the vectors' among it")
    gallery.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="+", default=["memory", "lancedb"])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument(
        "--folder", help="where galleries are made, and removed again (default: a temporary one)"
    )
    parser.add_argument(
        "--beside-faiss", action="store_true", help="a gallery in a folder, faiss and NumPy in one process"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.beside_faiss:
        for rows in given.rows:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                beside_faiss(rows, given.dimension, folder)
        return
    if given.one:
        measure(given.one, given.rows, given.dimension, given.folder)
        return
    print("| store | rows |", " | ".join(COLUMNS), "|")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for store in given.stores:
        folder = tempfile.mkdtemp(prefix="gallery-benchmark-", dir=given.folder)
        rows = [str(size) for size in given.rows]
        words = [
            sys.executable,
            os.path.abspath(__file__),
            "--one",
            store,
            "--folder",
            folder,
            "--dimension",
            str(given.dimension),
            "--rows",
            *rows,
        ]
        try:
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
                for text in process.stdout:
                    show(store, json.loads(text))
            if process.returncode:
                sys.exit(f"{store} failed")
        finally:
            shutil.rmtree(folder)


def show(store: str, line: dict) -> None:
    if "deleted" in line:
        print(f"{store}: {line['deleted']} rows of one person deleted in {line['seconds']:.1f} s", flush=True)
        return
    cells = [f"{line[name]:{how}}" if name in line else "" for name, how in COLUMNS.values()]
    print(f"| {store} | {line['rows']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
