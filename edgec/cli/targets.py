"""``edgec targets``."""

from __future__ import annotations

import click

from edgec.cli.options import json_option

__all__ = ["command"]


@click.command("targets")
@json_option("the list")
def command(as_json: bool) -> None:
    """List what models can be compiled for."""
    from edgec.cli.render import print_list
    from edgec.targets import TARGETS

    rows = [{"name": t.name, "description": t.description} for t in TARGETS]
    print_list(rows, as_json=as_json)
