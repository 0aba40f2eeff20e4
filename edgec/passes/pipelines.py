"""The default pipelines: plain tuples, with the reason for the order beside each line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgec.ir import Array, Graph
from edgec.passes.absorb_expands import AbsorbExpands
from edgec.passes.base import Pass, PassRecord, Pipeline
from edgec.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.fold_batchnorm import FoldBatchNorm
from edgec.passes.fold_channel_shuffles import FoldChannelShuffles
from edgec.passes.fold_constants import FoldConstants
from edgec.passes.fold_pad import FoldPad
from edgec.passes.fuse_activations import FuseActivations
from edgec.passes.fuse_fully_connected import FuseFullyConnected
from edgec.passes.join_moves import JoinMoves
from edgec.passes.merge_arithmetic import MergeArithmetic
from edgec.passes.merge_casts import MergeCasts
from edgec.passes.merge_clips import MergeClips
from edgec.passes.move_reshapes import MoveReshapes
from edgec.passes.move_transposes import MoveTransposes
from edgec.passes.recognize_gelu import RecognizeGelu
from edgec.passes.recognize_hard_swish import RecognizeHardSwish
from edgec.passes.recognize_leaky_relu import RecognizeLeakyRelu
from edgec.passes.recognize_mish import RecognizeMish
from edgec.passes.recognize_norms import RecognizeNorms
from edgec.passes.recognize_pixel_shuffle import RecognizePixelShuffle
from edgec.passes.recognize_softmax import RecognizeSoftmax
from edgec.passes.share_constants import ShareConstants
from edgec.passes.simplify_pools import SimplifyPools

__all__ = ["lossless", "simplify"]


def simplify(
    graph: Graph,
    sample: Mapping[str, Array] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Run `lossless` again and again, until nothing changes any more.

    A graph that is simple already comes back as the very same object. Parameters and results
    are those of :class:`edgec.passes.Pipeline`.
    """
    return Pipeline(lossless(), sample, progress, repeat=True).run(graph)


def lossless() -> tuple[Pass, ...]:
    """Return the passes that every model goes through before anything lossy."""
    return (
        # First: exporters compute pads, axes and shapes in the graph, and the other passes
        # see only operators whose attributes are known.
        FoldConstants(),
        # Nodes that read equal constants are equal only once these are one.
        ShareConstants(),
        EliminateCommonSubexpressions(),
        # Before the folds: an identity between two layers would keep them apart.
        EliminateIdentities(),
        JoinMoves(),
        MoveTransposes(),
        MoveReshapes(),
        AbsorbExpands(),
        MergeCasts(),
        # Before FuseActivations, which finds a layer and its one clip only, and before the
        # patterns, which know a hard swish by its one clip.
        MergeClips(),
        # Patterns before all folds, which would take up their constants one by one, and
        # before FuseActivations, which would take up that clip.
        RecognizeGelu(),
        RecognizeHardSwish(),
        RecognizeLeakyRelu(),
        RecognizeMish(),
        RecognizeNorms(),
        RecognizePixelShuffle(),
        RecognizeSoftmax(),
        # After the patterns, which are made of such chains.
        MergeArithmetic(),
        FoldPad(),
        SimplifyPools(),
        # Before FoldBatchNorm: affine nodes fold into fully connected layers too.
        FuseFullyConnected(),
        FoldBatchNorm(),
        # After FoldBatchNorm: a batch norm would keep a layer and its activation apart.
        FuseActivations(),
        # Last: layers pass an order on that batch norms and moves in between would not.
        FoldChannelShuffles(),
    )
