"""Times as people write them, and those at which nothing can have been taken."""

import time
from datetime import UTC, datetime

import pytest

from crossreid.images.timestamps import check_taken, taken, timestamp
from crossreid.records import UserError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["2025-06-01T12:00:00", "2025-06-01T14:00:00+02:00", "2025-06-01T12:00Z", f"{NOON}"]
)
def test_the_same_time(text):
    assert timestamp(text) == taken(text) == NOON


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
def test_other_units_are_refused_and_named(factor, unit):
    for read in (timestamp, taken):
        with pytest.raises(UserError, match=f"row 3 .*looks like {unit}.*2025-06-01 12:00:00"):
            read(str(int(NOON * factor)), "row 3")
    with pytest.raises(UserError, match=unit):
        check_taken(NOON * factor)


def test_the_future_is_refused_where_something_was_taken():
    ahead = time.time() + 10 * 365 * 86400
    assert timestamp(str(ahead)) == ahead  # --until may well lie ahead
    with pytest.raises(UserError, match=r"lies ahead .*correct it, or leave it out"):
        taken(str(ahead))
    assert taken(str(time.time() + 3600)) > time.time()  # a clock that is a little fast
