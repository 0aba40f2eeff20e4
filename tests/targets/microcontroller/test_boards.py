"""Cores and boards, as their data files tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.errors import InternalError, OptionError
from edgec.targets.microcontroller import boards, cores, datafiles
from edgec.targets.microcontroller.boards import board_names, load_board
from edgec.targets.microcontroller.cores import core_names, load_core


@pytest.mark.parametrize("name", core_names())
def test_cores_can_be_loaded(name: str) -> None:
    core = load_core(name)

    assert core.name == name
    assert core.tiers[-1] == "portable"
    assert f"-mcpu={name}" in core.compiler
    assert core.cpi
    assert core.cpi.low <= core.cpi.typical <= core.cpi.high


@pytest.mark.parametrize("name", [n for n in core_names() if "dsp" in load_core(n).tiers])
def test_the_compiler_knows_which_cores_have_dsp(name: str) -> None:
    pytest.importorskip("ziglang", reason="of the extra mcu")
    command = [sys.executable, "-m", "ziglang", "cc", *load_core(name).zig]

    macros = subprocess.run(
        [*command, "-E", "-dM", "-x", "c", "-"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "#define __ARM_FEATURE_DSP 1" in macros
    assert "#define __ARM_FP " in macros


@pytest.mark.parametrize("name", board_names())
def test_boards_can_be_loaded(name: str) -> None:
    board = load_board(name)

    assert board.name == name
    assert board.source
    assert 1024 <= board.ram_bytes < board.flash_bytes or name == "mps3-an547"
    assert 8_000_000 <= board.clock_hz <= 1_000_000_000


def test_a_board_has_its_own_cycles_or_those_of_its_core() -> None:
    assert load_board("nrf5340-dk").cpi.high == 1.38
    assert load_board("nucleo-u575zi-q").cpi == load_core("cortex-m33").cpi


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(OptionError, match=r"nucleo-l4r5zi.*Did you mean nucleo-l4r5zi"):
        load_board("nucleo-l4r5z")
    with pytest.raises(OptionError, match=r"No core is called 'cortex-a53'"):
        load_core("cortex-a53")
    with pytest.raises(OptionError):
        load_core("../cores/cortex-m4")


BOARD = """
name = "b"
title = "B"
core = "cortex-m4"
flash_bytes = 1
ram_bytes = 1
clock_hz = 1
source = "s"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "b"', 'name = "c"', "it is called c"),
        ("flash_bytes = 1", "flash_bytes = 0", "flash_bytes is a whole number above 0"),
        ("ram_bytes = 1", "ram_bytes = true", "ram_bytes is a whole number above 0"),
        ('title = "B"', "title = 1", "title is a text"),
        ('source = "s"', "source", "is no TOML"),
        ('source = "s"', 'source = "s"\n[cpi]\nlow = 2.0\ntypical = 1.0', "in this order"),
        ('source = "s"', 'source = "s"\ncpi = 1', "cpi is a table"),
    ],
)
def test_wrong_files_are_named(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "boards"
    folder.mkdir()
    (tmp_path / "cores").symlink_to(datafiles._DATA / "cores")
    (folder / "b.toml").write_text(BOARD.replace(old, new))
    monkeypatch.setattr(datafiles, "_DATA", tmp_path)

    with pytest.raises(InternalError, match=said):
        boards.load_board.__wrapped__("b")


def test_a_core_has_portable_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cores").mkdir()
    text = 'name = "c"\ntiers = ["dsp"]\ncompiler = []\nzig = []\nemulator = ""\n'
    (tmp_path / "cores" / "c.toml").write_text(text)
    monkeypatch.setattr(datafiles, "_DATA", tmp_path)

    with pytest.raises(InternalError, match="portable among them"):
        cores.load_core.__wrapped__("c")
