"""What passes did to a program, as passes on graphs tell it: lines of the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from edgec.cost import Cost
from edgec.passes import Exact, LayerRecord, PassRecord
from edgec.program.counting import program_weight_bytes
from edgec.program.passes.base import Change
from edgec.program.program import Program

__all__ = ["ledger_line"]


def ledger_line(
    name: str,
    changes: Iterable[Change],
    programs: tuple[Program, Program] | None,
    before: Cost,
    seconds: float,
    *,
    tried: bool = False,
) -> PassRecord:
    """Return what the report says of a lossless pass on a program.

    Parameters
    ----------
    programs
        Before and after, whose weights are counted; ``None`` if there are no changes. Sums over
        layers would count weights that several of them share more than once.
    before
        Of what the pass began with.
    tried
        Whether both programs ran, and the outputs were equal.
    """
    done = tuple(changes)
    fewer = sum(c.macs[0] - c.macs[1] for c in done)
    old, new = map(program_weight_bytes, programs) if done and programs else (0, 0)
    lighter = old - new  # negative where layers do not share their weights any more
    after = replace(
        before,
        parameters=before.parameters - lighter,  # a weight is a byte
        macs=before.macs - fewer,
        weight_bytes=before.weight_bytes - lighter,
    )
    layers = tuple(
        LayerRecord(
            c.layer,
            math.inf,
            math.inf,
            c.done,
            macs=c.macs if any(c.macs) else None,  # it has none, or they stay
            weight_bytes=c.weight_bytes if any(c.weight_bytes) else None,
        )
        for c in done
    )
    error = 0.0 if tried or not done else None
    return PassRecord(name, str(Exact()), bool(done), before, after, error, seconds, (), layers)
