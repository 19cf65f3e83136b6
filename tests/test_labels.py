"""One rule for identities, cameras, modalities and junk, however an image comes in."""

import re
import warnings
from pathlib import Path

import pytest

from crossreid.images import labels
from crossreid.records import Image, UserError


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("7", 7), ("007", 7), ("7.0", 7), ("7.", 7), ("-1", -1), ("-1.0", -1), ("0", 0),
        ("", None), ("7.5", None), ("1e3", None), ("1_2", None), ("a", None), (" 7", None), ("٧", None),
        ("9" * 19, None),
    ],
)  # fmt: skip
def test_what_is_a_whole_number(given, expected):
    assert labels.whole_number(given) == expected


def test_numbers_keep_theirs_and_names_are_numbered(silent):
    assert labels.numbers(["12", "007", "-1"]) == {"12": 12, "007": 7, "-1": -1}
    assert labels.numbers(["bert", "anna", "7"]) == {"7": 1, "anna": 2, "bert": 3}
    assert labels.numbers([]) == {}


@pytest.mark.parametrize("others", [(), ("anna",)])
def test_labels_that_meet_are_one_and_a_warning_names_them(others):
    with pytest.warns(UserWarning, match="'007' and '7' and '7.0'"):
        found = labels.numbers(["7", "007", "7.0", "8", *others])
    assert found["7"] == found["007"] == found["7.0"] != found["8"]
    with pytest.warns(UserWarning, match="table: identities .* '1' and '1.0'"):
        one, other = labels.numbered(
            [Image(Path("a"), extra={"identity": text, "camera": "door"}) for text in ("1", "1.0")], "table"
        )
    assert one.identity == other.identity == 1 and one.extra["identity"] == other.extra["identity"] == "1"
    assert one.camera == 1 and one.extra["camera"] == "door"


def test_junk_is_left_out_and_counted():
    images = [Image(Path(name), extra={"identity": name}) for name in ("-1", "2", "-01", "-1.0", "anna")]
    images.append(Image(Path("number"), identity=-1))
    with pytest.warns(UserWarning, match="here: 4 of 6 images have the identity -1"):
        kept = labels.without_junk(images, "here")
    assert [image.path.name for image in kept] == ["2", "anna"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert labels.without_junk(images, "here", keep=True) == images
        assert labels.not_junk([None, "a", 0], "here") == [0, 1, 2]


def test_words_for_modalities():
    assert [labels.modality(word, "") for word in ("rgb", "VIS", " visible", "v")] == ["visible"] * 4
    assert [labels.modality(word, "") for word in ("ir", "NIR", "thermal", "t")] == ["infrared"] * 4
    with pytest.raises(UserError, match="line 3: modality 'warm' is not known, expected visible or infrared"):
        labels.modality("warm", "line 3")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (None, "0002_c1s1_000451_03.jpg", ("0002", "1")),
        (None, "0009_c12_0003.jpg", ("0009", "12")),
        (None, "-1_c1s1_000401_03.jpg", ("-1", "1")),
        (None, "deep/0002_c1.jpg", ("0002", "1")),
        (r"(?P<identity>\d{4})(?P<camera>\d{3})", "0002013.jpg", ("0002", "013")),
        (r"(?P<identity>\d{4})(\d{3})", "0002013.jpg", ("0002", None)),
        (r"(?P<camera>[^/]+)/(?P<identity>[^/]+)/", "door 2/anna-1/3.jpg", ("anna-1", "door 2")),
        (r"p(?P<identity>\d+)", "2024-p7_1.jpg", ("7", None)),
        (r"-(?P<identity>\d+)", "person-12.jpg", ("12", None)),
        (r"(?P<identity>[a-z]+)\d", "anna12.jpg", ("anna", None)),
    ],
)
def test_names(pattern, name, expected):
    found = labels.named(labels.compiled_pattern(pattern), name, "folder")
    assert (found["identity"], found.get("camera")) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "words"),
    [
        (r"(?P<identity>\d+)_c(?P<camera>\d)", "0009_c12_3.jpg", "takes '1' for the camera .* ends inside"),
        (
            r"(?P<identity>\d+)_c(?P<camera>\d+)",
            "-1_c1s1_3.jpg",
            "takes '1' for the identity .* begins inside",
        ),
        (r"(?P<identity>\d+)_c(?P<camera>\d+)", "a/-1_c1s1_3.jpg", "begins inside"),
        (r".*(?P<identity>\d+)_c", "0009_c12_3.jpg", "takes '9' .* begins inside"),
        (r"(?P<identity>\d{3})", "0009_c1.jpg", "takes '000' .* ends inside"),
        (r"(?P<identity>\d{3})\d", "0009_c1.jpg", "ends inside"),
        (r"(?P<identity>x)", "0009.jpg", "finds no identity in 0009.jpg"),
        (None, "anna.jpg", "does not say whom the image shows"),
    ],
)
def test_names_that_say_nothing_or_only_a_part(pattern, name, words):
    with pytest.raises(UserError, match=words) as error:
        labels.named(labels.compiled_pattern(pattern), name, "folder")
    assert "\n" not in str(error.value)


@pytest.mark.documents
def test_documents_show_patterns_that_take_whole_numbers():
    """No page teaches a pattern that would cut a number short or lose the sign of junk."""
    root = Path(__file__).parent.parent
    pages = [*root.glob("docs/**/*.md"), root / "README.md", *root.glob("crossreid/commands/*.py")]
    shown = re.compile(r"\(\?P<(identity|camera)>\\{1,2}d(?![+{])|\(\?P<identity>\\{1,2}d\+\)_c")
    found = [f"{page.name}: {hit[0]}" for page in pages for hit in shown.finditer(page.read_text("utf-8"))]
    assert not found
