"""The default pipelines: plain tuples, with the reason for the order beside each line."""

from __future__ import annotations

from edgec.passes.base import Pass
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.fold_batchnorm import FoldBatchNorm
from edgec.passes.fold_constants import FoldConstants
from edgec.passes.fold_pad import FoldPad
from edgec.passes.fuse_activations import FuseActivations
from edgec.passes.fuse_fully_connected import FuseFullyConnected
from edgec.passes.simplify_pools import SimplifyPools

__all__ = ["lossless"]


def lossless() -> tuple[Pass, ...]:
    """Return the passes that every model goes through before anything lossy."""
    return (
        # First: exporters compute pads, axes and shapes in the graph, and the other passes
        # see only operators whose attributes are known.
        FoldConstants(),
        # Before the folds: an identity between two layers would keep them apart.
        EliminateIdentities(),
        FoldPad(),
        SimplifyPools(),
        # Before FoldBatchNorm: affine nodes fold into fully connected layers too.
        FuseFullyConnected(),
        FoldBatchNorm(),
        # After FoldBatchNorm: a layer with an activation takes no batch norm any more.
        FuseActivations(),
    )
