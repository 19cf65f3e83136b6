"""The one road of an evaluation: a checkpoint, an exported model or stored features, by a protocol, to scores."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from crossreid import __version__, checkpoint, protocols
from crossreid.bundled import located
from crossreid.data.loading import training_set
from crossreid.engine import Engine, check_device
from crossreid.evaluation import baselines as plain
from crossreid.evaluation import copies
from crossreid.evaluation.embedding import check_feature, embed, embed_exported
from crossreid.evaluation.features import write_stored
from crossreid.evaluation.measures import MEASURES
from crossreid.evaluation.scoring import rerank_subsets, score_subsets
from crossreid.evaluation.settings import EvaluateConfig
from crossreid.evaluation.stored import Stored
from crossreid.evaluation.thresholds import Threshold, strictest
from crossreid.evaluation.within_across import within_and_across
from crossreid.export.using import Exported, is_exported
from crossreid.files import write_json
from crossreid.images.reading import read
from crossreid.images.resize import fit
from crossreid.methods.base import Method
from crossreid.ops import degenerate
from crossreid.protocols.results import as_json, described, html_table, table
from crossreid.records import Embedding, Metric, Scores, UserError


class Results(dict[str, Scores]):
    """The scores of each subset of a protocol by its name; printed, the table of results."""

    def __repr__(self) -> str:
        return table(self) if self else "no results"

    def _repr_html_(self) -> str:
        return html_table(self) if self else "no results"

    def threshold(self, false_positive: float = 0.01, subset: str | None = None) -> Threshold:
        """The distance (1 - cosine) below which two images count as the same person, so that at most this share of
        pairs of two people is accepted, in one subset or in each of them."""
        if subset is not None and subset not in self:
            raise UserError(f"there are no results of {subset!r}: choose one of {', '.join(self)}")
        points = [
            point
            for name, scores in self.items()
            if subset in (None, name)
            for point in scores.results.get("operating_points", ())
        ]
        return strictest(points, false_positive, None, "no pair of one person and of two was compared")


@dataclass(frozen=True)
class Model:
    """What an evaluation needs to know of a model. metrics: feature -> ``Metric`` of all that one embedding serves.
    embed: images to their ``Embedding``. device: where; runtime: by what."""

    about: dict
    device: str
    runtime: str
    feature: str
    metrics: dict[str, Metric]
    embed: Callable[[Sequence], Embedding]


def protocol_of(settings, *, split: str = "test", held_out=None):
    """The protocol that the settings name, over the user's copy of the data.

    held_out: training images kept back, for the validation of data sets that define no such split themselves.
    """
    return protocols.build(
        settings.protocol_name,
        settings.protocol,
        settings.data.roots,
        fold=settings.data.fold,
        split=split,
        held_out=held_out,
        trained_on=settings.data.names,
    )


def score(method: Method, protocol, settings, engine: Engine) -> dict[str, Scores]:
    """Embed and score in one go. Every process embeds its part, the first one scores, and all get the scores."""
    config = settings.evaluate
    embedding = embed(
        method, protocol.images, settings.data, engine, feature=config.feature, batch=config.batch
    )
    outcome: dict[str, Scores] | Exception = {}
    if engine.main:
        try:
            metric = chosen_metric(method.metric(config.feature), config)
            outcome = score_subsets(protocol, embedding, metric, config, engine.device)
        except Exception as error:  # the other processes wait, and must hear of it
            outcome = error
    outcome = engine.share(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def open_model(path: str | Path, **given) -> Method | Exported:
    """The checkpoint or the exported model at a path, read once for all that is asked of it.

    given: settings of the method, see ``crossreid.checkpoint.load``; an exported model takes none.
    """
    path = located(path)
    if not is_exported(path):
        return checkpoint.load(path, **given)
    if given:
        raise UserError(
            f"{path} is an exported model, whose method is what it is: leave out method.{next(iter(given))}"
        )
    return Exported(path)


def evaluate(
    path: str | Path,
    *,
    settings,
    model: Method | Exported | None = None,
    protocol=None,
    out: Path | None = None,
    engine: Engine | None = None,
    log: Callable[[str], None] = print,
    split: str = "test",
) -> Results:
    """Score a checkpoint or an exported model by a protocol and write ``evaluation.json`` into ``out``.

    settings: a ``crossreid.config.Settings``; its data, protocol and evaluate parts are used.
    model: what ``open_model`` found there, where it has been read already.
    protocol: a built protocol in the place of the one that the settings name.
    """
    path = located(path)
    config = settings.evaluate
    if split == "validation" and not settings.data.validation:
        raise UserError(
            f"{path} was trained with data.validation 0, so the validation identities were trained on too and a score "
            "on them means nothing: evaluate split test, or train with identities held out"
        )
    own = engine or Engine(settings.train.device, settings.train.precision)
    model = open_model(path) if model is None else model
    if isinstance(model, Exported):
        asked = _exported(path, model, settings, own, split)
    else:
        asked = _checkpoint(path, model, settings, own, split)
    if engine is None:  # a run has said already where it trains
        log(f"the model runs on {asked.device} by {asked.runtime}")
    engine = own
    if isinstance(model, Exported) and (config.expand.k or config.metric == "euclidean"):
        log(
            "the features of an exported model have unit length, so that evaluate.expand and the metric euclidean "
            "may give other numbers than for its checkpoint"
        )
    if protocol is None:
        held_out = training_set(settings.data)[3] if split == "validation" else None
        protocol = protocol_of(settings, split=split, held_out=held_out)
    embedding = asked.embed(protocol.images)
    if not engine.main:
        return Results()
    stored = Stored(protocol, embedding, asked.metrics, asked.feature, _described(protocol, asked.about))
    found, content = _results(stored, config, engine.device, log, out)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(Path(out) / "evaluation.json", content)
        if config.features:
            stored = replace(stored, settings=settings.to_dict())
            write_stored(Path(out) / "features.npz", stored, split, half_stripes=config.half_stripes, log=log)
    return found


def evaluate_stored(
    stored: Stored,
    config: EvaluateConfig,
    *,
    out: Path | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> Results:
    """Score stored features (see ``crossreid.evaluation.features``) as ``evaluate`` does those it has just made."""
    check_device(device)
    log(f"distances are computed on {device}")
    found, content = _results(stored, config, torch.device(device), log, out)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(Path(out) / "evaluation.json", content)
    return found


def baseline_scores(protocol, config: EvaluateConfig) -> dict[str, dict[str, Scores]]:
    """Scores of features that need no training: striped colour histograms and raw pixels."""
    size = (64, 32)
    pixels = np.stack([fit(read(image), size, "bilinear") for image in protocol.images])
    kinds = {"striped colour histogram": plain.striped_histogram, "raw pixels": plain.raw_pixels}
    return {
        name: score_subsets(
            protocol,
            Embedding(torch.from_numpy(np.asarray(features(pixels), np.float32))),
            Metric("cosine"),
            EvaluateConfig(ranks=config.ranks),
        )
        for name, features in kinds.items()
    }


def chosen_metric(metric: Metric, config: EvaluateConfig) -> Metric:
    """How features are compared: the method's own way, unless ``evaluate.metric`` names another."""
    if config.metric is None:
        return metric
    if metric.feature is None:
        raise UserError(
            f"evaluate.metric is {config.metric!r}, but this feature is compared by its stripes alone: choose another "
            "feature (evaluate.feature), or leave evaluate.metric out"
        )
    return replace(metric, feature=config.metric)


