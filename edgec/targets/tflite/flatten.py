"""Flatten channels-last: let a fully connected layer read the order images are stored in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import FullyConnected, Reshape, Transpose
from edgec.passes import Pass, Promise, Within
from edgec.targets.tflite.lower import NHWC

__all__ = ["FlattenChannelsLast"]


@dataclass(frozen=True, slots=True)
class FlattenChannelsLast(Pass):
    """Rewrite ``FullyConnected(Reshape(x))`` of an image to read its channels last.

    ``x [N, C, H, W]`` flattened to ``[N, C*H*W]`` becomes ``Transpose`` to ``[N, H, W, C]``
    and a flattening of that, with the columns of the weights permuted alike. The transpose is
    free where images are stored channels-last, the one it replaces is not. Nothing else may
    read the flattened value.

    Within rounding: the same products are added in another order.
    """

    name: ClassVar[str] = "flatten-channels-last"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._rewrite(b, node):
                b.copy(node)
        return b.finish()

    def _rewrite(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, FullyConnected):
            return False
        flat = b.producer(b.now(node.inputs[0]))
        if flat is None or not isinstance(flat.op, Reshape):
            return False
        image = flat.inputs[0]
        weight = b.array(b.now(node.inputs[1]))
        if weight is None or not image.type.is_static or image.type.rank != 4:
            return False
        n, c, h, w = image.type.ints
        alone = b.source.is_only_read_by(node.inputs[0], node)
        whole = flat.output.type.dims == (n, math.prod((c, h, w)))
        producer = b.producer(image)
        stored_so = producer is not None and not isinstance(producer.op, Transpose)
        if not (alone and whole and stored_so) or c == 1 or h * w == 1:
            return False
        names = [b.fresh(f"{image.name}.channels_last")]
        (turned,) = b.add(Transpose(NHWC), image, names=names, absorbs=(flat,))
        names = [b.fresh(f"{flat.output.name}.channels_last")]
        (flattened,) = b.add(Reshape((n, -1)), turned, names=names, absorbs=(flat,))
        columns = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
        permuted = b.constant(np.ascontiguousarray(columns), near=node.inputs[1].name)
        b.add(node.op, flattened, permuted, *map(b.now, node.inputs[2:]), like=node)
        return True
