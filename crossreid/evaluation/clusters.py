"""How well tracklets were put together: of the true identities (N,) and those found (N,), in any numbers."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def pairwise(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of the pairs that were put together: 1 where there is none."""
    together = _pairs(_table(truth, found))
    mine, theirs = _pairs(_table(found, found)), _pairs(_table(truth, truth))
    return _rates(together, mine, theirs)


def b_cubed(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """B-cubed precision, recall and F1 (Bagga and Baldwin 1998): for each tracklet the share of its cluster that is of
    its identity, and the share of its identity that is in its cluster; means over tracklets."""
    table = _table(truth, found).astype(float)
    squares = table**2
    precision = (squares / np.maximum(table.sum(axis=0), 1)).sum() / len(truth)
    recall = (squares / np.maximum(table.sum(axis=1, keepdims=True), 1)).sum() / len(truth)
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * precision * recall / (precision + recall)),
    }


def identification(truth: np.ndarray, found: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """IDP, IDR and IDF1 (Ristani et al. 2016): identities are assigned to those found, one to one, so that most frames
    agree. frames: (N,) of each tracklet."""
    table = _table(truth, found, frames)
    agree = table[linear_sum_assignment(table, maximize=True)].sum()
    return _rates(agree, frames.sum(), frames.sum())


def _table(one: np.ndarray, other: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(identities, identities) how much the two have in common."""
    rows, columns = (np.unique(each, return_inverse=True)[1] for each in (one, other))
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1 if weights is None else weights)
    return table


def _pairs(table: np.ndarray) -> int:
    return int((table * (table - 1)).sum()) // 2


def _rates(agree: float, found: float, truth: float) -> dict[str, float]:
    return {
        "precision": float(agree / found) if found else 1.0,
        "recall": float(agree / truth) if truth else 1.0,
        "f1": float(2 * agree / (found + truth)) if found + truth else 1.0,
    }
