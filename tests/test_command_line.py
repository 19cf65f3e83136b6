"""The command line as its users meet it: help with examples, completion by the shell, the schema for editors."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from crossreid import bundled
from crossreid.__main__ import COMMANDS, main


def output(capsys, *words):
    try:
        code = main(list(words))
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_whose_options_exist(name, capsys):
    text = output(capsys, name, "--help")
    options, _, examples = text.partition("examples:")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines and all(line.startswith(f"crossreid {name}") for line in lines)
    if name in ("data", "gallery"):
        acts = re.search(r"\{?([a-z]+(?:\|[a-z]+)+)\}?", options)[1].split("|")
        helps = {act: output(capsys, name, act, "--help") for act in acts}
        assert all(f"crossreid {name} {act}" in text.partition("examples:")[2] for act, text in helps.items())
        options += "".join(helps.values())
    for line in lines:
        for word in shlex.split(line):
            if word.startswith("--") and "." not in word:
                assert word in options, line


def test_commands_stand_in_groups(capsys):
    text = output(capsys, "--help")
    assert text.index("train and evaluate:") < text.index("  train ") < text.index("search:\n")


def test_help_of_train_lists_the_settings_files(capsys):
    text = output(capsys, "train", "--help")
    assert all(re.search(rf"\b{name}\b", text) for name in bundled.settings_files())


def completed(line, folder):
    """What the shell is offered at the end of a line."""
    out = folder / "offered"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([sys.executable, "-m", "crossreid"], env=environment, cwd=folder, check=False)
    return {word.strip() for word in out.read_text().splitlines()}


def test_the_shell_completes(tmp_path):
    pytest.importorskip("argcomplete")
    assert set(COMMANDS) <= completed("crossreid ", tmp_path)
    assert completed("crossreid ev", tmp_path) == {"evaluate"}
    assert completed("crossreid train mvd_paper_", tmp_path) == {"mvd_paper_regdb", "mvd_paper_sysu_mm01"}
    assert completed("crossreid train --res", tmp_path) == {"--resume"}
    assert completed("crossreid gallery del", tmp_path) == {"delete"}
    assert "--identities" in completed("crossreid data make market1501 here --", tmp_path)


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    from crossreid.schema import json_schema

    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("name", bundled.settings_files())
def test_every_settings_file_fits_the_schema(name, validator):
    tree = yaml.safe_load(bundled.settings_files()[name].read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(tree)] == []


def test_resolved_settings_fit_the_schema(validator, experiment):
    from crossreid import config

    tree = yaml.safe_load(config.load(experiment).to_yaml())
    assert [error.message for error in validator.iter_errors(tree)] == []


@pytest.mark.parametrize(
    ("tree", "wrong"),
    [
        ({"method": {"name": "agw", "margn": 3}}, "margn"),
        ({"method": {"name": "agw", "bands": 3}}, "bands"),
        ({"method": {"name": "agv"}}, "agv"),
        ({"method": {}}, "name"),
        ({}, "method"),
        ({"method": {"name": "agw"}, "train": {"epochs": "many"}}, "many"),
        ({"method": {"name": "agw"}, "data": {"size": [128]}}, "128"),
        ({"method": {"name": "agw"}, "protocol": {"name": "sysu_mm01", "modes": 1}}, "modes"),
        ({"method": {"name": "agw"}, "evaluate": {"expand": {"j": 1}}}, "'j'"),
    ],
)
def test_the_schema_marks_mistakes(tree, wrong, validator):
    assert any(wrong in error.message for error in validator.iter_errors(tree))


def test_every_setting_is_described(validator):
    for heading in ("data", "train"):
        for name, each in validator.schema["properties"][heading]["properties"].items():
            assert each.get("description"), f"{heading}.{name}"


def test_what_this_user_may_not_use_is_told_without_a_traceback(monkeypatch, capsys):
    def refused(words):
        raise PermissionError(13, "Permission denied", "closed/cam1.txt")

    monkeypatch.setattr("crossreid.commands.tracklets.run", refused)
    assert main(["tracklets", "small", "closed/cam1.txt"]) == 2
    told = capsys.readouterr().err
    assert "closed/cam1.txt may not be used by this user (Permission denied): change its permissions" in told
    with pytest.raises(PermissionError):
        main(["--debug", "tracklets", "small", "closed/cam1.txt"])
