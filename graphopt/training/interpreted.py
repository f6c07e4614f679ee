"""A model as the function that training calls, held against onnxruntime before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from graphopt.training.agreement import disagreement
from graphopt.training.learnable import Learnable
from graphopt.training.program import Program
from graphopt.training.shelf import Sample
from graphopt.training.tensors import to_numpy, to_torch

QUANTIZED = 1e-3
"""The share of the energy of a value that may be other in a model that rounds values on the way: where two
runtimes differ by a rounding of the last bit, one in a thousand codes is the next one."""


class Interpreted:
    """The model of a file; floats of all kinds are computed in 32 bits."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        self._rounds = any("QuantizeLinear" in node.op_type for node in model.graph.node)
        self._program = Program.of(model, compute="float32")

    def __call__(
        self, feeds: Mapping[str, Any], wanted: Sequence[str], weights: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Values by name; `weights` are fed as well, by the names of what the nodes read."""
        given = {name: to_torch(array) for name, array in feeds.items()}
        return self._program({**given, **weights}, wanted=wanted, outputs=())

    def disagreement(self, weights: Sequence[Learnable], expected: Sequence[Sample]) -> str | None:
        """Why it is not what onnxruntime runs, in a clause; None when they agree as far as rounding lets them."""
        with torch.no_grad():
            values = {one.name: to_numpy(one.value()) for one in weights}
        for sample in expected:
            feeds = {**sample.inputs, **values}
            if self._rounds:
                why = self._far(feeds, sample.targets)
            else:
                found = disagreement(self._program, feeds, sample.targets)
                why = next((str(one) for one in found if not one.within), None)
            if why is not None:
                return f"PyTorch's outputs of the model are not onnxruntime's: {why}"
        return None

    def _far(self, feeds: Mapping[str, Any], targets: Mapping[str, Any]) -> str | None:
        for name, wanted in targets.items():
            with torch.no_grad():
                made = self._program({key: to_torch(one) for key, one in feeds.items()}, wanted=(name,), outputs=())
            mine, exact = to_numpy(made[name]).astype(np.float64), wanted.astype(np.float64)
            if mine.shape != exact.shape:
                return f"{name}: shape {list(mine.shape)} for {list(exact.shape)}"
            apart, energy = float(np.square(mine - exact).sum()), float(np.square(exact).sum())
            if not apart <= QUANTIZED * energy:
                return f"{name}: {apart / energy if energy else np.inf:.2g} of its energy > {QUANTIZED:g}"
        return None
