"""The server as a process of its own: load, clients that go away, an orderly end; and the command's refusals."""

import concurrent.futures
import http.client
import os
import signal
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from serving import encoded, person, process

from crossreid.commands import serve as command
from crossreid.records import UserError
from crossreid.serve import server as serving_server

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent to the process")
BODY = b"--b\r\ncontent-disposition: form-data; name=image; filename=a\r\n\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with process(tmp_path_factory.mktemp("served") / "images") as server:
        yield server


def ask(server, number, **fields):
    """(status, headers, parsed body) of one search over a connection of its own."""
    answer = httpx.post(
        f"{server.address}/api/search",
        files={"image": ("a.png", encoded(person(number, number % 3)))},
        data={"top": "3", **fields},
        timeout=60,
        trust_env=False,
    )
    return answer.status_code, answer.headers, answer.json()


def half_an_upload(server, length=10**6):
    place = urlsplit(server.address)
    line = socket.create_connection((place.hostname, place.port), timeout=10)
    line.sendall(
        f"POST /api/search HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        + BODY
        + b"x" * (length // 2)
    )
    return line


def files_below(*folders):
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def test_a_hundred_searches_at_once_lose_nothing(running):
    with concurrent.futures.ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(lambda number: ask(running, number % 8), range(100)))
    for number, (status, _, found) in enumerate(answers):
        assert status == 200, found
        assert [hit["entry"]["identity"] for hit in found["hits"]] == [f"p{number % 8}"] * 3


@pytest.mark.slow
def test_a_full_line_is_answered_with_503_and_when_to_return(tmp_path):
    with process(tmp_path / "images", pause=1.5, waiting=4) as server:
        with concurrent.futures.ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(lambda number: ask(server, number % 8), range(24)))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503}
        for status, headers, found in answers:
            assert status == 200 or (int(headers["retry-after"]) > 0 and "busy" in found["error"])
        assert ask(server, 1)[0] == 200


def test_clients_that_go_away_leave_nothing_behind(running):
    before = files_below(running.scratch, running.scratch.parent)
    for _ in range(20):
        half_an_upload(running).close()
    assert ask(running, 1)[0] == 200
    assert files_below(running.scratch, running.scratch.parent) == before


def test_a_large_upload_is_refused_with_a_reason(running):
    answer = httpx.post(
        f"{running.address}/api/search", files={"image": b"\0" * (12 * 2**20)}, timeout=60, trust_env=False
    )
    assert answer.status_code == 413 and "10 MB" in answer.json()["error"]


@pytest.mark.slow
def test_a_client_that_leaves_the_line_is_not_searched_for(tmp_path):
    with process(tmp_path / "images", pause=2.5, waiting=2) as server:
        place = urlsplit(server.address)
        content = BODY + encoded(person(1)) + b"\r\n--b--\r\n"
        lines = []
        for _ in range(2):  # both places: one is being searched for, one waits
            lines.append(http.client.HTTPConnection(place.hostname, place.port))
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            lines[-1].request("POST", "/api/search", content, kind)
        assert ask(server, 1)[0] == 503
        for line in lines:
            line.close()
        patience = time.monotonic() + 30
        while ask(server, 1)[0] != 200:
            assert time.monotonic() < patience


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_of_an_upload(tmp_path, number):
    with process(tmp_path / "images") as server:
        before = files_below(tmp_path)
        with half_an_upload(server):
            time.sleep(0.2)
            server.send_signal(number)
            assert server.wait(60) == 0
        assert server.stdout.read() == "stopped\n"
        assert "Traceback" not in server.stderr.read()
        assert files_below(tmp_path) == before


@posix
def test_an_answer_under_way_is_finished_first(tmp_path):
    with process(tmp_path / "images", pause=0.5) as server:
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            answer = threads.submit(ask, server, 2)
            patience = time.monotonic() + 60
            while not (tmp_path / "begun").exists() and time.monotonic() < patience:
                time.sleep(0.01)
            server.send_signal(signal.SIGINT)
            assert answer.result(60)[0] == 200
        assert server.wait(60) == 0


# ---- the command


def test_beyond_this_machine_a_token_is_required():
    for host in ("0.0.0.0", "::"):
        try:
            serving_server.listen(host, 0).close()
        except UserError:
            continue  # no such family of addresses here
        with pytest.raises(UserError, match="token is required") as error:
            command.run(["model.pt", "--gallery", "g", "--host", host, "--port", "0"])
        assert "--token-file" in str(error.value) and "\n" not in str(error.value)


def test_what_is_loopback():
    for host, expected in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with serving_server.listen(host, 0) as listener:
            assert serving_server.is_loopback(listener) is expected


def test_a_taken_port_and_a_wrong_host_are_named():
    with serving_server.listen("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        with pytest.raises(UserError, match=f"port {port}"):
            command.run(["model.pt", "--gallery", "g", "--port", port])
    for port in ("-1", "65536", "99999"):
        with pytest.raises(UserError, match=f"port {port} is none: expected 0 to 65535"):
            command.run(["model.pt", "--gallery", "g", "--port", port])
    for host in ("no such host", "256.1.1.1"):
        with pytest.raises(UserError, match="--host"):
            command.run(["model.pt", "--gallery", "g", "--host", host])


def test_the_folder_of_images_must_exist(tmp_path):
    with pytest.raises(UserError, match="--images"):
        command.run(["model.pt", "--gallery", "g", "--images", str(tmp_path / "none")])


@pytest.mark.parametrize(
    "text", ["", "short\n", "\n" + "a" * 30, "umlaut ä in a long token", "tab\tin a long enough token"]
)
def test_a_token_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="16"):
        command.read_token(path)


def test_a_token_is_the_first_line(tmp_path):
    path = tmp_path / "token"
    path.write_text("  a secret of many words \nsecond line\n", encoding="utf-8")
    assert command.read_token(path) == "a secret of many words"
    path.write_bytes(b"\xff\xfe" * 20)
    for wrong in (path, tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            command.read_token(wrong)


def test_the_command_serves_a_gallery_in_a_folder(trained, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lancedb")
    from starlette.testclient import TestClient

    from crossreid.embedder import Embedder
    from crossreid.gallery import Entry, Gallery

    embedder = Embedder(trained / "last.pt")
    vectors = embedder([person(number) for number in range(3)])
    with Gallery.create(
        tmp_path / "gallery", dimension=vectors.shape[1], fingerprint=embedder.fingerprint
    ) as made:
        made.add([Entry(key=f"k{number}") for number in range(3)], vectors)

    def run(app, listener, ready):
        ready(serving_server.address_of(listener))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            files = {"image": encoded(person(1))}
            found = client.post("/api/search", files=files).json()
            assert found["hits"][0]["entry"]["key"] == "k1" and len(found["hits"]) == 3
            assert client.get("/api/info").json()["store"] == "lancedb"

    monkeypatch.setattr(serving_server, "run", run)
    command.run([str(trained / "last.pt"), "--gallery", str(tmp_path / "gallery"), "--port", "0"])
    assert "search page: http://127.0.0.1:" in capsys.readouterr().out
