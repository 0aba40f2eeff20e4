"""How fast a model runs on this machine."""

from __future__ import annotations

from edgec.profiling.profile import OperatorTime, Profile
from edgec.profiling.run import Settings, profile_file

__all__ = ["OperatorTime", "Profile", "Settings", "profile_file"]
