"""A posed figure, drawn as tubes around its bones.

Body frame: x to the figure's left, y up from the ground, z forward; unit: the height of the body. A pixel
knows its angle around the bone, so that a print on the chest turns with the body, and its height on the
body, which is all that cloth needs to be painted, whatever the modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossreid.synthetic.people import Person
from crossreid.synthetic.tubes import Maps

SHOULDER, HIP, KNEE, ANKLE = 0.845, 0.515, 0.285, 0.04
# How much each garment adds to the radius of the body.
_THICKNESS = {"coat": 0.016, "jacket": 0.014, "vest": 0.018, "hoodie": 0.011, "jumper": 0.008}
# Order of painting; larger is nearer. Arms and what is carried find their place by how near they are.
_FAR_SIDE, _LEGS, _HIPS, _TORSO, _NECK, _HEAD, _NEAR_SIDE = -0.9, -0.5, -0.22, 0.0, 0.003, 0.01, 0.05


@dataclass(frozen=True)
class Pose:
    """yaw: radians, 0 faces the camera, pi shows the back. phase: of the walk, radians. stride: greatest
    swing of the thigh, radians. bend: of the elbows, radians. gaze: turn of the head against the body,
    radians. lean: sideways, radians. phone: a hand is at the ear."""

    yaw: float
    phase: float = 0.0
    stride: float = 0.3
    bend: float = 0.3
    gaze: float = 0.0
    lean: float = 0.0
    phone: bool = False
    stoop: float = 0.0
    apart: float = 0.0
    fold: float = 0.0


def draw(who: Person, pose: Pose, pitch: float, scale: float, foot: tuple[float, float], size) -> Maps:
    """Draw a person.

    pitch: how far the camera looks down, radians. scale: pixels for the height of the body. foot: (x, y) in
    pixels of the point on the ground below the body. size: (height, width) in pixels.
    """
    sheet = _Drawing(pose, pitch, scale, foot)
    lift = _legs(who, pose, sheet)
    _hips(who, pose, sheet, lift)
    details = _torso(who, pose, sheet, lift)
    _head(who, pose, sheet, lift)
    for side in (1, -1):
        _arm(who, pose, sheet, lift, side)
    _bag(who, sheet, lift, details)
    return sheet.paint(size)


class _Drawing:
    """Tubes in body coordinates, collected and painted from the farthest to the nearest."""

    def __init__(self, pose: Pose, pitch: float, scale: float, foot: tuple[float, float]):
        self.yaw, self.scale, self.foot = pose.yaw, scale, foot
        self.cos, self.sin = np.cos(pose.yaw), np.sin(pose.yaw)
        self.down, self.tilt = np.cos(pitch), np.sin(pitch)
        self.sway = np.sin(pose.lean)
        self.stoop = pose.stoop
        self.tubes: list[tuple] = []

    def near(self, x: float, y: float, z: float) -> float:
        """How much nearer to the camera than the body's axis a point is."""
        return z * self.cos - x * self.sin

    def place(self, point) -> tuple[float, float]:
        """Body point -> pixel (x, y)."""
        x, y, z = point
        if self.stoop and y > HIP:
            z = z + self.stoop * (y - HIP)
        right = x * self.cos + z * self.sin + self.sway * y
        up = y * self.down - self.near(x, y, z) * self.tilt
        return self.foot[0] + right * self.scale, self.foot[1] - up * self.scale

    def oval(self, wide, deep, yaw: float | None = None) -> np.ndarray:
        """Half widths that oval sections, ``wide`` sideways and ``deep`` forward, show under a yaw."""
        yaw = self.yaw if yaw is None else yaw
        return np.hypot(np.multiply(wide, np.cos(yaw)), np.multiply(deep, np.sin(yaw)))

    def add(self, order, start, end, radii, part, *, caps=(0.0, 0.0), turn=None, **settings):
        """See ``Maps.tube``; here all lengths are shares of body height and the ends are body points."""
        settings["turn"] = self.yaw if turn is None else turn
        settings["caps"] = (caps[0] * self.scale, caps[1] * self.scale)
        radii = np.multiply(radii, self.scale)
        self.tubes.append((order, len(self.tubes), self.place(start), self.place(end), radii, part, settings))

    def paint(self, size) -> Maps:
        maps = Maps(*size)
        for _, _, start, end, radii, part, settings in sorted(self.tubes, key=lambda tube: tube[:2]):
            maps.tube(start, end, radii, part, **settings)
        return maps


