"""One YAML file is one experiment: five headings, each filled into the dataclass of the file of that name."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jsonargparse import SUPPRESS, ArgumentParser

from crossreid import outside
from crossreid.bundled import settings_files as bundled
from crossreid.checkpoint import HEADINGS, plain
from crossreid.data import SOURCES
from crossreid.data import get as get_source
from crossreid.data.settings import DataConfig
from crossreid.evaluation import EvaluateConfig
from crossreid.files import as_path
from crossreid.formats.text import check_plain
from crossreid.formats.yaml_text import parse_yaml, read_yaml
from crossreid.methods import METHODS
from crossreid.methods import get as get_method
from crossreid.protocols import PROTOCOLS
from crossreid.protocols import get as get_protocol
from crossreid.protocols.base import Protocol
from crossreid.records import UserError, did_you_mean
from crossreid.training import TrainConfig

# What a protocol is given when it is built, and no setting.
GIVEN_LATER = {"root", "split", "fold", "images"}


@dataclass
class Settings:
    """Everything one experiment is made of, resolved: no default is left open.

    method: the settings of the method named ``method_name``; protocol: those of ``protocol_name``.
    """

    method_name: str
    method: dict = field(default_factory=dict)
    protocol_name: str = "single_query"
    protocol: dict = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def to_dict(self) -> dict:
        return {
            "method": {"name": self.method_name, **plain(self.method)},
            "data": plain(self.data),
            "protocol": {"name": self.protocol_name, **plain(self.protocol)},
            "train": plain(self.train),
            "evaluate": plain(self.evaluate),
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def load(source: str | Path | Mapping, overrides: Mapping[str, object] | Sequence[str] = ()) -> Settings:
    """Settings from a YAML file (a path, or the name of one that ships with the library) or a plain dict.

    overrides: ``{"train.epochs": 60}``, or ``["--train.epochs", "60", "--method.margin=0.5"]``, whose values are read
        as YAML.
    Raises UserError naming the nearest known key, or the value and what was expected of it.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Mapping | Sequence):
        raise UserError(
            f"changes of settings were given as {type(overrides).__name__}: expected a dict such as "
            '{"train.epochs": 60}, or a list such as ["--train.epochs", "60"]'
        )
    # What a settings file or the command line names is imported; a mapping may be what a checkpoint records.
    given = outside.named_in(source) if isinstance(source, Mapping) else outside.load_all(_read(source))
    tree = plain(given)
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else _pairs(overrides)
    for key, _ in pairs:
        if not isinstance(key, str):
            raise UserError(f"the name of a setting is {key!r}: expected text such as 'train.epochs'")
    _unfollow(tree, dict(pairs))
    for key, value in pairs:
        _put(tree, key.split("."), plain(outside.load_all(value, key.split("."))))
    return resolve(tree)


def resolve(tree: dict) -> Settings:
    """Fill a tree of plain values into the dataclasses, checking every key and value; the tree stays as it is."""
    check_plain(tree, "the settings")
    tree = plain(tree)  # the parser fills its defaults into what it is given
    _known("settings", tree, HEADINGS)
    for heading in HEADINGS:
        if not isinstance(tree.setdefault(heading, {}) or {}, dict):
            raise UserError(f"{heading} must be a group of keys, but is {tree[heading]!r}")
    for heading, key in (("train", "optimizers"), ("data", "loaders")):
        # The way to take one of a settings file away on the command line.
        if isinstance(named := (tree[heading] or {}).get(key), dict):
            tree[heading][key] = {name: each for name, each in named.items() if each is not None}
    method, protocol = dict(tree["method"] or {}), dict(tree["protocol"] or {})
    name = method.pop("name", None)
    if name is None:
        raise UserError(f"method.name is missing: choose one of {', '.join(METHODS)}")
    kind_of_method = outside.chosen("method.name", name, METHODS)
    data = fill("data", DataConfig, tree["data"] or {})
    usual = data.name if isinstance(data.name, str) else data.name[0]
    protocol_name = protocol.pop("name", None) or get_source(usual).protocol
    kind = outside.chosen("protocol.name", protocol_name, PROTOCOLS)
    if "source" in kind.settings and "source" not in protocol and get_source(usual).protocol == protocol_name:
        protocol["source"] = usual
        if "settings" in kind.settings and data.settings:
            protocol.setdefault("settings", data.settings)
    train = fill("train", TrainConfig, tree["train"] or {})
    if train.select == "validation" and not data.validation:
        raise UserError(
            "train.select is 'validation' but every identity is trained on: set data.validation to the share of "
            "identities to hold out (data sets with an official validation split hold out that one)"
        )
    return Settings(
        method_name=name,
        method=plain(fill("method", kind_of_method.Config, method)),
        protocol_name=protocol_name,
        protocol=_fill_protocol(kind, protocol),
        data=data,
        train=train,
        evaluate=fill("evaluate", EvaluateConfig, tree["evaluate"] or {}),
    )


