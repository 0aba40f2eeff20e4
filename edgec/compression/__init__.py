"""What makes a graph smaller: what each way loses and saves, and what is chosen."""

from edgec.compression.sites import Option, Picks, Site, Technique

__all__ = ["Option", "Picks", "Site", "Technique"]
