"""From boxes and crops to tracklets, and from tracklets to people across cameras."""

import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage

import crossreid
from crossreid import linking, tracklets
from crossreid.__main__ import main
from crossreid.gallery import Gallery
from crossreid.images import labels, mot, video
from crossreid.images.listing import named
from crossreid.records import UserError
from crossreid.tracklets import Tracklet, Tracklets, mean_of_best, of_crops, of_tracks

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (20, 40, 220)}


class MeanColour:
    """An embedder that sees the mean colour alone."""

    size, interpolation, batch, modalities = (16, 8), "bilinear", 4, ("visible",)
    name, fingerprint, feature, path, dimension = "mean colour", "f" * 64, "bn", "nowhere/model.pt", 3

    def __call__(self, images, modality=None):
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images]) - 100
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def frame(*people, size=(120, 80)):
    """(H, W, 3) with (colour, left) of each person, 10 wide and 30 high."""
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    for name, left in people:
        pixels[20:50, left : left + 10] = COLOURS[name]
    return pixels


@pytest.fixture
def camera(tmp_path):
    """Twenty frames: red and green walk beside each other."""
    folder = tmp_path / "cam1"
    folder.mkdir()
    lines = []
    for number in range(1, 21):
        PILImage.fromarray(frame(("red", 10 + number), ("green", 60 + number))).save(
            folder / f"{number:06d}.png"
        )
        lines += [
            f"{number},1,{10 + number},20,10,30,0.9,-1,-1,-1",
            f"{number},2,{60 + number},20,10,30,0.9,-1,-1,-1",
        ]
    text = tmp_path / "cam1.txt"
    text.write_text("\n".join(lines))
    return text, folder


def test_boxes_and_frames_become_tracklets(camera):
    text, folder = camera
    made = of_tracks(mot.read(text, 50), folder, MeanColour(), camera="1", rate=10.0, start=1.6e9, k=3)
    assert [(each.camera, each.name, each.frames) for each in made.items] == [("1", "1", 20), ("1", "2", 20)]
    assert (made.items[0].start, made.items[0].end) == pytest.approx((1.6e9, 1.6e9 + 2.0))
    expected = MeanColour()([np.full((2, 2, 3), COLOURS[name], np.uint8) for name in ("red", "green")])
    assert made.vectors == pytest.approx(expected, abs=1e-3)
    best = made.items[0].crops[0]
    assert len(made.items[0].crops) == 3 and best.path.parent == folder and best.box[3] - best.box[1] == 30
    assert made.items[0].small[:2] == b"\xff\xd8"


def test_the_best_crops_are_large_sharp_and_agree():
    rng = np.random.default_rng(0)
    vectors = np.tile(np.array([1.0, 0, 0], np.float32), (6, 1))
    vectors[4] = [0, 1, 0]  # somebody else, large and sharp
    area, sharp = np.array([10, 10, 1, 10, 11, 9.0]), np.array([5, 4, 5, 0.1, 6, 4.5])
    mean, best = mean_of_best(vectors + 1e-4 * rng.standard_normal((6, 3)).astype(np.float32), area, sharp, 3)
    assert best[0] == 0 and len(best) == 3 and 4 not in best
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    blurred = np.full((20, 10, 3), 90, np.uint8)
    assert (
        tracklets.sharpness(blurred)
        == 0
        < tracklets.sharpness(rng.integers(0, 255, (20, 10, 3)).astype(np.uint8))
    )


def test_numbers_that_come_back_are_other_people(tmp_path):
    text = tmp_path / "boxes.txt"
    text.write_text("100,7,0,0,5,5\n3 7 0 0 5 5\n1,7,0,0,5,5,1\n1,7,9,9,5,5,1\n# a comment\n2,8,0,0,5,5,0\n")
    with pytest.warns(UserWarning) as found:
        tracks = mot.read(text, pause=50)
    assert [(track.name, track.frames) for track in tracks] == [("7", (1, 3)), ("7.2", (100,))]
    assert "1 lines give a track a second box" in str(found[0].message)
    assert "confidence 0" in str(found[1].message)
    for content, words in (
        ("1,7,0,0,5,5\n1,x,0,0,5,5\n", "line 2: .* was not understood"),
        ("-1,7,0,0,5,5\n", "line 1: the frame -1"),
        ("", "holds no boxes"),
    ):
        text.write_text(content)
        with pytest.raises(UserError, match=words):
            mot.read(text, 50)


