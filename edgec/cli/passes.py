"""``edgec passes``."""

from __future__ import annotations

import click

from edgec.cli.options import json_option

__all__ = ["command"]


@click.command("passes")
@json_option("the list")
def command(as_json: bool) -> None:
    """List the rewrites of models, and what each promises."""
    from edgec.cli.render import print_list
    from edgec.passes import PASSES, Pass
    from edgec.targets import TARGETS

    listed: list[tuple[str, type[Pass]]] = [("", p) for p in PASSES]
    for target in (make() for make in TARGETS):
        steps = (*target.prepare(), *target.finish())
        own = [type(step) for step in steps if type(step) not in PASSES]
        listed += [(f"{target.name} only: ", step) for step in own]
    rows = [
        {
            "name": p.name,
            "promise": str(p.promise),
            "description": scope + (p.__doc__ or "").partition("\n")[0].replace("``", ""),
        }
        for scope, p in listed
    ]
    print_list(rows, as_json=as_json)
