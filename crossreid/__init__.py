"""Person re-identification across cameras, modalities and domains.

    records      the nouns: Image, Batch, Embedding, Trial, Scores
    images       images of every usual kind into arrays
    ops          pure functions of tensors: distances, ranking, stripe alignment, re-ranking
    nn, losses   what several methods are made of
    methods      AGW and its sisters, one file each
    data         readers of data sets, samplers, transforms, loaders
    synthetic    rendered people in the layout of any data set
    protocols    who is searched for where
    training     the loop; engine, checkpoint and evaluation beside it
    originals    checkpoints of the published systems
    embedder     a trained model as a function from images to vectors; embedding_files: many into one file
    export       a checkpoint as ONNX; exported: used and scored without torch
    bundled      the models that come along, small and base
    tracklets    what one camera saw of one person at a stretch; linking: who they are across cameras
    gallery      vectors that can be searched: in memory, in a folder, on a server
    serve        the search page and its HTTP interface
    report       the page of a run
    config       a YAML file into dataclasses; experiment: train and evaluate, called with names and paths
    commands     one file for each command; demo: the first run

``load``, ``train``, ``evaluate``, ``Embedder`` and ``Gallery`` are looked up here when first used, as the packages are,
so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossreid.checkpoint import load
    from crossreid.embedder import Embedder
    from crossreid.experiment import evaluate, train
    from crossreid.gallery import Gallery
    from crossreid.linking import link

# torch's threads wait for each other in a loop that takes all of a core, and a step on a busy machine 10 to 20 times as
# long. Only what is set before torch is loaded counts. A short loop costs nothing on an idle machine.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="1000")

__version__ = "0.1.0"
__all__ = ["Embedder", "Gallery", "__version__", "evaluate", "link", "load", "train"]

_PLACES = {
    "load": "checkpoint",
    "train": "experiment",
    "evaluate": "experiment",
    "Embedder": "embedder",
    "Gallery": "gallery",
    "link": "linking",
}
_MODULES = (
    *(
        "records",
        "config",
        "checkpoint",
        "outside",
        "images",
        "formats",
        "ops",
        "nn",
        "losses",
        "methods",
        "data",
        "synthetic",
    ),
    *("protocols", "evaluation", "training", "originals", "export", "gallery", "report", "serve"),
)


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"crossreid.{_PLACES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"crossreid.{name}")
    raise AttributeError(f"module 'crossreid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
