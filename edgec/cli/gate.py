"""``edgec gate``."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.options import json_option

__all__ = ["command"]

_EXAMPLE = """\b
Example:
  edgec gate out/report.json --budget "tflite.latency_ms<=45" \\
      --budget "accuracy>=0.91"
"""


@click.command("gate", epilog=_EXAMPLE)
@click.argument("report", type=click.Path(path_type=Path), required=False)
@click.option(
    "--budget",
    "budgets",
    metavar="[TARGET.]METRIC<=NUMBER",
    multiple=True,
    help="A limit that must hold; may be repeated. One of <= >= < >. Without a target it must "
    "hold for every artifact.",
)
@click.option("--list", "listing", is_flag=True, help="List the metrics and leave.")
@json_option("the verdict")
@click.pass_context
def command(
    ctx: click.Context,
    report: Path | None,
    budgets: tuple[str, ...],
    listing: bool,
    as_json: bool,
) -> None:
    """Hold REPORT, a report.json, against budgets.

    Exits with 0 if all hold, with 3 if one does not, and with 4 if a number is missing.
    """
    from edgec.files import json_bytes, read_report
    from edgec.gate import METRICS, Budget, check

    if listing:
        from edgec.cli.render import print_list

        rows = [
            {"name": m.name, "unit": m.unit, "better": m.better, "description": m.description}
            for m in METRICS
        ]
        print_list(rows, as_json=as_json)
        return
    if report is None:
        raise click.UsageError("Missing argument 'REPORT': the report.json of `edgec compile`.")
    if not budgets:
        raise click.UsageError("Missing option '--budget', for instance \"accuracy>=0.91\".")
    verdict = check(read_report(report), [Budget.parse(text) for text in budgets])
    if as_json:
        click.echo(json_bytes(verdict.to_dict()), nl=False)
    else:
        from edgec.cli.render_gate import print_verdict

        print_verdict(verdict)
    ctx.exit(verdict.exit_code)
