"""Embedding on a Ray cluster of two local nodes, a worker each: the rows of one process, each once, whoever dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from crossreid import on_ray
from crossreid.__main__ import main
from crossreid.embedding_files import embed_files
from crossreid.images.listing import listed
from crossreid.records import Embedding, Metric, UserError

pytest.importorskip("ray.data")
from crossreid.fragments import embed_fragments

pytestmark = pytest.mark.slow
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


class Colours:
    """An embedder without a network: what is left of an image at 3 x 2 pixels. before: is called before each batch with
    how many there were in this process."""

    dimension, fingerprint, name, feature, device = 18, "ab" * 32, "colours", "pixels", "cpu"
    stripes, metrics, modalities = (3, 6), {"pixels": Metric("cosine")}, ("visible",)
    size, interpolation, batch = (3, 2), "bilinear", 4

    def __init__(self, before=lambda count: None):
        self.before, self.count = before, 0

    def __call__(self, images, modality=None):
        return self.embed(images, modality).feature

    def embed(self, images, modality=None):
        self.before(self.count)
        self.count += 1
        pixels = np.stack([np.asarray(each, np.float32) for each in images])
        flat = pixels.reshape(len(pixels), -1) + 1
        return Embedding(flat / np.linalg.norm(flat, axis=1, keepdims=True), pixels.reshape(-1, 3, 6))


def machine():
    import ray

    return ray.get_runtime_context().get_node_id()


def wait_for(there):
    end = time.monotonic() + 600  # a test that fails is better than one that hangs
    while not there():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)


def meet(folder, count):
    """Go on when both machines have come so far."""
    (folder / machine()).touch()
    wait_for(lambda: len(list(folder.iterdir())) >= 2)


def die_once(died, count):
    if count == 1 and not died.exists():  # in the middle of a piece, which has two batches
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_the_machine(doomed, died, count):
    """The raylet, which is the parent of its workers, is what makes a machine of a cluster."""
    if machine() == doomed and count == 1:
        died.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    elif machine() != doomed:
        wait_for(died.exists)


def patient(start):
    """Ray gives a new process half a minute of the clock, which a busy machine may need several times."""
    for _ in range(5):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error):
                raise
    return start()


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    ours = Path(folder, "ray")
    ours.mkdir()
    head = {**NODE, "temp_dir": str(ours), "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)  # where Ray writes the cluster's address too
        # Workers find this file and the library where the tests do.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
        patch.setenv("RAY_worker_niceness", "0")  # and need not wait for everybody else, as they would
        cluster = patient(lambda: Cluster(initialize_head=True, head_node_args=head))
        try:
            patient(lambda: cluster.add_node(**NODE))
            cluster.wait_for_nodes(600)
            yield cluster
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """50 images, of which two cannot be read; in pieces of 8."""
    folder, rng = tmp_path / "people", np.random.default_rng(0)
    folder.mkdir()
    for number in range(50):
        PILImage.fromarray(rng.integers(0, 256, (12, 8, 3), np.uint8)).save(folder / f"{number:03}.png")
    for number in (7, 31):
        (folder / f"{number:03}.png").write_bytes(b"no image")
    monkeypatch.setattr(on_ray, "IMAGES", 8)
    return folder


def rows_of(folder):
    import pyarrow.parquet as pq

    return pq.read_table(folder)


def check(folder, images, batch=4):
    """The folder holds what one process writes, to the bit and in its order."""
    alone = folder.parent / "alone.npz"
    embed_files(images, Colours(), alone, skip_bad=True, batch=batch, log=lambda text: None)
    rows, wanted = rows_of(folder), np.load(alone)
    assert rows["path"].to_pylist() == wanted["path"].tolist()
    assert np.array_equal(np.stack(rows["vectors"].to_numpy()), wanted["vectors"])
    assert np.array_equal(np.stack(rows["stripes"].to_numpy()), wanted["stripes"].reshape(len(rows), -1))
    about = json.loads((folder / "_embedding.json").read_text())
    assert about["fragments"] == sorted(path.name for path in folder.glob("*.parquet"))
    assert about["rows"] == len(rows) and about["fingerprint"] == Colours.fingerprint
    return rows


def test_the_rows_of_one_process_from_two_machines(cluster, people, tmp_path):
    table, met = tmp_path / "table.csv", tmp_path / "met"
    met.mkdir()
    lines = [f"people/{n:03}.png,{n % 3},1,1,7,{8 + n % 4},{1e9 + n},=x" for n in range(50)]
    table.write_text("path,identity,x0,y0,x1,y1,time,note\n" + "\n".join(lines))
    with pytest.warns(UserWarning, match="note"):
        images = listed([table])
    with on_ray.connected(cluster.address):
        make = partial(Colours, partial(meet, met))
        done = embed_fragments(images, Colours(), make, tmp_path / "out", batch=4)
    rows = check(tmp_path / "out", images)
    assert (len(rows), done.rows, done.kept, len(done.fragments)) == (48, 48, 0, 7)
    assert len({machine for machine, _ in done.workers}) == len(done.workers) == 2
    bad = ["people/007.png", "people/031.png"]
    assert [name for name, _ in done.skipped] == bad
    header, *lines = (tmp_path / "out" / "_skipped.csv").read_text().splitlines()
    assert header == "path,reason" and [line.split(",")[0] for line in lines] == bad
    shown = [n for n in range(50) if n not in (7, 31)]
    assert rows["identity"].to_pylist() == [str(n % 3) for n in shown]
    assert rows["y1"].to_pylist() == [8 + n % 4 for n in shown]
    assert rows["time"].to_pylist() == [1e9 + n for n in shown]
    assert set(rows["note"].to_pylist()) == {"=x"}


def test_a_process_that_is_killed_in_the_middle_loses_no_row(cluster, people, tmp_path):
    images, died = listed([people]), tmp_path / "died"
    with on_ray.connected(cluster.address):
        done = embed_fragments(
            images, Colours(), partial(Colours, partial(die_once, died)), tmp_path / "out", batch=4
        )
    check(tmp_path / "out", images)
    assert died.exists() and done.rows == 48


def test_a_machine_that_is_killed_in_the_middle_loses_no_row(cluster, people, tmp_path):
    images, died = listed([people]), tmp_path / "died"
    doomed = patient(lambda: cluster.add_node(**NODE))
    cluster.wait_for_nodes(600)
    with on_ray.connected(cluster.address):
        make = partial(Colours, partial(die_with_the_machine, doomed.node_id, died))
        done = embed_fragments(images, Colours(), make, tmp_path / "out", batch=4)
    check(tmp_path / "out", images)
    assert died.exists() and done.rows == 48
    assert doomed.node_id not in {machine for machine, _ in done.workers}
    cluster.remove_node(doomed, allow_graceful=False)


def test_finished_fragments_are_not_made_again(cluster, people, tmp_path):
    images, out = listed([people]), tmp_path / "out"
    with on_ray.connected(cluster.address):

        def run(images, **settings):
            before = {path.name: path.stat().st_ino for path in out.glob("*.parquet")}
            done = embed_fragments(images, Colours(), Colours, out, batch=4, **settings)
            check(out, images)
            after = {path.name: path.stat().st_ino for path in out.glob("*.parquet")}
            assert not list(out.glob(".*"))
            return done, {name for name in before if after.get(name) == before[name]}

        done, _ = run(images)
        names = [fragment.name for fragment in done.fragments]
        # As a run leaves it that was stopped after five fragments.
        for name in (names[1], names[4], "_embedding.json", "_skipped.csv"):
            (out / name).unlink()
        (out / f".{names[1]}.1.part").write_bytes(b"half of it")
        (out / names[2]).write_bytes(b"damaged")
        done, same = run(images)
        assert same == {names[0], names[3], names[5], names[6]}
        assert [fragment.made for fragment in done.fragments] == [n in (1, 2, 4) for n in range(7)]
        assert done.kept == 7 + 7 + 8 + 2 and len(done.skipped) == 2

        # An image that was mended, and two that went.
        shutil.copy(people / "008.png", people / "007.png")
        done, same = run(images[:48])
        assert same == set(names[1:6]) and len(done.skipped) == 1

        # Another model does not mix with this one, and nothing else is taken for a folder of fragments.
        other = Colours()
        other.fingerprint = "cd" * 32
        with pytest.raises(UserError, match="begun with another model"):
            embed_fragments(images, other, Colours, out, batch=4)
        with pytest.raises(UserError, match=r"holds 000.png, which is no fragment"):
            embed_fragments(images, Colours(), Colours, people, batch=4)


def test_mistakes_in_other_processes_are_told_as_ones_own(cluster, people, tmp_path):
    with on_ray.connected(cluster.address), pytest.raises(UserError, match="the model is not here"):
        embed_fragments(listed([people]), Colours(), missing, tmp_path / "out", batch=4)
    only = [image for image in listed([people]) if image.path.stem in ("007", "031")]
    with on_ray.connected(cluster.address), pytest.raises(UserError, match=r"no image can be read.*007"):
        embed_fragments(only, Colours(), Colours, tmp_path / "none", batch=4)
    assert not [each for each in threading.enumerate() if each.name.startswith(on_ray.READERS)]


def missing():
    raise UserError("the model is not here")


def test_the_command_gives_what_one_process_gives_and_goes_on_after_it_was_killed(
    cluster, people, tmp_path, capsys
):
    words = ["embed", "small", str(people), "--batch", "8", "--out"]
    assert main([*words, str(tmp_path / "alone.npz"), "--skip-bad"]) == 0
    wanted = np.load(tmp_path / "alone.npz")
    out = tmp_path / "out"
    # Pieces of 8, as here, in the process that will be killed, which goes no further than the first.
    code = (
        "import sys, time\nfrom crossreid import on_ray, __main__\nmapped = on_ray.mapped\n"
        "def held(*given):\n    for row in mapped(*given):\n        yield row\n        time.sleep(600)\n"
        "on_ray.IMAGES, on_ray.mapped = 8, held\n__main__.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *words, str(out), "--ray", cluster.address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: process.poll() is not None or list(out.glob("*.parquet")))
        assert process.poll() is None
        process.kill()
    assert not (out / "_embedding.json").exists()
    begun = {path: path.stat().st_ino for path in out.glob("*.parquet")}
    capsys.readouterr()
    assert main([*words, str(out), "--ray", cluster.address]) == 0
    told = capsys.readouterr()
    assert "48 vectors of 128 numbers in 7 fragments" in told.out and "of them by an earlier run" in told.out
    assert "left out 2 of 50 images" in told.err and "007.png" in told.err
    assert begun and all(path.stat().st_ino == number for path, number in begun.items())
    rows = rows_of(out)
    assert rows["path"].to_pylist() == wanted["path"].tolist()
    assert np.array_equal(np.stack(rows["vectors"].to_numpy()), wanted["vectors"])


def entries_of(gallery):
    """What is known of each entry but when it was added, its vector and its small image, by key."""
    return {
        entry.key: (replace(entry, added=None), gallery.vector(entry.key).tolist(), gallery.image(entry.key))
        for entry in gallery.entries(count=1000)
    }


def test_a_gallery_is_filled_as_by_one_process_also_when_one_is_killed(cluster, people, tmp_path, capsys):
    pytest.importorskip("lancedb")
    from crossreid.gallery import Gallery
    from crossreid.gallery.indexing import fill, fill_on_ray
    from crossreid.gallery.indexing import listed as listed_for_gallery

    images, here, there = listed_for_gallery([people], camera="door"), tmp_path / "here", tmp_path / "there"
    facts = {"dimension": Colours.dimension, "fingerprint": Colours.fingerprint}
    with Gallery.create(here, **facts) as gallery:
        alone = fill(gallery, Colours(), images)
        wanted = entries_of(gallery)
    died = tmp_path / "died"
    make = partial(Colours, partial(die_once, died))
    with on_ray.connected(cluster.address), Gallery.create(there, **facts) as gallery:
        some = fill_on_ray(gallery, Colours(), make, str(there), images[:20])
        assert (some.new, some.known, len(some.bad)) == (19, 0, 1) and died.exists()
        done = fill_on_ray(gallery, Colours(), make, str(there), images)
        assert (done.new, done.known) == (29, 19) and sorted(done.bad) == sorted(alone.bad)
        assert entries_of(gallery) == wanted and len(wanted) == alone.new == 48
    words = ["index", "small", str(people), "--gallery", str(tmp_path / "small"), "--ray", cluster.address]
    for said in ("48 images added; it holds 48", "0 images added, 48 were there already"):
        assert main(words) == 0
        told = capsys.readouterr()
        assert said in told.out and "left out 2 of 50 images" in told.err


def test_what_cannot_be_reached_is_told(capsys, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{free.getsockname()[1]}"
        words = ["embed", "small", str(tmp_path), "--out", str(tmp_path / "out"), "--ray", address]
        assert main(words) == 2
    assert f"no Ray cluster answers at {address} (" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["embed", "small", str(tmp_path), "--out", str(tmp_path / "out"), "--ray"]) == 2
    assert "--ray needs Ray Data, which is not installed" in capsys.readouterr().err
