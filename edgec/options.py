"""What to compile for, and how."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from edgec.budgets import budget_of, check_budgets
from edgec.calibration import DEFAULT, METHODS, MinMax, Percentile, RangeMethod
from edgec.differentiable import require_torch
from edgec.errors import OptionError
from edgec.goals import MEASURES, Goal
from edgec.ir import Dim, Graph
from edgec.passes import RECIPES, STATIC_INT8, SchemeWishes, recipe_named, scheme_wishes
from edgec.passes.sparse_weights import Sparsity
from edgec.proof import Limits
from edgec.split import Source
from edgec.targets import TARGETS, Microcontroller, OnnxRuntime, Target, Tflite
from edgec.targets.microcontroller.cores import core_names, load_core
from edgec.targets.microcontroller.forms import FORMS
from edgec.targets.microcontroller.target import DEFAULT_CORE
from edgec.targets.onnxruntime.devices import DEVICES, device_named
from edgec.targets.tflite.devices import DEVICES as TFLITE_DEVICES
from edgec.targets.tflite.devices import device_named as tflite_device
from edgec.targets.tflite.interface import IoDtype, IoLayout

__all__ = [
    "EFFORTS",
    "CompileOptions",
    "Sharing",
    "calibrates",
    "check_layers",
    "pruning_asked",
    "range_method",
    "sharing_asked",
    "targets_for",
]

_AUTO = "auto"
EFFORTS = ("fast", "default", "full", "max")


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What to compile for, and how.

    Parameters
    ----------
    targets
        Names of targets; one artifact each.
    recipe
        Name of one of :data:`edgec.passes.RECIPES`; ``None`` leaves float32.
    calibration, evaluation
        Samples: one array for each input; evaluation data have ``labels`` too.
    ranges
        Method that finds activation ranges; see :data:`edgec.calibration.METHODS`.
    percentile
        Share of the elements kept by the range method "percentile", in percent.
    effort
        What is done to keep the accuracy of a quantized model: "fast" finds ranges only,
        "default" chooses ranges, rounds weights and sets biases by what the float
        model computes on some of the samples; "full" does so on more of them; "max" then lets
        gradients round the weights, for minutes, or hours with large models.
        Ranges stay where a method is given.
    recover
        After how many batches training towards the float model ends: all that is left of its
        weights learns from the samples, without labels (:class:`edgec.passes.Recover`). With a
        goal it is the smaller graph that learns, before it is quantized; else the quantized
        one. ``None`` trains nothing. Needs PyTorch.
    scheme
        How integers are stored, in words of :data:`edgec.passes.SCHEME_WORDS` with commas
        between; the target chooses what is not said.
    shapes
        Shapes of inputs that the model leaves open.
    io_dtype, io_layout
        Of the TFLite file's inputs and outputs.
    keep_float
        Layers that are not quantized.
    metric
        ``module:function`` that judges outputs; accuracy otherwise.
    label_offset
        Added to every label.
    preprocess
        How images in a folder become the input.
    device
        What an artifact is for: a device of one of the targets, which only that one heeds.
        "auto" is this machine's CPU.
    verify
        Whether every pass is held to its promise on one sample.
    prove
        Whether the artifacts are run and compared with the model. If not, what comes out is
        what edgec believes to be right, and no golden file is written.
    max_float_error
        Largest error of a float artifact, relative to the range of its output.
    compare_speed
        Whether quantized artifacts are timed beside float ones.
    require_speedup
        How many times as fast as the float one every quantized artifact must be.
    min_sqnr_db
        Least signal-to-noise ratio of a quantized artifact.
    target_macs, target_size, target_latency, target_ram
        The most that may be left, as texts such as "0.67x" or "12 ms"
        (:class:`edgec.goals.Goal`); one of them at most. Structure is taken out of the model
        until that holds, where it costs least. MACs, RAM and latency are shares of what the
        artifact takes without that, the size is one of the file that came in.
    techniques
        Names of :data:`edgec.budgets.TECHNIQUES` that may be used for that; those that
        pay if none is named.
    channel_multiple
        What the number of channels that a layer keeps is a multiple of; the target's if
        ``None``.
    max_ram, max_flash
        The most that target "microcontroller" may take, such as "48k" or "48 kB".
    project
        What folder target "microcontroller" makes, one of
        :data:`edgec.targets.microcontroller.forms.FORMS`, with a self-test on one sample;
        plain C files without one if ``None``.
    max_drop
        Largest loss of an artifact that is quantized or made smaller, in points of accuracy
        where there are labels, in units of the user's metric where there is one, else in points
        of agreement with the float model. Layers get more bits, or more structure stays, until
        it holds.
    share_weights
        How many values the int8 weights of each layer may take, such as "16"; "16/channel" for
        values of each output channel.
    prune_weights
        How many weights become zero: a share of all such as "0.5", or "2:4" for at most
        2 of every 4 that are left.
    """

    targets: tuple[str, ...]
    recipe: str | None = None
    calibration: Source | None = None
    evaluation: Source | None = None
    ranges: str | None = None
    percentile: float | None = None
    effort: str = "default"
    recover: int | None = None
    scheme: str | None = None
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    io_dtype: str = "float32"
    io_layout: str = "keep"
    keep_float: tuple[str, ...] = ()
    metric: str | None = None
    label_offset: int = 0
    preprocess: str | None = None
    device: str | None = None
    verify: bool = True
    prove: bool = True
    compare_speed: bool = True
    require_speedup: float | None = None
    max_float_error: float = Limits().max_float_error
    min_sqnr_db: float = Limits().min_sqnr_db
    max_drop: float | None = None
    share_weights: str | None = None
    prune_weights: str | None = None
    target_macs: str | None = None
    target_size: str | None = None
    target_latency: str | None = None
    target_ram: str | None = None
    techniques: tuple[str, ...] = ()
    channel_multiple: int | None = None
    max_ram: str | None = None
    max_flash: str | None = None
    project: str | None = None

    @property
    def goal(self) -> Goal | None:
        """What may be left of the model; ``None`` if all of it.

        Raises
        ------
        OptionError
            If there are several goals, or one says nothing.
        """
        given = [
            Goal.parse(measure, text)
            for measure in MEASURES
            if (text := getattr(self, f"target_{measure}")) is not None
        ]
        if len(given) > 1:
            names = " and ".join(f"--target-{g.measure}" for g in given)
            raise OptionError(f"{names} are given: there can be one goal")
        return given[0] if given else None


