"""Layouts with one modality and many cameras: Market-1501, DukeMTMC-reID, MSMT17, CUHK02."""

from __future__ import annotations

from crossreid.synthetic.keys import generator
from crossreid.synthetic.plans import STRANGERS, Crop, Plan, cameras_of, lines


def market1501(identities: int, images: int | None, seed: int) -> Plan:
    """Odd numbers train, even numbers test; six cameras, two to six for each person; ``images`` in each
    camera, and for test persons one query more; strangers 0000 and bad boxes -1 in the gallery."""
    plan, images = Plan(), images or 4

    def add(folder, number, who, camera, index, jitter=1.0):
        frame = who % 10000 * 100 + index % 100
        name = f"{number}_c{camera}s{1 + index // 100}_{frame:06d}_{1 + index % 4:02d}.jpg"
        plan.images.append(Crop(f"{folder}/{name}", who, camera, index, jitter=jitter))

    for identity in range(1, identities + 1):
        train = identity % 2 == 1
        for camera in cameras_of(identity, seed, 6):
            for index in range(images):
                add(
                    f"bounding_box_{'train' if train else 'test'}", f"{identity:04d}", identity, camera, index
                )
            if not train:
                add("query", f"{identity:04d}", identity, camera, images)
    for number in range(max(4, identities // 2)):
        add("bounding_box_test", "0000", STRANGERS + number, 1 + number % 6, 0)
        add("bounding_box_test", "-1", STRANGERS + number, 1 + (number + 1) % 6, 1, jitter=5.0)
    return plan


def market1501_500k(identities: int, images: int | None, seed: int) -> Plan:
    """As Market-1501; beside it five times as many strangers as identities, for a larger gallery."""
    plan = market1501(identities, images, seed)
    plan.images += [
        Crop(
            f"images/0000_c{1 + number % 6}s1_{number:06d}_00.jpg", 2 * STRANGERS + number, 1 + number % 6, 0
        )
        for number in range(5 * identities)
    ]
    return plan


def dukemtmc(identities: int, images: int | None, seed: int) -> Plan:
    """Odd numbers train, even numbers test; eight cameras, two to four for each person; as many gallery
    persons seen by one camera only as a third of the identities."""
    plan, images = Plan(), images or 4

    def add(folder, who, camera, index, number=None):
        name = f"{number or who:04d}_c{camera}_f{who % 10000 * 600 + index:07d}.jpg"
        plan.images.append(Crop(f"{folder}/{name}", who, camera, index))

    for identity in range(1, identities + 1):
        for camera in cameras_of(identity, seed, 8, 4):
            for index in range(images):
                add(f"bounding_box_{'train' if identity % 2 else 'test'}", identity, camera, index)
            if identity % 2 == 0:
                add("query", identity, camera, images)
    for number in range(identities // 3):
        for index in range(images):
            add("bounding_box_test", STRANGERS + number, 1 + number % 8, index, identities + 1 + number)
    return plan


def msmt17(identities: int, images: int | None, seed: int) -> Plan:
    """A third trains, the others are for testing and numbered from 0 again; fifteen cameras, two to five for
    each person; the last image of each camera is for validation or, of test persons, the query."""
    plan, images = Plan(), images or 4
    listed: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    trained = max(2, identities // 3)
    for identity in range(1, identities + 1):
        part, label = ("train", identity - 1) if identity <= trained else ("test", identity - 1 - trained)
        number = 0
        for camera in cameras_of(identity, seed, 15, 5):
            for index in range(images + (part == "test")):
                day = ("0113", "0302", "0303", "0114")[(camera + index) % 4]
                hour = ("morning", "noon", "afternoon")[index % 3]
                time = f"{day}{hour}_{index + 8:04d}_{index % 3}"
                name = f"{label:04d}/{label:04d}_{number:03d}_{camera:02d}_{time}.jpg"
                plan.images.append(Crop(f"{part}/{name}", identity, camera, index, size=(144, 64)))
                last = index == images - (part == "train") and images > 1
                split = ("val" if last else "train") if part == "train" else ("query" if last else "gallery")
                listed[split].append(f"{name} {label}")
                number += 1
    for split, rows in listed.items():
        plan.files[f"list_{split}.txt"] = lines(rows)
    return plan


def cuhk02(identities: int, images: int | None, seed: int) -> Plan:
    """Five pairs of cameras, the first with half of the persons, numbered anew in each; two images in each
    of the two cameras."""
    plan, images = Plan(), images or 2
    counts = [identities - 4 * (identities // 8), *[identities // 8] * 4]
    identity = 0
    for pair, count in enumerate(counts, 1):
        # A pair needs its folders even where few identities were asked for.
        for number in range(1, max(1, count) + 1):
            identity += 1
            for view in (1, 2):
                for index in range(images):
                    path = f"P{pair}/cam{view}/{number:03d}_{index + 1}.png"
                    plan.images.append(Crop(path, identity, 2 * pair + view - 2, index, size=(160, 60)))
    return plan


def own(identities: int, images: int, seed: int):
    """(split, identity, camera, index) of a small data set of one's own: odd identities train, even ones are
    for testing; four cameras, of which each person passes two to four."""
    for identity in range(1, identities + 1):
        for camera in cameras_of(identity, seed, 4):
            for index in range(images):
                yield "train" if identity % 2 else "gallery", identity, camera, index
            if identity % 2 == 0:
                yield "query", identity, camera, images


def folder(identities: int, images: int | None, seed: int) -> Plan:
    """``train``, ``query`` and ``gallery``, below each a folder for each identity. The camera is in the
    file's name; the pattern ``(?P<identity>\\d+)/c(?P<camera>\\d+)`` finds both."""
    return Plan(
        [
            Crop(f"{split}/{identity:04d}/c{camera}_{index + 1:04d}.jpg", identity, camera, index)
            for split, identity, camera, index in own(identities, images or 4, seed)
        ]
    )


def csv(identities: int, images: int | None, seed: int) -> Plan:
    """``images/`` in no order and ``images.csv`` that says what they are; cameras 1 to 3 see visible light, 4
    infrared."""
    plan = Plan()
    rows = ["path,identity,camera,modality,split"]
    entries = list(own(identities, images or 4, seed))
    order = generator("order of the table", seed).permutation(len(entries))
    for number, (split, identity, camera, index) in enumerate(entries[place] for place in order):
        modality = "infrared" if camera == 4 else "visible"
        path = f"images/{number:06d}.jpg"
        plan.images.append(Crop(path, identity, camera, index, modality))
        rows.append(f"{path},{identity},{camera},{modality},{split}")
    plan.files["images.csv"] = lines(rows)
    return plan
