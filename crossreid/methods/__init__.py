"""The published systems by name. A new one is a file here and a line below."""

from collections.abc import Mapping
from importlib import import_module

_PLACES = {
    "agw": "agw.AGW",
    "alignedreid": "alignedreid.AlignedReID",
    "ddag": "ddag.DDAG",
    "metabin": "metabin.MetaBIN",
    "mvd": "mvd.MVD",
}


class _Methods(Mapping):
    """Name -> class. A method's file, and torch with it, is imported when it is asked for."""

    def __getitem__(self, name: str) -> type:
        module, _, attribute = _PLACES[name].partition(".")
        return getattr(import_module(f"{__name__}.{module}"), attribute)

    def __iter__(self):
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def __contains__(self, name) -> bool:
        return name in _PLACES


METHODS = _Methods()
