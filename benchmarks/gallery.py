"""Galleries: how fast rows go in, how long a search takes, and what approximate search finds.

    python benchmarks/gallery.py [--stores memory lancedb] [--rows 10000 100000 1000000] [--folder FOLDER]
    OMP_NUM_THREADS=1 python benchmarks/gallery.py --beside-faiss --rows 200000

Vectors of 512 numbers: 20 images of each person around a random direction, at a cosine of about 0.7 to each other,
from 10 cameras; the filter is one camera and a half of the time. Queries are new images of people in the gallery, the
first 20 are asked for, and times are medians of single queries. The memory store shows what a plain matrix product
costs. Each store runs in a process of its own; memory is the largest resident set of that process, less what it held
before the first row.

With --beside-faiss a gallery in a folder is compared with faiss (``pip install faiss-cpu``) and NumPy in one process,
by processor time and for the first 50.
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
import time
from pathlib import Path

import numpy as np

from crossreid.gallery import Entry, Filter, Gallery

DIMENSION, TOP, BATCH, QUERIES = 512, 20, 5000, 30
FILTER = Filter(cameras=("3",), since=0.0, until=0.5)


def images(start: int, stop: int, seed: int = 0) -> np.ndarray:
    """Vectors of rows start to stop; a person's 20 rows follow each other."""
    people = range(start // 20, (stop + 19) // 20)
    centres = np.stack(
        [np.random.default_rng(number).standard_normal(DIMENSION, np.float32) for number in people]
    )
    noise = np.random.default_rng((seed, start)).standard_normal((stop - start, DIMENSION), np.float32)
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


def peak() -> float:
    """Gibibytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(function, *given, **settings):
    """The function's value, and seconds."""
    started = time.perf_counter()
    return function(*given, **settings), time.perf_counter() - started


def median(gallery: Gallery, queries: np.ndarray, **settings) -> float:
    """Milliseconds of one query."""
    gallery.search(queries[0], TOP, **settings)
    return 1e3 * float(np.median([timed(gallery.search, query, TOP, **settings)[1] for query in queries]))


def measure(store: str, sizes: list[int], folder: str) -> None:
    where = {"memory": None, "lancedb": f"{folder}/lancedb", "milvus": f"milvus:{folder}/gallery.db"}[store]
    gallery = Gallery.create(where, dimension=DIMENSION, fingerprint="benchmark")
    base, rows = peak(), 0
    for size in sizes:
        adding = 0.0
        for start in range(rows, size, BATCH):
            stop = min(start + BATCH, size)
            batch, vectors = entries(start, stop), images(start, stop)
            adding += timed(gallery.add, batch, vectors)[1]
        rate, rows = (size - rows) / adding, size
        if where is not None:
            # As a program that indexes images ends: small files are merged.
            gallery.close()
            gallery = Gallery.open(where)
        people = np.random.default_rng(1).integers(0, rows // 20, QUERIES)
        queries = np.concatenate([images(20 * person, 20 * person + 1, 1) for person in people])
        line = {
            "rows": rows,
            "insert": rate,
            "exact": median(gallery, queries),
            "filtered": median(gallery, queries, filter=FILTER),
            "hundred": timed(gallery.search, np.repeat(queries, 4, axis=0)[:100], TOP)[1],
        }
        if store != "memory":
            line["recall"], line["building"] = timed(gallery.build_index)
            line["approximate"] = median(gallery, queries, approximate=True)
            line["approximate filtered"] = median(gallery, queries, approximate=True, filter=FILTER)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            line["disk"] = sum(path.stat().st_size for path in files) / 2**30
        line["memory"] = peak() - base
        print(json.dumps(line), flush=True)
    line, seconds = timed(gallery.delete, Filter(identities=("7",)))
    print(json.dumps({"deleted": line, "seconds": seconds}), flush=True)
    gallery.close()


def beside_faiss(rows: int, folder: str) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.concatenate([images(start, min(start + BATCH, rows)) for start in range(0, rows, BATCH)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = entries(0, rows)
    people = np.random.default_rng(1).integers(0, rows // 20, QUERIES)
    queries = np.concatenate([images(20 * person, 20 * person + 1, 1) for person in people])
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

    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(vectors)
    few = vectors[kept]
    gallery = Gallery.create(f"{folder}/beside", dimension=DIMENSION, fingerprint="benchmark")
    adding = sum(
        used(gallery.add, known[at : at + BATCH], vectors[at : at + BATCH]) for at in range(0, rows, BATCH)
    )
    show("rows added, a second", rows / adding)
    theirs = single(lambda query: flat.search(query[None], 50))
    show("faiss flat, ms", theirs)
    show("NumPy, product and first 50, ms", single(lambda query: np.argpartition(vectors @ query, -50)))
    show("exact, ms", single(lambda query: gallery.search(query, 50)), theirs)
    scan = single(lambda query: np.argpartition(vectors[kept] @ query, -50))
    show(f"NumPy, {len(kept)} rows picked and multiplied, ms", scan)
    show("NumPy, a copy of these alone, ms", single(lambda query: np.argpartition(few @ query, -50)))
    show("exact, filter, ms", single(lambda query: gallery.search(query, 50, FILTER)), scan)
    cells = round(4 * rows**0.5)
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIMENSION), DIMENSION, cells, faiss.METRIC_INNER_PRODUCT)
    show(
        "faiss IVF built, s",
        used(lambda: (inverted.train(vectors[:: max(1, rows // (40 * cells))]), inverted.add(vectors))),
    )
    show("index built, s", used(gallery.build_index))
    truth = flat.search(queries, 50)[1]
    keys = [{known[place].key for place in places} for places in truth]
    for inverted.nprobe in (cells // 32, cells // 8):
        found = inverted.search(queries, 50)[1]
        shared = np.mean([len({*one} & {*other}) / 50 for one, other in zip(truth, found)])
        theirs = single(lambda query: inverted.search(query[None], 50))
        show(
            f"faiss IVF, {inverted.nprobe} of {cells} cells, ms", theirs, words=f"  recall at 50 {shared:.3f}"
        )
    found = [gallery.search(query, 50, approximate=True)[0] for query in queries]
    shared = np.mean([len({hit.entry.key for hit in hits} & key) / 50 for hits, key in zip(found, keys)])
    ours = single(lambda query: gallery.search(query, 50, approximate=True))
    show("approximate, ms", ours, theirs, f"  recall at 50 {shared:.3f}")
    info = gallery.info()
    print(f"recall at 20 when the index was built {info.recall:.3f}, within filters {info.recall_within:.3f}")
    print(f"memory {peak():.2f} GiB at most, faiss's and the vectors' among it")
    gallery.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="+", default=["memory", "lancedb"])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
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
                beside_faiss(rows, folder)
        return
    if given.one:
        measure(given.one, given.rows, given.folder)
        return
    print(
        "| store | rows | rows/s in | exact, ms | exact, filter, ms | 100 queries, s | index built, s | recall at 20 ",
        end="",
    )
    print("| approximate, ms | approximate, filter, ms | memory, GiB | disk, GiB |")
    print("|---" * 12 + "|")
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
    formats = {
        "insert": ".0f",
        "exact": ".1f",
        "filtered": ".1f",
        "hundred": ".1f",
        "building": ".0f",
        "recall": ".3f",
        "approximate": ".1f",
        "approximate filtered": ".1f",
        "memory": ".2f",
        "disk": ".2f",
    }
    cells = [f"{line[name]:{how}}" if name in line else "" for name, how in formats.items()]
    print(f"| {store} | {line['rows']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
