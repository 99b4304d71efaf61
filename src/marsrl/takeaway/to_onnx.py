"""The built-in actor as an ONNX graph, from its weights: no converter, and names that can be read.

Axes are (batch, agents, ...) throughout; only the batch is left open.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from marsrl.distributions import ILLEGAL_LOGIT
from marsrl.extras import require
from marsrl.runs.policy import Policy
from marsrl.takeaway.actor import inputs_of
from marsrl.takeaway.weights import Arrays, architecture_of, arrays_of
from marsrl.types import Box, Discrete, MultiDiscrete

FILE = "actor.onnx"
OPSET = 20
_IR_VERSION = 9  # of that opset's time, so that runtimes of 2024 read it


def write(policy: Policy, folder: Path) -> None:
    """Writes `actor.onnx`.

    Raises:
        UserError: onnx is not installed, or the network is a user's own.
    """
    architecture = architecture_of(policy)
    onnx: Any = require("onnx", "onnx")
    model = _Actor(policy, architecture, arrays_of(policy)).model(onnx)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / FILE))


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: Any, name: str | None = None, dtype: Any = np.float32) -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def whole(self, *values: int) -> str:
        return self.constant(values, dtype=np.int64)

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append((kind, list(inputs), output, attributes))
        return output


class _Actor(_Graph):
    """The graph of one actor; the arguments are those of `weights`."""

    def __init__(self, policy: Policy, architecture: dict[str, Any], arrays: Arrays) -> None:
        super().__init__()
        self.policy = policy
        self.spec = policy.layout.spec
        self.how = architecture
        self.arrays = arrays
        self.groups = architecture["groups"]

    def model(self, onnx: Any) -> Any:
        """The whole model; `onnx` is the library."""
        outputs = self._outputs()
        helper, types = onnx.helper, onnx.TensorProto
        discrete = not isinstance(self.spec.action, Box)
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(dtype), ["batch", *shape]
            )
            for name, (shape, dtype) in inputs_of(self.policy).items()
        ]
        graph = helper.make_graph(
            [
                helper.make_node(kind, inputs, [output], name=output, **attributes)
                for kind, inputs, output, attributes in self.nodes
            ],
            "actor",
            inputs,
            [
                helper.make_tensor_value_info(
                    name,
                    types.INT32 if discrete and name == "action" else types.FLOAT,
                    ["batch", *shape],
                )
                for name, shape in outputs.items()
            ],
            [onnx.numpy_helper.from_array(x, name) for name, x in self.constants.items()],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="marsrl",
        )

    def _outputs(self) -> dict[str, tuple[int, ...]]:
        """Adds all nodes; returns the outputs and their shapes without the batch."""
        N, A = self.spec.num_agents, self.spec.action.size
        x = self._hidden_layers(self._inputs())
        carry: dict[str, tuple[int, ...]] = {}
        if self.how["core"] == "gru":
            x = self._gru(x)
            carry = {"next_carry_0": (N, self.how["width"])}
            x = self.op("Identity", x, output="next_carry_0")
        x = self._activated(self._dense(x, "hidden"))
        if isinstance(self.spec.action, Box):
            self._tanh_normal(x, self.spec.action)
            return {"action": (N, A), "mean": (N, A), "log_std": (N, A)} | carry
        self._categorical(x, self.spec.action)
        return {"action": (N, *self.spec.action.shape), "logits": (N, A)} | carry

    def _inputs(self) -> str:
        """Observations as floats, (batch, N, F), standardised."""
        x, dtype = "obs", np.dtype(self.policy.layout.obs_dtype)
        if dtype != np.float32:
            x = self.op("Cast", x, to=1)  # to float32
        if dtype == np.uint8:
            x = self.op("Div", x, self.constant(255.0))
        x = self.op("Reshape", x, self.whole(0, self.spec.num_agents, -1))
        if self.how["norm"] == "running":
            x = self.op("Sub", x, self.weight("norm.mean"))
            x = self.op("Div", x, self.weight("norm.scale"))
            limit = self.how["norm_limit"]
            return self.op("Clip", x, self.constant(-limit), self.constant(limit))
        if self.how["norm"] == "layer":
            x = self.op("Sub", x, self.op("ReduceMean", x, self.whole(-1), keepdims=1))
            square = self.op("Mul", x, x)
            variance = self.op("ReduceMean", square, self.whole(-1), keepdims=1)
            scale = self.op("Sqrt", self.op("Add", variance, self.constant(1e-5)))
            return self.op("Div", x, scale)
        return x

    def _hidden_layers(self, x: str) -> str:
        if "conv.0.kernel" in self.arrays:
            x = self._pictures(x)
        for i in range(self.how["depth"]):
            x = self._dense(x, f"torso.{i}")
            if not i and "agent_id" in self.arrays:
                x = self.op("Add", x, self.weight("agent_id"))
            x = self._activated(x)
        return x

    def _pictures(self, x: str) -> str:
        """(batch, N, F') for (batch, N, F): pictures are convolved, the rest passes through."""
        parts, at, layer = [], 0, 0
        for part in self.how["parts"]:
            size, convolutions = math.prod(part["shape"]), part["convolutions"]
            seen = self.op("Slice", x, self.whole(at), self.whole(at + size), self.whole(-1))
            if convolutions:
                seen = self._picture(seen, part["shape"], range(layer, layer + convolutions))
            parts.append(seen)
            at, layer = at + size, layer + convolutions
        return self.op("Concat", *parts, axis=-1)

    def _picture(self, x: str, shape: list[int], layers: range) -> str:
        """(batch, N, F') for pictures as rows (batch, N, F)."""
        N = self.spec.num_agents
        stride = 2 ** (len(layers) - 1)
        size = math.prod(-(-side // stride) for side in shape[:2])
        size *= self.arrays[f"conv.{layers[-1]}.bias"].shape[-1]
        if self.groups is None:
            x = self._convolved(self.op("Reshape", x, self.whole(-1, *shape)), layers, None)
            return self.op("Reshape", x, self.whole(-1, N, size))
        rows = []
        for agent in range(N):
            one = self.op("Gather", x, self.constant(agent, dtype=np.int64), axis=1)
            one = self.op("Reshape", one, self.whole(-1, *shape))
            one = self._convolved(one, layers, self.groups[agent])
            rows.append(self.op("Reshape", one, self.whole(-1, 1, size)))
        return self.op("Concat", *rows, axis=1)

    def _convolved(self, x: str, layers: range, group: int | None) -> str:
        """Pictures (K, H', W', C') after all convolutions of pictures (K, H, W, C)."""
        x = self.op("Transpose", x, perm=(0, 3, 1, 2))
        for layer in layers:
            kernel, bias = (self.arrays[f"conv.{layer}.{part}"] for part in ("kernel", "bias"))
            if group is not None:
                kernel, bias = kernel[group], bias[group]
            stride = 1 if layer == layers[0] else 2
            x = self.op(
                "Conv",
                x,
                self.constant(kernel.transpose(3, 2, 0, 1)),
                self.constant(bias),
                kernel_shape=(3, 3),
                strides=(stride, stride),
                auto_pad="SAME_UPPER",
            )
            x = self._activated(x)
        return self.op("Transpose", x, perm=(0, 2, 3, 1))

    def _gru(self, x: str) -> str:
        keep = self.op("Not", "first")
        keep = self.op("Unsqueeze", keep, self.whole(1, 2))
        h = self.op("Where", keep, "carry_0", self.constant(0.0))
        x_r, x_z, x_n = self._gates(self._product(x, "gru.input_kernel", "gru.input_bias"))
        h_r, h_z, h_n = self._gates(self._product(h, "gru.recurrent_kernel", None))
        r = self.op("Sigmoid", self.op("Add", x_r, h_r))
        z = self.op("Sigmoid", self.op("Add", x_z, h_z))
        q = self.op("Add", h_n, self.own_weight("gru.recurrent_bias"))
        n = self.op("Tanh", self.op("Add", x_n, self.op("Mul", r, q)))
        return self.op("Add", n, self.op("Mul", z, self.op("Sub", h, n)))

    def _gates(self, x: str) -> list[str]:
        """Slices of the last axis: those of r, z and n."""
        width = self.how["width"]
        edges = [self.whole(i * width) for i in range(4)]
        last = self.whole(-1)
        return [self.op("Slice", x, edges[i], edges[i + 1], last) for i in range(3)]

    def _categorical(self, x: str, space: Discrete | MultiDiscrete) -> None:
        logits = self.op(
            "Where",
            "action_mask",
            self._dense(x, "head"),
            self.constant(ILLEGAL_LOGIT),
            output="logits",
        )
        best, at, last = [], 0, self.whole(-1)
        for number in space.heads:
            choice = self.op("Slice", logits, self.whole(at), self.whole(at + number), last)
            best.append(self.op("ArgMax", choice, axis=-1, keepdims=len(space.shape)))
            at += number
        action = self.op("Concat", *best, axis=-1) if space.shape else best[0]
        self.op("Cast", action, to=6, output="action")  # to int32

    def _tanh_normal(self, x: str, space: Box) -> None:
        mean = self.op("Identity", self._dense(x, "head"), output="mean")
        if self.how["state_std"]:
            raw = self._dense(x, "spread")
            low, high = self.how["log_std_range"]
            below, above = (self._squashed(raw, limit) for limit in (low, high))
            negative = self.op("Less", raw, self.constant(0.0))
            self.op("Where", negative, below, above, output="log_std")
        else:
            shape = self.op("Shape", mean)
            self.op("Expand", self.weight("spread.log_std"), shape, output="log_std")
        unit = self.op("Where", "action_mask", self.op("Tanh", mean), self.constant(0.0))
        low, high = (np.asarray(x, np.float64) for x in (space.low, space.high))
        share = self.op("Div", self.op("Add", unit, self.constant(1.0)), self.constant(2.0))
        part = self.op("Mul", share, self.constant(high - low))
        inner = self.op("Max", self.op("Add", part, self.constant(low)), self.constant(low))
        self.op("Min", inner, self.constant(high), output="action")

    def _squashed(self, x: str, limit: float) -> str:
        scale = self.constant(limit)
        return self.op("Mul", scale, self.op("Tanh", self.op("Div", x, scale)))

    def _dense(self, x: str, name: str) -> str:
        return self._product(x, f"{name}.kernel", f"{name}.bias")

    def _product(self, x: str, kernel: str, bias: str | None) -> str:
        """`x @ kernel + bias` for x (batch, N, F); each agent's own if not all share them."""
        if self.groups is None:
            x = self.op("MatMul", x, self.weight(kernel))
        else:
            x = self.op("Unsqueeze", x, self.whole(2))
            x = self.op("MatMul", x, self.own_weight(kernel))
            x = self.op("Squeeze", x, self.whole(2))
        return x if bias is None else self.op("Add", x, self.own_weight(bias))

    def _activated(self, x: str) -> str:
        kind = self.how["activation"]
        if kind == "silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "gelu":
            return self.op("Gelu", x, approximate="tanh")
        return self.op({"relu": "Relu", "tanh": "Tanh"}[kind], x)

    def weight(self, name: str) -> str:
        """A weight under its own name."""
        if name not in self.constants:
            self.constant(self.arrays[name], name)
        return name

    def own_weight(self, name: str) -> str:
        """A weight, of each agent's group (N, ...) if not all share it."""
        weight = self.weight(name)
        if self.groups is None or self.groups == list(range(len(self.arrays[name]))):
            return weight
        return self.op("Gather", weight, self.constant(self.groups, dtype=np.int64), axis=0)
