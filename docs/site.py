"""What ``mkdocs build`` adds to the pages in this folder: the settings, the commands, the Python interface, and the
files of the repository that pages link to. Run by mkdocs alone, see mkdocs.yml."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import typing
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# Files of the repository -> their pages.
OUTSIDE = {
    "CONTRIBUTING.md": "project/CONTRIBUTING.md",
    "CHANGELOG.md": "project/CHANGELOG.md",
    "SECURITY.md": "project/SECURITY.md",
    "crossreid/bundled/small/CARD.md": "results/CARD.md",
    "crossreid/bundled/base/CARD.md": "results/CARD-base.md",
    "README.md": "README.md",
}
API = {
    "crossreid": ["checkpoint.load", "experiment.train", "experiment.evaluate", "embedder.Embedder"],
    "records": ["records"],
    "images": ["images.decode", "images.listing", "images.tables", "images.labels"],
    "data": ["data.source", "data.sampling", "data.transforms", "data.augmentations", "data.loading"],
    "ops": ["ops.distance", "ops.alignment", "ops.ranking", "ops.rerank"],
    "losses": [f"losses.{path.stem}" for path in sorted((ROOT / "crossreid" / "losses").glob("[a-z]*.py"))],
    "methods": ["methods.base"],
    "protocols": [
        f"protocols.{path.stem}" for path in sorted((ROOT / "crossreid" / "protocols").glob("[a-z]*.py"))
    ],
    "evaluation": [
        "evaluation.entry",
        "evaluation.measures",
        "evaluation.verification",
        "evaluation.thresholds",
    ],
    "gallery": ["gallery.gallery.Gallery", "gallery.entries", "gallery.store"],
}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def on_files(files, config):
    made = {f"reference/api/{name}.md": _api(name, places) for name, places in API.items()}
    made |= {"reference/settings.md": _settings(), "reference/commands.md": _commands()}
    for source, page in OUTSIDE.items():
        if source != "README.md":
            made[page] = (ROOT / source).read_text(encoding="utf-8")
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links that leave the folder lead to the pages that the site has of such files, or are plain text."""
    pages = {page: source for source, page in OUTSIDE.items() if source != "README.md"}
    here = PurePosixPath(pages.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def moved(link: re.Match) -> str:
        place, _, heading = link[1].partition("#")
        if "://" in place or not place:
            return link[0]
        target = os.path.normpath(here / place)
        if target in OUTSIDE:
            uri = OUTSIDE[target]
        elif target.startswith("docs/"):
            uri = target.removeprefix("docs/")
        else:
            return f"] (`{target}`)"
        above = PurePosixPath(page.file.src_uri).parent
        return f"]({os.path.relpath(uri, above)}{'#' + heading if heading else ''})"

    return LINK.sub(moved, markdown)


def _api(name: str, places: list[str]) -> str:
    return f"# {name}\n\n" + "\n".join(f"::: crossreid.{place}\n" for place in places)


def _commands() -> str:
    from crossreid.__main__ import COMMANDS, main

    os.environ["COLUMNS"] = "100"
    parts = ["# Commands\n"]
    for name in COMMANDS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([name, "--help"])
        parts.append(f"## crossreid {name}\n\n```text\n{text.getvalue()}```\n")
    return "\n".join(parts)


def _settings() -> str:
    from crossreid.config import GIVEN_LATER
    from crossreid.data.settings import DataConfig
    from crossreid.evaluation import EvaluateConfig
    from crossreid.methods import METHODS
    from crossreid.protocols import PROTOCOLS, get
    from crossreid.training import TrainConfig

    parts = [
        "# Settings\n\nMade from the settings classes. `crossreid train CONFIG --help` lists those of one settings "
        "file with its values; `crossreid train --print-schema` writes the JSON schema that editors complete them by.\n"
    ]
    for heading, kind in (("data", DataConfig), ("train", TrainConfig), ("evaluate", EvaluateConfig)):
        parts += _tables(heading, kind)
    for name in METHODS:
        parts += _tables(f"method: {name}", METHODS[name].Config)
    for name in PROTOCOLS:
        parts += _tables(f"protocol: {name}", get(name), GIVEN_LATER)
    return "\n".join(parts)


def _tables(title: str, kind: type, skip=frozenset(), level: str = "##") -> list[str]:
    from crossreid.schema import descriptions

    said = descriptions(kind)
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    rows, inner = [], []
    for name, each in inspect.signature(kind).parameters.items():
        if name in skip:
            continue
        hint = hints.get(name, str)
        default = "" if each.default is inspect.Parameter.empty else f"`{each.default!r}`"
        default = default if "factory" not in default else ""
        words = hint.__name__ if isinstance(hint, type) else str(hint)
        words = re.sub(r"\b(?:crossreid|typing)\.[\w.]*?(\w+)\b", r"\1", words).replace("|", "or")
        rows.append(
            f"| `{name}` | {words} | {default.replace('|', ' ')} | {said.get(name, '').replace('|', ' ')} |"
        )
        inner += [part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)]
    if not rows:
        return []
    parts = [f"{level} {title}\n", "| setting | type | default | meaning |\n|---|---|---|---|", *rows, ""]
    for part in inner:
        parts += _tables(part.__name__, part, level="###")
    return parts
