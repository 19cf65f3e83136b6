"""The tables of docs/methods against the parsers of the official programs, where their clones are given.

    CROSSREID_OFFICIAL_PROGRAMS=FOLDER python -m pytest tests/test_coming_from.py

FOLDER holds the repositories by their own names, as ``git clone`` makes them. Nothing of them is run.
"""

import ast
import os
import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.documents

PAGES = Path(__file__).parent.parent / "docs" / "methods"
CLONES = os.environ.get("CROSSREID_OFFICIAL_PROGRAMS")
MVD = "Farewell-to-Mutual-Information-Variational-Distiilation-for-Cross-Modal-Person-Re-identification"
# Heading -> the files whose options its tables must name.
PROGRAMS = {
    "DDAG and AGW, PyTorch": [
        "DDAG/train_ddag.py",
        "DDAG/test_ddag.py",
        "Cross-Modal-Re-ID-baseline/train.py",
        "Cross-Modal-Re-ID-baseline/test.py",
    ],
    "ReID-Survey": ["ReID-Survey/tools/main.py"],
    "MVD, PyTorch": [
        f"{MVD}/mm01.py",
        f"{MVD}/regdb.py",
        f"{MVD}/RegDB_test/RegDB_test.py",
        f"{MVD}/extract_feature.py",
    ],
    "AlignedReID++, PyTorch": ["AlignedReID/train_alignedreid.py"],
    "MetaBIN": ["MetaBIN/fastreid/engine/defaults.py"],
    "torchreid": ["deep-person-reid/scripts/main.py"],
    "fast-reid": ["fast-reid/fastreid/engine/defaults.py"],
}
FLAG = re.compile(r"^--?[A-Za-z][\w-]*$")
KEY = re.compile(r"^[A-Z_]+(?:\.[A-Z_0-9]+)+$")


def named(heading):
    """What stands in backquotes in the first columns of the tables of a section."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md")))
    pattern = rf"^## Coming from {re.escape(heading)}$(.*?)(?=^##? |\Z)"
    section = re.search(pattern, text, flags=re.M | re.S)[1]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    return {word for row in rows for quoted in re.findall(r"`([^`]+)`", row[1]) for word in quoted.split()}


def options(path):
    """The options of every ``add_argument`` of a file: for each, its names."""
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    calls = [call for call in calls if getattr(call.func, "attr", None) == "add_argument"]
    found = [[word.value for word in call.args if isinstance(word, ast.Constant)] for call in calls]
    return [names for names in found if names and names[0].startswith("-")]


def keys(tree, above=""):
    for key, value in tree.items():
        yield from keys(value, f"{above}{key}.") if isinstance(value, dict) else [f"{above}{key}"]


def clone(name):
    if not CLONES:
        pytest.skip(
            f"CROSSREID_OFFICIAL_PROGRAMS does not say where clones of the official programs are: {name}"
        )
    path = Path(CLONES) / name
    if not path.exists():
        pytest.skip(f"{CLONES} has no clone with {name}")
    return path


def test_what_a_table_names_is_found():
    assert {"--height", "--unaligned", "-a"} <= named("AlignedReID++, PyTorch")
    assert "MODEL.NORM.BIN_INIT" in named("MetaBIN")


@pytest.mark.parametrize(
    "heading, file", [(heading, file) for heading, files in PROGRAMS.items() for file in files]
)
def test_every_option_of_an_official_program_has_a_row(heading, file):
    missing = [names for names in options(clone(file)) if not set(names) & named(heading)]
    assert not missing


@pytest.mark.parametrize("heading", PROGRAMS)
def test_no_row_names_an_option_that_no_official_program_has(heading):
    theirs = {name for file in PROGRAMS[heading] for names in options(clone(file)) for name in names}
    assert {word for word in named(heading) if FLAG.match(word)} <= theirs


@pytest.mark.parametrize(
    "file",
    [
        "Base-DG.yml",
        *(f"Sample/{name}.yml" for name in ("DG-mobilenet", "DG-resnet", "M-resnet", "D-resnet")),
    ],
)
def test_every_key_of_metabins_settings_has_a_row(file):
    tree = yaml.safe_load(clone(f"MetaBIN/configs/{file}").read_text(encoding="utf-8"))
    tree.pop("_BASE_", None)
    found = set(keys(tree))
    assert len(found) == 116 or file != "Base-DG.yml"
    assert found <= named("MetaBIN")


def test_every_key_of_reid_survey_has_a_row():
    assert defaults("ReID-Survey/config/defaults.py") <= named("ReID-Survey")


@pytest.mark.parametrize(
    "heading, file",
    [
        ("MetaBIN", "MetaBIN/fastreid/config/defaults.py"),
        ("ReID-Survey", "ReID-Survey/config/defaults.py"),
        ("fast-reid", "fast-reid/fastreid/config/defaults.py"),
    ],
)
def test_every_key_that_a_row_names_is_the_program_s(heading, file):
    assert {word.removesuffix(".ENABLED") for word in named(heading) if KEY.match(word)} <= defaults(file)


def test_the_keys_of_torchreid_and_its_rows_are_the_same():
    text = clone("deep-person-reid/scripts/default_config.py").read_text(encoding="utf-8")
    theirs = set(re.findall(r"^ +cfg\.([a-z0-9_.]+\.[a-z0-9_]+) = (?!CN)", text, flags=re.M))
    theirs -= set(re.findall(r"^ +cfg\.([a-z0-9_.]+) = CN", text, flags=re.M))
    assert {word for word in named("torchreid") if re.match(r"^[a-z0-9]+(\.[a-z0-9_]+)+$", word)} == theirs


@pytest.mark.parametrize("kind", ["bagtricks", "AGW", "SBS"])
def test_every_key_of_fast_reid_s_base_files_has_a_row(kind):
    tree = yaml.safe_load(clone(f"fast-reid/configs/Base-{kind}.yml").read_text(encoding="utf-8"))
    unnamed = {"_BASE_", "CUDNN_BENCHMARK"}
    assert {key.removesuffix(".ENABLED") for key in keys(tree)} - unnamed <= switches("fast-reid")


def switches(heading):
    """What ``named`` gives, and the groups of these keys, which ``ENABLED`` switches."""
    found = named(heading)
    return found | {word.rpartition(".")[0] for word in found}


def defaults(file):
    """The keys of a program's yacs defaults."""
    text = clone(file).read_text(encoding="utf-8")
    return set(re.findall(r"^_C\.([A-Z_]+(?:\.[A-Z_0-9]+)+) *=", text, flags=re.M))
