"""Tubes around bones: for every pixel the part it shows and where on that part it lies."""

from __future__ import annotations

import numpy as np

PARTS = (
    "nothing", "skin", "hair", "upper", "sleeve", "inner", "lower", "shoes", "sole", "socks", "bag", "strap",
    "headwear", "scarf", "trim", "feature",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(PARTS)}
_STEPS = 48
_GRID = np.linspace(0, 1, _STEPS, dtype=np.float32)
_EVEN = {count: np.linspace(0, 1, count) for count in range(2, 16)}
_PI = np.float32(np.pi)


def _turned(angle: np.ndarray) -> np.ndarray:
    """The same angles from -pi to pi: bit for bit ``(angle + pi) % (2 pi) - pi``, whose remainder takes long."""
    angle = angle + _PI
    low, high = angle.min(), angle.max()
    if low < -2 * _PI or high >= 4 * _PI:
        return angle % (2 * _PI) - _PI
    if low < 0:
        np.add(angle, 2 * _PI, out=angle, where=angle < 0)
    if high >= 2 * _PI:
        np.subtract(angle, 2 * _PI, out=angle, where=angle >= 2 * _PI)
    angle -= _PI
    return angle


class Maps:
    """What each pixel of a (height, width) image shows.

    part: uint8, index into PARTS. angle: around the bone, radians, 0 forward. along: height on the standing
    body, share of its height. across: -1 to 1 from the left to the right edge of the tube.
    """

    def __init__(self, height: int, width: int):
        self.part = np.zeros((height, width), np.uint8)
        self.angle = np.zeros((height, width), np.float32)
        self.along = np.zeros((height, width), np.float32)
        self.across = np.zeros((height, width), np.float32)

    def tube(
        self, start, end, radii, part, *, turn=0.0, along=(0.0, 1.0), caps=(0.0, 0.0), window=None, details=()
    ):
        """Paint a tube over what is there.

        start, end: (x, y) in pixels. radii: pixels, 2 to 15 at equal steps from start to end. caps: lengths
        of the rounded ends, pixels. turn: the yaw of what the tube belongs to, radians. along: values at
        start and end. window: None, or a function of (angle, along) that says which pixels of the tube to
        paint.
        details: (part, window) to be painted on this tube, in this order.
        """
        height, width = self.part.shape
        (ax, ay), (bx, by) = start, end
        length = max(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5, 1e-3)
        ux, uy = (bx - ax) / length, (by - ay) / length
        # The radius is looked up in steps from the tip of one cap to the tip of the other.
        first, last = -caps[0] / length, 1 + caps[1] / length
        t = _GRID * np.float32(last - first) + np.float32(first)
        table = np.interp(t, _EVEN[len(radii)], radii).astype(np.float32)
        if caps[0] > 0:
            table *= np.sqrt(np.maximum(1 - np.square(np.minimum(t, 0) / first), 0))
        if caps[1] > 0:
            table *= np.sqrt(np.maximum(1 - np.square(np.maximum(t - 1, 0) / (last - 1)), 0))
        table = np.maximum(table, 0.05)
        reach = float(table.max()) + 1
        left, right = sorted((ax - ux * caps[0], bx + ux * caps[1]))
        top, bottom = sorted((ay - uy * caps[0], by + uy * caps[1]))
        x0, x1 = max(int(left - reach), 0), min(int(right + reach) + 2, width)
        y0, y1 = max(int(top - reach), 0), min(int(bottom + reach) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - ax)
        y = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - ay))[:, None]
        t = x * np.float32(ux / length) + y * np.float32(uy / length)
        step = np.float32((_STEPS - 1) / (last - first))
        radius = table.take(((t - np.float32(first)) * step).astype(np.int32), mode="clip")
        s = x * np.float32(uy) - y * np.float32(ux)
        s /= radius
        if uy < 0:
            np.negative(s, out=s)
        inside = (np.abs(s) < 1) & (t >= first) & (t <= last)
        np.minimum(s, 1, out=s)
        np.maximum(s, -1, out=s)
        angle = np.arcsin(s) - np.float32(turn)
        height_on_body = t * np.float32(along[1] - along[0]) + np.float32(along[0])
        if window is not None or details:
            angle = _turned(angle)
        if window is not None:
            inside &= window(angle, height_on_body)
        box = np.s_[y0:y1, x0:x1]
        np.copyto(self.part[box], NUMBER[part], where=inside)
        np.copyto(self.angle[box], angle, where=inside)
        np.copyto(self.along[box], height_on_body, where=inside)
        np.copyto(self.across[box], s, where=inside)
        for detail, seen in details:
            np.copyto(self.part[box], NUMBER[detail], where=inside & seen(angle, height_on_body))
