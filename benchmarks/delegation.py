"""What int8 TFLite files are made of, beside the reference files of the same models.

From the root of the checkout: ``python -m benchmarks.delegation``. Exits with 1 where an
operator is not int8, leaves the one partition of XNNPACK (SOFTMAX, which it never takes,
aside), is a TRANSPOSE, or where there are more operators than in the reference.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import DATA, Array, loader
from edgec.compiler import CompileOptions, compile_model
from edgec.targets.tflite.run import interpreter

TINY = DATA / "models" / "mlperf_tiny"


def main() -> int:
    """Compile each model from both of its forms and look inside."""
    cifar = loader().cifar10("train")[0][:200].astype(np.float32)
    images = loader().imagenet(96)[0][:200].astype(np.float32) / 255
    cases = (
        ("resnet8_cifar10", "resnet8_cifar10_int8.tflite", cifar),
        ("vww_mobilenetv1_025_96", "vww_96_int8.tflite", images),
    )
    good = True
    for stem, reference, samples in cases:
        allowed = len(operators((TINY / reference).read_bytes())[0])
        for form in (stem, f"{stem}_nchw"):
            good &= look(TINY / f"{form}.onnx", samples, allowed)
    return int(not good)


def look(model: Path, samples: Array, allowed: int) -> bool:
    """Print one line; return whether all of it holds."""
    nchw = model.stem.endswith("_nchw")
    x = np.ascontiguousarray(samples.transpose(0, 3, 1, 2)) if nchw else samples
    options = CompileOptions(
        ("tflite",), "static_wi8_ai8", {"input": x}, io_dtype="int8",
        io_layout="nhwc" if nchw else "keep",
    )  # fmt: skip
    data = compile_model(model, options).files[f"{model.stem}.tflite"]
    ops, partitions, floats = operators(data)
    counts = Counter(ops)
    holds = len(ops) <= allowed and partitions == 1 and not floats and not counts["TRANSPOSE"]
    print(
        f"{model.stem:30} {len(ops)} operators (reference {allowed}), {partitions} XNNPACK "
        f"partition, {floats} float tensors, {counts['TRANSPOSE']} TRANSPOSE, "
        f"{len(data)} bytes{'' if holds else '  FAIL'}"
    )
    return holds


def operators(data: bytes) -> tuple[list[str], int, int]:
    """Return operators, delegate partitions, and the number of float tensors."""
    made: Any = interpreter(data)
    names = [op["op_name"] for op in made._get_ops_details()]
    tensors = made.get_tensor_details()
    floats = sum(t["dtype"] is np.float32 for t in tensors)
    return [n for n in names if n != "DELEGATE"], names.count("DELEGATE"), floats


if __name__ == "__main__":
    raise SystemExit(main())
