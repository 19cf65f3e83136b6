"""MindSpore checkpoints: the file format and the names, for the converters of this folder.

They live with the start weights of backbones (``crossreid.nn.mindspore``), which come in the same files.
"""

from crossreid.nn.mindspore import read_checkpoint, torch_names, write_checkpoint

__all__ = ["read_checkpoint", "torch_names", "write_checkpoint"]
