"""The interface of the search page, without a network."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from serving import CAMERAS, FINGERPRINT, START, Colours, encoded, gallery, person
from starlette.testclient import TestClient

from crossreid.gallery import Entry, Filter, Gallery
from crossreid.gallery.store import NoAnswer
from crossreid.images.apart import Decoders
from crossreid.images.decode import content_key
from crossreid.records import UserError
from crossreid.serve import create_app, upload
from crossreid.serve.images import EntryImages


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def filled(root):
    return gallery(root, Colours())


def client_of(filled, root, embedder=None, **settings):
    return TestClient(
        create_app(filled, embedder or Colours(), images=root, **settings), base_url="http://127.0.0.1"
    )


@pytest.fixture(scope="module")
def client(filled, root):
    with client_of(filled, root) as client:
        yield client


def search(client, pixels=None, **fields):
    files = (
        None
        if pixels is None
        else {"image": ("a.png", pixels if isinstance(pixels, bytes) else encoded(pixels))}
    )
    return client.post("/api/search", data=fields, files=files or {"top": (None, str(fields.get("top", 20)))})


def test_an_image_finds_its_person(client):
    answer = search(client, person(3, 1), top=3)
    assert answer.status_code == 200
    found = answer.json()
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {hit["entry"]["identity"] for hit in found["hits"]} == {"p3"}
    assert found["hits"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert found["hits"] == sorted(found["hits"], key=lambda hit: hit["distance"])
    assert found["query"]["entry"] is None
    head, _, content = found["query"]["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (32, 64)


def test_distances_are_those_of_the_gallery(client, filled):
    vector = Colours()([person(5)])
    expected = filled.search(vector, top=24)[0]
    found = search(client, person(5), top=24).json()["hits"]
    assert [hit["entry"]["key"] for hit in found] == [hit.entry.key for hit in expected]
    assert [hit["distance"] for hit in found] == pytest.approx([hit.distance for hit in expected], abs=2e-6)


def test_searching_from_an_entry_leaves_it_out(client):
    key = content_key(person(2, 0))
    found = search(client, key=key, top=23).json()
    assert found["query"]["entry"]["key"] == key and found["query"]["image"] is None
    assert len(found["hits"]) == 23 and key not in {hit["entry"]["key"] for hit in found["hits"]}
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, 24))
    assert {hit["entry"]["identity"] for hit in found["hits"][:2]} == {"p2"}


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"camera": "1"}, 8),
        ({"camera": ["1", "north gate"]}, 16),
        ({"camera": "no such"}, 0),
        ({"modality": "infrared"}, 8),
        ({"since": str(START + 60), "until": str(START + 240)}, 3),
        ({"since": "2026-05-28T20:27:40Z", "until": "2026-05-28T22:30:40+02:00"}, 3),
        ({"since": "2030-01-01"}, 0),
        ({"camera": "2", "modality": "infrared"}, 0),
    ],
)
def test_filters_hold_for_searching_and_for_browsing(client, fields, count):
    hits = search(client, person(0), top=100, **fields).json()["hits"]
    entries = client.get("/api/entries", params={**fields, "count": 100}).json()["entries"]
    assert len(hits) == len(entries) == count
    assert {hit["entry"]["key"] for hit in hits} == {entry["key"] for entry in entries}


def test_browsing_goes_through_all_pages(client, filled):
    seen, start = [], 0
    while start is not None:
        page = client.get("/api/entries", params={"start": start, "count": 10}).json()
        seen += [entry["key"] for entry in page["entries"]]
        start = page["next"]
    assert seen == [entry.key for entry in filled.entries()] and len(seen) == 24
    assert client.get("/api/entries", params={"start": 99}).json() == {
        "start": 99,
        "entries": [],
        "next": None,
    }


def test_without_torch_re_ranking_is_not_offered(client, monkeypatch):
    assert client.get("/api/info").json()["rerank"] is True
    monkeypatch.setattr("crossreid.serve.app.find_spec", lambda name: None)
    assert client.get("/api/info").json()["rerank"] is False
    answer = search(client, person(1), rerank="1")
    assert answer.status_code == 400 and "Re-ranking needs torch" in answer.json()["error"]
    assert search(client, person(1)).status_code == 200


def test_entry_and_info(client):
    key = content_key(person(0, 2))
    assert client.get(f"/api/entries/{key}").json() == {
        "key": key,
        "name": "00/2.png",
        "modality": "infrared",
        "camera": "north gate",
        "time": "2026-05-28T20:28:40Z",
        "identity": "p0",
        "columns": {"place": "=1+1"},
    }
    info = client.get("/api/info").json()
    assert info["entries"] == 24 and info["cameras"] == list(CAMERAS) and info["read_only"] is True
    assert info["model"]["name"] == "colours" and info["model"]["modalities"] == []
    assert info["first"] == "2026-05-28T20:26:40Z" and info["limits"]["top"] == 500
    assert client.get("/api/entries/nothing").status_code == 404


def test_images_are_fresh_jpegs_with_a_tag(client):
    url = f"/api/entries/{content_key(person(1))}/image"
    small = client.get(url)
    assert small.headers["content-type"] == "image/jpeg" and "private" in small.headers["cache-control"]
    assert Image.open(io.BytesIO(small.content)).size == (32, 64)
    again = client.get(url, headers={"If-None-Match": small.headers["etag"]})
    assert again.status_code == 304 and not again.content
    full = client.get(url, params={"size": "full"})
    assert full.status_code == 200 and full.headers["etag"] != small.headers["etag"]
    assert client.get(url, params={"size": "huge"}).status_code == 400


def test_what_was_deleted_is_gone_at_once(tmp_path):
    filled = gallery(tmp_path, Colours(), people=2)
    with client_of(filled, tmp_path) as client:
        url = f"/api/entries/{content_key(person(1))}/image"
        tag = client.get(url).headers["etag"]
        filled.delete(Filter(identities=("p1",)))
        assert client.get(url, headers={"If-None-Match": tag}).status_code == 404
        assert search(client, key=content_key(person(1))).status_code == 404
        assert {hit["entry"]["identity"] for hit in search(client, person(1)).json()["hits"]} == {"p0"}


def test_the_modality_of_an_image_is_never_guessed(filled, root):
    embedder = Colours(modalities=("visible", "infrared"))
    with client_of(filled, root, embedder) as client:
        assert client.get("/api/info").json()["model"]["modalities"] == ["visible", "infrared"]
        assert "visible or infrared" in search(client, person(1)).json()["error"]
        assert search(client, person(1), query_modality="thermal").status_code == 400
        assert search(client, person(1), query_modality="infrared").status_code == 200
        assert embedder.asked == [["infrared"]]
        assert search(client, key=content_key(person(1, 2))).json()["query"]["modality"] == "infrared"


def test_an_empty_gallery_answers(tmp_path):
    with client_of(gallery(tmp_path, Colours(), people=0), tmp_path) as client:
        assert client.get("/api/info").json()["entries"] == 0
        assert client.get("/api/entries").json()["entries"] == []
        assert search(client, person(1)).json()["hits"] == []


def test_a_gallery_of_another_model_is_refused(filled, root):
    other = Colours()
    other.fingerprint = "d1" * 32
    with pytest.raises(UserError, match="model"):
        create_app(filled, other, images=root)


# ---- bad input


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"not an image", 422, "not a readable image"),
        (encoded(person(0))[:90], 422, "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not a readable image"),
        (b"", 400, "either an image or the key"),
    ],
)
def test_what_is_no_image_is_refused_in_words(client, content, status, words):
    answer = search(client, content)
    assert answer.status_code == status and words in answer.json()["error"]
    assert search(client, person(1)).status_code == 200


def test_unusual_images_are_understood(client):
    shown = Image.fromarray(person(4))
    turned = shown.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [shown, Image.fromarray(person(1))]
    kinds = {
        "rotated": ("PNG", turned, {"exif": exif}),
        "cmyk": ("TIFF", shown.convert("CMYK"), {}),
        "animated": ("GIF", frames[0], {"save_all": True, "append_images": frames[1:]}),
    }
    for name, (kind, image, settings) in kinds.items():
        file = io.BytesIO()
        image.save(file, format=kind, **settings)
        found = search(client, file.getvalue(), top=1).json()
        assert found["hits"][0]["entry"]["identity"] == "p4", name


def test_too_many_pixels_are_refused_before_decoding(filled, root):
    with client_of(filled, root, limit_pixels=10_000) as client:
        answer = search(client, encoded(np.zeros((200, 100, 3), np.uint8)))
        assert answer.status_code == 422 and "pixels" in answer.json()["error"]


def test_too_many_bytes_are_refused(filled, root):
    with client_of(filled, root, limit_bytes=2**20) as client:
        for size in (2**20 + 1, 3 * 2**20):
            answer = search(client, b"\xff" * size)
            assert answer.status_code == 413 and "1 MB" in answer.json()["error"]
        chunks = (b"x" * 2**16 for _ in range(40))  # without a length in the header
        answer = client.post(
            "/api/search", content=chunks, headers={"content-type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top": "0"}, "number of results"),
        ({"top": "501"}, "number of results"),
        ({"top": "many"}, "number of results"),
        ({"since": "yesterday"}, "not understood"),
        ({"since": "nan"}, "not understood"),
        ({"until": "2027"}, "write 2027-01-01"),
        ({"since": "200", "until": "100"}, "empty"),
        ({"modality": "thermal"}, "modality"),
        ({"camera": "a\0b", "top": "3"}, ""),
        ({"colour": "red"}, "Unknown field"),
        ({"key": "x" * 500}, "either an image or the key"),
    ],
)
def test_wrong_fields_are_refused_in_words(client, fields, words):
    answer = search(client, person(1), **fields)
    assert 400 <= answer.status_code < 500 or not words
    assert words in answer.json().get("error", "")


@pytest.mark.parametrize(
    "kind", ["application/json", "", "multipart/form-data", "multipart/form-data; boundary=", "text/plain"]
)
def test_what_is_no_form_is_refused(client, kind):
    answer = client.post("/api/search", content=b'{"key": 1}', headers={"content-type": kind})
    assert answer.status_code in (400, 415) and answer.json()["error"]


def test_too_many_fields_are_refused(client):
    files = [("camera", (None, str(number))) for number in range(upload.FIELDS + 1)]
    assert client.post("/api/search", files=files).status_code == 400
    assert (
        client.post("/api/search", files=[("image", ("a", b"1")), ("image", ("b", b"2"))]).status_code == 400
    )


def test_errors_tell_nothing_of_the_machine(filled, root, tmp_path, capsys):
    class Broken(Colours):
        def __call__(self, images, modality=None):
            raise RuntimeError(f"no space left on {tmp_path}")

    class BrokenGallery:
        def __getattr__(self, name):
            return getattr(filled, name)

        def entries(self, *given):
            raise OSError(f"cannot read {tmp_path}")

        def info(self):
            raise UserError(f"the gallery {tmp_path} is locked")

    app = create_app(BrokenGallery(), Broken(), images=root)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answers = [search(client, person(1)), client.get("/api/entries"), client.get("/api/info")]
    for answer in answers:
        assert answer.status_code == 500 and set(answer.json()) == {"error"}
        assert str(tmp_path) not in answer.text and "Traceback" not in answer.text
    assert "no space left" in capsys.readouterr().err  # the operator is told


def test_unknown_addresses_and_methods(client):
    assert client.get("/../etc/passwd").status_code == 404
    assert client.get("/page.py").json()["error"]
    for method in ("post", "put", "delete", "patch"):
        assert getattr(client, method)("/api/entries").status_code == 405
    assert client.delete(f"/api/entries/{content_key(person(1))}").status_code == 405


# ---- files stay below their folder


@pytest.mark.parametrize(
    "path", ["../secret.png", "a/../../secret.png", "/secret.png", "%2e%2e/secret.png", "..", ""]
)
def test_paths_cannot_leave_the_folder(tmp_path, path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(encoded(person(0)))
    path = str(tmp_path / "secret.png") if path.startswith("/") else path
    filled = Gallery.create(None, dimension=24, fingerprint=Colours.fingerprint)
    filled.add([Entry(key="ab", path=path)], Colours()([person(0)]))
    with client_of(filled, root) as client:
        for size in ("thumbnail", "full"):
            assert client.get("/api/entries/ab/image", params={"size": size}).status_code == 404
        name = client.get("/api/entries/ab").json()["name"]
        assert str(tmp_path) not in name and ".." not in name.split("/")[:-1]


def test_links_are_followed_before_the_folder_is_compared(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded(person(0)))
    (root / "own.png").write_bytes(encoded(person(1)))
    (root / "folder").symlink_to(outside)
    (root / "file.png").symlink_to(outside / "secret.png")
    (root / "alias.png").symlink_to(root / "own.png")
    (root / "round").symlink_to(root / "round")
    shown = EntryImages(Gallery.create(None, dimension=24, fingerprint="x"), root, Decoders(1), 10**6)
    assert shown.locate("own.png") == shown.locate("alias.png") == shown.locate(str(root / "own.png"))
    assert shown.locate("own.png") is not None
    for path in ("folder/secret.png", "file.png", "round", "folder", ".", "a\0b", "own.png/x", "x" * 5000):
        assert shown.locate(path) is None, path


def test_without_a_folder_only_the_kept_copies_are_shown(filled):
    with client_of(filled, None) as client:
        url = f"/api/entries/{content_key(person(1))}/image"
        assert client.get(url).status_code == client.get(url, params={"size": "full"}).status_code == 200


# ---- the page and its description


def test_the_page_contacts_nobody_else(client):
    for path in ("/", "/page.css", "/page.js", "/lists.js", "/marker.js", "/path.js", "/icon.svg", "/api"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "@import" not in text, path
    assert "check every result by eye" in client.get("/").text.replace("\n", " ")
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404


def test_the_interface_is_described(client):
    described = client.get("/api/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/info",
        "/api/entries",
        "/api/entries/{key}",
        "/api/entries/{key}/image",
        "/api/search",
    }
    body = described["paths"]["/api/search"]["post"]["requestBody"]["content"]["multipart/form-data"]
    page = client.get("/api").text
    assert all(name in page for name in body["schema"]["properties"])


POINTS = [
    {
        "subset": "all",
        "modalities": ["visible", "both"],
        "genuine": {"pairs": 10, "distance": [0.0, 1.0], "share": [0.0, 1.0]},
        "impostor": {"pairs": 100, "distance": [0.5, 2.0], "share": [0.0, 1.0]},
        "curve": {"false_positive": [0.01], "threshold": [0.5], "true_positive": [0.5]},
    }
]


def test_a_box_other_cameras_columns_and_what_a_distance_is_worth(filled, root, monkeypatch):
    monkeypatch.setattr("crossreid.serve.app.operating_points", lambda embedder: POINTS)
    with client_of(filled, root) as client:
        wide = np.full((64, 96, 3), 90, np.uint8)
        wide[:, 40:72] = person(3)
        found = search(client, wide, box="40,0,72,64").json()["hits"]
        assert [hit["entry"]["identity"] for hit in found[:2]] == ["p3", "p3"]
        assert found[0]["worth"] == {"of_one_person": pytest.approx(0, abs=0.01), "of_two_people": 0.0}
        last = search(client, wide, box="40,0,72,64", top=50).json()["hits"][-1]
        assert last["distance"] > 0.5 and last["worth"]["of_two_people"] > 0
        for box, words in (("1,2,3", "four numbers"), ("9,0,3,9", "is empty"), ("1,2,x,4", "four numbers")):
            answer = search(client, wide, box=box)
            assert answer.status_code == 400 and words in answer.json()["error"]
        assert "outside of the frame" in search(client, wide, box="400,0,500,60").json()["error"]

        key = next(entry for entry in filled.entries() if entry.camera == "1").key
        others = search(client, key=key, other_cameras="1", top=50).json()["hits"]
        assert {hit["entry"]["camera"] for hit in others} == {"2", "north gate"}
        one = search(client, key=key, other_cameras="1", camera=["1", "2"], top=50).json()["hits"]
        assert {hit["entry"]["camera"] for hit in one} == {"2"}
        assert search(client, person(1), other_cameras="1").status_code == 400
        with monkeypatch.context() as patched:  # what the gallery holds is kept for a while
            patched.setattr(filled, "info", None)
            assert search(client, key=key, other_cameras="1").status_code == 200
        columns = search(client, person(1), column="place==1+1", top=50).json()["hits"]
        assert {hit["entry"]["identity"] for hit in columns} == {"p0"}
        assert search(client, person(1), column="place").status_code == 400
        asked, plain = [], filled.search
        monkeypatch.setattr(
            filled, "search", lambda *given, rerank, **how: asked.append(rerank) or plain(*given, **how)
        )
        assert len(search(client, person(1), rerank="1", top=5).json()["hits"]) == 5
        assert len(search(client, key=key, top=5).json()["hits"]) == 5 and asked == [True, False]
        for text, meant in (("true", True), ("false", False), ("0", False), ("", False)):
            both = {"rerank": text, "other_cameras": text}
            others = search(client, key=key, top=50, **both).json()["hits"]
            assert asked.pop() is meant and ("1" in {hit["entry"]["camera"] for hit in others}) is not meant
        for name in ("rerank", "other_cameras"):
            answer = search(client, key=key, **{name: "maybe"})
            assert answer.status_code == 400 and f"{name} must be true or false" in answer.json()["error"]
        listed = client.get("/api/entries", params={"identity": "p2"}).json()["entries"]
        assert [entry["camera"] for entry in listed] == ["1", "2", "north gate"]
        assert client.get("/api/entries", params={"column": "place==1+1"}).json()["entries"]
    with client_of(filled, root) as client:
        monkeypatch.undo()
        assert client.get("/api/info").json()["columns"] == ["place"]


def test_a_column_of_numbers_is_chosen_by_a_text(root):
    numbered = Gallery.create(None, dimension=24, fingerprint=FINGERPRINT)
    pictures = [person(number) for number in range(3)]
    numbered.add(
        [Entry(f"key {number}", columns={"frames": 10 * number, "start": 0.5}) for number in range(3)],
        Colours()(pictures),
    )
    with client_of(numbered, root) as client:
        for column, expected in (("frames=10", ["key 1"]), ("frames=10.0", ["key 1"]), ("frames=1", [])):
            listed = client.get("/api/entries", params={"column": column}).json()["entries"]
            assert [entry["key"] for entry in listed] == expected
            hits = search(client, pictures[0], column=column).json()["hits"]
            assert [hit["entry"]["key"] for hit in hits] == expected
        assert len(search(client, pictures[0], column="start=0.5").json()["hits"]) == 3


def test_without_an_evaluation_a_distance_is_worth_nothing(client):
    assert search(client, person(1)).json()["hits"][0]["worth"] is None


def test_a_gallery_that_does_not_answer_is_said_and_answers_again(root, monkeypatch, capsys):
    filled = gallery(root, Colours())
    key = filled.entries(count=1)[0].key
    asked = {
        "an image": lambda client: search(client, person(3, 1)),
        "an entry": lambda client: search(client, key=key),
        "info": lambda client: client.get("/api/info"),
        "entries": lambda client: client.get("/api/entries"),
        "one": lambda client: client.get(f"/api/entries/{key}"),
        "its image": lambda client: client.get(f"/api/entries/{key}/image"),
    }

    def dead(*given):
        raise NoAnswer("Milvus at http://10.0.0.7:19530 does not answer")

    with client_of(filled, root) as client:
        with monkeypatch.context() as patched:
            for name in ("nearest", "select", "vectors", "image", "summary"):
                patched.setattr(filled._store, name, dead)
            for name, ask in asked.items():
                answer = ask(client)
                assert answer.status_code == 503 and answer.headers["Retry-After"], name
                assert answer.json()["error"].startswith("The gallery does not answer"), name
                assert "10.0.0.7" not in answer.text and "10.0.0.7" in capsys.readouterr().err, name
        assert [ask(client).status_code for ask in asked.values()] == [200] * len(asked)