def _between(a, b, part: float) -> tuple:
    return tuple(a[i] + (b[i] - a[i]) * part for i in range(3))


def _legs(who: Person, pose: Pose, sheet: _Drawing) -> float:
    """Both legs in the plane of the walk; returns by how much the body rises or sinks for the lower foot to
    stand on the ground."""
    hip, knee = HIP * who.legs, KNEE * who.legs
    stride = _stride(who, pose)
    legs, lift = [], -1.0
    for side in (1, -1):
        phase = pose.phase if side > 0 else pose.phase + np.pi
        swing = stride * np.sin(phase)
        tilt = swing - 0.06 - stride * 1.3 * max(0.0, np.cos(phase))
        x = side * 0.052 * who.hips
        a = (x, hip, 0.0)
        b = (x * 1.05, hip - (hip - knee) * np.cos(swing), (hip - knee) * np.sin(swing))
        c = (x * 1.1, b[1] - (knee - ANKLE) * np.cos(tilt), b[2] + (knee - ANKLE) * np.sin(tilt))
        legs.append((side, a, b, c, tilt))
        lift = max(lift, ANKLE - c[1])
    for side, *joints, tilt in legs:
        a, b, c = ((x, y + lift, z) for x, y, z in joints)
        order = _LEGS + 0.2 * sheet.near(*b)
        _bare_leg(who, sheet, order, a, b, c)
        _shoe(who, sheet, order, side, b, c, tilt)
        if who.leg_cover > 0 and who.lower not in ("skirt", "long_skirt"):
            _trouser_leg(who, sheet, order + 0.01, a, b, c)
    return lift


def _stride(who: Person, pose: Pose) -> float:
    return min(pose.stride, 0.26) if who.lower == "long_skirt" else pose.stride


def _thigh(who: Person) -> np.ndarray:
    return np.array([0.070, 0.064, 0.050]) * who.build**0.8


def _bare_leg(who, sheet, order, a, b, c):
    shin = np.array([0.047, 0.050, 0.038, 0.029]) * who.build**0.6
    if who.leg_cover < 0.7 or who.lower == "long_skirt":
        sheet.add(order, a, b, _thigh(who), "skin", along=(HIP, KNEE), caps=(0, 0.04))
    sheet.add(order, b, c, shin, "skin", along=(KNEE, ANKLE))
    if who.leg_cover < 0.8:
        sheet.add(order, _between(b, c, 0.72), c, shin[-2:] + 0.003, "socks", along=(0.11, ANKLE))


def _shoe(who, sheet, order, side, b, c, tilt):
    # The foot points a little outwards and hangs when the leg is behind.
    toe = (c[0] + side * 0.018, c[1] - 0.012 + 0.05 * min(0, np.sin(tilt)), c[2] + 0.085)
    heel = (c[0], c[1] - 0.008, c[2] - 0.025)
    if who.shoes == "boots":
        sheet.add(order, _between(b, c, 0.5), c, [0.050, 0.040, 0.038], "shoes", along=(0.16, ANKLE))
    elif who.shoes == "trainers":
        ends = [(x, y - 0.018, z) for x, y, z in (heel, toe)]
        sheet.add(order + 0.004, *ends, [0.026, 0.028, 0.024], "sole", caps=(0.015, 0.02))
    sheet.add(order + 0.004, heel, toe, [0.032, 0.033, 0.025], "shoes", caps=(0.02, 0.022))


def _trouser_leg(who, sheet, order, a, b, c):
    loose, thigh = who.width, _thigh(who)
    if who.leg_cover <= 0.56:
        stop = _between(a, b, min(1.0, who.leg_cover / 0.52))
        sheet.add(order, a, stop, thigh * [1.08, loose, loose * 1.05], "lower", along=(HIP, 0.30))
        return
    part = (who.leg_cover - 0.5) / 0.5
    stop = _between(b, c, part * (0.6 if who.shoes == "boots" else 0.96))
    ankle = 0.050 * loose if part < 0.8 else max(0.034 * (1.75 if who.lower == "wide" else loose), 0.036)
    below = np.array([0.052 * loose * who.build**0.6, 0.050 * loose * who.build**0.5, ankle])
    sheet.add(order, b, stop, below, "lower", along=(KNEE, KNEE - 0.235 * part), caps=(0.04, 0))
    above = np.maximum(thigh * [1.06, 1.03, 1.0], [0, 0, below[0]])
    sheet.add(order + 0.002, a, b, above, "lower", along=(HIP, KNEE))


