"""docs/reference/data-sets.md says what SOURCES says. To write it anew: python tests/test_data_sets_document.py"""

from pathlib import Path

import pytest

from crossreid.data import SOURCES
from crossreid.data.source import Counts, Source

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reference" / "data-sets.md"
BEGIN = "<!-- From here on this page is made from SOURCES by tests/test_data_sets_document.py. -->\n"


def counts(found: Counts | None) -> str:
    if found is None:
        return "-"
    about = "" if found.exact else "about "
    cameras = "-" if found.cameras is None else found.cameras
    images = "-" if found.images is None else found.images
    return f"{about}{found.identities} / {images} / {cameras}"


def linked(text: str, address: str) -> str:
    return f"{text} <{address}>" if address else text


def table() -> str:
    lines = [
        "| name | data set | train | query | gallery | usual protocol |",
        "|---|---|---|---|---|---|",
    ]
    for source in SOURCES.values():
        splits = " | ".join(counts(source.expected.get(split)) for split in ("train", "query", "gallery"))
        lines.append(f"| `{source.name}` | {source.title} | {splits} | `{source.protocol}` |")
    return "\n".join(lines) + "\n"


def section(source: Source) -> str:
    facts = {
        "Paper": linked(source.paper, source.paper_address),
        "Where from": linked(source.obtain, source.address),
        "Terms": source.licence,
        "Note": source.caveats,
        "Known from": source.basis,
        "Settings": ", ".join(f"`{setting}`" for setting in source.settings),
        "Usual folder": f"`{source.folder}`" if source.expected else "",
    }
    lines = [f"- {what}: {text}" for what, text in facts.items() if text]
    return (
        f"## {source.title}: `{source.name}`\n\n" + "\n".join(lines) + f"\n\n```text\n{source.layout}\n```\n"
    )


def generated() -> str:
    return "\n".join([table(), *map(section, SOURCES.values())])


@pytest.mark.documents
def test_the_document_is_up_to_date():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2] == "\n" + generated()


def test_every_source_says_what_its_user_must_know():
    for name, source in SOURCES.items():
        assert source.name == name
        for what in ("title", "obtain", "licence", "layout", "folder", "protocol"):
            assert getattr(source, what), f"{name} has no {what}"
        assert source.address.startswith("http") or name in ("folder", "csv"), f"{name} has no address"
        assert all(split in ("train", "validation", "query", "gallery") for split in source.expected)


if __name__ == "__main__":
    head = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[0]
    DOCUMENT.write_text(head + BEGIN + "\n" + generated(), encoding="utf-8")
