"""Whole models become C that computes what TFLite Micro computes, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import UnsupportedError
from edgec.ir import QuantParams
from edgec.program.reading import parse_program, read_program
from edgec.targets.microcontroller import Core
from edgec.targets.microcontroller.generate import Generated, Options, generate
from tests.program.files import FILES, MODELS, Sketch
from tests.targets.microcontroller.host import ANY_CORE, FLAGS, compiled, expected, zig

INT8 = [path for path in FILES if path.stem.endswith("_int8")]

needs_data = pytest.mark.skipif(not INT8, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")


def small_network() -> bytes:
    """A first layer, a residual, and a dense end."""
    sketch = Sketch(3)
    x = sketch.input(1, 6, 5, 3, name="image")
    weights, bias = sketch.weights(4, 3, 3, 3, axis=0), sketch.bias(4)
    first = sketch.value(1, 6, 5, 4, name="net/first/Relu;net/first/BiasAdd")
    options = {"padding": 0, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    sketch.op("CONV_2D", [x, weights, bias], [first], "Conv2D", options)
    second = sketch.value(1, 6, 5, 4, name="net/second */ \\")
    again, more = sketch.weights(4, 1, 1, 4, axis=0), sketch.bias(4)
    sketch.op("CONV_2D", [first, again, more], [second], "Conv2D", options)
    total = sketch.value(1, 6, 5, 4, name="net/sum")
    sketch.op("ADD", [first, second], [total], "Add", {})
    flat = sketch.value(1, 120, name="net/flat")
    sketch.op("RESHAPE", [total, sketch.ints(1, 120)], [flat])
    logits = sketch.value(1, 3, grid=QuantParams((0.25,), (4,)), name="net/logits")
    dense = [flat, sketch.weights(3, 120), sketch.constant(np.array([5, 6, 7], np.int32), None)]
    sketch.op("FULLY_CONNECTED", dense, [logits], "FullyConnected", {})
    share = sketch.value(1, 3, grid=QuantParams((1 / 256,), (-128,)), name="net/share")
    sketch.op("SOFTMAX", [logits], [share], "Softmax", {"beta": 1.0})
    return sketch.data(share)


def of_small_network(options: Options | None = None) -> Generated:
    return generate(parse_program(small_network(), "net"), ANY_CORE, options=options)


@needs_data
@pytest.mark.parametrize("path", INT8, ids=lambda path: path.stem)
def test_real_models_equal_the_oracle(path: Path, tmp_path: Path) -> None:
    program = read_program(path)
    shape = program.tensors[program.inputs[0]].shape
    rng = np.random.default_rng(0)
    runs = [[rng.integers(-128, 128, shape, dtype=np.int8)] for _ in range(3)]
    generated = [
        generate(program, ANY_CORE, options=Options(name="apart", overlap=False)),
        generate(program, ANY_CORE, options=Options(name="over")),
    ]

    library = compiled(generated, tmp_path)

    for inputs, wanted in zip(runs, expected(path.read_bytes(), runs), strict=True):
        for model in generated:
            assert np.array_equal(library.run(model, inputs)[0], wanted[0].reshape(1, -1))
    assert generated[1].arena.plan.size <= generated[0].arena.plan.size


def test_a_small_network_equals_the_oracle(tmp_path: Path) -> None:
    data = small_network()
    rng = np.random.default_rng(0)
    runs = [[rng.integers(-128, 128, (1, 6, 5, 3), dtype=np.int8)] for _ in range(5)]
    model = of_small_network()

    library = compiled([model], tmp_path)

    for inputs, wanted in zip(runs, expected(data, runs), strict=True):
        assert np.array_equal(library.run(model, inputs)[0], wanted[0])


def test_the_code_includes_two_headers_and_calls_nothing_else() -> None:
    model = of_small_network()

    text = "".join(model.files.values())
    headers = set(re.findall(r"#include (\S+)", text))
    assert headers == {"<stdint.h>", "<stddef.h>", '"net.h"'}
    assert not re.search(
        r"\b(malloc|free|memcpy|memset|printf|float|double)\b", model.files["net.c"]
    )
    assert [line for line in text.splitlines() if len(line) > 96] == []


def test_the_code_compiles_as_cpp_too(tmp_path: Path) -> None:
    model = of_small_network()
    for name, text in model.files.items():
        (tmp_path / name).write_text(text)

    for source in ("net.c", "net_weights.c"):
        out = str(tmp_path / "out.o")
        zig("c++", "-x", "c++", *FLAGS[1:], "-c", str(tmp_path / source), "-o", out)


def test_layers_are_functions_with_the_names_of_the_user() -> None:
    model = of_small_network()

    assert [layer.symbol for layer in model.layers] == [
        "net_layer_00_first_relu",
        "net_layer_01_net_second",
        "net_layer_02_net_sum",
        "",
        "net_layer_04_net_logits",
        "net_layer_05_net_share",
    ]
    code = model.files["net.c"]
    calls = re.findall(r"^    (net_layer_\w+)\(bytes\);", code, re.M)
    assert calls == [layer.symbol for layer in model.layers if layer.symbol]
    assert all(f"NET_APART void {symbol}(int8_t *arena)" in code for symbol in calls)


def test_the_header_tells_sizes_and_grids() -> None:
    header = of_small_network().files["net.h"]

    for line in (
        "#define NET_INPUT_SIZE 90",
        "#define NET_INPUT_SHAPE {1, 6, 5, 3}",
        "#define NET_INPUT_SCALE 5.0e-01f",
        "#define NET_INPUT_ZERO_POINT (-3)",
        "#define NET_OUTPUT_BYTES 3",
        "int8_t *net_input(void);",
        "const int8_t *net_output(void);",
        "void net_run(void);",
        "This code is yours",
    ):
        assert line in header


def test_flash_is_told_by_what_it_is_for() -> None:
    layer = of_small_network().layers[0]

    assert dict(layer.flash) == {"weights": 108, "biases": 16, "requantization": 32}
    assert layer.macs == 6 * 5 * 4 * 27


def test_equal_programs_give_equal_files() -> None:
    assert of_small_network().files == of_small_network().files


def test_the_caller_can_bring_the_arena(tmp_path: Path) -> None:
    model = of_small_network(Options(reentrant=True))
    header, code = model.files["net.h"], model.files["net.c"]

    assert "void net_run(void *arena);" in header
    assert "int8_t *net_input(void *arena);" in header
    assert "static union" not in code
    assert not re.search(r"^static (?!const|inline|__attribute__)\w+ \w+;", code, re.M)
    compiled([model], tmp_path)


def test_all_layers_without_a_kernel_are_told() -> None:
    sketch = Sketch()
    x = sketch.input(1, 4)
    grid = QuantParams((1 / 128,), (0,))
    y, z = (sketch.value(1, 4, grid=grid, name=name) for name in ("one", "two"))
    sketch.op("TANH", [x], [y])
    sketch.op("TANH", [y], [z])
    program = parse_program(sketch.data(z), "net")

    with pytest.raises(UnsupportedError) as caught:
        generate(program, Core("nothing", ("mve",)))

    assert [d.where for d in caught.value.diagnostics] == ["one", "two"]


def test_a_tier_has_to_be_one_of_the_core() -> None:
    program = parse_program(small_network(), "net")

    with pytest.raises(UnsupportedError, match="does not run dsp kernels"):
        generate(program, ANY_CORE, tier="dsp")
