"""Calls of a model's own functions, replaced by what the functions do."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import helper

from edgec.errors import ModelError, UnsupportedError

__all__ = ["inline"]

_Key = tuple[str, str, str]

_MOST_NODES = 250_000
"""Functions that call others twice each would otherwise grow without bound."""


def inline(path: Path, model: onnx.ModelProto) -> None:
    """Replace all calls in `model` itself; a node in a function is called ``CALL/NODE``.

    Raises
    ------
    ModelError
        If a function calls itself.
    UnsupportedError
        If the model would become too large.
    """
    functions = [copy.deepcopy(f) for f in model.functions]
    del model.functions[:]
    versions = {_domain(o.domain) for o in model.opset_import}
    for function in functions:
        # onnx's checker has made sure that the versions mean the same to what is in there.
        for entry in function.opset_import:
            if _domain(entry.domain) not in versions:
                versions.add(_domain(entry.domain))
                model.opset_import.append(entry)
    _Inliner(path, functions, model.graph).rewrite(model.graph, ())


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


class _Inliner:
    """Replaces calls in one model; dropped afterwards."""

    def __init__(
        self, path: Path, functions: Sequence[onnx.FunctionProto], graph: onnx.GraphProto
    ) -> None:
        self.path = path
        self.functions = {(f.domain, f.name, f.overload): f for f in functions}
        self.names = set(_names(graph))
        self.count = 0

    def rewrite(self, graph: onnx.GraphProto, active: tuple[_Key, ...]) -> None:
        """Replace the calls in a graph and in the bodies of its nodes."""
        nodes = list(graph.node)
        del graph.node[:]
        for index, node in enumerate(nodes):
            for kept in self._expanded(node, f"{node.op_type}_{index}", graph, active):
                graph.node.append(kept)

    def _expanded(
        self,
        node: onnx.NodeProto,
        fallback: str,
        graph: onnx.GraphProto,
        active: tuple[_Key, ...],
    ) -> Iterable[onnx.NodeProto]:
        self.count += 1
        if self.count > _MOST_NODES:
            raise UnsupportedError(f"{self.path} has more than {_MOST_NODES} nodes")
        key = (node.domain, node.op_type, node.overload)
        function = self.functions.get(key)
        if function is None:
            for body in _bodies(node):
                self.rewrite(body, active)
            return [node]
        if key in active:
            raise ModelError(f"{self.path} has a function {function.name} that calls itself")
        layer = node.name or fallback
        found: list[onnx.NodeProto] = []
        for index, inner in enumerate(self._body(node, function, layer, graph)):
            inner.name = f"{layer}/{inner.name or f'{inner.op_type}_{index}'}"
            found += self._expanded(inner, inner.name, graph, (*active, key))
        return found

    def _body(
        self,
        node: onnx.NodeProto,
        function: onnx.FunctionProto,
        layer: str,
        graph: onnx.GraphProto,
    ) -> list[onnx.NodeProto]:
        """Return the nodes of a function, with the values and attributes of one call."""
        names = dict.fromkeys(function.input, "")
        names.update(zip(function.input, node.input, strict=False))
        returned: list[onnx.NodeProto] = []
        for position, formal in enumerate(function.output):
            actual = node.output[position] if position < len(node.output) else ""
            if formal in names:  # what was given, or what another output is too
                source = names[formal]
                if actual and source:
                    returned.append(helper.make_node("Identity", [source], [actual]))
            elif actual:
                names[formal] = actual
        given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        inner: list[onnx.NodeProto] = []
        for proto in function.node:
            inner.append(copy.deepcopy(proto))
            self._rename(inner[-1], names, given, layer)
        for info in function.value_info:
            if info.name in names and info.name not in function.input:
                renamed = graph.value_info.add()
                renamed.CopyFrom(info)
                renamed.name = names[info.name]
        return [*inner, *returned]

    def _rename(
        self,
        node: onnx.NodeProto,
        names: dict[str, str],
        given: Mapping[str, onnx.AttributeProto],
        layer: str,
    ) -> None:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [self._named(name, names, layer) for name in node.output]
        attributes = list(node.attribute)
        del node.attribute[:]
        for attribute in attributes:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name not in given:
                    continue
                kept = node.attribute.add()
                kept.CopyFrom(given[attribute.ref_attr_name])
                kept.name = attribute.name
                continue
            node.attribute.append(attribute)
        own = {a.name for a in attributes if not a.ref_attr_name}
        for attribute in node.attribute:
            if attribute.name in own:  # what the caller gives has the caller's names
                for body in _graphs_of(attribute):
                    self._rename_body(body, dict(names), given, layer)

    def _rename_body(
        self,
        body: onnx.GraphProto,
        names: dict[str, str],
        given: Mapping[str, onnx.AttributeProto],
        layer: str,
    ) -> None:
        tensors = [*body.initializer, *(t.values for t in body.sparse_initializer)]
        for value in (*body.input, *tensors):
            names.pop(value.name, None)  # a name of its own, whatever is outside
            value.name = self._named(value.name, names, layer)
        for node in body.node:
            for name in node.output:
                names.pop(name, None)
            self._rename(node, names, given, layer)
        for value in (*body.output, *body.value_info):
            value.name = names.get(value.name, value.name)

    def _named(self, name: str, names: dict[str, str], layer: str) -> str:
        """Return the name in the model of what a function calls `name`."""
        if name and name not in names:
            names[name] = self._fresh(f"{layer}/{name}")
        return names[name] if name else ""

    def _fresh(self, near: str) -> str:
        name, n = near, 1
        while name in self.names:
            name, n = f"{near}.{n}", n + 1
        self.names.add(name)
        return name


def _graphs_of(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from _graphs_of(attribute)


def _names(graph: onnx.GraphProto) -> Iterable[str]:
    named = (*graph.input, *graph.output, *graph.initializer)
    yield from (v.name for v in named)
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output
        for body in _bodies(node):
            yield from _names(body)