def settings_help(settings: Settings) -> str:
    """Everything that can be set in an experiment, with its type, and the value that ``settings`` has."""
    parser = ArgumentParser(usage="crossreid train CONFIG [--SETTING VALUE ...]", add_help=False)
    parser.add_class_arguments(get_method(settings.method_name).Config, "method")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_class_arguments(get_protocol(settings.protocol_name), "protocol", skip=GIVEN_LATER)
    parser.add_class_arguments(TrainConfig, "train")
    parser.add_class_arguments(EvaluateConfig, "evaluate")
    tree = settings.to_dict()
    for heading in HEADINGS:
        named = heading in ("method", "protocol")  # whose name chose the class, and is none of its settings
        values = {key: value for key, value in tree[heading].items() if not (named and key == "name")}
        parser.set_defaults({f"{heading}.{key}": value for key, value in values.items()})
    # Not files of single headings, and no help of single settings, which the command does not take.
    for action in parser._actions:
        action.option_strings = action.option_strings[:1]
        if action.help == "Path to a configuration file." or action.dest.endswith("help"):
            action.help = SUPPRESS
    return parser.format_help()


def fill(where: str, kind: type, values: dict):
    """An instance of the dataclass ``kind`` from plain values; ``where`` is its heading, for messages."""
    _known_within(where, kind, values)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, where)
    return parser.instantiate(_parse(parser, where, values))[where]


def _fill_protocol(kind: type[Protocol], values: dict) -> dict:
    """The settings of a protocol, which is built later, checked, with its defaults filled in."""
    _known("protocol", values, kind.settings)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "protocol", skip=GIVEN_LATER)
    return plain(_parse(parser, "protocol", values)["protocol"].as_dict()) if kind.settings else {}


def _parse(parser: ArgumentParser, where: str, values: dict):
    try:
        return parser.parse_object({where: values})
    except UserError:
        raise
    except Exception as error:  # the parser's own, and those of odd values on their way through it
        raise UserError(_of_the_wrong_type(error)) from error


# What jsonargparse calls the types of values, and people.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "Sequence": "a list",
}


def _of_the_wrong_type(error: Exception) -> str:
    text = " ".join(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(error)).replace("Parser key", "").split())
    if found := re.search(r'"([\w.]+)": Expected an? (\w+)\. Got value: (.*)$', text):
        shown = found[3] if found[2] == "str" else repr(found[3])  # in quotes it would look like text
        return f"{found[1]} is {shown}: expected {_TYPES.get(found[2], found[2])}"
    if found := re.search(r'"([\w.]+)": Expected a tuple with (\d) elements\. Got value: (.*)$', text):
        return f"{found[1]} is {found[3]!r}: expected a list of {found[2]}"
    return f"a setting has a value of the wrong kind: {text}"


def _known_within(where: str, kind: type, values: dict) -> None:
    """Refuse unknown keys at any depth, with the nearest known one."""
    hints = typing.get_type_hints(kind)
    _known(where, values, [field.name for field in dataclasses.fields(kind)])
    for key, value in values.items():
        inner = [hints[key], *typing.get_args(hints[key])]
        nested = next(
            (each for each in inner if isinstance(each, type) and dataclasses.is_dataclass(each)), None
        )
        if nested is None or not isinstance(value, dict):
            continue
        named = typing.get_origin(hints[key]) is dict
        for name, item in value.items() if named else ((None, value),):
            if isinstance(item, dict):
                _known_within(f"{where}.{key}" + (f".{name}" if named else ""), nested, item)


