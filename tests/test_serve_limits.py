"""What strangers can take of the server: time, memory, places in the line; and how soon it stops."""

import asyncio
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image as PILImage
from serving import Colours, encoded, gallery, person, process
from starlette.testclient import TestClient
from test_serve_process import ask, half_an_upload

from crossreid.images import apart
from crossreid.images.decode import decode
from crossreid.records import UserError
from crossreid.serve import connection, create_app, upload
from crossreid.serve.refusal import Refusal

SMALL = {"preview": (32, 32)}


def many_scans(size, times):
    """A progressive JPEG whose last scan stands in it so many times more."""
    file = io.BytesIO()
    PILImage.new("RGB", size, "grey").save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * times + b"\xff\xd9"


def test_work_is_bounded_by_scans_and_pixels():
    begun = time.process_time()
    with pytest.raises(UserError, match="in 3010 scans"):
        decode(many_scans((2000, 2000), 3000))
    assert time.process_time() - begun < 1
    with pytest.raises(UserError, match="in 60 scans"):
        decode(many_scans((6000, 6000), 50))
    assert decode(many_scans((200, 200), 50)).shape == (200, 200, 3)


def test_one_image_takes_no_more_than_its_kind_needs():
    """Below the limit of pixels, but not of memory."""
    file = io.BytesIO()
    PILImage.new("RGB", (9000, 8000)).save(file, "WEBP", quality=1, method=0)
    with pytest.raises(UserError, match="GiB to decode from WEBP"):
        decode(file.getvalue())


def test_an_image_that_takes_too_long_is_ended_and_costs_nobody_else(monkeypatch):
    file = io.BytesIO()
    PILImage.new("RGB", (6000, 6000)).save(file, "PNG")
    with apart.Decoders(1) as decoders:
        small, pixels = decoders(encoded(person(1)), size=(8, 4), **SMALL)
        assert small.startswith(b"\xff\xd8") and pixels.shape == (8, 4, 3) and pixels.dtype == np.uint8
        monkeypatch.setattr(apart, "PATIENCE", 0.05)
        with pytest.raises(UserError, match="takes too long"):
            decoders(file.getvalue(), size=(8, 4), **SMALL)
        monkeypatch.undo()
        assert decoders(encoded(person(1)), size=(8, 4), **SMALL)[1].shape == (8, 4, 3)
        with pytest.raises(UserError, match="The image: is not a readable image"):
            decoders(b"nonsense", **SMALL)


def test_closing_does_not_wait_for_an_image():
    file = io.BytesIO()
    PILImage.new("RGB", (8000, 8000)).save(file, "PNG")
    decoders, ended = apart.Decoders(1), []
    decoders(encoded(person(1)), **SMALL)

    def work():
        with pytest.raises(apart.Closed):
            decoders(file.getvalue(), **SMALL)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    decoders.close()
    thread.join(60)
    assert ended == [True]
    with pytest.raises(apart.Closed):
        decoders(encoded(person(1)), **SMALL)


class Line:
    """The transport of a connection."""

    def __init__(self):
        self.aborted, self.sent = False, b""

    def abort(self):
        self.aborted = True

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return self.aborted

    def write(self, data):
        self.sent += data

    def close(self):
        pass

    pause_reading = resume_reading = close


@pytest.mark.parametrize(
    ("parts", "ended"),
    [([], True), ([b"GET / HT"] * 3, True), ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], False)],
)
def test_headers_that_do_not_end_are_not_waited_for(monkeypatch, parts, ended):
    import uvicorn
    from uvicorn.server import ServerState

    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)

    async def app(scope, receive, send):
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def talk():
        line = Line()
        made = connection.Connection(uvicorn.Config(app, ws="none"), ServerState(), {})
        made.connection_made(line)
        for part in parts:
            made.data_received(part)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.4)
        aborted = line.aborted
        await asyncio.gather(*made.tasks)
        made._unset_keepalive_if_required()
        return aborted

    assert asyncio.run(talk()) is ended


