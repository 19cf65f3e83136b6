"""What the files of a run hold, as far as the report relies on it."""

from __future__ import annotations

from crossreid.formats.shape import NOTHING, NUMBER, SCORE, TEXT, TRUTH, WHOLE

_SCORES = {"*": (SCORE, TEXT, TRUTH)}
_ROW = {
    "subset": TEXT,
    "cmc?": [SCORE],
    "mean_ap?": SCORE,
    "mean_inp?": SCORE,
    "verification?": ({"*": SCORE}, NOTHING),
    "trials?": ([_SCORES], NOTHING),
    "valid?": WHOLE,
    "queries?": WHOLE,
}
_IMAGE = {
    "path": TEXT,
    "identity?": (WHOLE, TEXT, NOTHING),
    "camera?": (WHOLE, TEXT, NOTHING),
    "modality?": (lambda value: value in ("visible", "infrared", None)),
    "array_index?": (WHOLE, NOTHING),
    "box?": ([NUMBER], NOTHING),
    "distance?": SCORE,
}
_LIST = {
    "subset": TEXT,
    "kind": TEXT,
    "average_precision?": SCORE,
    "first_rank?": SCORE,
    "query": _IMAGE,
    "gallery": [_IMAGE | {"right": TRUTH}],
}
_ROWS = ([_ROW], NOTHING)
EVALUATION = {
    "rows?": _ROWS,
    "reranked?": _ROWS,
    "baselines?": ([{"name": TEXT, "rows": [_ROW]}], NOTHING),
    "ranked?": ([_LIST], NOTHING),
    "notes?": ([TEXT], NOTHING),
    "protocol?": ({"name?": TEXT, "description?": TEXT}, NOTHING),
    "metric?": ({"feature?": (TEXT, NOTHING), "stripes?": (TEXT, NOTHING)}, NOTHING),
    "versions?": ({"*": TEXT}, NOTHING),
    "feature?": (TEXT, NOTHING),
    "checkpoint?": lambda value: TEXT(value) and len(value) < 200,
    "selection?": (TEXT, NOTHING),
    "method?": (TEXT, NOTHING),
}
EPOCH = {
    "epoch": WHOLE,
    "losses?": ({"*": SCORE}, NOTHING),
    "lrs?": ({"*": [NUMBER]}, NOTHING),
    "gates?": ({"*": [NUMBER]}, NOTHING),
    "seconds?": SCORE,
}
SCORED = {"epoch": WHOLE, "split?": TEXT, "rows?": ({"*": {"rank1?": SCORE, "mean_ap?": SCORE}}, NOTHING)}
SUMMARY = {
    **dict.fromkeys(
        ("seconds?", "step_ms?", "parameters?", "checkpoint_bytes?", "peak_memory_bytes?"), (NUMBER, NOTHING)
    ),
    "device?": (TEXT, NOTHING),
    "processes?": (WHOLE, NOTHING),
}
METHOD = {"method?": ({"name?": TEXT}, NOTHING), "data?": ({"roots?": ({"*": TEXT}, NOTHING)}, NOTHING)}
