"""What a trace tells of a signal: each way to a value, what stays unknown, and that live and replay read the same.

A check reads one signal of one small relation through `observe`, as the ledger does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.backends.live import compile_policy
from policyroute.language import Policy
from policyroute.language.policy import Value
from policyroute.replay.observe import EXTRACTED, Available, Observed, observe, wanted_content
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader
from tests.simulate_support import ROOT, policy_from, policy_of, replay

MODELS = """
model a { provider openai  id "gpt-4o"  in $1 out $1 }
model b { provider anthropic  id "claude-x"  in $1 out $1 }
otherwise { then a }
"""


def policy_with(declarations: str) -> Policy:
    return policy_from(declarations + MODELS)


def seen(
    policy: Policy, name: str, columns: Mapping[str, Any], *, dated: bool = True, assume: Mapping[str, Value] | None = None
) -> Observed:
    extracted = frozenset(column.removeprefix(EXTRACTED) for column in columns if column.startswith(EXTRACTED))
    held = frozenset(column for column in columns if not column.startswith(EXTRACTED))
    return observe(policy, [name], Available(held, extracted, dated), assume or {})[name]


def read(policy: Policy, name: str, columns: Mapping[str, pa.Array], **options: Any) -> list[Any]:
    """The signal's values over a relation with these columns."""
    table = pa.table({"place": pa.array(range(len(next(iter(columns.values()))))), **columns})
    connection = duckdb.connect()
    connection.register("given", table)
    found = connection.sql(f"SELECT {seen(policy, name, columns, **options).sql} FROM given ORDER BY place").fetchall()
    return [value for (value,) in found]


def odd(policy: Policy, name: str, columns: Mapping[str, pa.Array]) -> int:
    """How many rows hold a value outside the signal's type."""
    connection = duckdb.connect()
    connection.register("given", pa.table(dict(columns)))
    ((number,),) = connection.sql(f"SELECT count(*) FILTER (WHERE {seen(policy, name, columns).odd}) FROM given").fetchall()
    return int(number)


