"""Which tensors share a buffer, how long buffers live, and where they lie in the arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.program import Program
from edgec.targets.microcontroller.kernels import Code
from edgec.targets.microcontroller.memory import Buffer, Overlay, Plan, place

__all__ = ["Arena", "arena_of"]


@dataclass(frozen=True, slots=True)
class Arena:
    """Places of everything that is not constant.

    Parameters
    ----------
    places
        Offsets of tensors, by number.
    scratch
        Offsets of what steps work in, by step.
    views
        Steps for which nothing is to be done: their results are their operands.
    buffers, overlays
        What was placed; buffers of tensors are called ``tensor 3``, of steps ``scratch 3``.
    """

    places: dict[int, int]
    scratch: dict[int, int]
    views: frozenset[int]
    buffers: tuple[Buffer, ...]
    overlays: tuple[Overlay, ...]
    plan: Plan


def arena_of(program: Program, codes: Sequence[Code], *, overlap: bool) -> Arena:
    """Place the tensors of a program.

    Parameters
    ----------
    codes
        Of each step.
    overlap
        Whether results may lie over operands that die, where their kernels allow it.
    """
    roots, views = _roots(program, codes)
    spans = _spans(program, roots)
    sizes: dict[int, int] = {}
    for tensor, root in roots.items():
        sizes[root] = max(sizes.get(root, 0), program.tensors[tensor].size_bytes)
    buffers = [
        Buffer(f"tensor {root}", sizes[root], first, last)
        for root, (first, last) in sorted(spans.items())
    ]
    for k, code in enumerate(codes):
        if code.scratch and k not in views:
            buffers.append(Buffer(f"scratch {k}", code.scratch, k, k))
    overlays = _overlays(program, codes, roots, views, spans) if overlap else []
    plan = place(buffers, overlays)
    return Arena(
        {tensor: plan.offsets[f"tensor {root}"] for tensor, root in roots.items()},
        {
            k: plan.offsets[f"scratch {k}"]
            for k, code in enumerate(codes)
            if code.scratch and k not in views
        },
        frozenset(views),
        tuple(buffers),
        tuple(overlays),
        plan,
    )


def _roots(program: Program, codes: Sequence[Code]) -> tuple[dict[int, int], set[int]]:
    """Return the tensor in whose buffer each lies, and the steps that are views."""
    roots = {i: i for i in (*program.inputs, *program.variables)}
    views = set()
    for k, (step, code) in enumerate(zip(program.steps, codes, strict=True)):
        given = step.inputs[0] if step.inputs else -1
        kept = given in program.variables or program.tensors[given].data is not None
        if code.view and given in roots and not kept:
            roots[step.outputs[0]] = roots[given]
            views.add(k)
            continue
        for result in step.outputs:
            roots.setdefault(result, result)
    for tensor in program.outputs:
        if program.tensors[tensor].data is None:
            roots.setdefault(tensor, tensor)
    return roots, views


def _spans(program: Program, roots: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Return the first and the last step at which a buffer has to be as it is."""
    end = max(0, len(program.steps) - 1)
    spans: dict[int, tuple[int, int]] = {}

    def alive(tensor: int, step: int) -> None:
        root = roots.get(tensor)
        if root is not None:
            first, last = spans.get(root, (step, step))
            spans[root] = (min(first, step), max(last, step))

    for tensor in program.inputs:
        alive(tensor, 0)
    for k, step in enumerate(program.steps):
        for tensor in (*step.inputs, *step.outputs):
            alive(tensor, k)
    for tensor in program.outputs:
        alive(tensor, end)
    for tensor in program.variables:
        alive(tensor, 0)
        alive(tensor, end)
    return spans


def _overlays(
    program: Program,
    codes: Sequence[Code],
    roots: dict[int, int],
    views: set[int],
    spans: dict[int, tuple[int, int]],
) -> list[Overlay]:
    found = []
    kept = {roots[i] for i in (*program.outputs, *program.variables) if i in roots}
    for k, (step, code) in enumerate(zip(program.steps, codes, strict=True)):
        if k in views or len(step.outputs) != 1:
            continue
        result = roots[step.outputs[0]]
        slacks: dict[int, int | None] = {}
        exact: set[int] = set()
        for position, tensor in enumerate(step.inputs):
            root = roots.get(tensor)
            if root is None:
                continue
            slack = code.slack.get(position)
            if slack is None and position in code.in_place:
                slack = 0
                exact.add(root)
            before = slacks.get(root, slack)
            # An operand that is read twice is overwritten as late as either reading allows.
            slacks[root] = None if slack is None or before is None else min(slack, before)
        for root, slack in slacks.items():
            dies = spans[root][1] == k and root not in kept and root != result
            if slack is not None and dies:
                overlay = Overlay(f"tensor {result}", f"tensor {root}", slack, root in exact)
                found.append(overlay)
    return found
