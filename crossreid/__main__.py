"""The commands by name; each is one file in ``crossreid/commands``."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from functools import partial
from pathlib import Path

from crossreid import __version__
from crossreid.files import printable
from crossreid.records import UserError, did_you_mean

GROUPS = {
    "start here": ("demo",),
    "train and evaluate": ("data", "train", "evaluate", "report"),
    "use a model": ("embed", "compare", "export", "convert"),
    "search": ("index", "search", "gallery", "serve"),
    "video": ("tracklets", "link"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a mistake of the user, 1 for a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that are no text of this terminal's are written out
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if "_ARGCOMPLETE" in os.environ:
        words = _to_complete()
    if not words or words[0] in ("-h", "--help"):
        print("usage: crossreid COMMAND ...   (crossreid COMMAND --help shows options and examples)")
        for group, names in GROUPS.items():
            print(f"\n{group}:")
            for name in names:
                print(f"  {name:<10} {_command(name).__doc__.splitlines()[0]}")
        print(
            "\nwith any command:\n"
            "  --debug          show the traceback of an error\n"
            "  --import MODULE  load code of yours\n"
            "\n--version prints the version. Completion in bash:\n"
            '  eval "$(register-python-argcomplete crossreid)"'
        )
        return 0
    if words[0] == "--version":
        print(f"crossreid {__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        return _fail(f"unknown command {words[0]!r}{hint}: choose one of {', '.join(COMMANDS)}.", 2)
    try:
        with warnings.catch_warnings():
            # Our own are sentences of the command, which are printed whatever is done with warnings elsewhere.
            warnings.filterwarnings("default", category=UserWarning, module=r"crossreid\b")
            warnings.showwarning = partial(_warn, warnings.showwarning)
            _command(words[0]).run(_imported(words[1:]))
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("stopped.", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PermissionError as error:
        if debug:
            raise
        name = error.filename or "a file"
        return _fail(
            f"{name} may not be used by this user ({error.strerror}): change its permissions, or those of the folders "
            "above it",
            2,
        )
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            return 130
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)
    return 0


def _imported(words: list[str]) -> list[str]:
    """The words without ``--import MODULE``, which names code of the user's that a checkpoint needs: it is imported."""
    from crossreid import outside

    words = list(words)
    while "--import" in words:
        place = words.index("--import")
        if place + 1 == len(words):
            raise UserError("--import is given without a module: write --import package.module")
        outside.load_module(words[place + 1])
        del words[place : place + 2]
    return words


def _to_complete() -> list[str]:
    """The command whose options the shell asks for, which then answers; or the answer where it asks for the command."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
    before = line.split()[1:] if line[-1:].isspace() else line.split()[1:-1]
    if before and before[0] in COMMANDS:
        os.environ["_ARGCOMPLETE"] = "2"  # the command's parser begins at the second word
        return before[:1]
    from crossreid.commands.parsing import Parser

    parser = Parser("crossreid")
    parser.add_argument("command", choices=[*COMMANDS, "--help", "--version"])
    parser.parse_known_args([])
    return []


def _warn(usual, message, category, filename, *where) -> None:
    """Our own warnings are sentences for the user; those of others keep their place in the code."""
    if Path(filename).is_relative_to(Path(__file__).parent) and category is UserWarning:
        print(f"crossreid: {message}", file=sys.stderr)
    else:
        usual(message, category, filename, *where)


def _command(name: str):
    return importlib.import_module(f"crossreid.commands.{name}")


def _fail(text: str, code: int) -> int:
    print(f"crossreid: {printable(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