class Request:
    """What ``upload`` asks of a request: parts that come, and pauses between them in seconds."""

    def __init__(self, *parts):
        self.parts = parts
        self.headers = {"content-type": "application/x-www-form-urlencoded"}

    async def stream(self):
        for part in self.parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                yield part


def test_an_upload_that_stands_still_or_trickles_is_ended(monkeypatch):
    monkeypatch.setattr(upload, "PATIENCE", 0.1)
    for parts in ((b"a=", 30.0), (b"a", 0.08, b"=", 0.08, b"1", 0.08)):
        with pytest.raises(Refusal) as refusal:
            asyncio.run(upload.body(Request(*parts), 1000))
        assert refusal.value.status == 408
    content = b"x" * 40_000  # buys two seconds and more
    assert asyncio.run(upload.body(Request(content, 0.3, b"y"), 10**6)) == content + b"y"


def test_all_uploads_together_have_one_budget():
    uploads = upload.Uploads(limit=100)

    async def several():
        async with uploads.form(Request(b"a=" + b"1" * 60), 1000) as (fields, image):
            assert fields["a"] == ["1" * 60] and image is None and uploads.held == 62
            with pytest.raises(Refusal) as refusal:
                async with uploads.form(Request(b"b=" + b"2" * 60), 1000):
                    pass
            assert refusal.value.status == 503 and uploads.held == 62
        assert uploads.held == 0

    asyncio.run(several())


@pytest.mark.slow
def test_slow_uploads_keep_nobody_from_searching(tmp_path):
    with process(tmp_path / "images", waiting=4) as server:
        lines = [half_an_upload(server, 4000) for _ in range(130)]
        try:
            assert ask(server, 1)[0] == 200
        finally:
            for line in lines:
                line.close()


@pytest.fixture
def client(tmp_path):
    embedder = Colours()
    app = create_app(gallery(tmp_path, embedder), embedder, token="a token of many letters")
    bearer = {"authorization": "Bearer a token of many letters"}
    with TestClient(
        app, base_url="http://127.0.0.1", headers=bearer, raise_server_exceptions=False
    ) as client:
        yield client


def test_every_answer_has_a_documented_status(client):
    described = client.get("/api/openapi.json").json()["paths"]
    image = {"files": {"image": ("a.png", b"no image")}}
    seen = set()
    for method, address, given in (
        ("get", "/api/entries", {"params": {"start": 9223372036854775807}}),
        ("get", "/api/entries", {"params": {"start": 10**30}}),
        ("get", "/api/entries", {"params": {"start": 10**12, "count": 1}}),
        ("get", "/api/entries", {"params": {"count": "x"}}),
        ("get", "/api/entries", {"params": {"since": "yesterday"}}),
        ("get", "/api/entries", {"headers": {"origin": "http://evil.example"}}),
        ("get", "/api/entries", {"headers": {"host": "evil.example"}}),
        ("get", "/api/entries", {"headers": {"authorization": ""}}),
        ("get", "/api/entries/{key}", {}),
        ("get", "/api/entries/{key}/image", {"params": {"size": "huge"}}),
        ("get", "/api/entries/{key}/image", {}),
        ("post", "/api/search", {"content": b"x", "headers": {"content-type": "text/plain"}}),
        ("post", "/api/search", {"data": {"key": "a", "top": "0"}}),
        ("post", "/api/search", image),
        ("post", "/api/search", {"files": {"image": ("a.png", b"\0" * (12 * 2**20))}}),
        ("get", "/api/info", {}),
    ):
        answer = getattr(client, method)(address.replace("{key}", "k" * 64), **given)
        assert answer.status_code < 500, answer.text
        assert str(answer.status_code) in described[address][method]["responses"], (
            address,
            answer.status_code,
        )
        seen.add(answer.status_code)
    assert {200, 400, 401, 403, 404, 413, 415, 421, 422} <= seen
