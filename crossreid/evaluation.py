"""From a trained method and a protocol to scores, ranked lists and the file that the report is made from."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from crossreid import __version__, checkpoint, data, protocols
from crossreid.data.loading import test_loader, training_set
from crossreid.data.writing import replacing, write_json
from crossreid.engine import Engine
from crossreid.methods.base import Method
from crossreid.ops import distance, ranking
from crossreid.records import Comparison, Embedding, Scores, Trial, UserError

LISTED = 10


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
    features: save the vectors as features.npz.
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
    vectors, stripes = [], []
    was_training = method.training
    method.eval()
    bar = tqdm(
        total=len(rows), desc="embed", disable=None if engine.main else True, leave=False, unit="image"
    )
    with torch.inference_mode():
        for _, pixels, modality in test_loader([images[row] for row in rows], inputs, batch, inputs.workers):
            with engine.autocast():
                out = method.embed(
                    pixels.to(engine.device), modality=modality.to(engine.device), feature=feature
                )
            vectors.append(out.vector.float().cpu())
            if out.stripes is not None:
                stripes.append(out.stripes.float().cpu())
            bar.update(len(pixels))
    bar.close()
    method.train(was_training)

    def whole(parts: list[torch.Tensor]) -> torch.Tensor:
        if engine.world == 1:
            return torch.cat(parts)
        here = torch.cat(parts)
        padded = torch.cat([here, here.new_zeros((longest - len(here), *here.shape[1:]))])
        gathered = engine.gather(padded).cpu().reshape(engine.world, longest, *here.shape[1:])
        return torch.cat([gathered[rank, : len(part)] for rank, part in enumerate(mine)])

    return Embedding(whole(vectors), whole(stripes) if stripes else None)


def distance_rows(comparison: Comparison, query: Embedding, gallery: Embedding) -> torch.Tensor:
    """Distances (Q, G) as the comparison defines them; see ``records.Comparison``."""
    total = 0
    if comparison.vector == "cosine":
        total = distance.cosine(query.vector, gallery.vector)
    elif comparison.vector == "euclidean":
        total = distance.euclidean(query.vector, gallery.vector)
    elif comparison.vector == "squared_euclidean_unit":
        total = 2 * distance.cosine(query.vector, gallery.vector)
    if comparison.stripes:
        from crossreid.ops import alignment

        compare = alignment.aligned if comparison.stripes == "aligned" else alignment.unaligned
        total = total + compare(query.stripes, gallery.stripes)
    return total


def score_rows(
    protocol, embedding: Embedding, comparison: Comparison, config: EvaluateConfig
) -> dict[str, Scores]:
    """Scores of every row of the protocol, each the mean over its trials."""
    rows: dict[str, list[Scores]] = {}
    for trial in tqdm(protocol.trials(), desc="score", disable=None, leave=False, unit="trial"):
        rows.setdefault(trial.row, []).append(_score_trial(protocol, trial, embedding, comparison, config))
    return {row: ranking.mean_scores(trials) for row, trials in rows.items()}


def _people(protocol) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of identity and camera of each image; equal numbers of different data sets are different people."""
    numbers: dict[tuple[int, int], int] = {}
    identity = [numbers.setdefault((image.domain, image.identity), len(numbers)) for image in protocol.images]
    return np.array(identity), np.array([image.camera for image in protocol.images])


def _score_trial(protocol, trial: Trial, embedding, comparison, config) -> Scores:
    query, gallery = embedding[trial.query], embedding[trial.gallery]
    identity, camera = _people(protocol)
    common = {
        "query_ids": identity[trial.query],
        "gallery_ids": identity[trial.gallery],
        "query_cameras": camera[trial.query],
        "gallery_cameras": camera[trial.gallery],
        "forbidden": trial.forbidden,
        "cmc": protocol.cmc,
        "ranks": config.ranks,
        "verification": config.verification,
    }
    if comparison.stripes is None:
        return ranking.evaluate(query.vector, gallery.vector, metric=comparison.vector, **common)
    return ranking.evaluate_blocks(
        lambda start, stop: distance_rows(comparison, query[start:stop], gallery), **common
    )


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
        root = data.locate(given.get("source", settings.protocol_name), settings.data.roots)
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
    return score_rows(protocol, embedding, method.comparison(config.feature), config)


