"""Which channels of a graph go together, and the graph without some of them.

:mod:`~edgec.channels.links` tells for one node which indices of its operands' axes belong
together, :mod:`~edgec.channels.groups` joins them over the graph, and
:mod:`~edgec.channels.removal` takes some out.
"""

from edgec.channels.groups import ChannelGroup, Channels, Member, channels_of
from edgec.channels.links import Link, Links, links_of
from edgec.channels.removal import without

__all__ = [
    "ChannelGroup",
    "Channels",
    "Link",
    "Links",
    "Member",
    "channels_of",
    "links_of",
    "without",
]
