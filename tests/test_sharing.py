"""``--share-weights`` from the command line to the files."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.options import Sharing
from edgec.quantizing import Quantizing
from edgec.targets import Tflite
from edgec.targets.tflite.reader import parse_tflite
from tests.passes.test_round_weights import smooth
from tests.passes.test_share_weights import small, stored
from tests.targets.graphs import quantized

INT8 = "static_wi8_ai8"


def compiled(asked: str | None, *targets: str, **more: Any) -> tuple[dict[str, Any], Any]:
    given = {"calibration": CALIBRATION, "evaluation": TEST, "compare_speed": False, **more}
    options = CompileOptions(
        targets or ("tflite",), INT8, effort="fast", share_weights=asked, **given
    )
    result = compile_model(MODEL, options)
    return result.report, result.files


def weights(data: bytes) -> list[Any]:
    """Return the int8 constants of a TFLite file that are no vectors."""
    model = parse_tflite(data, "digits")
    found = [t.data for t in model.tensors if t.data is not None]
    return [a for a in found if a.dtype == np.int8 and a.ndim > 1]


@pytest.fixture(scope="module")
def eight() -> tuple[dict[str, Any], Any]:
    return compiled("8")


def test_the_report_counts_what_the_file_holds(eight: tuple[dict[str, Any], Any]) -> None:
    plain, plain_files = compiled(None)
    report, files = eight

    (artifact,) = report["artifacts"]
    found = artifact["sharing"]
    assert "sharing" not in plain["artifacts"][0]
    assert (found["values"], found["each"]) == (8, "layer")
    for array in weights(files["digits.tflite"]):
        assert len(np.unique(array)) <= 8
    stored = sum(a.size for a in weights(files["digits.tflite"]))
    assert stored == sum(layer["weights"] for layer in found["layers"])
    for layer in found["layers"]:
        bits = 3 * layer["weights"]
        assert layer["packed_bytes"] == -(-bits // 8) + layer["values"]
        assert layer["alphabets"] == 1
    saved = sum(layer["plain_bytes"] - layer["packed_bytes"] for layer in found["layers"])
    before, after = found["package_bytes"]
    assert before - after == saved
    assert before > stored
    assert found["zlib_bytes"] == [
        len(zlib.compress(f["digits.tflite"], 9)) for f in (plain_files, files)
    ]
    assert found["zlib_bytes"][1] < 0.85 * found["zlib_bytes"][0]
    assert 0 < found["nats"][0] < found["nats"][1] < 0.1
    assert found["samples"] == 32
    assert artifact["accuracy"] > plain["artifacts"][0]["accuracy"] - 0.03
    (line,) = [r for r in report["ledger"] if r["pass"] == "share-weights"]
    assert {layer["kept"] for layer in line["layers"]} == {"8 values"}
    passes = [r["pass"] for r in report["ledger"]]
    assert passes.index("tie-constants") < passes.index("quantize")
    assert "tie-constants" not in [r["pass"] for r in plain["ledger"]]


def test_channels_have_values_of_their_own_in_both_targets() -> None:
    report, _ = compiled("8/channel", "tflite", "onnxruntime")

    for artifact in report["artifacts"]:
        found = artifact["sharing"]
        assert found["each"] == "channel"
        packed = [layer for layer in found["layers"] if layer["packed"]]
        assert packed
        assert all(layer["values"] <= 8 for layer in packed)
        assert all(layer["alphabets"] > 1 for layer in packed)
        assert len(packed) < len(found["layers"])  # nine weights need no table
        assert artifact["accuracy"] > 0.9


def test_the_same_command_gives_the_same_bytes(eight: tuple[dict[str, Any], Any]) -> None:
    assert compiled("8")[1]["digits.tflite"] == eight[1]["digits.tflite"]


def test_layers_that_need_more_bits_keep_their_values() -> None:
    graph = small()
    feeds = [{"x": f["x"]} for f in smooth(16, 1, 4, 8, 8)]
    data = SimpleNamespace(calibration=lambda: iter(feeds))
    options = CompileOptions(("tflite",), INT8, share_weights="6")
    way = Quantizing(Tflite(), graph, None, data, options)  # type: ignore[arg-type]

    step = way.sharing(Sharing(6, per_channel=False), {"b": "int16"})

    made = step.run(quantized(graph, *feeds))
    assert len(np.unique(stored(made, "a"))) <= 6
    assert len(np.unique(stored(made, "b"))) > 6


@pytest.mark.parametrize(("count", "left"), [(9, 7), (10, 8)])
def test_too_few_samples_change_nothing_and_it_is_said(
    tmp_path: Path, count: int, left: int
) -> None:
    with np.load(CALIBRATION) as found:
        np.savez(tmp_path / "few.npz", **{name: a[:count] for name, a in found.items()})

    report, _ = compiled("8", calibration=tmp_path / "few.npz", evaluation=None)

    (line,) = [r for r in report["ledger"] if r["pass"] == "share-weights"]
    assert line["changed"] is (left == 8)
    told = [f"{d['message']} ({d['hint']})" for d in line["diagnostics"]]
    few = (
        "7 samples are too few to fit to: no weights are shared "
        "(it takes 8, beside those held out of calibration for the proof)"
    )
    assert told == ([few] if left == 7 else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share_weights": "many"}, "from 2 to 128"),
        ({"share_weights": "1"}, "from 2 to 128"),
        ({"share_weights": "129"}, "from 2 to 128"),
        ({"share_weights": "16/row"}, "16/channel"),
        ({"recipe": None}, "static_wi8_ai8 and static_wi8_ai16 only"),
        ({"recipe": "static_wi4_ai8"}, "static_wi8_ai8 and static_wi8_ai16 only"),
        ({"recipe": "fp16"}, "static_wi8_ai8 and static_wi8_ai16 only"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"recipe": INT8, "calibration": CALIBRATION, "share_weights": "16", **change}

    with pytest.raises(OptionError, match=message):
        compile_model(MODEL, CompileOptions(("tflite",), **given))


def test_the_command_tells_what_it_saved_and_lost(tmp_path: Path) -> None:
    line = (
        f"compile {MODEL} -t tflite --recipe {INT8} --calibration {CALIBRATION} --eval {TEST} "
        f"--effort fast --no-speed --share-weights 16 -o {tmp_path}"
    )

    done = CliRunner().invoke(main, line.split(), prog_name="edgec")

    assert done.exit_code == 0, done.output
    assert "digits.tflite has at most 16 values to a layer in 6 of 6" in done.output
    assert "nats from the float model, on 32 samples" in done.output
    assert "file compressed by zlib 22." in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["share_weights"] == "16"
