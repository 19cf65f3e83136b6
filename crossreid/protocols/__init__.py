"""The protocols: who is searched for where. One file each, gathered in ``PROTOCOLS``.

A protocol is built from the folder of its data and its settings, and then has

    name         its name here
    images       every image to embed, once
    cmc          "image" or "identity": which kind of cumulative matching curve belongs to it
    average      "trials" or "queries": over what the mean of a subset's trials goes, see ``results.mean_scores``
    description  the protocol with its settings, in a few plain sentences for the report
    notes        what departs from the usual and must be said loudly
    title        of the data that is searched; called, the same or what it is instead where it was rendered
    provenance   where the images come from, if any was rendered
    trials()     who is searched for where, as indices into ``images``

and its class

    settings     the names of what a user can set
    folds        whether it is given the fold of the data set, as ``fold``
    layout       whether the title is a data set's, whose layout rendered images have
    held_out     whether it can be given held-out training images to validate on, as ``images``
    locate()     what it is built from, where the user named the folders of data sets

A new protocol is one file with such a class and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossreid import outside
from crossreid.protocols.base import Protocol
from crossreid.protocols.cuhk03 import CUHK03
from crossreid.protocols.generalization import Generalization
from crossreid.protocols.llcm import LLCM
from crossreid.protocols.regdb import RegDB
from crossreid.protocols.single_query import SingleQuery
from crossreid.protocols.sysu_mm01 import SysuMM01
from crossreid.records import Image

PROTOCOLS: dict[str, type[Protocol]] = {
    "single_query": SingleQuery,
    "market1501": SingleQuery,  # the name by which papers on Market-1501 know it
    "sysu_mm01": SysuMM01,
    "regdb": RegDB,
    "llcm": LLCM,
    "cuhk03": CUHK03,
    "generalization": Generalization,
}


def get(name: str) -> type[Protocol]:
    """The protocol of that name, or one from elsewhere by ``package.module:Name``. Raises UserError otherwise."""
    return outside.chosen("the protocol", name, PROTOCOLS)


def build(
    name: str,
    settings: Mapping,
    roots: Mapping[str, str] | None,
    *,
    fold: int | None = None,
    split: str = "test",
    held_out: Sequence[Image] | None = None,
    trained_on: Sequence[str] = (),
) -> Protocol:
    """The protocol of that name with its settings, over the user's copy of the data.

    roots: folders by names of data sets, see ``crossreid.data.locate``. fold: of the data set, where it has several.
    held_out: training images kept back, for the validation of data sets that define no such split themselves.
    trained_on: names of the data sets that the model was trained on, where they are known.
    """
    kind = get(name)
    given = dict(settings)
    if kind.folds and fold is not None:
        given["fold"] = fold
    if kind.held_out and split == "validation" and held_out:
        given["images"] = held_out
    protocol = kind(kind.locate(roots, given), split=split, **given)
    if trained_on and split == "test" and isinstance(protocol, Generalization):
        protocol.trained_on(trained_on)
    return protocol
