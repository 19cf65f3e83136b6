"""Parsers that the commands share."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import NoReturn

from crossreid.images import labels
from crossreid.records import INFRARED, VISIBLE, UserError


class Parser(argparse.ArgumentParser):
    """A parser that answers the shell's question for what may come next; ``argcomplete`` asks in the environment."""

    asked = False
    # Of what was given, the first option that the command does not have.
    unknown = ""

    def options(self) -> set[str]:
        """The options of a command, those of its acts too."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found = found.union(*(act.options() for act in action.choices.values()))
        return found

    def parse_known_args(self, args=None, namespace=None):
        # It parses what is on the line so far with this very parser.
        if "_ARGCOMPLETE" in os.environ and not Parser.asked:
            import argcomplete

            Parser.asked = True
            argcomplete.autocomplete(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        # Its value was taken for one of a setting, and may be just what is missing.
        super().error(f"{message}; and there is no option {Parser.unknown}" if Parser.unknown else message)


def parser(name: str, doc: str, epilog: str = "") -> Parser:
    """The parser of ``crossreid NAME``; ``doc`` is the module's: its first line says what the command does, and the
    examples at its end are shown below the options."""
    Parser.unknown = ""
    examples = doc.partition("examples:")[2].rstrip()
    below = [textwrap.fill(epilog, 100, break_on_hyphens=False)] if epilog else []
    return Parser(
        prog=f"crossreid {name}",
        description=doc.splitlines()[0],
        epilog="\n\n".join([*below, f"examples:{examples}"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def show_examples(acts: argparse._SubParsersAction, name: str, doc: str) -> None:
    """Below the help of each act of ``crossreid NAME``: those examples of the command that are its own."""
    lines = doc.partition("examples:")[2].splitlines()
    for act, its_parser in acts.choices.items():
        own = [line for line in lines if line.strip().startswith(f"crossreid {name} {act}")]
        below = [its_parser.epilog] if its_parser.epilog else []
        its_parser.epilog = "\n\n".join([*below, "\n".join(["examples:", *own])])
        its_parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a checkpoint, an exported model, or small, which comes with crossreid")


def add_use(
    parser: argparse.ArgumentParser, *, batch: bool, feature: str = "default: the method's own choice"
) -> None:
    """How the model is used. batch: whether so many images may come that they are embedded in batches."""
    parser.add_argument("--feature", help=f"which of the method's vectors ({feature})")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, npu (default: %(default)s)")
    if batch:
        parser.add_argument("--batch", type=int, default=64, help="images at once (default: %(default)s)")
    else:
        parser.set_defaults(batch=64)


def opened(chosen: argparse.Namespace, modalities: Sequence[str | None] = (), *, tell: bool = True):
    """The embedder of the model that was chosen by these arguments.

    modalities: that images are announced to have; see ``check_modality``. tell: say where the model runs, beside the
        results and not among them.
    """
    from crossreid.embedder import Embedder

    embedder = Embedder(chosen.model, chosen.device, chosen.batch, chosen.feature)
    check_modality(embedder, modalities)
    if tell:
        print(f"the model runs on {embedder.device} by {embedder.runtime}", file=sys.stderr)
    return embedder


def add_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="by the machines of the Ray cluster with this address, or by all processors of this machine; given last",
    )


def complete(argument: argparse.Action, names: Iterable[str]) -> None:
    """Have the shell offer these names for an argument, beside files."""

    def offered(prefix: str, **_) -> list[str]:
        from argcomplete.completers import FilesCompleter

        return [*names, *FilesCompleter()(prefix)]

    vars(argument)["completer"] = offered


def parse(parser: Parser, words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The words that ``parser`` knows, and the changes of settings (``--train.epochs 60``), wherever among them: every
    option that is not the parser's, with its value, so that who reads the settings can name the nearest one."""
    own, changes, rest, options = [], [], list(words), parser.options()
    Parser.unknown = ""
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if word.startswith("--") and word != "--" and name not in options:
            Parser.unknown = Parser.unknown or (name if "." not in name else "")
            # argparse would take the value that follows for one of the command's own words.
            changes += [word] if "=" in word else [word, *rest[:1]]
            rest = rest if "=" in word else rest[1:]
        else:
            own.append(word)
    chosen, unknown = parser.parse_known_args(own)
    return chosen, unknown + changes


def modality(word: str) -> str:
    """For ``type=`` of an argument: a modality by any of the words for it."""
    try:
        return labels.modality(word, "here")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("here: ")) from None


def check_modality(embedder, asked: Sequence[str | None]) -> None:
    """Raise UserError where infrared images are announced to a model that learned from visible ones alone. Of a file
    that does not say what it learned from nothing is known."""
    if INFRARED in asked and embedder.trained.get("modalities") == [VISIBLE]:
        raise UserError(
            f"{embedder.name} was trained on visible images alone, so that what it makes of infrared ones means "
            "nothing: take a model that was trained across modalities, or leave --modality infrared out"
        )


def those_of(prefix: str, words: Sequence[str]) -> list[str]:
    """Of ``--HEADING.NAME VALUE`` and ``--HEADING.NAME=VALUE`` words those whose heading is ``prefix``."""
    found, rest = [], list(words)
    while rest:
        pair = [rest.pop(0)]
        if "=" not in pair[0]:
            pair += [rest.pop(0)] if rest else []
        found += pair if pair[0].startswith(f"--{prefix}.") else []
    return found


def reader_settings(words: list[str]) -> dict:
    """``--settings.NAME VALUE`` pairs, values read as YAML."""
    return prefixed_settings(words, "settings", "the reader")


def prefixed_settings(words: list[str], prefix: str, owner: str) -> dict:
    """``--PREFIX.NAME VALUE`` or ``--PREFIX.NAME=VALUE`` pairs, values read as YAML. owner: whose settings they are, in
    messages."""
    if not words:
        return {}
    import yaml

    from crossreid.formats.yaml_text import parse_yaml

    settings, rest = {}, list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        name = flag.removeprefix(f"--{prefix}.")
        if name == flag or not (equals or rest):
            raise UserError(
                f"{flag!r} was not understood: settings of {owner} follow as --{prefix}.NAME VALUE"
            )
        value = value if equals else rest.pop(0)
        try:
            settings[name] = parse_yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"the value {value!r} of {flag} cannot be read as YAML") from error
    return settings
