"""The documents name what exists: methods, settings, settings files, other documents, citable papers."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from crossreid import config
from crossreid.data.settings import DataConfig
from crossreid.evaluation import EvaluateConfig
from crossreid.methods import METHODS
from crossreid.protocols import PROTOCOLS, get
from crossreid.training import TrainConfig

pytestmark = pytest.mark.documents

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
ENTRY = re.compile(r"```bibtex\n@(\w+)\{(\w+),\n(.*?)\n\}\n```", re.S)
FIELD = re.compile(r"(\w+)\s*= \{(.+)\}")
KEY = re.compile(r"`(?:--)?((?:method|data|protocol|train|evaluate)(?:\.\w+)+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def sections(name):
    """Heading of the second level of a page -> the text below it."""
    parts = re.split(r"^## (.+)$", TEXTS[name], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_with_a_citation(name):
    entries = ENTRY.findall(TEXTS[f"docs/methods/{name}.md"])
    assert len(entries) == 1
    kind, _, body = entries[0]
    fields = dict(FIELD.fullmatch(line.strip().rstrip(",")).groups() for line in body.splitlines())
    assert {"title", "author", "year"} <= set(fields) and re.fullmatch(r"\d{4}", fields["year"])
    assert {"article": "journal", "inproceedings": "booktitle"}[kind] in fields
    assert all(value.count("{") == value.count("}") for value in fields.values())
    assert all(", " in author for author in fields["author"].split(" and "))


@pytest.mark.parametrize("name", METHODS)
def test_quoted_numbers_are_marked_and_terms_stated(name):
    assert re.search(r"\*\*Quoted\b[^*]*, not measured here\.?\*\*", TEXTS[f"docs/methods/{name}.md"])
    terms = sections("docs/methods/README.md")["What may be used"].splitlines()
    rows = [row.strip("|").split("|") for row in terms if row.startswith(f"| `{name}`")]
    assert rows and all(len(row) == 4 and all(map(str.strip, row)) for row in rows)


def test_citations_have_keys_of_their_own():
    text = "".join(TEXTS[f"docs/methods/{name}.md"] for name in METHODS)
    keys = [key for _, key, _ in ENTRY.findall(text)]
    assert len(keys) == len(set(keys)) == text.count("```bibtex") == len(METHODS)


def methods_of(page, text):
    """The methods a passage is about, by its page and the settings files it names."""
    files = set(re.findall(r"`(\w+)`", text)) & set(config.bundled())
    return sorted({page, *(config.load(file).method_name for file in files)} & set(METHODS))


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README", *METHODS])
def test_every_setting_that_is_named_exists(page):
    protocols = {key for name in PROTOCOLS for key in inspect.signature(get(name)).parameters} | {"name"}
    found = 0
    for heading, text in sections(f"docs/methods/{page}.md").items():
        about = methods_of(page, text) or list(METHODS)
        if heading == "Coming from torchreid":  # whose keys are spelt as ours
            text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.M)
        for key in KEY.findall(text):
            found += 1
            room, *path = key.split(".")
            if room == "protocol":
                assert path[0] in protocols, key
            elif room == "method":
                known = [{f.name for f in dataclasses.fields(METHODS[name].Config)} for name in about]
                assert path[0] in {"name"}.union(*known), f"{key} under {heading}"
            else:
                kind = {"data": DataConfig, "train": TrainConfig, "evaluate": EvaluateConfig}[room]
                assert exists(kind, path), key
    assert found > 5


def exists(kind, path):
    """Whether the nested key is a field; names within a dict are free."""
    hints = typing.get_type_hints(kind)
    if path[0] not in hints:
        return False
    hint = hints[path[0]]
    nested = [part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)]
    rest = path[2:] if typing.get_origin(hint) is dict else path[1:]
    return not rest or (bool(nested) and exists(nested[0], rest))


def test_a_setting_that_does_not_exist_is_noticed():
    assert exists(TrainConfig, ["optimizers", "main", "schedule", "warmup"])
    assert not exists(TrainConfig, ["optimizers", "main", "schedule", "warm"])
    assert not exists(DataConfig, ["seize"])
    assert KEY.findall("`train.seed`, `--method.margin 0.5`, train.py") == ["train.seed", "method.margin"]


def test_every_settings_file_is_mentioned_and_every_mention_exists():
    named = set(re.findall(r"`(\w+)`", "".join(TEXTS.values())))
    assert set(config.bundled()) <= named
    mentioned = {word for word in named if re.match(rf"({'|'.join(METHODS)})_", word)}
    assert mentioned <= set(config.bundled())


def test_own_images_are_checked_by_the_pattern_they_are_trained_by():
    short = sections("docs/howto/own-data.md")["From images to a model, in short"]
    checked = re.search(r"data check folder people --settings\.pattern (.+)", short)[1]
    assert f"--data.settings.pattern {checked}" in short


def test_files_beside_an_output_have_its_whole_name():
    for kind, beside in (("npy", "rows"), ("csv", "skipped")):
        assert f"`OUT.{beside}.csv`" in TEXTS["docs/howto/embed.md"]
        assert f"`q2.{kind}.{beside}.csv` for `q2.{kind}`" in TEXTS["docs/howto/embed.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, heading = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.M)
            anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert heading in anchors, link
