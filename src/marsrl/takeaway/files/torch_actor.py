"""The actor of a trained team as a PyTorch module; needs nothing but torch.

    actor = Actor.load(folder)  # where this file, contract.json and actor.pt are
    outputs = actor(obs, action_mask)  # or, recurrent: actor(obs, action_mask, first, carry_0)

What goes in and comes out: contract.json. Made by marsrl (`marsrl export`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn.functional import conv2d, gelu, pad, silu  # pyright: ignore[reportMissingImports]

_ACTIVATIONS: dict[str, Any] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": silu,
    "gelu": lambda x: gelu(x, approximate="tanh"),
}


class Actor(nn.Module):
    """Observations (B, N, ...) of N agents in B environments to their actions."""

    low: Tensor
    high: Tensor

    def __init__(self, contract: dict[str, Any]) -> None:
        super().__init__()
        self.how = contract["architecture"]
        self.action = contract["action"]
        self.activation = _ACTIVATIONS[self.how["activation"]]
        self.weights = nn.ParameterDict()
        for name, shape in self.how["weights"].items():
            fixed = name.startswith("norm.")  # moments are no parameters to train
            weight = nn.Parameter(torch.zeros(shape), requires_grad=not fixed)
            self.weights[_key(name)] = weight
        for end in ("low", "high"):
            bound = torch.tensor(self.action.get(end, 0.0), dtype=torch.float64)
            self.register_buffer(end, bound, persistent=False)

    @staticmethod
    def load(folder: str | Path) -> Actor:
        """The actor with its trained weights."""
        folder = Path(folder)
        actor = Actor(json.loads((folder / "contract.json").read_text()))
        actor.load_state_dict(torch.load(folder / "actor.pt", weights_only=True))
        return actor.eval()

    def forward(
        self,
        obs: Tensor,
        action_mask: Tensor,
        first: Tensor | None = None,
        carry_0: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The outputs that contract.json describes, by name."""
        x = self._read(obs)
        if "conv_0_kernel" in self.weights:
            x = self._pictures(x)
        for i in range(self.how["depth"]):
            x = self._dense(x, f"torso.{i}")
            if i == 0 and "agent_id" in self.weights:
                x = x + self.weights["agent_id"]
            x = self.activation(x)
        carry = {}
        if self.how["core"] == "gru":
            if first is None or carry_0 is None:
                raise ValueError("this actor is recurrent: it needs first and carry_0")
            x = self._gru(x, torch.where(first[:, None, None], 0.0, carry_0))
            carry = {"next_carry_0": x}
        x = self.activation(self._dense(x, "hidden"))
        return self._outputs(x, action_mask) | carry

    def _read(self, obs: Tensor) -> Tensor:
        """Observations as floats (B, N, F), standardised."""
        x = obs.to(torch.float32)
        if obs.dtype == torch.uint8:
            x = x / 255.0
        x = x.reshape(*x.shape[:2], -1)
        if self.how["norm"] == "running":
            x = (x - self.weights["norm_mean"]) / self.weights["norm_scale"]
            return x.clip(-self.how["norm_limit"], self.how["norm_limit"])
        if self.how["norm"] == "layer":
            x = x - x.mean(-1, keepdim=True)
            return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
        return x

    def _pictures(self, x: Tensor) -> Tensor:
        """Rows (B, N, F) with the pictures in them convolved."""
        sizes = [math.prod(part["shape"]) for part in self.how["parts"]]
        parts, layer = [], 0
        for part, seen in zip(self.how["parts"], x.split(sizes, -1), strict=True):
            layers = range(layer, layer + part["convolutions"])
            parts.append(self._picture(seen, part["shape"], layers) if layers else seen)
            layer = layers.stop
        return torch.cat(parts, -1)

    def _picture(self, x: Tensor, shape: list[int], layers: range) -> Tensor:
        """Convolutions over pictures that are rows (B, N, F)."""
        x = x.reshape(*x.shape[:2], *shape).movedim(-1, 2)
        groups = self.how["groups"]
        if groups is None:
            return self._convolved(x.flatten(0, 1), layers, None).reshape(*x.shape[:2], -1)
        rows = [
            self._convolved(x[:, i], layers, group).flatten(1) for i, group in enumerate(groups)
        ]
        return torch.stack(rows, 1)

    def _convolved(self, x: Tensor, layers: range, group: int | None) -> Tensor:
        """(K, H', W', C') for pictures (K, C, H, W)."""
        for layer in layers:
            kernel, bias = (self.weights[f"conv_{layer}_{part}"] for part in ("kernel", "bias"))
            if group is not None:
                kernel, bias = kernel[group], bias[group]
            stride = 1 if layer == layers[0] else 2
            sides = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[-2:]]
            edges = [(n // 2, n - n // 2) for n in sides]
            x = pad(x, (*edges[1], *edges[0]))
            x = self.activation(conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride))
        return x.movedim(1, -1)

    def _gru(self, x: Tensor, h: Tensor) -> Tensor:
        x = self._product(x, "gru.input_kernel") + self._own("gru.input_bias")
        x_r, x_z, x_n = x.chunk(3, -1)
        h_r, h_z, h_n = self._product(h, "gru.recurrent_kernel").chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * (h_n + self._own("gru.recurrent_bias")))
        return n + z * (h - n)

    def _outputs(self, x: Tensor, action_mask: Tensor) -> dict[str, Tensor]:
        out = self._dense(x, "head")
        if self.action["kind"] != "continuous":
            logits = torch.where(action_mask, out, self.action["illegal_logit"])
            if self.action["kind"] == "discrete":
                best = logits.argmax(-1)
            else:
                choices = logits.split(self.action["num_actions"], -1)
                best = torch.stack([choice.argmax(-1) for choice in choices], -1)
            return {"action": best.to(torch.int32), "logits": logits}
        if self.how["state_std"]:
            raw = self._dense(x, "spread")
            low, high = self.how["log_std_range"]
            log_std = torch.where(
                raw < 0, low * torch.tanh(raw / low), high * torch.tanh(raw / high)
            )
        else:
            log_std = self.weights["spread_log_std"].expand_as(out)
        unit = torch.where(action_mask, torch.tanh(out), 0.0)
        low, high, width = (x.to(out.dtype) for x in (self.low, self.high, self.high - self.low))
        action = torch.clamp(low + width * (unit + 1.0) / 2.0, low, high)
        return {"action": action, "mean": out, "log_std": log_std}

    def _dense(self, x: Tensor, name: str) -> Tensor:
        return self._product(x, f"{name}.kernel") + self._own(f"{name}.bias")

    def _product(self, x: Tensor, name: str) -> Tensor:
        """(B, N, F) times a kernel (F, H), or (N, F, H): each agent its own."""
        kernel = self._own(name)
        if kernel.ndim == 2:
            return x @ kernel
        return torch.einsum("bnf,nfh->bnh", x, kernel)

    def _own(self, name: str) -> Tensor:
        """A weight, of each agent's group (N, ...) if not all share it."""
        weight, groups = self.weights[_key(name)], self.how["groups"]
        return weight if groups is None else weight[groups]


def _key(name: str) -> str:
    """PyTorch takes dots in names for a path."""
    return name.replace(".", "_")
