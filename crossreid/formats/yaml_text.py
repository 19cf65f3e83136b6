"""YAML from outside, within bounds: of size, of depth, of the length of numbers, and of what aliases grow to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from crossreid import files
from crossreid.formats.text import DEPTH, VALUES, read_text

BYTES, DIGITS = 2**18, 64


class _Loader(yaml.SafeLoader):
    """Plain values only. Aliases stay, as our own files have them, and are counted as what they stand for."""

    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError(f"it is nested more than {DEPTH} times")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None:
            _counted(node, {})
        return node

    def construct_yaml_int(self, node):
        return super().construct_yaml_int(_short(node))

    def construct_yaml_float(self, node):
        return super().construct_yaml_float(_short(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _short(node):
    if len(node.value) > DIGITS:
        raise yaml.YAMLError(f"a number has {len(node.value)} digits")
    return node


def _counted(node, known: dict[int, int]) -> int:
    """How many values a node is, written out."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise yaml.YAMLError("an alias stands inside of what it stands for")
        return known[id(node)]
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated([key for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value if isinstance(node, yaml.SequenceNode) else []
    count = 1 + sum(_counted(part, known) for part in parts)
    if count > VALUES:
        raise yaml.YAMLError(f"it holds more than {VALUES} values")
    known[id(node)] = count
    return count


def _refuse_repeated(keys: Sequence[yaml.ScalarNode]) -> None:
    """Of two equal keys the former would be lost without a word."""
    seen: dict[tuple[str, str], int] = {}
    for key in keys:
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in seen:
            raise yaml.YAMLError(f"the key {key.value!r} of line {line} stands in line {seen[name]} already")
        seen[name] = line


def parse_yaml(text: str) -> Any:
    """The value of a YAML document. Raises ``yaml.YAMLError`` or ValueError, whatever the text."""
    if len(text) > BYTES:
        raise yaml.YAMLError(f"it has more than {BYTES} characters")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):
        raise
    except (
        Exception
    ) as error:  # of constructors, for values such as a mapping as a key or a date that is none
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def read_yaml(path: Path, expected: str) -> Any:
    """The value of a YAML file."""
    with files.understood(path, expected):
        return parse_yaml(read_text(path, expected, BYTES))