def texts(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def numbers(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int64())


# -- ways to a value -----------------------------------------------------------------------------------------------

PLAN = 'signal plan : free | pro = free  from header "x-plan", metadata "plan", column "user_plan"\n'

WAYS = [  # declarations, signal, columns, values, where from
    ("", "tokens", {"input_tokens": numbers(5, None)}, [5, None], "column `input_tokens`"),
    ("", "tokens", {"tokens": numbers(1, None), "input_tokens": numbers(5, 6)}, [1, 6], "column `tokens`, else column `input_tokens`"),
    ("", "tokens", {f"{EXTRACTED}tokens": numbers(7, None)}, [7, None], "extracted from `messages`"),
    ("", "tokens", {"input_tokens": numbers(5, None), f"{EXTRACTED}tokens": numbers(7, 8)}, [5, 8], "column `input_tokens`, else extracted from `messages`"),
    ("", "turns", {"input_tokens": numbers(5)}, [None], "not in the trace"),
    ("", "tool", {"tool": texts("grep", None), f"{EXTRACTED}tool": texts("edit", "none")}, ["grep", "none"], "column `tool`, else extracted from `messages`"),
    ("", "max_output", {"max_output_tokens": numbers(9, None)}, [9, 4_000], "column `max_output_tokens`"),
    ("", "max_output", {"input_tokens": numbers(5)}, [4_000], "not in the trace: default 4000"),
    ("", "stream", {"input_tokens": numbers(5)}, [False], "not in the trace: default false"),
    ("", "json", {f"{EXTRACTED}json": pa.array([True, None])}, [True, False], "extracted from `response_format`"),
    ("", "tools", {f"{EXTRACTED}tools": numbers(3, None)}, [3, 0], "extracted from `tools`"),
    ("", "tools", {"input_tokens": numbers(5)}, [None], "not in the trace"),
    ("", "user", {"user_id": texts("u", None)}, ["u", ""], "column `user_id`"),
    ("", "team", {"input_tokens": numbers(5)}, [""], "not in the trace: no request has one"),
    (PLAN, "plan", {"user_plan": texts("pro", None, "gold")}, ["pro", "free", "free"], "column `user_plan`"),
    (PLAN, "plan", {"metadata": texts('{"plan": "pro"}', '{"plan": null}', "[1]", "no JSON", None)}, ["pro", "free", "free", "free", "free"], "`metadata` key `plan`"),
    (PLAN, "plan", {"user_plan": texts(None, "free"), "metadata": texts('{"plan": "pro"}', '{"plan": "pro"}')}, ["pro", "free"], "column `user_plan`, else `metadata` key `plan`"),
    (PLAN, "plan", {"plan": texts("pro")}, [None], "not in the trace: it has no column `user_plan`"),
    ("signal plan : free | pro = free\n", "plan", {"plan": texts("pro")}, ["pro"], "column `plan`"),
    ("signal feature : (search | draft)?  from metadata \"feature\"\n", "feature", {"metadata": texts('{"feature": "draft"}', "{}")}, ["draft", "missing"], "`metadata` key `feature`"),
    ("signal seats : int 0..10 = 1\n", "seats", {"seats": texts("3", "12.5", "1e1", "2.0", "-4", "99", None, " 5 ")}, [3, 1, 1, 2, 0, 10, 1, 5], "column `seats`"),
    ("signal seats : int 0..10 = 1\n", "seats", {"seats": pa.array([3.0, 2.5, None, 99.0])}, [3, 1, 1, 10], "column `seats`"),
    ("signal beta : bool = true\n", "beta", {"beta": texts("true", "no", "0", "t", None, "YES")}, [True, False, False, True, True, True], "column `beta`"),
    ("signal tenant : key  from metadata \"tenant\"\n", "tenant", {"metadata": texts('{"tenant": 12}', "{}")}, ["12", ""], "`metadata` key `tenant`"),
    ("signal max_output : int 1..8k = 1k  from metadata \"limit\", column \"own\"\n", "max_output", {"own": numbers(5, None, None), "metadata": texts("{}", '{"limit": 6}', "{}")}, [5, 6, 1_000], "column `own`, else `metadata` key `limit`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declarations", "name", "columns", "wanted", "source"), WAYS, ids=[f"{number}-{way[1]}" for number, way in enumerate(WAYS)]
)
def test_way_to_a_value(declarations: str, name: str, columns: dict[str, pa.Array], wanted: list[Any], source: str) -> None:
    policy = policy_with(declarations)
    assert read(policy, name, columns) == wanted
    found = seen(policy, name, columns)
    assert found.source == source
    assert found.unknown or None not in wanted


def test_text_is_only_known_where_there_are_messages() -> None:
    policy = policy_from(
        'words urgent = "outage"\nmodel a { id "gpt-4o" }\nrule r { when prompt has urgent then a }\notherwise { then a }'
    )
    name = "prompt has urgent"
    assert wanted_content(policy, [name], {"messages"}) == (name,)
    assert wanted_content(policy, [name], {"input_tokens"}) == ()
    assert read(policy, name, {f"{EXTRACTED}{name}": pa.array([True, None])}) == [True, None]
    assert read(policy, name, {"input_tokens": numbers(1)}) == [None]


def test_a_ready_made_column_saves_the_extraction() -> None:
    policy = policy_with("")
    assert wanted_content(policy, ["tokens", "turns"], {"messages", "input_tokens"}) == ("turns",)
    assert wanted_content(policy, ["hour", "stream", "user"], {"messages", "ts"}) == ()


# -- ranges --------------------------------------------------------------------------------------------------------


def test_a_bound_never_stands_for_the_unknown() -> None:
    """DuckDB's `least` and `greatest` pass over NULL, and would make a bound of it."""
    policy = policy_with("signal tokens : int 10..20 = 15\n")
    columns = {"input_tokens": numbers(None, 1, 15, 99)}
    assert read(policy, "tokens", columns) == [None, 10, 15, 20]
    assert odd(policy, "tokens", columns) == 2
    assert duckdb.sql("SELECT greatest(least(NULL, 20), 10)").fetchall() == [(20,)]  # the trap


def test_values_outside_their_type_are_counted() -> None:
    assert odd(policy_with(PLAN), "plan", {"user_plan": texts("pro", "gold", None)}) == 1
    assert odd(policy_with("signal seats : int 0..10 = 1\n"), "seats", {"seats": texts("3", "many", "11", None)}) == 2
    assert odd(policy_with("signal beta : bool = true\n"), "beta", {"beta": texts("yes", "perhaps", None)}) == 1


# -- requested -----------------------------------------------------------------------------------------------------


def test_requested_is_found_by_name_id_and_provider() -> None:
    policy = policy_with("")
    columns = {"requested_model": texts("a", "gpt-4o", "openai/gpt-4o", "anthropic/claude-x", "gpt-5", None)}
    assert read(policy, "requested", columns) == ["a", "a", "a", "b", "*", None]
    assert seen(policy, "requested", columns).assumption == ""


def test_requested_is_taken_from_the_served_model_and_said() -> None:
    policy = policy_with("")
    assert read(policy, "requested", {"model": texts("claude-x")}) == ["b"]
    assert "model that served" in seen(policy, "requested", {"model": texts("claude-x")}).assumption
    assert read(policy, "requested", {"model": texts("claude-x", "claude-x"), "requested_model": texts("gpt-4o", None)}) == [
        "a",
        "b",
    ]


# -- time ----------------------------------------------------------------------------------------------------------


def around(change: datetime) -> list[datetime]:
    """Every half hour from a day before to a day after, and the seconds beside the change."""
    half_hours = [change + timedelta(minutes=30 * step) for step in range(-48, 49)]
    return [*half_hours, change - timedelta(seconds=1), change + timedelta(seconds=1)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("change", [datetime(2026, 3, 29, 1), datetime(2026, 10, 25, 1), datetime(2026, 11, 1, 6)], ids=str)
def test_time_zone_is_the_live_one(zone: str, change: datetime) -> None:
    policy = policy_with(f'timezone "{zone}"\n')
    moments = around(change)
    columns = {"ts": pa.array(moments, pa.timestamp("us"))}
    local = [moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)) for moment in moments]
    assert read(policy, "hour", columns) == [moment.hour for moment in local]
    assert read(policy, "weekday", columns) == [moment.strftime("%a").lower() for moment in local]
    facts = [Facts.of_body({}, at=moment, timezone=zone) for moment in moments]
    assert read(policy, "hour", columns) == [each.hour for each in facts]
    assert read(policy, "weekday", columns) == [each.weekday for each in facts]


