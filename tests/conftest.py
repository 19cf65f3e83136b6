"""Rendered copies of data sets, one for all tests of a session, and a small experiment on one of them."""

import logging
import os
import time
import urllib.request

import pytest
import yaml

# Several processes run the tests, and what a training ends with must not depend on how many cores a machine has. Before
# torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def rendered(tmp_path_factory, name):
    """The copy of data set ``name`` that all workers of the session share, rendered by the first to ask."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root, lock = base / f"rendered-{name}", base / f"rendered-{name}.lock"
    try:
        lock.mkdir()
    except FileExistsError:
        patience = time.monotonic() + 120
        while not root.exists() and time.monotonic() < patience:
            time.sleep(0.05)
    else:
        from crossreid import synthetic

        synthetic.write(name, root, identities=12, images=2, progress=False)
    return root


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    """Market-1501's layout: 6 training identities with 46 images, 21 queries. Not to be changed."""
    return rendered(tmp_path_factory, "market1501")


@pytest.fixture(scope="session")
def sysu(tmp_path_factory):
    """SYSU-MM01's layout. Not to be changed."""
    return rendered(tmp_path_factory, "sysu_mm01")


@pytest.fixture(scope="session")
def experiment(market):
    """The tree of settings of two epochs of three steps each."""
    return {
        "method": {"name": "agw", "backbone": "tiny", "pretrained": None, "streams": 1},
        "data": {
            "name": "market1501",
            "roots": {"market1501": str(market)},
            "size": [48, 24],
            "padding": 2,
            "workers": 0,
            "loaders": {"train": {"sampler": "identity", "identities": 2, "instances": 3}},
        },
        "train": {
            "epochs": 2,
            "device": "cpu",
            "threads": 1,
            "optimizers": {"main": {"name": "adam", "lr": 0.001}},
        },
        "evaluate": {"examples": 2},
    }


@pytest.fixture(scope="session")
def settings_file(experiment, tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(settings_file, tmp_path_factory):
    """The run folder of the experiment, trained by the command without interruption. Not to be changed."""
    from crossreid.__main__ import main

    run = tmp_path_factory.mktemp("runs") / "trained"
    assert main(["train", str(settings_file), "--run", str(run)]) == 0
    return run


@pytest.fixture
def memory():
    """The file system of ``memory://``, of which a process has one; what a test leaves there is gone after it."""
    pytest.importorskip("upath")
    store = pytest.importorskip("fsspec").filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(scope="session")
def bucket():
    """The address of a bucket (``s3://...``) on a server of this process."""
    pytest.importorskip("lancedb")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    _, port = server.get_host_and_port()
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "AWS_ENDPOINT": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }.items():
            patched.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"{address}/people", method="PUT")).read()
        yield "s3://people"
    server.stop()
