"""A posed figure, drawn as tubes: for every pixel the part it shows and where on that part it lies.

Body frame: x to the figure's left, y up from the ground, z forward; unit: the height of the body. Every part is a
tube around a bone. A pixel of it knows its angle around the bone (0 faces forward, so that a print on the chest
turns with the body) and its place along it, which is all that cloth needs to be painted, whatever the modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossreid.synthetic.people import Person

PARTS = (
    "nothing",
    "skin",
    "hair",
    "upper",
    "sleeve",
    "inner",
    "lower",
    "shoes",
    "sole",
    "socks",
    "bag",
    "strap",
    "headwear",
    "scarf",
    "trim",
    "feature",
)
NUMBER = {name: number for number, name in enumerate(PARTS)}
_STEPS = 48
_GRID = np.linspace(0, 1, _STEPS, dtype=np.float32)
_EVEN = {count: np.linspace(0, 1, count) for count in range(2, 16)}


@dataclass(frozen=True)
class Pose:
    """yaw: radians, 0 faces the camera, pi shows the back. phase: of the walk, radians. stride: greatest swing of the
    thigh, radians. bend: of the elbows, radians. gaze: turn of the head against the body. lean: sideways, radians."""

    yaw: float
    phase: float = 0.0
    stride: float = 0.3
    bend: float = 0.3
    gaze: float = 0.0
    lean: float = 0.0
    phone: bool = False


class Maps:
    """What each pixel of a (height, width) picture shows.

    part: uint8, index into PARTS. angle: around the bone, radians. along: height on the standing body.
    across: -1 to 1 from the left to the right edge of the tube.
    """

    def __init__(self, height: int, width: int):
        self.part = np.zeros((height, width), np.uint8)
        self.angle = np.zeros((height, width), np.float32)
        self.along = np.zeros((height, width), np.float32)
        self.across = np.zeros((height, width), np.float32)

    def tube(self, start, end, radii, part, turn=0.0, along=(0.0, 1.0), caps=(0.0, 0.0), window=None):
        """Paint a tube over what is there.

        start, end: (x, y) in pixels. radii: pixels, at equal steps from start to end. caps: lengths of the rounded
        ends, pixels. turn: added to the angle. along: values at start and end. window: None, or a function of (angle,
        along) that says which pixels of the tube to paint.
        """
        height, width = self.part.shape
        (ax, ay), (bx, by) = start, end
        length = max(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5, 1e-3)
        ux, uy = (bx - ax) / length, (by - ay) / length
        # The tube is looked up in steps from the tip of one cap to the tip of the other.
        first, last = -caps[0] / length, 1 + caps[1] / length
        t = _GRID * np.float32(last - first) + np.float32(first)
        table = np.interp(t, _EVEN[len(radii)], radii).astype(np.float32)
        if caps[0] > 0:
            table *= np.sqrt(np.clip(1 - (np.minimum(t, 0) / first) ** 2, 0, 1))
        if caps[1] > 0:
            table *= np.sqrt(np.clip(1 - (np.maximum(t - 1, 0) / (last - 1)) ** 2, 0, 1))
        table = np.maximum(table, 0.05)
        reach = float(table.max()) + 1
        sx0, sx1 = ax - ux * caps[0], bx + ux * caps[1]
        sy0, sy1 = ay - uy * caps[0], by + uy * caps[1]
        x0, x1 = max(int(min(sx0, sx1) - reach), 0), min(int(max(sx0, sx1) + reach) + 2, width)
        y0, y1 = max(int(min(sy0, sy1) - reach), 0), min(int(max(sy0, sy1) + reach) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - ax)
        y = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - ay))[:, None]
        step = np.float32((_STEPS - 1) / (last - first))
        t = x * np.float32(ux / length) + y * np.float32(uy / length)
        index = ((t - np.float32(first)) * step).astype(np.int32)
        radius = table.take(index, mode="clip")
        s = x * np.float32(uy) - y * np.float32(ux)
        s /= radius
        if uy < 0:
            s = -s
        inside = (np.abs(s) < 1) & (t >= first) & (t <= last)
        np.minimum(s, 1, out=s)
        np.maximum(s, -1, out=s)
        angle = np.arcsin(s) - np.float32(turn)
        height_on_body = t * np.float32(along[1] - along[0]) + np.float32(along[0])
        if window is not None:
            inside &= window(
                (angle + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi), height_on_body
            )
        box = np.s_[y0:y1, x0:x1]
        np.copyto(self.part[box], NUMBER[part], where=inside)
        np.copyto(self.angle[box], angle, where=inside)
        np.copyto(self.along[box], height_on_body, where=inside)
        np.copyto(self.across[box], s, where=inside)


def draw(who: Person, pose: Pose, pitch: float, scale: float, foot: tuple[float, float], size) -> Maps:
    """Draw a person.

    pitch: how far the camera looks down, radians. scale: pixels for the height of the body. foot: (x, y) in pixels of
    the point on the ground below the body. size: (height, width) in pixels.
    """
    maps = Maps(*size)
    cos, sin = np.cos(pose.yaw), np.sin(pose.yaw)
    cosp, sinp = np.cos(pitch), np.sin(pitch)
    sway = np.sin(pose.lean)

    def place(x, y, z):
        """Body point -> (pixel x, pixel y), nearness to the camera."""
        right, near = x * cos + z * sin + sway * y, z * cos - x * sin
        return (foot[0] + right * scale, foot[1] - (y * cosp - near * sinp) * scale), near

    def oval(wide, deep, yaw=pose.yaw):
        """Half widths in pixels of oval sections seen under the yaw."""
        return np.hypot(np.multiply(wide, np.cos(yaw)), np.multiply(deep, np.sin(yaw))) * scale

    todo = []

    def add(order, start, end, radii, part, **settings):
        todo.append((order, len(todo), start, end, radii, part, settings))

    def bone(order, a, b, radii, part, **settings):
        add(order, place(*a)[0], place(*b)[0], np.multiply(radii, scale), part, turn=pose.yaw, **settings)

    build, turn = who.build, {"turn": pose.yaw}
    hip = 0.515 * who.legs
    knee = 0.285 * who.legs
    phase = pose.phase
    stride = min(pose.stride, 0.26) if who.lower == "long_skirt" else pose.stride

    # Legs: thigh and shin in the plane of the walk, the foot turned a little outwards.
    lift = 0.0
    legs = []
    for side in (1, -1):
        swing = stride * np.sin(phase if side > 0 else phase + np.pi)
        bend = 0.06 + stride * 1.3 * max(0.0, np.cos(phase if side > 0 else phase + np.pi))
        x = side * 0.052 * who.hips
        a = (x, hip, 0.0)
        b = (x * 1.05, hip - (hip - knee) * np.cos(swing), (hip - knee) * np.sin(swing))
        c = (
            x * 1.1,
            b[1] - (knee - 0.04) * np.cos(swing - bend),
            b[2] + (knee - 0.04) * np.sin(swing - bend),
        )
        legs.append((side, a, b, c, swing - bend))
        lift = max(lift, 0.04 - c[1]) if side < 0 else 0.04 - c[1]
    legs = [(side, *[(p[0], p[1] + lift, p[2]) for p in (a, b, c)], tilt) for side, a, b, c, tilt in legs]
    hip += lift
    thigh = np.array([0.070, 0.064, 0.050]) * build**0.8
    shin = np.array([0.047, 0.050, 0.038, 0.029]) * build**0.6
    for side, a, b, c, tilt in legs:
        order = -0.5 + 0.2 * place(*b)[1]
        covered = who.leg_cover > 0.7 and who.lower != "long_skirt"
        if not covered:
            bone(order, a, b, thigh, "skin", along=(0.52, 0.285), caps=(0, 0.04 * scale))
        bone(order, b, c, shin, "skin", along=(0.285, 0.04))
        toe = (c[0] + side * 0.018, c[1] - 0.012 + 0.05 * min(0, np.sin(tilt)), c[2] + 0.085)
        heel = (c[0], c[1] - 0.008, c[2] - 0.025)
        if (who.leg_cover < 0.8 and who.leg_cover > 0) or who.lower == "none":
            low = tuple(b[i] + (c[i] - b[i]) * 0.72 for i in range(3))
            bone(order, low, c, shin[-2:] + 0.003, "socks", along=(0.11, 0.04))
        if who.shoes == "boots":
            low = tuple(b[i] + (c[i] - b[i]) * 0.5 for i in range(3))
            bone(order, low, c, [0.050, 0.040, 0.038], "shoes", along=(0.16, 0.04))
        under = (0, -0.018, 0)
        shoe_order = order + 0.004
        if who.shoes == "trainers":
            bone(
                shoe_order,
                np.add(heel, under),
                np.add(toe, under),
                [0.026, 0.028, 0.024],
                "sole",
                caps=(0.015 * scale, 0.02 * scale),
            )
        bone(shoe_order, heel, toe, [0.032, 0.033, 0.025], "shoes", caps=(0.02 * scale, 0.022 * scale))
        if who.lower not in ("none", "skirt", "long_skirt") and who.leg_cover > 0:
            loose = who.width
            reach = who.leg_cover
            if reach <= 0.56:
                stop = tuple(a[i] + (b[i] - a[i]) * min(1.0, reach / 0.52) for i in range(3))
                bone(order + 0.01, a, stop, thigh * [1.08, loose, loose * 1.05], "lower", along=(0.52, 0.30))
            else:
                part = (reach - 0.5) / 0.5
                stop = tuple(
                    b[i] + (c[i] - b[i]) * part * (0.96 if who.shoes != "boots" else 0.6) for i in range(3)
                )
                ankle = 0.034 * (loose if who.lower != "wide" else 1.75)
                wide = [0.052 * loose * build**0.6, 0.050 * loose * build**0.5, max(ankle, 0.036)]
                if part < 0.8:
                    wide[2] = 0.050 * loose
                bone(order + 0.01, b, stop, wide, "lower", along=(0.285, 0.285 - 0.235 * part), caps=(0.04 * scale, 0))
                bone(
                    order + 0.012,
                    a,
                    b,
                    np.maximum(thigh * [1.06, 1.03, 1.0], [0, 0, wide[0]]),
                    "lower",
                    along=(0.52, 0.285),
                )

    # Pelvis and skirt.
    waist, crotch = hip + 0.09, hip - 0.045
    hips_wide = np.array([0.088, 0.104, 0.100]) * who.hips * build**0.8
    hips_deep = np.array([0.070, 0.084, 0.074]) * build
    if who.lower != "none":
        add(
            -0.22,
            place(0, waist, 0)[0],
            place(0, crotch, 0)[0],
            oval(hips_wide, hips_deep),
            "lower",
            along=(0.60, 0.47),
            caps=(0, 0.02 * scale),
            **turn,
        )
    if who.lower in ("skirt", "long_skirt"):
        hem = hip - who.leg_cover * 0.5
        flare = 1.25 + 0.5 * stride if who.lower == "skirt" else 1.15 + 0.6 * stride
        add(
            -0.2,
            place(0, waist, 0)[0],
            place(0, hem, 0)[0],
            oval(
                np.array([0.088, 0.108, 0.112 * flare, 0.116 * flare]) * who.hips * build**0.8,
                np.array([0.07, 0.09, 0.095 * flare, 0.10 * flare]) * build,
            ),
            "lower",
            along=(0.60, 0.515 - who.leg_cover * 0.5),
            **turn,
        )

    # Torso, with the garment's own thickness.
    top, bottom = 0.845 + lift, hip - 0.005 - who.hem
    thick = {"coat": 0.016, "jacket": 0.014, "vest": 0.018, "hoodie": 0.011, "jumper": 0.008}.get(
        who.upper, 0.004
    )
    heights = np.array([0.845, 0.822, 0.785, 0.72, 0.63, 0.56, 0.515, 0.45, 0.35])
    wide = np.array([0.048, 0.098, 0.126, 0.120, 0.101, 0.104, 0.108, 0.116, 0.124])
    wide *= np.array([1, who.shoulders, who.shoulders, who.shoulders, 1, *[who.hips] * 4]) * build**0.8
    deep = np.array([0.045, 0.062, 0.078, 0.088, 0.080, 0.084, 0.088, 0.096, 0.104]) * build
    deep[3:7] += 0.03 * who.belly * build
    wide[1:] += thick
    deep[1:] += thick
    if who.upper == "coat":
        wide[5:] *= 1.06
    elif who.upper == "dress":
        wide[6:] *= 1.0 + 0.3 * stride
    low = 0.515 - (hip - bottom)
    if who.tucked:
        low = 0.575
        bottom = hip + 0.06
    along = np.linspace(0.845, low, 12)
    torso_wide = np.interp(-along, -heights, wide)
    torso_deep = np.interp(-along, -heights, deep)
    ends = place(0, top, 0)[0], place(0, bottom, 0)[0]
    torso = oval(torso_wide, torso_deep)
    span = {"along": (0.845, low), **turn}
    add(0.0, *ends, torso, "upper", **span)
    if who.open_front:
        add(0.001, *ends, torso, "inner", window=lambda u, v: np.abs(u) < 0.16 + (0.82 - v) * 0.55, **span)
    elif who.upper in ("jacket", "coat", "vest", "shirt"):
        add(0.001, *ends, torso, "trim", window=lambda u, v: np.abs(u) < 0.05, **span)
    elif who.upper in ("tshirt", "sleeveless", "dress", "jumper"):
        deepness = 0.815 if who.upper != "sleeveless" else 0.78
        add(0.001, *ends, torso, "skin", window=lambda u, v: v > deepness + 0.05 * np.abs(u), **span)
    if who.tucked and who.lower != "none":
        add(0.002, *ends, torso, "trim", window=lambda u, v: v < low + 0.012, **span)
    if who.upper == "coat" and not who.open_front:
        add(0.002, *ends, torso, "trim", window=lambda u, v: np.abs(v - 0.60) < 0.009, **span)

    # Neck, head, hair.
    gaze = pose.yaw + pose.gaze
    big = who.head
    centre = 0.925 + lift + 0.005 * big
    neck = place(0, 0.89 + lift, 0.0)[0], place(0, 0.825 + lift, 0)[0]
    add(0.003, *neck, np.array([0.036, 0.040]) * build**0.5 * scale, "skin", along=(0.89, 0.83), **turn)
    crown, chin = place(0, centre + 0.028 * big, 0.012)[0], place(0, centre - 0.034 * big, 0.016)[0]
    skull = oval(
        np.array([0.050, 0.053, 0.050, 0.040]) * big, np.array([0.060, 0.064, 0.058, 0.046]) * big, gaze
    )
    round_ends = {"caps": (0.046 * big * scale, 0.034 * big * scale)}
    face = {"turn": gaze, "along": (1.0, 0.0), **round_ends}
    add(0.01, crown, chin, skull, "skin", **face)
    eye = 0.5
    add(
        0.011,
        crown,
        chin,
        skull,
        "feature",
        **face,
        window=lambda u, v: (np.abs(np.abs(u) - eye) < 0.17) & (np.abs(v - 0.42) < 0.08),
    )
    add(
        0.011,
        crown,
        chin,
        skull,
        "feature",
        **face,
        window=lambda u, v: (np.abs(u) < 0.25) & (np.abs(v + 0.12) < 0.045),
    )
    if who.glasses:
        add(
            0.012,
            crown,
            chin,
            skull,
            "trim",
            **face,
            window=lambda u, v: (
                (np.abs(v - 0.42) < 0.17) & (np.abs(u) < 1.4) & (np.abs(np.abs(u) - eye) > 0.12)
            ),
        )
    if who.beard:
        add(
            0.012,
            crown,
            chin,
            skull,
            "hair",
            **face,
            window=lambda u, v: (
                (np.abs(u) < 1.3) & (v < 0.08) & ~((np.abs(u) < 0.3) & (np.abs(v + 0.1) < 0.06))
            ),
        )
    _hair(who, add, place, scale, gaze, centre, (crown, chin, skull, round_ends), lift)

    # Arms.
    for side in (1, -1):
        swing = 0.9 * stride * np.sin(phase + np.pi if side > 0 else phase)
        bend = pose.bend + 0.5 * max(0.0, swing)
        held = who.bag in ("handbag", "carrier", "trolley") and side == who.side
        phoning = pose.phone and side == who.side and not held
        if phoning:
            swing, bend = 0.35, 2.1
        elif held:
            swing, bend = (0.12 * swing, 0.1) if who.bag != "trolley" else (-0.45, 0.0)
        out = side * (0.112 * who.shoulders * build**0.8 + 0.7 * thick)
        a = (out, 0.788 + lift, 0.0)
        b = (out + side * 0.034, a[1] - 0.165 * np.cos(swing), 0.165 * np.sin(swing))
        c = (b[0] + side * 0.006, b[1] - 0.145 * np.cos(swing + bend), b[2] + 0.145 * np.sin(swing + bend))
        hand = tuple(c[i] + (c[i] - b[i]) * 0.36 for i in range(3))
        near = place(*b)[1]
        order = -0.9 if near < -0.05 else 0.05 + near
        if phoning and place(*c)[1] > 0:
            order = 0.3
        arm = np.array([0.033, 0.038, 0.035, 0.031]) * build**0.7
        fore = np.array([0.032, 0.030, 0.024]) * build**0.5
        bone(order, a, b, arm, "skin", along=(0.82, 0.655), caps=(0.03 * scale, 0))
        bone(order, b, c, fore, "skin", along=(0.655, 0.51), caps=(0.03 * scale, 0))
        bone(order, c, hand, [0.022, 0.027, 0.020], "skin", along=(0.51, 0.46), caps=(0, 0.016 * scale))
        if who.sleeves > 0:
            loose = thick * 0.8 + (0.004 if who.sleeves > 0.6 else 0.010)
            upper = min(1.0, who.sleeves / 0.53)
            stop = tuple(a[i] + (b[i] - a[i]) * upper for i in range(3))
            if who.sleeves > 0.6:
                part = (who.sleeves - 0.53) / 0.47
                wrist = tuple(b[i] + (c[i] - b[i]) * part for i in range(3))
                bone(
                    order + 0.001,
                    b,
                    wrist,
                    fore + loose,
                    "inner" if who.upper == "vest" else "sleeve",
                    along=(0.655, 0.655 - 0.145 * part),
                    caps=(0.034 * scale, 0),
                )
            name = "upper" if who.upper == "vest" else "sleeve"
            if who.upper == "vest":
                bone(
                    order + 0.002,
                    a,
                    stop,
                    arm + 0.008,
                    "inner",
                    along=(0.82, 0.82 - 0.165 * upper),
                    caps=(0.02 * scale, 0),
                )
            else:
                bone(
                    order + 0.002,
                    a,
                    stop,
                    arm + loose,
                    name,
                    along=(0.82, 0.82 - 0.165 * upper),
                    caps=((0.022 + 0.4 * thick) * scale, 0),
                )
        if held:
            _held(who, bone, place, side, hand, order)

    _carried(who, add, bone, place, oval, (ends, torso, span), (hip, lift), build)
    if who.scarf:
        scarf = place(0, 0.875 + lift, 0)[0], place(0, 0.815 + lift, 0)[0]
        add(
            0.02,
            *scarf,
            np.array([0.05, 0.075, 0.085]) * build**0.5 * scale,
            "scarf",
            along=(0.875, 0.81),
            caps=(0, 0.01 * scale),
            **turn,
        )
        add(
            0.019,
            *ends,
            torso,
            "scarf",
            window=lambda u, v: (np.abs(u - 0.35 * who.side) < 0.17) & (v > 0.66),
            **span,
        )

    for _, _, start, end, radii, part, settings in sorted(todo, key=lambda item: item[:2]):
        maps.tube(start, end, radii, part, **settings)
    return maps


def _hair(who, add, place, scale, gaze, centre, head, lift):
    crown, chin, skull, caps = head
    settings = {"turn": gaze, "along": (1.0, 0.0), **caps}
    cap = skull * 1.07 + 0.003 * scale
    kind = who.hair
    edge = {"short": 0.72, "bald": 9.0}.get(kind, 0.66)
    if kind != "bald":
        sides = 1.15 if kind in ("short", "bun", "ponytail") else 0.95
        stop = 0.05 if kind == "short" else -0.2
        add(
            0.013,
            crown,
            chin,
            cap,
            "hair",
            **settings,
            window=lambda u, v: (v > edge + 0.1 * np.cos(u * 3)) | ((np.abs(u) > sides) & (v > stop)),
        )
    if kind == "afro":
        add(
            0.009,
            place(0, centre + 0.06, -0.01)[0],
            place(0, centre - 0.01, -0.012)[0],
            np.array([0.075, 0.085, 0.08]) * who.head * scale,
            "hair",
            turn=gaze,
            caps=(0.05 * scale, 0.04 * scale),
        )
        add(
            0.0135,
            place(0, centre + 0.075, 0)[0],
            place(0, centre + 0.055, 0)[0],
            np.array([0.07, 0.072]) * who.head * scale,
            "hair",
            turn=gaze,
            caps=(0.03 * scale, 0.01 * scale),
        )
    if kind in ("bob", "long"):
        low = centre - (0.075 if kind == "bob" else 0.175)
        a, b = place(0, centre + 0.01, -0.012)[0], place(0, low, -0.03)[0]
        wide = np.array([0.058, 0.064, 0.066, 0.060]) * who.head * scale
        add(
            0.0132,
            a,
            b,
            wide,
            "hair",
            turn=gaze,
            along=(0.93, low - lift),
            caps=(0, 0.012 * scale),
            window=lambda u, v: np.abs(u) > 1.25 - 0.25 * (v > 0.88),
        )
    if kind == "ponytail":
        base, tip = place(0, centre + 0.02, -0.07), place(0, centre - 0.12, -0.10)
        add(
            0.014 if base[1] > -0.02 else 0.0005,
            base[0],
            tip[0],
            np.array([0.018, 0.028, 0.024, 0.01]) * scale,
            "hair",
            turn=gaze,
            along=(0.95, 0.81),
            caps=(0.015 * scale, 0),
        )
    if kind == "bun":
        base, tip = place(0, centre + 0.07, -0.045), place(0, centre + 0.05, -0.05)
        add(
            0.014 if base[1] > -0.01 else 0.0085,
            base[0],
            tip[0],
            np.array([0.03, 0.03]) * scale,
            "hair",
            turn=gaze,
            caps=(0.022 * scale, 0.022 * scale),
        )
    wear = who.headwear
    if wear in ("cap", "beanie", "hat"):
        edge = {"cap": 0.78, "beanie": 0.62, "hat": 0.74}[wear]
        grown = {"cap": 1.10, "beanie": 1.13, "hat": 1.12}[wear]
        add(
            0.016,
            crown,
            chin,
            skull * grown + 0.003 * scale,
            "headwear",
            window=lambda u, v: v > edge,
            **settings,
        )
        if wear == "cap":
            a, b = place(0, centre + 0.027, 0.0)[0], place(0, centre + 0.022, 0.0)[0]
            front = (np.sin(gaze) * 0.11 * scale, np.cos(gaze) * 0.035 * scale)
            add(
                0.017 if np.cos(gaze) > -0.3 else 0.0125,
                a,
                (b[0] + front[0], b[1] + front[1]),
                np.array([0.050, 0.046]) * who.head * scale * np.array([0.3 + 0.5 * abs(np.cos(gaze)), 0.25]),
                "headwear",
                turn=gaze,
                caps=(0, 0.01 * scale),
            )
        if wear == "hat":
            a, b = place(0, centre + 0.033, 0)[0], place(0, centre + 0.021, 0)[0]
            add(0.017, a, b, np.array([0.10, 0.105]) * who.head * scale, "headwear", turn=gaze)
    if wear == "hood":
        a, b = place(0, centre + 0.04, -0.01)[0], place(0, 0.84 + lift, -0.01)[0]
        add(
            0.016,
            a,
            b,
            np.array([0.064, 0.072, 0.070, 0.082]) * who.head * scale,
            "sleeve",
            turn=gaze,
            along=(0.99, 0.84),
            caps=(0.046 * scale, 0),
            window=lambda u, v: (np.abs(u) > 0.95) | (v > 0.985),
        )
    elif who.upper == "hoodie":
        a, b = place(0, 0.87 + lift, -0.055), place(0, 0.80 + lift, -0.085)
        add(
            0.02 if a[1] > 0 else 0.002,
            a[0],
            b[0],
            np.array([0.055, 0.075, 0.05]) * scale,
            "sleeve",
            turn=gaze,
            along=(0.87, 0.80),
            caps=(0.01 * scale, 0.02 * scale),
        )


def _held(who, bone, place, side, hand, order):
    """A bag or a case in the hand."""
    x, y, z = hand
    if who.bag == "handbag":
        bone(order - 0.002, (x, y, z), (x, y - 0.05, z), [0.008, 0.03], "strap")
        bone(
            order + 0.003,
            (x, y - 0.045, z),
            (x, y - 0.135, z),
            [0.058, 0.07, 0.074],
            "bag",
            along=(0.3, 0.2),
            caps=(0.01, 0.01),
        )
    elif who.bag == "carrier":
        bone(order - 0.002, (x, y, z), (x, y - 0.05, z), [0.01, 0.05], "bag")
        bone(
            order + 0.003, (x, y - 0.04, z), (x, y - 0.22, z), [0.070, 0.084, 0.086], "bag", along=(0.4, 0.2)
        )
    else:
        low = (x + side * 0.03, 0.03, z - 0.06)
        high = (x + side * 0.03, 0.29, z - 0.06)
        later = 0.4 if place(*low)[1] > 0 else -0.95
        bone(later, hand, high, [0.007, 0.007], "strap")
        bone(later + 0.01, high, low, [0.082, 0.088, 0.086], "bag", along=(0.8, 0.5))


def _carried(who, add, bone, place, oval, body, levels, build):
    """What hangs on the body: a backpack is seen from behind, its straps from the front."""
    ends, torso, span = body
    hip, lift = levels
    if who.bag == "backpack":
        a, b = (0, 0.80 + lift, -0.125 * build**0.5), (0, 0.575 + lift, -0.14 * build**0.5)
        near = place(*a)[1]
        order = 0.5 if near > 0.03 else (-0.91 if near < -0.06 else 0.03)
        wide = oval(np.array([0.075, 0.094, 0.100, 0.096]), np.array([0.040, 0.052, 0.062, 0.060]))
        top = place(*a)[0], place(*b)[0]
        add(order, *top, wide, "bag", along=(0.80, 0.575), caps=(0.02 * 128, 2), **{"turn": span["turn"]})
        add(
            order + 0.001,
            *top,
            wide * 0.72,
            "strap",
            along=(0.80, 0.575),
            turn=span["turn"],
            window=lambda u, v: (np.abs(np.abs(u) - np.pi) < 1.3) & (np.abs(v - 0.66) < 0.008),
        )
        add(
            0.02,
            *ends,
            torso + 1,
            "strap",
            **span,
            window=lambda u, v: (np.abs(np.abs(u) - 0.66) < 0.14) & (v > 0.62),
        )
    elif who.bag == "shoulder":
        side = who.side
        add(
            0.02,
            *ends,
            torso + 1,
            "strap",
            **span,
            window=lambda u, v: np.abs(v - 0.83 + (np.sin(u) * side + 0.5) * 0.19) < 0.013,
        )
        x = side * 0.135 * build**0.8
        near = place(x, hip, 0)[1]
        bone(
            0.2 if near > -0.05 else -0.85,
            (x, hip + 0.045, 0.0),
            (x, hip - 0.075, 0.0),
            [0.058, 0.066, 0.064],
            "bag",
            along=(0.7, 0.58),
            caps=(2, 2),
        )
    elif who.bag == "waist":
        add(
            0.02,
            *ends,
            torso + 2,
            "bag",
            **span,
            window=lambda u, v: (np.abs(u) < 0.75) & (np.abs(v - 0.575) < 0.026),
        )
        add(0.019, *ends, torso + 1, "strap", window=lambda u, v: np.abs(v - 0.585) < 0.008, **span)
