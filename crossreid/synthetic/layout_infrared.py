"""Layouts with visible and infrared images: SYSU-MM01, RegDB, LLCM."""

from __future__ import annotations

import numpy as np

from crossreid.records import INFRARED, VISIBLE
from crossreid.synthetic.keys import between, generator
from crossreid.synthetic.plans import Crop, Plan, cameras_of, lines, matlab


def sysu_mm01(identities: int, images: int | None, seed: int) -> Plan:
    """Cameras 3 and 6 are infrared, 2 and 3 in one place; three fifths of the persons train, one fifth each
    are for validation and testing. Validation persons pass cameras 3, 4 and 5 only, as in the original; half
    of the test persons pass 1 and 2."""
    plan, images = Plan(), images or 10
    test, validation = max(2, identities // 5), max(1, identities // 5)
    order = [int(place) + 1 for place in generator("sysu split", seed).permutation(identities)]
    chosen = {
        "test": sorted(order[:test]),
        "val": sorted(order[test : test + validation]),
        "train": sorted(order[test + validation :]),
    }
    for split, members in chosen.items():
        for position, identity in enumerate(members):
            indoors = position % 2 == 0 or (split == "train" and position % 4 == 1)
            cameras = [3, 4, 5] if split == "val" else [*([1, 2] if indoors else []), 3, 4, 5, 6]
            for camera in cameras:
                for index in range(images):
                    rng = generator("sysu size", seed, identity, camera, index)
                    height = int(rng.integers(136, 169))
                    image = Crop(
                        f"cam{camera}/{identity:04d}/{index + 1:04d}.jpg",
                        identity,
                        camera,
                        index,
                        INFRARED if camera in (3, 6) else VISIBLE,
                        2 if camera == 3 else camera,
                        (height, int(height * between(rng, 0.44, 0.52))),
                    )
                    plan.images.append(image)
    chosen["available"] = sorted(order)
    for split, members in chosen.items():
        plan.files[f"exp/{split}_id.txt"] = lines([",".join(map(str, members))])
        plan.files[f"exp/{split}_id.mat"] = matlab({"id": np.array([members], np.uint16)})
    return plan


def regdb(identities: int, images: int | None, seed: int) -> Plan:
    """Ten visible and ten infrared images of each person from one dual camera; ten random halves of the
    persons; front or back as the name says."""
    plan, images = Plan(), images or 10
    words = {"v": ("Visible", "visible", VISIBLE), "t": ("Thermal", "thermal", INFRARED)}
    names: dict[tuple[str, int], list[str]] = {}
    for identity in range(1, identities + 1):
        rng = generator("regdb", seed, identity)
        gender = ("male", "female")[int(rng.integers(2))]
        for letter, (folder, _, modality) in words.items():
            for index in range(images):
                back = index % 2 == int(identity % 2)
                frame = (identity * 2 * images + index + (letter == "t") * images) % 100000
                view = "back" if back else "front"
                path = f"{folder}/{identity}/{gender}_{view}_{letter}_{frame:05d}_{identity}.bmp"
                yaw = (np.pi if back else 0.0) + between(rng, -0.5, 0.5)
                camera, place = (1 if letter == "v" else 2), 1
                plan.images.append(Crop(path, identity, camera, index, modality, place, yaw=yaw))
                names.setdefault((letter, identity), []).append(path)
    for trial in range(1, 11):
        order = [int(n) + 1 for n in generator("regdb trial", seed, trial).permutation(identities)]
        halves = {"train": sorted(order[: identities // 2]), "test": sorted(order[identities // 2 :])}
        for part, members in halves.items():
            for letter, (_, word, _) in words.items():
                rows = [f"{path} {label}" for label, who in enumerate(members) for path in names[letter, who]]
                plan.files[f"idx/{part}_{word}_{trial}.txt"] = lines(rows)
    return plan


def llcm(identities: int, images: int | None, seed: int) -> Plan:
    """Nine cameras with both modalities, the third without infrared in the test; two to four cameras for each
    person; two thirds of the persons train."""
    plan, images = Plan(), images or 4
    listed: dict[str, list[str]] = {
        f"{part}_{word}": [] for part in ("train", "test") for word in ("vis", "nir")
    }
    tested = [identity for identity in range(1, identities + 1) if identity % 3 == 0]
    labels = {identity: label for label, identity in enumerate(tested)}
    labels |= {who: label for label, who in enumerate(w for w in range(1, identities + 1) if w % 3)}
    for identity in range(1, identities + 1):
        part = "test" if identity % 3 == 0 else "train"
        for camera in cameras_of(identity, seed, 9, 4):
            for word, modality in (("vis", VISIBLE), ("nir", INFRARED)):
                if part == "test" and word == "nir" and camera == 3:
                    continue
                for index in range(images):
                    frame = identity * 50 + index
                    name = f"{identity:04d}_c{camera:02d}_s{frame * 40:06d}_f{frame:04d}_{word}.jpg"
                    folder = f"test_{word}/cam{camera}" if part == "test" else word
                    path = f"{folder}/{identity:04d}/{name}"
                    # The two modalities come from two lenses side by side.
                    number = camera if word == "vis" else camera + 100
                    plan.images.append(Crop(path, identity, number, index, modality, camera, (144, 64)))
                    listed[f"{part}_{word}"].append(f"{path} {labels[identity]}")
    plan.files["idx/test_id.txt"] = lines([",".join(map(str, tested))])
    for name, rows in listed.items():
        plan.files[f"idx/{name}.txt"] = lines(rows)
    for camera in range(1, 10):
        for word in ("vis", "nir"):
            if (word, camera) != ("nir", 3):
                plan.folders.append(f"test_{word}/cam{camera}")
    return plan
