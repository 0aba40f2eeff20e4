"""``edgec passes``."""

from __future__ import annotations

import click

from edgec.cli.options import json_option

__all__ = ["command"]


@click.command("passes")
@json_option("the list")
def command(as_json: bool) -> None:
    """List the rewrites that models go through, and what each promises."""
    from edgec.cli.render import print_list
    from edgec.passes import PASSES

    rows = [
        {
            "name": p.name,
            "promise": str(p.promise),
            "description": (p.__doc__ or "").strip().partition("\n")[0].replace("``", ""),
        }
        for p in PASSES
    ]
    print_list(rows, as_json=as_json)
