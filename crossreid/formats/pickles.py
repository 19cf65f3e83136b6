"""Pickles read as data: no class is looked up and no function called but the few that are written here.

Plain values, sets, ordered dicts and counters, NumPy numbers and arrays, and the tensors of PyTorch, which come as
``View`` of a ``Storage``. What is read is bounded: in steps, in depth, in the length of numbers, and in what shared
parts would grow to where they are written out.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

STEPS, DEPTH, VALUES, BITS = 3_000_000, 100, 3_000_000, 128

_KINDS = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6})")
_MARK = object()


class Refused(ValueError):
    """The pickle asks for something that reading it as data does not know."""


class Damaged(ValueError):
    """The pickle is not one, breaks off, or is out of bounds."""


@dataclass(frozen=True)
class Storage:
    """Numbers that lie outside of the pickle. kind: as in ``Float`` of ``FloatStorage``. count: of numbers."""

    kind: str
    key: str
    count: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class View:
    """A tensor: numbers of a storage. kind: of the numbers where the storage does not say."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    kind: str | None = None


class _Kind:
    """Stands for ``numpy.dtype`` while it is put together."""

    def __init__(self, text: str):
        _need(_KINDS.fullmatch(text), f"the NumPy type {text!r}")
        self.dtype = np.dtype(text)

    def build(self, state) -> None:
        # (version, byte order, then what only structured types have)
        _need(
            isinstance(state, tuple) and len(state) in (8, 9) and state[1] in ("<", ">", "|", "="),
            "the NumPy type",
        )
        _need(all(part is None for part in state[2:5]), "a structured NumPy type")
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for ``numpy.ndarray``."""

    value: np.ndarray | None = None

    def build(self, state) -> None:
        _need(isinstance(state, tuple) and len(state) == 5, "the NumPy array")
        _, shape, kind, fortran, content = state
        _need(isinstance(kind, _Kind) and isinstance(shape, tuple) and len(shape) <= 32, "the NumPy array")
        content = content.encode("latin-1") if isinstance(content, str) else content
        _need(isinstance(content, bytes) and all(type(n) is int and n >= 0 for n in shape), "the NumPy array")
        _need(math.prod(shape) * kind.dtype.itemsize == len(content), "the size of the NumPy array")
        array = (
            np.frombuffer(content, kind.dtype)
            if kind.dtype.itemsize
            else np.zeros(math.prod(shape), kind.dtype)
        )
        self.value = array.reshape(shape, order="F" if fortran is True else "C").copy()


class Type:
    """A class or a number type that is only ever passed on."""

    def __init__(self, name: str):
        self.name = name


def _need(condition, what: str) -> None:
    if not condition:
        raise Damaged(f"{what} is not as it is ever written")


def _number(kind, content):
    content = content.encode("latin-1") if isinstance(content, str) else content
    _need(isinstance(kind, _Kind) and isinstance(content, bytes), "a NumPy number")
    _need(len(content) == kind.dtype.itemsize > 0, "a NumPy number")
    return np.frombuffer(content, kind.dtype)[0]


def _kind(text, align=False, copy=True):
    _need(isinstance(text, str), "a NumPy type")
    return _Kind(text)


def _array(kind, shape, code):
    _need(kind is _NDARRAY, "a NumPy array")
    return _Array()


def _encoded(text, coding):
    _need(isinstance(text, str) and coding in ("latin1", "latin-1"), "a text of bytes")
    return text.encode("latin-1")


def _list(values=()):
    _need(type(values) in (list, tuple), "a collection")
    return values


def _pairs(values=()):
    _need(type(values) in (list, tuple, dict), "a mapping")
    return dict(values)


def _view(storage, offset, size, stride, *rest):
    whole = all(type(n) is int and 0 <= n < 2**62 for n in (offset, *_list(size), *_list(stride)))
    _need(isinstance(storage, Storage) and whole and len(size) == len(stride) <= 64, "a tensor")
    return View(storage, offset, tuple(size), tuple(stride))


def _typed_view(storage, offset, size, stride, gradient, hooks, kind, *rest):
    view = _view(storage, offset, size, stride)
    _need(isinstance(kind, Type), "the type of a tensor")
    return View(*(view.storage, view.offset, view.size, view.stride, kind.name))


def _first(value, *rest):
    return value


_NDARRAY = Type("numpy.ndarray")
_BUILTINS = ("builtins", "__builtin__")
# What a name means here; all else is refused.
NAMES: dict[str, Any] = {
    "collections.OrderedDict": _pairs,
    "collections.Counter": _pairs,
    "torch.Size": lambda values=(): tuple(_list(values)),
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _typed_view,
    "torch._utils._rebuild_parameter": _first,
    "_codecs.encode": _encoded,
    "numpy.dtype": _kind,
    "numpy.ndarray": _NDARRAY,
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"{module}.set": lambda values=(): set(_list(values)) for module in _BUILTINS},
    **{f"{module}.bytes": lambda: b"" for module in _BUILTINS},
}
_STORAGE = re.compile(r"torch(?:\.cuda|\.storage)?\.(\w*)Storage")
_NUMBERS = re.compile(r"torch\.(u?int\d+|b?float\d\w*|bool|complex\d+)")


def _named(name: str):
    if name in NAMES:
        return NAMES[name]
    if found := _STORAGE.fullmatch(name):
        return Type(found[1])
    if found := _NUMBERS.fullmatch(name):
        return Type(found[1])
    raise Refused(f"it asks for {name[:100]!r}")


class _Stack(list[Any]):
    """What a pickle has put down and not yet taken up."""

    def marked(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        for place in range(len(self) - 1, -1, -1):
            if self[place] is _MARK:
                items = self[place + 1 :]
                del self[place:]
                return items
        raise Damaged("a mark is missing")

    def fill(self, pairs: list[Any]) -> None:
        """Put keys and values by turns into the mapping on top."""
        _need(type(self[-1]) is dict and len(pairs) % 2 == 0, "a mapping")
        for key, value in zip(pairs[::2], pairs[1::2]):
            _need(key is None or type(key) in (str, int, float, bool, bytes), "the key of a mapping")
            self[-1][key] = value

    def extend_top(self, kind: type, items: list[Any]) -> None:
        """Put items into the list or set on top."""
        _need(type(self[-1]) is kind, "a collection")
        self[-1].extend(items) if kind is list else self[-1].update(items)


def unpickled(file, persistent: Callable[[Any], Any]) -> Any:
    """The value of one pickle, up to its end.

    file: with ``read``, ``readline`` and ``tell``; a length that it does not hold must not make it take memory, so an
        ``mmap`` or ``BytesIO``. persistent: what the pickle's own numbers for things outside of it mean.
    Raises Refused, Damaged, and whatever ``pickletools`` raises.
    """
    stack = _Stack()
    memo: dict[int, Any] = {}
    value: Any
    for step, (code, value, _) in enumerate(pickletools.genops(file)):
        if step > STEPS:
            raise Damaged(f"it has more than {STEPS} steps")
        name = code.name
        if name in _VALUES:
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            _need(value in memo, "a reference")
            stack.append(memo[value])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[value] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            _need(len(stack) >= count, "the stack")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(stack.marked()))
        elif name == "LIST":
            stack.append(stack.marked())
        elif name == "DICT":
            items = stack.marked()
            stack.append({})
            stack.fill(items)
        elif name == "APPEND":
            item = stack.pop()
            stack.extend_top(list, [item])
        elif name in ("APPENDS", "ADDITEMS"):
            items = stack.marked()
            stack.extend_top(list if name == "APPENDS" else set, items)
        elif name == "SETITEM":
            pair = [stack.pop(-2), stack.pop()]
            stack.fill(pair)
        elif name == "SETITEMS":
            items = stack.marked()
            stack.fill(items)
        elif name == "GLOBAL":
            stack.append(_named(value.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            _need(isinstance(last, str) and isinstance(module, str), "a name")
            stack.append(_named(f"{module}.{last}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            _need(isinstance(arguments, tuple) and callable(function), "a call")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], (_Kind, _Array)):
                stack[-1].build(state)
            else:  # attributes of an ordered dict, such as the versions of layers
                _need(type(stack[-1]) is dict, "an object with a state")
        elif name == "BINPERSID":
            stack.append(persistent(stack.pop()))
        elif name == "POP":
            stack.pop()
        elif name == "STOP":
            _need(len(stack) == 1, "the stack")
            return stack[0]
        elif name not in ("PROTO", "FRAME"):
            raise Refused(f"it holds objects ({name})")
    raise Damaged("it breaks off")


_VALUES = frozenset(
    "BININT BININT1 BININT2 INT LONG LONG1 LONG4 BINFLOAT FLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE STRING "
    "BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}


def plain(value: Any, tensor: Callable[[View], Any]) -> Any:
    """The value of ``load`` with NumPy's and PyTorch's in place of what stands for them.

    tensor: makes one of a view; equal views of one object stay one.
    Raises Damaged for a value that holds itself, that is nested too deeply or is too large written out.
    """
    done: dict[int, tuple[Any, int]] = {}
    open_: set[int] = set()

    def visit(value: Any, depth: int) -> tuple[Any, int]:
        kind = type(value)
        if value is None or kind in (bool, float, str, bytes) or isinstance(value, np.generic):
            return value, 1
        if kind is int:
            _need(value.bit_length() <= BITS, f"a number of {value.bit_length()} bits")
            return value, 1
        known = done.get(id(value))
        if known is not None:
            return known
        _need(id(value) not in open_, "a value that holds itself")
        _need(depth < DEPTH, f"a value nested more than {DEPTH} times")
        open_.add(id(value))
        if kind is View:
            made: Any = tensor(value)
            count = 1
        elif kind is _Array:
            _need(value.value is not None, "a NumPy array")
            made, count = value.value, 1
        elif kind is dict:
            parts = {key: visit(part, depth + 1) for key, part in value.items()}
            for key in parts:
                visit(key, depth)
            made, count = (
                {key: part for key, (part, _) in parts.items()},
                1 + sum(n for _, n in parts.values()),
            )
        elif kind in (list, tuple, set):
            each = [visit(part, depth + 1) for part in value]
            made, count = kind(part for part, _ in each), 1 + sum(n for _, n in each)
        elif kind is Type:
            made, count = value.name, 1
        else:
            raise Damaged("it holds the parts of something that was never put together")
        open_.discard(id(value))
        _need(count <= VALUES, f"a value of more than {VALUES} parts")
        done[id(value)] = made, count
        return made, count

    return visit(value, 0)[0]
