"""Of several processes one that stands still is named after a minute, and all end, where they would wait for ever.

Each process tells the others every few seconds how far it is, what it is at, and how much processor time it and its
workers have used, by the store over which the launcher brought them together. Whoever is least far and neither gets on
nor computes has stopped: on a disk that does not answer, in a deadlock, or because somebody stopped it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from crossreid.engine import Engine

LIMIT = 60.0  # seconds
# A process that uses less of a core than this does not compute, and only waits or tells.
IDLE = 0.02


class Watch:
    """How far this process is. doing: in words; None while it may take its time."""

    done = 0
    doing: str | None = None

    def at(self, doing: str) -> None:
        """A further part of the work is done, and the next begins."""
        self.done, self.doing = self.done + 1, doing

    def rest(self) -> None:
        self.doing = None


@dataclass
class _Process:
    """What is known of a process: its last message, when that came, and when it last got on or computed."""

    message: dict = field(default_factory=dict)
    heard: float = 0.0
    moved: float = 0.0
    seconds: float = 0.0

    def note(self, message: dict) -> None:
        now = time.monotonic()
        if message == self.message:
            return
        place = (message["done"], message["doing"])
        if (
            not self.message
            or place != (self.message["done"], self.message["doing"])
            or message["seconds"] - self.seconds > IDLE * LIMIT
        ):
            self.moved, self.seconds = now, message["seconds"]
        self.message, self.heard = message, now


@contextmanager
def watching(watch: Watch, engine: Engine) -> Iterator[None]:
    """While the block runs, this process looks after the others and they after it; alone it needs nobody."""
    if engine.world == 1 or "MASTER_PORT" not in os.environ:
        yield
        return
    over = threading.Event()
    processes = [_Process() for _ in range(engine.world)]
    threads = [
        threading.Thread(target=_tell, args=(watch, engine.rank, processes, over), daemon=True),
        threading.Thread(target=_judge, args=(engine.rank, processes, over), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        threads[1].join()
        # The other may be waiting for a store that has gone.
        threads[0].join(timeout=1)


def _tell(watch: Watch, rank: int, processes: list[_Process], over: threading.Event) -> None:
    """Tell the others, and hear from them."""
    from torch.distributed import PrefixStore, TCPStore

    address, port = os.environ.get("MASTER_ADDR", "localhost"), int(os.environ["MASTER_PORT"])
    # Where the store has gone, so has the process that held it, and whoever waits for that one fails by itself.
    with suppress(RuntimeError):
        there = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=LIMIT))
        store = PrefixStore("crossreid/standstill", there)
        number = 0
        while not over.wait(LIMIT / 12):
            number += 1
            message = {
                "number": number,
                "done": watch.done,
                "doing": watch.doing,
                "seconds": _processor_time(),
                "name": f"process {rank} ({os.getpid()} on {platform.node()})",
            }
            processes[rank].note(message)
            store.set(str(rank), json.dumps(message))
            for other, process in enumerate(processes):
                if other != rank and store.check([str(other)]):
                    process.note(json.loads(store.get(str(other))))


def _judge(rank: int, processes: list[_Process], over: threading.Event) -> None:
    """End this process when one, perhaps this, has stood still for too long."""
    while not over.wait(LIMIT / 12):
        found = _standing(processes, time.monotonic())
        if found:
            if processes[rank] in found and len(found) < len(processes):
                time.sleep(
                    LIMIT / 6
                )  # a launcher ends the others with the first that goes, and they have something to say
            else:
                names = " and ".join(f"{one.message['name']}, {one.message['doing']}," for one in found)
                print(
                    f"crossreid: {names} stood still for {LIMIT:.0f} seconds, and the others wait for it: all "
                    "processes of the run end. The last checkpoint is whole: look at that machine, its disks and its "
                    "other work, and continue with crossreid train --resume",
                    file=sys.stderr,
                    flush=True,
                )
            # The main thread waits inside a library, where no exception reaches it.
            os._exit(1)


def _standing(processes: list[_Process], now: float) -> list[_Process]:
    """Those that keep the others waiting, if all that are least far have neither got on nor computed for too long; of
    these the ones that say nothing any more, if there are such."""
    if any(not one.message or one.message["doing"] is None for one in processes):
        return []
    least = min(one.message["done"] for one in processes)
    behind = [one for one in processes if one.message["done"] == least]
    if any(now - one.moved < LIMIT for one in behind):
        return []
    return [one for one in behind if now - one.heard > LIMIT] or behind


def _processor_time() -> float:
    """Seconds that this process and those that it started have computed."""
    import psutil

    total = time.process_time()
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                total += sum(child.cpu_times()[:2])
    return total
