"""``--prune-weights`` from the command line to the files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.ops import Add, Conv
from edgec.passes import PruneWeights
from edgec.passes.divergence import Divergence
from edgec.passes.sparse_weights import Sparsity
from edgec.pruning import allotted
from edgec.targets.tflite.reader import parse_tflite
from tests.passes.test_round_weights import smooth
from tests.targets.graphs import Net, random


def compiled(
    asked: str | None, recipe: str | None, **more: Any
) -> tuple[dict[str, Any], bytes]:
    given = {"calibration": CALIBRATION, "evaluation": TEST, "compare_speed": False, **more}
    options = CompileOptions(("tflite",), recipe, prune_weights=asked, **given)
    result = compile_model(MODEL, options)
    data = result.files["digits.tflite"]
    assert isinstance(data, bytes)
    return result.report, data


def zeros(data: bytes) -> list[tuple[int, int]]:
    """Return how many weights there are in layers of a TFLite file, and how many are zero."""
    model = parse_tflite(data, "digits")
    found = [t.data for t in model.tensors if t.data is not None and t.data.ndim > 1]
    kinds = (np.int8, np.float32)
    return [(a.size, int((a == 0).sum())) for a in found if a.dtype in kinds]


def test_zeros_reach_the_file_and_compress() -> None:
    _, plain = compiled(None, None)
    report, data = compiled("0.6", None)

    (line,) = [r for r in report["ledger"] if r["pass"] == "prune-weights"]
    assert len({layer["kept"] for layer in line["layers"]}) > 1
    assert all(layer["sqnr_db"][1] > layer["sqnr_db"][0] for layer in line["layers"])
    left = {d["where"]: d["message"] for d in line["diagnostics"]}
    assert any("depthwise" in message for message in left.values())
    pruned = [(size, gone) for size, gone in zeros(data) if gone]
    assert len(pruned) == len(line["layers"])
    total = sum(size for size, _ in pruned)
    assert 0.595 < sum(gone for _, gone in pruned) / total < 0.66
    assert len(zlib.compress(data, 9)) < 0.65 * len(zlib.compress(plain, 9))
    (artifact,) = report["artifacts"]
    assert artifact["accuracy"] > 0.9


def test_layers_get_the_zeros_that_they_bear() -> None:
    """One that the outputs do not depend on much has more of them."""
    net = Net(x=(1, 4, 8, 8))
    net.add("a", Conv(), "x", random(8, 4, 3, 3, seed=1), random(8))
    net.add("b", Conv(), "x", random(8, 4, 3, 3, seed=2) / np.float32(50), random(8))
    graph = net.graph(net.add("y", Add(), "a", "b"))
    feeds = smooth(48, 1, 4, 8, 8)
    held = Divergence(graph, smooth(16, 1, 4, 8, 8, first=500))

    shares = allotted(graph, feeds, 0.5)

    assert shares["b"].share > 0.5 > shares["a"].share
    even, uneven = (
        float(held.of(PruneWeights(feeds, Sparsity(0.5), s).run(graph)).mean())
        for s in ({}, shares)
    )
    assert uneven < 0.8 * even
    weights = [
        c.array
        for c in PruneWeights(feeds, Sparsity(0.5), shares).run(graph).constants.values()
    ]
    count = sum(int((w == 0).sum()) for w in weights if w.ndim == 4)
    assert count >= 0.495 * 2 * 288


def test_zeros_stay_zeros_in_shared_weights() -> None:
    report, data = compiled("2:4", "static_wi8_ai8", effort="fast", share_weights="16")

    (line,) = [r for r in report["ledger"] if r["pass"] == "prune-weights"]
    halved = sum(gone >= 0.49 * size for size, gone in zeros(data))
    assert halved >= len(line["layers"]) - 1  # one has a single input channel
    assert report["artifacts"][0]["sharing"]["nats"][1] < 0.2


@pytest.mark.parametrize("text", ["half", "0", "1", "1.5", "nan", "4:4", "0:4", "2:", "2:4:8"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="must be a share between 0 and 1"):
        compile_model(
            MODEL, CompileOptions(("tflite",), calibration=CALIBRATION, prune_weights=text)
        )


def test_samples_are_needed() -> None:
    with pytest.raises(OptionError, match="needs samples: give --calibration"):
        compile_model(MODEL, CompileOptions(("tflite",), prune_weights="0.5"))


def test_why_nothing_is_pruned_is_said(tmp_path: Path) -> None:
    with np.load(CALIBRATION) as found:
        np.savez(tmp_path / "few.npz", **{name: a[:5] for name, a in found.items()})

    report, _ = compiled("0.5", None, calibration=tmp_path / "few.npz")

    (line,) = [r for r in report["ledger"] if r["pass"] == "prune-weights"]
    (note,) = line["diagnostics"]
    assert "5 samples are too few" in note["message"]
    assert "it takes 8" in note["hint"]


def test_the_command_says_that_it_is_no_speed_up() -> None:
    done = CliRunner().invoke(main, ["compile", "--help"], prog_name="edgec")

    text = " ".join(done.output.split())
    assert "zeros compress, and nothing runs faster" in text


def test_patterns_reach_onnx_files(tmp_path: Path) -> None:
    line = (
        f"compile {MODEL} -t onnxruntime --calibration {CALIBRATION} "
        f"--prune-weights 2:4 --no-proof -o {tmp_path}"
    )

    done = CliRunner().invoke(main, line.split(), prog_name="edgec")

    assert done.exit_code == 0, done.output
    assert "prune-weights" in done.output