@dataclass(frozen=True, slots=True)
class Sharing:
    """How few values the weights of a layer may take.

    Parameters
    ----------
    count
        Values of an alphabet.
    per_channel
        Whether each output channel has an alphabet of its own.
    """

    count: int
    per_channel: bool


_MOST_VALUES = 128
_SHARED = ("layer", "channel")


def sharing_asked(options: CompileOptions) -> Sharing | None:
    """Return how weights are to be shared, if they are.

    Raises
    ------
    OptionError
        If what is asked for makes no sense, or not with the recipe.
    """
    text = options.share_weights
    if text is None:
        return None
    count, _, each = text.partition("/")
    known = count.isascii() and count.isdigit() and (each or _SHARED[0]) in _SHARED
    if not known or not 2 <= int(count) <= _MOST_VALUES:
        raise OptionError(
            f"--share-weights is {text!r}, but must be a number of values from 2 to "
            f"{_MOST_VALUES}, such as 16, or 16/channel for values of each output channel"
        )
    fits = [r.name for r in RECIPES if r.needs_samples and r.weight_bits == 8]
    if options.recipe not in fits:
        raise OptionError(f"--share-weights goes with recipes {' and '.join(fits)} only")
    return Sharing(int(count), each == _SHARED[1])


_LONGEST_PATTERN = 64


