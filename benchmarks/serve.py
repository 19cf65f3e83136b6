"""The search page under load: one process answers on loopback, another sends searches at once.

    python benchmarks/serve.py [--model FILE] [--entries 10000] [--at-once 100] [--searches 1000] [--waiting 128]
        [--store lancedb]

Half of the searches send an image, half the key of an entry. Prints throughput, percentiles of the latency, and what
did not succeed: refused (503, which says when to try again), failed (any other answer), and lost (no answer at all).
Without a model a stand-in is used that averages the image, so that the server itself is measured.
"""

import argparse
import asyncio
import collections
import io
import json
import subprocess
import sys
import tempfile
import time

import numpy as np

FINGERPRINT = "0" * 64


class Average:
    """A model that does nearly nothing: the image, shrunk to 8 x 16 pixels."""

    modalities, name, fingerprint, dimension = ("visible",), "average", FINGERPRINT, 384

    def __call__(self, images, modality=None):
        from PIL import Image

        small = [np.asarray(Image.fromarray(image).resize((8, 16)), np.float32).ravel() for image in images]
        vectors = np.stack(small) - 127.3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def serve(model, entries, waiting, where):
    from crossreid.gallery import Entry, Gallery
    from crossreid.serve import create_app, server

    if model:
        import torch

        from crossreid.embedder import Embedder

        torch.set_num_threads(1)
        embedder = Embedder(model)
        modality = "visible" if len(embedder.modalities) > 1 else None
        dimension = embedder(np.zeros((128, 64, 3), np.uint8), modality=modality).shape[1]
    else:
        embedder = Average()
        dimension = embedder.dimension
    random = np.random.default_rng(0)
    gallery = Gallery.create(None, dimension=dimension, fingerprint=embedder.fingerprint, model=embedder.name)
    rows = [Entry(key=f"{row:064x}", camera=str(row % 8)) for row in range(entries)]
    gallery.add(rows, random.standard_normal((entries, dimension), dtype=np.float32))
    listener = server.listen("127.0.0.1", 0)
    app = create_app(gallery, embedder, waiting=waiting)
    server.run(app, listener, lambda address: print(address, flush=True))


async def load(address, at_once, searches, entries):
    import httpx

    bodies = images(16)
    outcomes, latencies = collections.Counter(), []
    numbers = iter(range(searches))

    async def visitor(client):
        for number in numbers:
            fields = {"query_modality": "visible", "top": "20"}
            files = {"image": ("p.jpg", bodies[number % len(bodies)])}
            if number % 2:
                fields, files = {"key": f"{number * 7919 % entries:064x}"}, {"camera": (None, "3")}
            started = time.perf_counter()
            try:
                answer = await client.post(f"{address}/api/search", data=fields, files=files)
            except httpx.HTTPError as error:
                outcomes[f"lost ({type(error).__name__})"] += 1
                continue
            if answer.status_code == 200 and len(answer.json()["hits"]) == 20:
                outcomes["answered"] += 1
                latencies.append(time.perf_counter() - started)
            elif answer.status_code == 503 and int(answer.headers["retry-after"]) > 0:
                outcomes["refused"] += 1
            else:
                outcomes[f"failed ({answer.status_code})"] += 1

    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:
        await client.get(f"{address}/api/info")
        started = time.perf_counter()
        await asyncio.gather(*(visitor(client) for _ in range(at_once)))
        seconds = time.perf_counter() - started
    return outcomes, latencies, seconds


def images(count):
    from PIL import Image

    random = np.random.default_rng(1)
    made = []
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((64, 128)).save(file, format="JPEG")
        made.append(file.getvalue())
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a checkpoint or an exported model")
    parser.add_argument("--entries", type=int, default=10000)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--waiting", type=int, default=128)
    parser.add_argument("--store", default="memory", choices=("memory", "lancedb"))
    parser.add_argument("--json", action="store_true", help="print the figures as JSON only")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        with tempfile.TemporaryDirectory() as folder:
            where = f"{folder}/gallery" if given.store == "lancedb" else None
            return serve(given.model, given.entries, given.waiting, where)
    command = [sys.executable, __file__, "--serve", *sys.argv[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            outcomes, latencies, seconds = asyncio.run(
                load(address, given.at_once, given.searches, given.entries)
            )
        finally:
            process.terminate()
    figures = {"seconds": round(seconds, 2), "answered a second": round(outcomes["answered"] / seconds, 1)}
    for share in (50, 95, 99, 100):
        figures[f"latency {share} % [ms]"] = round(
            1000 * float(np.percentile(latencies or [np.nan], share)), 1
        )
    figures |= dict(outcomes)
    if given.json:
        print(json.dumps(figures))
        return
    print(
        f"{given.searches} searches, {given.at_once} at once, {given.entries} entries, line of {given.waiting}"
    )
    for name, value in figures.items():
        print(f"  {name:<20} {value}")


if __name__ == "__main__":
    main()
