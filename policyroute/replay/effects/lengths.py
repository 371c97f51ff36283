"""How long another model's answer would have been, and how many tokens it would have counted in the prompt.

Four ways, named in every report. `held`: as many as recorded (an assumption). `modelled`: the recorded count times the ratio of both
models' mean answers to requests that the same rule takes, from traffic that both served. A table: the user's own
ratios. `paired`: what the other model did write to the same prompt, from an outcomes table.

Ratios are whole millionths, so the same digits come out whatever the order of rows.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import duckdb

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.policy import Policy
from policyroute.replay.options import SimulationError
from policyroute.replay.served import Served

HELD, MODELLED, PAIRED = "held", "modelled", "paired"
MODES = (HELD, MODELLED, PAIRED)
UNIT = 1_000_000
ENOUGH = 50  # answers of each model, below which a ratio is not taken
TABLE = "length_ratios"
Means = Mapping[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """From one model (by number) to another, in millionths; `rule` is a rule's number, -1 for any."""

    rule: int
    old: int
    new: int
    output: int
    input: int = UNIT


def create_ratios(connection: duckdb.DuckDBPyConnection, ratios: Sequence[Ratio], rules: int) -> None:
    """Make the table of ratios, one row for each rule and pair of models; a rule's own ratio goes before that for any."""
    table = {(rule, each.old, each.new): each for each in ratios if each.rule < 0 for rule in range(rules)}
    table |= {(each.rule, each.old, each.new): each for each in ratios if each.rule >= 0}
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE {TABLE} (rule INTEGER, "old" INTEGER, "new" INTEGER, output_ratio BIGINT, input_ratio BIGINT)'
    )
    if table:
        rows = [(*key, each.output, each.input) for key, each in sorted(table.items())]
        connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)


def modelled(means: Means, models: Sequence[int]) -> list[Ratio]:
    """Ratios to `models` from the answers of each (rule, model): how many there were, and their tokens.

    Of a rule's own traffic where both models have `ENOUGH` answers in it, else of all rules that both served, each rule
    weighed by the old model's answers: the mix of requests is then the same on both sides.
    """
    found = []
    olds = sorted({model for _, model in means})
    for old, new in ((old, new) for old in olds for new in models if old != new):
        shared = sorted(rule for rule, model in means if model == old and (rule, new) in means)
        own = [rule for rule in shared if min(means[rule, old][0], means[rule, new][0]) >= ENOUGH and means[rule, old][1]]
        found += [Ratio(rule, old, new, _ratio(means, [rule], old, new)) for rule in own]
        if min(sum(means[rule, model][0] for rule in shared) for model in (old, new)) >= ENOUGH if shared else False:
            found.append(Ratio(-1, old, new, _ratio(means, shared, old, new)))
    return found


def _ratio(means: Means, rules: Sequence[int], old: int, new: int) -> int:
    before = Decimal(sum(means[rule, old][1] for rule in rules))
    after = sum((Decimal(means[rule, new][1]) * means[rule, old][0] / means[rule, new][0] for rule in rules), Decimal(0))
    return int((after * UNIT / before).to_integral_value()) if before else UNIT


# -- the user's own table ------------------------------------------------------------------------------------------


