"""Layouts whose images lie inside something: CUHK03 in a MATLAB file, CUHK-SYSU in scenes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from crossreid.images.decode import decode
from crossreid.synthetic.keys import generator
from crossreid.synthetic.plans import Crop, Plan, cells, matlab

BOXES = {"detected": 1.0, "labeled": 0.3}


def cuhk03(identities: int, images: int | None, seed: int) -> Plan:
    """``cuhk-03.mat`` (HDF5) with up to five images of each person in each view of five pairs of cameras,
    the two files of the newer protocol, and the images already taken out."""
    plan, images = Plan(), min(images or 4, 5)
    counts = [identities - 4 * (identities // 8), *[identities // 8] * 4]
    persons = [
        (pair, number) for pair, count in enumerate(counts, 1) for number in range(1, max(1, count) + 1)
    ]
    # Detectors miss some: the cells of those stay empty.
    missed = set(range(0, len(persons) * 10, 29))
    order = [int(place) for place in generator("cuhk03 split", seed).permutation(len(persons))]
    trained = set(order[: max(2, len(persons) * 767 // 1467)])
    for word, jitter in BOXES.items():
        names, labels, views = [], [], []
        for place, (pair, number) in enumerate(persons):
            for column in range(10):
                view, index = 1 + column // 5, column % 5
                if index >= images or (word == "detected" and index > 1 and place * 10 + column in missed):
                    continue
                name = f"{pair}_{number:03d}_{view}_{column + 1:02d}.png"
                camera = 2 * pair + view - 2
                path = f"images_{word}/{name}"
                plan.images.append(Crop(path, place + 1, camera, index, size=(160, 60), jitter=jitter))
                names.append(name)
                labels.append(place)
                views.append(view)
        rows: dict[str, list[int]] = {"train": [], "query": [], "gallery": []}
        asked = set()
        for row, (label, view) in enumerate(zip(labels, views), 1):
            split = "train" if label in trained else ("gallery" if (label, view) in asked else "query")
            asked.add((label, view))
            rows[split].append(row)
        content = {f"{split}_idx": np.array(found, np.float64) for split, found in rows.items()}
        content |= {"filelist": cells(names), "labels": np.array(labels, np.float64) + 1}
        content["camId"] = np.array(views, np.float64)
        plan.files[f"cuhk03_new_protocol_config_{word}.mat"] = matlab(content)
    classic = [
        np.array([persons[place] for place in sorted(order[-max(2, len(order) // 5) :])], np.float64)
    ] * 20
    plan.folders.append("cuhk03_release")
    plan.finish = partial(_archive, counts=[max(1, count) for count in counts], testsets=classic)
    return plan


def _archive(root: Path, counts: list[int], testsets: list[np.ndarray]) -> None:
    """Put the images into ``cuhk-03.mat`` as MATLAB 7.3 does: cells are references, arrays lie
    transposed."""
    import h5py

    path = root / "cuhk03_release" / "cuhk-03.mat"
    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        store = file.create_group("#refs#")

        def keep(array: np.ndarray, kind: bytes):
            entry = store.create_dataset(f"{len(store):06x}", data=array)
            entry.attrs["MATLAB_class"] = np.bytes_(kind)
            return entry

        for word in BOXES:
            outer = np.empty((1, 5), h5py.ref_dtype)
            for pair, count in enumerate(counts, 1):
                inner = np.empty((10, count), h5py.ref_dtype)
                for number in range(1, count + 1):
                    for column in range(10):
                        image = (
                            root / f"images_{word}/{pair}_{number:03d}_{1 + column // 5}_{column + 1:02d}.png"
                        )
                        if image.is_file():
                            pixels = decode(image).transpose(2, 1, 0)
                            inner[column, number - 1] = keep(pixels, b"uint8").ref
                        else:
                            empty = keep(np.zeros(2, np.uint64), b"double")
                            empty.attrs["MATLAB_empty"] = np.uint8(1)
                            inner[column, number - 1] = empty.ref
                outer[0, pair - 1] = keep(inner, b"cell").ref
            file.create_dataset(word, data=outer).attrs["MATLAB_class"] = np.bytes_(b"cell")
        outer = np.empty((1, len(testsets)), h5py.ref_dtype)
        for place, members in enumerate(testsets):
            outer[0, place] = keep(members.T, b"double").ref
        file.create_dataset("testsets", data=outer).attrs["MATLAB_class"] = np.bytes_(b"cell")
    with path.open("r+b") as stream:
        header = b"MATLAB 7.3 MAT-file, synthetic people".ljust(116) + bytes(8) + b"\x00\x02IM"
        stream.write(header)


def cuhk_sysu(identities: int, images: int | None, seed: int) -> Plan:
    """Scenes with several persons each, the annotation ``Person.mat``, and the persons already cut out. Each
    person appears two to four times, each time in another scene."""
    plan = Plan()
    rng = generator("cuhk_sysu", seed)
    appearances = []
    for identity in range(1, identities + 1):
        count = images or int(rng.integers(2, 5))
        appearances += [(identity, number) for number in range(1, count + 1)]
    # Appearances are dealt out in turns, so that the same person never meets himself in a scene.
    per_scene = 3
    appearances.sort(key=lambda entry: (entry[1], entry[0]))
    scenes: list[list[tuple[int, int]]] = []
    for identity, number in appearances:
        open_scene = scenes[-1] if scenes else None
        if (
            open_scene is None
            or len(open_scene) == per_scene
            or any(identity == who for who, _ in open_scene)
        ):
            scenes.append([])
        scenes[-1].append((identity, number))
    people: dict[int, list] = {}
    boxes: dict[str, tuple[int, int, int, int, int]] = {}
    for scene, members in enumerate(scenes, 1):
        for place, (identity, number) in enumerate(members):
            height = int(rng.integers(112, 177))
            width = height // 2
            x, y = 20 + place * 150 + int(rng.integers(40)), 200 - height + int(rng.integers(30))
            hard = int(rng.random() < 0.1)
            name = f"p{identity:05d}_n{number:02d}_s{scene:05d}_hard{hard}.png"
            people.setdefault(identity, []).append((f"s{scene}.jpg", (x, y, width - 1, height - 1), hard))
            boxes[name] = (scene, x, y, width, height)
            image = Crop(f"cropped_image/{name}", identity, 1 + scene % 5, number, size=(height, width))
            plan.images.append(image)
    plan.files["annotation/Person.mat"] = matlab({"Person": _annotation(people)})
    plan.folders.append("Image/SSM")
    plan.finish = partial(_scenes, boxes=boxes, seed=seed)
    return plan


def _annotation(people: dict[int, list]) -> np.ndarray:
    persons = np.empty((1, len(people)), [(name, object) for name in ("idname", "nAppear", "scene")])
    for place, (identity, found) in enumerate(sorted(people.items())):
        scenes = np.empty((1, len(found)), [(name, object) for name in ("imname", "idlocate", "ishard")])
        for number, (name, box, hard) in enumerate(found):
            scenes[0, number] = (name, np.array([box], np.float64), np.array([[hard]], np.float64))
        persons[0, place] = (f"p{identity}", np.array([[len(found)]], np.float64), scenes)
    return persons


def _scenes(root: Path, boxes: dict[str, tuple[int, int, int, int, int]], seed: int) -> None:
    """Set the persons into their scenes, then cut them out again, as whoever prepares the data set does."""
    by_scene: dict[int, list[str]] = {}
    for name, (scene, *_) in boxes.items():
        by_scene.setdefault(scene, []).append(name)
    for scene, names in by_scene.items():
        rng = generator("street", seed, scene)
        low = rng.random((6, 12, 3)) * 60 + 90
        wide = Image.fromarray(low.astype(np.uint8)).resize((500, 260), Image.Resampling.BICUBIC)
        for name in names:
            _, x, y, _, _ = boxes[name]
            wide.paste(Image.fromarray(decode(root / "cropped_image" / name)), (x - 1, y - 1))
        path = root / f"Image/SSM/s{scene}.jpg"
        wide.save(path, quality=92)
        stored = Image.fromarray(decode(path))
        for name in names:
            _, x, y, width, height = boxes[name]
            stored.crop((x - 1, y - 1, x - 1 + width, y - 1 + height)).save(root / "cropped_image" / name)