def pruning_asked(options: CompileOptions) -> Sparsity | None:
    """Return how many weights are to become zero, if some are.

    Raises
    ------
    OptionError
        If what is asked for makes no sense, or there are no samples to choose by.
    """
    text = options.prune_weights
    if text is None:
        return None
    found = _sparsity(text)
    if found is None:
        raise OptionError(
            f"--prune-weights is {text!r}, but must be a share between 0 and 1, such as 0.5, "
            "or a pattern such as 2:4 for at most 2 of every 4 weights that are left"
        )
    if options.calibration is None:
        raise OptionError("--prune-weights needs samples: give --calibration")
    return found


def _sparsity(text: str) -> Sparsity | None:
    most, colon, of = text.partition(":")
    if colon:
        numbers = [int(n) for n in (most, of) if n.isascii() and n.isdigit()]
        if len(numbers) == 2 and 1 <= numbers[0] < numbers[1] <= _LONGEST_PATTERN:
            return Sparsity(pattern=(numbers[0], numbers[1]))
        return None
    try:
        share = float(text)
    except ValueError:
        return None
    return Sparsity(share) if 0 < share < 1 else None


def _check(options: CompileOptions) -> None:
    """Raise if an option makes no sense, used or not."""
    known = {
        "recipe": (options.recipe, tuple(r.name for r in RECIPES)),
        "range method": (options.ranges, tuple(METHODS)),
        "effort": (options.effort, EFFORTS),
        "io dtype": (options.io_dtype, get_args(IoDtype)),
        "io layout": (options.io_layout, get_args(IoLayout)),
        "project": (options.project, FORMS),
    }
    for what, (value, choices) in known.items():
        if value is not None and value not in choices:
            raise OptionError(f"there is no {what} {value!r}; known: {', '.join(choices)}")
    for name in ("max_float_error", "min_sqnr_db"):
        if not math.isfinite(getattr(options, name)):
            raise OptionError(f"{name} must be a number, but is {getattr(options, name)}")
    if options.evaluation is not None and not options.prove:
        raise OptionError("--eval runs the artifacts, which --no-proof leaves out")
    if options.percentile is not None and (options.ranges or DEFAULT) != Percentile.name:
        raise OptionError("--percentile goes with --ranges percentile only")
    if options.percentile is not None and not 50 < options.percentile <= 100:
        raise OptionError("--percentile must be above 50 and at most 100")
    if options.require_speedup is not None:
        if not options.require_speedup > 0:
            raise OptionError(f"--require-speedup is {options.require_speedup}: above 0 only")
        if options.recipe is None:
            raise OptionError("--require-speedup goes with a recipe only")
        if not (options.prove and options.compare_speed):
            raise OptionError(
                "--require-speedup runs the artifacts, which --no-proof and "
                "--no-speed leave out"
            )
    if not calibrates(options):
        _check_uncalibrated(options)
    if options.recover is not None:
        if options.recover < 1:
            raise OptionError(f"--recover is {options.recover} steps, but must be 1 or more")
        require_torch()
    check_budgets(options)
    sharing_asked(options)
    pruning_asked(options)
    _check_device(options)


def _check_uncalibrated(options: CompileOptions) -> None:
    """Raise if an option is about ranges or recovery, and there is nothing to calibrate."""
    given = {
        "--ranges": options.ranges is not None,
        "--percentile": options.percentile is not None,
        f"--effort {options.effort}": options.effort in ("full", "max"),
        "--recover": options.recover is not None and options.goal is None,
    }
    for name, is_given in given.items():
        if is_given:
            more = ", or one of the --target-… options" if name == "--recover" else ""
            raise OptionError(
                f"{name} goes with recipes that calibrate only: those of static_{more}"
            )


_DEVICES: Mapping[str, tuple[str, ...]] = {
    Tflite.name: tuple(d.name for d in TFLITE_DEVICES),
    OnnxRuntime.name: tuple(d.name for d in DEVICES),
    Microcontroller.name: core_names(),
}


def _device(options: CompileOptions, target: str) -> str:
    """Return the device of a target: what was asked for may be one of another."""
    name = options.device or _AUTO
    return name if name in _DEVICES[target] else _AUTO


