"""Files of any origin become programs; what makes no sense is told, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import ModelError, UnsupportedError
from edgec.ir import DType, QuantParams
from edgec.program import Program
from edgec.program import operators as ops
from edgec.program.reading import parse_program, read_program
from tests.program.files import FILES, HALF, MODELS, Sketch

needs_data = pytest.mark.skipif(not FILES, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")

LAYERS = {
    "ad01_int8": 10,
    "hello_world_int8": 3,
    "kws_ds_cnn_int8": 13,
    "micro_speech_int8": 4,
    "mobilenet_v1_0.25_128_quant": 31,
    "person_detect_int8": 31,
    "resnet8_cifar10_int8": 16,
    "streaming_wakeword_int8": 11,
    "tf2_mobilenet_v2_1.0_224_ptq": 68,
    "vww_96_int8": 31,
}


@needs_data
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_files_are_read(path: Path) -> None:
    program = read_program(path)

    assert program.name == path.stem
    assert len(program.steps) == LAYERS[path.stem]
    assert len(program.inputs) == len(program.outputs) == 1
    for layer in program.layers():
        if isinstance(layer.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
            bias = layer.input(2)
            assert layer.input(1).data is not None
            assert bias.data is not None
            assert bias.data.shape == (layer.output.shape[-1],)


def parse(sketch: Sketch, *outputs: int) -> Program:
    return parse_program(sketch.data(*outputs), "net")


def conv(sketch: Sketch, x: int, y: int, *operands: int, **options: int) -> None:
    given = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, **options}
    sketch.op("CONV_2D", [x, *operands], [y], "Conv2D", given)


def test_a_batch_that_is_left_open_is_one() -> None:
    s = Sketch()
    x, y = s.input(-1, 5, 5, 3), s.value(-1, 5, 5, 4)
    conv(s, x, y, s.weights(4, 3, 3, 3, axis=0), s.bias(4))

    (layer,) = parse(s, y).layers()

    assert layer.input(0).shape == (1, 5, 5, 3)
    assert layer.op == ops.Conv(pads=((1, 1), (1, 1)))


def test_paddings_are_told_in_numbers() -> None:
    s = Sketch()
    x, y = s.input(1, 6, 5, 3), s.value(1, 3, 3, 4)
    conv(s, x, y, s.weights(4, 3, 3, 3), strideH=2, strideW=2)

    (layer,) = parse(s, y).layers()

    assert layer.op == ops.Conv((2, 2), ((0, 1), (1, 1)))


def test_scales_of_a_bias_run_along_its_channels() -> None:
    s = Sketch()
    x, y = s.input(1, 5, 5, 3), s.value(1, 5, 5, 4)
    bias = s.bias(4)
    s.model.tensors[bias].quant = QuantParams((0.1, 0.2, 0.3, 0.4), (0,) * 4, 3)
    conv(s, x, y, s.weights(4, 3, 3, 3, axis=0), bias)

    (layer,) = parse(s, y).layers()

    assert layer.input(2).grid == QuantParams(
        tuple(float(np.float32(a)) for a in (0.1, 0.2, 0.3, 0.4)), (0,) * 4, 0
    )


def reshape(s: Sketch) -> int:
    x, y = s.input(1, 4, 3), s.value(1, 12)
    s.op("RESHAPE", [x, s.ints(1, -1)], [y])
    return y


def squeeze(s: Sketch) -> int:
    x, y = s.input(1, 4, 1, 3), s.value(1, 4, 3)
    s.op("SQUEEZE", [x], [y], "Squeeze", {"squeezeDims": [2]})
    return y


def expand(s: Sketch) -> int:
    x, y = s.input(1, 4, 3), s.value(1, 4, 1, 3)
    s.op("EXPAND_DIMS", [x, s.ints(2)], [y])
    return y


@pytest.mark.parametrize("write", [reshape, squeeze, expand])
def test_views_become_reshapes(write: Callable[[Sketch], int]) -> None:
    s = Sketch()
    y = write(s)

    (step,) = parse(s, y).steps

    assert step.op == ops.Reshape()
    assert len(step.inputs) == 1


def test_slices_are_told_by_begin_and_strides() -> None:
    s = Sketch()
    x, y, z = s.input(1, 8, 6), s.value(1, 3, 6), s.value(1, 3, 2)
    s.op("SLICE", [x, s.ints(0, 2, 0), s.ints(1, 3, -1)], [y])
    s.op("STRIDED_SLICE", [y, s.ints(0, 0, -1), s.ints(0, 0, 1), s.ints(1, 1, -3)], [z],
         "StridedSlice", {"beginMask": 3, "endMask": 3})  # fmt: skip

    first, second = parse(s, z).steps

    assert first.op == ops.Slice((0, 2, 0), (1, 1, 1))
    assert second.op == ops.Slice((0, 0, 5), (1, 1, -3))


def test_an_index_is_a_slice_and_a_reshape() -> None:
    s = Sketch()
    x, y = s.input(1, 8, 6), s.value(1, 6)
    s.op("STRIDED_SLICE", [x, s.ints(0, -2, 0), s.ints(0, 0, 0), s.ints(1, 1, 1)], [y],
         "StridedSlice", {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2})  # fmt: skip

    cut, flat = parse(s, y).layers()

    assert cut.op == ops.Slice((0, 6, 0), (1, 1, 1))
    assert cut.output.shape == (1, 1, 6)
    assert flat.op == ops.Reshape()


def test_splits_have_their_operand_first() -> None:
    s = Sketch()
    x, parts = s.input(1, 8, 6), [s.value(1, 4, 6), s.value(1, 4, 6)]
    more = [s.value(1, 4, 1), s.value(1, 4, 5)]
    s.op("SPLIT", [s.ints(-2), x], parts, "Split", {"numSplits": 2})
    s.op("SPLIT_V", [parts[0], s.ints(1, 5), s.ints(2)], more, "SplitV", {"numSplits": 2})

    first, second = parse(s, parts[1], *more).steps

    assert (first.op, first.inputs) == (ops.Split(1), (x,))
    assert (second.op, second.inputs) == (ops.Split(2), (parts[0],))


def test_padding_has_what_stands_for_zero() -> None:
    s = Sketch()
    x, y = s.input(1, 2, 3), s.value(1, 3, 6)
    s.op("PAD", [x, s.constant(np.array([[0, 0], [0, 1], [2, 1]], np.int32))], [y])

    (step,) = parse(s, y).steps

    assert step.op == ops.Pad(((0, 0), (0, 1), (2, 1)), HALF.zero_point[0])


def test_softmax_and_means_are_read() -> None:
    s = Sketch()
    x, y = s.input(1, 4, 4, 6), s.value(1, 6)
    z = s.value(1, 6, grid=QuantParams((1 / 256,), (-128,)))
    s.op("MEAN", [x, s.ints(-2, 1)], [y], "Reducer", {"keepDims": False})
    s.op("SOFTMAX", [y], [z], "Softmax", {"beta": 1.0})

    mean, softmax = parse(s, z).steps

    assert mean.op == ops.Mean((1, 2))
    assert softmax.op == ops.Softmax(1.0)


def test_states_are_variables() -> None:
    s = Sketch()
    x, y = s.input(1, 6), s.value(1, 4)
    state = s.value(1, 4 * 3, dtype=DType.INT16, grid=QuantParams((0.1,), (0,)))
    times = s.constant(
        s.rng.integers(-99, 99, (4, 3), dtype=np.int16), QuantParams((0.1,), (0,))
    )
    s.op("SVDF", [x, s.weights(4, 6), times, -1, state], [y], "SVDF", {"rank": 1})
    with pytest.raises(ModelError, match="nothing computes"):
        parse(s, y)

    s.variables.add(state)

    assert parse(s, y).variables == (state,)


# ---- what is refused


def test_unknown_operators_are_told_all_at_once() -> None:
    s = Sketch()
    x, *ys = s.input(1, 4), s.value(1, 4), s.value(1, 4), s.value(1, 4)
    s.op("COS", [x], ys[:1])
    s.op("FLOOR", ys[:1], ys[1:2])
    s.op("COS", ys[1:2], ys[2:])

    with pytest.raises(UnsupportedError, match="2 of the operators") as caught:
        parse(s, ys[2])

    cos, floor = caught.value.diagnostics
    assert (cos.where, floor.where) == ("t1", "t2")
    assert "COS is not known (2 in the model)" in cos.message
    assert cos.hint


def test_a_result_of_another_shape_is_refused() -> None:
    s = Sketch()
    x, y = s.input(1, 5, 5, 3), s.value(1, 6, 5, 4, name="stem")
    conv(s, x, y, s.weights(4, 3, 3, 3))

    with pytest.raises(ModelError, match="makes no sense") as caught:
        parse(s, y)
    (found,) = caught.value.diagnostics
    assert found.where == "stem"
    assert "its windows make 5" in found.message
    assert "convert the model again" in found.hint


def test_weights_that_are_computed_are_refused() -> None:
    s = Sketch()
    x, w, y = s.input(1, 4), s.input(3, 4, name="w"), s.value(1, 3)
    s.op("FULLY_CONNECTED", [x, w], [y], "FullyConnected")

    with pytest.raises(UnsupportedError, match="has to be a constant"):
        parse(s, y)


def test_layers_out_of_order_are_refused() -> None:
    s = Sketch()
    x, y, z = s.input(1, 4), s.value(1, 4), s.value(1, 4)
    s.op("RELU", [y], [z])
    s.op("RELU", [x], [y])

    with pytest.raises(ModelError, match="nothing computes before"):
        parse(s, z)


@pytest.mark.parametrize("batch", [2, 3])
def test_several_pictures_at_once_are_refused_with_a_way_out(batch: int) -> None:
    s = Sketch()
    x, y = s.input(batch, 5, 5, 3), s.value(batch, 5, 5, 4)
    conv(s, x, y, s.weights(4, 3, 3, 3))

    with pytest.raises(UnsupportedError, match="export the model with a batch of 1"):
        parse(s, y)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL4" + b"\0" * 64])
def test_other_files_are_said_to_be_no_tflite(content: bytes) -> None:
    with pytest.raises(ModelError, match="is not a TFLite file"):
        parse_program(content, "net")


def test_a_missing_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_program(tmp_path / "net.tflite")


def test_operands_too_many_are_refused() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 3)
    s.op("FULLY_CONNECTED", [x, s.weights(3, 4), s.bias(3), s.bias(3)], [y], "FullyConnected")

    with pytest.raises(ModelError, match="it has 4 operands"):
        parse(s, y)


@pytest.mark.parametrize("scale", [2.0**61, 2.0**40])
def test_scales_that_leave_nothing_are_refused(scale: float) -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4)
    s.model.tensors[x].quant = QuantParams((scale,), (0,))
    s.op("RELU", [x], [y])

    with pytest.raises(ModelError, match=r"the scale of x|a factor of"):
        parse(s, y)


def test_names_are_fit_for_terminals() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4, name="a\x1b[31m\nb")
    s.op("RELU", [x], [y])

    assert parse(s, y).steps[0].layer == "a?[31m?b"


def test_zero_points_lie_within_their_type() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4, grid=QuantParams((0.5,), (300,)), name="relu")
    s.op("RELU", [x], [y])

    with pytest.raises(ModelError, match="the zero point of relu is 300, outside of int8"):
        parse(s, y)


def test_scales_without_zero_points_are_refused() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4, name="relu")
    s.op("RELU", [x], [y])
    model = schema.ModelT.InitFromPackedBuf(s.data(y))
    model.subgraphs[0].tensors[y].quantization.zeroPoint = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")

    with pytest.raises(ModelError, match="there are scales, but no zero points"):
        parse_program(bytes(builder.Output()), "net")
