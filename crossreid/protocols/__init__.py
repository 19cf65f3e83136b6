"""The protocols: who is searched for where. One file each, gathered in ``PROTOCOLS``.

A protocol is built from the folder of its data and its settings, and then has

    name     its name here
    images   every image to embed, once
    cmc      "image" or "identity": which kind of cumulative matching curve belongs to it
    average  "trials" or "queries": over what the mean of a row's trials goes, see ``results.mean_scores``
    description  the protocol with its settings, in a few plain sentences for the report
    notes    what departs from the usual and must be said loudly
    trials() who is searched for where, as indices into ``images``
"""

from __future__ import annotations

from crossreid.protocols.cuhk03 import CUHK03
from crossreid.protocols.generalization import Generalization
from crossreid.protocols.llcm import LLCM
from crossreid.protocols.regdb import RegDB
from crossreid.protocols.single_query import SingleQuery
from crossreid.protocols.sysu_mm01 import SysuMM01
from crossreid.records import check_choice

PROTOCOLS: dict[str, type] = {
    "single_query": SingleQuery,
    "market1501": SingleQuery,  # the name by which papers on Market-1501 know it
    "sysu_mm01": SysuMM01,
    "regdb": RegDB,
    "llcm": LLCM,
    "cuhk03": CUHK03,
    "generalization": Generalization,
}


def get(name: str) -> type:
    """The protocol of that name. Raises UserError that names the nearest one."""
    check_choice("the protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
