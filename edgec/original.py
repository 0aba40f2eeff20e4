"""The model that artifacts are compared with, in a form that ONNX Runtime runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import Diagnostic, ModelError
from edgec.evaluate import OnnxSession, ort_session
from edgec.export import is_large, to_onnx
from edgec.frontend import Loaded
from edgec.frontend.floats import in_float32
from edgec.ir import DType, Graph
from edgec.ops import Opaque
from edgec.passes import ExpandFunctions

__all__ = ["Form", "provable", "reference"]


@dataclass(frozen=True, slots=True)
class Form:
    """What artifacts are compared with, as far as it is no session.

    Parameters
    ----------
    model
        The file; or the graph, where ONNX Runtime cannot run the file.
    graph
        What is compiled.
    notes
        Where the graph is not what the file says.
    """

    model: Path | Graph
    graph: Graph
    notes: tuple[Diagnostic, ...] = ()


def reference(model: Path | Graph, *, optimize: bool = True) -> OnnxSession:
    """Return a model in ONNX Runtime: what every artifact is compared with."""
    if isinstance(model, Path):
        return OnnxSession(ort_session(str(model), optimize=optimize, sound=True))
    weights = {k: c.array for k, c in model.constants.items() if is_large(c.array)}
    data = to_onnx(model, weights=False).SerializeToString()
    return OnnxSession(ort_session(data, optimize=optimize, sound=True, weights=weights))


def provable(loaded: Loaded) -> tuple[OnnxSession, Form]:
    """Return a model as ONNX Runtime can run it.

    The newest operators of the standard come before runtimes have them; the standard says what
    most of them are in terms of others. Few operators have kernels for float64.

    Raises
    ------
    ModelError
        If ONNX Runtime runs it in no way.
    """
    graph, notes = loaded.graph, loaded.notes
    model = graph if notes else loaded.path
    try:
        return reference(model), Form(model, graph, notes)
    except ModelError as refusal:
        for rewrites in ((_spelled_out,), (_in_float32,), (_in_float32, _spelled_out)):
            after, said = graph, notes
            for rewrite in rewrites:
                before = after
                after, note = rewrite(before)
                said = said if after is before else (*said, note)
            if after is not graph:
                with suppress(ModelError):  # the next may help
                    return reference(after), Form(after, after, said)
        raise refusal


def _spelled_out(graph: Graph) -> tuple[Graph, Diagnostic]:
    after = ExpandFunctions().run(graph)
    kinds = [n.op.op_type for n in graph.nodes if isinstance(n.op, Opaque)]
    left = {n.op.op_type for n in after.nodes if isinstance(n.op, Opaque)}
    gone = ", ".join(k for k in dict.fromkeys(kinds) if k not in left)
    return after, Diagnostic(
        f"ONNX Runtime does not run this model; it is proven with {gone} written out as the "
        "ONNX standard defines it"
    )


def _in_float32(graph: Graph) -> tuple[Graph, Diagnostic]:
    return in_float32(graph, (DType.FLOAT64,)), Diagnostic(
        "ONNX Runtime does not run this model in float64; it is computed in float32"
    )