def test_times_without_a_date_tell_no_hour() -> None:
    policy = policy_with("")
    columns = {"ts": pa.array([datetime(1970, 1, 1, 5)], pa.timestamp("us"))}
    assert read(policy, "hour", columns, dated=False) == [None]
    assert read(policy, "weekday", columns, dated=False) == [None]
    assert read(policy, "hour", {"input_tokens": numbers(1)}) == [None]


# -- assumptions ---------------------------------------------------------------------------------------------------


def test_an_assumption_fills_only_what_is_unknown() -> None:
    policy = policy_with(PLAN)
    turns = {f"{EXTRACTED}turns": numbers(4, None)}
    assert read(policy, "turns", turns, assume={"turns": 2}) == [4, 2]
    found = seen(policy, "turns", turns, assume={"turns": 2})
    assert (found.unknown, found.assumption) == (False, "where the trace doesn't tell, `turns` is taken as 2")
    assert read(policy, "images", {"input_tokens": numbers(1)}, assume={"images": True}) == [True]
    known = seen(policy, "plan", {"user_plan": texts("pro")}, assume={"plan": "pro"})
    assert known.assumption == ""


# -- live and replay -----------------------------------------------------------------------------------------------

HEADERS = {"region": "x-region", "residency": "x-residency"}
METADATA = {"user_plan": "plan", "feature": "feature", "seats": "seats"}


