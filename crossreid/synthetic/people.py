"""Identities: everything about a person that is the same in every image of that person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crossreid.synthetic.keys import between, generator, pick
from crossreid.synthetic.styles import PALETTES, Style, style
from crossreid.synthetic.variation import NONE, dressed

PATTERNS = {
    "plain": 3.2,
    "stripes": 1.5,
    "bars": 0.7,
    "check": 1.1,
    "dots": 0.6,
    "camouflage": 0.5,
    "block": 1.0,
    "print": 1.2,
    "band": 0.8,
    "yoke": 0.7,
}
NEUTRALS = (
    (0.09, 0.09, 0.10),
    (0.26, 0.26, 0.28),
    (0.52, 0.52, 0.53),
    (0.86, 0.85, 0.82),
    (0.13, 0.16, 0.26),
)


@dataclass(frozen=True)
class Material:
    """How one cloth or surface looks.

    colour, second: (3,) displayed colour of the ground and of the pattern, 0 to 1.
    infrared, second_infrared: reflectance of the two near 850 nm, 0 to 1, drawn without looking at the
        colours: a print may vanish in infrared, and keep its shape where the dyes differ.
    pattern: a key of PATTERNS, ``side`` or ``faded``. scale: its period, as a share of body height.
    shift: its phase.
    folds: how strongly creases show, 0 to 1. gloss: 0 is matt. creases: how many to a length, 1 is usual.
    """

    colour: tuple[float, float, float]
    infrared: float
    pattern: str = "plain"
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    second_infrared: float = 0.0
    scale: float = 0.06
    shift: float = 0.0
    folds: float = 0.5
    gloss: float = 0.0
    creases: float = 1.0


@dataclass(frozen=True)
class Person:
    """One identity. Lengths are shares of body height; ``materials`` is keyed by the parts of a figure."""

    build: float
    shoulders: float
    hips: float
    legs: float
    head: float
    belly: float
    hair: str
    beard: bool
    glasses: bool
    upper: str
    open_front: bool
    sleeves: float
    hem: float
    lower: str
    leg_cover: float
    width: float
    tucked: bool
    shoes: str
    bag: str
    side: int
    headwear: str
    scarf: bool
    materials: dict[str, Material]


def _cloth(
    rng: np.random.Generator,
    palette: list,
    patterns: dict | None = None,
    folds: float = 0.5,
    sober: float = 0.5,
) -> Material:
    first, second = (palette[place] for place in rng.permutation(len(palette))[:2])
    # As in any street, many wear what many others wear.
    if rng.random() < sober:
        first = NEUTRALS[int(rng.integers(len(NEUTRALS)))]
    if rng.random() < sober:
        second = NEUTRALS[int(rng.integers(len(NEUTRALS)))]
    if max(abs(a - b) for a, b in zip(first, second)) < 0.15:
        second = tuple(c + 0.45 if c < 0.5 else c - 0.45 for c in first)
    colour = tuple(min(1.0, max(0.03, c + between(rng, -0.06, 0.06))) for c in first)
    infrared = (0.14, 0.30, 0.50, 0.72, 0.95)[int(rng.integers(5))] + between(rng, -0.05, 0.03)
    pattern = pick(rng, patterns or {"plain": 1.0})
    # Dyes of a pattern differ in infrared in four garments out of five.
    step = between(rng, 0.28, 0.5) if rng.random() < 0.8 else 0.0
    other = infrared - step if infrared > 0.5 else infrared + step
    return Material(
        colour,
        infrared,
        pattern,
        second,
        other,
        between(rng, 0.045, 0.11),
        between(rng, 0, 1),
        folds * between(rng, 0.6, 1.4),
        between(rng, 0, 0.15),
    )


# How often each is drawn.
HAIR = {"bald": 0.6, "short": 3, "bob": 1.4, "long": 1.6, "ponytail": 1, "bun": 0.7, "afro": 0.6}
HAIR_COLOURS = {
    (0.08, 0.07, 0.07): 3,
    (0.24, 0.15, 0.09): 2,
    (0.50, 0.34, 0.18): 1,
    (0.78, 0.64, 0.40): 0.8,
    (0.58, 0.57, 0.56): 0.7,
    (0.48, 0.20, 0.10): 0.4,
}
BAGS = {
    "none": 1.6,
    "backpack": 2.2,
    "shoulder": 1.4,
    "handbag": 1.0,
    "carrier": 0.8,
    "trolley": 0.6,
    "waist": 0.4,
}
BAG_PATTERNS = {"plain": 1.6, "block": 0.6, "stripes": 0.4}
LOWER_PATTERNS = {
    "plain": 2.5,
    "side": 1.0,
    "check": 0.6,
    "bars": 0.4,
    "dots": 0.2,
    "camouflage": 0.4,
    "faded": 1.2,
}
SHOE_COLOURS = [
    (0.08, 0.08, 0.09),
    (0.90, 0.90, 0.88),
    (0.40, 0.26, 0.16),
    (0.74, 0.14, 0.16),
    (0.16, 0.26, 0.50),
    (0.50, 0.50, 0.52),
]


def _garments(rng: np.random.Generator, warm: float) -> tuple[str, str]:
    """What is worn above and below in a season, 0 cold to 1 warm."""
    upper = {
        "tshirt": 0.3 + 2.4 * warm,
        "sleeveless": 0.8 * warm,
        "shirt": 1.0,
        "jumper": 1.2 - 0.8 * warm,
        "hoodie": 1.0 - 0.6 * warm,
        "jacket": 1.7 - 1.2 * warm,
        "coat": 1.7 - 1.6 * warm,
        "dress": 0.9 * warm + 0.1,
        "vest": 0.5,
    }
    lower = {
        "trousers": 1.6,
        "wide": 0.8,
        "slim": 1.1,
        "shorts": 0.1 + 1.5 * warm,
        "skirt": 0.3 + 0.9 * warm,
        "long_skirt": 0.4,
        "cropped": 0.1 + 0.4 * warm,
    }
    return pick(rng, upper), pick(rng, lower)


def _materials(rng: np.random.Generator, palette: list, upper: str) -> dict[str, Material]:
    """What each part of a figure is made of."""
    tone = between(rng, 0, 1)
    skin = (0.93 + (0.36 - 0.93) * tone, 0.76 + (0.24 - 0.76) * tone, 0.66 + (0.18 - 0.66) * tone)
    shade = pick(rng, HAIR_COLOURS)
    above = dict(PATTERNS)
    if upper in ("coat", "jacket", "vest"):
        above |= {"print": 0.3, "plain": 2.5, "dots": 0.3}
    main = _cloth(rng, palette, above, {"coat": 0.5, "jacket": 0.6, "vest": 0.8}.get(upper, 0.7))
    return {
        "skin": Material(skin, between(rng, 0.50, 0.64), folds=0.05, gloss=0.1),
        "hair": Material(shade, between(rng, 0.08, 0.34), folds=0.45, gloss=0.25),
        "upper": main,
        "sleeve": main if rng.random() < 0.72 else _cloth(rng, palette),
        "inner": _cloth(rng, palette, {"plain": 2, "stripes": 1, "print": 1}),
        "lower": main if upper == "dress" else _cloth(rng, palette, LOWER_PATTERNS, 0.6),
        "shoes": _cloth(rng, SHOE_COLOURS, folds=0.1),
        "sole": Material(
            pick(rng, {(0.93, 0.93, 0.91): 1, (0.1, 0.1, 0.1): 1}), between(rng, 0.2, 0.9), folds=0.0
        ),
        "socks": _cloth(rng, [(0.92, 0.92, 0.90), (0.1, 0.1, 0.12), (0.6, 0.2, 0.2)], folds=0.2, sober=0.0),
        "bag": _cloth(rng, PALETTES["summer"], BAG_PATTERNS, 0.3),
        "strap": _cloth(rng, [(0.08, 0.08, 0.09), (0.42, 0.28, 0.16), (0.62, 0.60, 0.56)], folds=0.1),
        "headwear": _cloth(rng, palette, {"plain": 2, "stripes": 1}, 0.3),
        "scarf": _cloth(rng, PALETTES["summer"], {"plain": 1, "stripes": 1, "check": 1}, 0.8),
        "trim": Material(
            pick(rng, {(0.08, 0.08, 0.09): 2, (0.85, 0.84, 0.80): 1}), between(rng, 0.1, 0.9), folds=0.0
        ),
        "feature": Material((0.42 * skin[0], 0.42 * skin[1], 0.42 * skin[2]), 0.3, folds=0.0),
    }


@lru_cache(maxsize=4096)
def person(identity: int, seed: int = 0, domain: int | str | Style = "market1501") -> Person:
    """The person with number ``identity`` of a domain: a pure function of the three arguments."""
    look = style(domain, seed)
    rng = generator("person", seed, look.name, identity)
    warm = {"summer": 1.0, "spring": 0.55, "autumn": 0.25, "winter": 0.06}[look.season]
    # The order of the draws is what makes a person the same whenever it is drawn.
    upper, lower = _garments(rng, warm)
    hair = pick(rng, HAIR)
    bag = pick(rng, BAGS)
    sleeves = {
        "tshirt": 0.42,
        "sleeveless": 0.0,
        "vest": 0.98,
        "dress": pick(rng, {0.0: 1, 0.4: 1, 0.95: 0.7}),
    }
    hem = {
        "coat": between(rng, 0.16, 0.30),
        "dress": between(rng, 0.12, 0.26),
        "jumper": 0.03,
        "hoodie": 0.03,
    }
    cover = {
        "shorts": between(rng, 0.42, 0.56),
        "skirt": between(rng, 0.34, 0.58),
        "long_skirt": 0.86,
        "cropped": 0.74,
    }
    materials = _materials(rng, PALETTES[look.season], upper)
    who = Person(
        build=between(rng, 0.76, 1.24),
        shoulders=between(rng, 0.90, 1.12),
        hips=between(rng, 0.88, 1.14),
        legs=between(rng, 0.95, 1.06),
        head=between(rng, 0.88, 1.04),
        belly=max(0.0, between(rng, -0.5, 0.5)),
        hair=hair,
        beard=hair in ("short", "bald") and rng.random() < 0.4,
        glasses=rng.random() < 0.25,
        upper=upper,
        open_front=upper in ("jacket", "coat", "vest", "hoodie") and rng.random() < 0.6,
        sleeves=sleeves.get(upper, 0.96),
        hem=hem.get(upper, between(rng, -0.02, 0.06)),
        lower="none" if upper == "dress" else lower,
        leg_cover=cover.get(lower, 1.0) if upper != "dress" else 0.0,
        width={"wide": 1.45, "slim": 0.92, "trousers": 1.15, "shorts": 1.35, "cropped": 1.2}.get(lower, 1.0),
        tucked=upper in ("tshirt", "shirt", "sleeveless") and rng.random() < 0.4,
        shoes=pick(rng, {"trainers": 2, "flat": 1.5, "boots": 1.2 - warm * 0.8}),
        bag=bag,
        side=1 if rng.random() < 0.5 else -1,
        headwear=pick(rng, {"none": 4.5, "cap": 0.9, "beanie": 0.9 - 0.8 * warm, "hat": 0.4, "hood": 0.3}),
        scarf=rng.random() < 0.3 * (1.1 - warm),
        materials=materials,
    )
    if look.vary == NONE:
        return who
    return dressed(who, look.vary, generator("dressed", seed, look.name, identity))
