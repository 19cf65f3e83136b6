"""Removing what a LanceDB table held earlier, and proof that it is gone.

LanceDB removes earlier versions by their age, so what was written while the clock was ahead stays. Here it goes by the
manifest: the file that lists what the latest version consists of.
"""

from __future__ import annotations

import os
from pathlib import Path

from crossreid.gallery.manifest import content
from crossreid.records import UserError

_HINT = "latest_version_hint.json"


def clean(table: Path, version: int) -> None:
    """Remove every file of a table that is not of this version, its latest, which has no deleted rows and no index.

    Raises UserError when one of them is still there afterwards, whatever the reason.
    """
    kept = f"{2**64 - 1 - version:020d}.manifest"
    try:
        manifest = content((table / "_versions" / kept).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"the gallery {table.parent} cannot be cleaned of what was deleted: the list of its files, {kept}, cannot "
            f"be read ({error}). The deleted entries are found by no search, but their bytes may lie in {table}: index "
            "the images that are to stay into a new gallery, and remove this one"
        ) from error
    for path in _others(table, kept, manifest):
        try:
            path.unlink()
        except OSError:
            pass  # what counts is what is there below
    for folder, _, _ in os.walk(table, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)
    left = _others(table, kept, manifest)
    if left:
        raise UserError(
            f"the entries are found by no search any more, but {len(left)} files that may hold them are still there, "
            f"the first is {left[0]}: see who holds or protects it, then delete again"
        )


def _others(table: Path, kept: str, manifest: bytes) -> list[Path]:
    """Files below the table that its manifest does not name."""
    found = []
    for folder, _, names in os.walk(table):
        place = Path(folder).relative_to(table).parts
        for name in names:
            if place == ("_versions",):
                needed = name in (kept, _HINT)
            elif place[:1] in (("_indices",), ("_deletions",)):
                needed = False
            else:
                needed = name.encode("utf-8", "surrogateescape") in manifest
            if not needed:
                found.append(Path(folder) / name)
    return sorted(found)
