"""Every real network: most channels can go, and silent ones go without a trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgec.channels import channels_of
from edgec.frontend import load
from edgec.passes import simplify
from tests.channels.forms import check_removal
from tests.models import feeds

MODELS = Path(os.environ.get("EDGEC_DATA", "data")) / "models"

MOST = {
    "audio/kws_ds_cnn_s.onnx": 0.97,
    "cifar10/resnet20_cifar10.onnx": 0.97,
    "cifar10/resnet56_cifar10.onnx": 0.97,
    "imagenet/efficientnet_lite0.onnx": 0.94,
    "imagenet/mobilenet_v1_025_128.onnx": 0.72,  # 1001 of its 3737 channels are classes
    "imagenet/mobilenet_v2_10_224.onnx": 0.93,
    "mlperf_tiny/ad01_fc_autoencoder.onnx": 0.61,
    "mlperf_tiny/kws_ds_cnn_nchw.onnx": 0.97,
    "mlperf_tiny/resnet8_cifar10.onnx": 0.96,
    "mlperf_tiny/streaming_wakeword_nchw.onnx": 0.94,
    "mlperf_tiny/vww_mobilenetv1_025_96.onnx": 0.99,
    "mnist/lenet5_mnist.onnx": 0.97,
    "vision/fastestdet.onnx": 0.97,
    "vision/palm_detection_lite.onnx": 0.97,
    "vision/sinet_portrait.onnx": 0.99,
    "vision/yolox_nano.onnx": 0.96,
}
"""The least share of the channels that layers make, and that can be removed."""


@pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"there are no models in {MODELS}; set EDGEC_DATA"
)
@pytest.mark.parametrize("name", MOST)
def test_most_channels_can_be_removed(name: str) -> None:
    loaded = load(MODELS / name, {})
    graph, _ = simplify(loaded.graph, None, lambda step: None)

    found = channels_of(graph)
    free = found.free(graph)
    every = {node.layer: count for node, count in found.made(graph).items()}
    assert free / sum(every.values()) >= MOST[name]
    assert all(found.reasons.values())

    assert check_removal(graph, feeds(graph)) < 1e-5
