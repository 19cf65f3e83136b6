"""From the features of a protocol's images to scores: distances are made once, and all who measure are offered them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from crossreid import outside
from crossreid.evaluation.mapped import made
from crossreid.evaluation.measures import MEASURES, Measure, Subset, take
from crossreid.ops import ranking, rerank
from crossreid.protocols.results import identities_and_cameras, mean_scores
from crossreid.records import Embedding, Metric, Scores, Trial, UserError, by_key


def distance_rows(metric: Metric, query: Embedding, gallery: Embedding) -> torch.Tensor:
    """Distances (Q, G) as the metric defines them; see ``records.Metric``."""
    return distance_blocks(metric, query, gallery)(0, len(query))


def distance_blocks(metric: Metric, query: Embedding, gallery: Embedding, device=None) -> ranking.Rows:
    """Distances of Q queries to G gallery images, block by block, as the metric defines them; see
    ``records.Metric``.

    device: where they are computed, by default where the embeddings are.
    """
    shape = len(query), len(gallery)
    features = None
    if metric.feature:
        features = ranking.blocks(query.feature, gallery.feature, metric.feature, device)
    if metric.stripes is None or query.stripes is None or gallery.stripes is None:
        if features is None or metric.stripes is not None:
            raise ValueError(f"{metric} compares stripes, and these embeddings have none")
        return features
    from crossreid.ops import alignment

    compare = alignment.aligned if metric.stripes == "aligned" else alignment.unaligned
    x, y = (part if device is None else part.to(device) for part in (query.stripes, gallery.stripes))

    def rows(start: int, stop: int) -> torch.Tensor:
        found = compare(x[start:stop], y)
        return found if features is None else found + features(start, stop)

    return ranking.Rows(shape, rows)


def score_subsets(
    protocol,
    embedding: Embedding,
    metric: Metric,
    config,
    device=None,
    measures: Sequence[str] | None = None,
) -> dict[str, Scores]:
    """Scores of every subset of the protocol, each the mean over its trials.

    config: an ``EvaluateConfig``. device: where distances are computed.
    measures: names in ``MEASURES`` of what is measured beside the ranks; by default the verification rates where
        ``config`` asks for them. Those that ``config`` names besides are measured always. What they found is in
        ``Scores.results``.
    Trials that follow each other with the same queries share one pass over all their gallery images, unless query
    expansion gives each its own features.
    """
    if measures is None:
        measures = ("verification",) if config.verification else ()
    identity, camera = identities_and_cameras(protocol)
    trials = by_key((trial.subset, trial) for trial in protocol.trials())
    return {
        name: _score(
            Subset(name, some, protocol.images, identity, embedding, metric, config),
            camera,
            protocol,
            device,
            measures,
        )
        for name, some in trials.items()
    }


def _score(subset: Subset, camera: np.ndarray, protocol, device, measures: Sequence[str]) -> Scores:
    config = subset.config
    own = {name: outside.find(name)(subset) for name in config.measures}
    listeners: list[Measure] = [*(MEASURES[name](subset) for name in measures), *own.values()]
    how = {"cmc": protocol.cmc, "ranks": config.ranks, "progress": True, "listeners": listeners}
    how["workers"] = workers_of(config, device or subset.embedding.feature.device)
    found: list[Scores] = []
    for trials in _together(subset.trials, apart=config.expand.k > 0):
        query, gallery = trials[0].query, trials[0].gallery
        if len(trials) > 1:
            gallery = np.unique(np.concatenate([trial.gallery for trial in trials]))
        sides = expanded(
            subset.metric, take(subset.embedding, query), take(subset.embedding, gallery), config
        )
        distances = distance_blocks(subset.metric, *sides, device)
        people_of = subset.identity[query], subset.identity[gallery]
        if len(trials) > 1:
            chosen = [(np.searchsorted(gallery, trial.gallery), trial.excluded) for trial in trials]
            found += ranking.evaluate_trials(distances, *people_of, chosen, first=len(found), **how)
        else:
            cameras = camera[query], camera[gallery]
            rule = trials[0].excluded
            found.append(
                ranking.evaluate_blocks(
                    distances, *people_of, *cameras, excluded=rule, first=len(found), **how
                )
            )
    numbers: list[dict[str, float]] = [{} for _ in found]
    for measure in listeners:
        for known, more in zip(numbers, measure.numbers()):
            known.update(more)
    found = [replace(scores, verification=more) for scores, more in zip(found, numbers)]
    mean = mean_scores(found, protocol.average)
    results: dict[str, list] = {}
    for name, each in own.items():
        more = each.result(mean)
        if not isinstance(more, Mapping):
            raise UserError(
                f"evaluate.measures: the result of {name} is of type {type(more).__name__}: a dict is expected, empty "
                "where there is none"
            )
        if more:
            results[name] = [{**more, "subset": subset.name}]
    for measure in listeners[: len(measures)]:
        for heading, content in measure.result(mean).items():
            results.setdefault(heading, []).extend(content if isinstance(content, list) else [content])
    return replace(mean, results=results)


def _unit(features: np.ndarray) -> np.ndarray:
    return torch.nn.functional.normalize(torch.from_numpy(features), dim=1).numpy()


def workers_of(config, device) -> int | None:
    """Threads that compare and rank: those asked for, or as many as torch uses; on an accelerator this one."""
    if torch.device(device).type != "cpu":
        return None
    return config.workers or torch.get_num_threads()


def _together(trials: Iterable[Trial], apart: bool) -> Iterable[list[Trial]]:
    """Trials that share their queries and follow each other."""
    if apart:
        return [[trial] for trial in trials]
    return [list(some) for _, some in groupby(trials, key=lambda trial: trial.query.tobytes())]


def expanded(metric: Metric, query: Embedding, gallery: Embedding, config) -> tuple[Embedding, Embedding]:
    """Both sides after query expansion, where ``config`` (an ``EvaluateConfig``) asks for it."""
    if not config.expand.k:
        return query, gallery
    if metric.stripes is not None:
        raise UserError(
            "evaluate.expand replaces features by means of their neighbours', which stripes do not have, "
            "but this feature is compared by stripes too: choose one without (evaluate.feature global), or "
            "leave evaluate.expand out"
        )
    how = {"k": config.expand.k, "alpha": config.expand.alpha, "times": config.expand.times}
    sides = rerank.expand_features(
        query.feature, gallery.feature, **how, queries_only=config.expand.side == "query"
    )
    return Embedding(sides[0]), Embedding(sides[1])


def rerank_subsets(
    protocol, embedding: Embedding, metric: Metric, config, device=None, folder: Path | None = None
) -> dict[str, Scores]:
    """The same after k-reciprocal re-ranking (k1, k2 and weight of ``config``), which is done for each trial, since
    the gallery's own neighbours take part.

    folder: keeps what takes longest while it lasts, so that the same call goes on after an interruption.
    """
    workers = workers_of(config, device or embedding.feature.device)
    both = metric.feature and metric.stripes
    use = "both" if both else "stripes" if metric.stripes else "vector"
    identity, camera = identities_and_cameras(protocol)
    subsets: dict[str, list[Scores]] = {}
    for number, trial in enumerate(protocol.trials()):
        keep = folder and folder / f"neighbours-{number}.npz"
        query, gallery = expanded(
            metric, take(embedding, trial.query), take(embedding, trial.gallery), config
        )
        x, y = query.feature, gallery.feature
        if use != "stripes":
            # The published algorithm takes squared Euclidean distances of unit vectors whatever the method's own.
            x, y = (torch.from_numpy(made(features.numpy(), _unit)) for features in (x, y))
        streamed = rerank.k_reciprocal_rows(
            x,
            y,
            k1=config.k1,
            k2=config.k2,
            weight=config.weight,
            use=use,
            unaligned=metric.stripes == "unaligned",
            query_stripes=query.stripes,
            gallery_stripes=gallery.stripes,
            device=device,
            progress=True,
            workers=workers,
            keep=keep,
        )
        found = ranking.evaluate_blocks(
            streamed,
            identity[trial.query],
            identity[trial.gallery],
            camera[trial.query],
            camera[trial.gallery],
            excluded=trial.excluded,
            cmc=protocol.cmc,
            ranks=config.ranks,
            progress=True,
            workers=workers,
        )
        subsets.setdefault(trial.subset, []).append(found)
    for kept in folder.glob("neighbours-*.npz") if folder else ():
        kept.unlink()
    return {name: mean_scores(found, protocol.average) for name, found in subsets.items()}
