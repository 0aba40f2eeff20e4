"""Every real network: most channels can go, and silent ones go without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.models import DATA, SHAPES
from edgec.channels import channels_of
from edgec.frontend import load
from edgec.passes import simplify
from tests.channels.forms import check_removal
from tests.models import feeds

MODELS = DATA / "models"

MOST = {
    "audio/basic_pitch.onnx": 0.09,  # its filter banks keep theirs: minima are taken over them
    "audio/kws_ds_cnn_s.onnx": 0.97,
    "cifar10/resnet20_cifar10.onnx": 0.97,
    "cifar10/resnet56_cifar10.onnx": 0.97,
    "imagenet/efficientnet_lite0.onnx": 0.94,
    "imagenet/mobilenet_v1_025_128.onnx": 0.72,  # 1001 of its 3737 channels are classes
    "imagenet/mobilenet_v2_10_224.onnx": 0.93,
    "mlperf_tiny/ad01_fc_autoencoder.onnx": 0.61,
    "mlperf_tiny/kws_ds_cnn.onnx": 0.97,
    "mlperf_tiny/kws_ds_cnn_nchw.onnx": 0.97,
    "mlperf_tiny/resnet8_cifar10.onnx": 0.96,
    "mlperf_tiny/resnet8_cifar10_nchw.onnx": 0.96,
    "mlperf_tiny/streaming_wakeword.onnx": 0.94,
    "mlperf_tiny/streaming_wakeword_nchw.onnx": 0.94,
    "mlperf_tiny/vww_mobilenetv1_025_96.onnx": 0.99,
    "mlperf_tiny/vww_mobilenetv1_025_96_nchw.onnx": 0.99,
    "mnist/lenet5_mnist.onnx": 0.97,
    "mnist/lenet_300_100_mnist.onnx": 0.97,
    "vision/espcn_x2.onnx": 0.95,
    "vision/fastestdet.onnx": 0.97,
    "vision/palm_detection_lite.onnx": 0.97,
    "vision/ppocr_v2_cls.onnx": 0.99,
    "vision/ppocrv4_det.onnx": 0.99,
    "vision/sinet_portrait.onnx": 0.99,
    "vision/ultraface_rfb_320.onnx": 0.98,
    "vision/yolox_nano.onnx": 0.96,
    "vision/yunet_n_dynamic.onnx": 0.95,
}
"""The least share of the channels that layers make, and that can be removed."""

RECURRENT = {
    "audio/kws_gru_s.onnx",
    "audio/silero_vad_16k_op15.onnx",
    "audio/silero_vad_op18_ifless.onnx",
}

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"there are no models in {MODELS}; set EDGEC_DATA"
)


def test_no_network_is_left_out() -> None:
    folders = ("audio", "cifar10", "imagenet", "mlperf_tiny", "mnist", "vision")
    found = {f"{f}/{path.name}" for f in folders for path in (MODELS / f).glob("*.onnx")}
    assert found == {*MOST, *RECURRENT}


@pytest.mark.parametrize("name", MOST)
def test_most_channels_can_be_removed(name: str) -> None:
    loaded = load(MODELS / name, SHAPES.get(Path(name).stem, {}))
    graph, _ = simplify(loaded.graph, None, lambda step: None)

    found = channels_of(graph)
    free = found.free(graph)
    every = found.made(graph)
    assert free / sum(every.values()) >= MOST[name]
    assert all(found.reasons.values())
    whole = {m.place for group in found.groups for m in group.members}
    for node in every:  # it has channels that can go, or a reason why not
        axes = range(len(node.output.type.shape))
        assert node in found.reasons or any((node.output.name, a) in whole for a in axes)

    error, floor = check_removal(graph, feeds(graph))
    # Silenced, two detectors yield next to nothing: a sigmoid rounds in steps of 1 / 2^23, and
    # beside outputs of 1e-3 one step is 7e-5. Moving inputs by their last bit does as much.
    assert error < 1e-5 or error <= 2 * floor < 1e-3
