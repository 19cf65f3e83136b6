"""Decoding in child processes, which can be ended: for images from people one does not know.

    with Decoders(2) as decoders:
        small, pixels = decoders(content, preview=(160, 320), size=(256, 128))

A child that takes too long, too much memory or dies of what it was given costs its own image only.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.images.decode import PIXEL_LIMIT, crop, frame
from crossreid.images.resize import fit
from crossreid.images.thumbnail import thumbnail
from crossreid.records import UserError

# Of a processor for one image; and of the clock, for the case that it gets none of it.
SECONDS, PATIENCE = 10, 60
MEMORY = 3 * 2**30
SLOW = "The image: takes too long or too much memory to decode; expected a photograph: save it again, or leave it out"


class Closed(Exception):
    """The decoders were closed while or before an image was decoded."""


class Decoders:
    """count: of child processes, which are started when they are needed first. Any number of threads may call."""

    def __init__(self, count: int):
        self._closed = False
        self._running: set[_Child] = set()
        self._lock = threading.Lock()
        self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __call__(
        self,
        source: bytes | Path,
        *,
        preview: tuple[int, int],
        box: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        limit_pixels: int = PIXEL_LIMIT,
    ) -> tuple[bytes, np.ndarray | None]:
        """A small JPEG of an image, and its pixels (H, W, 3) uint8 at ``size`` where that is given.

        source: the bytes of a file, or its path. preview: (width, height) that the JPEG fits into. box: the part of
            the image that is meant.
        Raises the UserError of ``crossreid.images.decode``, one for an image that takes too long, and Closed.
        """
        asked = {
            "path": str(source) if isinstance(source, Path) else None,
            "preview": preview,
            "box": None if box is None else [int(edge) for edge in box],
            "size": size,
            "interpolation": interpolation,
            "limit_pixels": limit_pixels,
        }
        child = self._free.get()
        try:
            child = self._started(child)
            answer = child.ask(asked, b"" if isinstance(source, Path) else source)
            child.idle()
        except (OSError, EOFError, ValueError) as error:
            if child is not None:
                self._forget(child)
                child = None
            if self._closed:
                raise Closed from None
            raise UserError(SLOW) from error
        except BaseException:
            if child is not None:
                self._forget(child)
                child = None
            raise
        finally:
            self._free.put(child)
        if "error" in answer[0]:
            raise UserError(answer[0]["error"])
        return answer[1], answer[2]

    def close(self) -> None:
        """End all children, whatever they are at; who waits for one is told that this is closed."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
        for child in running:
            child.end()

    def _started(self, child: _Child | None) -> _Child:
        with self._lock:
            if self._closed:
                raise Closed
            if child is None:
                child = _Child()
                self._running.add(child)
            return child

    def _forget(self, child: _Child) -> None:
        child.end()
        with self._lock:
            self._running.discard(child)


class _Child:
    def __init__(self):
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); from crossreid.images.apart import answer_all; answer_all()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # A group of its own, so that Ctrl-C reaches us alone, and what is under way can be finished.
            process_group=0 if os.name == "posix" else None,
        )
        self._timer: threading.Timer | None = None

    def ask(self, asked: dict, content: bytes) -> tuple[dict, bytes, np.ndarray | None]:
        self._timer = threading.Timer(PATIENCE, self._process.kill)
        self._timer.daemon = True
        self._timer.start()
        _send(self._process.stdin, asked, content)
        told, parts = _receive(self._process.stdout)
        pixels = told.get("pixels")
        small, rest = parts[: told.get("small", 0)], parts[told.get("small", 0) :]
        return told, small, None if pixels is None else np.frombuffer(rest, np.uint8).reshape(pixels)

    def idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _send(pipe, head: dict, *parts) -> None:
    """A line of JSON that says how many bytes follow, and these."""
    pipe.write(json.dumps(head | {"bytes": sum(map(len, parts))}).encode() + b"\n")
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _receive(pipe) -> tuple[dict, bytes]:
    line = pipe.readline()
    if not line:
        raise EOFError
    head = json.loads(line)
    content = pipe.read(head["bytes"])
    if len(content) < head["bytes"]:
        raise EOFError
    return head, content


def answer_all() -> None:
    """What a child does, until nobody asks any more."""
    asks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no part of an answer
    with contextlib.suppress(EOFError):
        while True:
            asked, content = _receive(asks)
            _bound()
            try:
                small, pixels = _decoded(asked, content)
            except UserError as error:
                _send(answers, {"error": str(error)})
            except MemoryError:
                _send(answers, {"error": SLOW})
            else:
                shape = None if pixels is None else pixels.shape
                parts = [small] if pixels is None else [small, pixels.tobytes()]
                _send(answers, {"small": len(small), "pixels": shape}, *parts)


def _bound() -> None:
    """Limit what the next image may take."""
    try:
        import resource
    except ImportError:  # not on every system; the parent's clock remains
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS + 1
    for which, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY)):
        hard = resource.getrlimit(which)[1]
        if hard == resource.RLIM_INFINITY or limit <= hard:
            resource.setrlimit(which, (limit, hard))


def _decoded(asked: dict, content: bytes) -> tuple[bytes, np.ndarray | None]:
    source = content if asked["path"] is None else Path(asked["path"])
    with frame(source, limit_pixels=asked["limit_pixels"], name="The image") as pixels:
        if asked["box"] is not None:
            pixels = crop(pixels, asked["box"])
        small = thumbnail(pixels, tuple(asked["preview"]))
        size = asked["size"]
        return small, None if size is None else np.ascontiguousarray(
            fit(pixels, size, asked["interpolation"])
        )
