"""The JSON schema of settings files, by which editors complete names and mark mistakes; and what each setting means."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Set

from jsonargparse import ArgumentParser

from crossreid.checkpoint import HEADINGS
from crossreid.config import GIVEN_LATER
from crossreid.data.settings import DataConfig
from crossreid.evaluation import EvaluateConfig
from crossreid.methods import METHODS
from crossreid.protocols import PROTOCOLS, get
from crossreid.training import TrainConfig

# What editors know. jsonargparse writes a later draft, whose tuples they take for empty lists.
DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema() -> dict:
    """The schema of a whole settings file: what may stand below ``method`` and ``protocol`` depends on their names."""
    definitions: dict[str, dict] = {}
    headings = {
        heading: _group(kind, definitions)
        for heading, kind in (("data", DataConfig), ("train", TrainConfig), ("evaluate", EvaluateConfig))
    }
    methods = {name: _group(METHODS[name].Config, definitions) for name in METHODS}
    protocols = {name: _group(get(name), definitions, GIVEN_LATER) for name in PROTOCOLS}
    headings["method"] = _by_name(methods, "The published system that is trained.", required=True)
    headings["protocol"] = _by_name(
        protocols, "Who is searched for where; the data set's own where none is named."
    )
    return {
        "$schema": DRAFT,
        "title": "Settings of a crossreid experiment",
        "type": "object",
        "additionalProperties": False,
        "required": ["method"],
        "properties": {heading: headings[heading] for heading in HEADINGS},
        "definitions": definitions,
    }


def descriptions(kind: type) -> dict[str, str]:
    """What the docstring of a settings class says of each of its settings: ``name: text``, up to the next name."""
    names = list(inspect.signature(kind).parameters)
    text = " ".join((inspect.getdoc(kind) or "").split())
    listed = "|".join(map(re.escape, names))
    parts = re.split(rf"(?:^|(?<=[.:;] ))((?:{listed})(?:, (?:{listed}))*): ", text)
    found: dict[str, str] = {}
    for heads, said in zip(parts[1::2], parts[2::2]):
        found |= dict.fromkeys(heads.split(", "), said.strip())
    return found


def _group(kind: type, definitions: dict[str, dict], skip: Set[str] = frozenset()) -> dict:
    """The schema of what stands below one heading. The dataclasses within it go into ``definitions``."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "group", skip=set(skip))
    made = json.loads(parser.get_completion_script("jsonschema"))
    definitions |= {name: _plain(each) for name, each in made.get("$defs", {}).items()}
    group = _plain(made["properties"].get("group", {"type": "object", "additionalProperties": False}))
    _describe(group, kind)
    return group


def _by_name(groups: dict[str, dict], description: str, required: bool = False) -> dict:
    name = {"description": description, "enum": list(groups)}
    rules = []
    for each, group in groups.items():
        properties = {"name": name, **group.get("properties", {})}
        rules.append(
            {
                "if": {"properties": {"name": {"const": each}}, "required": ["name"]},
                "then": group | {"properties": properties},
            }
        )
    needed = {"required": ["name"]} if required else {}
    return {"type": "object", "properties": {"name": name}, **needed, "allOf": rules}


def _describe(group: dict, kind: type) -> None:
    """Put the words of the docstring to the settings of which jsonargparse found none, at any depth."""
    said = descriptions(kind)
    hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    for name, each in group.get("properties", {}).items():
        if name in said:
            each.setdefault("description", said[name])
        inner = hints.get(name)
        if "properties" in each and isinstance(inner, type):
            _describe(each, inner)


def _plain(schema):
    """Without the key ``$schema`` inside groups, and in the words of draft 7."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _plain(value) for key, value in schema.items() if key != "$schema"}
    if isinstance(reference := found.get("$ref"), str):
        found["$ref"] = reference.replace("#/$defs/", "#/definitions/")
    if isinstance(description := found.get("description"), str):
        found["description"] = " ".join(description.split())
    if isinstance(items := found.pop("prefixItems", None), list):
        found |= {"items": items, "minItems": len(items), "maxItems": len(items)}
    return found
