"""The graph of an ONNX file as a cell of MindSpore, which reads no ONNX itself.

Node by node: each becomes a line of the cell's ``construct``, written in MindSpore's own operators.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mindspore
import numpy as np
import onnx
from mindspore import Parameter, Tensor, ops
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from crossreid.records import UserError

TYPES = {
    onnx.TensorProto.UINT8: mindspore.uint8,
    onnx.TensorProto.FLOAT: mindspore.float32,
    onnx.TensorProto.FLOAT16: mindspore.float16,
}
_LOWEST = -3e38  # what a map is padded with before a maximum
# Their second input is a shape, which is known but for the batch and not computed by the cell.
_SHAPED = ("Reshape", "Expand")


@contextmanager
def written_as_cell(model: onnx.ModelProto):
    """The cell that computes what ``model`` computes.

    MindSpore compiles the source of a cell from its file, which is there inside the block alone.
    """
    graph = _Graph(model)
    for node in _leading_to([value.name for value in model.graph.output], model, shapes=False):
        graph.add(node)
    results = ", ".join(graph.names[value.name] for value in model.graph.output)
    lines = [f"    def construct(self, {graph.input}):", *graph.lines, f"return {results}"]
    source = "from mindspore import nn\n\n\nclass Exported(nn.Cell):\n" + "\n        ".join(lines) + "\n"
    with TemporaryDirectory(prefix="crossreid_cell_") as folder:
        name = Path(folder).name
        path = Path(folder, "cell.py")
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            cell = module.Exported()
            for part, value in graph.parts.items():
                setattr(cell, part, value)
            yield cell.set_train(False)
        finally:
            del sys.modules[name]


class _Graph:
    """Lines of a ``construct``, the operators and numbers they call on (``parts`` of the cell), and the name of each
    value of the ONNX graph in them."""

    def __init__(self, model: onnx.ModelProto):
        self.input = model.graph.input[0].name
        self.names = {self.input: self.input}
        self.parts: dict[str, Any] = {}
        self.lines: list[str] = []
        self.constants = _constants(model)
        self.shapes = _shapes(model, self.constants)

    def add(self, node: onnx.NodeProto) -> None:
        if node.op_type not in _LINES:
            raise UserError(
                f"the ONNX file has the operator {node.op_type}, which crossreid cannot write for MindSpore: export "
                "the checkpoint again with this version of crossreid, or keep to the ONNX file"
            )
        found = [f"v{len(self.names) + index}" for index in range(len(node.output))]
        self.lines.append(f"{', '.join(found)} = {_LINES[node.op_type](self, node, _attributes(node))}")
        self.names |= dict(zip(node.output, found, strict=True))

    def part(self, part) -> str:
        """How a line calls on an operator or an array of numbers, which the cell keeps."""
        name = f"p{len(self.parts)}"
        if isinstance(part, np.ndarray):
            part = Parameter(Tensor(np.ascontiguousarray(part)), name=name, requires_grad=False)
        self.parts[name] = part
        return f"self.{name}"

    def value(self, name: str) -> str:
        """How a line calls on a value of the ONNX graph."""
        if name not in self.names:
            constant = self.constants[name]
            if constant.ndim == 0:
                return repr(constant.item())
            self.names[name] = self.part(constant)
        return self.names[name]

    def call(self, operator, *arguments) -> str:
        return f"{self.part(operator)}({', '.join(map(str, arguments))})"

    def integers(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].reshape(-1).tolist())

    def axes(self, node, given) -> tuple[int, ...]:
        return self.integers(node.input[1]) if len(node.input) > 1 else tuple(given["axes"])


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _constants(model) -> dict[str, np.ndarray]:
    found = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            (value,) = _attributes(node).values()
            tensor = isinstance(value, onnx.TensorProto)
            found[node.output[0]] = numpy_helper.to_array(value) if tensor else np.array(value)
    return found


def _leading_to(names: Iterable[str], model, shapes: bool) -> list[onnx.NodeProto]:
    """The nodes that the named values follow from, in order. shapes: with those that only compute shapes."""
    wanted, nodes = set(names), []
    for node in reversed(model.graph.node):
        if node.op_type != "Constant" and not wanted.isdisjoint(node.output):
            nodes.append(node)
            wanted.update(node.input if shapes or node.op_type not in _SHAPED else node.input[:1])
    return nodes[::-1]


def _shapes(model, constants) -> dict[str, tuple[int, ...]]:
    """What the shapes that are inputs of nodes come to, -1 standing for the batch: they are computed for two batches,
    and what differs follows the batch."""
    names = {node.input[1] for node in model.graph.node if node.op_type in _SHAPED}
    shapes = {name: tuple(constants[name].tolist()) for name in names & constants.keys()}
    computed = sorted(names - shapes.keys())
    if computed:
        pixels = model.graph.input[0]
        integers = [
            numpy_helper.from_array(value, name)
            for name, value in constants.items()
            if value.dtype.kind == "i"
        ]
        results = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in computed
        ]
        nodes = _leading_to(computed, model, shapes=True)
        graph = onnx.helper.make_graph(nodes, "shapes", [pixels], results, integers)
        evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=model.opset_import))
        kind = onnx.helper.tensor_dtype_to_np_dtype(pixels.type.tensor_type.elem_type)
        size = [each.dim_value for each in pixels.type.tensor_type.shape.dim][1:]
        two, three = (evaluator.run(None, {pixels.name: np.zeros((n, *size), kind)}) for n in (2, 3))
        for name, a, b in zip(computed, two, three, strict=True):
            shapes[name] = tuple(int(i) if i == j else -1 for i, j in zip(a, b, strict=True))
    return shapes


def _binary(sign: str) -> Callable[..., str]:
    return lambda graph, node, given: f" {sign} ".join(map(graph.value, node.input))


def _call(operator: Callable[..., Any]) -> Callable[..., str]:
    return lambda graph, node, given: graph.call(operator(), *map(graph.value, node.input))


def _cast(graph, node, given) -> str:
    return graph.call(ops.Cast(), graph.value(node.input[0]), graph.part(TYPES[given["to"]]))


def _transpose(graph, node, given) -> str:
    return graph.call(ops.Transpose(), graph.value(node.input[0]), tuple(given["perm"]))


def _softmax(graph, node, given) -> str:
    return graph.call(ops.Softmax(given.get("axis", -1)), graph.value(node.input[0]))


def _concat(graph, node, given) -> str:
    return graph.call(ops.Concat(given["axis"]), f"({', '.join(map(graph.value, node.input))})")


def _split(graph, node, given) -> str:
    value, axis = graph.value(node.input[0]), given.get("axis", 0)
    if len(node.input) > 1:
        return graph.call(ops.split, value, graph.integers(node.input[1]), axis)
    return graph.call(ops.chunk, value, len(node.output), axis)


def _reshape(graph, node, given) -> str:
    return graph.call(ops.Reshape(), graph.value(node.input[0]), graph.shapes[node.input[1]])


def _expand(graph, node, given) -> str:
    return graph.call(ops.BroadcastTo(graph.shapes[node.input[1]]), graph.value(node.input[0]))


def _slice(graph, node, given) -> str:
    starts, ends, axes = (graph.integers(name) for name in node.input[1:4])
    steps = graph.integers(node.input[4]) if len(node.input) > 4 else (1,) * len(axes)
    parts = [":"] * (max(axes) + 1)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = f"{start}:{end if abs(end) < 2**31 else ''}:{step}"  # larger ends mean all the rest
    return f"{graph.value(node.input[0])}[{', '.join(parts)}]"


def _clip(graph, node, given) -> str:
    value = graph.value(node.input[0])
    for operator, limit in zip((ops.Maximum, ops.Minimum), node.input[1:], strict=False):
        if limit:
            value = graph.call(operator(), value, graph.value(limit))
    return value


def _reduce(operator) -> Callable[..., str]:
    def line(graph, node, given) -> str:
        keep = bool(given.get("keepdims", 1))
        return graph.call(operator(keep), graph.value(node.input[0]), graph.axes(node, given))

    return line


def _reduce_max(graph, node, given) -> str:
    value = graph.value(node.input[0])
    for axis in sorted(graph.axes(node, given), reverse=True):
        value = graph.call(ops.ReduceMax(bool(given.get("keepdims", 1))), value, axis)
    return value


def _reduce_l2(graph, node, given) -> str:
    value, keep = graph.value(node.input[0]), bool(given.get("keepdims", 1))
    squares = graph.call(ops.ReduceSum(keep), f"{value} * {value}", graph.axes(node, given))
    return graph.call(ops.Sqrt(), squares)


def _batch_normalization(graph, node, given) -> str:
    operator = ops.BatchNorm(is_training=False, epsilon=given.get("epsilon", 1e-5))
    return graph.call(operator, *map(graph.value, node.input)) + "[0]"


def _instance_normalization(graph, node, given) -> str:
    value = graph.value(node.input[0])
    graph.lines.append(f"centred = {value} - {graph.call(ops.ReduceMean(True), value, (2, 3))}")
    variance = graph.call(ops.ReduceMean(True), "centred * centred", (2, 3))
    deviation = graph.call(ops.Sqrt(), f"{variance} + {given.get('epsilon', 1e-5)}")
    scale, shift = (graph.part(graph.constants[name].reshape(1, -1, 1, 1)) for name in node.input[1:])
    return f"centred / {deviation} * {scale} + {shift}"


def _conv(graph, node, given) -> str:
    weight = graph.constants[node.input[1]]
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    operator = ops.Conv2D(
        weight.shape[0],
        weight.shape[2:],
        pad_mode="pad",
        pad=(top, bottom, left, right),
        stride=tuple(given.get("strides", (1, 1))),
        dilation=tuple(given.get("dilations", (1, 1))),
        group=given.get("group", 1),
    )
    maps = graph.call(operator, graph.value(node.input[0]), graph.value(node.input[1]))
    return maps if len(node.input) < 3 else graph.call(ops.BiasAdd(), maps, graph.value(node.input[2]))


def _pad(graph, node, given) -> str:
    pads = graph.integers(node.input[1])
    value = float(graph.constants[node.input[2]]) if len(node.input) > 2 and node.input[2] else 0.0
    # ONNX names the beginnings of all axes and then their ends, MindSpore each axis's both from the last on.
    sides = [pads[index] for axis in (3, 2, 1, 0) for index in (axis, axis + 4)]
    if any(sides[4:]):
        raise UserError(
            "the ONNX file pads other axes than height and width, which was never exported by crossreid"
        )
    return graph.call(
        ops.pad, graph.value(node.input[0]), tuple(sides[:4]), "'constant'", max(value, _LOWEST)
    )


def _pool(operator) -> Callable[..., str]:
    def line(graph, node, given) -> str:
        value = graph.value(node.input[0])
        top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
        if any((top, left, bottom, right)):
            fill = _LOWEST if operator is ops.MaxPool else 0.0
            value = graph.call(ops.pad, value, (left, right, top, bottom), "'constant'", fill)
        return graph.call(operator(tuple(given["kernel_shape"]), tuple(given["strides"]), "valid"), value)

    return line


# Operator of ONNX -> (graph, node, attributes) -> the expression for its result. All that the methods are made of.
_LINES: dict[str, Callable[..., str]] = {
    "Add": _binary("+"),
    "Sub": _binary("-"),
    "Mul": _binary("*"),
    "Div": _binary("/"),
    "Neg": _call(ops.Neg),
    "Pow": _call(ops.Pow),
    "Relu": _call(ops.ReLU),
    "MatMul": lambda graph, node, given: graph.call(ops.matmul, *map(graph.value, node.input)),
    "Cast": _cast,
    "Transpose": _transpose,
    "Softmax": _softmax,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "GatherND": _call(ops.GatherNd),
    "Reshape": _reshape,
    "Expand": _expand,
    "Clip": _clip,
    "ReduceMean": _reduce(ops.ReduceMean),
    "ReduceSum": _reduce(ops.ReduceSum),
    "ReduceMax": _reduce_max,
    "ReduceL2": _reduce_l2,
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "Conv": _conv,
    "Pad": _pad,
    "MaxPool": _pool(ops.MaxPool),
    "AveragePool": _pool(ops.AvgPool),
}