def _hips(who: Person, pose: Pose, sheet: _Drawing, lift: float) -> None:
    """The seat of the trousers, and skirts."""
    if who.lower == "none":
        return
    hip, broad = HIP * who.legs + lift, who.hips * who.build**0.8
    waist = (0, hip + 0.09, 0)
    seat = sheet.oval(np.array([0.088, 0.104, 0.100]) * broad, np.array([0.070, 0.084, 0.074]) * who.build)
    sheet.add(_HIPS, waist, (0, hip - 0.045, 0), seat, "lower", along=(0.60, 0.47), caps=(0, 0.02))
    if who.lower in ("skirt", "long_skirt"):
        flare = (1.25 if who.lower == "skirt" else 1.15) + 0.55 * _stride(who, pose)
        wide = np.array([0.088, 0.108, 0.112 * flare, 0.116 * flare]) * broad
        deep = np.array([0.070, 0.090, 0.095 * flare, 0.100 * flare]) * who.build
        length = who.leg_cover * 0.5
        hem = (0, hip - length, 0)
        sheet.add(_HIPS + 0.02, waist, hem, sheet.oval(wide, deep), "lower", along=(0.60, HIP - length))


def _torso(who: Person, pose: Pose, sheet: _Drawing, lift: float) -> list:
    """Body and upper garment; returns the list of details on it, which may still be added to."""
    hip, thick = HIP * who.legs + lift, _THICKNESS.get(who.upper, 0.004)
    heights = np.array([0.845, 0.822, 0.785, 0.72, 0.63, 0.56, 0.515, 0.45, 0.35])
    wide = np.array([0.048, 0.098, 0.126, 0.120, 0.101, 0.104, 0.108, 0.116, 0.124]) * who.build**0.8
    deep = np.array([0.045, 0.062, 0.078, 0.088, 0.080, 0.084, 0.088, 0.096, 0.104]) * who.build
    wide[1:4] *= who.shoulders
    wide[5:] *= who.hips
    deep[3:7] += 0.03 * who.belly * who.build
    wide[1:] += thick
    deep[1:] += thick
    if who.upper == "coat":
        wide[5:] *= 1.06
    elif who.upper == "dress":
        wide[6:] *= 1.0 + 0.3 * pose.stride
    bottom, low = hip - 0.005 - who.hem, HIP - 0.005 - who.hem
    if who.tucked:
        bottom, low = hip + 0.06, 0.575
    steps = np.linspace(SHOULDER, low, 12)
    radii = sheet.oval(np.interp(-steps, -heights, wide), np.interp(-steps, -heights, deep))

    details = []
    if who.open_front:
        details.append(("inner", lambda u, v: np.abs(u) < 0.16 + (0.82 - v) * 0.55))
    elif who.upper in ("jacket", "coat", "vest", "shirt"):
        details.append(("trim", lambda u, v: np.abs(u) < 0.05))
    elif who.upper != "hoodie":
        neckline = 0.78 if who.upper == "sleeveless" else 0.815
        details.append(("skin", lambda u, v: v > neckline + 0.05 * np.abs(u)))
    if who.tucked and who.lower != "none":
        details.append(("trim", lambda u, v: v < low + 0.012))
    if who.upper == "coat" and not who.open_front:
        details.append(("trim", lambda u, v: np.abs(v - 0.60) < 0.009))
    if who.scarf:
        details.append(("scarf", lambda u, v: (np.abs(u - 0.35 * who.side) < 0.17) & (v > 0.66)))
        round_neck = np.array([0.05, 0.075, 0.085]) * who.build**0.5
        ends = (0, 0.875 + lift, 0), (0, 0.815 + lift, 0)
        sheet.add(0.02, *ends, round_neck, "scarf", along=(0.875, 0.81), caps=(0, 0.01))
    ends = (0, SHOULDER + lift, 0), (0, bottom, 0)
    sheet.add(_TORSO, *ends, radii, "upper", along=(SHOULDER, low), details=details)
    return details


