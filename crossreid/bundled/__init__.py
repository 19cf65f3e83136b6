"""The model that comes with the package; ``CARD.md`` beside it says how it was made and what it can do."""

from __future__ import annotations

from pathlib import Path

from crossreid.files import as_path

SMALL = Path(__file__).parent / "small.pt"
EXPORTED = SMALL.with_suffix("")


def located(path: str | Path) -> Path:
    """The place of a model: the word ``small`` is the one that ships, unless a file has that name."""
    path = as_path(path, "a model")
    return SMALL if str(path) == "small" and not path.exists() else path


def exported_form(path: Path) -> Path | None:
    """The folder of the bundled ONNX form of a bundled model, None for every other."""
    return EXPORTED if path == SMALL else None
