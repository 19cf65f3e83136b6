"""What names, tables and users say of an image: identity, camera and modality, by one rule for every way in."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

from crossreid.records import INFRARED, VISIBLE, Image, UserError, by_key, counted

# Crops that show nobody, or too little of somebody, as Market-1501 and many after it number them.
JUNK = -1
# Names of Market-1501, 0002_c1s1_000451_03.jpg, which many others have taken over; numbers of any length.
NAME = r"(?P<identity>-?\d+)_c(?P<camera>\d+)"
_FILE = rf"(?:^|/){NAME}[^/]*$"
GROUPS = ("identity", "camera", "modality")
MODALITY_WORDS = {
    **dict.fromkeys(("visible", "vis", "rgb", "v"), VISIBLE),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal", "t"), INFRARED),
}
# 1.0 is what spreadsheets and data frames make of 1.
_WHOLE = re.compile(r"(-?[0-9]{1,18})(?:\.0*)?")


def whole_number(label: str) -> int | None:
    """The number that a label is: 7 for ``7``, ``007`` and ``7.0``; None for anything but a whole number."""
    found = _WHOLE.fullmatch(label)
    return int(found[1]) if found else None


@functools.lru_cache(65536)
def plain(label: str) -> str:
    """The label as galleries keep it and look for it: a whole number bare, ``7`` for ``007`` and ``7.0``."""
    number = whole_number(label)
    return label if number is None else str(number)


def merged(labels: Iterable[str], what: str) -> dict[str, str]:
    """Each label and the one text that stands for it: itself, or the bare number where several are the same whole
    number, such as ``7`` for ``7``, ``007`` and ``7.0``; a warning then says so. what: they are, for that warning."""
    same = by_key((plain(label), label) for label in sorted(set(labels)))
    meeting = [each for each in same.values() if len(each) > 1]
    if meeting:
        more = f", and {len(meeting) - 3} more" if len(meeting) > 3 else ""
        warnings.warn(
            f"{what} that are written differently and are the same number count as one: "
            f"{'; '.join(' and '.join(map(repr, each)) for each in meeting[:3])}{more}. Rename those that are not",
            stacklevel=2,
        )
    return {label: text if len(each) > 1 else label for text, each in same.items() for label in each}


def numbers(labels: Iterable[str], what: str = "labels") -> dict[str, int]:
    """A number for each label: its own if all are whole numbers, else 1, 2, ... in sorted order. Labels that are the
    same number get one, see ``merged``."""
    text_of = merged(labels, what)
    texts = sorted(set(text_of.values()))
    own = {text: number for text in texts if (number := whole_number(text)) is not None}
    number_of = own if len(own) == len(texts) else {text: at for at, text in enumerate(texts, 1)}
    return {label: number_of[text] for label, text in text_of.items()}


def is_junk(identity: str | int | None) -> bool:
    """Whether an identity is the junk one, -1 however it is written."""
    return identity is not None and whole_number(str(identity)) == JUNK


def without_junk(images: Sequence[Image], where: str, keep: bool = False) -> list[Image]:
    """The images whose identity is not junk, with a warning that counts the others; all of them where ``keep`` says so.

    where: they come from, for the warning.
    """
    identities = [image.extra.get("identity", image.identity) for image in images]
    return [images[at] for at in not_junk(identities, where, keep)]


def not_junk(identities: Sequence[str | int | None], where: str, keep: bool = False) -> list[int]:
    """The positions of what ``without_junk`` keeps, where only the identities are at hand."""
    kept = [at for at, identity in enumerate(identities) if keep or not is_junk(identity)]
    if len(kept) < len(identities):
        warnings.warn(
            f"{where}: {len(identities) - len(kept)} of {counted(len(identities), 'image')} have the "
            "identity -1 (junk) and are left out; --keep-junk of a command, or keep_junk in data.settings, "
            "takes them as an identity like any other",
            stacklevel=2,
        )
    return kept


def numbered(images: Sequence[Image], where: str) -> list[Image]:
    """The images with numbers for the identities and cameras that their ``extra`` tells as text, by the rule of
    ``numbers``; those of which it tells nothing keep theirs. where: they come from, for warnings."""
    for name, what in (("identity", "identities"), ("camera", "cameras")):
        told = {text for image in images if (text := image.extra.get(name))}
        text_of = merged(told, f"{where}: {what}")
        number_of = numbers(text_of.values())
        images = [
            _with_number(image, name, text_of[text], number_of[text_of[text]])
            if (text := image.extra.get(name))
            else image
            for image in images
        ]
    return list(images)


def _with_number(image: Image, name: str, text: str, number: int) -> Image:
    extra = {**image.extra, name: text}
    if name == "identity":
        return replace(image, extra=extra, identity=number)
    return replace(image, extra=extra, camera=number)


def modality(word: str, where: str) -> str:
    """``"visible"`` or ``"infrared"`` for the words in use (rgb, vis, ir, nir, thermal, ...). where: for the error."""
    found = MODALITY_WORDS.get(word.strip().lower())
    if found is None:
        raise UserError(
            f"{where}: modality {word!r} is not known, expected visible or infrared (or {', '.join(MODALITY_WORDS)})."
        )
    return found


_FIELD = re.compile(r"\{([A-Za-z]\w*)\}")


def template(text: str) -> str:
    """The expression that a plain template such as ``{camera}_{track}_{time}.jpg`` stands for: each field takes what
    lies between the signs around it, and ``*`` anything, inside one folder or name. Text without fields is an
    expression already."""
    if not _FIELD.search(text):
        return text
    parts, seen = [], set()
    for at, part in enumerate(_FIELD.split(text)):
        if at % 2 == 0:
            parts.append(re.escape(part).replace(r"\*", "[^/]*"))
        elif part in seen:
            parts.append(f"(?P={part})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>[^/]+?)")
    return f"(?:^|/){''.join(parts)}$"


def compiled_pattern(pattern: str | None, own: bool = False) -> re.Pattern[str]:
    """The expression that reads names, once its groups are known to be the right ones; None reads the names of files as
    Market-1501 has them.

    pattern: a regular expression, or a template, see ``template``. own: whether groups of any name are taken, as
        columns are in a gallery, and none is needed.
    """
    if pattern is None:
        return re.compile(_FILE)
    pattern = template(pattern)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"the pattern {pattern!r} is not a regular expression: {error}.") from error
    groups = set(expression.groupindex)
    if own and groups:
        return expression
    if own:
        raise UserError(
            f"the pattern {pattern!r} has no named groups: give a template such as {{camera}}_{{track}}_{{time}}.jpg, "
            "or a regular expression such as (?P<camera>\\d+)_(?P<track>\\d+)"
        )
    if "identity" not in groups or groups - set(GROUPS):
        raise UserError(
            f"the pattern {pattern!r} has the named groups {', '.join(sorted(groups)) or '(none)'}: "
            "(?P<identity>...) is needed, (?P<camera>...) and (?P<modality>...) are possible. For "
            f"0002_c1s1_000451_03.jpg this would do: {NAME}"
        )
    return expression


def named(expression: re.Pattern[str], name: str, where: str) -> dict[str, str]:
    """What the expression finds in a name, such as ``{"identity": "0002", "camera": "1"}``; groups that found nothing
    are left out. The last part of a path is searched where the whole does not fit.

    where: the name comes from, for errors. Raises UserError for a name without an identity, and for a group that begins
    or ends inside a number: ``_c(?P<camera>\\d)`` would take camera 12 for camera 1.
    """
    match = expression.search(name) or expression.search(name.rpartition("/")[2])
    if match is None or not match["identity"]:
        raise UserError(
            f"{where}: the pattern {expression.pattern!r} finds no identity in {name}: correct the "
            "pattern, or take the image away"
            if expression.pattern != _FILE
            else f"{where}: the name {name} does not say whom the image shows: names such as 0002_c1s1_000451_03.jpg "
            "were expected, or a pattern with the groups identity and camera"
        )
    whole_groups(match, where)
    return {group: text for group, text in match.groupdict().items() if text}


def told_by(expression: re.Pattern[str], path: str, where: str) -> dict[str, str]:
    """What an expression with groups of any name finds in a path or its last part; groups that found nothing are left
    out. Raises UserError where it does not fit, or takes a part of a number."""
    match = expression.search(path) or expression.search(path.rpartition("/")[2])
    if match is None:
        raise UserError(
            f"{where}: the pattern {expression.pattern!r} does not fit {path}: correct the "
            "pattern, or take the image away"
        )
    whole_groups(match, where)
    return {group: text for group, text in match.groupdict().items() if text}


def whole_groups(match: re.Match[str], where: str) -> None:
    """Raise UserError if a named group begins or ends inside a number.

    Where two groups meet, a number may be divided between them: ``(?P<identity>\\d{4})(?P<camera>\\d{2})``.
    """
    text = match.string
    spans = [match.span(group) for group in range(1, len(match.groups()) + 1)]
    for group in match.re.groupindex:
        start, end = match.span(group)
        if start == end:
            continue
        begins = (
            text[start].isdigit()
            and _goes_on_before(text, start)
            and start not in {last for _, last in spans}
        )
        ends = (
            text[end - 1].isdigit()
            and text[end : end + 1].isdigit()
            and end not in {first for first, _ in spans}
        )
        if begins or ends:
            raise UserError(
                f"{where}: the pattern {match.re.pattern!r} takes {match[group]!r} for the {group} in {text}, which "
                f"{'begins' if begins else 'ends'} inside a longer number: let the group take the whole number, such "
                rf"as (?P<{group}>-?\d+)"
            )


def _goes_on_before(text: str, start: int) -> bool:
    """Whether the number whose digit stands at ``start`` began before: by a digit, or by a minus that is a sign."""
    before = text[max(start - 2, 0) : start]
    if before[-1:].isdigit():
        return True
    return before[-1:] == "-" and not before[:-1].isalnum()
