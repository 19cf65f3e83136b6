"""The published systems by name. A new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from crossreid import outside

if TYPE_CHECKING:
    from crossreid.methods.base import Method

_PLACES = {
    "agw": "agw.AGW",
    "alignedreid": "alignedreid.AlignedReID",
    "baseline": "baseline.Baseline",
    "ddag": "ddag.DDAG",
    "metabin": "metabin.MetaBIN",
    "mvd": "mvd.MVD",
}


class _Methods(Mapping[str, "type[Method]"]):
    """Name -> class. A method's file, and torch with it, is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Method]:
        module, _, attribute = _PLACES[name].partition(".")
        return getattr(import_module(f"{__name__}.{module}"), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def __contains__(self, name: object) -> bool:
        return name in _PLACES


METHODS = _Methods()


def get(name: str) -> type[Method]:
    """The class of that name, or one from elsewhere by ``package.module:Name``. Raises UserError with the nearest."""
    return outside.chosen("the method", name, METHODS)


def method_name(method: Method) -> str:
    """The name of a method by its class: of ``METHODS``, or ``package.module:Name`` for one from elsewhere."""
    kind = type(method)
    known = (name for name, place in _PLACES.items() if kind.__name__ == place.rpartition(".")[2])
    return next((name for name in known if METHODS[name] is kind), outside.name_of(kind) or kind.__name__)
