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

COMMANDS = (
    *("demo", "data", "train", "evaluate", "report"),
    *("embed", "compare", "export", "convert"),
    *("index", "search", "gallery", "serve"),
    *("tracklets", "link"),
)


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a mistake of the user, 1 for a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that are no text of this terminal's are written out
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: crossreid COMMAND ...   (crossreid COMMAND --help says more; --debug shows tracebacks)\n"
        )
        for name in COMMANDS:
            print(f"  {name:<10} {_command(name).__doc__.splitlines()[0]}")
        return 0
    if words[0] == "--version":
        print(f"crossreid {__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        return _fail(f"unknown command {words[0]!r}{hint}: choose one of {', '.join(COMMANDS)}.", 2)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, warnings.showwarning)
            _command(words[0]).run(words[1:])
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("stopped.", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            return 130
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)
    return 0


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
