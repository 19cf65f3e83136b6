"""MindSpore's checkpoint files, read and written with NumPy alone.

A file is one protobuf message without a header: a repeated field 1 of records (name, tensor), a tensor being
its dimensions, the name of its type, and its bytes. See ``crossreid.originals`` for what the names mean in
each system.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossreid.files import replacing
from crossreid.formats.pretenders import refuse_pretender
from crossreid.formats.protobuf import BYTES, VARINT, Broken, field, fields, varint
from crossreid.records import UserError

TYPES = {
    "Float16": "<f2",
    "Float32": "<f4",
    "Float64": "<f8",
    "Int8": "i1",
    "Int16": "<i2",
    "Int32": "<i4",
    "Int64": "<i8",
    "UInt8": "u1",
    "UInt16": "<u2",
    "UInt32": "<u4",
    "UInt64": "<u8",
    "Bool": "?",
}
SLICE = 512 << 20  # MindSpore cuts longer tensors into records of this many bytes

_TAIL = b"crc_num"


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray | str]:
    """The tensors of a MindSpore ``.ckpt`` by name, in the order of the file.

    Arrays are in memory of their own; brain floats are widened to float32; a ``str`` record becomes a string.
    Records of hash tables are left out. Raises UserError for a file that is encrypted, truncated or damaged,
    for a type that cannot be read, and for a name that occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint at {path}: give the path of a MindSpore .ckpt file")
    refuse_pretender(path)
    return _read(memoryview(path.read_bytes()), path)


def write_checkpoint(
    path: str | Path, values: Mapping[str, np.ndarray | str], checksum: bool = False
) -> None:
    """Write arrays and strings as a MindSpore ``.ckpt``, whole or not at all.

    checksum: add the optional tail with the CRC-32 of the file.
    """
    crc = 0
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        for name, value in values.items():
            for record in _records(name, value):
                file.write(record)
                crc = zlib.crc32(record, crc)
        if checksum:
            file.write(_TAIL + crc.to_bytes(10, "big"))


