"""Weights from few values: what that saves in a package and in a file, and what it loses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgec.cost import cost
from edgec.ir import Graph
from edgec.ops import Dequantize
from edgec.options import Sharing
from edgec.passes.divergence import Divergence
from edgec.passes.quantized_layers import QuantizedLayer, quantized_layers
from edgec.passes.share_weights import packed_bytes
from edgec.quantizing import Quantizing
from edgec.targets import Artifact

__all__ = ["SharedLayer", "compressed_bytes", "package_bytes", "shared_layers", "sharing_entry"]

_BYTES_OF_A_SCALE = 4


@dataclass(frozen=True, slots=True)
class SharedLayer:
    """What the weights of one layer take in a package.

    Parameters
    ----------
    layer
        The user's name for it.
    values
        Of the largest alphabet.
    plain_bytes
        As they are stored in the file.
    packed_bytes
        Of indices and alphabets, where these take less.
    """

    layer: str
    weights: int
    values: int
    alphabets: int
    plain_bytes: int
    packed_bytes: int

    @property
    def is_packed(self) -> bool:
        """Whether alphabets pay."""
        return self.packed_bytes < self.plain_bytes


def shared_layers(graph: Graph, sharing: Sharing) -> Iterator[SharedLayer]:
    """Yield what each quantized layer takes as indices, counted on what the graph stores."""
    seen: set[int] = set()
    for layer in quantized_layers(graph):
        if id(layer.stored.weight) in seen:
            continue
        seen.add(id(layer.stored.weight))
        yield _counted(layer, sharing)


def _counted(layer: QuantizedLayer, sharing: Sharing) -> SharedLayer:
    weight = layer.stored.weight
    alphabets = weight.shape[layer.channel] if sharing.per_channel else 1
    rows = np.moveaxis(weight, layer.channel, 0).astype(np.int16).reshape(alphabets, -1)
    values = max((len(np.unique(row)) for row in rows), default=0)
    plain = weight.nbytes
    packed = packed_bytes(weight.size, values, alphabets)
    name = layer.node.layer
    return SharedLayer(name, weight.size, values, alphabets, plain, min(plain, packed))


def package_bytes(graph: Graph, layers: Sequence[SharedLayer] = ()) -> int:
    """Return the bytes of all constants and scales of a graph, with some layers packed."""
    scales = sum(
        len(node.op.params.scale)
        for node in graph.nodes
        if isinstance(node.op, Dequantize) and graph.constant(node.inputs[0]) is not None
    )
    saved = sum(layer.plain_bytes - layer.packed_bytes for layer in layers)
    return cost(graph).weight_bytes + scales * _BYTES_OF_A_SCALE - saved


def compressed_bytes(artifact: Artifact) -> int:
    """Return what the files of an artifact take when zlib compresses them at its best."""
    found = len(zlib.compress(artifact.data, 9))
    if artifact.outside is not None:
        packer = zlib.compressobj(9)
        found += sum(len(packer.compress(part)) for part in artifact.outside.contents)
        found += len(packer.flush())
    return found


def sharing_entry(
    way: Quantizing,
    sharing: Sharing,
    before: tuple[Graph, Artifact],
    after: tuple[Graph, Artifact],
) -> dict[str, Any]:
    """Return what sharing saves and loses, for the report.

    Parameters
    ----------
    before, after
        The quantized graph and its artifact, each weight for itself and with shared values.
    """
    layers = list(shared_layers(after[0], sharing))
    divergence = Divergence(way.graph, list(way.data.proof()))
    nats = [float(divergence.of(graph).mean()) for graph, _ in (before, after)]
    return {
        "values": sharing.count,
        "each": "channel" if sharing.per_channel else "layer",
        "nats": nats,
        "samples": len(divergence.samples),
        "layers": [{**asdict(layer), "packed": layer.is_packed} for layer in layers],
        "package_bytes": [package_bytes(before[0]), package_bytes(after[0], layers)],
        "zlib_bytes": [compressed_bytes(artifact) for _, artifact in (before, after)],
    }
