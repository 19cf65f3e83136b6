"""What the files of this folder hold, in NumPy alone."""

import numpy as np

_FLOATS = {"float16": "f2", "float32": "f4", "float64": "f8"}
_INTEGERS = {f"int{8 * size}": f"i{size}" for size in (1, 2, 4, 8)}
_INTEGERS |= {f"uint{8 * size}": f"u{size}" for size in (1, 2, 4, 8)}
# Name of a tensor -> MindSpore's type of it; and its values.
TYPES = {f"a.{name}": name for name in (*_FLOATS, *_INTEGERS)} | {"a.bool": "bool_", "a.bfloat16": "bfloat16"}
TENSORS = {f"a.{name}": (np.arange(6).reshape(2, 3) - 1.5).astype(kind) for name, kind in _FLOATS.items()}
TENSORS |= {f"a.{name}": (np.arange(6).reshape(3, 2) * 20).astype(kind) for name, kind in _INTEGERS.items()}
TENSORS |= {"a.bool": np.array([True, False, True]), "a.bfloat16": np.array([1.5, -2.0, 3.0], np.float32)}
# sliced.ckpt: tensors longer than the slice, which was set to 1024 bytes.
LONG = {"long": np.arange(40 * 16, dtype=np.float32).reshape(40, 16), "short": np.ones(2, np.float32)}
# What was appended to types.ckpt: numbers become tensors without dimensions.
ADDED = {"epoch": 3, "lr": 0.5, "flag": True, "empty": "", "text": "Zoë"}


def _filled(shape, start):
    return (np.arange(np.prod(shape), dtype=np.float32) / 8 + start).reshape(shape)


_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_SHAPES = {"conv1.weight": (2, 3, 3, 3), "down_sample_layer.0.weight": (2, 3, 1, 1)}
_SHAPES |= {f"{layer}.{name}": (2,) for layer in ("bn1", "down_sample_layer.1") for name in _NORM}
_SHAPES |= {"end_point.weight": (3, 2), "end_point.bias": (3,)}
# The network of network.ckpt, network.safetensors and saved.safetensors, and of training_cell.ckpt.
WEIGHTS = {name: _filled(shape, start) for start, (name, shape) in enumerate(_SHAPES.items())}