def _head(who: Person, pose: Pose, sheet: _Drawing, lift: float) -> None:
    """Neck, head, face, hair and what is worn on it. On the head, along is 1 at the crown and 0 at the
    chin."""
    turn, big = pose.yaw + pose.gaze, who.head
    neck = np.array([0.036, 0.040]) * who.build**0.5
    sheet.add(_NECK, (0, 0.89 + lift, 0), (0, 0.825 + lift, 0), neck, "skin", along=(0.89, 0.83))
    centre = 0.925 + lift + 0.005 * big
    ends = (0, centre + 0.028 * big, 0.012), (0, centre - 0.034 * big, 0.016)
    wide, deep = np.array([0.050, 0.053, 0.050, 0.040]) * big, np.array([0.060, 0.064, 0.058, 0.046]) * big
    skull = sheet.oval(wide, deep, turn)
    settings = {"turn": turn, "along": (1.0, 0.0), "caps": (0.046 * big, 0.034 * big)}
    details = [
        ("feature", lambda u, v: (np.abs(np.abs(u) - 0.5) < 0.17) & (np.abs(v - 0.42) < 0.08)),
        ("feature", lambda u, v: (np.abs(u) < 0.25) & (np.abs(v + 0.12) < 0.045)),
    ]
    if who.beard:
        details.insert(0, ("hair", lambda u, v: (np.abs(u) < 1.3) & (v < 0.08)))
    if who.glasses:
        details.append(("trim", lambda u, v: (np.abs(v - 0.42) < 0.15) & (np.abs(np.abs(u) - 0.75) < 0.6)))
    sheet.add(_HEAD, *ends, skull, "skin", details=details, **settings)
    _hair(who, sheet, turn, centre, ends, skull, settings)
    _headwear(who, sheet, turn, centre, ends, skull, settings, lift)


def _hair(who, sheet, turn, centre, ends, skull, settings):
    kind, big = who.hair, who.head

    def near(z):
        return z * np.cos(turn)

    def behind(y, z):
        """A point behind the head, which turns with it."""
        return (z * np.sin(turn - sheet.yaw), y, z * np.cos(turn - sheet.yaw))

    if kind != "bald":
        edge = 0.72 if kind == "short" else 0.66
        sides = 0.95 if kind in ("bob", "long", "afro") else 1.15
        nape = 0.05 if kind == "short" else -0.2
        sheet.add(
            _HEAD + 0.003,
            *ends,
            skull * 1.07 + 0.003,
            "hair",
            **settings,
            window=lambda u, v: (v > edge + 0.1 * np.cos(u * 3)) | ((np.abs(u) > sides) & (v > nape)),
        )
    if kind == "afro":
        radii = np.array([0.075, 0.085, 0.08]) * big
        ball = behind(centre + 0.06, -0.01), behind(centre - 0.01, -0.012)
        sheet.add(_HEAD - 0.001, *ball, radii, "hair", turn=turn, caps=(0.05, 0.04))
        top = (0, centre + 0.075, 0), (0, centre + 0.055, 0)
        sheet.add(_HEAD + 0.0035, *top, radii[:2] * 0.9, "hair", turn=turn, caps=(0.03, 0.01))
    elif kind in ("bob", "long"):
        low = centre - (0.075 if kind == "bob" else 0.175)
        radii = np.array([0.058, 0.064, 0.066, 0.060]) * big
        sheet.add(
            _HEAD + 0.0032,
            (0, centre + 0.01, -0.012),
            (0, low, -0.03),
            radii,
            "hair",
            turn=turn,
            caps=(0, 0.012),
            along=(1.0, 0.0),
            window=lambda u, v: np.abs(u) > 1.25 - 0.25 * (v > 0.75),
        )
    elif kind == "ponytail":
        order = _HEAD + 0.004 if near(-0.07) > -0.02 else _TORSO - 0.001
        tail = behind(centre + 0.02, -0.07), behind(centre - 0.12, -0.10)
        sheet.add(order, *tail, [0.018, 0.028, 0.024, 0.01], "hair", turn=turn, caps=(0.015, 0))
    elif kind == "bun":
        order = _HEAD + 0.004 if near(-0.045) > -0.01 else _HEAD - 0.001
        knot = behind(centre + 0.07, -0.045), behind(centre + 0.05, -0.05)
        sheet.add(order, *knot, [0.03, 0.03], "hair", turn=turn, caps=(0.022, 0.022))