def _known(where: str, values: dict, names: Sequence[str]) -> None:
    for key in values:
        if key not in names:
            raise UserError(
                f"{where}: the key {key!r} is unknown{did_you_mean(key, names)}: choose one of {', '.join(names)}"
            )


def _read(source: object) -> dict:
    path = as_path(source, "a settings file")
    if path.suffix == ".pt" and path.is_file():
        raise UserError(
            f"{path} is a checkpoint and holds no settings file: go on with its run by --resume {path.parent}, or give "
            "a YAML file and take its weights by --train.init_from"
        )
    if not path.is_file():
        named = bundled()
        if str(source) not in named:
            raise UserError(
                f"there is no settings file {source}{did_you_mean(source, named)}: give the path of a YAML file, or "
                "one of the names that `crossreid train --help` lists"
            )
        path = named[str(source)]
    tree = read_yaml(path, f"a YAML file with the headings {', '.join(HEADINGS)} was expected")
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no settings: expected the headings {', '.join(HEADINGS)}")
    return tree


def _pairs(overrides: Sequence[str]) -> list[tuple[str, object]]:
    """Settings and values of a command line. jsonargparse's own parsing of them comes too late: the names of method and
    protocol, which may be among them, decide what there is to parse; and it knows no nearest key for a wrong one."""
    pairs, words = [], list(overrides)
    while words:
        word = words.pop(0)
        if not isinstance(word, str) or not word.startswith("--") or len(word) < 3:
            raise UserError(f"{word!r} was not understood: settings are changed as --train.epochs 60")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not words:
                raise UserError(f"--{key} is given without a value: write --{key} VALUE")
            text = words.pop(0)
        try:
            pairs.append((key, parse_yaml(text)))
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"the value {text!r} of --{key} cannot be read as YAML") from error
    return pairs


def _unfollow(tree: dict, changes: dict) -> None:
    """Take out of a resolved tree what followed from a data set or a protocol that the changes replace."""
    data, protocol = tree.get("data"), tree.get("protocol")
    if not isinstance(data, dict) or not isinstance(protocol, dict):
        return
    name = protocol.get("name")
    if name is not None and changes.get("protocol.name", name) != name:
        tree["protocol"] = {}
        return
    before, after = (
        _first(names) for names in (data.get("name"), changes.get("data.name", data.get("name")))
    )
    if not all(isinstance(source, str) and source in SOURCES for source in (before, after)):
        return
    if after != before:
        # Settings and targets for several data sets are those of none of them.
        several = all(isinstance(names, list) for names in (data["name"], changes["data.name"]))
        if not several:
            data.pop("settings", None)
        kept = several and name == "generalization"
        if not kept and get_source(before).protocol == name != get_source(after).protocol:
            tree["protocol"] = {}
    elif not any(key.startswith("data.settings") for key in changes):
        return
    if protocol.get("source") == before:
        for key in ("source", "settings"):
            protocol.pop(key, None)


def _names_below(tree: Mapping, heading: str) -> Sequence[str]:
    """The settings that a heading has."""
    method, protocol = (_name_in(tree, each) for each in ("method", "protocol"))
    if heading == "protocol":
        return get_protocol(protocol).settings if protocol in PROTOCOLS else ()
    kinds = {"data": DataConfig, "train": TrainConfig, "evaluate": EvaluateConfig}
    known = method in METHODS or outside.named(method)
    kind = get_method(method).Config if heading == "method" and known else kinds.get(heading)
    return [each.name for each in dataclasses.fields(kind)] if kind else ()


def _name_in(tree: Mapping, heading: str) -> str:
    group = tree.get(heading)
    return str(group.get("name")) if isinstance(group, Mapping) else ""


def _first(names):
    return names[0] if isinstance(names, list) and names else names


def _put(tree: dict, keys: list[str], value) -> None:
    if keys[0] not in HEADINGS:
        key, known = ".".join(keys), [f"{heading}.*" for heading in HEADINGS]
        under = [f"{heading}.{key}" for heading in HEADINGS if keys[0] in _names_below(tree, heading)]
        hint = f" (did you mean {' or '.join(under)}?)" if under else did_you_mean(keys[0], HEADINGS)
        raise UserError(f"the setting {key!r} is unknown{hint}: choose one of {', '.join(known)}")
    for key in keys[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[keys[-1]] = value
