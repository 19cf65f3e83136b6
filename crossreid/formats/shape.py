"""What plain values from outside must look like, said as an example of them.

    {"name": TEXT, "rows": [{"mean_ap": SCORE}], "notes?": [TEXT]}

A dict has these keys, those that end in ``?`` perhaps, and any others; under ``*`` stands what all further ones hold. A
list holds any number of one kind, a tuple says what may be there. Kinds are functions that say yes or no.
"""

from __future__ import annotations

import math
from typing import Any

MANY = 10_000_000


def TEXT(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 100_000


def WHOLE(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def NUMBER(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e15


def SCORE(value: Any) -> bool:
    """A number, or none: what is not known is null or NaN."""
    return value is None or NUMBER(value) or (type(value) is float and math.isnan(value))


def TRUTH(value: Any) -> bool:
    return type(value) is bool


def NOTHING(value: Any) -> bool:
    return value is None


def unlike(value: Any, form: Any, where: str = "") -> str | None:
    """Where a value is not of the form, None where it is."""
    if isinstance(form, tuple):
        found = [unlike(value, each, where) for each in form]
        return None if None in found else found[0]
    if isinstance(form, list):
        if not isinstance(value, list) or len(value) > MANY:
            return where or "the whole"
        each = (unlike(part, form[0], f"{where}[{number}]") for number, part in enumerate(value))
        return next(filter(None, each), None)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return where or "the whole"
        for key, part in form.items():
            name = key.removesuffix("?")
            inner = f"{where}.{name}" if where else name
            if key == "*":
                rest = [other for other in value if other not in form and f"{other}?" not in form]
                each = (unlike(value[other], part, f"{where}.{other}"[:80]) for other in rest)
                wrong = next(filter(None, each), None)
            elif name in value:
                wrong = unlike(value[name], part, inner)
            else:
                wrong = None if key.endswith("?") else inner
            if wrong:
                return wrong
        return None
    return None if form(value) else where or "the whole"
