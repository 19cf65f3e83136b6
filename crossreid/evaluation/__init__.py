"""From a trained model and a protocol to scores, ranked lists and the file that the report is made from.

    entry          ``evaluate`` and ``evaluate_stored``: the one road, for checkpoints, exported models and features
    settings       ``EvaluateConfig``
    embedding      a protocol's images to features
    scoring        distances, made once; measures: who is offered them, a file each
    verification   accepting pairs by their distance; thresholds: which distance means "the same person"
    within_across  distances within and across modalities or data sets
    features       stored features; feature_tables, result_files and sysu_mat: in the forms of others
    baselines      features that need no training
    copies         files that are query and gallery image at once

Names are looked up when they are first used, since thresholds are asked for where torch is not.
"""

import importlib

_HOME = {
    "EvaluateConfig": "evaluation.settings",
    "ExpandConfig": "evaluation.settings",
    "baseline_scores": "evaluation.entry",
    "check_feature": "evaluation.embedding",
    "distance_rows": "evaluation.scoring",
    "embed": "evaluation.embedding",
    "embed_exported": "evaluation.embedding",
    "evaluate": "evaluation.entry",
    "evaluate_stored": "evaluation.entry",
    "open_model": "evaluation.entry",
    "protocol_of": "evaluation.entry",
    "score": "evaluation.entry",
    "score_subsets": "evaluation.scoring",
    "sentence": "protocols.results",
    "summary": "protocols.results",
    "table": "protocols.results",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"crossreid.{_HOME[name]}"), name)
    raise AttributeError(f"module 'crossreid.evaluation' has no attribute {name!r}")