def live_request(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The body and headers that a caller would have sent for a row of an example trace."""
    body: dict[str, Any] = {"model": row["model"], "messages": json.loads(row["messages"]), "stream": row["stream"]}
    for name in ("tools", "response_format"):
        if row[name] is not None:
            body[name] = json.loads(row[name])
    if row["max_output_tokens"] is not None:
        body["max_tokens"] = row["max_output_tokens"]
    body["metadata"] = {key: row[column] for column, key in METADATA.items() if row.get(column) is not None}
    for name, value in (("user_id", row["user_id"]), ("team", row["team"]), ("conversation_id", row["conversation_id"])):
        if value is not None:
            body["metadata"][name] = value
    if row.get("escalated"):
        body["metadata"]["escalated"] = True
    return body, {header: row[column] for column, header in HEADERS.items() if row.get(column) is not None}


def live_decisions(policy: Policy, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Each row as it would have been decided when it came in: from the body, with counting left out where bounds decide."""
    reader, live = Reader(policy), compile_policy(policy, bounds=True)
    for row in rows:
        body, headers = live_request(row)
        facts = Facts.of_body(body, headers, row["ts"], policy.timezone)
        made = live.decide(reader(facts))
        yield made.rule, ",".join(made.chain), made.arm if made.arm >= 0 else None, made.propensity, made.explored


@cache
def without_counts(name: str, folder: Path) -> Path:
    """An example trace that holds what a request says, and nothing that was counted or billed."""
    table = pq.read_table(ROOT / "traces" / f"{name}.parquet")
    target = folder / f"{name}.parquet"
    counted = ("input_tokens", "cached_tokens", "cache_write_5m_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
    pq.write_table(table.drop_columns(list(counted)), target)
    return target


@pytest.mark.parametrize("name", ["support", "coding", "saas"])
def test_what_is_served_is_what_is_replayed(name: str, tmp_path: Path) -> None:
    """Every decision of a replay that extracts its signals is the one that the live function makes from the request's body."""
    policy, path = policy_of(f"policies/{name}.route"), without_counts(name, tmp_path)
    found = replay(policy, path, output=tmp_path / "decisions.parquet")
    assert {line["signal"]: line["source"] for line in found["signals"]}["tokens"] == "extracted from `messages`"
    decided = pq.read_table(tmp_path / "decisions.parquet", columns=["rule", "chain", "arm", "propensity", "explored"])
    replayed = [tuple(row.values()) for row in decided.to_pylist()]
    assert replayed == list(live_decisions(policy, pq.read_table(path).to_pylist()))


LIVE_AND_COLUMN: list[tuple[str, list[Any]]] = [  # a declared signal, and values that metadata may hold for it
    ("int 0..100 = 7", [3, "3", " 3 ", 12.0, "12.0", 12.5, "12.5", "1e1", "0x1", "--5", "-5", -5, 101, True, "²", "", None, [1], {"a": 1}]),
    ("bool = true", [True, False, "true", "FALSE", "yes", "no", "t", "y", 1, 0, 2, "on", "", None, []]),
    ("free | pro = free", ["pro", "PRO", " pro", "gold", 1, True, "", None, ["pro"]]),
    ("(free | pro)?", ["pro", "missing", "", None, 1]),
    ("key", ["a", "ünï", 12, 12.5, True, "", None, {"b": 1, "a": ["ü", None]}]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "given"), LIVE_AND_COLUMN, ids=[type_ for type_, _ in LIVE_AND_COLUMN])
def test_metadata_means_the_same_live_and_replayed(type_: str, given: list[Any]) -> None:
    """The value, and whether it lies outside the type."""
    policy = policy_with(f'signal own : {type_}  from metadata "own"\n')
    reader = Reader(policy)
    bodies = [{"messages": [], "metadata": {"own": value}} for value in given]
    live = [reader(Facts.of_body(body)) for body in bodies]
    columns = {"metadata": texts(*(json.dumps(body["metadata"]) for body in bodies))}
    assert read(policy, "own", columns) == [values.s_own for values in live]
    if not type_.startswith("key"):
        assert odd(policy, "own", columns) == sum("own" in values.odd for values in live)
