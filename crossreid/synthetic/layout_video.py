"""Layouts of data sets made of sequences: LPW, MARS, iLIDS-VID."""

from __future__ import annotations

import numpy as np

from crossreid.synthetic.keys import generator
from crossreid.synthetic.plans import STRANGERS, Crop, Plan, cameras_of, lines, matlab


def lpw(identities: int, images: int | None, seed: int) -> Plan:
    """A third of the identities in scene 1, which is for testing, the others in scenes 2 and 3; numbered anew in each.
    Everybody passes two views at least, in scene 1 the second always."""
    plan = Plan()
    for scene, views in ((1, 3), (2, 4), (3, 4)):
        first_camera = {1: 1, 2: 4, 3: 8}[scene]
        for number, identity in enumerate(range(scene, identities + 1, 3), 1):
            seen = set(cameras_of(identity, seed, views))
            if scene == 1:
                seen |= {2, 1 + 2 * (identity % 2)}
            for view in sorted(seen):
                for index in range(images or 4):
                    path = f"scen{scene}/view{view}/{number}/{index + 1}.jpg"
                    plan.images.append(Crop(path, identity, first_camera + view - 1, index))
        for view in range(1, views + 1):
            plan.folders.append(f"scen{scene}/view{view}")
    return plan


def mars(identities: int, images: int | None, seed: int) -> Plan:
    """Odd numbers train, even ones are for testing; a tracklet of each identity in each of two to six cameras and,
    of test identities, another one as the query; tracklets of strangers 0000 and of bad boxes 00-1 in the gallery."""
    plan, images = Plan(), images or 4
    names: dict[str, list[str]] = {"train": [], "test": []}
    tracklets: dict[str, list[tuple[int, int, int, int]]] = {"train": [], "test": []}
    query = []

    def add(part, number, who, camera, tracklet, jitter=1.0):
        word = "00-1" if number < 0 else f"{number:04d}"
        for index in range(images):
            name = f"{word}C{camera}T{tracklet:04d}F{index + 1:03d}.jpg"
            moment = tracklet * images + index
            plan.images.append(Crop(f"bbox_{part}/{word}/{name}", who, camera, moment, jitter=jitter))
            names[part].append(name)
        last = len(names[part])
        tracklets[part].append((last - images + 1, last, number, camera))

    for number in range(max(4, identities // 2)):
        add("test", -1, STRANGERS + number, 1 + (number + 1) % 6, number + 1, jitter=5.0)
        add("test", 0, STRANGERS + number, 1 + number % 6, number + 1)
    for identity in range(1, identities + 1):
        part = "train" if identity % 2 else "test"
        for camera in cameras_of(identity, seed, 6):
            add(part, identity, identity, camera, 1)
            if part == "test":
                add(part, identity, identity, camera, 2)
                query.append(len(tracklets[part]))
    for part in names:
        plan.files[f"info/{part}_name.txt"] = lines(names[part])
        plan.files[f"info/tracks_{part}_info.mat"] = matlab(
            {f"track_{part}_info": np.array(tracklets[part], np.int32)}
        )
    plan.files["info/query_IDX.mat"] = matlab({"query_IDX": np.array([query], np.uint16)})
    return plan


def ilids_vid(identities: int, images: int | None, seed: int) -> Plan:
    """A sequence of each identity before each of two cameras; numbers have gaps; ten partitions, the first half of
    each for testing."""
    plan = Plan()
    for identity in range(1, identities + 1):
        name = f"person{identity + identity // 9:03d}"
        for camera in (1, 2):
            for index in range(images or 4):
                path = f"i-LIDS-VID/sequences/cam{camera}/{name}/cam{camera}_{name}_{317 + index:05d}.png"
                plan.images.append(Crop(path, identity, camera, index))
    orders = [generator("ilids_vid", seed, fold).permutation(identities) + 1 for fold in range(10)]
    partitions = matlab({"ls_set": np.array(orders, np.float64)})
    plan.files["train-test people splits/train_test_splits_ilidsvid.mat"] = partitions
    return plan
