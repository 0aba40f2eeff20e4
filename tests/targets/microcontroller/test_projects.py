"""Folders for build systems, and the self-test in them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import OptionError
from edgec.ir import Array
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.forms import FOLDERS, Folder
from edgec.targets.microcontroller.generate import Generated, Options, generate
from edgec.targets.microcontroller.projects import project
from edgec.targets.microcontroller.selftest import Golden
from tests.targets.microcontroller.host import ANY_CORE, FLAGS, expected, zig
from tests.targets.microcontroller.operator_files import FAMILIES, REAL_FAMILY, feeds

CONV, LSTM, SPLIT = FAMILIES["conv"][0], FAMILIES["recurrent"][3], FAMILIES["moves"][8]


def model(data: bytes, *, reentrant: bool = False) -> Generated:
    options = Options(name="net", reentrant=reentrant)
    return generate(parse_program(data, "net"), ANY_CORE, options=options)


def golden(data: bytes) -> Golden:
    program = parse_program(data, "net")
    inputs = feeds(program, 0)
    (outputs,) = expected(data, [inputs], len(program.outputs))
    return Golden(tuple(inputs), tuple(outputs))


def write(files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def built(folder: Path, name: str = "selftest.so") -> ctypes.CDLL:
    """Build a library instead of a program: that takes no libc."""
    sources = sorted(str(path) for path in folder.glob("*.c"))
    zig("cc", *FLAGS, "-shared", "-fPIC", "-o", str(folder / name), *sources)
    return ctypes.CDLL(str(folder / name))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "data", [CONV, LSTM, SPLIT, REAL_FAMILY[0]], ids=["conv", "lstm", "split", "real"]
)
def test_the_self_test_passes(data: bytes, reentrant: bool, tmp_path: Path) -> None:
    files = project(model(data, reentrant=reentrant), ANY_CORE, golden=golden(data))
    write(files, tmp_path)

    assert built(tmp_path).main() == 0


def test_the_self_test_tells_what_is_wrong(tmp_path: Path) -> None:
    right = golden(CONV)
    outputs = right.outputs[0].copy()
    outputs.reshape(-1)[:3] ^= 1
    write(project(model(CONV), ANY_CORE, golden=Golden(right.inputs, (outputs,))), tmp_path)
    hook = "#include <stdint.h>\nvoid net_selftest_done(int32_t wrong);\nint32_t told;\n"
    hook += "void net_selftest_done(int32_t wrong)\n{\n    told = wrong;\n}\n"

    assert built(tmp_path).main() == 1
    (tmp_path / "hook.c").write_text(hook)
    library = built(tmp_path, "other.so")
    assert library.main() == 1
    assert ctypes.c_int32.in_dll(library, "told").value == 3


def test_the_self_test_compiles_as_cpp_too(tmp_path: Path) -> None:
    write(project(model(CONV), ANY_CORE, golden=golden(CONV)), tmp_path)

    zig(
        "c++",
        "-x",
        "c++",
        *FLAGS[1:],
        "-c",
        str(tmp_path / "main.c"),
        "-o",
        str(tmp_path / "o"),
    )


def test_the_makefile_builds_and_tests(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    pytest.importorskip("ziglang", reason="zig compiles the generated code; install edgec[mcu]")
    write(project(model(CONV), ANY_CORE, golden=golden(CONV)), tmp_path)
    tools = [f"CC={sys.executable} -m ziglang cc", f"AR={sys.executable} -m ziglang ar"]

    subprocess.run(["make", *tools, "selftest"], cwd=tmp_path, check=True, capture_output=True)

    assert subprocess.run([tmp_path / "selftest"], check=False).returncode == 0
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert not (tmp_path / "libnet.a").exists()


def test_a_golden_run_has_to_be_of_the_model() -> None:
    right = golden(CONV)
    other: Array = np.zeros(3, np.int8)

    with pytest.raises(OptionError, match="golden inputs"):
        project(model(CONV), ANY_CORE, golden=Golden((other,), right.outputs))
    with pytest.raises(OptionError, match="golden outputs"):
        project(model(CONV), ANY_CORE, golden=Golden(right.inputs, (other,)))


FILES = {
    "plain": {"net.h", "net.c", "net_weights.c", "Makefile", "CMakeLists.txt"},
    "arduino": {"src/net.h", "src/net.c", "src/net_weights.c", "library.properties"},
    "zephyr": {
        "src/net.h",
        "src/net.c",
        "src/net_weights.c",
        "zephyr/module.yml",
        "zephyr/Kconfig",
        "zephyr/CMakeLists.txt",
    },
}
TEST_FILES = {
    "plain": {"main.c", "net_golden.h"},
    "arduino": {"examples/selftest/selftest.ino", "examples/selftest/net_golden.h"},
    "zephyr": {
        "samples/selftest/CMakeLists.txt",
        "samples/selftest/prj.conf",
        "samples/selftest/src/main.c",
        "samples/selftest/src/net_golden.h",
    },
}


@pytest.mark.parametrize("form", FOLDERS)
def test_folders_have_the_form_that_build_systems_expect(form: Folder) -> None:
    generated = model(CONV)

    assert set(project(generated, ANY_CORE, form)) == FILES[form]
    assert (
        set(project(generated, ANY_CORE, form, golden(CONV))) == FILES[form] | TEST_FILES[form]
    )


def test_nothing_of_a_test_is_built_where_there_is_none() -> None:
    files = project(model(CONV), ANY_CORE)

    assert "selftest" not in files["Makefile"] + files["CMakeLists.txt"]