def _headwear(who, sheet, turn, centre, ends, skull, settings, lift):
    kind, big = who.headwear, who.head
    if kind in ("cap", "beanie", "hat"):
        edge, grown = {"cap": (0.78, 1.10), "beanie": (0.62, 1.13), "hat": (0.74, 1.12)}[kind]
        cover = skull * grown + 0.003
        sheet.add(_HEAD + 0.006, *ends, cover, "headwear", window=lambda u, v: v > edge, **settings)
    if kind == "cap":
        ahead = turn - sheet.yaw
        brim = (0, centre + 0.025, 0.02), (0.11 * np.sin(ahead), centre + 0.015, 0.11 * np.cos(ahead))
        thin = 0.25 + 0.6 * abs(np.cos(turn))
        order = _HEAD + 0.007 if np.cos(turn) > -0.3 else _HEAD - 0.001
        sheet.add(order, *brim, np.array([0.052, 0.046]) * thin * big, "headwear", turn=turn, caps=(0, 0.01))
    elif kind == "hat":
        brim = (0, centre + 0.033, 0), (0, centre + 0.021, 0)
        sheet.add(_HEAD + 0.007, *brim, np.array([0.10, 0.105]) * big, "headwear", turn=turn)
    elif kind == "hood":
        radii = np.array([0.064, 0.072, 0.070, 0.082]) * big
        hood = (0, centre + 0.04, -0.01), (0, 0.84 + lift, -0.01)
        sheet.add(
            _HEAD + 0.006,
            *hood,
            radii,
            "sleeve",
            turn=turn,
            along=(0.99, 0.84),
            caps=(0.046, 0),
            window=lambda u, v: (np.abs(u) > 0.95) | (v > 0.985),
        )
    if kind != "hood" and who.upper == "hoodie":
        down = (0, 0.87 + lift, -0.055), (0, 0.80 + lift, -0.085)
        order = 0.02 if sheet.near(*down[0]) > 0 else _TORSO - 0.001
        sheet.add(order, *down, [0.055, 0.075, 0.05], "sleeve", along=(0.87, 0.80), caps=(0.01, 0.02))


def _arm(who: Person, pose: Pose, sheet: _Drawing, lift: float, side: int) -> None:
    """One arm, its sleeve, and the bag in its hand. side: 1 left, -1 right."""
    swing = 0.9 * pose.stride * np.sin(pose.phase + np.pi if side > 0 else pose.phase)
    bend = pose.bend + 0.5 * max(0.0, swing)
    carries = who.bag in ("handbag", "carrier", "trolley") and side == who.side
    phoning = pose.phone and side == who.side and not carries
    if phoning:
        swing, bend = 0.35, 2.1
    elif carries:
        swing, bend = (0.12 * swing, 0.1) if who.bag != "trolley" else (-0.45, 0.0)
    thick = _THICKNESS.get(who.upper, 0.004)
    out = side * (0.112 * who.shoulders * who.build**0.8 + 0.7 * thick)
    a = (out, 0.788 + lift, 0.0)
    b = (out + side * (0.034 + pose.apart), a[1] - 0.165 * np.cos(swing), 0.165 * np.sin(swing))
    inwards = 0.0 if carries or phoning else 0.13 * pose.fold
    c = (
        b[0] + side * (0.006 - inwards),
        b[1] - 0.145 * np.cos(swing + bend),
        b[2] + 0.145 * np.sin(swing + bend),
    )
    hand = _between(b, c, 1.36)
    near = sheet.near(*b)
    order = _FAR_SIDE if near < -0.05 else _NEAR_SIDE + near
    if phoning and sheet.near(*c) > 0:
        order = 0.3
    upper = np.array([0.033, 0.038, 0.035, 0.031]) * who.build**0.7
    fore = np.array([0.032, 0.030, 0.024]) * who.build**0.5
    long = who.sleeves > 0.6
    if not long:
        sheet.add(order, a, b, upper, "skin", along=(0.82, 0.655), caps=(0.03, 0))
        sheet.add(order, b, c, fore, "skin", along=(0.655, 0.51), caps=(0.03, 0))
    sheet.add(order, c, hand, [0.022, 0.027, 0.020], "skin", along=(0.51, 0.46), caps=(0, 0.016))
    if who.sleeves > 0:
        cloth = "inner" if who.upper == "vest" else "sleeve"
        loose = 0.8 * thick + (0.004 if long else 0.010)
        if long:
            reach = (who.sleeves - 0.53) / 0.47
            wrist, end = _between(b, c, reach), 0.655 - 0.145 * reach
            sheet.add(order + 0.001, b, wrist, fore + loose, cloth, along=(0.655, end), caps=(0.034, 0))
        reach = min(1.0, who.sleeves / 0.53)
        stop, end = _between(a, b, reach), 0.82 - 0.165 * reach
        caps = (0.022 + 0.4 * thick, 0)
        sheet.add(order + 0.002, a, stop, upper + loose, cloth, along=(0.82, end), caps=caps)
    if carries:
        _in_hand(who, sheet, side, hand, order)


