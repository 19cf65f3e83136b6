"""SYSU-MM01: infrared queries search a gallery of one or ten visible images per identity and camera."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from crossreid.data.sets import sysu_mm01
from crossreid.formats import matlab
from crossreid.protocols.base import Protocol
from crossreid.records import INFRARED, VISIBLE, Image, Trial, UserError

CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
# Cameras 2 and 3 look at the same room.
PLACES = np.array([0, 1, 2, 2, 4, 5, 6])


class SysuMM01(Protocol):
    """The protocol of Wu et al. 2017, with the galleries of the owner's files or seeded ones.

    mode: ``"all"`` searches cameras 1, 2, 4 and 5, ``"indoor"`` only 1 and 2.
    shots: images drawn from each identity and gallery camera, 1 or 10.
    trials: 1 to 10 galleries, averaged.
    gallery: ``"official"`` takes the draws of the owner's rand_perm_cam.mat; ``"python"`` seeds Python's
        generator with the number of the trial, as DDAG and AGW do; ``"auto"`` is official where the copy has
        that file.
    split: ``"test"`` (96 identities), or ``"validation"``: the 99 of val_id, under the same rules.
    """

    name = "sysu_mm01"
    cmc = "identity"
    settings = ("mode", "shots", "trials", "gallery")
    held_out = False
    title = sysu_mm01.SOURCE.title

    def __init__(
        self,
        root: str | Path,
        *,
        mode: str = "all",
        shots: int = 1,
        trials: int = 10,
        gallery: str = "auto",
        split: str = "test",
    ):
        _one_of("mode", mode, tuple(CAMERAS))
        _one_of("shots", shots, (1, 10))
        _one_of("trials", trials, tuple(range(1, 11)))
        _one_of("gallery", gallery, ("auto", "python", "official"))
        _one_of("split", split, ("test", "validation"))
        root = sysu_mm01.find(Path(root))
        file = sysu_mm01.permutations(root)
        if gallery == "official" and file is None:
            raise UserError(
                f"the official galleries of SYSU-MM01 need rand_perm_cam.mat, which is neither in {root} nor in its "
                "folder exp: copy it there from the owner's evaluation code, or set protocol.gallery to python."
            )
        chosen = None if gallery == "python" else file
        if split == "test":
            splits = sysu_mm01.tested(root)
            query, visible = splits["query"], splits["gallery"]
        else:
            images = sysu_mm01.read(root, trainval=False).get("validation", [])
            query = [image for image in images if image.modality == INFRARED]
            visible = [image for image in images if image.modality == VISIBLE]
        places = _places(visible, CAMERAS[mode])
        if not places:
            raise UserError(
                f"SYSU-MM01 in {root}: no {split} identity has an image in the gallery cameras "
                f"{', '.join(map(str, CAMERAS[mode]))} of mode {mode!r}. The validation identities were taken "
                "outdoors only: use mode 'all'; otherwise complete the copy (crossreid data check sysu_mm01)."
            )
        counts = {key: len(found) for key, found in places.items()}
        if chosen is not None:
            draw = _official(chosen, counts, shots)
        else:
            draw = [seeded_gallery(counts, shots, trial) for trial in range(trials)]
        drawn = [
            [places[identity, camera][position] for identity, camera, position in picks]
            for picks in draw[:trials]
        ]
        used = sorted({index for picks in drawn for index in picks})
        self.images = query + [visible[index] for index in used]
        row = {index: len(query) + position for position, index in enumerate(used)}
        self._galleries = [np.array([row[index] for index in picks]) for picks in drawn]
        self._queries = np.arange(len(query))
        self._row = mode
        identities = len({image.identity for image in query})
        by_list = chosen is not None
        self.description = _words(
            self.called, mode, shots, trials, by_list, f"{identities} {split} identities"
        )

    def trials(self) -> list[Trial]:
        places = PLACES[[image.camera for image in self.images]]
        return [
            Trial(self._row, self._queries, gallery, (places[self._queries], places[gallery]))
            for gallery in self._galleries
        ]


def seeded_gallery(
    counts: Mapping[tuple[int, int], int], shots: int, trial: int
) -> list[tuple[int, int, int]]:
    """Draw (identity, camera, position in the sorted folder) for one trial, in order of identity and camera.

    counts: images by (identity, camera), gallery cameras only. Folders without images consume no random
        number.

    One shot follows DDAG and AGW exactly: Python's generator seeded with the number of the trial. They have
    no rule for ten shots; ours draws ``choice(n, 10, replace=False)`` for each folder from one
    ``numpy.random.RandomState(trial)``.
    """
    folders = sorted(key for key, count in counts.items() if count)
    if shots == 1:
        generator = random.Random(trial)
        return [(*folder, generator.choice(range(counts[folder]))) for folder in folders]
    state = np.random.RandomState(trial)
    picks = []
    for folder in folders:
        count = counts[folder]
        drawn = state.choice(count, min(shots, count), replace=False)
        picks += [(*folder, int(position)) for position in drawn]
    return picks


def official_gallery(
    cells: np.ndarray, counts: Mapping[tuple[int, int], int], shots: int, trial: int
) -> list[tuple[int, int, int]]:
    """The draw of one trial (0 to 9) by the owner's permutations, in order of camera and identity.

    cells: the variable of rand_perm_cam.mat, (6, 1) cells of (persons, 1) cells of (10, n) positions counted
        from 1.
    """
    picks = []
    folders = [key for key, count in counts.items() if count]
    for identity, camera in sorted(folders, key=lambda folder: folder[::-1]):
        try:
            # Bytes would wrap below zero when 1 is subtracted.
            positions = cells[camera - 1, 0][identity - 1, 0].astype(np.int64)
            positions = positions[trial] - 1
        except (IndexError, AttributeError):
            positions = ()
        if len(positions) != counts[identity, camera]:
            raise UserError(
                f"SYSU-MM01: cam{camera}/{identity:04d} has {counts[identity, camera]} images, but "
                f"rand_perm_cam.mat counts {len(positions)} there: the copy is incomplete or has stray "
                f"files. Run crossreid data check sysu_mm01, or set protocol.gallery to python."
            )
        picks += [(identity, camera, int(position)) for position in positions[:shots]]
    return picks


def _official(
    file: Path, counts: Mapping[tuple[int, int], int], shots: int
) -> list[list[tuple[int, int, int]]]:
    cells = matlab.read_variables(file, ["rand_perm_cam"])["rand_perm_cam"]
    return [official_gallery(cells, counts, shots, trial) for trial in range(10)]


def _places(images: Iterable[Image], cameras: tuple[int, ...]) -> dict[tuple[int, int], list[int]]:
    places: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        if image.camera in cameras:
            places.setdefault((image.identity, image.camera), []).append(index)
    return places


def _words(title: str, mode: str, shots: int, trials: int, official: bool, who: str) -> str:
    where = "cameras 1, 2, 4 and 5 (all-search)" if mode == "all" else "cameras 1 and 2 (indoor-search)"
    many = "one image" if shots == 1 else "ten images"
    if official:
        how = "drawn by the owner's rand_perm_cam.mat"
    elif shots == 1:
        how = "drawn by Python's generator seeded with the number of the trial, as in DDAG and AGW"
    else:
        how = "drawn by a rule of this library (numpy's RandomState seeded with the number of the trial)"
    mean = "one trial" if trials == 1 else f"mean of {trials} trials"
    return (
        f"{title}, {mode}, {shots}-shot, {mean}. Every infrared image of the {who} is a query; the "
        f"gallery is {many} for each identity in each of {where}, {how}. Images of camera 2 are left out "
        f"for queries of camera 3, which is the same room, whoever they show. Queries without a match are "
        f"left out. The curve counts identities, the average precision images."
    )


def _one_of(what: str, value, allowed: tuple) -> None:
    if value not in allowed:
        raise UserError(
            f"protocol sysu_mm01: {what} is {value!r}, expected one of {', '.join(map(str, allowed))}."
        )
