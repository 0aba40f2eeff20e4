from __future__ import annotations

from collections.abc import Callable

import pytest

from edgec.compiler import CompileOptions
from edgec.demo import CALIBRATION, MODEL
from edgec.preparation import prepare
from edgec.quantizing import Quantizing

Way = Callable[..., Quantizing]


@pytest.fixture(scope="session")
def way() -> Way:
    """Return what quantizes the demo model."""

    def made(recipe: str = "static_wi4_ai8", target: str = "tflite") -> Quantizing:
        # Ranges are found once; recipes differ in weights only.
        options = CompileOptions(
            (target,), "static_wi8_ai8" if target == "onnxruntime" else recipe,
            calibration=CALIBRATION, effort="fast",
        )  # fmt: skip
        p = prepare(MODEL, options, every=True)
        return Quantizing(p.target, p.graph, p.calibration, p.data, options)

    return made
