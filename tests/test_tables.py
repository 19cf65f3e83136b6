"""The one reader of tables."""

import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossreid import data
from crossreid.images import listing, tables
from crossreid.records import Image, UserError


def write(folder, text):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_all_columns_by_any_separator(tmp_path, separator):
    lines = [
        ["Path", "identity", "Camera", "modality", "split", "time", "x0", "y0", "x1", "y1", "clothes"],
        ["a.jpg", "anna", "door", "ir", "query", "2025-06-01T12:00:00", "1", "2", "5", "7.6", "red coat"],
        [""] * 11,
        ["b.jpg", "bert", "yard", "", "gallery", "12.5", "", "", "", "", ""],
    ]
    table = write(tmp_path, "\ufeff" + "\r\n".join(separator.join(line) for line in lines))
    with pytest.warns(UserWarning, match="t.csv: clothes: columns of your own, which are kept"):
        (first, one), (second, two) = tables.read(table)
    assert (first, second) == (2, 4)
    assert one == Image(tmp_path / "a.jpg", 1, 1, "infrared", time=1748779200.0, box=(1, 2, 5, 8))
    assert two == Image(tmp_path / "b.jpg", 2, 2, "", time=12.5)
    assert one.extra == {
        "path": "a.jpg",
        "identity": "anna",
        "camera": "door",
        "split": "query",
        "clothes": "red coat",
    }


