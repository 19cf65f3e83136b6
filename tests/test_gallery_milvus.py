"""A Milvus server that dies in use: the embedded engine, and then a client that reaches nothing."""

import numpy as np
import pytest

from crossreid.gallery import Entry, Filter, Gallery
from crossreid.gallery.store import NoAnswer

pytest.importorskip("milvus_lite")

VECTORS = np.random.default_rng(0).standard_normal((30, 8))
CALLS = {
    "add": lambda gallery: gallery.add([Entry("new")], VECTORS[:1]),
    "search": lambda gallery: gallery.search(VECTORS[3], 2),
    "approximate": lambda gallery: gallery.search(VECTORS[3], 2, Filter(modality="visible"), True),
    "rerank": lambda gallery: gallery.search(VECTORS[3], 2, rerank=True),
    "get": lambda gallery: gallery.get("k3"),
    "known": lambda gallery: gallery.known(["k3"]),
    "vector": lambda gallery: gallery.vector("k3"),
    "image": lambda gallery: gallery.image("k3"),
    "entries": lambda gallery: gallery.entries(),
    "count": lambda gallery: gallery.count(),
    "update": lambda gallery: gallery.update({"k3": {"camera": "2"}}),
    "delete": lambda gallery: gallery.delete(Filter(keys=("k4",))),
    "build_index": lambda gallery: gallery.build_index(),
    "remember": lambda gallery: gallery.remember("{camera}_{time}"),
    "pattern": lambda gallery: gallery.pattern,
    "info": lambda gallery: gallery.info(),
}


class Dead:
    """A client whose every call is answered as by a server that was killed."""

    def __getattr__(self, name):
        import grpc
        from pymilvus import MilvusException

        def call(*given, **settings):
            raise MilvusException(
                grpc.StatusCode.UNAVAILABLE,
                f"[{name}] Retry timeout: 30s, <_InactiveRpcError: Connection refused>",
            )

        return call


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    place = f"milvus:{tmp_path_factory.mktemp('milvus') / 'one.db'}"
    with Gallery.create(place, dimension=8, fingerprint="") as gallery:
        gallery.add([Entry(f"k{row}") for row in range(30)], VECTORS)
        gallery.build_index()
        yield gallery


@pytest.mark.parametrize("name", CALLS)
def test_every_call_says_that_milvus_does_not_answer_and_works_again(gallery, name, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(gallery._store._client, "_client", Dead())
        with pytest.raises(
            NoAnswer, match=r"^Milvus at .*one\.db does not answer.*refused.*see that it runs"
        ):
            CALLS[name](gallery)
    CALLS[name](gallery)


def test_a_server_that_dies_while_rows_are_read_page_by_page(gallery, monkeypatch):
    pages = gallery._store._client.query_iterator("crossreid", filter='id != ""', output_fields=["entry"])
    monkeypatch.setattr(type(pages), "next", lambda self: Dead().next())
    with pytest.raises(NoAnswer, match="does not answer"):
        gallery.entries()


def test_calls_that_no_server_takes_long_for_are_not_asked_for_minutes(gallery, monkeypatch):
    asked = []

    class Client:
        def __getattr__(self, name):
            return lambda *given, **settings: asked.append((name, settings.get("timeout")))

    monkeypatch.setattr(gallery._store._client, "_client", Client())
    gallery._store._client.query("crossreid")
    gallery._store._client.flush("crossreid")
    assert asked == [("query", 30), ("flush", None)]
