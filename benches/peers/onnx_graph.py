"""ONNX graphs written node by node, transformers in ONNX Runtime's fused operators."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FUSED = "com.microsoft"


class Affine(NamedTuple):
    """A linear layer, weight [out, in], or a norm, weight [width]."""

    weight: np.ndarray
    bias: np.ndarray | None = None


class Layer(NamedTuple):
    norm1: Affine
    qkv: Affine
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def node(self, op: str, inputs: Sequence[str], outputs: int | list[str] = 1, domain: str = "", **attributes):
        """The output's name, or a list where there are several."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if len(names) == 1 else names

    def constant(self, value) -> str:
        """Integers become int64."""
        value = np.asarray(value, order="C")
        value = value.astype(np.int64) if value.dtype.kind == "i" else value
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, x: str, value) -> str:
        return self.node("Add", [x, self.constant(value)])

    def gather(self, values: str, index: str, axis: int = 0) -> str:
        return self.node("Gather", [values, index], axis=axis)

    def size(self, x: str, axis: int) -> str:
        """Of one axis, [1]."""
        return self.node("Shape", [x], start=axis, end=axis + 1)

    def scalar(self, x: str) -> str:
        return self.node("Squeeze", [x, self.constant([0])])

    def range(self, start: str, end: str) -> str:
        return self.node("Range", [start, end, self.constant(1)])

    def product(self, x: str, weight: np.ndarray) -> str:
        return self.node("MatMul", [x, self.constant(weight.T)])

    def linear(self, x: str, layer: Affine) -> str:
        y = self.product(x, layer.weight)
        return y if layer.bias is None else self.add(y, layer.bias)

    def norm(self, x: str, norm: Affine, skip: tuple[str, np.ndarray] | None = None) -> tuple[str, str]:
        """x with what was skipped (and its bias) added, and the norm of that."""
        scale, shift = self.constant(norm.weight), self.constant(norm.bias)
        if skip is None:
            return x, self.node("LayerNormalization", [x, scale, shift], epsilon=1e-5, axis=-1)
        inputs = [x, skip[0], scale, shift, self.constant(skip[1])]
        y, _, _, x = self.node("SkipLayerNormalization", inputs, 4, FUSED, epsilon=1e-5)
        return x, y

    def transformer(self, x: str, layers: Sequence[Layer], attend: Callable[[int, list[str]], str], activate: Callable[[str, np.ndarray], str]):
        """x before the last layer's output is added, and that output with its bias, as `norm` takes them."""
        skip = None
        for i, layer in enumerate(layers):
            x, y = self.norm(x, layer.norm1, skip)
            y = attend(i, self.node("Split", [self.linear(y, layer.qkv)], 3, axis=-1, num_outputs=3))
            skip = self.product(y, layer.out.weight), layer.out.bias
            x, y = self.norm(x, layer.norm2, skip)
            y = activate(self.product(y, layer.up.weight), layer.up.bias)
            skip = self.product(y, layer.down.weight), layer.down.bias
        return x, skip

    def encoder(self, x: str, layers: Sequence[Layer], heads: int, causal: bool, activate: Callable[[str, np.ndarray], str]) -> str:
        """A transformer without a cache."""

        def attend(_, qkv: list[str]) -> str:
            return self.node("MultiHeadAttention", qkv, domain=FUSED, num_heads=heads, unidirectional=int(causal))

        x, (skip, bias) = self.transformer(x, layers, attend, activate)
        return self.add(self.node("Add", [x, skip]), bias)

    def model(self, name: str, inputs: dict[str, tuple], outputs: dict[str, tuple]) -> onnx.ModelProto:
        """Inputs and outputs by name: type and shape."""
        ends = [[helper.make_tensor_value_info(key, *value) for key, value in part.items()] for part in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, name, *ends, self.constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
