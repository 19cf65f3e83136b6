"""Domains: season, palette, scene and camera quality, one style for each data set's name."""

from __future__ import annotations

from dataclasses import dataclass

from crossreid.records import UserError
from crossreid.synthetic.keys import between, generator, pick
from crossreid.synthetic.variation import NONE, Variation, drawn

# Garment colours as displayed; PALETTES has them as (red, green, blue), 0 to 1.
_PALETTES = {
    "summer": "ebe8e0 1a1c24 cc292e 295cb8 edc73d 38945c e68599 73b2d9 8c8f94 ed7a29",
    "autumn": "5c3d29 996b3d 1f2438 7a1f29 576133 c7b899 1a1a1c b87a24 4c576b 295252",
    "winter": "14141a 292e42 666970 a8a8ad 751a29 243d75 3d4733 8f7557 e0e0e6 4c2952",
    "spring": "dbd6cc b2cce0 e0bdbd 333d57 809e75 664c80 242429 c2a375 9e3342 3d7599",
}
PALETTES = {
    season: [tuple(byte / 255 for byte in bytes.fromhex(word)) for word in words.split()]
    for season, words in _PALETTES.items()
}


@dataclass(frozen=True)
class Style:
    """What the images of one domain have in common.

    name: part of every random key of the domain.
    season: of PALETTES; it also weighs short against long garments.
    scenes: kinds of place and their weights: ``campus``, ``street``, ``mall``, ``station``, ``room``,
    ``park``, ``clutter``.
    pitch: degrees that the cameras look down, least and most.
    balance, exposure: how far cameras differ in white balance and in exposure, as natural logarithms.
    saturation, contrast: 1 is as seen.
    blur: standard deviation in thousandths of the image's height, least and most.
    noise: standard deviation, share of full scale, least and most.
    quality: JPEG quality, least and most.
    vary: what else real cameras and people do, by kinds.
    """

    name: str
    season: str = "summer"
    scenes: tuple[tuple[str, float], ...] = (("campus", 1.0),)
    pitch: tuple[float, float] = (4.0, 16.0)
    balance: float = 0.22
    exposure: float = 0.35
    saturation: float = 1.0
    contrast: float = 1.0
    blur: tuple[float, float] = (2.0, 5.0)
    noise: tuple[float, float] = (0.008, 0.025)
    quality: tuple[int, int] = (72, 92)
    vary: Variation = NONE


SUNLIT = Variation(
    bodies=0.7,
    cloth=0.8,
    sun=1.0,
    exposure=0.7,
    colour=0.5,
    detail=0.6,
    motion=0.3,
    crowd=0.2,
    places=0.8,
    frame=0.4,
)
ABOVE = Variation(
    bodies=0.6,
    cloth=0.8,
    sun=0.5,
    exposure=0.4,
    colour=0.9,
    detail=0.5,
    motion=0.3,
    crowd=0.3,
    places=0.3,
    frame=0.3,
)

