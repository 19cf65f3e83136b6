"""Scoring of exported models: ``scoring`` holds ranks and means in NumPy, ``evaluation`` a protocol's scores."""

from crossreid.exported.evaluation import evaluate

__all__ = ["evaluate"]