def _checkpoint(path: Path, method: Method, settings, engine: Engine, split: str) -> Model:
    config = settings.evaluate
    method.to(engine.device)
    for key in ("size", "interpolation", "mean", "std"):
        setattr(settings.data, key, method.input[key])
    check_feature(method, config.feature)
    feature = config.feature or method.features[0]
    about = {
        "method": settings.method_name,
        "checkpoint": path.name,
        "epoch": method.trained.get("epoch"),
        "selection": _selection(settings, path, split),
    }
    return Model(
        about,
        str(engine.device),
        "torch",
        feature,
        method.metrics(feature),
        lambda images: embed(
            method, images, settings.data, engine, feature=config.feature, batch=config.batch
        ),
    )


def _exported(path: Path, model: Exported, settings, engine: Engine, split: str) -> Model:
    if split != "test":
        raise UserError(
            f"an exported model is scored on the split test, but {split} was asked for: which images were held out "
            "for validation is known with the training data, so score the checkpoint"
        )
    # Which devices onnxruntime can use is its own affair: only one that was asked for is tried.
    device = "cpu" if settings.train.device == "auto" else str(engine.device)
    if device != "cpu":
        model = Exported(path, device)
    about = {
        "method": model.method,
        "fingerprint": model.fingerprint,
        "checkpoint": path.name,
        "epoch": model.trained.get("epoch"),
        "selection": f"the exported model {path.name} ({model.precision})",
    }
    return Model(
        about,
        device,
        model.runtime,
        model.feature,
        model.metrics,
        lambda images: embed_exported(model, images, settings.evaluate.batch),
    )


