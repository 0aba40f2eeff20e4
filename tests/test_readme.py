"""Every command of the README works as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.budgets import TECHNIQUES
from edgec.cli import main
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import EdgecError, InconclusiveError
from edgec.goals import MEASURES
from edgec.options import EFFORTS
from edgec.passes import RECIPES
from edgec.passes.scheme import SCHEME_WORDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


QUANTIZATION = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")


MICROCONTROLLER = (ROOT / "docs" / "microcontroller.md").read_text(encoding="utf-8")


COMPRESSION = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(MODEL, tmp_path / "MODEL.onnx")
    shutil.copy(CALIBRATION, tmp_path / "calib.npz")
    shutil.copy(TEST, tmp_path / "test.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_edgec_commands_succeed_one_after_the_other(folder: Path) -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ ")) for line in lines]

    assert len(commands) >= 8
    for command in commands:
        assert command[0] == "edgec"
        done = CliRunner().invoke(main, command[1:])
        assert done.exit_code == 0, (command, done.stderr)
    for name in ("MODEL.tflite", "MODEL.onnx", "MODEL.golden.npz", "report.json"):
        assert (folder / "OUT" / name).is_file()


@pytest.mark.usefixtures("folder")
def test_commands_about_quantization_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", "")
    lines = [line for block in blocks("console", QUANTIZATION) for line in block.splitlines()]

    assert len(lines) == 3
    for line in lines:
        done = CliRunner().invoke(main, shlex.split(line.removeprefix("$ edgec ")))
        assert done.exit_code == 0, (line, done.output)


@pytest.mark.usefixtures("folder")
def test_commands_about_compression_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", "")
    lines = [line for block in blocks("console", COMPRESSION) for line in block.splitlines()]

    assert len(lines) >= 2
    for line in lines:
        done = CliRunner().invoke(main, shlex.split(line.removeprefix("$ edgec ")))
        assert done.exit_code == 0, (line, done.output)


@pytest.mark.usefixtures("folder")
def test_commands_about_microcontrollers_succeed() -> None:
    for package in ("ziglang", "unicorn", "tflite_micro"):
        pytest.importorskip(package, reason="needs edgec[mcu]")
    lines = [
        line for block in blocks("console", MICROCONTROLLER) for line in block.splitlines()
    ]

    assert len(lines) == 4
    for line in lines:
        done = CliRunner().invoke(main, shlex.split(line.removeprefix("$ edgec ")))
        assert done.exit_code == 0, (line, done.output)


def test_the_page_about_compression_names_what_there_is() -> None:
    for measure in MEASURES:
        assert f"`--target-{measure} " in COMPRESSION, measure
    for technique in TECHNIQUES:
        assert technique.split("-")[0] in COMPRESSION, technique


def test_the_page_about_quantization_names_what_there_is() -> None:
    for name in (*(r.name for r in RECIPES), *EFFORTS, *SCHEME_WORDS):
        assert f"`{name}`" in QUANTIZATION, name


@pytest.mark.usefixtures("folder")
def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})

    accuracy, latency = map(float, capsys.readouterr().out.split())
    assert accuracy > 0.97
    assert latency > 0


def test_set_up_is_two_commands() -> None:
    assert len([line for block in blocks("sh") for line in block.splitlines()]) == 2


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    kinds: list[type[EdgecError]] = [EdgecError, InconclusiveError]
    for kind in kinds:
        kinds += [k for k in kind.__subclasses__() if k not in kinds]

    assert listed == {0, *(kind.exit_code for kind in kinds)}
