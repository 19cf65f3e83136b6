"""Finding data sets on disk, listing images, splitting by identity."""

import os

import pytest

from crossreid import data
from crossreid.__main__ import main
from crossreid.data import source, splitting
from crossreid.data.source import Counts, Source, find_root
from crossreid.images.listing import folder_names, image_names
from crossreid.records import Image, UserError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def paragraph(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) > 40
    return text


def test_images_are_listed_by_name_without_strays(tmp_path):
    for name in ("b.jpg", "a10.JPG", "a9.png", "Thumbs.db", ".hidden.jpg", "._a9.png", "notes.txt", "c.bmp"):
        touch(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    assert image_names(tmp_path) == ["a10.JPG", "a9.png", "b.jpg", "c.bmp"]


def test_links_are_followed_and_a_broken_one_is_named(tmp_path):
    target = touch(tmp_path / "elsewhere" / "1.jpg")
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "1.jpg").symlink_to(target)
    (tmp_path / "again").symlink_to(folder, target_is_directory=True)
    assert image_names(tmp_path / "again") == ["1.jpg"]
    assert folder_names(tmp_path) == ["again", "elsewhere", "linked"]
    (folder / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(UserError) as error:
        image_names(folder)
    assert "2.jpg" in paragraph(error) and "gone.jpg" in str(error.value)


@pytest.mark.parametrize(
    ("exception", "words"),
    [
        (PermissionError, "permission"),
        (NotADirectoryError, "a file where a folder"),
        (FileNotFoundError, "not exist"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_paragraph(tmp_path, monkeypatch, exception, words):
    def refuse(path):
        raise exception(13, "refused")

    monkeypatch.setattr(os, "scandir", refuse)
    for function in (image_names, folder_names):
        with pytest.raises(UserError, match=words):
            function(tmp_path)


def test_unreadable_folder_on_disk(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may read everything")
    tmp_path.chmod(0)
    try:
        with pytest.raises(UserError, match="permission"):
            find_root(tmp_path, ("a",))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["data", "my data", "données été", "数据"])
def test_root_is_found_itself_or_one_level_down(tmp_path, name):
    root = tmp_path / name
    touch(root / "Data Set" / "cam1" / "1.jpg")
    (root / "Data Set" / "cam2").mkdir()
    (root / "__MACOSX").mkdir()
    assert find_root(root, ("cam1", "cam2")) == root / "Data Set"
    assert find_root(root / "Data Set", ("cam1", "cam2")) == root / "Data Set"
    assert find_root(str(root / "Data Set"), ("cam1/1.jpg",)) == root / "Data Set"


def test_what_was_looked_for_and_found_is_said(tmp_path):
    with pytest.raises(UserError) as error:
        find_root(tmp_path, ("cam1", "cam2"), "Some Set")
    assert "an empty folder" in paragraph(error)
    (tmp_path / "Cam1").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError) as error:
        find_root(tmp_path, ("cam1", "cam2"), "Some Set")
    text = paragraph(error)
    for words in ("Some Set", "looked for cam1, cam2", "found Cam1, other", "case of letters", str(tmp_path)):
        assert words in text
    with pytest.raises(UserError) as error:
        find_root(tmp_path / "absent", ("cam1",), "Some Set")
    assert "does not exist" in paragraph(error) and "Cam1, other" in str(error.value)
    with pytest.raises(UserError, match="a file where a folder"):
        find_root(touch(tmp_path / "archive.zip"), ("cam1",))


def make(identities, each=4, cameras=2, domain=0):
    return [
        Image(f"{domain}/{identity}/{number}", identity, 1 + number % cameras, domain=domain)
        for identity in identities
        for number in range(each)
    ]


def test_hold_out_divides_by_identity_and_repeats_itself():
    images = make(range(10)) + make(range(5, 25), domain=1)
    kept, held = splitting.hold_out(images, 0.2, seed=3)

    def key(image):
        return image.domain, image.identity

    assert not set(map(key, kept)) & set(map(key, held))
    assert sorted(kept + held, key=lambda image: image.path) == sorted(images, key=lambda image: image.path)
    assert len({key(image) for image in held if image.domain == 0}) == 2
    assert len({key(image) for image in held if image.domain == 1}) == 4
    assert [image for image in images if image in set(held)] == held
    reversed_kept, reversed_held = splitting.hold_out(images[::-1], 0.2, seed=3)
    assert set(reversed_held) == set(held) and set(reversed_kept) == set(kept)
    assert set(splitting.hold_out(images, 0.2, seed=4)[1]) != set(held)


def test_hold_out_never_takes_all_or_none():
    assert {image.identity for image in splitting.hold_out(make([1, 2]), 0.99)[0]} != set()
    assert len({image.identity for image in splitting.hold_out(make(range(9)), 0.01)[1]}) == 1
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(UserError, match="above 0 and below 1"):
            splitting.hold_out(make([1, 2]), share)
    with pytest.raises(UserError, match="at least two"):
        splitting.hold_out(make([1]), 0.5)


def test_query_and_gallery():
    images = [
        Image("a1", 1, 1), Image("a2", 1, 1), Image("a3", 1, 2), Image("a4", 1, 2),  # two cameras
        Image("b1", 2, 1), Image("b2", 2, 2), Image("b3", 2, 3),  # one image in each camera
        Image("c1", 3, 1),  # alone
        Image("d1", 4, 1), Image("d2", 4, 1),  # one camera
    ]  # fmt: skip
    query, gallery = splitting.query_and_gallery(images)
    assert [image.path for image in query] == ["a1", "a3", "b1", "d1"]
    assert [image.path for image in gallery] == ["a2", "a4", "b2", "b3", "c1", "d2"]


def toy(read, **fields):
    texts = dict.fromkeys(("paper", "obtain", "licence", "caveats", "layout"), "")
    fields |= {"name": "toy", "title": "Toy", "folder": "Toy-1.0", "protocol": "single_query"}
    return Source(read=read, **texts, **fields)


def test_check_compares_the_counts(tmp_path, monkeypatch):
    images = make(range(3))
    expected = {"train": Counts(3, 12, 2), "query": Counts(2, 4, exact=False), "gallery": Counts(3, 12, 3)}
    splits = {"train": images, "query": images, "gallery": images}
    monkeypatch.setitem(data.SOURCES, "toy", toy(lambda root: splits, expected=expected))
    findings = data.check("toy", tmp_path)
    assert [finding.severity for finding in findings] == ["warning", "warning", "error"]
    assert findings[0].text == "query: 3 identities found, 2 expected."
    assert findings[2].text == "gallery: 2 cameras found, 3 expected."

    def fail(root):
        raise UserError("all is lost")

    monkeypatch.setitem(data.SOURCES, "toy", toy(fail))
    assert data.check("toy", tmp_path) == [source.Finding("error", "all is lost")]
    monkeypatch.setitem(data.SOURCES, "toy", toy(lambda root: splits, check=fail))
    assert data.check("toy", tmp_path) == [source.Finding("error", "all is lost")]


def test_a_failed_check_speaks_of_counts_only_where_there_are_some(tmp_path, market, capsys):
    (tmp_path / "train").mkdir()
    for name, root, counted in (
        ("market1501", tmp_path / "none", False),
        ("folder", tmp_path / "none", False),
        ("folder", tmp_path, False),
        ("market1501", market, True),
    ):
        assert main(["data", "check", name, str(root)]) == 2
        said = capsys.readouterr()
        assert said.out.startswith("error: ") and "see above." in said.err
        assert ("A synthetic copy never has the counts" in said.err) is counted, said.err


def test_read_knows_its_settings_and_holds_out(monkeypatch, tmp_path):
    def read(root, *, distractors: bool = False):
        return {"train": make(range(10)), "query": [], "gallery": []}

    monkeypatch.setitem(data.SOURCES, "toy", toy(read, settings=("distractors",)))
    assert set(data.read("toy", tmp_path)) == {"train", "query", "gallery"}
    splits = data.read("toy", tmp_path, held_out=0.3)
    assert len({image.identity for image in splits["validation"]}) == 3
    assert len({image.identity for image in splits["train"]}) == 7
    with pytest.raises(UserError, match="did you mean 'distractors'"):
        data.read("toy", tmp_path, distractor=True)
    with pytest.raises(UserError, match="did you mean 'market1501'"):
        data.read("market", tmp_path)


def test_locate(tmp_path, monkeypatch):
    monkeypatch.setitem(data.SOURCES, "toy", toy(lambda root: {}))
    monkeypatch.delenv("CROSSREID_DATA", raising=False)
    with pytest.raises(UserError) as error:
        data.locate("toy")
    assert "data.roots.toy" in paragraph(error) and "CROSSREID_DATA" in str(error.value)
    monkeypatch.setenv("CROSSREID_DATA", str(tmp_path))
    with pytest.raises(UserError) as error:
        data.locate("toy", {"other": "/x"})
    assert "data.roots.toy" in paragraph(error) and str(tmp_path / "Toy-1.0") in str(error.value)
    (tmp_path / "toy").mkdir()
    assert data.locate("toy") == tmp_path / "toy"
    (tmp_path / "Toy-1.0").mkdir()
    with pytest.raises(UserError, match="is not guessed"):
        data.locate("toy")
    (tmp_path / "toy").rmdir()
    assert data.locate("toy") == tmp_path / "Toy-1.0"
    (tmp_path / "mine").mkdir()
    assert data.locate("toy", {"toy": str(tmp_path / "mine")}) == tmp_path / "mine"
    with pytest.raises(UserError, match=r"data\.roots\.toy, does not exist"):
        data.locate("toy", {"toy": str(tmp_path / "absent")})
