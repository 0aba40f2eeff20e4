from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

import edgec as package
from edgec.cli import main
from edgec.errors import Diagnostic, InternalError, ModelError, NumericsError, OptionError

Run = Callable[..., Result]

ROOT = Path(package.__file__).parent.parent

HELP = """\
Usage: edgec [OPTIONS] COMMAND [ARGS]...

  Compile ONNX models for small devices.

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
  compile      Compile MODEL, an ONNX file, for one or more targets.
  calibrate    Say what samples show of MODEL, and whether they look right.
  sensitivity  Say what making MODEL smaller would cost, layer by layer.
  debug        Say which layers of MODEL quantization hurts.
  inspect      Say what is in MODEL, an ONNX or TFLite file.
  check        Say what a target or its delegates do not take of MODEL.
  diff         Say how two models differ: A and B are ONNX or TFLite files.
  profile      Measure FILE, a .onnx or .tflite file, on this machine.
  gate         Hold REPORT, a report.json, against budgets.
  demo         Compile the model that ships with edgec.
  targets      List what models can be compiled for.
  passes       List the rewrites of models, and what each promises.
  operators    List ONNX operators, and what each target makes of them.

  First steps:
    edgec demo
    edgec inspect model.onnx
    edgec compile model.onnx -t tflite -o out

  Exit codes:
    0   good
    1   the tool or the model failed
    2   wrong usage, or calibration data that do not fit
    3   the gate failed
    4   inconclusive: the gate misses a number
    5   the target does not support the model, or a goal is out of reach
    6   an artifact does not compute what the model computes
    70  a fault of edgec, with a dump that reproduces it
"""

COMMANDS = (
    "compile",
    "calibrate",
    "sensitivity",
    "debug",
    "inspect",
    "profile",
    "gate",
    "demo",
    "targets",
    "passes",
)

# What each command line may load: nothing that takes a while.
HEAVY = ("numpy", "onnx", "onnxruntime", "ai_edge_litert", "scipy", "rich", "PIL")

CHECK = f"""
import sys
import edgec
from edgec.cli import main
try:
    main(sys.argv[1:], prog_name="edgec")
except SystemExit as end:
    assert end.code == 0, end.code
print(sorted(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)
"""


def python(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )


def test_help_is_as_it_was(edgec: Run) -> None:
    result = edgec("--help")

    assert result.output == HELP
    assert result.exit_code == 0


def test_version(edgec: Run) -> None:
    assert edgec("--version").output == f"edgec {package.__version__}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy(command: str) -> None:
    done = python("-c", CHECK, *([command] if command else []), "--help")

    assert done.stderr == "[]\n"
    assert "Usage: edgec" in done.stdout


def test_help_is_fast() -> None:
    script = "import resource,subprocess,sys;"
    script += (
        "subprocess.run([sys.executable,'-m','edgec','--help'],stdout=subprocess.DEVNULL);"
    )
    script += "u=resource.getrusage(resource.RUSAGE_CHILDREN);print(u.ru_utime+u.ru_stime)"
    seconds = min(float(python("-c", script).stdout) for _ in range(3))

    assert seconds < 0.2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    found = main.get_command(click.Context(main), command)
    assert found is not None

    options = [p for p in found.params if isinstance(p, click.Option)]

    assert [o.name for o in options if not o.help] == []


def test_runs_as_a_module() -> None:
    done = python("-m", "edgec", "--version")

    assert done.stdout == f"edgec {package.__version__}\n"


def test_an_unknown_command_is_wrong_usage(edgec: Run) -> None:
    result = edgec("compil")

    assert result.exit_code == 2
    assert "No such command 'compil'" in result.stderr


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch, edgec: Run) -> Run:
    """Run a command that raises what the test wants."""

    def run(error: BaseException, *args: str) -> Result:
        @click.command("passes")
        @click.option("--json", "as_json", is_flag=True)
        def command(as_json: bool) -> None:
            raise error

        monkeypatch.setattr("edgec.cli.passes.command", command)
        return edgec("passes", *args)

    return run


def test_an_error_is_a_message_and_an_exit_code(raising: Run) -> None:
    problems = [
        Diagnostic("has NaN in it", "conv1", "train it again"),
        Diagnostic("is empty", "conv2"),
        Diagnostic("two layers are concerned"),
    ]

    result = raising(ModelError("net.onnx has bad weights", problems))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: net.onnx has bad weights\n"
        "  conv1: has NaN in it\n"
        "    hint: train it again\n"
        "  conv2: is empty\n"
        "  two layers are concerned\n"
    )


@pytest.mark.parametrize(("error", "code"), [(OptionError("no"), 2), (NumericsError("no"), 6)])
def test_each_error_has_its_exit_code(raising: Run, error: Exception, code: int) -> None:
    assert raising(error).exit_code == code


def test_an_error_is_json_on_request(raising: Run) -> None:
    result = raising(NumericsError("broken", [Diagnostic("m", "w", "h")]), "--json")

    assert json.loads(result.stdout) == {
        "error": {
            "summary": "broken",
            "diagnostics": [{"where": "w", "message": "m", "hint": "h"}],
            "exit_code": 6,
        }
    }
    assert result.stderr == "error: broken\n  w: m\n    hint: h\n"


