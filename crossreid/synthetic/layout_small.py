"""Layouts of the small test sets: GRID, PRID 2011, i-LIDS, VIPeR."""

from __future__ import annotations

import numpy as np

from crossreid.synthetic.keys import between, generator
from crossreid.synthetic.plans import STRANGERS, Crop, Plan, cameras_of, matlab


def grid(identities: int, images: int | None, seed: int) -> Plan:
    """One probe and one gallery image of each person from two of eight cameras, three times as many
    strangers 0 in the gallery, and ten partitions into halves."""
    plan = Plan()

    def add(folder, number, who, camera, index):
        rng = generator("grid box", seed, who, index)
        height = int(rng.integers(110, 161))
        width = int(height * between(rng, 0.42, 0.52))
        x, y, frame = (int(rng.integers(1, top)) for top in (500, 200, 30000))
        # The running number of a stranger keeps two of them from having one name.
        frame = frame if number else who % STRANGERS + 30000
        name = f"{number:04d}_{camera}_{frame}_{x}_{y}_{width}_{height}.jpeg"
        plan.images.append(Crop(f"{folder}/{name}", who, camera, index, size=(height, width)))

    for identity in range(1, identities + 1):
        first, second = (int(c) + 1 for c in generator("grid", seed, identity).permutation(8)[:2])
        add("probe", identity, identity, first, 0)
        add("gallery", identity, identity, second, 1)
    for number in range(3 * identities):
        add("gallery", 0, STRANGERS + number, 1 + number % 8, 0)
    partitions = np.empty((1, 10), object)
    for fold in range(10):
        order = generator("grid partition", seed, fold).permutation(identities)[: identities // 2]
        members = np.sort(order + 1)[:, None].astype(np.float64)
        # Readers of this file count on the third field.
        partitions[0, fold] = {"probeRows": members, "galleryRows": members, "persons": members}
    plan.files["features_and_partitions.mat"] = matlab({"trainIdxAll": partitions})
    return plan


def prid2011(identities: int, images: int | None, seed: int) -> Plan:
    """One image in each of two cameras; at most 200 persons pass both; strangers, others in each camera,
    are numbered from 201."""
    plan = Plan()
    for camera, word, strangers in ((1, "cam_a", identities), (2, "cam_b", 3 * identities)):
        shared = [(number, number) for number in range(1, min(identities, 200) + 1)]
        others = [(201 + n, camera * STRANGERS + n) for n in range(strangers)]
        for number, who in shared + others:
            path = f"single_shot/{word}/person_{number:04d}.png"
            plan.images.append(Crop(path, who, camera, 0))
    return plan


def ilids(identities: int, images: int | None, seed: int) -> Plan:
    """About four images of each person, from two cameras that the names do not tell."""
    plan = Plan()
    for identity in range(1, identities + 1):
        rng = generator("ilids", seed, identity)
        for index in range(max(2, images) if images else int(rng.integers(3, 7))):
            path = f"images/{identity:04d}{index + 1:03d}.jpg"
            height = int(rng.integers(120, 161))
            size = (height, int(height * between(rng, 0.40, 0.52)))
            plan.images.append(Crop(path, identity, 1 + index % 2, index, size=size))
    return plan


def viper(identities: int, images: int | None, seed: int) -> Plan:
    """One image in each of two cameras, 48 x 128 pixels, with the angle of view in the name; numbers have
    gaps."""
    plan = Plan()
    for identity in range(1, identities + 1):
        rng = generator("viper", seed, identity)
        first = int(rng.integers(3))
        for camera, word in ((1, "cam_a"), (2, "cam_b")):
            step = first if camera == 1 else first + 1 + int(rng.integers(2))
            path = f"{word}/{identity + identity // 7:03d}_{45 * step:03d}.bmp"
            yaw = np.pi / 4 * step + between(rng, -0.2, 0.2)
            plan.images.append(Crop(path, identity, camera, 0, size=(128, 48), yaw=yaw))
    return plan


def cuhk01(identities: int, images: int | None, seed: int) -> Plan:
    """Four images of each identity, two from each of two cameras."""
    return Plan(
        [
            Crop(
                f"campus/{identity:04d}{number:03d}.png",
                identity,
                (number + 1) // 2,
                number % 2,
                size=(160, 60),
            )
            for identity in range(1, identities + 1)
            for number in range(1, 5)
        ]
    )


def prid450s(identities: int, images: int | None, seed: int) -> Plan:
    """One image of each identity from each of two cameras."""
    return Plan(
        [
            Crop(f"{folder}/img_{identity:03d}.png", identity, camera, 0)
            for camera, folder in ((1, "cam_a"), (2, "cam_b"))
            for identity in range(1, identities + 1)
        ]
    )


def pku_reid(identities: int, images: int | None, seed: int) -> Plan:
    """Eight orientations of each identity before each of two cameras, 48 x 128 pixels."""
    return Plan(
        [
            Crop(
                f"PKUv1a_128x48/{identity:02d}_{camera}_{turn + 1}.png",
                identity,
                camera,
                turn,
                size=(128, 48),
                yaw=np.pi / 4 * turn,
            )
            for identity in range(1, identities + 1)
            for camera in (1, 2)
            for turn in range(8)
        ]
    )


def sensereid(identities: int, images: int | None, seed: int) -> Plan:
    """Two queries of each identity, and two gallery images of them and of twice as many strangers."""
    plan = Plan()
    for identity in range(1, 3 * identities + 1):
        for folder, cameras in (("test_probe", (0, 1)), ("test_gallery", (2, 3))):
            if identity > identities and folder == "test_probe":
                continue
            who = identity if identity <= identities else STRANGERS + identity
            plan.images += [
                Crop(f"{folder}/{identity:05d}_{camera}.jpg", who, camera + 1, 0) for camera in cameras
            ]
    return plan


def caviar4reid(identities: int, images: int | None, seed: int) -> Plan:
    """At most ten images of each identity from each camera; one identity in three passes the first camera only."""
    return Plan(
        [
            Crop(f"CAVIARa/{identity:04d}{10 * (camera - 1) + index + 1:03d}.jpg", identity, camera, index)
            for identity in range(1, identities + 1)
            for camera in ((1,) if identity % 3 == 0 else (1, 2))
            for index in range(min(images or 10, 10))
        ]
    )


def pes3d(identities: int, images: int | None, seed: int) -> Plan:
    """Two to four sequences of each identity, each before another of eight cameras."""
    plan = Plan()
    for identity in range(1, identities + 1):
        for sequence, camera in enumerate(cameras_of(identity, seed, 8, 4), 1):
            for index in range(images or 2):
                path = f"RGB/{identity}_{sequence}_FRAME_{25 * index + identity % 25}_RGB.bmp"
                plan.images.append(Crop(path, identity, camera, index))
    return plan
