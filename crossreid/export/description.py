"""``model.json`` of an exported model: what it says, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossreid.files import understood
from crossreid.formats.shape import NOTHING, NUMBER, TEXT, WHOLE, unlike
from crossreid.formats.text import read_json
from crossreid.images.resize import FILTERS
from crossreid.records import MODALITIES, UserError

FORMAT = 1
DESCRIPTION = "model.json"
LARGEST_INPUT = 2**20
_METRIC = {"feature": (TEXT, NOTHING), "stripes": (TEXT, NOTHING)}
_FILES = {"*": {"file": TEXT, "sha256": TEXT}}
_FORM = {
    "name": TEXT,
    "method": TEXT,
    "feature": TEXT,
    "dimension": lambda value: WHOLE(value) and 0 < value < 10**7,
    "stripes": lambda value: value is None or (not unlike(value, [WHOLE]) and len(value) == 2),
    "metric": _METRIC,
    "metrics": {"*": _METRIC},
    "input": {
        "size": [WHOLE],
        "interpolation": lambda value: isinstance(value, str) and value in FILTERS,
        "type": lambda value: value in ("uint8", "float32"),
        "name": TEXT,
        "layout": lambda value: value in ("NHWC", "NCHW"),
        "normalise?": lambda value: value in ("inside", "outside"),
        "mean": lambda value: not unlike(value, [NUMBER]) and len(value) == 3,
        "std": lambda value: not unlike(value, [NUMBER]) and len(value) == 3 and min(value) > 0,
    },
    "modalities": lambda value: value in ([*MODALITIES], [*MODALITIES[:1]]),
    "files": _FILES,
    "mindir?": {"files": _FILES},
    "precision": TEXT,
    "fingerprint": TEXT,
    "trained": {},
    "settings": {},
    "verification": {},
    "versions": {},
}


def read(folder: Path) -> dict:
    """The description of an exported model, checked. Files are named in the folder itself, never elsewhere."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder.resolve()} has no {DESCRIPTION}, which says how images are prepared for the model: give a folder "
            "that `crossreid export` wrote, and keep its files together"
        )
    expected = "a description written by `crossreid export` was expected: export again"
    known = read_json(path, expected)
    with understood(path, expected):
        version = known["format"]
    if version != FORMAT:
        raise UserError(
            f"{path} has format {version!r} and this version reads format {FORMAT}: install a newer crossreid, or "
            "export the checkpoint again"
        )
    wrong = unlike(known, _FORM)
    if not wrong:  # files of before it was said
        known["input"].setdefault("normalise", "inside" if known["input"]["type"] == "uint8" else "outside")
    size: Sequence[int] = known["input"]["size"] if not wrong else ()
    if not wrong and not (len(size) == 2 and min(size) > 0 and size[0] * size[1] <= LARGEST_INPUT):
        wrong = "input.size"
    for name, holder, suffix in (("files", known, ".onnx"), ("mindir", known.get("mindir"), ".mindir")):
        if wrong or holder is None:
            continue
        files = holder["files"]
        if set(files) not in ({"all"}, set(known["modalities"])) or not all(
            _here(entry["file"], folder, suffix) for entry in files.values()
        ):
            wrong = name
    if wrong:
        raise UserError(f"{path}: {wrong} is missing or not valid; copy the folder again, or export again")
    return known


def _here(name, folder: Path, suffix: str) -> bool:
    """Whether a name is that of such a file in the folder, and not a way out of it."""
    plain = isinstance(name, str) and name == Path(name.replace("\\", "/")).name and name.endswith(suffix)
    return plain and (folder / name).is_file() and not (folder / name).is_symlink()