def test_wrong_usage_is_json_on_request(edgec: Run) -> None:
    result = edgec("inspect", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": {
            "summary": "Missing argument 'MODEL'.",
            "diagnostics": [],
            "exit_code": 2,
        }
    }


def dump_of(folder: Path) -> Path:
    (found,) = folder.glob("edgec-dump-*")
    return found


def test_a_fault_leaves_a_dump(raising: Run, tmp_path: Path) -> None:
    error = InternalError(
        "pass 'x' broke the graph", [Diagnostic("is dead", "%y")], {"before.onnx": b"model"}
    )

    result = raising(error)

    dump = dump_of(tmp_path)
    assert result.exit_code == 70
    assert result.stderr == (
        "error: edgec has a fault: pass 'x' broke the graph\n"
        "  %y: is dead\n"
        f"  {dump.name} holds what reproduces it. Please report the fault with this folder;\n"
        "  it may hold parts of your model.\n"
    )
    names = {"before.onnx", "command.txt", "traceback.txt", "versions.txt"}
    assert {p.name for p in dump.iterdir()} == names
    assert (dump / "before.onnx").read_bytes() == b"model"
    assert (dump / "command.txt").read_text() == "edgec passes\n"
    assert "InternalError: pass 'x' broke the graph" in (dump / "traceback.txt").read_text()
    assert f"edgec {package.__version__}\n" in (dump / "versions.txt").read_text()
    assert len(dump.name) == len("edgec-dump-") + 8


@pytest.mark.parametrize("error", [KeyError("x"), OSError("x"), RecursionError("x")])
def test_anything_else_is_a_fault_too(raising: Run, tmp_path: Path, error: Exception) -> None:
    result = raising(error, "--json")

    dump = dump_of(tmp_path)
    assert result.exit_code == 70
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: edgec has a fault: {type(error).__name__}: ")
    assert json.loads(result.stdout)["error"]["exit_code"] == 70
    assert json.loads(result.stdout)["error"]["dump"] == dump.name
    assert "Traceback" in (dump / "traceback.txt").read_text()


def test_a_file_that_ends_early_is_no_interruption(raising: Run) -> None:
    result = raising(EOFError("no data left"))

    assert result.exit_code == 70
    assert "error: edgec has a fault: EOFError: no data left" in result.stderr


def test_the_dump_goes_elsewhere_if_it_must(
    raising: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = Path.mkdir

    def mkdir(self: Path) -> None:
        if not self.is_absolute():
            raise PermissionError("read-only")
        real(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))

    result = raising(ValueError("x"))

    assert f"  {dump_of(elsewhere)} holds what reproduces it." in result.stderr


def test_without_any_place_the_dump_is_printed(
    raising: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(self: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "mkdir", mkdir)

    result = raising(ValueError("x"))

    assert result.exit_code == 70
    assert "The dump could not be written anywhere. What it would hold:" in result.stderr
    assert "ValueError: x" in result.stderr


def test_an_interruption_is_quiet(raising: Run, tmp_path: Path) -> None:
    result = raising(KeyboardInterrupt())

    assert result.exit_code == 130
    assert result.stderr.strip() == "interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "x.npz"), "x.npz: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_is_wrong_with_the_machine_is_no_fault(
    raising: Run, tmp_path: Path, error: OSError, message: str
) -> None:
    result = raising(error, "--json")

    assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")
    assert json.loads(result.stdout)["error"]["summary"] == message
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_no_fault(edgec: Run) -> None:
    result = edgec("compile", "n" * 300, "-t", "tflite", "-o", "out")

    assert (result.exit_code, result.stderr) == (1, f"error: {'n' * 300}: File name too long\n")


def test_too_little_memory_is_said(raising: Run) -> None:
    result = raising(MemoryError())

    assert result.exit_code == 1
    assert result.stderr == (
        "error: there is not enough memory for this model\n"
        "  close other programs, or use a machine with more memory\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "edgec", "gate", "--list"],
        ["-m", "edgec", "gate", "--list", "--json"],
        # What a metric of the user's prints stays in Python's buffer until the end.
        ["-c", "from edgec.cli.boundary import guarded; guarded(lambda *a, **k: print(1), [])"],
    ],
)
def test_a_reader_that_leaves_is_no_error(tmp_path: Path, args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, *args]

    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, env=env, cwd=tmp_path, check=False
        )

    assert (done.returncode, done.stderr) == (1, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_lacks_a_sign_is_no_error() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    script = "from edgec.cli.boundary import guarded;"
    script += "guarded(lambda *a, **k: print('25 \\u2192 18'), [])"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "25 ? 18\n", "")


@pytest.mark.parametrize("own", [None, "3"])
def test_a_process_starts_lean(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", own or "2")
    if own is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        with pytest.raises(SystemExit):
            main(["targets"], prog_name="edgec")
        assert os.environ["OPENBLAS_NUM_THREADS"] == (own or "1")
        assert gc.get_threshold()[0] > 700
    finally:
        gc.set_threshold(*before)
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
