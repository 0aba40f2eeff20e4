from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgec.errors import Diagnostic, NumericsError, UnsupportedError
from tests.cli.conftest import FakeCompiler, Options

Run = Callable[..., Result]

EVERYTHING = """
    compile net.onnx -t tflite -t onnxruntime -t tflite --recipe static_wi8_ai8
    --calibration calib.npz --eval test.npz -o out --ranges percentile --percentile 99.9
    --effort fast --recover 100 --scheme per-tensor --no-speed --require-speedup 1.5
    --shape x:0=1,3,32,32 --shape a=b=N,4 --io-dtype int8 --io-layout nhwc
    --keep-float /conv1 --keep-float fc --metric m:f --label-offset 1 --preprocess size=32
    --device arm64 --no-verify --no-proof --max-float-error 0.01 --min-sqnr 12
    --share-weights 16/channel --prune-weights 2:4
"""

LEDGER = """\
pass                    nodes  parameters    MACs  weights       fidelity  seconds
net.onnx                   25      97.4 k  1.23 M   390 kB
fold-batchnorm        25 → 18      97.4 k  1.23 M   390 kB  error 1.2e-07     0.25
eliminate-identities       18      97.4 k  1.23 M   390 kB      unchanged     0.01
tflite: quantize      18 → 60      97.4 k  1.23 M   390 kB        25.1 dB     1.50

artifact      size  of model  operators     SQNR  top-1 agreement                accuracy
net.tflite  105 kB     0.26x         12  25.1 dB           99.0 %  97.5 % (-0.5 to float)
net.onnx    120 kB     0.30x         12  30.5 dB           99.0 %  98.5 % (+0.5 to float)

wrote net.tflite, net.onnx, net.golden.npz, report.json to out
"""


