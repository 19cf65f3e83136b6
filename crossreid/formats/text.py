"""Text and JSON from outside, within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossreid import files
from crossreid.records import UserError

BYTES = 2**28
# Of plain values: how deep they may be nested, how many there may be, and how long a text may be.
DEPTH, VALUES, LONGEST = 32, 200_000, 8192


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, whatever the text."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path, expected: str) -> Any:
    """The value of a JSON file."""
    with files.understood(path, expected):
        return parse_json(read_text(path, expected))


def read_text(path: Path, expected: str, limit: int = BYTES) -> str:
    """The text of a file in UTF-8, of at most ``limit`` bytes."""
    with files.understood(path, expected), files.opened(path) as file:
        content = file.read(limit + 1)
        if len(content) > limit:
            raise UserError(f"{path} has more than {limit / 2**20:.0f} MiB: {expected}")
        return content.decode("utf-8-sig")


def check_plain(value: Any, where: str) -> None:
    """Raise UserError for a tree of plain values that is nested too deeply, is too large written out, or holds numbers
    or texts such as no setting is: jsonargparse reads texts as YAML again, with all that an alias can grow to."""
    left = VALUES

    def visit(value: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH:
            raise UserError(f"{where} hold more than {VALUES} values, or are nested more than {DEPTH} times")
        if isinstance(value, dict):
            for key, part in value.items():
                if not isinstance(key, (str, int)):
                    raise UserError(f"{where} hold a key {key!r}: expected a name")
                visit(key, depth)
                visit(part, depth + 1)
        elif isinstance(value, (list, tuple)):
            for part in value:
                visit(part, depth + 1)
        elif isinstance(value, int) and value.bit_length() > 64:
            raise UserError(f"{where} hold a whole number of {value.bit_length()} bits: expected up to 64")
        elif isinstance(value, str) and (
            len(value) > LONGEST or ("&" in value and "*" in value) or sum(map(value.count, "[{")) > DEPTH
        ):
            raise UserError(
                f"{where} hold the text {value[:60]!r}, which is longer or stranger than any setting"
            )

    visit(value, 0)
