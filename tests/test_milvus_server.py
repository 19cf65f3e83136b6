"""A Milvus server that is killed while a process writes to it. The command that starts one (``milvus-server`` of the
package ``milvus``) is named by CROSSREID_MILVUS_SERVER."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from crossreid.gallery import Gallery
from crossreid.records import UserError

pytest.importorskip("pymilvus")

WRITER = """
import sys, numpy as np
from crossreid.gallery import Entry, Gallery
with Gallery.open(sys.argv[1]) as gallery:
    for start in range(0, 10**6, 7):
        numbers = range(start, start + 7)
        vectors = np.stack([np.random.default_rng(number).standard_normal(16) for number in numbers])
        gallery.add([Entry(f"k{number}", f"{number}.jpg") for number in numbers], vectors, [b"small"] * 7)
        print(start + 7, flush=True)
"""
# Tries to reach a server that is starting, a second apart.
TRIES = 600


@contextlib.contextmanager
def serving(command, folder, port):
    """A server on a folder, killed with all its processes at the end."""
    words = [command, "--data", str(folder), "--proxy-port", str(port)]
    with open(folder.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def reached(act, process):
    for _ in range(TRIES):
        assert process.poll() is None, "the server has ended"
        try:
            return act()
        except UserError as error:  # also while it starts
            said = error
        time.sleep(1)
    pytest.fail(f"the server did not answer: {said}")


@pytest.mark.slow
def test_every_acknowledged_row_survives_the_end_of_the_server(tmp_path):
    command = shutil.which(os.environ.get("CROSSREID_MILVUS_SERVER", ""))
    if command is None:
        pytest.skip("set CROSSREID_MILVUS_SERVER to the command that starts a Milvus server")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    place, folder = f"milvus:http://127.0.0.1:{port}#killed", tmp_path / "server"
    with serving(command, folder, port) as process:
        reached(lambda: Gallery.create(place, dimension=16, fingerprint="f" * 64), process).close()
        lines = []
        writer = subprocess.Popen([sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE, text=True)
        try:
            lines += [writer.stdout.readline() for _ in range(5)]
            os.killpg(process.pid, signal.SIGKILL)
        finally:
            writer.kill()
            with writer.stdout as rest:
                lines += rest.readlines()
            writer.wait()
    acknowledged = int([line for line in lines if line.endswith("\n")][-1])
    with serving(command, folder, port) as process:
        with reached(lambda: Gallery.open(place), process) as gallery:
            found = {entry.key for entry in gallery.entries(count=10**4)}
            assert {f"k{number}" for number in range(acknowledged)} <= found
            for number in (0, acknowledged - 1):
                vector = np.random.default_rng(number).standard_normal(16)
                assert gallery.search(vector, 1)[0][0].entry.path == f"{number}.jpg"
                assert gallery.image(f"k{number}") == b"small"