def read_ratios(path: Path, policy: Policy, served: Served) -> list[Ratio]:
    """The ratios of a CSV file with the columns `from`, `to`, `output_ratio` and, where wanted, `input_ratio` and `rule`.

    Models are named as in the report: by the policy's name or the recorded id. Raises SimulationError with the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"from", "to", "output_ratio"} - set(reader.fieldnames or ())
            if missing:
                raise SimulationError(
                    f"`{path}` lacks {', '.join(f'`{name}`' for name in sorted(missing))}",
                    "its first line is `from,to,output_ratio` (and `input_ratio`, `rule`)",
                )
            names = _names(policy, served)
            rules = {rule.name: number for number, rule in enumerate(policy.rules)}
            found = [_read(path, number, row, names, rules) for number, row in enumerate(reader, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SimulationError(f"`{path}` can't be read: {error}", "ratios are a CSV file: `from,to,output_ratio`") from None
    return [ratio for ratios in found for ratio in ratios]


def _names(policy: Policy, served: Served) -> dict[str, list[int]]:
    names: dict[str, list[int]] = defaultdict(list)
    for number, label in enumerate(served.labels):
        names[label].append(number)
    for number, model in zip(served.numbers[0], policy.models.values(), strict=True):
        if number not in names[model.id]:
            names[model.id].append(number)
    return names


def _read(
    path: Path, line: int, row: Mapping[str, str | None], names: Mapping[str, list[int]], rules: Mapping[str, int]
) -> list[Ratio]:
    rule = (row.get("rule") or "").strip()
    if rule and rule not in rules:
        raise SimulationError(
            f"`{path}`, line {line}: no rule is named `{rule}`", did_you_mean(rule, rules) or "leave it empty for any rule"
        )
    output = _millionths(path, line, row.get("output_ratio"))
    into = _millionths(path, line, row.get("input_ratio") or "1")
    # A model that neither the policy nor the trace knows has no rows to apply to.
    olds, news = (names.get((row.get(side) or "").strip(), []) for side in ("from", "to"))
    return [Ratio(rules.get(rule, -1), old, new, output, into) for old in olds for new in news]


def _millionths(path: Path, line: int, text: str | None) -> int:
    try:
        value = Decimal((text or "").strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not Decimal("0.001") <= value <= 1000:
        raise SimulationError(
            f"`{path}`, line {line}: `{text}` is not a ratio from 0.001 to 1000", "1.25 means a quarter more tokens"
        )
    return int((value * UNIT).to_integral_value())


# -- SQL -----------------------------------------------------------------------------------------------------------


def held(relation: str) -> str:
    """The rows of `relation` with "$new_input_tokens" and "$new_output_tokens" as recorded."""
    return (
        f'SELECT *, "$input_tokens" AS "$new_input_tokens", "$output_tokens" AS "$new_output_tokens", {UNIT} AS "$input_ratio", '
        f'"$old" <> "$new" AS "$assumed" FROM ({relation})'
    )


def scaled(relation: str) -> str:
    """The rows of `relation` with the new model's tokens by the table of ratios; "$assumed" where it has none."""
    changed = 'r."$old" <> r."$new"'
    return (
        f'SELECT r.*, {_times("$input_tokens", "input_ratio", changed)} AS "$new_input_tokens", '
        f'{_times("$output_tokens", "output_ratio", changed)} AS "$new_output_tokens", coalesce(l.input_ratio, {UNIT}) AS "$input_ratio", '
        f'{changed} AND l.rule IS NULL AS "$assumed" FROM ({relation}) r '
        f'LEFT JOIN {TABLE} l ON l.rule = r."$rule" AND l."old" = r."$old" AND l."new" = r."$new"'
    )


def _times(tokens: str, ratio: str, changed: str) -> str:
    return (
        f'CASE WHEN {changed} AND l.rule IS NOT NULL THEN (r."{tokens}" * l.{ratio} + {UNIT // 2}) // {UNIT} ELSE r."{tokens}" END'
    )


def paired(relation: str, outcomes: str) -> str:
    """The rows of `relation` (with "$request") with what `outcomes(request_id, number, input_tokens, output_tokens)` holds of the new model.

    Where the trace has no usage of the old model, that of its outcome stands in.
    """
    join = f'LEFT JOIN {outcomes} {{0}} ON {{0}}.request_id = r."$request" AND {{0}}.number = r."${{1}}"'
    old = {name: f'coalesce(r."${name}", o.{name})' for name in ("input_tokens", "output_tokens")}
    new = {name: f'CASE WHEN r."$old" <> r."$new" THEN coalesce(n.{name}, {old[name]}) ELSE {old[name]} END' for name in old}
    replaced = ", ".join(f'{sql} AS "${name}"' for name, sql in old.items())
    return (
        f'SELECT r.* REPLACE ({replaced}), {new["input_tokens"]} AS "$new_input_tokens", {new["output_tokens"]} AS "$new_output_tokens", '
        f'{UNIT} AS "$input_ratio", r."$old" <> r."$new" AND n.output_tokens IS NULL AS "$assumed" FROM ({relation}) r '
        f"{join.format('o', 'old')} {join.format('n', 'new')}"
    )