def test_detections_without_ids_are_no_tracks(tmp_path):
    (tmp_path / "det.txt").write_text("1,-1,10,10,20,40,0.9\n")
    with pytest.raises(UserError, match=r"line 1: the id is -1: these are detections"):
        mot.read(tmp_path / "det.txt", 10)


def test_a_frame_that_breaks_off_or_is_missing_costs_its_own_crops(camera):
    text, folder = camera
    (folder / "000003.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "000004.png").unlink()
    with pytest.warns(UserWarning, match="crops? left out: .*not a readable image"):
        made = of_tracks(mot.read(text, 50), folder, MeanColour(), camera="1", rate=10.0, k=5)
    assert len(made) == 2 and all(len(each.crops) == 5 for each in made.items)


def test_boxes_of_another_resolution_are_noticed_and_scaled(camera):
    text, folder = camera
    tracks = [
        replace(track, boxes=tuple(tuple(3 * edge for edge in box) for box in track.boxes))
        for track in mot.read(text, 50)
    ]
    with pytest.raises(UserError, match=r"boxes lie outside .* 120 x 80: .* --resolution WIDTH HEIGHT"):
        of_tracks(tracks, folder, MeanColour(), camera="1", rate=10.0)
    plain = of_tracks(mot.read(text, 50), folder, MeanColour(), camera="1", rate=10.0)
    again = of_tracks(tracks, folder, MeanColour(), camera="1", rate=10.0, size=(360, 240))
    assert again.vectors == pytest.approx(plain.vectors, abs=1e-6)


def film(folder, path):
    """The twenty frames as a video of ten a second."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 120, 80, "yuv420p"
        for number in range(1, 21):
            pixels = np.asarray(PILImage.open(folder / f"{number:06d}.png"))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


def test_frames_may_be_counted_from_0(tmp_path, camera):
    text, folder = camera
    clip = film(folder, tmp_path / "cam1.mp4")

    def made(frames):
        return of_tracks(mot.read(text, 50), frames, MeanColour(), camera="1", rate=10.0, start=1.6e9)

    of_images, of_film = made(folder), made(clip)
    lines = [line.split(",", 1) for line in text.read_text().splitlines()]
    text.write_text("\n".join(f"{int(frame) - 1},{rest}" for frame, rest in lines))
    assert made(folder).keys() == of_images.keys()  # though the names of its images begin at 1
    for number in range(1, 21):
        (folder / f"{number:06d}.png").rename(folder / f"{number - 1:06d}.png")
    assert made(folder).keys() == of_images.keys() and made(clip).keys() == of_film.keys()


def test_times_count_by_the_rate_of_the_video(tmp_path, camera, monkeypatch, capsys):
    text, folder = camera
    monkeypatch.setattr("crossreid.commands.parsing.opened", lambda *chosen: MeanColour())
    path, out = film(folder, tmp_path / "front.mp4"), tmp_path / "front.npz"
    for words, seconds, said in (
        ((str(path),), 2.0, "10 frames a second"),
        ((str(path), "--fps", "5"), 4.0, ""),
        ((str(folder),), 0.8, "25 are taken (--fps)"),
    ):
        assert main(["tracklets", "small", str(text), "--out", str(out), "--frames", *words]) == 0
        assert tracklets.load(out).items[0].end == pytest.approx(seconds)
        printed = capsys.readouterr().err
        assert said in printed and (said or "a second" not in printed)
    for content in (b"", b"no video at all" * 100):
        path.write_bytes(content)
        assert main(["tracklets", "small", str(text), "--out", str(out), "--frames", str(path)]) == 2
        assert "cannot be read as a video" in capsys.readouterr().err


def test_infrared_images_are_not_for_a_model_that_knows_visible_ones(tmp_path, camera, monkeypatch, capsys):
    text, folder = camera
    model = MeanColour()
    model.trained, model.device, model.runtime = {"modalities": ["visible"]}, "cpu", "torch"
    monkeypatch.setattr("crossreid.embedder.Embedder", lambda *given: model)
    words = ["tracklets", "small", str(text), "--frames", str(folder), "--out", str(tmp_path / "x.npz")]
    assert main([*words, "--modality", "infrared"]) == 2
    assert "was trained on visible images alone" in capsys.readouterr().err
    assert main([*words, "--modality", "visible"]) == 0


def test_videos_are_read_and_empty_ones_refused(tmp_path, camera):
    text, folder = camera
    path = film(folder, tmp_path / "cam1.mp4")
    made = of_tracks(mot.read(text, 50), path, MeanColour(), camera="1", rate=10.0)
    plain = of_tracks(mot.read(text, 50), folder, MeanColour(), camera="1", rate=10.0)
    assert (made.vectors * plain.vectors).sum(axis=1).min() > 0.97
    # A part in the middle that cannot be decoded does not end it.
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "broken.mp4").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (
            len(of_tracks(mot.read(text, 50), tmp_path / "broken.mp4", MeanColour(), camera="1", rate=10.0))
            == 2
        )
    for content in (b"", b"no video at all" * 100):
        (tmp_path / "empty.mp4").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read as a video|has no frames"):
            list(video.frames(tmp_path / "empty.mp4", {1}))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        list(video.frames(tmp_path / "nothing", {1}))


def test_names_of_crops_tell_cameras_tracks_and_times(tmp_path):
    for name, colour in (
        ("c1_7_100", "red"),
        ("c1_7_101", "red"),
        ("c1_8_100", "green"),
        ("c2_3_130", "red"),
    ):
        PILImage.fromarray(np.full((20, 10, 3), COLOURS[colour], np.uint8)).save(tmp_path / f"{name}.png")
    images = named([tmp_path], "{camera}_{track}_{time}.png")
    made = of_crops(images, MeanColour())
    assert [(each.camera, each.name, each.start, int(each.end)) for each in made.items] == [
        ("c1", "7", 100, 101),
        ("c1", "8", 100, 100),
        ("c2", "3", 130, 130),
    ]
    # Tracks 7 and 8 are there at one moment, so they are two people however alike they are.
    assert len(set(linking.link(made, threshold=2.0).identities[:2])) == 2
    with pytest.raises(UserError, match="does not fit"):
        named([tmp_path], "{camera}-{track}.png")
    assert (
        labels.compiled_pattern("{identity}/{camera}_*.jpg").search("a/b/0007/c3_whatever.jpg")["camera"]
        == "c3"
    )
    with pytest.raises(UserError, match="no named groups"):
        labels.compiled_pattern("nothing", own=True)
    backwards = [
        image.__class__(
            **{
                **{name: getattr(image, name) for name in image.__slots__},
                "extra": {**image.extra, "frame": str(9 - at)},
            }
        )
        for at, image in enumerate(images)
    ]
    with pytest.warns(UserWarning, match="times of 1 tracks run backwards"):
        assert of_crops(backwards, MeanColour()).items[0].start == 100


def made_of(rows, seed=0):
    """Tracklets of (camera, name, start, colour), each ten seconds long."""
    rng = np.random.default_rng(seed)
    vectors = np.array([np.array(COLOURS[colour], float) - 100 for *_, colour in rows])
    vectors += rng.standard_normal(vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    crops = (crossreid.records.Image(tracklets.Path("a.png"), box=(1, 2, 3, 4)),)
    items = [
        Tracklet(camera, name, start, start + 10, 5, crops, small=b"\xff\xd8")
        for camera, name, start, _ in rows
    ]
    return Tracklets(tuple(items), vectors.astype(np.float32), "mean colour", "f" * 64)


def test_identities_stay_when_more_tracklets_come_in(tmp_path):
    first = made_of([("1", "1", 0.0, "red"), ("1", "2", 0.0, "green"), ("2", "9", 60.0, "red")])
    with Gallery.create(None, dimension=3, fingerprint="f" * 64) as gallery:
        found = linking.link(first, gallery, threshold=0.3)
        assert found.identities == ("1", "2", "1") and found.new == 2
        assert found.distance[0] < 0.01 and np.isnan(found.distance[1])
        again = linking.link(first, gallery, threshold=0.3)
        assert again.identities == found.identities and again.new == 0 and gallery.info().entries == 3
        more = made_of([("3", "5", 99.0, "blue"), ("3", "6", 99.0, "green")], seed=1)
        later = linking.link(more, gallery, threshold=0.3)
        assert later.identities == ("3", "2")
        # It overlaps with person 2 before camera 1.
        apart = made_of([("1", "7", 5.0, "green")], seed=1)
        assert linking.link(apart, gallery, threshold=0.3).identities == ("4",)
        # So it is where the camera's number is written otherwise, and one file given twice is one.
        apart = made_of([("01", "8", 5.0, "green")], seed=2)
        twice = Tracklets(apart.items * 2, np.tile(apart.vectors, (2, 1)), apart.model, apart.fingerprint)
        found = linking.link(twice, gallery, threshold=0.3)
        assert found.identities == ("5", "5") and found.new == 1
        entry = gallery.entries()[0]
        assert (entry.identity, entry.camera, entry.columns["track"], entry.columns["left"]) == (
            "1",
            "1",
            "1",
            1,
        )
        assert gallery.image(entry.key) == b"\xff\xd8" and '"a.png"' in entry.columns["crops"]
    travel = {("2", "1"): 300.0}
    assert linking.link(first, threshold=0.3, travel=travel).identities == ("1", "2", "3")
    with pytest.raises(UserError, match="no threshold is known"):
        linking.link(first)
    with (
        Gallery.create(None, dimension=3, fingerprint="e" * 64) as other,
        pytest.raises(UserError, match="holds vectors"),
    ):
        linking.link(first, other, threshold=0.3)


def test_new_identities_are_none_that_an_image_has(monkeypatch):
    """A gallery holds images and tracklets; its images may have identities of their own."""
    from crossreid.gallery import Entry

    monkeypatch.setattr(linking, "FREE", 2)
    first = made_of([("1", "1", 0.0, "red"), ("1", "2", 0.0, "green"), ("1", "3", 0.0, "blue")])
    with Gallery.create(None, dimension=3, fingerprint="f" * 64) as gallery:
        images = [Entry(f"image {name}", identity=name) for name in ("1", "2", "02", "4", "anna", "7")]
        gallery.add(images, np.eye(3)[[0, 0, 1, 1, 2, 2]])
        assert linking.link(first, gallery, threshold=0.3).identities == ("3", "5", "6")
        more = made_of([("1", "9", 0.0, "red")], seed=1)
        assert linking.link(more, gallery, threshold=0.01).identities == ("8",)


def test_travel_times_of_cameras_that_are_none_are_told():
    first = made_of([("1", "1", 0.0, "red"), ("02", "2", 0.0, "green")])
    with pytest.warns(UserWarning, match="travel times are given for 'door', and no tracklet is of a camera"):
        linking.link(first, threshold=0.3, travel={("1", "door"): 30.0, ("01", "2"): 30.0})


def test_crops_without_a_track_are_told(tmp_path):
    for name in ("1_7", "1_8"):
        PILImage.fromarray(np.full((20, 10, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match="2 of 2 images say no track, and each of them becomes a tracklet"):
        made = of_crops(named([tmp_path], "{camera}_{number}.png"), MeanColour())
    assert [each.name for each in made.items] == ["image 1", "image 2"]


def test_the_commands_make_link_and_write(tmp_path, camera, monkeypatch, capsys):
    text, folder = camera
    monkeypatch.setattr("crossreid.commands.parsing.opened", lambda *chosen: MeanColour())
    for name in ("1", "2"):
        words = [
            str(text),
            "--frames",
            str(folder),
            "--camera",
            name,
            "--fps",
            "10",
            "--start",
            "2026-01-01T00:00:00",
        ]
        assert main(["tracklets", "small", *words, "--out", str(tmp_path / f"{name}.npz")]) == 0
    files = [str(tmp_path / f"{name}.npz") for name in ("1", "2")]
    out, place = tmp_path / "who.csv", str(tmp_path / "gallery")
    assert main(["link", *files, "--csv", str(out)]) == 2
    assert "no threshold is known: the model mean colour was not evaluated" in capsys.readouterr().err
    assert main(["link", *files, "--csv", str(out), "--threshold", "0.2"]) == 0
    assert "4 tracklets of 2 cameras show 2 people, 2 of them new" in capsys.readouterr().out
    lines = list(csv.DictReader(out.open()))
    assert [line["identity"] for line in lines] == ["1", "2", "1", "2"]
    assert {line["camera"] for line in lines} == {"1", "2"} and float(lines[0]["start"]) == pytest.approx(
        1767225600
    )
    pytest.importorskip("lancedb")
    assert main(["link", files[0], "--gallery", place, "--threshold", "0.2"]) == 0
    assert main(["link", files[1], "--gallery", place, "--threshold", "0.2"]) == 0
    assert "2 tracklets of 1 camera show 2 people, 0 of them new" in capsys.readouterr().out
    for words, expected in (
        (["link", str(text), "--csv", str(out)], "a file that `crossreid tracklets` wrote was expected"),
        (["link", *files], "say where the identities go"),
        (
            ["tracklets", "small", str(text), "--out", str(tmp_path / "x.npz")],
            "say where these are, with --frames",
        ),
        (["link", *files, "--csv", str(out), "--travel", str(out)], "the columns from, to and seconds"),
    ):
        assert main(words) == 2
        assert expected in capsys.readouterr().err


def test_a_damaged_file_of_tracklets_is_told(tmp_path):
    path = tmp_path / "some.npz"
    tracklets.save(path, made_of([("1", "a", 0.0, "red"), ("1", "b", 0.0, "green")]))
    whole = dict(np.load(path))
    about = json.loads(whole["about"].tobytes())
    assert len(tracklets.load(path)) == 2

    def told(**changes):
        np.savez(path, **{name: each for name, each in (whole | changes).items() if each is not None})
        with pytest.raises(UserError, match="a file that `crossreid tracklets` wrote was expected") as found:
            tracklets.load(path)
        return str(found.value)

    def changed(**more):
        return np.frombuffer(json.dumps({**about, **more}).encode(), np.uint8)

    assert "it has no about" in told(about=None)
    assert "it has not a vector for each tracklet" in told(vectors=whole["vectors"][:1])
    assert "look at fingerprint" in told(about=changed(fingerprint=None))
    assert "look at tracklets[0].crops" in told(
        about=changed(tracklets=[about["tracklets"][0] | {"crops": []}])
    )
    assert "surrogates not allowed" in told(
        about=changed(tracklets=[about["tracklets"][0] | {"name": "\ud800"}])
    )


def test_times_of_travel_are_a_table(tmp_path):
    path = tmp_path / "travel.csv"
    path.write_text("\ufeffFrom;To;Seconds;why\n1;4;30;a bridge\n\n2;'-3;0.5;\n", encoding="utf-8")
    assert linking.read_travel(path) == {("1", "4"): 30.0, ("2", "-3"): 0.5}
    for text, words in (
        (
            "from,to\n1,2\n",
            "line 1: the columns are from, to: a CSV file with the columns from, to and seconds",
        ),
        ("from,to,seconds\n", "no lines below"),
        ("from,to,seconds\n1,2,3\n1,4,soon\n", "line 3: seconds are 'soon'"),
        ("from,to,seconds\n1,4,-1\n", "line 2: seconds are '-1'"),
        ("from,to,seconds\n1,4\n", "line 2: 2 fields, but 3 columns"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            linking.read_travel(path)


def test_a_folder_of_motchallenge_names_its_own_frames_alone(tmp_path):
    folder = tmp_path / "street"
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("1,7,0,0,5,5")
    for said, words in (
        ("[Sequence]\nimDir=../private", "names frames outside of it"),
        ("[Sequence]\nimDir=/etc", "names frames outside of it"),
        ("[Sequence]\nframeRate=fast", "seqinfo.ini cannot be read .*fast"),
        ("[Sequence\n", r"seqinfo.ini cannot be read [^\n]*expected a folder of MOTChallenge"),
    ):
        (folder / "seqinfo.ini").write_text(said)
        with pytest.raises(UserError, match=words):
            mot.sequence(folder)
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=a%b\nimDir=img\nframeRate=30\nimWidth=4\nimHeight=3"
    )
    found = mot.sequence(folder)
    assert (found.name, found.images, found.rate, found.size) == ("a%b", folder / "img", 30.0, (4, 3))
