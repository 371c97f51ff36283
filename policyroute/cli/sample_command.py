"""`policyroute sample`: requests for a human to score, stratum by stratum."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from policyroute.cli.common import CannotRun, loaded, one_policy
from policyroute.cli.trace_options import mapping_options, output_console, reading, replaying
from policyroute.render.audit import sheet as render
from policyroute.replay.audit.draw import SCALES, Sheet, draw, write_sheet
from policyroute.replay.audit.scores import enough_when_all_right


@click.command(name="sample")
@click.argument("decisions", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--per", type=(str, click.IntRange(1)), default=("tier", 50), show_default=True, metavar="COLUMN N",
    help="Draw N requests for each value of a column of the decisions.",
)  # fmt: skip
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("audit.csv"),
    show_default=True,
    metavar="FILE",
    help="The sheet: .csv or .parquet.",
)
@click.option("--scale", type=click.Choice(SCALES), default=SCALES[0], show_default=True, help="What a score is.")
@click.option("--seed", default="", metavar="TEXT", help="Another text draws other requests.")
@click.option("--force", is_flag=True, help="Overwrite a sheet that is there, with its scores.")
@click.option("--trace", "traces", multiple=True, metavar="TRACE...", help="The replayed files, for request ids and texts.")
@click.option("--with-text", is_flag=True, help="Add the last user message, and the answer where the decided model gave it.")
@click.option("--policy", "policy_file", metavar="FILE", help="The policy that decided, where the decisions don't name it.")
@mapping_options
@click.option("--json", "as_json", is_flag=True, help="Print what was drawn as JSON.")
def command(
    decisions: Path, more: tuple[str, ...], per: tuple[str, int], output: Path, scale: str, seed: str, force: bool, traces: tuple[str, ...],
    with_text: bool, policy_file: str | None, trace_format: str | None, mapping: tuple[str, ...], incumbent: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Draw requests from DECISIONS (`simulate --output`) into a sheet whose column `score` people fill.

    The same decisions and seed give the same sheet. `simulate --scores FILE` reads it back.
    """
    if more and not traces:
        raise CannotRun(f"there is a second file, `{more[0]}`", "policyroute sample DECISIONS --trace TRACE...")
    digest = loaded(one_policy(policy_file)).digest if policy_file else ""
    with replaying(), tempfile.TemporaryDirectory(prefix="policyroute-") as scratch:
        drawn = draw(
            decisions, *per, seed=seed, scale=scale, policy=digest, traces=[*traces, *more], with_text=with_text, scratch=Path(scratch),
            reading={"format": trace_format, **reading(mapping, incumbent)},
        )  # fmt: skip
        write_sheet(drawn, output, force=force)
    found = summary(drawn, output, with_text=with_text)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    render(found, output_console())


def summary(drawn: Sheet, output: Path, *, with_text: bool) -> dict[str, Any]:
    """What was drawn, JSON-ready."""
    population = sum(stratum.rows for stratum in drawn.strata)
    return {
        "schema": "policyroute.sample/1", "sheet": output.as_posix(), "per": drawn.per, "scale": drawn.scale, "policy": drawn.policy,
        "population": population, "left_out": drawn.left_out, "drawn": len(drawn.lines),
        "strata": [
            {"stratum": each.name, "rows": each.rows, "row_percent": f"{each.rows * 100 / population:.2f}", "drawn": each.drawn}
            for each in drawn.strata
        ],
        "notes": _notes(drawn, output, with_text),
    }  # fmt: skip


def _notes(drawn: Sheet, output: Path, with_text: bool) -> list[str]:
    enough = enough_when_all_right(drawn.scale)
    told = []
    if drawn.left_out:
        told.append(
            f"{drawn.left_out:,} requests reach no model (refused, unroutable or not replayable): there is nothing to score"
        )
    if any(each.drawn < enough for each in drawn.strata):
        told.append(f"fewer than {enough} scores of a stratum can't show 95 % correctness, even if all are right")
    if drawn.unanswered:
        answers = "their recorded answers are left out" if with_text else "their recorded answers are not what to score"
        told.append(
            f"{drawn.unanswered:,} of the drawn were recorded with another model than the decided one: {answers}; ask `decided_model`"
        )
    if not drawn.policy:
        told.append("the decisions name no policy: `--policy FILE` keeps its digest in the sheet")
    told.append(f"fill `score` from the top down; `policyroute simulate TRACES --scores {output.as_posix()}` reads it back")
    return told
