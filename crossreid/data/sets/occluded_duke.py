"""Occluded-DukeMTMC (Miao et al. 2019): DukeMTMC-reID divided anew so that something stands before every query."""

from __future__ import annotations

from crossreid.data import market_like
from crossreid.data.source import Counts, Source

SOURCE = Source(
    name="occluded_duke",
    title="Occluded-DukeMTMC",
    paper="Miao et al., Pose-Guided Feature Alignment for Occluded Person Re-Identification, ICCV 2019",
    obtain="Its authors give lists of names and a script that takes the images from a copy of DukeMTMC-reID that you "
    "hold lawfully; DukeMTMC-reID itself is withdrawn.",
    address="https://github.com/lightas/Occluded-DukeMTMC-Dataset",
    licence="that of DukeMTMC-reID: withdrawn by its authors; formerly research only",
    caveats="Its images are those of DukeMTMC-reID: never train on one and test on the other.",
    basis="the authors' lists of names, whose lines were counted",
    layout="""Occluded_Duke/
  bounding_box_train/0001_c2_f0046182.jpg
  bounding_box_test/
  query/""",
    folder="Occluded_Duke",
    read=market_like.reader("Occluded-DukeMTMC", "0001_c2_f0046182.jpg"),
    protocol="single_query",
    expected={
        "train": Counts(702, 15618, 8),
        "query": Counts(519, 2210, 8),
        "gallery": Counts(1110, 17661, 8),
    },
    check=market_like.checker("Occluded-DukeMTMC", r"\d{4}_c[1-8]_f\d+\.jpg"),
)
