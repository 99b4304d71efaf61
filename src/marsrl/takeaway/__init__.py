"""Trained teams for other programs: `marsrl export RUN --to stablehlo|onnx|torch`.

Not to be taken for `marsrl.envs.export`, which offers environments to other libraries.
"""

from typing import Literal

Format = Literal["stablehlo", "onnx", "torch"]