def _described(protocol, about: dict) -> dict:
    return {"protocol": described(protocol), **about, "notes": list(protocol.notes)}


def _results(stored: Stored, config: EvaluateConfig, device, log, out: Path | None) -> tuple[Results, dict]:
    """Score, log the tables, and return the results with the content of ``evaluation.json``."""
    protocol, embedding = stored.protocol, stored.embedding
    feature, metric = stored.choose(config.feature)
    metric = chosen_metric(metric, config)
    names = [image.path for image in protocol.images]
    notes = degenerate.notes(embedding.feature.numpy(), names)
    if embedding.stripes is not None:
        degenerate.notes(embedding.stripes.flatten(1).numpy(), names)
    found = Results(score_subsets(protocol, embedding, metric, config, device, measures=tuple(MEASURES)))
    measured: dict[str, list] = {}
    for scores in found.values():
        for heading, parts in scores.results.items():
            measured.setdefault(heading, []).extend(parts)
    notes = [*stored.about["notes"], *notes, *measured.pop("notes", []), *copies.notes(protocol)]
    log(protocol.description)
    for note in notes:
        log(f"mind: {note}")
    if config.expand.k:
        log(f"features are means of {config.expand.k} neighbours (evaluate.expand)")
    log(table(found))
    content = stored.about | {
        "feature": feature,
        "metric": vars(metric),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"crossreid": __version__, "torch": torch.__version__},
        "rows": [as_json(name, scores) for name, scores in found.items()],
        **{heading: [] for heading in ("ranked", "pairs", "operating_points", "baselines")},
    }
    content |= measured | {
        "notes": notes,
        "within_across": within_and_across(protocol, embedding, metric, device),
    }
    if config.expand.k:
        content["expand"] = vars(config.expand)
    if config.rerank:
        folder = None if out is None else Path(out)
        reranked = rerank_subsets(protocol, embedding, metric, config, device, folder)
        log("with k-reciprocal re-ranking (RK)\n" + table(reranked, mark="(RK)"))
        content["reranked"] = [as_json(name, scores) for name, scores in reranked.items()]
    if config.baseline:
        try:
            baselines = baseline_scores(protocol, config)
        except UserError as error:
            log(f"no baselines (evaluate.baseline), since the images cannot be read: {error}")
            baselines = {}
        for name, rows in baselines.items():
            log(f"baseline: {name}\n" + table(rows))
            content["baselines"].append(
                {"name": name, "rows": [as_json(row, each) for row, each in rows.items()]}
            )
    return found, content


def _selection(settings, path: Path, split: str) -> str:
    if split == "validation":
        return f"{path.name}, scored on the validation split"
    how = {
        "last": "the last epoch",
        "validation": "the epoch best on the validation split",
        "test": "the epoch best on the TEST set itself, as the published systems do; such numbers flatter",
    }
    return how[settings.train.select if path.name == "best.pt" else "last"]