def test_only_a_path(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ((line, image),) = tables.read(write(tmp_path, "path\na.jpg\n"), modality="infrared")
    assert (line, image) == (2, Image(tmp_path / "a.jpg", modality="infrared"))


def test_a_misspelt_column_is_guessed_at(tmp_path):
    with pytest.warns(UserWarning, match=r"modalty \(did you mean modality\?\)"):
        tables.read(write(tmp_path, "path,modalty\na.jpg,ir\n"))


def test_windows_paths(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "1.jpg").write_bytes(b"x")
    ((_, image),) = tables.read(write(tmp_path, "path\na b\\1.jpg\n"))
    assert image.path == tmp_path / "a b" / "1.jpg" and image.extra["path"] == "a b\\1.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"columns are .none. .missing path.; expected are path"),
        ("file,camera\na,1\n", "missing path"),
        ("path,PATH\na,b\n", "twice path.*each once"),
        ("path,,camera\na,,b\n", r"one without a name\)"),
        (",path,camera\n0,a,b\n", r"one without a name; pandas: to_csv\(\.\.\., index=False\)"),
        ("path,x0,y0,x1\na,1,2,3\n", "missing y1"),
        ("path\n", "lists no images"),
        ("path,camera\na,1,2\n", "line 2: 3 fields, but 2 columns"),
        ("path,camera\n,1\n", "line 2: no path"),
        ("path,modality\na.png,warm\n", "line 2: modality 'warm' .*thermal"),
        ("path,x0,y0,x1,y1\na.png,1,2,3,\n", "line 2: the box 1, 2, 3,"),
        ("path,x0,y0,x1,y1\na.png,1,2,3,nan\n", "line 2: the box"),
        ("path,time\na.png,noon\n", "line 2: time 'noon' was not understood"),
        ("path,time\na.png,1748779200000\n", "line 2: time .*looks like milliseconds"),
        ("path,time\na.png,2525-06-01\n", "line 2: time .*lies ahead"),
        (b"path\n\xff\xfe.png\n", "UTF-8"),
    ],
)
def test_wrong_tables_are_told_by_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as error:
        tables.read(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_one_table_serves_data_and_listing(tmp_path):
    """The junk line is left out, boxes are read, and further columns are kept by both ways in."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    table = write(
        tmp_path,
        "path,identity,camera,split,x0,y0,x1,y1,clothes\n"
        "a.jpg,7,1,query,0,0,4,4,red\na.jpg,8,1,gallery,4,0,8,4,blue\nb.jpg,7,2,gallery,,,,,red\nb.jpg,-1,2,gallery,0,0,2,2,\n",
    )
    kept, junk = "clothes: columns of your own", "1 of 4 images have the identity -1"
    with pytest.warns(UserWarning, match=kept), pytest.warns(UserWarning, match=junk):
        splits = data.read("csv", table)
    with pytest.warns(UserWarning, match=kept), pytest.warns(UserWarning, match=junk):
        listed = listing.listed([table])
    read = [*splits["query"], *splits["gallery"]]
    assert [(image.path.name, image.identity, image.camera, image.box) for image in read] == [
        (image.path.name, image.identity, image.camera, image.box) for image in listed
    ]
    assert [image.extra["clothes"] for image in read] == ["red", "blue", "red"]
    with pytest.warns(UserWarning, match=kept):
        assert len(data.read("csv", table, keep_junk=True)["gallery"]) == 3
    with pytest.warns(UserWarning, match=kept):
        assert len(listing.listed([table], keep_junk=True)) == 4


def test_paths_are_relative_to_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((_, image),) = tables.read(write(tmp_path, "path\na.jpg\n").relative_to(tmp_path))
    assert image.path == Path("a.jpg")


def rows(count=5000):
    """The columns of a table that the reader is given by other programs, and what it should make of a row."""
    numbers = range(count)
    return {
        "path": [f"{n}.jpg" for n in numbers],
        "identity": [n % 7 for n in numbers],
        "camera": [None if n == 1 else float(n % 3) for n in numbers],
        "time": [datetime(2025, 6, 1, 12, 0, n % 60, tzinfo=UTC) for n in numbers],
        "x0": [1] * count,
        "y0": [2] * count,
        "x1": [5.0] * count,
        "y1": [8 if n % 2 else None for n in numbers],
        "image": [bytes(n % 9) for n in numbers],
        "vectors": [[0.5, 1.0] for n in numbers],
    }


def test_parquet_files_and_lance_data_sets_say_what_a_csv_file_would(tmp_path):
    pa = pytest.importorskip("pyarrow")
    lancedb = pytest.importorskip("lancedb")
    from pyarrow import parquet

    columns = rows()
    columns["x0"] = [None if y1 is None else 1 for y1 in columns["y1"]]
    columns["y0"], columns["x1"] = columns["x0"], [None if y1 is None else 5.0 for y1 in columns["y1"]]
    content = pa.table(columns)
    parquet.write_table(content, tmp_path / "people.parquet", row_group_size=700)
    store = lancedb.connect(tmp_path).create_table("people", content.slice(0, 2000))
    store.add(content.slice(2000))
    text = pa.table({name: columns[name] for name in columns if name not in ("image", "vectors")}).to_pylist()
    lines = [
        [
            line["path"],
            line["identity"],
            "" if line["camera"] is None else int(line["camera"]),
            line["time"].isoformat(),
            *("" if line[edge] is None else line[edge] for edge in ("x0", "y0", "x1", "y1")),
        ]
        for line in text
    ]
    written = "\n".join(",".join(map(str, line)) for line in lines)
    (tmp_path / "people.csv").write_text("path,identity,camera,time,x0,y0,x1,y1\n" + written)
    wanted = [image for _, image in tables.read(tmp_path / "people.csv")]
    assert len(wanted) == 5000 and wanted[1].box == (1, 1, 5, 8) and wanted[0].box is None
    for name in ("people.parquet", "people.lance"):
        found = listing.listed([tmp_path / name])
        assert found == wanted and [image.extra for image in found] == [image.extra for image in wanted]


def test_a_parquet_file_of_too_many_rows_is_refused_unread(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["a.jpg"] * 1000}), tmp_path / "a.parquet")
    assert len(tables.read(tmp_path / "a.parquet")) == 1000
    monkeypatch.setattr(tables, "ROW", 2**50)
    with pytest.raises(UserError, match=r"the 1000 rows of .*a.parquet would take .*: divide the table"):
        tables.read(tmp_path / "a.parquet")


def test_parquet_files_that_are_none_or_lack_a_path(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"a.parquet cannot be read .*expected a table with a column path"):
        tables.read(tmp_path / "a.parquet")
    parquet.write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b.parquet, line 1: the columns are file \(missing path\)"):
        tables.read(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"there.parquet: cannot be opened"):
        tables.read(tmp_path / "there.parquet")


def test_lines_lead_to_objects_and_never_elsewhere(tmp_path):
    pytest.importorskip("upath")
    pytest.importorskip("s3fs")
    lines = ["s3://bucket/a.jpg", "http://host/a.jpg", "file:///etc/a.jpg", "memory://b/a.jpg"]
    one, *others = [image for _, image in tables.read(write(tmp_path, "\n".join(["path", *lines])))]
    assert str(one.path) == "s3://bucket/a.jpg" and not isinstance(one.path, Path)
    assert all(isinstance(image.path, Path) for image in others)
