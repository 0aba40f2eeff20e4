"""What makes a graph smaller: what each way loses and saves, and what is chosen."""

from edgec.compression.channels import ChannelPruning
from edgec.compression.compressor import Compressed, Compressor, techniques_for
from edgec.compression.factors import Factorization
from edgec.compression.search import Found, Price, search
from edgec.compression.sites import Option, Picks, Site, Technique

__all__ = [
    "ChannelPruning",
    "Compressed",
    "Compressor",
    "Factorization",
    "Found",
    "Option",
    "Picks",
    "Price",
    "Site",
    "Technique",
    "search",
    "techniques_for",
]
