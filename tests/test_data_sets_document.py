"""docs/data-sets.md says what SOURCES says. To write it anew: python tests/test_data_sets_document.py"""

from pathlib import Path

from crossreid.data import SOURCES
from crossreid.data.source import Counts, Source

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "data-sets.md"
BEGIN = "<!-- From here on this page is made from SOURCES by tests/test_data_sets_document.py. -->\n"


def counts(found: Counts | None) -> str:
    if found is None:
        return "-"
    about = "" if found.exact else "about "
    cameras = "-" if found.cameras is None else found.cameras
    return f"{about}{found.identities} / {found.images} / {cameras}"


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
        "Paper": source.paper,
        "Where from": source.obtain,
        "Terms": source.licence,
        "Mind": source.caveats,
        "Usual folder": f"`{source.folder}`" if source.expected else "",
    }
    lines = [f"- {what}: {text}" for what, text in facts.items() if text]
    return (
        f"## {source.title}: `{source.name}`\n\n" + "\n".join(lines) + f"\n\n```text\n{source.layout}\n```\n"
    )


def generated() -> str:
    return "\n".join([table(), *map(section, SOURCES.values())])


def test_the_document_is_up_to_date():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2] == "\n" + generated()


def test_every_source_says_what_its_user_must_know():
    for name, source in SOURCES.items():
        assert source.name == name
        for what in ("title", "obtain", "licence", "layout", "folder", "protocol"):
            assert getattr(source, what), f"{name} has no {what}"
        assert all(split in ("train", "validation", "query", "gallery") for split in source.expected)


if __name__ == "__main__":
    head = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[0]
    DOCUMENT.write_text(head + BEGIN + "\n" + generated(), encoding="utf-8")
