"""The models that come with the package, a folder each; ``CARD.md`` in it says how one was made and what it can do."""

from __future__ import annotations

from pathlib import Path

from crossreid.files import as_path

MODELS = {name: Path(__file__).parent / name / f"{name}.pt" for name in ("small", "base")}


def settings_files() -> dict[str, Path]:
    """The settings files that come with the library, by name."""
    package = Path(__file__).parent.parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def located(path: str | Path) -> Path:
    """The place of a model: the name of one that comes along stands for its file, unless a file has that name."""
    path = as_path(path, "a model")
    return MODELS[str(path)] if str(path) in MODELS and not path.exists() else path


def exported_form(path: Path) -> Path | None:
    """The folder of the ONNX form that is bundled with a model, None where there is none."""
    folder = path.parent / "exported"
    return folder if path in MODELS.values() and folder.is_dir() else None
