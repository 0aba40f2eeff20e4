"""Quantize with amd-quark: MODEL SAMPLES COUNT OUT [METHOD].

METHOD is one of Quark's configurations; weights have a scale for each channel.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config.config import Config
from quark.onnx.quantization.config.custom_config import get_default_config


class Reader:
    """The samples one by one."""

    def __init__(self, arrays: dict[str, Any], count: int) -> None:
        self._arrays, self._count = arrays, count
        self.rewind()

    def __len__(self) -> int:
        return self._count

    def rewind(self) -> None:
        """Start again."""
        self._left = iter(range(self._count))

    def reset_iter(self) -> None:
        """Start again."""
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample, ``None`` after the last."""
        i = next(self._left, None)
        return None if i is None else {k: a[i : i + 1] for k, a in self._arrays.items()}


def main() -> None:
    """Quantize the model named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    config = get_default_config(sys.argv[5] if len(sys.argv) > 5 else "U8S8_AAWS")
    config.per_channel = True
    quantizer = ModelQuantizer(Config(global_quant_config=config))
    quantizer.quantize_model(model, out, Reader(dict(np.load(samples)), int(count)))


main()
