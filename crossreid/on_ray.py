"""Work on many images by the machines of a Ray cluster: Ray Data starts the processes, hands them the images and does
again what one that died had in hand.

    with connected("head:6379"):
        for number, found, worker in mapped(pieces(images, 1024), make):
            ...
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crossreid.embedder import Embedder
from crossreid.export.using import is_exported
from crossreid.files import reason_of
from crossreid.images.listing import name_of
from crossreid.records import Image, UserError, pip_install

# Images of a piece, which is what is lost of a process that dies, and the rows of a fragment.
IMAGES = 1024
# Seconds that the head of a cluster may take to answer.
PATIENCE = 30
# How the threads are called that read what Ray Data has made.
READERS = ("StreamingExecutor", "iter_threaded")

Piece = tuple[int, list[Image]]
Work = Callable[[int, list[Image]], Any]


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to a cluster while the block runs.

    address: of the cluster's head, as ``ray start`` says it. "" is what Ray itself finds: ``RAY_ADDRESS``, a cluster
        that ``ray start`` began on this machine, or else the processors of this machine.
    Raises UserError where Ray is not installed, and where nothing answers.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f"--ray needs Ray Data, which is not installed ({error}): {pip_install('ray')}"
        ) from error
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "://" not in address:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of as many kinds as Ray has parts
        where = f"at {address}" if address else "on this machine"
        raise UserError(
            f"no Ray cluster answers {where} ({reason_of(error)}): give the address that `ray start "
            "--head` said, such as 10.0.0.1:6379, or none to use this machine alone"
        ) from error
    try:
        yield
    finally:
        # Threads of Ray Data that still ask for something after the end would end this process without a word.
        for thread in threading.enumerate():
            if thread.name.startswith(READERS):
                thread.join(5)
        ray.shutdown()


def pieces(images: Sequence[Image], batch: int) -> list[Piece]:
    """The images in order, in numbered pieces of whole batches, so that each batch is the one that a single process
    would make. Paths are absolute, since other processes have other folders."""
    rows = batch * max(1, IMAGES // batch)
    return [
        (number, [_anywhere(image) for image in images[start : start + rows]])
        for number, start in enumerate(range(0, len(images), rows))
    ]


def _anywhere(image: Image) -> Image:
    return replace(image, path=image.path.absolute(), extra={**image.extra, "path": name_of(image)})


def mapped(
    pieces: Sequence[Piece], make: Callable[[], Work], accelerators: bool = False
) -> Iterator[tuple[int, Any, tuple[str, int]]]:
    """The number of each piece, what ``make()(number, images)`` gives for it, and the machine and process that made it,
    as they are finished, in no order.

    make: is called once in each process and must do the same in all; so that work may be done again, its outcome must
        depend on the piece alone.
    accelerators: one of these for each process, where the cluster has any; otherwise a process has one processor.
    A process, or a machine, that dies costs what it had in hand, which others do again. A UserError ends all.
    """
    import pyarrow as pa
    import ray

    has = ray.cluster_resources()
    kind = "GPU" if accelerators and has.get("GPU") else "CPU"
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars, settings.print_on_execution_start = False, False
    rows = [pa.table({"number": [number], "images": [pickle.dumps(some)]}) for number, some in pieces]
    count = max(1, min(int(has.get(kind, 1)), len(rows)))
    found = ray.data.from_arrow(rows).map_batches(
        _Worker,
        fn_constructor_args=(make,),
        batch_size=None,
        num_cpus=1,
        num_gpus=1 if kind == "GPU" else None,
        # A process has one piece in hand and the next at hand, so that the last pieces are shared out evenly.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=count, initial_size=count, max_tasks_in_flight_per_actor=2
        ),
    )
    finished: Any = iter(found.iter_rows())  # a generator, which Ray does not say
    with closing(finished):
        for row in finished:
            outcome = pickle.loads(row["found"])
            if isinstance(outcome, UserError):
                raise outcome
            yield row["number"], outcome, (row["machine"], row["process"])


class _Worker:
    """What an actor of Ray Data runs. A UserError is an outcome like others: of exceptions Ray keeps the text alone."""

    def __init__(self, make: Callable[[], Work]):
        self.work = _outcome(make)

    def __call__(self, block: dict) -> dict:
        import ray

        found = []
        for number, some in zip(block["number"], block["images"]):
            work = self.work
            outcome = work if isinstance(work, UserError) else _outcome(work, int(number), pickle.loads(some))
            found.append(pickle.dumps(outcome))
        count, machine = len(found), ray.get_runtime_context().get_node_id()
        return {
            "number": block["number"],
            "found": found,
            "machine": [machine] * count,
            "process": [os.getpid()] * count,
        }


def _outcome(function: Callable, *values) -> Any:
    """What a function gives, or its UserError."""
    try:
        return function(*values)
    except UserError as error:
        return UserError(str(error))


def maker(embedder: Embedder, model: str, device: str, batch: int, feature: str | None) -> Callable:
    """A function that makes the same embedder in other processes, of the words that made this one."""
    place = Path(model)
    words = (str(place.absolute()) if place.exists() else model, device, batch, feature)
    return partial(_same, embedder.fingerprint, words)


def _same(fingerprint: str, words: tuple) -> Embedder:
    embedder = Embedder(*words)
    if embedder.fingerprint != fingerprint:
        raise UserError(
            f"a machine of the cluster has another model at {words[0]} (fingerprint {embedder.fingerprint[:16]}, here "
            f"it is {fingerprint[:16]}): copy the same file to all, or to a folder that they share"
        )
    return embedder


def takes_accelerators(embedder: Embedder, device: str) -> bool:
    """Whether each process should be given one: an exported model takes the processor unless told otherwise."""
    return device != "cpu" and not (device == "auto" and is_exported(embedder.path))
