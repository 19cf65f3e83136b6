"""The model that comes with the package; ``CARD.md`` beside it says how it was made and what it can do."""

from __future__ import annotations

from pathlib import Path

from crossreid.files import as_path

SMALL = Path(__file__).parent / "small.pt"


def located(path: str | Path) -> Path:
    """The place of a model: the word ``small`` is the one that ships, unless a file has that name."""
    path = as_path(path, "a model")
    return SMALL if str(path) == "small" and not path.exists() else path