def evaluate(
    path: str | Path,
    *,
    settings=None,
    out: Path | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] = print,
    split: str = "test",
) -> dict[str, Scores]:
    """Score a checkpoint by a protocol and write ``evaluation.json`` into ``out``.

    settings: a ``crossreid.config.Settings``; its data, protocol and evaluate parts are used.
    """
    path = Path(path)
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
    held_out = training_set(settings.data)[3] if split == "validation" else None
    protocol = protocol_of(settings, split=split, held_out=held_out)
    embedding = embed(
        method, protocol.images, settings.data, engine, feature=config.feature, batch=config.batch
    )
    if not engine.main:
        return {}
    comparison = method.comparison(config.feature)
    rows = score_rows(protocol, embedding, comparison, config)
    say(protocol.words)
    say(table(rows))
    content = {
        "protocol": {"name": protocol.name, "words": protocol.words},
        "method": settings.method_name,
        "feature": config.feature or method.features[0],
        "comparison": {"vector": comparison.vector, "stripes": comparison.stripes},
        "checkpoint": path.name,
        "epoch": method.trained.get("epoch"),
        "selection": _selection(settings, path, split),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"crossreid": __version__, "torch": torch.__version__},
        "notes": _notes(settings),
        "rows": [_row(name, scores) for name, scores in rows.items()],
        "ranked": _examples(protocol, embedding, comparison, rows, config.examples),
        "baselines": [],
    }
    if config.rerank:
        reranked = _rerank_rows(protocol, embedding, comparison, config)
        say("with k-reciprocal re-ranking (RK)\n" + table(reranked))
        content["reranked"] = [_row(name, scores) for name, scores in reranked.items()]
    if config.baseline:
        for name, scores in baselines(protocol, settings).items():
            say(f"baseline: {name}\n" + table(scores))
            content["baselines"].append({"name": name, "rows": [_row(row, s) for row, s in scores.items()]})
    if out is not None:
        write_json(Path(out) / "evaluation.json", content)
        if config.features:
            _write_features(Path(out) / "features.npz", protocol, embedding, split)
    return rows


def _rerank_rows(protocol, embedding, comparison, config) -> dict[str, Scores]:
    from crossreid.ops import rerank

    use = (
        "both" if comparison.vector and comparison.stripes else "stripes" if comparison.stripes else "vector"
    )
    identity, camera = _people(protocol)
    rows: dict[str, list[Scores]] = {}
    for trial in protocol.trials():
        query, gallery = embedding[trial.query], embedding[trial.gallery]
        # The published algorithm takes squared Euclidean distances of unit vectors whatever the method's own.
        unit = [torch.nn.functional.normalize(part.vector, dim=1) for part in (query, gallery)]
        stripes = (
            {} if use == "vector" else {"query_stripes": query.stripes, "gallery_stripes": gallery.stripes}
        )
        streamed = rerank.k_reciprocal_rows(
            *unit,
            k1=config.k1,
            k2=config.k2,
            weight=config.weight,
            use=use,
            unaligned=comparison.stripes == "unaligned",
            **stripes,
        )
        rows.setdefault(trial.row, []).append(
            ranking.evaluate_blocks(
                streamed,
                identity[trial.query],
                identity[trial.gallery],
                camera[trial.query],
                camera[trial.gallery],
                forbidden=trial.forbidden,
                cmc=protocol.cmc,
                ranks=config.ranks,
            )
        )
    return {row: ranking.mean_scores(trials) for row, trials in rows.items()}


def baselines(protocol, settings) -> dict[str, dict[str, Scores]]:
    """Scores of vectors that need no training: striped colour histograms and raw pixels."""
    from crossreid.data.loading import read_image
    from crossreid.synthetic import baselines as plain

    size = (64, 32)
    from PIL import Image as Picture

    pixels = np.stack(
        [
            np.asarray(Picture.fromarray(read_image(image)).resize(size[::-1], Picture.BILINEAR))
            for image in protocol.images
        ]
    )
    kinds = {"striped colour histogram": plain.striped_histogram, "raw pixels": plain.raw_pixels}
    return {
        name: score_rows(
            protocol,
            Embedding(torch.from_numpy(np.asarray(vectors(pixels), np.float32))),
            Comparison("cosine"),
            EvaluateConfig(ranks=settings.evaluate.ranks),
        )
        for name, vectors in kinds.items()
    }


def brief(scores: Scores) -> dict[str, float]:
    """The numbers of a results table, as fractions."""
    # A curve shorter than the rank ends where every image has been looked at, so its last value holds on.
    return (
        {f"rank{rank}": float(scores.cmc[min(rank, len(scores.cmc)) - 1]) for rank in (1, 5, 10, 20)}
        | {"mean_ap": float(scores.mean_ap), "mean_inp": float(scores.mean_inp)}
        | {name: float(value) for name, value in scores.verification.items()}
    )


def sentence(row: str, numbers: Mapping[str, float]) -> str:
    return (
        f"{row} Rank-1 {numbers['rank1']:.1%}, mAP {numbers['mean_ap']:.1%}, mINP {numbers['mean_inp']:.1%}"
    )


