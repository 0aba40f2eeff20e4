"""Activations that an operator can carry, as runtimes fuse them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from edgec.ir import Array, OnnxForm, TensorType

__all__ = ["Activation", "form"]


class Activation(Enum):
    """A function applied to every element of a result; the set that TFLite can fuse."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that can come out."""
        return _BOUNDS[self]

    @classmethod
    def of_bounds(cls, low: float, high: float) -> Activation | None:
        """Return the activation that clips to these bounds, if there is one."""
        return next((a for a, bounds in _BOUNDS.items() if bounds == (low, high)), None)


_BOUNDS = {
    Activation.NONE: (-np.inf, np.inf),
    Activation.RELU: (0.0, np.inf),
    Activation.RELU6: (0.0, 6.0),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
}


def form(
    activation: Activation,
    result: TensorType,
    op_type: str,
    attributes: Mapping[str, Any] | None = None,
    constants: tuple[Array | None, ...] = (),
) -> OnnxForm:
    """Return the ONNX form of an operator followed by its activation.

    Parameters
    ----------
    result
        Type of the result; only the element type matters.
    """
    then = None
    if activation is Activation.RELU:
        then = OnnxForm("Relu")
    elif activation is not Activation.NONE:
        low, high = (np.array(b, result.dtype.numpy) for b in activation.bounds)
        then = OnnxForm("Clip", {}, (low, high))
    return OnnxForm(op_type, attributes or {}, constants, then)
