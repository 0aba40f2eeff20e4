"""Models measured on emulated cores: outputs, counts, memory, and whether they fit boards."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("unicorn", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")
pytest.importorskip("tflite_micro", reason="of the extra mcu")

from edgec.errors import InternalError, NumericsError, OptionError
from edgec.ir import DType
from edgec.program import Program
from edgec.program.reading import parse_program, read_program
from edgec.targets.microcontroller.boards import load_board
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.fit import Fit, _smaller_flash, _smaller_ram, fit
from edgec.targets.microcontroller.emulation.inputs import random_inputs, stored_inputs
from edgec.targets.microcontroller.emulation.measure import Settings, _flash, measure
from edgec.targets.microcontroller.emulation.measurement import (
    Flash,
    Measurement,
    Ram,
    estimate,
)
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.oracle import oracle_runs
from edgec.targets.microcontroller.emulation.selftest import run_selftest
from edgec.targets.microcontroller.emulation.toolchain import Build, compiler
from edgec.targets.microcontroller.generate import Generated, Options, generate
from edgec.targets.microcontroller.memory import Plan
from edgec.targets.microcontroller.selftest import Golden
from edgec.targets.microcontroller.timeline import picture
from tests.program.files import FILES, MODELS, Sketch
from tests.targets.emulation.networks import float_network, residual_network

DATA = residual_network()
INT8 = [path for path in FILES if path.stem.endswith("_int8")]
CORES = ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"]

needs_data = pytest.mark.skipif(not INT8, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")


def program() -> Program:
    return parse_program(DATA, "net")


def measured(core: str = "cortex-m4", level: str = "-O2") -> Measurement:
    return measure(program(), DATA, load_core(core), settings=Settings(level=level))


@cache
def once() -> Measurement:
    return measured()


def compiled(data: bytes, core: str) -> Build:
    generated = generate(parse_program(data, "net"), load_core(core))
    return build_model(generated, load_core(core), compiler())


def emulated(generated: Generated, core: str = "cortex-m4") -> EmulatedModel:
    build = build_model(generated, load_core(core), compiler())
    return EmulatedModel(generated, build, load_core(core))


@pytest.mark.parametrize("core", CORES)
def test_models_equal_the_oracle_on_every_core(core: str) -> None:
    found = measured(core)

    assert found.verification
    assert found.verification.exact
    assert found.verification.inputs == 3
    assert found.core == core


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m7"])
def test_real_numbers_are_the_oracles_with_and_without_a_unit_for_them(core: str) -> None:
    data = float_network()

    found = measure(parse_program(data, "net"), data, load_core(core))

    assert found.verification
    assert found.verification.largest_difference < 1e-5
    adds = "__aeabi_fadd" in compiled(data, core).image.symbols
    assert adds == (core == "cortex-m0")


def test_the_parts_add_up() -> None:
    found = once()

    assert [layer.operator for layer in found.layers] == [
        "CONV_2D", "CONV_2D", "ADD", "RESHAPE", "FULLY_CONNECTED",
    ]  # fmt: skip
    layers = [layer.instructions for layer in found.layers]
    assert sum(layers) + found.outside == found.instructions
    assert layers[3] == 0 < min(layers[:3])
    assert 0 < found.outside < 40
    assert found.macs == 36 * 8 * 36 + 36 * 8 * 8 + 3 * 288
    assert found.loaded_words is not None
    assert found.loaded_words > found.macs / 4
    plain = 8 * 36 + 8 * 8 + 3 * 288
    assert plain <= found.flash.weights <= 2 * plain
    assert found.flash.biases >= 4 * 19
    assert found.flash.code > 200
    assert found.flash.other >= 0
    assert 288 * 2 <= found.ram.arena < 2000
    assert 0 < found.ram.stack < 1000
    assert found.latency is None


def test_another_build_and_run_gives_the_same_numbers() -> None:
    first = once().to_dict()

    assert measured().to_dict() == first


def test_the_record_says_what_the_numbers_hold_for() -> None:
    record = measured(level="-Os").to_dict()

    assert "zig" in record["compiler"]["name"]
    assert "-Os" in record["compiler"]["flags"]
    assert record["emulator"].startswith("Unicorn 2")
    assert record["instructions"] != once().instructions
    assert record["flash"]["total"] == sum(
        record["flash"][k] for k in ("weights", "biases", "requantization", "code", "other")
    )
    assert record["ram"]["total"] == sum(record["ram"][k] for k in ("arena", "other", "stack"))


def test_other_outputs_than_the_oracle_s_are_an_error() -> None:
    right = program()
    tensors = tuple(
        dataclasses.replace(t, data=np.array([5, 600, 7], np.int32))
        if t.data is not None and t.data.tolist() == [5, 6, 7]
        else t
        for t in right.tensors
    )

    with pytest.raises(NumericsError, match="not compute what TFLite Micro computes") as caught:
        measure(dataclasses.replace(right, tensors=tensors), DATA, load_core("cortex-m4"))

    assert "Of 3 numbers 1 differ" in str(caught.value)


def test_the_self_test_runs_as_on_a_board() -> None:
    generated = generate(program(), load_core("cortex-m0"))
    samples = random_inputs([place.tensor for place in generated.inputs], 1)
    (run,) = oracle_runs(DATA, samples)
    right = Golden(tuple(samples[0]), run.outputs)
    wrong = Golden(tuple(samples[0]), tuple(np.roll(y, 1) for y in run.outputs))

    assert run_selftest(generated, right, load_core("cortex-m0"), compiler()) == 0
    assert run_selftest(generated, wrong, load_core("cortex-m0"), compiler()) == 1


# ---- dead memory


def test_what_is_dead_is_not_read() -> None:
    generated = generate(program(), load_core("cortex-m4"))
    model = emulated(generated)

    for sample in random_inputs([place.tensor for place in generated.inputs]):
        want = model.run(sample)
        got = model.run_poisoned(sample)
        assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))


def test_a_plan_that_lets_go_too_early_shows() -> None:
    generated = generate(program(), load_core("cortex-m4"), options=Options(overlap=False))
    arena = generated.arena
    forgetful = tuple(
        dataclasses.replace(b, last=b.first) if b.first == 1 else b for b in arena.buffers
    )
    broken = dataclasses.replace(generated, arena=dataclasses.replace(arena, buffers=forgetful))
    sample = random_inputs([place.tensor for place in generated.inputs], 1)[0]

    want = emulated(generated).run(sample)
    got = emulated(broken).run_poisoned(sample)

    assert not np.array_equal(want[0], got[0])


@needs_data
@pytest.mark.parametrize("path", INT8, ids=lambda path: path.stem)
def test_real_models_run_on_an_emulated_core(path: Path) -> None:
    model = read_program(path)
    generated = generate(model, load_core("cortex-m4"))
    running = emulated(generated)
    samples = random_inputs([place.tensor for place in generated.inputs])
    expected = oracle_runs(path.read_bytes(), samples, keep_state=True)

    found = [running.run(sample) for sample in samples]

    for want, got in zip(expected, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(want.outputs, got, strict=True))
    if not model.variables:
        got = running.run_poisoned(samples[0])
        assert all(np.array_equal(a, b) for a, b in zip(found[0], got, strict=True))


# ---- inputs


def test_inputs_of_the_wrong_kind_are_told() -> None:
    model = emulated(generate(program(), load_core("cortex-m4")))

    with pytest.raises(OptionError, match="has 2 inputs, not 1"):
        model.run([np.zeros((1, 6, 6, 4), np.int8)])
    with pytest.raises(OptionError, match=r"other takes 288 numbers of int8, not 288 of float"):
        model.run([np.zeros((1, 6, 6, 4), np.int8), np.zeros((1, 6, 6, 8))])


def test_inputs_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    tensors = [program().tensors[k] for k in program().inputs]
    image = np.arange(2 * 144, dtype=np.float32).reshape(2, 6, 6, 4) * 0.5 - 30
    np.savez(path, image=image, other=np.ones((2, 6, 6, 8), np.int8))

    first, second = stored_inputs(path, tensors)

    want = np.clip(np.arange(144) - 60 - 3, -128, 127).reshape(1, 6, 6, 4)
    assert np.array_equal(first[0], want)
    assert second[0].dtype == np.int8
    assert second[1].shape == (1, 6, 6, 8)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_no_integer(wrong: float, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    tensors = [program().tensors[k] for k in program().inputs]
    image = np.full((1, 6, 6, 4), wrong, np.float32)
    np.savez(path, image=image, other=np.ones((1, 6, 6, 8), np.int8))
    with pytest.raises(OptionError, match="fed to image has NaN or infinities"):
        stored_inputs(path, tensors)


def test_inputs_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    tensors = [program().tensors[k] for k in program().inputs]
    np.savez(path, image=np.ones((1, 6, 6, 4), np.int8), o=np.ones(3))
    with pytest.raises(
        OptionError, match=r"other: It takes int8\[1, 6, 6, 8\]; there is image"
    ):
        stored_inputs(path, tensors)
    np.savez(path, image=np.ones((1, 6, 6, 4), np.int8), other=np.ones((2, 6, 6, 8), np.int8))
    with pytest.raises(OptionError, match=r"different numbers: \[1, 2\]"):
        stored_inputs(path, tensors)
    path.write_bytes(b"no zip")
    with pytest.raises(OptionError, match="cannot read the inputs"):
        stored_inputs(path, tensors)


# ---- boards


def test_a_board_gives_an_estimate_with_its_band() -> None:
    late = estimate(1_200_000, load_board("nucleo-l4r5zi"))

    assert (late.low_ms, late.typical_ms, late.high_ms) == (13.6, 15.6, 17.7)
    assert "MLPerf" in late.basis


def sized(flash: int, ram: int) -> Measurement:
    return dataclasses.replace(once(), flash=Flash(flash, 0, 0, 4000, 0), ram=Ram(ram, 0, 100))


def test_what_fits_has_something_left() -> None:
    board = load_board("nucleo-l4r5zi")

    found = fit(program(), DATA, board, once(), Settings())

    assert found.fits
    assert found.flash_left == board.flash_bytes - once().flash.total
    assert found.ram_left == board.ram_bytes - once().ram.total
    assert not found.attempts
    assert not found.advice


def test_what_does_not_fit_is_tried_in_other_ways() -> None:
    board = load_board("nucleo-f446re")
    settings = Settings(options=Options(overlap=False))

    found = fit(program(), DATA, board, sized(600_000, 200_000), settings)

    assert not found.fits
    assert found.flash_left == 512 * 1024 - 604_000
    assert [a.how.split()[0] for a in found.attempts] == ["results", "optimised", "portable"]
    assert all(a.fits for a in found.attempts)  # they are of the small model itself
    assert "would have to shrink by 13.3 %" in found.advice[0]
    assert "Tensors take 200,000 bytes" in found.advice[1]
    assert found.boards[0] == "arduino-nano-33-ble"


def test_advice_goes_with_what_lacks() -> None:
    board = load_board("nucleo-f446re")
    large = Program(
        "large",
        tuple(
            dataclasses.replace(t, shape=(1, 96, 96, 3)) if k == 0 else t
            for k, t in enumerate(program().tensors)
        ),
        program().steps,
        (0,),
        program().outputs,
    )

    def advice(flash: int, ram: int, code: int = 0, stack: int = 0) -> str:
        found = dataclasses.replace(
            once(), flash=Flash(flash, 0, 0, code, 0), ram=Ram(ram, 0, stack)
        )
        fits = Fit(
            board.name,
            fits=False,
            flash_bytes=flash,
            ram_bytes=ram,
            flash_left=board.flash_bytes - found.flash.total,
            ram_left=board.ram_bytes - found.ram.total,
        )
        return " ".join([*_smaller_flash(found, fits), *_smaller_ram(large, found, fits)])

    assert advice(100, 100) == ""
    assert "48x48 pixels instead of 96x96" in advice(100, 4 * 131_072 - 400)
    assert "Even without any weights" in advice(100, 100, code=600_000)
    assert "Even without any tensors" in advice(100, 100, stack=140_000)


def test_constants_that_are_missing_are_an_error() -> None:
    generated = generate(program(), load_core("cortex-m4"))
    build = build_model(generated, load_core("cortex-m4"), compiler())
    image = dataclasses.replace(build.image, sections={".text": 1, ".rodata": 1})

    with pytest.raises(InternalError, match="missing"):
        _flash(generated, dataclasses.replace(build, image=image))


def test_inputs_lie_where_the_plan_says() -> None:
    generated = generate(program(), load_core("cortex-m4"))
    moved = tuple(dataclasses.replace(p, offset=p.offset + 8) for p in generated.inputs)

    with pytest.raises(InternalError, match="inputs of net do not lie"):
        emulated(dataclasses.replace(generated, inputs=moved))


def test_plans_have_bounds() -> None:
    assert isinstance(generate(program(), load_core("cortex-m4")).arena.plan, Plan)
    assert once().arena.bound <= once().arena.size <= once().ram.arena


def test_the_arena_over_time_has_the_users_names() -> None:
    found = once().arena

    assert [fill.layer for fill in found.layers] == [layer.name for layer in once().layers]
    assert max(fill.top for fill in found.layers) <= found.size
    tensors = {o.name: o for o in found.occupants if not o.is_scratch}
    assert set(tensors) == {
        "image",
        "other",
        "net/first",
        "net/second",
        "net/sum",
        "net/logits",
    }
    assert (tensors["other"].first, tensors["other"].last) == (0, 2)
    assert tensors["net/logits"].size == 3
    drawn = picture("net", found)
    assert "net/second: 288 bytes from" in drawn
    assert "scratch of net/first" in drawn


def test_what_the_oracle_does_not_run_is_not_compared() -> None:
    s = Sketch()
    x = s.value(2, 4, dtype=DType.BOOL, grid=None)
    s.model.inputs.append(("x", x))
    y = s.value(4, 2, dtype=DType.BOOL, grid=None)
    s.op("TRANSPOSE", [x, s.ints(1, 0)], [y], "Transpose", {})
    data = s.data(y)

    found = measure(parse_program(data, "net"), data, load_core("cortex-m4"))

    assert found.verification is None
    assert found.to_dict()["not_compared"] == "TFLite Micro does not run it"
    assert found.instructions > 0
