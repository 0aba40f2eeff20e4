"""A graph as a function of tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from edgec.differentiable.elementwise import ELEMENTWISE
from edgec.differentiable.layers import LAYERS
from edgec.differentiable.moves import MOVES
from edgec.differentiable.quantization import QUANTIZATION
from edgec.differentiable.recurrent import RECURRENT
from edgec.differentiable.rule import Rule
from edgec.differentiable.statistics import STATISTICS
from edgec.errors import Diagnostic, UnsupportedError
from edgec.ir import Array, Graph, Node, Op

__all__ = ["RULES", "Network", "tensor_of", "unsupported"]

RULES: Mapping[type[Op], Rule] = {
    **ELEMENTWISE,
    **LAYERS,
    **MOVES,
    **QUANTIZATION,
    **RECURRENT,
    **STATISTICS,
}
"""How each operator is computed; those that are missing cannot be differentiated through."""


class Network:
    """A graph that computes on tensors, from given values to wanted ones.

    Every sample is computed as the graph says it, whatever lengths it fixes: samples are
    stacked along a new axis, and each operator is mapped over it (``torch.vmap``). So a graph
    for a batch of one runs on many samples at once, and sums over a batch stay apart.

    What is quantized is carried as whole real numbers. Their gradient goes straight through
    the rounding, and is zero where they are cut off.

    Parameters
    ----------
    wanted
        Names of values to compute; the graph's outputs if there are none.
    given
        Names of values that are handed to each run: constants, or what nodes yield, which are
        not computed then.

    Raises
    ------
    UnsupportedError
        If an operator on the way is not in :data:`RULES`; names the layers.
    """

    def __init__(
        self, graph: Graph, wanted: Sequence[str] = (), given: Collection[str] = ()
    ) -> None:
        self.wanted = tuple(wanted) or tuple(v.name for v in graph.outputs)
        self._nodes = _between(graph, self.wanted, given)
        problems = unsupported(self._nodes)
        if problems:
            raise UnsupportedError("no gradients can be computed through the model", problems)
        self._last = {v.name: i for i, n in enumerate(self._nodes) for v in n.reads}
        read = {v.name for n in self._nodes for v in n.reads} | set(self.wanted)
        self._constants = {
            name: tensor_of(c.array)
            for name, c in graph.constants.items()
            if name in read and name not in given
        }

    def run(
        self, given: Mapping[str, Tensor], shifts: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return what is wanted of one sample.

        Parameters
        ----------
        shifts
            What is added to computed values, by name: a zero there has the gradient of the
            value itself.
        """
        known, moved = {**self._constants, **given}, shifts or {}
        for i, node in enumerate(self._nodes):
            inputs = [None if v.is_absent else known[v.name] for v in node.inputs]
            found = RULES[type(node.op)](node.op, *inputs)
            results = found if isinstance(found, tuple) else (found,)
            for value, result in zip(node.outputs, results, strict=False):
                shift = moved.get(value.name)
                known[value.name] = result if shift is None else result + shift
            for value in node.reads:
                if self._last[value.name] == i and value.name not in self.wanted:
                    known.pop(value.name, None)
        return {name: known[name] for name in self.wanted}

    def run_all(
        self,
        samples: Mapping[str, Tensor],
        given: Mapping[str, Tensor] | None = None,
        shifts: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what is wanted of several samples, stacked along a new first axis.

        Parameters
        ----------
        samples
            By name, stacked along a new first axis.
        given
            What all samples share.
        shifts
            What is added to computed values of each sample, stacked as well.
        """
        shared = given or {}

        def one(sample: dict[str, Tensor], moved: dict[str, Tensor]) -> dict[str, Tensor]:
            return self.run({**shared, **sample}, moved)

        found: dict[str, Tensor] = torch.vmap(one)(dict(samples), dict(shifts or {}))
        return found


def unsupported(nodes: Sequence[Node]) -> tuple[Diagnostic, ...]:
    """Return which nodes no gradients can be computed through."""
    hint = "recovery leaves out no layer: compile without it"
    return tuple(
        Diagnostic(f"there is no gradient for {node.op}", node.layer, hint)
        for node in nodes
        if type(node.op) not in RULES
    )


def tensor_of(array: Array) -> Tensor:
    """Return the tensor of an array; integers of 4 bits and less as those of 8."""
    if array.dtype.kind == "V":  # what numpy itself lacks
        array = array.astype(np.float32 if "float" in array.dtype.name else np.int8)
    return torch.from_numpy(np.array(array))


def _between(graph: Graph, wanted: Sequence[str], given: Collection[str]) -> tuple[Node, ...]:
    """Return the nodes that are needed to compute what is wanted from what is given."""
    needed = set(wanted) - set(given)
    found: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(v.name for v in node.outputs):
            found.append(node)
            needed.update(v.name for v in node.reads if v.name not in given)
    known = {v.name for v in graph.inputs} | set(graph.constants) | {""}
    made: set[str] = {v.name for n in found for v in n.outputs}
    missing = [name for name in wanted if name not in known | made | set(given)]
    if missing:
        raise ValueError(f"the graph has no value {missing[0]!r}")
    return tuple(reversed(found))
