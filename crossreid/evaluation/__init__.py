"""From a trained method and a protocol to scores, ranked lists and the file that the report is made from."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from crossreid import __version__, checkpoint, data, operating_points, protocols
from crossreid.bundled import located
from crossreid.data.loading import test_loader, training_set
from crossreid.engine import Engine, check_device
from crossreid.evaluation.scoring import LISTED, distance_rows, ranked_lists, rerank_rows, score_rows
from crossreid.evaluation.stored import Stored, write_stored
from crossreid.files import write_json
from crossreid.methods.base import Method
from crossreid.ops import memory
from crossreid.protocols.results import as_json, people, sentence, summary, table
from crossreid.records import Embedding, Metric, Scores, UserError

__all__ = [
    "LISTED",
    "EvaluateConfig",
    "baselines",
    "check_feature",
    "distance_rows",
    "embed",
    "evaluate",
    "evaluate_stored",
    "protocol_of",
    "ranked_lists",
    "score",
    "score_rows",
    "sentence",
    "summary",
    "table",
]


@dataclass
class EvaluateConfig:
    """How a trained model is scored.

    feature: which of the method's vectors; none is its default.
    batch: images embedded at once.
    ranks: length of the CMC curve.
    verification: also report true positive rates at fixed false accept rates.
    rerank: add a second table with k-reciprocal re-ranking (k1, k2, weight of the original distance).
    baseline: also score colour histograms and raw pixels, to know what the numbers are worth.
    examples: how many good, median and worst queries the report shows of each kind.
    features: save vectors and stripes as features.npz, which `crossreid evaluate` scores again without the model.
    """

    feature: str | None = None
    batch: int = 64
    ranks: int = 50
    verification: bool = False
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    baseline: bool = False
    examples: int = 3
    features: bool = False

    def __post_init__(self):
        if self.ranks < 20:
            raise UserError(
                f"evaluate.ranks is {self.ranks}: the table shows ranks up to 20, so give 20 or more"
            )
        for name, least in (("batch", 1), ("k1", 1), ("k2", 1), ("examples", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"evaluate.{name} is {getattr(self, name)}: expected a whole number from {least}"
                )
        if not 0 <= self.weight <= 1:
            raise UserError(
                f"evaluate.weight is {self.weight}: the weight of the original distance lies between 0 and 1"
            )


def embed(
    method: Method, images, inputs, engine: Engine | None = None, *, feature=None, batch=64
) -> Embedding:
    """Embed a list of ``Image`` records in order, on the CPU, spread over the processes of ``engine``.

    inputs: a ``DataConfig``; only its input size, normalisation and workers are used.
    """
    engine = engine or Engine("cpu")
    mine = np.array_split(np.arange(len(images)), engine.world)
    longest = max(len(part) for part in mine)
    # With fewer images than processes some embed one all the same, to know the shapes, and give none of it.
    rows = mine[engine.rank] if len(mine[engine.rank]) else np.arange(1)
    found: list[torch.Tensor] = []
    was_training = method.training
    method.eval()
    bar = tqdm(
        total=len(rows), desc="embed", disable=None if engine.main else True, leave=False, unit="image"
    )
    done = 0
    with torch.inference_mode(), bar:
        for _, pixels, modality in test_loader([images[row] for row in rows], inputs, batch, inputs.workers):
            with engine.autocast():
                out = method.embed(
                    pixels.to(engine.device), modality=modality.to(engine.device), feature=feature
                )
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

    vectors, *stripes = map(together, found)
    return Embedding(vectors, *stripes)


def _room(parts: list[torch.Tensor], rows: int, images: int) -> list[torch.Tensor]:
    """Empty tensors for the vectors, and stripes, of all ``rows``, of which ``parts`` are the first."""
    size = sum(4 * images * part[0].numel() for part in parts)
    stripes = len(parts) > 1
    memory.require(
        size,
        f"the vectors {'and stripes ' if stripes else ''}of {images} images",
        "choose a feature without stripes (evaluate.feature), or a computer with more memory"
        if stripes
        else "evaluate on a computer with more memory, or a smaller gallery",
    )
    with torch.inference_mode(False):
        return [torch.empty(rows, *part.shape[1:]) for part in parts]


def protocol_of(settings, *, split: str = "test", held_out=None):
    """The protocol that the settings name, over the user's copy of the data.

    held_out: training images kept back, for the validation of data sets that define no such split themselves.
    """
    kind = protocols.get(settings.protocol_name)
    takes = inspect.signature(kind).parameters
    given = dict(settings.protocol)
    if "fold" in takes:
        given["fold"] = settings.data.fold
    if "images" in takes and split == "validation" and held_out:
        given["images"] = held_out
    if "targets" in takes:
        root = {name: data.locate(name, settings.data.roots) for name in given["targets"]}
    else:
        root = data.locate(
            given.get("source", "market1501" if "source" in takes else settings.protocol_name),
            settings.data.roots,
        )
    return kind(root, split=split, **given)


def check_feature(method: Method, feature: str | None) -> None:
    if feature and feature not in method.features:
        raise UserError(f"evaluate.feature is {feature!r}: the method gives {', '.join(method.features)}")


def score(method: Method, protocol, settings, engine: Engine) -> dict[str, Scores]:
    """Embed and score in one go; every process gets the scores."""
    config = settings.evaluate
    embedding = embed(
        method, protocol.images, settings.data, engine, feature=config.feature, batch=config.batch
    )
    return score_rows(protocol, embedding, method.metric(config.feature), config, engine.device)


def evaluate(
    path: str | Path,
    *,
    settings=None,
    protocol=None,
    out: Path | None = None,
    engine: Engine | None = None,
    log: Callable[[str], None] = print,
    split: str = "test",
) -> dict[str, Scores]:
    """Score a checkpoint by a protocol and write ``evaluation.json`` into ``out``.

    settings: a ``crossreid.config.Settings``; its data, protocol and evaluate parts are used.
    protocol: a built protocol in the place of the one that the settings name.
    """
    path = located(path)
    config = settings.evaluate
    if split == "validation" and not settings.data.validation:
        raise UserError(
            f"{path} was trained with data.validation 0, so the validation identities were trained on too and a score "
            "on them means nothing: evaluate split test, or train with identities held out"
        )
    engine = engine or Engine(settings.train.device, settings.train.precision)
    method = checkpoint.load(path, device=str(engine.device))
    for key in ("size", "interpolation", "mean", "std"):
        setattr(settings.data, key, method.input[key])
    check_feature(method, config.feature)
    if protocol is None:
        held_out = training_set(settings.data)[3] if split == "validation" else None
        protocol = protocol_of(settings, split=split, held_out=held_out)
    embedding = embed(
        method, protocol.images, settings.data, engine, feature=config.feature, batch=config.batch
    )
    if not engine.main:
        return {}
    metric = method.metric(config.feature)
    about = {
        "protocol": {"name": protocol.name, "description": protocol.description},
        "method": settings.method_name,
        "feature": config.feature or method.features[0],
        "metric": {"feature": metric.feature, "stripes": metric.stripes},
        "checkpoint": path.name,
        "epoch": method.trained.get("epoch"),
        "selection": _selection(settings, path, split),
        "notes": list(protocol.notes),
    }
    content = _results(protocol, embedding, metric, config, about, engine.device, log)
    if config.baseline:
        for name, scores in baseline_scores(protocol, settings).items():
            log(f"baseline: {name}\n" + table(scores))
            content["baselines"].append(
                {"name": name, "rows": [as_json(row, s) for row, s in scores.items()]}
            )
    rows = content.pop("scores")
    if out is not None:
        write_json(Path(out) / "evaluation.json", content)
        if config.features:
            stored = Stored(protocol, embedding, metric, about, settings.to_dict())
            write_stored(Path(out) / "features.npz", stored, split)
    return rows


def evaluate_stored(
    stored: Stored,
    config: EvaluateConfig,
    *,
    out: Path | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[str, Scores]:
    """Score stored features (see ``crossreid.evaluation.stored``) as ``evaluate`` does those it has just made."""
    if config.baseline:
        raise UserError("evaluate.baseline needs the images and a checkpoint, but stored features were given")
    check_device(device)
    content = _results(
        stored.protocol, stored.embedding, stored.metric, config, stored.about, torch.device(device), log
    )
    rows = content.pop("scores")
    if out is not None:
        write_json(Path(out) / "evaluation.json", content)
    return rows


def _results(protocol, embedding, metric, config, about, device, log) -> dict:
    """Score, log the tables, and return the content of ``evaluation.json`` with the ``scores`` themselves."""
    rows = score_rows(protocol, embedding, metric, config, device)
    modality = [image.modality for image in protocol.images]
    log(protocol.description)
    log(table(rows))
    content = about | {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"crossreid": __version__, "torch": torch.__version__},
        "rows": [as_json(name, scores) for name, scores in rows.items()],
        "ranked": ranked_lists(protocol, embedding, metric, rows, config.examples),
        "operating_points": operating_points.measure(
            embedding.feature.cpu().numpy(), people(protocol)[0], modality, protocol.trials()
        ),
        "baselines": [],
        "scores": rows,
    }
    if config.rerank:
        reranked = rerank_rows(protocol, embedding, metric, config, device)
        log("with k-reciprocal re-ranking (RK)\n" + table(reranked))
        content["reranked"] = [as_json(name, scores) for name, scores in reranked.items()]
    return content


def baseline_scores(protocol, settings) -> dict[str, dict[str, Scores]]:
    """Scores of vectors that need no training: striped colour histograms and raw pixels."""
    from crossreid.evaluation import baselines as plain
    from crossreid.images.reading import read
    from crossreid.images.resize import fit

    size = (64, 32)
    pixels = np.stack([fit(read(image), size, "bilinear") for image in protocol.images])
    kinds = {"striped colour histogram": plain.striped_histogram, "raw pixels": plain.raw_pixels}
    return {
        name: score_rows(
            protocol,
            Embedding(torch.from_numpy(np.asarray(vectors(pixels), np.float32))),
            Metric("cosine"),
            EvaluateConfig(ranks=settings.evaluate.ranks),
        )
        for name, vectors in kinds.items()
    }


def _selection(settings, path: Path, split: str) -> str:
    if split == "validation":
        return f"{path.name}, scored on the validation split"
    how = {
        "last": "the last epoch",
        "validation": "the epoch best on the validation split",
        "test": "the epoch best on the TEST set itself, as the published systems do; such numbers flatter",
    }
    return how[settings.train.select if path.name == "best.pt" else "last"]