def plain(text: str) -> str:
    """Return the text without the spaces that fill tables up."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@pytest.mark.usefixtures("model")
def test_passes_every_option_on(compiler: FakeCompiler, edgec: Run, tmp_path: Path) -> None:
    (tmp_path / "calib.npz").touch()
    (tmp_path / "test.npz").touch()

    result = edgec(*EVERYTHING.split())

    assert result.exit_code == 0, result.output
    assert compiler.calls == [
        (
            Path("net.onnx"),
            Options(
                targets=("tflite", "onnxruntime"),
                recipe="static_wi8_ai8",
                calibration=Path("calib.npz"),
                evaluation=Path("test.npz"),
                ranges="percentile",
                effort="fast",
                recover=100,
                scheme="per-tensor",
                compare_speed=False,
                require_speedup=1.5,
                percentile=99.9,
                shapes={"x:0": (1, 3, 32, 32), "a=b": ("N", 4)},
                io_dtype="int8",
                io_layout="nhwc",
                keep_float=("/conv1", "fc"),
                metric="m:f",
                label_offset=1,
                preprocess="size=32",
                device="arm64",
                verify=False,
                prove=False,
                max_float_error=0.01,
                min_sqnr_db=12.0,
                share_weights="16/channel",
                prune_weights="2:4",
            ),
        )
    ]


@pytest.mark.usefixtures("model")
def test_recovers_for_600_steps_if_no_number_is_given(
    compiler: FakeCompiler, edgec: Run
) -> None:
    assert edgec("compile", "net.onnx", "--recover", "-t", "tflite", "-o", "out").exit_code == 0

    assert compiler.calls == [(Path("net.onnx"), Options(targets=("tflite",), recover=600))]
    assert edgec("compile", "net.onnx", "--recover", "0", "-o", "out").exit_code == 2


@pytest.mark.usefixtures("model")
def test_has_the_compilers_defaults(compiler: FakeCompiler, edgec: Run) -> None:
    assert edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").exit_code == 0

    assert compiler.calls == [(Path("net.onnx"), Options(targets=("tflite",)))]


@pytest.mark.usefixtures("model", "compiler")
def test_writes_the_files_and_prints_the_ledger(edgec: Run, tmp_path: Path) -> None:
    result = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out")

    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"net.tflite", "net.onnx", "report.json"}
    assert result.stderr == ""
    assert plain(result.stdout) == LEDGER


@pytest.mark.usefixtures("model")
def test_what_calibration_showed_is_told(compiler: FakeCompiler, edgec: Run) -> None:
    layers = [("conv1", 1.25, 9.5), ("conv2", 2.5, 3.0)]
    tensors = [{"layer": n, "disagreement": d, "outliers": o} for n, d, o in layers]
    told = {"method": "mse", "samples": 96, "tensors": tensors, "warnings": []}
    warned = {"kind": "few", "where": "here", "message": "too few", "hint": "give more"}
    compiler.report["calibration"]["report"] = told

    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout

    assert (
        "2 ranges by mse from 96 samples; methods are furthest apart at conv2 (2.5x), outliers "
        "at conv1 (9.5x)\n"
    ) in out
    assert "PROBLEM" not in out
    told.update(tensors=[], warnings=[warned])
    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout
    assert out.startswith("PROBLEM  The samples look wrong. here: too few; give more.\n")
    assert "0 ranges by mse from 96 samples\n" in out


@pytest.mark.usefixtures("model")
def test_warnings_of_labelled_samples_are_problems(compiler: FakeCompiler, edgec: Run) -> None:
    warned = {"kind": "channels", "where": "x", "message": "are swapped", "hint": "swap them"}
    compiler.report["evaluation"]["warnings"] = [warned]

    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out", "-q").stdout

    assert out == "PROBLEM  The samples look wrong. x: are swapped; swap them.\n"


@pytest.mark.usefixtures("model")
def test_json_is_the_report_and_nothing_else(compiler: FakeCompiler, edgec: Run) -> None:
    result = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out", "--json")

    assert json.loads(result.stdout) == compiler.report
    assert result.stderr == ""


@pytest.mark.usefixtures("model", "compiler")
def test_quiet_is_quiet(edgec: Run) -> None:
    assert edgec("compile", "net.onnx", "-t", "tflite", "-o", "out", "-q").output == ""


@pytest.mark.usefixtures("model")
def test_problems_come_first_even_when_quiet(compiler: FakeCompiler, edgec: Run) -> None:
    tflite, onnx = compiler.report["artifacts"]
    tflite.update(bytes=500_000, accuracy=0.9, fidelity={"sqnr_db": 7.0, "top1_agreement": 0.9})
    onnx.update(quantized=False)
    compiler.report["options"].update(verify=False, prove=False)

    result = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out", "-q")

    assert result.stdout.splitlines() == [
        "PROBLEM  net.tflite is bigger than the model: 500 kB, the model has 400 kB.",
        "PROBLEM  net.tflite loses 8.0 points of accuracy: 90.0 %, the float model has 98.0 %.",
        "PROBLEM  net.tflite is far from the float model: its SQNR is 7.0 dB.",
        "PROBLEM  net.tflite agrees with the float model on only 90.0 % of samples.",
        "PROBLEM  net.onnx is still float32, although a recipe was given.",
        "PROBLEM  The passes were not verified (--no-verify).",
        "PROBLEM  Nothing was run: the artifacts are not proven (--no-proof).",
    ]


def test_what_a_pass_and_a_file_say_is_printed_once(
    edgec: Callable[..., Result], compiler: FakeCompiler, model: Path
) -> None:
    same = {"message": "it stays", "where": "bn[1]", "hint": ""}
    compiler.report["ledger"][0]["diagnostics"] = [same]
    compiler.report["artifacts"][0]["diagnostics"] = [same]

    lines = edgec("compile", str(model), "-t", "tflite", "-o", "out").output.splitlines()

    assert len([line for line in lines if "it stays" in line]) == 1


@pytest.mark.usefixtures("model")
def test_notes_are_printed_with_their_source(compiler: FakeCompiler, edgec: Run) -> None:
    note = {"where": "bn[1]", "message": "it stays", "hint": "retrain"}
    compiler.report["diagnostics"] = [{"where": "", "message": "few samples", "hint": ""}]
    compiler.report["ledger"][0]["diagnostics"] = [note]
    compiler.report["artifacts"][0]["diagnostics"] = [{**note, "hint": ""}]

    lines = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout.splitlines()

    assert [line for line in lines if line.startswith("note")] == [
        "note  few samples",
        "note  fold-batchnorm: bn[1]: it stays (retrain)",
        "note  net.tflite: bn[1]: it stays",
    ]


@pytest.mark.usefixtures("model")
def test_work_that_is_not_known_yet_is_not_none(compiler: FakeCompiler, edgec: Run) -> None:
    compiler.report["model"]["macs"] = 0
    compiler.report["ledger"][0]["macs"] = [0, 1_230_000]

    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout

    assert re.search(r"^net\.onnx +25 +97\.4 k +\? +390 kB", out, re.MULTILINE)
    assert "97.4 k  ? → 1.23 M" in out


@pytest.mark.usefixtures("model")
def test_names_with_brackets_stay_as_they_are(compiler: FakeCompiler, edgec: Run) -> None:
    compiler.report["artifacts"][0]["file"] = "net[red].tflite"

    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout

    assert "net[red].tflite  105 kB" in out
    assert "wrote net[red].tflite, net.onnx" in out


@pytest.mark.usefixtures("model")
def test_without_numbers_there_are_dashes(compiler: FakeCompiler, edgec: Run) -> None:
    compiler.report["evaluation"] = None
    compiler.report["artifacts"] = [
        {**compiler.report["artifacts"][0], "accuracy": None, "fidelity": None}
    ]

    out = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout

    assert "net.tflite  105 kB     0.26x         12     -                -         -" in out


@pytest.mark.usefixtures("model")
def test_a_metric_of_ones_own_is_shown_as_it_is(compiler: FakeCompiler, edgec: Run) -> None:
    compiler.report["evaluation"] = {"samples": 9, "metric": "m:iou", "float": 0.81234}
    for artifact in compiler.report["artifacts"]:
        artifact.update(accuracy=None, metric={"name": "m:iou", "value": 0.75})

    out = plain(edgec("compile", "net.onnx", "-t", "tflite", "-o", "out").stdout)

    assert "top-1 agreement                m:iou\n" in out
    assert "99.0 %  0.75 (float 0.8123)\n" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("compile net.onnx -o out", "Missing option '-t' / '--target'. Choose from:"),
        ("compile net.onnx -t tflite", "Missing option '-o' / '--output'."),
        ("compile -t tflite -o out", "Missing argument 'MODEL'."),
        (
            "compile net.onnx -t tfl -o out",
            "'tfl' is not one of 'tflite', 'onnxruntime', 'microcontroller'.",
        ),
        (
            "compile net.onnx -t tflite -o out --shape 1,3",
            "Invalid value for --shape: '1,3' is not NAME=1,3,224,224: an input, '=', and "
            "positive lengths",
        ),
        ("compile net.onnx -t tflite -o out --shape x=1,0", "Invalid value for --shape: "),
        ("compile net.onnx -t tflite -o out --shape x=", "Invalid value for --shape: "),
        ("compile net.onnx -t tflite -o out --shape x=1,,2", "Invalid value for --shape: "),
        ("compile net.onnx -t tflite -o out --shape x=1.5", "Invalid value for --shape: "),
        (
            "compile net.onnx -t tflite -o out --shape x=1 --shape x=2",
            "Invalid value for --shape: 'x' is given twice",
        ),
        ("compile net.onnx -t tflite -o out --percentile 40", "40.0 is not in the range"),
        (
            "compile net.onnx -t tflite -o out --calibration no.npz",
            "error: cannot read no.npz: there is no such file (--calibration)\n",
        ),
        (
            "compile net.onnx -t tflite -o out --eval no.npz",
            "error: cannot read no.npz: there is no such file (--eval)\n",
        ),
    ],
)
@pytest.mark.usefixtures("model")
def test_wrong_usage(compiler: FakeCompiler, edgec: Run, args: str, message: str) -> None:
    result = edgec(*args.split())

    assert result.exit_code == 2
    assert message in result.stderr
    assert compiler.calls == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            "compile no.onnx -t tflite -o out",
            "error: cannot read no.onnx: there is no such file\n"
            "  give the path of an ONNX file\n",
        ),
        (
            "compile . -t tflite -o out",
            "error: cannot read .: it is a folder\n  give the path of an ONNX file\n",
        ),
        (
            "compile net.onnx -t onnxruntime -o .",
            "error: would overwrite the input net.onnx with the output net.onnx\n"
            "  give another folder with -o\n",
        ),
        (
            "compile net.onnx -t tflite -o net.onnx",
            "error: cannot write into net.onnx: it is a file, not a folder\n"
            "  give another folder with -o\n",
        ),
        (
            "compile net.onnx -t tflite -o data --calibration data",
            "error: would write into the input folder data, among the data\n"
            "  give another folder with -o\n",
        ),
    ],
)
@pytest.mark.usefixtures("model")
def test_finds_bad_paths_before_it_compiles(
    compiler: FakeCompiler, edgec: Run, tmp_path: Path, args: str, message: str
) -> None:
    (tmp_path / "data").mkdir()

    result = edgec(*args.split())

    assert (result.exit_code, result.stderr) == (1, message)
    assert compiler.calls == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnsupportedError("tflite cannot express net.onnx", [Diagnostic("no", "loop")]), 5),
        (NumericsError("net.tflite is broken", [Diagnostic("no", "y")]), 6),
    ],
)
@pytest.mark.usefixtures("model")
def test_an_error_leaves_no_output(
    compiler: FakeCompiler, edgec: Run, tmp_path: Path, error: Exception, code: int
) -> None:
    compiler.raises = error

    result = edgec("compile", "net.onnx", "-t", "tflite", "-o", "out")

    assert result.exit_code == code
    assert not (tmp_path / "out").exists()


def test_the_demo_compiles_in_float_and_int8(
    compiler: FakeCompiler, edgec: Run, tmp_path: Path
) -> None:
    from edgec.demo import CALIBRATION, MODEL, TEST

    result = edgec("demo")

    assert result.exit_code == 0, result.output
    shared = {
        "targets": ("tflite", "onnxruntime"),
        "calibration": CALIBRATION,
        "evaluation": TEST,
    }
    assert compiler.calls == [
        (MODEL, Options(**shared)),  # type: ignore[arg-type]
        (MODEL, Options(**shared, recipe="static_wi8_ai8")),  # type: ignore[arg-type]
    ]
    assert (tmp_path / "edgec-demo" / "float" / "report.json").exists()
    assert (tmp_path / "edgec-demo" / "int8" / "report.json").exists()
    closing = result.stdout[result.stdout.index("float and int8 side by side") :]
    assert [line.rstrip() for line in closing.splitlines()] == [
        "float and int8 side by side",
        "",
        "artifact          target                     accuracy    size     SQNR",
        "float/net.tflite  tflite       97.5 % (-0.5 to float)  105 kB  25.1 dB",
        "float/net.onnx    onnxruntime  98.5 % (+0.5 to float)  120 kB  30.5 dB",
        "int8/net.tflite   tflite       97.5 % (-0.5 to float)  105 kB  25.1 dB",
        "int8/net.onnx     onnxruntime  98.5 % (+0.5 to float)  120 kB  30.5 dB",
        "",
        "next:",
        "  edgec profile edgec-demo/int8/net.tflite --report edgec-demo/int8/report.json",
        '  edgec gate edgec-demo/int8/report.json --budget "tflite.latency_ms<=1" '
        '--budget "accuracy>=0.9"',
        "  edgec compile YOUR.onnx -t tflite -o out",
    ]


def test_the_demo_prints_both_reports_as_json(compiler: FakeCompiler, edgec: Run) -> None:
    result = edgec("demo", "--json", "-o", "x")

    assert json.loads(result.stdout) == {"float": compiler.report, "int8": compiler.report}
    assert result.stderr == ""


def test_a_refused_result_is_one_document(
    compiler: FakeCompiler, edgec: Run, model: Path
) -> None:
    problem = Diagnostic("takes 9 bytes of RAM, 1 more than the 8 of --max-ram", "net", "prune")
    compiler.refused = UnsupportedError("the model does not fit the device", [problem])

    result = edgec("compile", str(model), "-t", "microcontroller", "-o", "out", "--json")

    assert result.exit_code == 5
    found = json.loads(result.stdout)
    error = found.pop("error")
    assert found == compiler.report
    assert error["summary"] == "the model does not fit the device"
    assert error["diagnostics"][0]["where"] == "net"
    assert error["exit_code"] == 5
    assert result.stderr.startswith("error: the model does not fit the device\n  net: takes 9")


def test_a_refused_result_is_printed_before_the_error(
    compiler: FakeCompiler, edgec: Run, model: Path
) -> None:
    compiler.refused = UnsupportedError("the model does not fit the device")

    result = edgec("compile", str(model), "-t", "microcontroller", "-o", "out")

    assert result.exit_code == 5
    assert "wrote net.tflite" in result.stdout
    assert result.stderr == "error: the model does not fit the device\n"
