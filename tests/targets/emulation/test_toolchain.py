"""What starts compilers, and what becomes of those that do not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")

from edgec.errors import OptionError, UnsupportedError
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation import toolchain
from edgec.targets.microcontroller.emulation.model import build_model
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.generate import generate
from edgec.targets.microcontroller.names import identifier
from tests.targets.emulation.test_oracle import memory

M4 = load_core("cortex-m4")


@pytest.fixture
def asked_again() -> Iterator[None]:
    """Compilers are asked for their version again, in the test and after it."""
    compiler.cache_clear()
    yield
    compiler.cache_clear()


@pytest.mark.usefixtures("asked_again")
def test_files_of_the_current_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ziglang.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a relative one would mean this folder
    monkeypatch.chdir(tmp_path)

    assert compiler().version.startswith("zig ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("asked_again")
def test_a_compiler_that_cannot_keep_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/dev/null/cache")

    with pytest.raises(OptionError, match="does not start") as caught:
        compiler()

    first, *_, last = caught.value.diagnostics
    assert "cache" in first.message
    assert "set ZIG_GLOBAL_CACHE_DIR" in last.message


@pytest.mark.usefixtures("asked_again")
def test_a_compiler_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_SECONDS", 0.001)

    with pytest.raises(UnsupportedError, match="more than"):
        compiler()


@pytest.mark.parametrize("name", ["edgec", "edgec_main", "edgec_startup", "stdint"])
def test_models_may_have_any_name(name: str) -> None:
    generated = generate(parse_program(memory(), name), M4)

    build = build_model(generated, M4, compiler())

    assert f"{generated.prefix}_run" in build.image.symbols


def test_names_of_headers_are_taken() -> None:
    names = ["string", "Math", "stdlib", "edgec"]

    assert [identifier(name) for name in names] == [f"{name}_model" for name in names]
