"""Person re-identification across cameras, modalities and domains.

    records      the nouns: Image, Batch, Embedding, Trial, Scores
    images     images of every usual kind into arrays
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
    bundled      the small model that comes along
    gallery      vectors that can be searched: in memory, in a folder, on a server
    serve        the search page and its HTTP interface
    report       the page of a run
    config       a YAML file into dataclasses
    commands     one file for each command; demo: the first run

``load``, ``train``, ``evaluate``, ``Embedder`` and ``Gallery`` are looked up here when first used, so that importing
the package costs nothing.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "load": "checkpoint",
    "train": "training",
    "evaluate": "evaluation",
    "Embedder": "embedder",
    "Gallery": "gallery",
}
_ROOMS = (
    *("records", "images", "formats", "ops", "methods", "data", "synthetic", "protocols", "originals"),
    *("evaluation", "export", "gallery", "report"),
)
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"crossreid.{_PUBLIC[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"crossreid.{name}")
    raise AttributeError(f"module 'crossreid' has no attribute {name!r}")
