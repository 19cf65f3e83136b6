"""A protocol's images to features, by a checkpoint's network on any number of processes, or by an exported model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from crossreid import memory
from crossreid.data.loading import test_loader
from crossreid.engine import Engine
from crossreid.export.using import Exported
from crossreid.images.reading import ahead, batches, cut
from crossreid.images.resize import fit
from crossreid.methods.base import Method
from crossreid.nn.folding import folded
from crossreid.ops.precision import full_products
from crossreid.records import MODALITIES, Embedding, Image, UserError


def embed(
    method: Method, images, inputs, engine: Engine | None = None, *, feature=None, batch=64
) -> Embedding:
    """Embed a list of ``Image`` records in order, on the CPU, spread over the processes of ``engine``.

    inputs: a ``DataConfig``; only its input size, normalisation and workers are used.
    """
    engine = engine or Engine("cpu")
    if any(image.others for image in images):
        return of_tracklets(
            images, lambda crops: embed(method, crops, inputs, engine, feature=feature, batch=batch)
        )
    mine = np.array_split(np.arange(len(images)), engine.world)
    longest = max(len(part) for part in mine)
    # With fewer images than processes some embed one all the same, to know the shapes, and give none of it.
    rows = mine[engine.rank] if len(mine[engine.rank]) else np.arange(1)
    found: list[torch.Tensor] = []
    was_training = method.training
    method.eval()
    network = folded(method, inputs.size, feature) if engine.exact else method
    bar = tqdm(
        total=len(rows), desc="embed", disable=None if engine.main else True, leave=False, unit="image"
    )
    done = 0
    with torch.inference_mode(), full_products(), bar:
        for _, pixels, modality in test_loader(
            [images[row] for row in rows], inputs, batch, inputs.workers, engine.device
        ):
            with engine.autocast():
                out = network.embed(pixels, modality=modality, feature=feature)
            parts = [out.feature] if out.stripes is None else [out.feature, out.stripes]
            if not found:
                found = _room(parts, len(rows), len(images))
            for whole, part in zip(found, parts):
                whole[done : done + len(part)] = part
            done += len(pixels)
            bar.update(len(pixels))
    method.train(was_training)

    def together(here: torch.Tensor) -> torch.Tensor:
        if engine.world == 1:
            return here
        padded = torch.cat([here, here.new_zeros((longest - len(here), *here.shape[1:]))])
        gathered = engine.gather(padded).cpu().reshape(engine.world, longest, *here.shape[1:])
        return torch.cat([gathered[rank, : len(part)] for rank, part in enumerate(mine)])

    features, *stripes = map(together, found)
    return Embedding(features, *stripes)


def embed_exported(model: Exported, images: Sequence[Image], batch: int = 64) -> Embedding:
    """The same by an exported model, whose features have unit length.

    Raises UserError where it was exported for one modality and images of the other are among these.
    """
    if any(image.others for image in images):
        return of_tracklets(images, lambda crops: embed_exported(model, crops, batch))
    missing = {image.modality for image in images} - set(model.serves)
    if missing:
        raise UserError(
            f"{model.name} is the {model.serves[0]} half of a model, but this protocol also has {missing.pop()} "
            "images: give the folder that holds both"
        )
    found: list[torch.Tensor] = []
    done = 0
    with tqdm(total=len(images), desc="embed", disable=None, leave=False, unit="image") as bar:
        for some in batches(ahead(images, partial(_fitted, model)), batch):
            pixels = np.empty((len(some), *model.size, 3), np.uint8)
            for row, (_, shown) in zip(pixels, some):
                if isinstance(shown, UserError):
                    raise shown
                row[:] = shown
            out = model(pixels, np.array([MODALITIES.index(image.modality) for image, _ in some]))
            parts = [torch.as_tensor(part) for part in (out.feature, out.stripes) if part is not None]
            if not found:
                found = _room(parts, len(images), len(images))
            for whole, part in zip(found, parts):
                whole[done : done + len(part)] = part
            done += len(some)
            bar.update(len(some))
    return Embedding(*found)


def _fitted(model: Exported, frame: np.ndarray, image: Image) -> np.ndarray:
    return fit(cut(frame, image), model.size, model.interpolation)


def of_tracklets(images: Sequence[Image], embed_crops: Callable[[list[Image]], Embedding]) -> Embedding:
    """The mean of the unit features, and of the stripes, of all crops of each tracklet; see ``Image.others``."""
    counts = [1 + len(image.others) for image in images]
    crops = [
        crop
        for image in images
        for crop in (
            replace(image, others=()),
            *(replace(image, path=path, others=()) for path in image.others),
        )
    ]
    found = embed_crops(crops)
    of = torch.repeat_interleave(torch.arange(len(images)), torch.tensor(counts))

    def mean(rows: torch.Tensor) -> torch.Tensor:
        sums = rows.new_zeros((len(images), *rows.shape[1:])).index_add_(0, of, rows)
        return sums / torch.tensor(counts, dtype=rows.dtype).view(-1, *[1] * (rows.ndim - 1))

    features = torch.nn.functional.normalize(mean(torch.nn.functional.normalize(found.feature)))
    return Embedding(features, None if found.stripes is None else mean(found.stripes))


def check_feature(method: Method, feature: str | None) -> None:
    if feature and feature not in method.features:
        raise UserError(f"evaluate.feature is {feature!r}: the method gives {', '.join(method.features)}")


def _room(parts: list[torch.Tensor], rows: int, images: int) -> list[torch.Tensor]:
    """Empty tensors for the features, and stripes, of all ``rows``, of which ``parts`` are the first."""
    size = sum(4 * images * part[0].numel() for part in parts)
    stripes = len(parts) > 1
    memory.require(
        size,
        f"the features {'and stripes ' if stripes else ''}of {images} images",
        "choose a feature without stripes (evaluate.feature), or a computer with more memory"
        if stripes
        else "evaluate on a computer with more memory, or a smaller gallery",
    )
    with torch.inference_mode(False):
        return [torch.empty(rows, *part.shape[1:]) for part in parts]