STYLES = {
    style.name: style
    for style in (
        Style("market1501", "summer", (("campus", 2), ("street", 1), ("park", 1))),
        Style("dukemtmc", "winter", (("street", 2), ("campus", 1)), (10, 24), 0.18, 0.35, 0.85, blur=(1, 4)),
        Style(
            "msmt17", "spring", (("campus", 1), ("mall", 1), ("room", 1)), (6, 20), 0.26, 0.45, contrast=1.1
        ),
        Style(
            "sysu_mm01",
            "autumn",
            (("room", 1), ("campus", 1)),
            (6, 16),
            0.18,
            0.35,
            blur=(1, 3),
            noise=(0.006, 0.014),
        ),
        Style("regdb", "winter", (("campus", 2), ("park", 1)), (2, 8), 0.12, 0.25, 0.7, 0.9, (6, 9)),
        Style(
            "llcm",
            "winter",
            (("street", 2), ("park", 1)),
            (8, 22),
            0.25,
            0.45,
            0.7,
            0.85,
            (3, 8),
            (0.02, 0.05),
        ),
        Style("cuhk02", "spring", (("campus", 1),), (8, 20), 0.22, 0.3, 0.9, 0.9),
        Style("cuhk03", "spring", (("campus", 1), ("room", 1)), (10, 24), 0.25, 0.35, 0.95),
        Style("cuhk_sysu", "summer", (("street", 2), ("mall", 1)), (0, 8), 0.20, 0.35, 1.1, 1.1, (0, 4)),
        Style(
            "grid",
            "winter",
            (("station", 1),),
            (14, 28),
            0.32,
            0.55,
            0.65,
            0.8,
            (6, 11),
            (0.02, 0.04),
            (40, 60),
        ),
        # Two static cameras above a crossing: steep, one greenish and one pale, people small and seen from a side.
        Style("prid2011", "autumn", (("street", 1),), (18, 32), 0.28, 0.35, 0.75, 0.85, (3, 6), vary=ABOVE),
        Style("ilids", "winter", (("station", 2), ("mall", 1)), (10, 20), 0.15, 0.4, 0.7, 0.9, (6, 12)),
        # Hand-held, outdoors, in full sun and in shade, each person from two sides.
        Style(
            "viper",
            "spring",
            (("park", 1), ("campus", 1), ("street", 1)),
            (2, 10),
            0.20,
            0.35,
            1.0,
            1.05,
            (3, 6),
            vary=SUNLIT,
        ),
        Style("prid450s", "autumn", (("street", 1),), (16, 30), 0.26, 0.35, 0.8, 0.9, (2, 6), vary=ABOVE),
        Style("pku_reid", "spring", (("campus", 1),), (4, 12), 0.2, 0.3),
        Style("sensereid", "summer", (("street", 2), ("mall", 1)), (6, 18), 0.25, 0.45),
        Style("caviar4reid", "autumn", (("mall", 1),), (14, 26), 0.2, 0.4, 0.75, 0.85, (6, 11), (0.02, 0.04)),
        Style("pes3d", "spring", (("campus", 2), ("park", 1)), (12, 24), 0.2, 0.4, 0.9),
        Style("lpw", "summer", (("street", 1),), (6, 16), 0.22, 0.4),
        Style("ilids_vid", "winter", (("station", 2), ("mall", 1)), (10, 20), 0.15, 0.4, 0.7, 0.9, (6, 12)),
        Style("partial_reid", "summer", (("campus", 1),), (4, 14), 0.2, 0.3),
        Style("folder", "spring", (("mall", 1), ("street", 1))),
        Style("csv", "autumn", (("park", 1), ("street", 1))),
    )
}
# Data sets of the same people and places.
STYLES |= {
    name: STYLES[other]
    for name, other in {
        "market1501_500k": "market1501",
        "mars": "market1501",
        "occluded_duke": "dukemtmc",
        "cuhk01": "cuhk02",
        "partial_ilids": "ilids",
    }.items()
}


def style(domain: int | str | Style, seed: int = 0) -> Style:
    """The style of a domain: a data set's name, any integer for one drawn at random, or a style as it is.

    Raises UserError for a name without a style.
    """
    if isinstance(domain, Style):
        return domain
    if isinstance(domain, str):
        if domain not in STYLES:
            raise UserError(
                f"No synthetic domain is called {domain!r}: expected an integer or one of "
                f"{', '.join(sorted(STYLES))}."
            )
        return STYLES[domain]
    rng = generator("style", seed, domain)
    scenes = ("campus", "street", "mall", "station", "room", "park", "clutter")
    kinds = [scenes[int(rng.integers(len(scenes)))] for _ in range(3)]
    pitch, blur, noise, quality = (
        between(rng, 2, 20),
        between(rng, 1, 7),
        between(rng, 0.005, 0.03),
        rng.integers(50, 85),
    )
    return Style(
        f"domain{int(domain)}",
        pick(rng, dict.fromkeys(PALETTES, 1.0)),
        tuple((kind, 1.0) for kind in kinds),
        (pitch, pitch + 10),
        between(rng, 0.12, 0.30),
        between(rng, 0.25, 0.5),
        between(rng, 0.6, 1.15),
        between(rng, 0.8, 1.1),
        (blur, blur + 3),
        (noise, noise * 1.8),
        (int(quality), int(quality) + 12),
        drawn(generator("variation", seed, domain)),
    )
