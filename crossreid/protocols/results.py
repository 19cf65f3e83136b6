"""The outcome of a protocol as people read it: the numbers of a table, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np

from crossreid.records import Scores


def summary(scores: Scores) -> dict[str, float]:
    """The numbers of a results table, as fractions."""
    # A curve shorter than the rank ends where every image has been looked at, so its last value holds on.
    return (
        {f"rank{rank}": float(scores.cmc[min(rank, len(scores.cmc)) - 1]) for rank in (1, 5, 10, 20)}
        | {"mean_ap": float(scores.mean_ap), "mean_inp": float(scores.mean_inp)}
        | {name: float(value) for name, value in scores.verification.items()}
    )


def sentence(row: str, numbers: Mapping[str, float]) -> str:
    """One row's three main numbers in words."""
    return (
        f"{row} Rank-1 {numbers['rank1']:.1%}, mAP {numbers['mean_ap']:.1%}, mINP {numbers['mean_inp']:.1%}"
    )


def table(rows: Mapping[str, Scores], mark: str = "") -> str:
    """The results as users know them: percent, one line a row, with the spread over trials.

    mark: behind the name of each column, such as (RK) after re-ranking.
    """
    names = tuple(f"{name}{mark}" for name in ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"))
    keys = ("rank1", "rank5", "rank10", "rank20", "mean_ap", "mean_inp")
    extra = sorted({name for scores in rows.values() for name in scores.verification})
    width = max([len(row) for row in rows] + [4]) + 2
    lines = ["".ljust(width) + "".join(name.rjust(max(9, len(name) + 2)) for name in (*names, *extra))]
    for row, scores in rows.items():
        numbers = summary(scores)
        cells = [
            f"{100 * numbers[key]:.2f}".rjust(max(9, len(name) + 2))
            for key, name in zip((*keys, *extra), (*names, *extra))
        ]
        lines.append(row.ljust(width) + "".join(cells))
        if len(scores.per_trial) > 1:
            spread = [summary(trial) for trial in scores.per_trial]
            cells = [
                f"±{100 * np.std([trial[key] for trial in spread]):.2f}".rjust(max(9, len(name) + 2))
                for key, name in zip((*keys, *extra), (*names, *extra))
            ]
            lines.append(f"  {len(spread)} trials".ljust(width) + "".join(cells))
        lines.append(f"  {scores.valid} of {scores.queries} queries have a valid match{_trials(scores)}")
    return "\n".join(lines)


def html_table(rows: Mapping[str, Scores]) -> str:
    """The same for a notebook: HTML, in percent, with the spread over trials."""
    names = {"rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "rank20": "Rank-20"}
    names |= {"mean_ap": "mAP", "mean_inp": "mINP"}
    names |= {
        name: name for name in sorted({name for scores in rows.values() for name in scores.verification})
    }
    lines = [
        "<tr><th></th>"
        + "".join(f"<th>{escape(name)}</th>" for name in (*names.values(), "queries"))
        + "</tr>"
    ]
    for row, scores in rows.items():
        numbers, trials = summary(scores), [summary(trial) for trial in scores.per_trial]
        cells = []
        for key in names:
            text = f"{100 * numbers[key]:.2f}" if key in numbers else "–"
            if len(trials) > 1 and key in numbers:
                text += f" ± {100 * np.std([trial[key] for trial in trials]):.2f}"
            cells.append(text)
        cells.append(f"{scores.valid} of {scores.queries}")
        lines.append(f"<tr><th>{escape(row)}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _trials(scores: Scores) -> str:
    trials = len(scores.per_trial)
    if trials < 2:
        return ""
    alike = len({(trial.valid, trial.queries) for trial in scores.per_trial}) == 1
    return f" in each of {trials} trials" if alike else f", over {trials} trials"


def mean_scores(scores: Sequence[Scores], over: str = "trials") -> Scores:
    """The mean of several trials' scores, which are kept in ``per_trial``; curves must be equally long.

    over: ``"trials"`` is the plain mean of their numbers. ``"queries"``, for trials of the same queries, is the mean
        over queries of each one's mean over the trials in which it has a match: every query counts alike.

    The counts of queries are those of one trial, rounded means where trials differ; with ``"queries"`` a query is valid
    that has a match in any. The values of single queries are those of all trials one after another.
    """
    scores = tuple(scores)
    if not scores:
        raise ValueError("there are no scores to average: pass at least one trial")
    lengths = {len(trial.cmc) for trial in scores}
    if len(lengths) > 1:
        raise ValueError(f"CMC curves of {sorted(lengths)} ranks cannot be averaged: use equal ranks")
    per_query = {name: [trial.per_query[name] for trial in scores] for name in scores[0].per_query}
    if over == "queries":
        rank = np.stack(per_query.get("first_identity_rank", per_query["first_rank"]))
        valid = ~np.isnan(rank)
        used = valid.any(axis=0)

        def mean(values):
            total = np.where(valid, np.stack(values), 0).sum(axis=0)
            return float((total[used] / valid.sum(axis=0)[used]).mean())

        cmc = np.array([mean(rank <= place) for place in range(1, max(lengths) + 1)])
        precision, penalty = mean(per_query["average_precision"]), mean(per_query["inverse_negative_penalty"])
        counts = int(used.sum()), len(used)
    else:
        valid_queries, queries = (
            round(float(np.mean([getattr(trial, name) for trial in scores]))) for name in ("valid", "queries")
        )
        counts = valid_queries, queries
        cmc = np.mean([trial.cmc for trial in scores], axis=0)
        precision, penalty = (
            float(np.mean([getattr(trial, name) for trial in scores])) for name in ("mean_ap", "mean_inp")
        )
    return Scores(
        cmc=cmc,
        mean_ap=precision,
        mean_inp=penalty,
        verification={
            name: float(np.mean([trial.verification[name] for trial in scores]))
            for name in scores[0].verification
        },
        per_query={name: np.concatenate(values) for name, values in per_query.items()},
        per_trial=tuple(replace(trial, per_trial=()) for trial in scores),
        valid=counts[0],
        queries=counts[1],
    )


def as_json(name: str, scores: Scores) -> dict:
    """A row as ``evaluation.json`` holds it."""
    return {
        "subset": name,
        "cmc": [float(value) for value in scores.cmc],
        "mean_ap": float(scores.mean_ap),
        "mean_inp": float(scores.mean_inp),
        "verification": {k: float(v) for k, v in scores.verification.items() if np.isfinite(v)},
        "valid": int(scores.valid),
        "queries": int(scores.queries),
        "trials": [summary(trial) for trial in scores.per_trial],
    }


def described(protocol) -> dict:
    """What ``evaluation.json`` says of a protocol."""
    return {"name": protocol.name, "description": protocol.description, "provenance": protocol.provenance}


def identities_and_cameras(protocol) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of identity and camera of each image; equal numbers of different data sets are different people."""
    numbers: dict[tuple[int, int], int] = {}
    identity = [numbers.setdefault((image.domain, image.identity), len(numbers)) for image in protocol.images]
    return np.array(identity), np.array([image.camera for image in protocol.images])
