"""Moments and ages as people write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from crossreid.records import UserError

_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.25}


def moment(text: str, what: str = "the time") -> float:
    """Seconds since 1970 of ``2026-11-21``, ``2026-11-21T04:30:00``, the same with ``+01:00`` or ``Z``, or of a number
    of seconds. Without a zone it is UTC. what: how errors call it.

    Raises UserError for what is none of these, and for a bare year or date, which would be
    a moment soon after 1970.
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
    return seconds


def written(seconds: float | None) -> str:
    """A moment in UTC for reading, to the second; empty for None, seconds where the calendar ends."""
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
