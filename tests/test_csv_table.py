"""Own images in a table."""

import pytest
from PIL import Image as PILImage

from crossreid import data
from crossreid.records import Image, UserError

HEADER = "path,identity,camera"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "Meine Bilder é"
    (root / "a b").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "3.png", "a b/4.jpg"):
        (root / name).write_bytes(b"x")
    return root


def write(root, text, encoding="utf-8", name="people.csv"):
    file = root / name
    file.write_bytes(text.encode(encoding))
    return file


def test_all_columns(root):
    text = (
        "identity,Camera,path,modality,split,time\n"
        "7,2,1.jpg,rgb,train,\n"
        "9,1,2.jpg,ir,query,1.5\n"
        "\n"
        '9,3,"a b/4.jpg",,gallery,2\n'
    )
    file = write(root, text)
    expected = {
        "train": [Image(root / "1.jpg", 7, 2)],
        "query": [Image(root / "2.jpg", 9, 1, "infrared", time=1.5)],
        "gallery": [Image(root / "a b" / "4.jpg", 9, 3, time=2.0)],
    }
    assert data.read("csv", file) == expected
    assert data.read("csv", root) == expected


def test_windows_files(root):
    text = "path;identity;camera\r\n1.jpg;anna;door\r\na b\\4.jpg;bert;yard\r\n"
    images = data.read("csv", write(root, text, "utf-8-sig"), train_share=1)["train"]
    assert images == [Image(root / "1.jpg", 1, 1), Image(root / "a b" / "4.jpg", 2, 2)]


def test_without_splits(root):
    write(root, f"{HEADER}\n1.jpg,a,1\n2.jpg,a,1\n3.png,b,1\na b/4.jpg,b,2\n")
    splits = data.read("csv", root)
    assert len({image.identity for image in splits["train"]}) == 1
    tested = {image.identity for image in splits["query"]}
    assert tested and not tested & {image.identity for image in splits["train"]}
    assert data.read("csv", root) == splits
    splits = data.read("csv", root, train_share=0)
    assert [image.path.name for image in splits["query"]] == ["1.jpg", "3.png"]
    assert [image.path.name for image in splits["gallery"]] == ["2.jpg", "4.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"line 1: the columns are \(none\) .missing path, identity, camera"),
        ("1.jpg,7,2\n", r"line 1.*missing path, identity, camera"),
        ("path,pid,camera\n1.jpg,7,2\n", r"line 1: the columns are path, pid, camera .missing identity"),
        ("path,path,identity,camera\n", "twice path"),
        (f"{HEADER}\n", "lists no images"),
        (f"{HEADER}\n1.jpg,7,1\n2.jpg,7\n", "line 3: 2 fields, but 3 columns"),
        (f"{HEADER}\n1.jpg,7,1\n\n5.jpg,7,1\n", r"line 4: there is no image .*5\.jpg; paths are"),
        (
            f"{HEADER}\n5.jpg,7,1\n1.jpg,7,1\n6.jpg,7,1\n8.jpg,7,1\n",
            r"line 2: there is no image .*5\.jpg, nor are 2 others of the 4 listed; paths are",
        ),
        (f"{','.join('x' * 50 for _ in range(99))}\n", "x{40}, x{40} and 87 more .missing path"),
        (f"{HEADER}\n1.jpg,7,1\n./1.jpg,8,1\n", "line 3: .*listed on line 2 already"),
        (f"{HEADER}\n1.jpg,,1\n", "line 2: no identity"),
        (f"{HEADER}\n1.jpg,7,\n", "line 2: no camera"),
        (f"{HEADER}\npeople.csv,7,1\n", "line 2: 'people.csv' is not the name of an image"),
        (f"{HEADER}\na b,7,1\n", "line 2: 'a b' is not the name of an image"),
        (f"{HEADER},modality\n1.jpg,7,1,uv\n", "line 2: modality 'uv' is not known"),
        (f"{HEADER},split\n1.jpg,7,1,Train\n2.jpg,7,1,dev\n", "line 3: split 'dev' is not known"),
        (f"{HEADER},split\n1.jpg,7,1,\n", "line 2: split '' is not known"),
        (f"{HEADER},time\n1.jpg,7,1,noon\n", "line 2: time 'noon' was not understood"),
        (f"{HEADER},time\n1.jpg,7,1,nan\n", "line 2: time 'nan' was not understood"),
    ],
)
def test_mistakes_name_the_line(root, text, words):
    write(root, text)
    with pytest.raises(UserError, match=words) as error:
        data.read("csv", root)
    assert "\n" not in str(error.value)


def test_which_table(root):
    with pytest.raises(UserError, match=r"holds 0 CSV files \(none\)"):
        data.read("csv", root)
    write(root, HEADER, name="a.csv"), write(root, HEADER, name="b.csv")
    with pytest.raises(UserError, match=r"holds 2 CSV files \(a.csv, b.csv\)"):
        data.read("csv", root)
    with pytest.raises(UserError, match="does not exist"):
        data.read("csv", root / "c.csv")
    (root / "c.csv").write_bytes(b"\xff\xfe\x00p")
    with pytest.raises(UserError, match="cannot be read as a CSV file in UTF-8"):
        data.read("csv", root / "c.csv")


def test_check_counts_queries_nobody_answers(root):
    write(
        root, f"{HEADER},split\n1.jpg,1,1,query\n2.jpg,1,1,gallery\n3.png,2,2,query\na b/4.jpg,2,1,gallery\n"
    )
    for path in root.rglob("*.[jp][pn]g"):
        PILImage.new("RGB", (4, 8)).save(path)
    findings = [(finding.severity, finding.text) for finding in data.check("csv", root)]
    assert findings[:2] == [
        ("note", "query: 2 identities, 2 images, 2 cameras"),
        ("note", "gallery: 2 identities, 2 images, 1 camera"),
    ]
    ((severity, text),) = findings[2:]
    assert severity == "warning"
    assert text.startswith("1 of 2 queries have no image of the same identity from another")


def test_check_says_that_queries_or_gallery_are_missing(root):
    for name in ("1.jpg", "2.jpg", "3.png"):
        PILImage.new("RGB", (4, 8)).save(root / name)
    lines = [f"{HEADER},split", "1.jpg,7,1,train", "2.jpg,7,2,gallery"]
    file = write(root, "\n".join(lines))
    assert "images of the split gallery alone" in " ".join(each.text for each in data.check("csv", file))
    file = write(root, "\n".join([*lines, "3.png,7,1,query"]))
    assert " alone" not in " ".join(each.text for each in data.check("csv", file))
