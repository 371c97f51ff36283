"""`policyroute import`: any known trace as canonical parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import duckdb

from policyroute.cli.common import CannotRun, pairs
from policyroute.replay.traces import TraceError, open_trace, write_canonical


@click.command(name="import")
@click.argument("traces", nargs=-1, required=True)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The parquet file to write.",
)
@click.option("--trace-format", "format_", metavar="NAME", help="The trace's format, where it should not be detected.")
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Read a canonical column from a field of the trace.")
@click.option("--incumbent", metavar="MODEL", help="The model that served a trace which names none.")
def command(traces: tuple[str, ...], output: Path, format_: str | None, mapping: tuple[str, ...], incumbent: str | None) -> None:
    """Turn TRACES of any known shape into one canonical parquet file."""
    try:
        with tempfile.TemporaryDirectory(prefix="policyroute-") as scratch, duckdb.connect() as connection:
            trace = open_trace(
                list(traces),
                connection=connection,
                format=format_,
                mapping=pairs(mapping, "--map"),
                incumbent=incumbent,
                scratch=Path(scratch),
            )
            rows = write_canonical(trace, connection, output)
    except TraceError as error:
        raise CannotRun(str(error), error.help) from None
    except OSError as error:
        raise CannotRun(f"`{output}` can't be written: {error.strerror}", "check the folder and the space on its disk") from None
    click.echo(f"{rows:,} requests read as `{trace.format}`, written to {output}")
    click.echo(f"columns with values: {', '.join(sorted(trace.present | set(trace.extra)))}", err=True)
    for note in trace.notes:
        click.echo(f"note[{note.code}]: {note.message}", err=True)
