"""Quantize with aimet-onnx: MODEL SAMPLES COUNT OUT [METHOD].

METHOD is one of AIMET's quantization schemes, min_max or tf_enhanced, which takes the ranges
of least error; with "+equalized" behind it, weights are first equalized across layers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
from aimet_onnx import QuantizationSimModel, int8
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_onnx.cross_layer_equalization import equalize_model
from onnxsim import simplify


def main() -> None:
    """Quantize the model named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    scheme, _, more = (sys.argv[5] if len(sys.argv) > 5 else "min_max").partition("+")
    arrays = dict(np.load(samples))
    # Some exporters leave the shapes of outputs out, which onnxsim does not take.
    loaded = onnx.shape_inference.infer_shapes(onnx.load(model))
    shapes: dict[str, Any] = {name: (1, *a.shape[1:]) for name, a in arrays.items()}
    loaded, good = simplify(loaded, overwrite_input_shapes=shapes)
    if not good:
        raise SystemExit("onnxsim does not vouch for what it made")
    if more == "equalized":
        equalize_model(loaded)  # folds batch normalizations first
    else:
        fold_all_batch_norms_to_weight(loaded)
    sim = QuantizationSimModel(
        loaded,
        param_type=int8,
        activation_type=int8,
        quant_scheme=scheme,
        config_file=get_path_for_per_channel_config(),
    )
    feeds = [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(int(count))]
    sim.compute_encodings(feeds)
    onnx.save(sim.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True), out)


main()