def _check_device(options: CompileOptions) -> None:
    """Raise if no target has the device asked for."""
    known = {t: _DEVICES[t] for t in options.targets if t in _DEVICES}
    if options.device in (None, _AUTO, *(name for found in known.values() for name in found)):
        return
    told = "; ".join(
        f"{target} has {', '.join((_AUTO, *found))}" for target, found in known.items()
    )
    owner = next((t for t, found in _DEVICES.items() if options.device in found), "")
    other = f"is one of target {owner}, which is not asked for" if owner else "is not known"
    raise OptionError(f"device {options.device!r} {other}; {told}")


def calibrates(options: CompileOptions) -> bool:
    """Whether ranges of activations are needed."""
    return options.recipe is not None and recipe_named(options.recipe).needs_samples


def targets_for(options: CompileOptions) -> list[Target]:
    """Return the targets asked for, with their options."""
    _check(options)
    if not options.targets:
        raise OptionError("no target is given")
    if calibrates(options) and options.calibration is None:
        raise OptionError(f"recipe {options.recipe} needs samples: give --calibration")
    recipe = STATIC_INT8 if options.recipe is None else recipe_named(options.recipe)
    wishes = _wishes(options)
    found: list[Target] = []
    for name in dict.fromkeys(options.targets):
        match name:
            case Tflite.name:
                io = {"io_dtype": options.io_dtype, "io_layout": options.io_layout}
                runs_on = tflite_device(_device(options, name))
                found.append(
                    Tflite(**io, recipe=recipe, wishes=wishes, device=runs_on)  # type: ignore[arg-type]
                )
            case OnnxRuntime.name:
                device = device_named(_device(options, name))
                found.append(OnnxRuntime(device, recipe, wishes))
            case Microcontroller.name:
                core = _device(options, name)
                found.append(
                    Microcontroller(
                        load_core(DEFAULT_CORE if core == _AUTO else core),
                        recipe,
                        wishes,
                        budget_of(options),
                        options.project,  # type: ignore[arg-type]
                    )
                )
            case _:
                known = ", ".join(t.name for t in TARGETS)
                raise OptionError(f"there is no target {name!r}; known: {known}")
        found[-1].scheme()  # a recipe that it lacks should show before all the work
        if options.prove and isinstance(made := found[-1], Microcontroller):
            made.require_emulation()
    return found


def _wishes(options: CompileOptions) -> SchemeWishes:
    """Return what the user chose of the scheme; raise if the recipe has no use for it."""
    wishes = scheme_wishes(options.scheme)
    if options.scheme is None:
        return wishes
    if options.recipe is None:
        raise OptionError("--scheme goes with a recipe only")
    recipe = recipe_named(options.recipe)
    if recipe.weight_bits == 16:
        raise OptionError(f"recipe {recipe.name} has no integers: leave out --scheme")
    if wishes.of_activations and not recipe.needs_samples:
        raise OptionError(
            f"recipe {recipe.name} stores no activations as integers: of --scheme leave only "
            "words about weights, per-channel or per-tensor and power-of-two"
        )
    return wishes


def range_method(options: CompileOptions) -> RangeMethod:
    """Return how ranges follow from the samples.

    With 16 bits there are steps enough for all that was seen: what is cut off would be the
    largest error.
    """
    if options.percentile is not None:
        return Percentile(options.percentile)
    wide = options.recipe is not None and recipe_named(options.recipe).activations == "int16"
    return METHODS[options.ranges or (MinMax.name if wide else DEFAULT)]()


def check_layers(graph: Graph, keep_float: tuple[str, ...]) -> None:
    """Raise ``OptionError`` if a name is no layer of the model."""
    layers = list(dict.fromkeys(o for node in graph.nodes for o in node.origin))
    for name in keep_float:
        if name not in layers:
            near = difflib.get_close_matches(name, layers, 1)
            hint = f"did you mean {near[0]!r}?" if near else "edgec inspect lists the layers"
            raise OptionError(f"--keep-float {name!r} names no layer of the model; {hint}")
