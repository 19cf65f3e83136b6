"""Functions of published programs, from clones that the user has: nothing of them is in this repository.

``--peers FOLDER`` names a folder that holds clones of any of

    github.com/michuanhaohao/AlignedReID
    github.com/KaiyangZhou/deep-person-reid
    github.com/JDAI-CV/fast-reid, or of a program made from it, such as github.com/bismex/MetaBIN;
        with its compiled evaluation, if that was built in the clone
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path


def function(folder: Path, file: str, name: str):
    """A function in a file of the first clone that has it, or None.

    The packages around the file are left unimported, since they need much else; the file can import its neighbours.
    """
    for path in sorted(folder.glob(f"*/{file}")):
        packages = Path(file).parent.parts
        for depth in range(1, len(packages) + 1):
            package = module_from_spec(ModuleSpec(".".join(packages[:depth]), None, is_package=True))
            package.__path__ = [str(path.parents[len(packages) - depth])]
            sys.modules[package.__name__] = package
        return getattr(importlib.import_module(".".join((*packages, path.stem))), name)
    return None
