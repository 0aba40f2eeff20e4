"""Models packaged for TFLite Micro: sources that compile, and the smallest arena."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.errors import ModelError, NumericsError, UnsupportedError
from edgec.program.reading import read_program
from edgec.targets.microcontroller.emulation.arena import ARENA_STEP, smallest_arena
from edgec.targets.microcontroller.tflm import TflmPackage, package_for_tflm
from tests.program.files import FILES, MODELS, Sketch

pytest.importorskip("tflite_micro", reason="arenas are tried with edgec[mcu]")
needs_data = pytest.mark.skipif(not FILES, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")


def small() -> bytes:
    s = Sketch()
    x, y, z = s.input(1, 5, 5, 3), s.value(1, 5, 5, 4), s.value(1, 5, 5, 4)
    steps = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    s.op("CONV_2D", [x, s.weights(4, 3, 3, 3, axis=0), s.bias(4)], [y], "Conv2D", steps)
    s.op("RELU", [y], [z])
    return s.data(z)


def fits(data: bytes, size: int) -> bool:
    """Whether TFLite Micro runs a file in an arena, in a process of its own."""
    code = (
        "import sys; from tflite_micro.python.tflite_micro import runtime; "
        "i = runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), "
        "arena_size=int(sys.argv[1])); i.invoke()"
    )
    command = [sys.executable, "-c", code, str(size)]
    return subprocess.run(command, input=data, capture_output=True, check=False).returncode == 0


def test_one_step_less_fails() -> None:
    data = small()

    size = smallest_arena(data)

    assert size % ARENA_STEP == 0
    assert fits(data, size)
    assert not fits(data, size - ARENA_STEP)


@needs_data
def test_a_real_arena_is_what_is_known() -> None:
    (path,) = (path for path in FILES if path.stem == "kws_ds_cnn_int8")

    assert smallest_arena(path.read_bytes()) == 24_272


def test_what_no_arena_is_enough_for_is_an_error() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4)
    s.op("SOFTMAX", [x], [y], "Softmax", {"beta": 1.0})  # its result is on another grid

    with pytest.raises(NumericsError, match="in any arena"):
        smallest_arena(s.data(y))


@pytest.fixture(scope="module")
def package() -> TflmPackage:
    return package_for_tflm(small(), "my net-2")


def test_the_array_is_the_file(package: TflmPackage) -> None:
    text = package.files["my_net_2_tflm_model.c"]
    (body,) = re.findall(r"\{\n(.*?)\n\}", text, re.DOTALL)

    assert bytes(map(int, body.replace(",", " ").split())) == small()


_STUB = """\
#include <stdint.h>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
namespace tflite {
template <unsigned int count> struct MicroMutableOpResolver {
  unsigned int used = 0;
  TfLiteStatus Add() { return used++ < count ? kTfLiteOk : kTfLiteError; }
  TfLiteStatus AddConv2D() { return Add(); }
  TfLiteStatus AddRelu() { return Add(); }
};
}  // namespace tflite
"""

_MAIN = """\
#include "my_net_2_tflm.h"
int main() {
  my_net_2_tflm_resolver resolver;
  const bool good = my_net_2_tflm_register(resolver) == kTfLiteOk && resolver.used == 2;
  const bool aligned = reinterpret_cast<uintptr_t>(my_net_2_tflm_model) % 16 == 0;
  return good && aligned && my_net_2_tflm_model_size > 100 ? 0 : 1;
}
"""


def test_the_sources_compile_and_register_every_operator(
    package: TflmPackage, tmp_path: Path
) -> None:
    pytest.importorskip("ziglang", reason="what compiles needs edgec[mcu]")
    for name, text in package.files.items():
        (tmp_path / name).write_text(text)
    stub = tmp_path / "tensorflow" / "lite" / "micro" / "micro_mutable_op_resolver.h"
    stub.parent.mkdir(parents=True)
    stub.write_text(_STUB)
    (tmp_path / "main.cc").write_text(_MAIN)
    zig = [sys.executable, "-m", "ziglang"]
    flags = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-I", "."]

    for command in (
        [*zig, "cc", "-std=c99", *flags, "-c", "my_net_2_tflm_model.c", "-o", "model.o"],
        [*zig, "c++", "-std=c++17", *flags, "-c", "main.cc", "-o", "main.o"],
        [*zig, "cc", "main.o", "model.o", "-o", "main"],
        [str(tmp_path / "main")],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    assert package.operators == ("CONV_2D", "RELU")
    assert f"ARENA_BYTES {package.arena_bytes}\n" in package.files["my_net_2_tflm.h"]


@needs_data
def test_operators_of_real_files_have_methods() -> None:
    pytest.importorskip("ziglang")
    from edgec.targets.microcontroller.tflm import _method

    codes = {s.op.code for path in FILES for s in read_program(path).steps}

    assert {_method(code) for code in codes} == {
        "AddAdd", "AddAveragePool2D", "AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected",
        "AddMean", "AddQuantize", "AddReshape", "AddSoftmax",
    }  # fmt: skip


def test_operators_that_it_has_not_are_told() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4)
    s.op("GELU", [x], [y])

    with pytest.raises(UnsupportedError, match="TFLite Micro does not run") as caught:
        package_for_tflm(s.data(y), "net")
    assert "GELU" in str(caught.value)


def test_other_files_are_refused() -> None:
    with pytest.raises(ModelError, match="is not a TFLite file"):
        package_for_tflm(b"no", "net")
