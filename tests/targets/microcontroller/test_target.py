"""The target as users have it: from an ONNX model to C that ran on an emulated core."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.cli.problems import problems
from edgec.cli.render_compression import compression_lines
from edgec.cli.render_device import device_lines
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import NumericsError, OptionError, UnsupportedError
from edgec.gate import METRICS
from edgec.goals import bytes_of
from edgec.options import targets_for
from edgec.program.passes import Change
from edgec.targets.microcontroller import target
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation import extra, selftest
from edgec.targets.microcontroller.emulation.toolchain import Compiler
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.selftest import Golden

pytest.importorskip("ziglang", reason="needs edgec[mcu]")
pytest.importorskip("unicorn", reason="needs edgec[mcu]")


def options(**given: object) -> CompileOptions:
    settings = {"recipe": "static_wi8_ai8", "calibration": CALIBRATION, **given}
    return CompileOptions(("microcontroller",), **settings)  # type: ignore[arg-type]


def test_a_model_becomes_c_that_computes_what_it_should_on_the_core(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro", reason="needs edgec[mcu]")
    result = compile_model(MODEL, options(evaluation=TEST))
    names = {"digits.c", "digits.h", "digits_weights.c", "digits.golden.npz", "report.json"}
    assert set(result.files) == names
    assert result.refused is None
    (artifact,) = result.report["artifacts"]
    assert artifact["file"] == "digits.c"
    assert sorted(artifact["beside"]) == ["digits.h", "digits_weights.c"]
    assert artifact["accuracy"] > 0.97
    found = artifact["device"]
    assert found["device"] == "cortex-m4"
    assert found["verification"]["exact"]
    assert found["verification"]["oracle"].startswith("tflite-micro ")
    assert found["verification"]["inputs"] == 8
    assert 0.5 * found["macs"] < found["instructions"] < 2 * found["macs"]
    assert set(result.report["digests"]) == names - {"report.json"}
    result.save(tmp_path)
    assert "digits_run" in (tmp_path / "digits.h").read_text()

    again = compile_model(MODEL, options(evaluation=TEST))
    for name in names - {"report.json"}:
        assert again.files[name] == result.files[name]
    assert again.report["artifacts"] == result.report["artifacts"]

    read = {m.name: m.read(result.report, artifact) for m in METRICS}
    assert read["instructions"] == found["instructions"]
    assert read["ram_bytes"] == found["ram"]["total"]
    assert read["flash_bytes"] == found["flash"]["total"]


def test_a_model_for_cortex_m55_is_proven_in_qemu() -> None:
    pytest.importorskip("tflite_micro", reason="needs edgec[mcu]")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    result = compile_model(MODEL, options(device="cortex-m55", project="plain"))
    (artifact,) = result.report["artifacts"]
    found = artifact["device"]
    assert found["device"] == "cortex-m55"
    assert found["emulator"].startswith("QEMU ")
    assert found["verification"]["exact"]
    assert found["instructions"] < 0.5 * found["macs"]
    assert "vmladava" in result.files["digits.c"].decode()


def test_a_float_model_stays_float() -> None:
    result = compile_model(MODEL, options(recipe=None, calibration=None))
    (artifact,) = result.report["artifacts"]
    assert artifact["fidelity"]["max_relative_error"] < 1e-4
    assert '#include "digits.h"' in result.files["digits.c"].decode()


def test_what_takes_more_than_there_is_is_written_and_refused() -> None:
    result = compile_model(MODEL, options(max_ram="1k", max_flash="64 kB"))
    (artifact,) = result.report["artifacts"]
    taken = artifact["device"]["ram"]["total"]
    assert isinstance(result.refused, UnsupportedError)
    assert result.refused.exit_code == 5
    (problem,) = result.refused.diagnostics
    assert f"takes {taken:,} bytes of RAM, {taken - 1000:,} more than the 1,000" in str(problem)
    assert "digits.c" in result.files
    assert compile_model(MODEL, options(max_ram="64k", max_flash="64k")).refused is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_ram": "much"}, "--max-ram 'much' says nothing"),
        ({"max_ram": "48kib"}, "there is no KiB"),
        ({"max_flash": "0"}, "--max-flash '0' says nothing"),
        ({"max_ram": "1k", "prove": False}, "--no-proof leaves out"),
        ({"device": "cortex-a53"}, "microcontroller has auto, cortex-m0"),
        ({"recipe": "dynamic_wi8_afp32", "calibration": None}, "leaves activations in float"),
        ({"recipe": "static_wi4_ai8"}, "microcontrollers take 8: take static_wi8_ai8"),
        ({"io_dtype": "int8"}, "--io-dtype int8 is about TFLite files"),
        ({"io_layout": "nhwc"}, "--io-layout nhwc is about TFLite files"),
    ],
)
def test_options_that_make_no_sense_are_told(given: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        compile_model(MODEL, options(**given))


def test_what_cannot_be_proven_is_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = CompileOptions(("microcontroller",), device="cortex-m55")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(OptionError, match="code for cortex-m55 cannot be proven") as raised:
        targets_for(settings)
    assert "--no-proof writes it unproven" in str(raised.value.diagnostics[0])
    assert targets_for(replace(settings, prove=False))
    for package in ("ziglang", "unicorn", "elftools"):
        monkeypatch.setattr(
            extra,
            "find_spec",
            lambda name, gone=package: None if name == gone else find_spec(name),
        )
        with pytest.raises(OptionError, match=f"needs the package {package}"):
            targets_for(replace(settings, device="cortex-m4"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("unused", "input z: is read by no layer"),
        ("x", "output y: is the input x as it came in"),
        ("r", "output y: is the same as r"),
        ("c", "output y: is the same for every input"),
    ],
)
def test_an_interface_without_integers_is_told_in_words_of_c(
    more: str, says: str, tmp_path: Path
) -> None:
    def info(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8])

    nodes, inputs, outputs = [onnx.helper.make_node("Relu", ["x"], ["r"])], ["x"], ["r"]
    if more == "unused":
        inputs.append("z")
    else:
        nodes.append(onnx.helper.make_node("Identity", [more], ["y"]))
        outputs.append("y")
    constant = onnx.numpy_helper.from_array(np.ones((1, 8), np.float32), "c")
    graph = onnx.helper.make_graph(
        nodes, "net", [*map(info, inputs)], [*map(info, outputs)], [constant]
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    rng = np.random.default_rng(0)
    samples = {name: rng.standard_normal((16, 8)).astype(np.float32) for name in inputs}
    np.savez(tmp_path / "samples.npz", **samples)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="takes and returns integers") as raised:
        compile_model(path, options(calibration=tmp_path / "samples.npz"))
    (problem,) = raised.value.diagnostics
    assert str(problem).startswith(says)
    assert "remove it from" in problem.hint


def test_the_interface_of_a_tflite_file_beside_is_free() -> None:
    settings = CompileOptions(("tflite", "microcontroller"), io_layout="nhwc")
    assert [made.name for made in targets_for(settings)] == ["tflite", "microcontroller"]


def test_the_report_tells_what_lossless_passes_did(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change("conv", "left out 2 channels", (20, 10), (8, 4))
    monkeypatch.setattr(target, "_without_waste", lambda program, _: (program, (change,), ()))
    result = compile_model(MODEL, options())
    (artifact,) = result.report["artifacts"]
    (told,) = artifact["device"]["lossless"]
    assert told["layer"] == "conv"
    assert told["done"] == "left out 2 channels"


def test_equal_samples_are_compared_once() -> None:
    x = [[np.full(3, k, np.int8)] for k in (1, 2, 1, 2, 3, 4)]

    assert [int(sample[0][0]) for sample in target._distinct(iter(x), 3)] == [1, 2, 3]
    assert len(target._distinct(x[:4], 8)) == 2


def test_the_terminal_says_how_many_samples_were_compared() -> None:
    told = {"oracle": "tflite-micro 1", "inputs": 1, "exact": True, "largest_difference": 0}
    found = {
        "device": "cortex-m4",
        "instructions": 1,
        "ram": {"total": 1, "arena": 1},
        "flash": {"total": 1, "beyond_weights": 1},
        "emulator": "Unicorn",
        "compiler": {"name": "zig"},
        "verification": told,
    }
    *_, line = device_lines({"file": "net.c", "device": found})
    assert line == "  every output bit equals that of tflite-micro 1 on 1 sample"
    told |= {"inputs": 3, "exact": False, "largest_difference": 0.5}
    *_, line = device_lines({"file": "net.c", "device": found})
    assert line == "  within 0.5 of tflite-micro 1 on 3 samples"


def test_a_budget_is_for_microcontrollers() -> None:
    with pytest.raises(OptionError, match="goes with target microcontroller only"):
        compile_model(MODEL, CompileOptions(("tflite",), max_ram="1k"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("48k", 48000),
        ("48 kB", 48000),
        ("1.5M", 1_500_000),
        ("12", 12),
        ("48K", 48000),
        ("48 KB", 48000),
    ],
)
def test_bytes_are_read(text: str, count: int) -> None:
    assert bytes_of("--max-ram", text) == count


@pytest.mark.parametrize(
    ("form", "has"),
    [
        ("plain", {"digits.c", "main.c", "Makefile", "digits_golden.h"}),
        ("arduino", {"src/digits.c", "library.properties"}),
        ("zephyr", {"zephyr/module.yml"}),
        ("tflm", {"digits.c", "tflm/digits_tflm.h"}),
    ],
)
def test_a_project_has_a_self_test_that_passes(
    form: str, has: set[str], tmp_path: Path
) -> None:
    result = compile_model(MODEL, options(project=form))
    assert has <= set(result.files)
    (artifact,) = result.report["artifacts"]
    assert artifact["file"].endswith("digits.c")
    result.save(tmp_path)
    assert all((tmp_path / name).is_file() for name in result.files)


def test_a_self_test_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def damaged(generated: Generated, golden: Golden, core: Core, zig: Compiler) -> int:
        told.append(run(generated, golden, core, zig))
        (right,) = golden.outputs
        return run(generated, replace(golden, outputs=(right ^ np.int8(1),)), core, zig)

    run = selftest.run_selftest
    monkeypatch.setattr(selftest, "run_selftest", damaged)
    with pytest.raises(NumericsError, match="self-test of digits fails on cortex-m4"):
        compile_model(MODEL, options(project="plain"))
    assert told == [0]


def test_a_model_with_less_structure_is_counted_beside_the_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tflite_micro", reason="needs edgec[mcu]")
    goal = options(
        target_macs="0.8x", techniques=("prune-channels",), channel_multiple=4, effort="fast"
    )
    report = compile_model(MODEL, goal).report
    (artifact,) = report["artifacts"]
    told = artifact["compression"]
    assert told["instructions"] == artifact["device"]["instructions"]
    plain = compile_model(MODEL, options(effort="fast")).report["artifacts"][0]["device"]
    assert told["whole_instructions"] == plain["instructions"]
    assert told["instructions"] < 0.95 * told["whole_instructions"]
    count = f"{told['instructions']:,}"
    words = f"x of the instructions that it takes with all of its structure ({count}"
    assert words in "".join(compression_lines(report, artifact))
    assert problems(report) == []
    told["instructions"] = told["whole_instructions"]
    count = f"{told['whole_instructions']:,}"
    assert problems(report) == [
        f"digits.c is no faster than with all of its structure: {count} instructions an "
        f"inference, {count} before."
    ]

    whole, counts = target.Microcontroller.measured, []

    def measured(self: Any, artifact: Any, samples: Any) -> Any:
        counts.append(artifact)
        if len(counts) > 1:
            raise UnsupportedError("it has no room there")
        return whole(self, artifact, samples)

    with monkeypatch.context() as patched:
        patched.setattr(target.Microcontroller, "measured", measured)
        (artifact,) = compile_model(MODEL, goal).report["artifacts"]
    assert "instructions" not in artifact["compression"]
    assert any("cannot be counted: it has no room" in str(d) for d in artifact["diagnostics"])
    untimed = compile_model(MODEL, replace(goal, compare_speed=False)).report
    assert "instructions" not in untimed["artifacts"][0]["compression"]
