"""Times and ages as people and tables write them."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime

from crossreid.records import UserError

# How far a clock may be ahead of ours before its times are refused: a zone left out makes up to 14 hours.
TOLERANCE = 86400.0
# The last second of the year 9999.
_CALENDAR = 253402300799
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.25}
_UNITS = {1e9: "nanoseconds", 1e6: "microseconds", 1e3: "milliseconds"}


def timestamp(text: str, what: str = "the time") -> float:
    """Seconds since 1970 of ``2026-11-21``, ``2026-11-21T04:30:00``, the same with ``+01:00`` or ``Z``, or of a number
    of seconds. Without a zone it is UTC. what: how errors call it.

    Raises UserError for what is none of these, and for a bare year or date, which would be a time soon after 1970.
    """
    text = text.strip()
    if found := re.fullmatch(r"((?:19|2\d)\d\d)(?:([01]\d)([0-3]\d))?", text):
        date = "-".join(part or "01" for part in found.groups())
        raise UserError(
            f"{what} {text!r} looks like a date, but a bare number counts seconds since 1970: write {date}"
        )
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = datetime.fromisoformat(text)
            seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(
            f"{what} {text!r} was not understood: expected 2026-11-21, 2026-11-21T04:30:00 (UTC unless it ends in a "
            "zone such as +01:00), or seconds since 1970"
        )
    if abs(seconds) > _CALENDAR:
        raise UserError(
            f"{what} {text!r} lies beyond the year 9999, but seconds since 1970 were expected: {_advice(seconds)}"
        )
    return seconds


def taken(text: str, what: str = "the time") -> float:
    """The ``timestamp`` at which an image was taken. Raises UserError for one that lies ahead, too."""
    seconds = timestamp(text, what)
    check_taken(seconds, what)
    return seconds


def check_taken(seconds: float, what: str = "the time") -> None:
    """Raise UserError for a time at which no image can have been taken: more than a day ahead of this computer's clock.

    Such an entry of a gallery would be later than every ``--since``, and never old enough to be deleted.
    """
    if seconds > time.time() + TOLERANCE:
        raise UserError(
            f"{what} {seconds:.15g} lies ahead ({written(seconds)}), but a time at which an image was taken was "
            f"expected, in seconds since 1970: {_advice(seconds)}"
        )


def _advice(seconds: float) -> str:
    for factor, unit in _UNITS.items():
        if 1e8 < seconds / factor <= time.time() + TOLERANCE:
            return f"it looks like {unit}, so divide it by {factor:.0f} ({written(seconds / factor)})"
    return "correct it, or leave it out"


def written(seconds: float | None) -> str:
    """A time in UTC for reading, to the second; empty for None, seconds where the calendar ends."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def days(text: str) -> float:
    """Days of an age such as ``30d``, ``12h``, ``2w`` or ``1y``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdwy])", text.strip())
    if not found:
        raise UserError(
            f"the age {text!r} was not understood: expected a number and h, d, w or y, such as 30d"
        )
    return float(found[1]) * _DAYS[found[2]]