def _in_hand(who, sheet, side, hand, order):
    x, y, z = hand
    if who.bag == "handbag":
        sheet.add(order - 0.002, hand, (x, y - 0.05, z), [0.008, 0.03], "strap")
        ends = (x, y - 0.045, z), (x, y - 0.135, z)
        sheet.add(order + 0.003, *ends, [0.058, 0.07, 0.074], "bag", along=(0.76, 0.66))
    elif who.bag == "carrier":
        sheet.add(order - 0.002, hand, (x, y - 0.05, z), [0.01, 0.05], "bag", along=(0.82, 0.78))
        ends = (x, y - 0.04, z), (x, y - 0.22, z)
        sheet.add(order + 0.003, *ends, [0.070, 0.084, 0.086], "bag", along=(0.79, 0.60))
    else:
        low, high = (x + side * 0.03, 0.03, z - 0.06), (x + side * 0.03, 0.29, z - 0.06)
        order = 0.4 if sheet.near(*low) > 0 else _FAR_SIDE - 0.05
        sheet.add(order, hand, high, [0.007, 0.007], "strap")
        sheet.add(order + 0.01, high, low, [0.082, 0.088, 0.086], "bag", along=(0.82, 0.56))


def _bag(who: Person, sheet: _Drawing, lift: float, details: list) -> None:
    """What hangs on the body: a backpack is seen from behind, its straps from the front."""
    side = who.side
    if who.bag == "backpack":
        out = who.build**0.5
        ends = (0, 0.80 + lift, -0.125 * out), (0, 0.575 + lift, -0.14 * out)
        near = sheet.near(*ends[0])
        order = 0.5 if near > 0.03 else (_FAR_SIDE - 0.01 if near < -0.06 else 0.03)
        radii = sheet.oval([0.075, 0.094, 0.100, 0.096], [0.040, 0.052, 0.062, 0.060])
        pocket = ("strap", lambda u, v: (np.abs(u) > 2.1) & (np.abs(v - 0.66) < 0.008))
        sheet.add(order, *ends, radii, "bag", along=(0.80, 0.575), caps=(0.02, 0.015), details=[pocket])
        details.append(("strap", lambda u, v: (np.abs(np.abs(u) - 0.66) < 0.14) & (v > 0.62)))
    elif who.bag == "shoulder":
        details.append(("strap", lambda u, v: np.abs(v - 0.83 + (np.sin(u) * side + 0.5) * 0.19) < 0.013))
        x, hip = side * 0.135 * who.build**0.8, HIP * who.legs + lift
        order = 0.2 if sheet.near(x, hip, 0) > -0.05 else _FAR_SIDE + 0.05
        ends = (x, hip + 0.045, 0.0), (x, hip - 0.075, 0.0)
        sheet.add(order, *ends, [0.058, 0.066, 0.064], "bag", along=(0.70, 0.58), caps=(0.015, 0.015))
    elif who.bag == "waist":
        details.append(("strap", lambda u, v: np.abs(v - 0.585) < 0.008))
        details.append(("bag", lambda u, v: (np.abs(u) < 0.75) & (np.abs(v - 0.575) < 0.026)))
