"""What a visitor asks for, as the gallery understands it."""

from __future__ import annotations

from collections.abc import Sequence

from crossreid.evaluation import thresholds
from crossreid.gallery import Filter
from crossreid.gallery.entries import readings
from crossreid.images.timestamps import timestamp
from crossreid.records import MODALITIES, UserError
from crossreid.serve.refusal import Refusal


def filtered(
    cameras: Sequence[str],
    modality: str,
    since: str,
    until: str,
    columns: Sequence[str] = (),
    identity: str = "",
) -> Filter:
    """The filter that these texts mean; empty ones mean nothing. columns: ``NAME=TEXT`` each. Raises Refusal."""
    if modality not in ("", *MODALITIES):
        raise Refusal(400, f"The filter's modality must be {' or '.join(MODALITIES)}.")
    start, end = _timestamp(since, "from"), _timestamp(until, "to")
    if start is not None and end is not None and start >= end:
        raise Refusal(400, "The time range is empty: its beginning is not before its end.")
    pairs = [pair.partition("=") for pair in columns]
    if not all(name and sign for name, sign, _ in pairs):
        raise Refusal(400, "A column is chosen by its name, a sign of equality and a text; see /api.")
    try:
        return Filter(
            cameras=tuple(cameras),
            modality=modality or None,
            since=start,
            until=end,
            identities=(identity,) if identity else (),
            columns={name: readings(text) for name, _, text in pairs},
        )
    except UserError:
        raise Refusal(400, "The filter was not understood; see /api.") from None


def boxed(text: str) -> tuple[int, int, int, int]:
    """The box ``left,top,right,bottom`` in pixels of an uploaded image. Raises Refusal."""
    try:
        left, top, right, bottom = (round(float(edge)) for edge in text.split(","))
    except (ValueError, OverflowError):
        raise Refusal(400, "The box must be four numbers of pixels: left,top,right,bottom.") from None
    if right <= left or bottom <= top:
        raise Refusal(
            400, "The box is empty: its left must be before its right, and its top before its bottom."
        )
    return left, top, right, bottom


def ticked(text: str, name: str) -> bool:
    """Whether the field of that name says yes; an empty one says no. Raises Refusal."""
    if text.lower() not in ("", "0", "1", "false", "true"):
        raise Refusal(400, f"The field {name} must be true or false.")
    return text.lower() in ("1", "true")


def operating_points(embedder) -> list[dict]:
    """Those of the model, none where it was not evaluated."""
    try:
        return thresholds.known(embedder.path, embedder.fingerprint, embedder.feature)[0]
    except (AttributeError, UserError):  # a model that is no file, or whose evaluation cannot be read
        return []


def _timestamp(text: str, name: str) -> float | None:
    try:
        return timestamp(text, f"the time '{name}'") if text else None
    except UserError as error:
        raise Refusal(400, f"{error}.") from None
