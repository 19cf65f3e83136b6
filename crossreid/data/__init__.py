"""The data sets: one file each, gathered in ``SOURCES``.

A new data set is one file with a ``SOURCE`` and one line here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from crossreid import outside
from crossreid.data import provenance
from crossreid.data.combining import everything
from crossreid.data.sets import (
    caviar4reid,
    csv_table,
    cuhk01,
    cuhk02,
    cuhk03,
    cuhk_sysu,
    dukemtmc,
    folder,
    grid,
    ilids,
    ilids_vid,
    llcm,
    lpw,
    market1501,
    mars,
    msmt17,
    occluded_duke,
    partial_ilids,
    partial_reid,
    pes3d,
    pku_reid,
    prid450s,
    prid2011,
    regdb,
    sensereid,
    sysu_mm01,
    viper,
)
from crossreid.data.source import Counts, Finding, Source
from crossreid.data.splitting import hold_out
from crossreid.files import as_path, is_address, place
from crossreid.records import Image, UserError, counted, did_you_mean

SOURCES: dict[str, Source] = {
    "market1501": market1501.SOURCE,
    "market1501_500k": market1501.WITH_DISTRACTORS,
    "dukemtmc": dukemtmc.SOURCE,
    "occluded_duke": occluded_duke.SOURCE,
    "msmt17": msmt17.SOURCE,
    "cuhk01": cuhk01.SOURCE,
    "cuhk02": cuhk02.SOURCE,
    "cuhk03": cuhk03.SOURCE,
    "cuhk_sysu": cuhk_sysu.SOURCE,
    "grid": grid.SOURCE,
    "prid2011": prid2011.SOURCE,
    "prid450s": prid450s.SOURCE,
    "ilids": ilids.SOURCE,
    "viper": viper.SOURCE,
    "pku_reid": pku_reid.SOURCE,
    "sensereid": sensereid.SOURCE,
    "caviar4reid": caviar4reid.SOURCE,
    "pes3d": pes3d.SOURCE,
    "lpw": lpw.SOURCE,
    "mars": mars.SOURCE,
    "ilids_vid": ilids_vid.SOURCE,
    "partial_reid": partial_reid.SOURCE,
    "partial_ilids": partial_ilids.SOURCE,
    "sysu_mm01": sysu_mm01.SOURCE,
    "regdb": regdb.SOURCE,
    "llcm": llcm.SOURCE,
    "folder": folder.SOURCE,
    "csv": csv_table.SOURCE,
}


def get(name: str) -> Source:
    """The data set of that name, or one from elsewhere by ``package.module:NAME``. Raises UserError otherwise."""
    return outside.chosen("the data set", name, SOURCES)


def read(
    name: str, root: str | os.PathLike, *, held_out: float = 0, all_images: bool = False, **settings
) -> dict[str, list[Image]]:
    """The images of a data set by split: ``train``, ``query``, ``gallery`` and perhaps ``validation``.

    held_out: share of the training identities that become the split ``validation``; the same share always
        gives the same identities. An official validation split is held out instead, whatever the share.
    all_images: the images of all splits are ``train``, without distractors, and there is no other split.
    settings: those of the data set's own reader.
    """
    source = get(name)
    for key in settings:
        if not source.takes(key):
            known = [*source.settings, "all_images", *(["fold"] if source.takes("fold") else [])]
            hint = did_you_mean(key, known)
            raise UserError(f"{name} has no setting {key!r}{hint}: it has {', '.join(dict.fromkeys(known))}.")
    if all_images and source.takes("all_images"):
        settings["all_images"] = True
    if held_out and not all_images:
        settings = {**settings, **source.validation}
    root = _place(root)
    if is_address(root) and not source.at_address:
        raise UserError(
            f"{root} is an address, and {name} is read from a folder of this computer: copy it here, or give a "
            "table of its images (the data set csv), which may lie there"
        )
    splits = source.read(root, **settings)
    if all_images:
        splits = everything(splits)
    if held_out and "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits.get("train", []), held_out)
    return splits


def _place(root: str | os.PathLike) -> Path:
    return place(str(root)) if is_address(root) else as_path(root, "the folder of a data set").expanduser()


def locate(name: str, roots: Mapping[str, str | Path] | None = None) -> Path:
    """The folder of a data set: ``roots[name]``, else its folder (or its name) below ``$CROSSREID_DATA``.

    Raises UserError that says both ways.
    """
    source = get(name)
    if roots and roots.get(name):
        root = _place(roots[name])
        if not is_address(root) and not root.exists():
            raise UserError(f"{source.title}: {root}, given as data.roots.{name}, does not exist.")
        return root
    both = (
        f"set data.roots.{name} to its folder (`crossreid data` takes it after the name), or CROSSREID_DATA to the "
        f"folder that holds {source.folder}"
    )
    if name in ("folder", "csv"):  # own images, of which nobody else has a copy
        both = (
            f"set data.roots.{name} to its place; or name a data set, --data.name market1501 with "
            "--data.roots.market1501 FOLDER, or with CROSSREID_DATA set to the folder that holds all data sets"
        )
    base = os.environ.get("CROSSREID_DATA")
    if not base:
        raise UserError(f"no folder is known for {source.title}: {both}.")
    tried = [Path(base).expanduser() / folder for folder in dict.fromkeys((source.folder, name))]
    found = [root for root in tried if root.exists()]
    if len({os.path.realpath(root) for root in found}) > 1:
        raise UserError(
            f"{source.title} may be {found[0]} or {found[1]}, and which one is meant is not guessed: set "
            f"data.roots.{name} to its folder."
        )
    if found:
        return found[0]
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
            cameras = "" if counts.cameras is None else f", {counted(counts.cameras, 'camera')}"
            about = "" if counts.exact else " (quoted, not certain)"
            images = "" if counts.images is None else f", {counted(counts.images, 'image')}"
            lines.append(f"    {split}: {counted(counts.identities, 'identity')}{images}{cameras}{about}")
        facts = (
            ("paper", " ".join(filter(None, (source.paper, source.paper_address)))),
            ("from", " ".join(filter(None, (source.obtain, source.address)))),
            ("terms", source.licence),
            ("note", source.caveats),
            ("known from", source.basis),
        )
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
            findings += list(source.check(_place(root)))  # all of them, or the error alone
        except UserError as error:
            findings.append(Finding("error", str(error)))
    if provenance.rendered(image for images in splits.values() for image in images):
        text = f"this copy holds {provenance.LAYOUT_OF}{source.title}, not the real data set or not it alone."
        findings.append(Finding("warning", text))
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
