"""Who may ask: host names, origins, tokens, headers."""

import pytest
from serving import Colours, gallery, person
from starlette.testclient import TestClient

from crossreid.images.decode import content_key
from crossreid.serve import create_app
from crossreid.serve.guard import COOKIE, SESSIONS, Sessions

TOKEN = "correct horse battery"
KEY = content_key(person(0))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return gallery(tmp_path_factory.mktemp("images"), Colours(), people=2)


def client_of(filled, base="http://127.0.0.1:8000", **settings):
    return TestClient(create_app(filled, Colours(), **settings), base_url=base, follow_redirects=False)


def test_every_answer_has_the_headers(filled):
    with client_of(filled) as client:
        for answer in (
            client.get("/"),
            client.get("/nothing"),
            client.post("/api/search"),
            client.get("/api/info"),
        ):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["cache-control"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "127.9.9.9", "gate.example"]
)
def test_known_names(filled, host):
    with client_of(filled, names=["gate.example"]) as client:
        assert client.get("/api/info", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "192.168.1.5:8000", "127.0.0.1.evil.example", "", "[", "a b"],
)
def test_a_rebound_name_is_refused(filled, host):
    with client_of(filled) as client:
        answer = client.get("/api/info", headers={"host": host})
        assert answer.status_code == 421 and "entries" not in answer.text


def test_numeric_addresses_serve_where_others_may_reach(filled):
    with client_of(filled, loopback=False, token=TOKEN) as client:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/info", headers={"host": "192.168.1.5:8000", **bearer}).status_code == 200
        assert client.get("/api/info", headers={"host": "evil.example", **bearer}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8000"}, True),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, False),
    ],
)
def test_other_sites_cannot_send_forms(filled, headers, allowed):
    with client_of(filled) as client:
        answer = client.post("/api/search", data={"key": KEY}, headers=headers)
        assert answer.status_code == (200 if allowed else 403)
        assert client.get("/api/info", headers=headers).status_code == (200 if allowed else 403)


def test_a_link_from_elsewhere_opens_the_page_only(filled):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    with client_of(filled) as client:
        assert client.get("/", headers=headers).status_code == 200
        assert client.get(f"/api/entries/{KEY}/image", headers=headers).status_code == 403
        assert client.get("/", headers={**headers, "sec-fetch-mode": "no-cors"}).status_code == 403


def test_without_the_token_nothing_is_shown(filled):
    with client_of(filled, token=TOKEN) as client:
        for path in (
            "/api/info",
            "/api/entries",
            f"/api/entries/{KEY}/image",
            "/api/openapi.json",
            "/api",
            "/page.js",
            "/no",
        ):
            answer = client.get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
        assert client.post("/api/search", data={"key": KEY}).status_code == 401
        assert client.get(f"/api/info?token={TOKEN}").status_code == 401
        assert client.get("/").headers["location"] == "/login"
        assert "token" in client.get("/login").text and client.get("/page.css").status_code == 200


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
def test_the_header_opens(filled, value):
    with client_of(filled, token=TOKEN) as client:
        assert client.get("/api/info", headers={"authorization": value}).json()["token"] is True


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer \xe9"],
)
def test_a_wrong_header_does_not(filled, value):
    with client_of(filled, token=TOKEN) as client:
        assert client.get("/api/info", headers={"authorization": value.encode("latin-1")}).status_code == 401


def test_login_and_logout(filled):
    with client_of(filled, token=TOKEN) as client:
        wrong = client.post("/login", data={"token": "wrong"})
        assert (
            wrong.status_code == 401 and "not the token" in wrong.text and "set-cookie" not in wrong.headers
        )
        right = client.post("/login", data={"token": TOKEN}, headers={"origin": "http://127.0.0.1:8000"})
        assert right.status_code == 303 and right.headers["location"] == "/"
        cookie = right.headers["set-cookie"]
        assert (
            "HttpOnly" in cookie
            and "SameSite=strict" in cookie
            and TOKEN not in cookie
            and "Secure" not in cookie
        )
        assert client.get("/").status_code == client.get("/api/info").status_code == 200
        kept = client.cookies[COOKIE]
        assert client.post("/logout").headers["location"] == "/login"
        client.cookies.set(COOKIE, kept)
        assert client.get("/api/info").status_code == 401


@pytest.mark.parametrize("other", ['a={"x": 1}', "a b=c", "flag", 'a="unclosed'])
def test_cookies_of_other_programs_do_not_end_a_login(filled, other):
    with client_of(filled, token=TOKEN) as client:
        secret = Sessions(TOKEN).begin()
        assert client.get("/api/info", headers={"cookie": f"{other}; {COOKIE}={secret}"}).status_code == 401
        client.post("/login", data={"token": TOKEN})
        secret = client.cookies[COOKIE]
        client.cookies.clear()
        for cookie in (f"{other}; {COOKIE}={secret}", f"{COOKIE}={secret}; {other}"):
            assert client.get("/api/info", headers={"cookie": cookie}).status_code == 200


def test_behind_tls_the_cookie_stays_there(filled):
    with client_of(filled, token=TOKEN, names=["gate.example"]) as client:
        headers = {"host": "gate.example", "origin": "https://gate.example"}
        assert "Secure" in client.post("/login", data={"token": TOKEN}, headers=headers).headers["set-cookie"]


def test_a_login_from_another_site_is_refused(filled):
    with client_of(filled, token=TOKEN) as client:
        assert (
            client.post(
                "/login", data={"token": TOKEN}, headers={"origin": "http://evil.example"}
            ).status_code
            == 403
        )


def test_sessions_end(monkeypatch):
    from crossreid.serve import guard

    clock = [0.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: clock[0])
    sessions = Sessions(TOKEN)
    first = sessions.begin()
    assert sessions.valid(first) and not sessions.valid("") and not sessions.valid(first + "x")
    clock[0] = guard.SESSION_SECONDS
    assert not sessions.valid(first)
    clock[0] = 0.0
    others = [sessions.begin() for _ in range(SESSIONS)]
    assert not sessions.valid(first) and sessions.valid(others[0]) and sessions.valid(others[-1])


def test_no_token_no_login_form(filled):
    with client_of(filled) as client:
        assert client.get("/login").headers["location"] == client.post("/login").headers["location"] == "/"
