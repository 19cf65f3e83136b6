"""Galleries: how fast rows go in, how long a search takes, and what approximate search finds.

    python benchmarks/gallery.py [--stores memory lancedb] [--rows 10000 100000 1000000] [--folder FOLDER]

Vectors of 512 numbers: 20 images of each person around a random direction, at a cosine of about 0.7 to each other,
from 10 cameras; the filter is one camera and a half of the time. Queries are new images of people in the gallery, the
first 20 are asked for, and times are medians of single queries. The memory store shows what a plain matrix product
costs. Each store runs in a process of its own; memory is the largest resident set of that process, less what it held
before the first row.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="+", default=["memory", "lancedb"])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--folder", help="where galleries are made, and removed again (default: a temporary one)"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
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
