"""All passes. To add one, write its file, and name it here and in ``roster.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.later import later
from edgec.passes.absorb_expands import AbsorbExpands
from edgec.passes.base import (
    Exact,
    LayerRecord,
    Lossy,
    Pass,
    PassRecord,
    Pipeline,
    Promise,
    Sample,
    Within,
)
from edgec.passes.compute_in_float32 import ComputeInFloat32
from edgec.passes.decompose_block_products import DecomposeBlockProducts
from edgec.passes.decompose_determinants import DecomposeDeterminants
from edgec.passes.decompose_einsum import DecomposeEinsum
from edgec.passes.decompose_gemm import DecomposeGemm
from edgec.passes.decompose_integer_products import DecomposeIntegerProducts
from edgec.passes.decompose_quantization import DecomposeQuantization
from edgec.passes.decompose_sampling import DecomposeSampling
from edgec.passes.decompose_transforms import DecomposeTransforms
from edgec.passes.dequantize_moves import DequantizeMoves
from edgec.passes.dequantize_resizes import DequantizeResizes
from edgec.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.equalize_layers import EqualizeLayers
from edgec.passes.expand_functions import ExpandFunctions
from edgec.passes.flatten_products import FlattenProducts
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
from edgec.passes.pipelines import lossless, simplify
from edgec.passes.recipes import RECIPES, STATIC_INT8, Recipe, recipe_named
from edgec.passes.recognize_gelu import RecognizeGelu
from edgec.passes.recognize_hard_swish import RecognizeHardSwish
from edgec.passes.recognize_leaky_relu import RecognizeLeakyRelu
from edgec.passes.recognize_mish import RecognizeMish
from edgec.passes.recognize_norms import RecognizeNorms
from edgec.passes.recognize_pixel_shuffle import RecognizePixelShuffle
from edgec.passes.recognize_softmax import RecognizeSoftmax
from edgec.passes.recognize_stored_weights import RecognizeStoredWeights
from edgec.passes.scheme import (
    SCHEME_WORDS,
    Precision,
    Scheme,
    SchemeWishes,
    scheme_wishes,
)
from edgec.passes.share_constants import ShareConstants
from edgec.passes.simplify_pools import SimplifyPools
from edgec.passes.unpack_weights import UnpackWeights
from edgec.passes.unroll_loops import UnrollLoops
from edgec.passes.unroll_recurrent import UnrollRecurrent

if TYPE_CHECKING:
    from edgec.passes.absorb_biases import AbsorbBiases
    from edgec.passes.choose_scales import ChooseScales
    from edgec.passes.correct_biases import CorrectBiases
    from edgec.passes.correct_scales import CorrectScales
    from edgec.passes.equalize_clipped_layers import EqualizeClippedLayers
    from edgec.passes.factorize_low_rank import FactorizeLowRank, Rank
    from edgec.passes.factorize_separable import FactorizeSeparable
    from edgec.passes.judging import Judge
    from edgec.passes.migrate_scales import MigrateScales
    from edgec.passes.optimize_rounding import OptimizeRounding
    from edgec.passes.prune_channels import PruneChannels
    from edgec.passes.prune_weights import PruneWeights
    from edgec.passes.quantize import QuantizeGraph
    from edgec.passes.reconstruct_layers import ReconstructLayers
    from edgec.passes.recover import Recover
    from edgec.passes.refine_ranges import RefineRanges
    from edgec.passes.roster import PASSES
    from edgec.passes.round_weights import RoundWeights
    from edgec.passes.share_weights import ShareWeights
    from edgec.passes.store_weights import StoreWeights
    from edgec.passes.tie_constants import TieConstants

__all__ = [
    "PASSES",
    "RECIPES",
    "SCHEME_WORDS",
    "STATIC_INT8",
    "AbsorbBiases",
    "AbsorbExpands",
    "ChooseScales",
    "ComputeInFloat32",
    "CorrectBiases",
    "CorrectScales",
    "DecomposeBlockProducts",
    "DecomposeDeterminants",
    "DecomposeEinsum",
    "DecomposeGemm",
    "DecomposeIntegerProducts",
    "DecomposeQuantization",
    "DecomposeSampling",
    "DecomposeTransforms",
    "DequantizeMoves",
    "DequantizeResizes",
    "EliminateCommonSubexpressions",
    "EliminateIdentities",
    "EqualizeClippedLayers",
    "EqualizeLayers",
    "Exact",
    "ExpandFunctions",
    "FactorizeLowRank",
    "FactorizeSeparable",
    "FlattenProducts",
    "FoldBatchNorm",
    "FoldChannelShuffles",
    "FoldConstants",
    "FoldPad",
    "FuseActivations",
    "FuseFullyConnected",
    "JoinMoves",
    "Judge",
    "LayerRecord",
    "Lossy",
    "MergeArithmetic",
    "MergeCasts",
    "MergeClips",
    "MigrateScales",
    "MoveReshapes",
    "MoveTransposes",
    "OptimizeRounding",
    "Pass",
    "PassRecord",
    "Pipeline",
    "Precision",
    "Promise",
    "PruneChannels",
    "PruneWeights",
    "QuantizeGraph",
    "Rank",
    "Recipe",
    "RecognizeGelu",
    "RecognizeHardSwish",
    "RecognizeLeakyRelu",
    "RecognizeMish",
    "RecognizeNorms",
    "RecognizePixelShuffle",
    "RecognizeSoftmax",
    "RecognizeStoredWeights",
    "ReconstructLayers",
    "Recover",
    "RefineRanges",
    "RoundWeights",
    "Sample",
    "Scheme",
    "SchemeWishes",
    "ShareConstants",
    "ShareWeights",
    "SimplifyPools",
    "StoreWeights",
    "TieConstants",
    "UnpackWeights",
    "UnrollLoops",
    "UnrollRecurrent",
    "Within",
    "lossless",
    "recipe_named",
    "scheme_wishes",
    "simplify",
]

_LATER = {
    "AbsorbBiases": "absorb_biases",
    "ChooseScales": "choose_scales",
    "CorrectBiases": "correct_biases",
    "CorrectScales": "correct_scales",
    "EqualizeClippedLayers": "equalize_clipped_layers",
    "FactorizeLowRank": "factorize_low_rank",
    "FactorizeSeparable": "factorize_separable",
    "Judge": "judging",
    "MigrateScales": "migrate_scales",
    "OptimizeRounding": "optimize_rounding",
    "PruneChannels": "prune_channels",
    "PruneWeights": "prune_weights",
    "QuantizeGraph": "quantize",
    "ReconstructLayers": "reconstruct_layers",
    "Recover": "recover",
    "RefineRanges": "refine_ranges",
    "RoundWeights": "round_weights",
    "ShareWeights": "share_weights",
    "StoreWeights": "store_weights",
    "TieConstants": "tie_constants",
    "Rank": "factorize_low_rank",
    "PASSES": "roster",
}
"""What only those need who quantize: it takes a tenth of the time of a start to load."""

__getattr__ = later(__name__, _LATER)