def torch_names(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Network tensors under PyTorch's words for the same layers, and what was left out: name -> reason.

    Normalisation: gamma, beta, moving_mean, moving_variance become weight, bias, running_mean, running_var;
    shortcuts (``down_sample_layer``) become ``downsample``; prefixes of training cells go. Of a whole training cell
    the state of the optimizer and of the loop is left out.
    """
    named: dict[str, Any] = {}
    left_out = {}
    for key, value in values.items():
        name = _CELLS.sub("", key)
        if isinstance(value, str):
            left_out[key] = "text"
        elif _OPTIMIZER.match(name):
            left_out[key] = "state of the optimizer or of the loss scale"
        elif _LOOP.match(name) or value.ndim == 0:
            left_out[key] = "a number of the training, no weight of the network"
        else:
            stem, _, last = name.rpartition(".")
            stem = re.sub(r"\bdown_sample_layer\b", "downsample", stem)
            name = f"{stem}.{_NORM.get(last, last)}" if stem else last
            if name in named:
                raise UserError(f"two tensors of the checkpoint mean the same: {key} is {name} once more")
            named[name] = value
    return named, left_out


def mindspore_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights under MindSpore's words for the same layers, as ``torch_names`` reads them.

    A normalisation is known by its running mean. Counters of batches are left out, since MindSpore has none.
    """
    norms = {name.removesuffix("running_mean") for name in weights if name.endswith("running_mean")}
    theirs = {}
    for name, value in weights.items():
        last = name.rpartition(".")[2]
        stem = name.removesuffix(last)
        if last != "num_batches_tracked":
            there = re.sub(r"\bdownsample\b", "down_sample_layer", stem)
            theirs[there + (_NORM_BACK[last] if stem in norms else last)] = value
    return theirs


_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_NORM_BACK = {ours: theirs for theirs, ours in _NORM.items()}
# The cells that a network is wrapped in for training.
_CELLS = re.compile(r"^((network|_backbone|optimizer|backbone)\.)+")
# What MindSpore's optimizers and its cells for scaled losses keep.
_OPTIMIZER = re.compile(
    r"(moments?|moment[12]|vhat|accum(_update|ulation)?|stat|mean_(grad|square)|(adam|lamb)_[mv]|(max_)?exp_avg(_sq)?"
    r"|exp_inf|momentum_buf|prev|step_size|ax_?|learning_rate)\.|(exp_avg_sq|mu|eta)_(row_|col_)?"
    r"|(beta[12]_power|learning_rate(_group_\d+)?|momentum|fake_(lr|param)|global_step|state_step|step_t|afactor_step"
    r"|step|epoch_num|step_num|scale_sense|loss_scale|current_iterator_step|last_overflow_iterator_step)$"
)
# Parameters in which the programs of DDAG and MVD keep losses, accuracy and the weight of the graph.
_LOOP = re.compile(r"(loss_id|loss_tri|total_loss|acc|wg)$")


def _read(data, path) -> dict:
    if len(data) >= 17 and data[-17:-10] == _TAIL:
        wanted, data = int.from_bytes(data[-10:], "big"), data[:-17]
        if zlib.crc32(data) != wanted:
            raise UserError(f"{path} is damaged: its checksum does not fit its content; copy it again")
    if not len(data) or data[0] != 0x0A:
        raise _unreadable(path)
    parts: dict[str, tuple] = {}
    last, position = None, 0
    while position < len(data):
        name = None
        try:
            number, wire, value, position = field(data, position)
            if (number, wire) != (1, BYTES):
                continue
            name, tensor = _record(value)
        except (Broken, UnicodeDecodeError) as error:
            if not parts:
                raise _unreadable(path) from error
            raise UserError(
                f"{path} is truncated or damaged: the record after {last!r}, at byte {position} of "
                f"{len(data)}, does not end where it should; copy the file again"
            ) from error
        if tensor is None:
            continue
        dims, kind, content = tensor
        if name in parts:
            if name != last:
                raise UserError(f"{path} holds the tensor {name!r} twice: it is damaged, copy it again")
            if (dims, kind) != parts[name][:2]:
                raise UserError(f"{path}: the slices of {name!r} differ in shape or type, copy it again")
            parts[name][2].append(content)
        else:
            parts[name] = (dims, kind, [content])
        last = name
    if not parts:
        raise _unreadable(path)
    return {name: _value(name, dims, kind, slices, path) for name, (dims, kind, slices) in parts.items()}


def _unreadable(path) -> UserError:
    return UserError(
        f"{path} is not a readable MindSpore checkpoint: it is encrypted, damaged, or another kind of file; "
        "decrypt or copy it again"
    )


def _record(data):
    """(name, tensor or None)."""
    name = tensor = None
    for number, wire, value in fields(data):
        if wire == BYTES and number == 1:
            name = bytes(value).decode()
        elif wire == BYTES and number == 2:
            tensor = _tensor(value)
    if name is None:
        raise Broken("it is damaged")
    return name, tensor


def _tensor(data):
    """(dims, type, content)."""
    dims, kind, content = [], None, None
    for number, wire, value in fields(data):
        if number == 1 and wire == VARINT:
            dims.append(value)
        elif number == 1 and wire == BYTES:
            inner = 0
            while inner < len(value):
                dim, inner = varint(value, inner)
                dims.append(dim)
        elif number == 2 and wire == BYTES:
            kind = bytes(value).decode()
        elif number == 3 and wire == BYTES:
            content = value
    if kind is None or content is None:
        raise Broken("it is damaged")
    return tuple(dims), kind, content


def _value(name, dims, kind, contents, path):
    size = sum(map(len, contents))
    if kind == "str":
        try:
            return b"".join(contents).decode("utf-32-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: the text {name!r} is damaged; copy the file again") from error
    if kind != "BFloat16" and kind not in TYPES:
        raise UserError(
            f"{path}: the tensor {name!r} has type {kind!r}, which cannot be read; expected one of "
            f"{', '.join(TYPES)}, BFloat16 or str. Convert it in MindSpore and save it again."
        )
    item = np.dtype("<u2" if kind == "BFloat16" else TYPES[kind])
    shape = () if dims == (0,) and size == item.itemsize else dims
    count = 1
    for dim in shape:
        count *= dim
    if count * item.itemsize != size:
        raise UserError(
            f"{path}: the tensor {name!r} of shape {shape} and type {kind} needs {count * item.itemsize} "
            f"bytes, but the file holds {size}; it is truncated or damaged, copy it again"
        )
    array = np.frombuffer(b"".join(contents), item).reshape(shape)
    if kind == "BFloat16":
        return (array.astype("<u4") << 16).view("<f4")
    return array.copy()


def _records(name, value):
    if isinstance(value, str):
        # An empty text is one zero, as MindSpore writes it; of none at all it could not read the type.
        yield from _sliced(name, (0,), "str", (value or "\0").encode("utf-32-le"))
        return
    value = np.asarray(value)
    kinds = {np.dtype(dtype): kind for kind, dtype in TYPES.items()}
    if value.dtype not in kinds:
        raise UserError(
            f"a MindSpore checkpoint cannot hold {name!r} of type {value.dtype}: expected {', '.join(TYPES)}"
        )
    kind = kinds[value.dtype]
    yield from _sliced(name, value.shape, kind, np.ascontiguousarray(value, TYPES[kind]).tobytes())


def _sliced(name, dims, kind, content):
    for start in range(0, max(len(content), 1), SLICE):
        tensor = b"".join(b"\x08" + _number(dim) for dim in dims)
        tensor += _block(2, kind.encode()) + _block(3, content[start : start + SLICE])
        yield _block(1, _block(1, name.encode()) + _block(2, tensor))


def _block(number, content) -> bytes:
    return bytes([number << 3 | BYTES]) + _number(len(content)) + content


def _number(value) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
