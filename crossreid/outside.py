"""Parts that are not in this library: methods, data sets, losses, ... by their place, ``package.module:Name``.

What the user names, in a settings file, on the command line or in Python, is imported (``load``). What a checkpoint
names is only looked up among what the user has named (``find``), so that a file from elsewhere runs nothing: that a
module is loaded says nothing, ``subprocess`` always is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from crossreid.records import UserError, check_choice

# Settings that hold paths, which may look like names of parts (``D:data``).
PATHS = frozenset({"roots", "pretrained", "init_from"})
_FORM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
Part = TypeVar("Part")
# What the user has named: modules, and parts as ``package.module:Name``.
_NAMED: set[str] = set()


def named(name: object) -> bool:
    """Whether a name is that of a part from elsewhere."""
    return isinstance(name, str) and _FORM.fullmatch(name) is not None and not name.startswith("timm:")


def name_of(part: Any) -> str | None:
    """``package.module:Name`` of a class or function; None where it has no place of its own in a module."""
    module, name = getattr(part, "__module__", None), getattr(part, "__qualname__", None)
    found = getattr(sys.modules.get(module or ""), name or "", None)
    return f"{module}:{name}" if found is part else None


def load(name: str) -> Any:
    """Import the part that the user named; modules are looked for in the current folder too."""
    load_module(name.partition(":")[0])
    _NAMED.add(name)
    return find(name)


def load_module(module: str) -> None:
    """Import a module that the user trusts, from the current folder too: files may name what it defines."""
    try:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            here = str(Path.cwd())
            if here in sys.path or error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            sys.path.append(here)
            try:
                import_module(module)
            except BaseException:
                sys.path.remove(here)
                raise
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        remedy = (
            "install its package, or run in the folder that holds it, or set PYTHONPATH to that folder; the form is "
            "package.module:Name"
            if absent
            else "it was found, so correct what it imports and defines; --debug shows the line"
        )
        raise UserError(
            f"the module {module} was named, but importing it failed ({type(error).__name__}: {error}): {remedy}"
        ) from error
    _NAMED.add(module)


def find(name: str) -> Any:
    """The part of that name, if the user has named it, or the module that defines it."""
    module, _, attribute = name.partition(":")
    if module not in sys.modules or not {name, module} & _NAMED:
        raise UserError(
            f"{name} is needed, which is not part of crossreid, and files do not import code by themselves. If you "
            f"trust it, name its module: on the command line by --import {module}, in Python by "
            f'crossreid.outside.load_module("{module}") before'
        )
    if not hasattr(sys.modules[module], attribute):
        raise UserError(f"{name} was named, but {module} has no {attribute}: the form is package.module:Name")
    part = getattr(sys.modules[module], attribute)
    # A module that is trusted may itself have imported what starts programs.
    home = (getattr(part, "__module__", None) if hasattr(part, "__qualname__") else None) or module
    if name not in _NAMED and home.partition(".")[0] != module.partition(".")[0]:
        raise UserError(
            f"{name} is named by a file, but {module} has it from {home}: if you trust it, define it in {module}"
        )
    return part


def chosen(what: str, name: Any, table: Mapping[str, Part]) -> Part:
    """The part of that name: of a table of the library's own, or one from elsewhere that has been imported. what: the
    setting, for messages, which name the nearest."""
    if named(name):
        return find(name)
    check_choice(what, name, table)
    return table[name]


def load_all(tree: Any, place: Sequence[str] = ()) -> Any:
    """The same tree of settings with everything imported that it names. place: keys that lead to it."""
    if not PATHS.isdisjoint(place):
        return tree
    if isinstance(tree, Mapping):
        return {key: load_all(value, (key,)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [load_all(value) for value in tree]
    if named(tree):
        load(tree)
    return named_in(tree)


def named_in(tree: Any) -> Any:
    """The same tree of settings with classes and functions as their names."""
    if isinstance(tree, Mapping):
        return {key: named_in(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [named_in(value) for value in tree]
    if callable(tree):
        if (name := name_of(tree)) is None:
            raise UserError(
                f"{tree!r} cannot be named in settings: define it at the top of a module, so that it can be imported "
                "as package.module:Name"
            )
        _NAMED.add(name)
        return name
    return tree
