from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgec.demo import MODEL
from edgec.files import json_bytes
from tests.gate.reports import make_report

Run = Callable[..., Result]

QUICK = ("--num-runs", "3", "--warmup-runs", "1", "--min-secs", "0")


def test_prints_times_and_operators(edgec: Run) -> None:
    result = edgec("profile", str(MODEL), *QUICK)

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split("  ")[-1].strip() == "peak RSS"
    assert lines[1].startswith("digits.onnx  ")
    assert lines[3].startswith("ONNX Runtime ")
    assert lines[3].endswith(", 1 thread, 3 runs after 1 to warm up")
    assert any(" Conv " in line and line.rstrip().endswith(" %") for line in lines)


def test_prints_json_alone(edgec: Run) -> None:
    result = edgec("profile", str(MODEL), *QUICK, "--json", "--num-threads", "2")

    found = json.loads(result.stdout)
    assert (found["runs"], found["warmup"], found["threads"]) == (3, 1, 2)
    assert result.stderr == ""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    data = make_report()
    data["artifacts"][1]["sha256"] = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    (tmp_path / "report.json").write_bytes(json_bytes(data))
    return tmp_path / "report.json"


def test_adds_the_numbers_to_the_report(edgec: Run, report: Path) -> None:
    before = json.loads(report.read_bytes())

    result = edgec("profile", str(MODEL), *QUICK, "--report", "report.json")

    after = json.loads(report.read_bytes())
    added = after["run"]["profile"].pop("onnxruntime")
    assert result.stdout.endswith("added to report.json as run.profile.onnxruntime\n")
    assert added["latency_ms"] > 0
    assert json_bytes(after) == json_bytes(before)
    gated = edgec("gate", "report.json", "--budget", "onnxruntime.latency_ms<=1000")
    assert gated.exit_code == 0


def test_refuses_a_file_that_is_not_in_the_report(
    edgec: Run, report: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.onnx").write_bytes(b"other")
    before = report.read_bytes()

    result = edgec("profile", "other.onnx", "--report", "report.json")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: other.onnx is no artifact of report.json\n"
        "  the report is about net.tflite, net.onnx, and the digest of other.onnx fits none of "
        "it\n"
        "    hint: profile the file that was written together with the report, unchanged\n"
    )
    assert report.read_bytes() == before


def test_refuses_a_report_whose_run_is_broken(edgec: Run, report: Path) -> None:
    report.write_bytes(json_bytes({**json.loads(report.read_bytes()), "run": []}))

    result = edgec("profile", str(MODEL), *QUICK, "--report", "report.json")

    assert result.exit_code == 2
    assert (
        result.stderr == "error: report.json is not a report of edgec: its 'run' is no object\n"
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ("no.onnx", 1, "error: cannot read no.onnx: there is no such file\n"),
        (
            "no.onnx --report report.json",
            1,
            "error: cannot read no.onnx: No such file or directory\n",
        ),
        (
            "net.pb",
            2,
            "error: cannot profile net.pb: its name ends in '.pb'\n"
            "  files that end in .onnx or .tflite can be profiled\n",
        ),
        (
            "x.onnx --num-runs 0",
            2,
            "error: these settings make no measurement\n  runs: is 0\n",
        ),
    ],
)
@pytest.mark.usefixtures("report")
def test_wrong_usage(edgec: Run, args: str, code: int, message: str) -> None:
    result = edgec("profile", *args.split())

    assert (result.exit_code, result.stderr) == (code, message)


def test_lists_the_slowest_operators_and_sums_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from edgec.cli.render_profile import print_profile
    from edgec.profiling import OperatorTime, Profile

    operators = tuple(OperatorTime(f"op{i}", "Conv", float(i), 1) for i in range(1, 13))
    machine = {"cpu": None, "usable_cores": 4, "governor": "ondemand", "system": "Linux arm"}
    profile = Profile(
        *(1.0, 2.0, 0.5, 3.0, 10.0, 5, 1, 2, None),
        runtime={"name": "R", "version": "1"},
        machine=machine,
        operators=operators,
    )

    print_profile(Path("x.onnx"), profile)

    out = capsys.readouterr().out
    assert "x.onnx  1.00 ms  2.00 ms  500 µs  3.00 ms     10.0 ms         -" in out
    assert "R 1, 2 threads, 5 runs after 1 to warm up\n" in out
    assert "unknown processor, 4 cores, governor ondemand, Linux arm\n" in out
    assert out.index("op12 ") < out.index("op3 ")
    assert "op2 " not in out
    assert out.endswith("and 2 more: 3.00 ms, 3.8 %\n")


@pytest.mark.parametrize(
    ("partitions", "left", "text"),
    [
        (1, {}, "XNNPACK runs 9 operators in 1 partition\n"),
        (2, {"SOFTMAX": 1}, "XNNPACK runs 9 operators in 2 partitions; outside of it run 1 "
         "SOFTMAX\n"),
        (0, {"ADD": 9}, "no operator is delegated; all run in LiteRT's own kernels\n"),
    ],
)  # fmt: skip
def test_says_what_is_delegated(
    capsys: pytest.CaptureFixture[str], partitions: int, left: dict[str, int], text: str
) -> None:
    from edgec.cli.render_profile import print_profile
    from edgec.profiling import Profile

    placed = {
        "delegate": "XNNPACK" if partitions else None,
        "partitions": partitions,
        "delegated": {"CONV_2D": 9},
        "not_delegated": left,
    }
    profile = Profile(
        *(1.0, 2.0, 0.5, 3.0, 10.0, 5, 1, 1, 10),
        runtime={"name": "R", "version": "1"},
        machine={},
        delegation=placed,
    )

    print_profile(Path("x.tflite"), profile)

    assert capsys.readouterr().out.endswith(text)
