"""Layers band by band compute what they compute at once, in less RAM."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.ir import Array
from edgec.program import Layer, Program
from edgec.program.passes import LOSSLESS, run_passes
from edgec.program.reading import parse_program, read_program
from edgec.targets.microcontroller.bands import Bands, bands_code, schedule, with_bands
from edgec.targets.microcontroller.choosing import Choosing
from edgec.targets.microcontroller.cores import Core, Tier, load_core
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.generate import Generated, Options, generate
from edgec.targets.microcontroller.kernels import Code, Table
from tests.program.files import FILES, MODELS, Sketch
from tests.targets.microcontroller.cortex import run
from tests.targets.microcontroller.host import ANY_CORE, compiled

M4 = load_core("cortex-m4")
VWW = next((path for path in FILES if path.stem == "vww_96_int8"), None)
needs_vww = pytest.mark.skipif(VWW is None, reason=f"no VWW in {MODELS}; set EDGEC_DATA")

Piece = tuple[str, int, int, int, int]
"""Operator, channels, window, stride, padding: 0 for same, 1 for valid."""

ODD: tuple[tuple[tuple[int, int, int], tuple[Piece, ...]], ...] = (
    (
        (17, 13, 3),
        (("CONV_2D", 5, 3, 2, 0), ("DEPTHWISE_CONV_2D", 5, 3, 1, 0), ("CONV_2D", 7, 1, 1, 0)),
    ),
    (
        (23, 9, 2),
        (("CONV_2D", 6, 5, 1, 0), ("MAX_POOL_2D", 6, 3, 2, 1), ("AVERAGE_POOL_2D", 6, 3, 1, 0)),
    ),
    (
        (20, 8, 1),
        (("DEPTHWISE_CONV_2D", 4, 3, 1, 1), ("CONV_2D", 3, 4, 3, 0), ("CONV_2D", 8, 2, 1, 0)),
    ),
    ((29, 5, 4), (("CONV_2D", 4, 1, 2, 1), ("CONV_2D", 4, 7, 1, 0))),  # rows nobody reads
)
WORDS: tuple[Piece, ...] = (
    ("CONV_2D", 8, 3, 2, 0),
    ("DEPTHWISE_CONV_2D", 8, 3, 1, 0),
    ("CONV_2D", 16, 1, 1, 0),
    ("DEPTHWISE_CONV_2D", 16, 3, 2, 0),
    ("CONV_2D", 8, 1, 1, 0),
)

WIDE: tuple[Piece, ...] = (
    ("CONV_2D", 16, 3, 1, 0),
    ("DEPTHWISE_CONV_2D", 16, 3, 2, 0),
    ("CONV_2D", 8, 1, 1, 0),
)
"""Most is needed between the first two."""


def chain(size: tuple[int, int, int], pieces: tuple[Piece, ...]) -> bytes:
    """A file with layers one after the other, for the DSP kernels' and for any loops."""
    sketch = Sketch(3)
    height, width, channels = size
    at = sketch.input(1, height, width, channels)
    for code, filters, window, stride, padding in pieces:
        lost = 0 if padding == 0 else window - 1
        height, width = (-(-(n - lost) // stride) for n in (height, width))
        y = sketch.value(1, height, width, filters)
        options = {"padding": padding, "strideH": stride, "strideW": stride}
        options["fusedActivationFunction"] = 1
        if "POOL" in code:
            options |= {"filterHeight": window, "filterWidth": window}
            sketch.op(code, [at], [y], "Pool2D", options)
        elif code == "CONV_2D":
            weights = sketch.weights(filters, window, window, channels, axis=0)
            sketch.op(code, [at, weights, sketch.bias(filters)], [y], "Conv2D", options)
        else:
            options["depthMultiplier"] = filters // channels
            weights = sketch.weights(1, window, window, filters, axis=3)
            sketch.op(
                code, [at, weights, sketch.bias(filters)], [y], "DepthwiseConv2D", options
            )
        at, channels = y, filters
    return sketch.data(at)


def feed(program: Program, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    shape = program.tensors[program.inputs[0]].shape
    return rng.integers(-128, 128, shape).astype(np.int8)


def emulated(generated: Generated) -> EmulatedModel:
    return EmulatedModel(generated, build_model(generated, M4, compiler()), M4)


@pytest.mark.parametrize("case", range(len(ODD)))
def test_odd_sizes_and_strides_in_bands_of_any_height(case: int, tmp_path: Path) -> None:
    program = parse_program(chain(*ODD[case]), "chain")
    count = len(program.steps)
    models = [generate(program, ANY_CORE)]
    for n in range(2, count + 1):
        for rows in (1, 2, 3, 5) if n == count else (2,):
            for first in range(count - n + 1):
                layers = [program.layer(s) for s in program.steps[first : first + n]]
                if schedule(layers, rows) is not None:
                    name = Options(f"b{first}_{n}_{rows}")
                    banded = with_bands(program, first, n, rows)
                    models.append(generate(banded, ANY_CORE, options=name))
    library = compiled(models, tmp_path)
    assert len(models) > 4
    for seed in range(2):
        x = feed(program, seed)
        (want,) = library.run(models[0], [x])
        assert len(np.unique(want)) > 5
        for model in models[1:]:
            (got,) = library.run(model, [x])
            assert np.array_equal(got, want), model.prefix


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_bands_of_dsp_kernels_read_nothing_dead(rows: int) -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    x = feed(program)
    (want,) = emulated(generate(program, M4)).run([x])
    made = generate(with_bands(program, 0, 4, rows), M4)

    model = emulated(made)

    assert {layer.tier for layer in made.layers} == {"dsp"}
    assert [layer.operator for layer in made.layers] == ["BANDS", "CONV_2D"]
    assert np.array_equal(model.run([x])[0], want)
    assert np.array_equal(model.run_poisoned([x])[0], want)


@pytest.mark.parametrize("on", [M4, load_core("cortex-m0")], ids=lambda core: core.name)
def test_results_may_lie_as_far_behind_as_said_and_no_further(on: Core) -> None:
    program = parse_program(chain((24, 20, 4), WORDS), "chain")
    layer = next(with_bands(program, 0, 4, 2).layers())
    found = Choosing(on, None).code(layer)
    assert found is not None
    code, _ = found
    slack = code.slack[0] // 8 * 8
    x = feed(program)
    further = slack + 2 * layer.output.size // layer.output.shape[1]

    apart, near, far = run(code, layer, [x], (None, slack, further), on)

    assert np.array_equal(near.output, apart.output)
    assert not np.array_equal(far.output, apart.output)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_every_row_is_written_once_and_read_while_it_is_there(rows: int) -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    layers = tuple(map(program.layer, program.steps[:4]))
    bands = schedule(layers, rows)
    found = Choosing(M4, None).code(next(with_bands(program, 0, 4, rows).layers()))
    assert bands is not None
    assert found is not None

    written = [row for band in bands for row in range(band[-1].begin, band[-1].end)]
    assert written == list(range(layers[-1].output.shape[1]))
    slack, read = found[0].slack[0], 20 * 4
    row = layers[-1].output.size // layers[-1].output.shape[1]
    room = [
        first_read.first * read - band[-1].end * row
        for k, band in enumerate(bands)
        for first_read, *_ in bands[k + 1 :]
    ]
    assert slack == min(room)
    for band in bands:
        for before, after in pairwise(band):
            assert (before.begin, before.end) == (after.first, after.last)


def test_work_that_is_done_again_is_told() -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    plain = generate(program, M4)

    made = generate(with_bands(program, 0, 4, 1), M4)

    bands, last = made.layers
    assert bands.macs + last.macs == sum(layer.macs for layer in plain.layers)
    spans = schedule(tuple(map(program.layer, program.steps[:4])), 1)
    assert spans is not None
    done = sum(
        (band[k].end - band[k].begin) * layer.macs // program.layer(step).output.shape[1]
        for band in spans
        for k, (step, layer) in enumerate(zip(program.steps, plain.layers[:4], strict=False))
    )
    assert bands.repeated == done - bands.macs > 0
    assert sum(bands.flash.values()) == sum(
        size for layer in plain.layers[:4] for size in layer.flash.values()
    )


@pytest.mark.parametrize("core", [M4, ANY_CORE], ids=["dsp", "portable"])
def test_tables_of_other_bands_are_shared_only_if_they_are_equal(core: Core) -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    choosing = Choosing(core, None)

    def choose(layer: Layer) -> tuple[Code, Tier] | None:
        found = choosing.code(layer)
        assert found is not None
        rows = np.array([layer.output.shape[1]], np.int32)
        tables = {**found[0].tables, "rows": Table(rows, {"other": 4})}
        return dataclasses.replace(found[0], tables=tables), found[1]

    found = bands_code(next(with_bands(program, 0, 2, 3).layers()), choose)

    assert found is not None
    written = [t.array.tolist() for key, t in found[0].tables.items() if "_rows" in key]
    assert sorted(map(tuple, written)) == [(2,), (3,), (3,), (4,), (5,)]


# ---- budgets


def test_what_fits_stays_as_it_is() -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    plain = generate(program, M4)

    made = generate(program, M4, options=Options(max_ram=plain.arena.plan.size + 256))

    assert dict(made.files) == dict(plain.files)
    assert not made.notes


def test_a_budget_is_met_with_the_least_work() -> None:
    data = chain((24, 24, 4), WIDE)
    program = parse_program(data, "chain")
    plain = measure(program, data, M4)
    most = plain.ram.total - 1000

    found = measure(program, data, M4, settings=Settings(options=Options(max_ram=most)))

    assert found.verification is not None
    assert found.verification.exact
    assert found.ram.total <= most
    assert found.instructions < 1.6 * plain.instructions
    (note,) = found.to_dict()["notes"]
    assert "rows at a time" in note["message"]
    assert found.to_dict()["repeated_macs"] > 0


def test_a_budget_that_cannot_be_met_is_told() -> None:
    program = parse_program(chain((24, 24, 4), WIDE), "chain")
    plain = generate(program, M4)

    made = generate(program, M4, options=Options(max_ram=1000))

    assert made.arena.plan.size < plain.arena.plan.size
    assert any(isinstance(step.op, Bands) for step in made.program.steps)
    assert "no way to compute it was found" in made.notes[-1].message
    assert f"{made.arena.plan.size:,}" in made.notes[-1].message


def test_results_that_others_need_are_no_part_of_bands() -> None:
    program = parse_program(chain((22, 20, 4), WORDS), "chain")
    kept = program.steps[1].outputs[0]
    more = dataclasses.replace(program, outputs=(*program.outputs, kept))

    made = generate(more, M4, options=Options(max_ram=1000))

    inside = [len(s.op.layers) for s in made.program.steps if isinstance(s.op, Bands)]
    assert kept in {t for step in made.program.steps for t in step.outputs}
    assert all(count <= 3 for count in inside)


def test_the_command_line_fails_over_budget(tmp_path: Path) -> None:
    path = tmp_path / "chain.tflite"
    path.write_bytes(chain((24, 24, 4), WIDE))
    arguments = ["profile", str(path), "--device", "cortex-m4", "--json", "--max-ram"]

    fits = CliRunner().invoke(main, [*arguments, "5k"])
    over = CliRunner().invoke(main, [*arguments, "1k"])

    assert fits.exit_code == 0, fits.output
    assert json.loads(fits.output)["ram"]["total"] <= 5000
    assert over.exit_code == 5
    assert "bytes of RAM" in over.output
    assert "no way to compute it was found" in over.output


@needs_vww
@pytest.mark.parametrize(("most", "passes"), [(34_000, False), (30_000, True)])
def test_a_real_model_within_a_budget(most: int, passes: bool) -> None:
    assert VWW is not None
    program = read_program(VWW)
    if passes:
        program = run_passes(program, LOSSLESS).program
    settings = Settings(options=Options(max_ram=most))

    found = measure(program, VWW.read_bytes(), M4, settings=settings)

    assert found.verification is not None
    assert found.verification.exact
    assert found.ram.total < most
    assert found.instructions <= 1.1 * 7_556_000
    assert found.to_dict()["repeated_macs"] < found.macs // 50
