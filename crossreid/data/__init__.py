"""The data sets: one file each, gathered in ``SOURCES``.

A new data set is one file with a ``SOURCE`` and one line here.
"""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from crossreid.data.sets import (
    csv_table,
    cuhk02,
    cuhk03,
    cuhk_sysu,
    dukemtmc,
    folder,
    grid,
    ilids,
    llcm,
    market1501,
    msmt17,
    prid2011,
    regdb,
    sysu_mm01,
    viper,
)
from crossreid.data.source import Counts, Finding, Source
from crossreid.data.splitting import hold_out
from crossreid.records import Image, UserError

SOURCES: dict[str, Source] = {
    "market1501": market1501.SOURCE,
    "dukemtmc": dukemtmc.SOURCE,
    "msmt17": msmt17.SOURCE,
    "cuhk02": cuhk02.SOURCE,
    "cuhk03": cuhk03.SOURCE,
    "cuhk_sysu": cuhk_sysu.SOURCE,
    "grid": grid.SOURCE,
    "prid2011": prid2011.SOURCE,
    "ilids": ilids.SOURCE,
    "viper": viper.SOURCE,
    "sysu_mm01": sysu_mm01.SOURCE,
    "regdb": regdb.SOURCE,
    "llcm": llcm.SOURCE,
    "folder": folder.SOURCE,
    "csv": csv_table.SOURCE,
}


def get(name: str) -> Source:
    """The data set of that name. Raises UserError that names the nearest one."""
    if name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name, SOURCES, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UserError(f"unknown data set {name!r}{hint}: choose one of {', '.join(sorted(SOURCES))}.")


def read(name: str, root: str | os.PathLike, *, held_out: float = 0, **settings) -> dict[str, list[Image]]:
    """The images of a data set by split: ``train``, ``query``, ``gallery`` and perhaps ``validation``.

    held_out: share of the training identities that become the split ``validation``; the same share always
        gives the same identities. An official validation split is held out instead, whatever the share.
    settings: those of the data set's own reader.
    """
    source = get(name)
    known = [key for key in inspect.signature(source.read).parameters if key != "root"]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UserError(f"{name} has no setting {key!r}{hint}: it has {', '.join(known) or 'none'}.")
    if held_out:
        settings = {**settings, **source.validation}
    splits = source.read(Path(root).expanduser(), **settings)
    if held_out and "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"], held_out)
    return splits


def locate(name: str, roots: Mapping[str, str] | None = None) -> Path:
    """The folder of a data set: ``roots[name]``, else its folder (or its name) below ``$CROSSREID_DATA``.

    Raises UserError that says both ways.
    """
    source = get(name)
    if roots and roots.get(name):
        root = Path(roots[name]).expanduser()
        if not root.exists():
            raise UserError(f"{source.title}: {root}, given as data.roots.{name}, does not exist.")
        return root
    both = f"set data.roots.{name} to its folder, or CROSSREID_DATA to the folder that holds {source.folder}"
    base = os.environ.get("CROSSREID_DATA")
    if not base:
        raise UserError(f"no folder is known for {source.title}: {both}.")
    tried = [Path(base).expanduser() / folder for folder in dict.fromkeys((source.folder, name))]
    for root in tried:
        if root.exists():
            return root
    raise UserError(
        f"{source.title} was not found: CROSSREID_DATA is {base}, but there is no "
        f"{' nor '.join(map(str, tried))}. To mend it, {both}. {source.obtain}"
    )


def describe() -> str:
    """What is known of every data set, for reading: what a complete copy holds and where to apply for it."""
    paragraphs = []
    for source in SOURCES.values():
        lines = [f"{source.name}: {source.title}"]
        for split, counts in source.expected.items():
            cameras = "" if counts.cameras is None else f", {counts.cameras} cameras"
            about = "" if counts.exact else " (quoted, not certain)"
            numbers = f"{counts.identities} identities, {counts.images} images{cameras}{about}"
            lines.append(f"    {split}: {numbers}")
        facts = (("from", source.obtain), ("terms", source.licence), ("mind", source.caveats))
        lines += [f"    {what}: {text}" for what, text in facts if text]
        paragraphs.append("\n".join(lines))
    return "\n".join(paragraphs)


def check(name: str, root: str | os.PathLike, **settings) -> list[Finding]:
    """Compare a copy on disk with what is known of the data set; without errors and warnings all is well.

    settings: those of the data set's reader, whose warnings are among what is found.
    """
    source = get(name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            splits = read(name, root, **settings)
        except UserError as error:
            return [Finding("error", str(error))]
    findings = [Finding("warning", f"{each.message}.") for each in said]
    for split, counts in source.expected.items():
        findings += _deviations(split, splits.get(split, []), counts)
    if source.remarks is not None:
        findings += source.remarks(splits)
    if source.check is not None:
        try:
            findings += source.check(Path(root).expanduser())
        except UserError as error:
            findings.append(Finding("error", str(error)))
    return findings


def _deviations(split: str, images: list[Image], counts: Counts) -> list[Finding]:
    found = {
        "identities": (len({(image.domain, image.identity) for image in images}), counts.identities),
        "images": (len(images), counts.images),
        "cameras": (len({image.camera for image in images}), counts.cameras),
    }
    severity = "error" if counts.exact else "warning"
    return [
        Finding(severity, f"{split}: {number} {what} found, {expected} expected.")
        for what, (number, expected) in found.items()
        if expected is not None and number != expected
    ]