def table(rows: Mapping[str, Scores]) -> str:
    """The results as users know them: percent, one line a row, with the spread over trials."""
    names = ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP")
    keys = ("rank1", "rank5", "rank10", "rank20", "mean_ap", "mean_inp")
    extra = sorted({name for scores in rows.values() for name in scores.verification})
    width = max([len(row) for row in rows] + [4]) + 2
    lines = ["".ljust(width) + "".join(name.rjust(max(9, len(name) + 2)) for name in (*names, *extra))]
    for row, scores in rows.items():
        numbers = brief(scores)
        cells = [
            f"{100 * numbers[key]:.2f}".rjust(max(9, len(name) + 2))
            for key, name in zip((*keys, *extra), (*names, *extra))
        ]
        lines.append(row.ljust(width) + "".join(cells))
        if len(scores.per_trial) > 1:
            spread = [brief(trial) for trial in scores.per_trial]
            cells = [
                f"±{100 * np.std([trial[key] for trial in spread]):.2f}".rjust(max(9, len(name) + 2))
                for key, name in zip((*keys, *extra), (*names, *extra))
            ]
            lines.append(f"  {len(spread)} trials".ljust(width) + "".join(cells))
        lines.append(" " * 2 + f"{scores.valid} of {scores.queries} queries have a valid match")
    return "\n".join(lines)


def _row(name: str, scores: Scores) -> dict:
    return {
        "row": name,
        "cmc": [float(value) for value in scores.cmc],
        "mean_ap": float(scores.mean_ap),
        "mean_inp": float(scores.mean_inp),
        "verification": {k: float(v) for k, v in scores.verification.items() if np.isfinite(v)},
        "valid": int(scores.valid),
        "queries": int(scores.queries),
        "trials": [brief(trial) for trial in scores.per_trial],
    }


def _notes(settings) -> list[str]:
    """What departs from the usual protocol and must be said loudly."""
    if settings.protocol.get("same_camera", True):
        return []
    return ["The same-camera rule is off: pictures of a person by the query's own camera count as matches."]


def _selection(settings, path: Path, split: str) -> str:
    if split == "validation":
        return f"{path.name}, scored on the validation split"
    how = {
        "last": "the last epoch",
        "validation": "the epoch best on the validation split",
        "test": "the epoch best on the TEST set itself, as the published systems do; such numbers flatter",
    }
    return how[settings.train.select if path.name == "best.pt" else "last"]


def _examples(protocol, embedding, comparison, rows, count: int) -> list[dict]:
    """Ranked lists of the best, the median and the worst queries of each row's first trial, in the metrics' order."""
    listed, first = [], {}
    identity, _ = _people(protocol)
    for trial in protocol.trials():
        first.setdefault(trial.row, trial)
    for row, trial in first.items():
        scores = rows[row].per_trial[0] if rows[row].per_trial else rows[row]
        precision = scores.per_query["average_precision"]
        order = [int(i) for i in np.argsort(-precision, kind="stable") if np.isfinite(precision[i])]
        middle = max(0, len(order) // 2 - count // 2)
        chosen = (
            [("good", i) for i in order[:count]]
            + [("median", i) for i in order[middle : middle + count]]
            + [("worst", i) for i in order[::-1][:count]]
        )
        gallery = embedding[trial.gallery]
        for kind, number in chosen:
            query = embedding[trial.query[number : number + 1]]
            distances = np.asarray(distance_rows(comparison, query, gallery))
            forbidden = trial.forbidden and (trial.forbidden[0][number : number + 1], trial.forbidden[1])
            best = ranking.ranked(distances, forbidden=forbidden, top=LISTED)[0]
            best = best[best >= 0]
            person = protocol.images[trial.query[number]]
            listed.append(
                {
                    "row": row,
                    "kind": kind,
                    "average_precision": float(precision[number]),
                    "first_rank": float(scores.per_query["first_rank"][number]),
                    "query": _shown(person),
                    "gallery": [
                        _shown(protocol.images[trial.gallery[i]])
                        | {
                            "distance": float(distances[0, i]),
                            "right": bool(identity[trial.gallery[i]] == identity[trial.query[number]]),
                        }
                        for i in best
                    ],
                }
            )
    return listed


def _shown(image) -> dict:
    return {
        "path": str(image.path.resolve()),
        "identity": image.identity,
        "camera": image.camera,
        "modality": image.modality,
        "row": image.row,
        "box": image.box,
    }


def _write_features(path: Path, protocol, embedding: Embedding, split: str) -> None:
    columns = {
        name: np.array([getattr(image, name) for image in protocol.images])
        for name in ("identity", "camera", "modality", "domain")
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, vectors=embedding.vector.numpy(), split=split, **columns)
