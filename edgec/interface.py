"""What goes into a model and comes out of it, and which targets can take that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.errors import Diagnostic, ModelError, OptionError, UnsupportedError
from edgec.evaluate import OnnxSession
from edgec.ir import Array, ContainerType, Graph, Value
from edgec.targets import OnnxRuntime, Target

__all__ = ["check_batch", "check_interface", "open_inputs"]


def open_inputs(graph: Graph) -> tuple[Value, ...]:
    """Return the inputs whose batch, the first axis, has a name instead of a length."""
    return tuple(v for v in graph.inputs if v.type.dims and isinstance(v.type.dims[0], str))


def check_interface(graph: Graph, targets: Sequence[Target]) -> None:
    """Refuse inputs and outputs that a target cannot have.

    Raises
    ------
    UnsupportedError
        If one is no tensor and a target takes tensors only, or an input is a map.
    OptionError
        If a length other than that of the batch is left open, or a target wants them all.
    """
    fixed = next((t.name for t in targets if not isinstance(t, OnnxRuntime)), None)
    for value in (*graph.inputs, *graph.outputs):
        if isinstance(value.type, ContainerType) and fixed is not None:
            raise UnsupportedError(
                f"{fixed} takes and returns tensors only",
                [Diagnostic(f"is {value.type}", value.name, "compile for onnxruntime")],
            )
    batches = {v.type.shape[0] for v in open_inputs(graph)}
    for value in graph.inputs:
        t = value.type
        if isinstance(t, ContainerType):
            if "map" in str(t):
                raise UnsupportedError(f"input {value.name} is {t}; edgec feeds no maps")
        elif not t.is_static:
            if fixed is not None:
                raise OptionError(
                    f"input {value.name} is {t}, but {fixed} files have a fixed shape",
                    [Diagnostic("give numbers only, as in --shape NAME=1,3,224,224")],
                )
            if any(isinstance(d, str) and d not in batches for d in t.shape):
                raise OptionError(
                    f"input {value.name} is {t}, but only its batch, axis 0, can stay open",
                    [Diagnostic("give the others as numbers, as in --shape NAME=N,3,224,224")],
                )


def check_batch(
    original: OnnxSession, graph: Graph, feed: Mapping[str, Array]
) -> tuple[Mapping[str, Array], ...]:
    """Return inputs with twice the batch of `feed`; nothing if the batch is fixed.

    Raises
    ------
    OptionError
        If the model itself does not run on them: its batch was fixed when it was exported.
    """
    wanted = {v.name for v in open_inputs(graph)}
    if not wanted:
        return ()
    # A sample and its mirror image: rows that are mixed up do not look alike.
    double = {
        name: np.concatenate([a, a[..., ::-1]]) if name in wanted else a
        for name, a in feed.items()
    }
    try:
        original.run(double)
    except ModelError as error:
        raise OptionError(
            "the batch cannot be left open: the model itself runs with a batch of one only",
            [Diagnostic(error.summary, hint="give --shape numbers only")],
        ) from error
    return (double,)
