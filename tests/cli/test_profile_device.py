from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("unicorn", reason="of the extra mcu")
pytest.importorskip("tflite_micro", reason="of the extra mcu")

from edgec.cli import emulation
from edgec.demo import MODEL
from edgec.targets.microcontroller.boards import Board, load_board
from edgec.targets.microcontroller.emulation.toolchain import compiler
from tests.targets.emulation.networks import constant_network, residual_network

Run = Callable[..., Result]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(residual_network())
    return path


def test_measures_on_an_emulated_core(edgec: Run, network: Path) -> None:
    result = edgec("profile", str(network), "--device", "cortex-m4")

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == ["instructions", "loaded", "words", "flash", "RAM", "stack"]
    assert lines[1].startswith("net on cortex-m4  ")
    assert any(line.startswith("net/first ") and " CONV_2D " in line for line in lines)
    assert "every output bit equals that of tflite-micro" in result.stdout
    assert "estimate" not in result.stdout


def test_prints_instructions_as_json(edgec: Run, network: Path) -> None:
    capitals = network.rename(network.with_suffix(".TFLITE"))
    result = edgec("profile", str(capitals), "--device", "cortex-m4", "--json")

    found = json.loads(result.stdout)
    assert found["instructions"] > 10_000
    assert found["device"] == "cortex-m4"
    assert found["verification"]["exact"]
    assert found["latency_estimate"] is None
    assert "fit" not in found
    assert result.stderr == ""


def test_a_board_implies_its_core_and_gives_an_estimate(edgec: Run, network: Path) -> None:
    result = edgec("profile", str(network), "--fit", "microbit-v1", "--tier", "portable")

    assert result.exit_code == 0
    assert "net on cortex-m0 " in result.stdout
    assert "an estimate for microbit-v1 at 16 MHz, not measured" in result.stdout
    assert "\nfits BBC micro:bit v1 (microbit-v1)\n" in result.stdout
    as_json = edgec("profile", str(network), "--fit", "microbit-v1", "--json")
    assert json.loads(as_json.stdout)["fit"]["fits"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_does_not_fit_is_printed_and_fails(
    edgec: Run, network: Path, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(name: str) -> Board:
        return replace(load_board(name), ram_bytes=100)

    monkeypatch.setattr(emulation, "load_board", small)

    result = edgec("profile", str(network), "--fit", "microbit-v1", *form)

    assert result.exit_code == 5
    if form:
        assert not json.loads(result.stdout)["fit"]["fits"]
        return
    assert "net on cortex-m0 " in result.stdout
    assert "the model does not fit microbit-v1" in result.stderr
    assert "bytes of RAM more than there are" in result.stderr
    assert "flash more" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cortex-a53"], "No core is called 'cortex-a53'"),
        (["--board", "arduino"], "No board is called 'arduino'"),
        (
            ["--device", "cortex-m4", "--board", "microbit-v1"],
            "has a cortex-m0, not a cortex-m4",
        ),
        (["--board", "microbit-v1", "--fit", "microbit-v2"], "name two boards"),
        (["--device", "cortex-m55"], "qemu-system-arm is not installed"),
        (["--device", "cortex-m4", "--inputs", "gone.npz"], "cannot read the inputs gone.npz"),
        (["--device", "cortex-m4", "--compiler", "gcc"], "gcc-arm-none-eabi"),
    ],
)
def test_what_cannot_be_is_told(
    edgec: Run,
    network: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    compiler.cache_clear()  # other tests may have found compilers

    result = edgec("profile", str(network), *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_what_is_the_same_for_every_input_is_left_out(edgec: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(constant_network())

    less = edgec("profile", str(path), "--device", "cortex-m4")
    whole = edgec("profile", str(path), "--device", "cortex-m4", "--as-is")
    record = json.loads(edgec("profile", str(path), "--device", "cortex-m4", "--json").stdout)

    assert "left out of 2 layers: 512 MACs fewer" in less.stdout
    assert "left out" not in whole.stdout
    assert "every output bit equals" in less.stdout
    assert [c["layer"] for c in record["lossless"]] == ["net/first", "net/second"]
    assert record["macs"] == 512


def test_over_budget_the_record_says_so_in_one_document(edgec: Run, network: Path) -> None:
    result = edgec(
        "profile", str(network), "--device", "cortex-m4", "--max-ram", "100", "--json"
    )

    assert result.exit_code == 5
    found = json.loads(result.stdout)
    assert found["ram"]["total"] > 100
    assert "of --max-ram" in found["error"]["diagnostics"][0]["message"]
    assert "the model does not fit the budget" in result.stderr


def test_draws_the_memory(edgec: Run, network: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "memory.svg"

    result = edgec(
        "profile", str(network), "--device", "cortex-m3", "--memory-svg", str(drawing), "--json"
    )

    assert result.exit_code == 0
    assert "net/second: 288 bytes from" in drawing.read_text()
    assert json.loads(result.stdout)["arena"]["layers"][0]["layer"] == "net/first"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory-svg", "m.svg"], "--memory-svg is about microcontrollers"),
        (["--tier", "dsp"], "--tier is about microcontrollers"),
        (["--as-is"], "--as-is is about microcontrollers"),
        (["--compiler", "zig"], "--compiler is about microcontrollers"),
        (["--opt-level", "Os"], "--opt-level is about microcontrollers"),
        (["--fit", "microbit-v1", "--num-threads", "1"], "--num-threads is about times"),
        (["--device", "cortex-m4", "--num-runs", "3"], "--num-runs is about times"),
        (["--device", "cortex-m4", "--warmup-runs", "3"], "--warmup-runs is about times"),
        (["--device", "cortex-m4", "--min-secs", "3"], "--min-secs is about times"),
        (["--device", "cortex-m4", "--max-secs", "3"], "--max-secs is about times"),
        (
            ["--device", "cortex-m4", "--report", "r.json"],
            "--report is about times of this machine",
        ),
    ],
)
def test_options_of_the_other_way_are_refused(
    edgec: Run, network: Path, arguments: list[str], said: str
) -> None:
    result = edgec("profile", str(network), *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_only_tflite_runs_on_microcontrollers(edgec: Run) -> None:
    result = edgec("profile", str(MODEL), "--device", "cortex-m4")

    assert result.exit_code == 2
    assert "it is no .tflite file" in result.stderr
