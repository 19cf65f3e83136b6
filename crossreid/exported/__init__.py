"""Exported models: what ``crossreid export`` wrote, used without torch.

    model        the files of a folder as a function from pixels to vectors
    scoring      ranks and means in NumPy
    evaluation   a protocol's scores

Only numpy, Pillow and onnxruntime are needed here, and nothing but them is imported.
"""

from crossreid.exported.evaluation import evaluate
from crossreid.exported.model import Exported, fit, is_exported

__all__ = ["Exported", "evaluate", "fit", "is_exported"]
