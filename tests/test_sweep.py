"""A sweep's totals against a slow reckoning of every candidate, and against `simulate`; values of tunables that are given when loading."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.backends.sql import expression
from policyroute.language import Policy, PolicyError, check_file, check_text, load
from policyroute.language.formatter import format_source
from policyroute.language.limits import requested_names
from policyroute.language.numerals import renumbered
from policyroute.language.policy import ANY_OTHER, Value
from policyroute.language.reference import decide
from policyroute.language.source import Source
from policyroute.prices.catalog import complete
from policyroute.prices.cost import Cost, Usage, cost
from policyroute.replay.options import Options, SimulationError
from policyroute.replay.tuning.candidates import leaves, lifted, moving, subjects, threshold, tuned
from policyroute.replay.tuning.effective import paired, replayed
from policyroute.replay.tuning.holdout import Holdout, parse_holdout
from policyroute.replay.tuning.sweep import sweeping
from policyroute.replay.tuning.totals import Totals, added
from policyroute.replay.tuning.variants import compare, variants
from tests.simulate_support import ROOT, catalog, held, picodollars, policy_from, policy_of, replay

HELD = Options(prompt_cache="held", failures=False)
EXAMPLES = ("support", "coding", "saas")

POLICY = """
signal plan : free | pro = free  from column "plan"
tunable short : int 20..400 = 60
tunable long  : int 500..8k = 1k
tunable gap   : int 0..5k   = 200
model mini   { id "gpt-4o-mini" }
model haiku  { id "claude-haiku-4-5" }
model strong { id "gpt-4o"  context 6k }
model odd    { id "nobody-sells-this" }
tier cheap    = mini, haiku
tier standard = haiku, strong
tier premium  = strong, haiku
order cheap < standard < premium
forbid haiku when plan is free and tokens > long + 1k
rule pasted { when tokens > 6k + gap and plan is free then refuse "too long" }
rule quick  { when short > last_tokens and not code then cheap }
rule wide   { when tokens - last_tokens > 2 * gap and turns == 2 then premium }
rule odd    { when tokens >= long and turns != 3 and code then odd }
rule asked  { when turns == 3 or tokens < short + 100 then requested fallback mini }
rule trial  { when plan is pro and tokens <= long then split by user { 60% cheap, 40% standard } }
shadow rule tiny { when last_tokens < short then cheap }
otherwise   { then standard }
explore 20% by user
"""
SERVED = ("gpt-4o", "claude-haiku-4-5", "gpt-4o-mini", "a-model-without-price", "odd")

Row = Mapping[str, Any]


def rows_of(count: int) -> list[dict[str, Any]]:
    """Requests of a hundred users, made by a seeded generator."""
    draw = random.Random(7)
    return [
        {
            "ts": datetime(2026, 9, 1) + timedelta(hours=number), "user_id": f"user {draw.randrange(40)}", "model": draw.choice(SERVED),
            "requested_model": draw.choice(SERVED), "input_tokens": draw.randrange(20, 7_500), "cached_tokens": draw.choice((0, 0, 15)),
            "output_tokens": draw.randrange(1, 900), "last_tokens": draw.randrange(1, 450), "turns": draw.randrange(1, 5), "code": draw.random() < 0.3,
            "plan": draw.choice(("free", "pro")), "max_output": 100,
        }
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "trace.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of(600)), path)
    return path


@cache
def example() -> Policy:
    return policy_from(POLICY)


def candidates() -> list[Policy]:
    """Boundary-heavy values, the written ones among them."""
    values = product((20, 60, 61, 333, 400), (500, 1000, 3001, 8000), (0, 200, 777))
    return [tuned(example(), dict(zip(("short", "long", "gap"), each, strict=True))) for each in values]


# -- one candidate, reckoned slowly --------------------------------------------------------------------------------


@dataclass
class Reckoned:
    """What a slow reckoning makes of some requests."""

    counts: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)


def values_of(policy: Policy, row: Row) -> dict[str, Value]:
    known = requested_names(policy)
    values: dict[str, Value] = {name: signal.default for name, signal in policy.signals.items()}
    values |= {name: row[name] for name in ("last_tokens", "turns", "code", "plan", "max_output")}
    return values | {
        "tokens": row["input_tokens"], "user": row["user_id"], "requested": known.get(row["requested_model"], ANY_OTHER),
    }  # fmt: skip


def reckoned(policy: Policy, rows: Sequence[Row]) -> Reckoned:
    found, lists, known = Reckoned(), catalog().for_policy(policy), requested_names(policy)
    for row in rows:
        decision = decide(policy, values_of(policy, row))
        name = known.get(row["model"])
        usage = Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"])
        old = cost(usage, lists.get(name) if name else catalog().price_list(row["model"]), row["ts"])
        found.counts["rows"] += 1
        if not decision.chain:
            found.counts["unroutable" if decision.refused == "no model can take this request" else "refused"] += 1
            continue
        _count(found, policy, row, old, cost(usage, lists.get(decision.chain[0]), row["ts"]), decision, name)
    return found


def _count(found: Reckoned, policy: Policy, row: Row, old: Cost | None, new: Cost | None, decision: Any, name: str | None) -> None:
    rule = next(rule for rule in policy.rules if rule.name == decision.rule)
    route = rule.routes[max(decision.arm, 0)]
    model = decision.chain[0]
    found.tiers[route.tier or ",".join(route.chain)] += 1
    found.models[model] += 1
    found.rules[rule.name] += 1
    found.counts["compared"] += 1
    found.counts["moved"] += name != model
    if old is not None and new is not None:
        found.counts.update({"priced": 1, "changed": name != model, "old": old.picodollars, "new": new.picodollars})


def same(totals: Totals, wanted: Reckoned) -> None:
    """Every number of the totals is the slow one."""
    names = ("rows", "refused", "unroutable", "priced", "changed", "old", "new", "compared", "moved")
    assert {name: getattr(totals, name) for name in names} == {name: wanted.counts[name] for name in names}
    assert (totals.tiers, totals.models, totals.rules) == (wanted.tiers, wanted.models, wanted.rules)
    assert totals.unknown == 0


def test_every_candidate_is_reckoned_exactly(trace: Path) -> None:
    """60 candidates in one sweep: rows, money, shares and classes equal the reference interpreter's with `prices.cost`."""
    rows = rows_of(600)
    with sweeping([example()], [trace], catalog(), HELD, holdout=parse_holdout("25%")) as (sweep,):
        found = sweep.totals(candidates())
        early = [row for row in rows if row["ts"] <= sorted(row["ts"] for row in rows)[449]]
    late = rows[len(early) :]
    assert len(early) == 450
    for policy, periods in zip(candidates(), found, strict=True):
        same(periods.early, reckoned(policy, early))
        same(periods.late, reckoned(policy, late))
        same(periods.whole, reckoned(policy, rows))
    assert len({(periods.whole.old, periods.whole.new) for periods in found}) > 40


def test_bags_add_up(trace: Path) -> None:
    """The money of clusters is that of the totals, in both periods, and so is a replay's with nothing but prices."""
    with sweeping([example()], [trace], catalog(), HELD, holdout=parse_holdout("25%")) as (sweep,):
        for policy in candidates()[::17]:
            (periods,) = sweep.totals([policy])
            for late, totals in ((False, periods.early), (True, periods.late), (None, periods.whole)):
                bags = sweep.bags(policy, late=late)
                assert (sum(old for old, _ in bags.values()), sum(new for _, new in bags.values())) == (totals.old, totals.new)
                full = replayed(sweep, policy, late=late)
                assert {bag: (each.old, each.new) for bag, each in full.items()} == bags
                assert sum(each.changed for each in full.values()) == totals.changed
        moved, all_ = sweep.moved_users(example())[1]
        assert 0 < moved <= all_ <= 40


def test_paired_rows_are_priced_under_both(trace: Path) -> None:
    """The difference of two policies is of the requests that both answer at a known cost."""
    was, now = candidates()[0], candidates()[-1]
    rows, lists, known = rows_of(600)[450:], catalog().for_policy(was), requested_names(was)
    wanted = [0, 0, 0]
    for row in rows:
        chains = [decide(policy, values_of(policy, row)).chain for policy in (was, now)]
        usage = Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"])
        name = known.get(row["model"])
        prices = [
            lists.get(name) if name else catalog().price_list(row["model"]),
            *(lists.get(chain[0]) if chain else None for chain in chains),
        ]
        costs = [cost(usage, each, row["ts"]) for each in prices]
        if all(costs):
            wanted = [so_far + one.picodollars for so_far, one in zip(wanted, costs, strict=True) if one]
    with sweeping([was], [trace], catalog(), HELD, holdout=parse_holdout("25%")) as (sweep,):
        found = paired(sweep, was, now)
    assert [sum(each[place] for each in found.values()) for place in range(3)] == wanted


def test_unknown_signals_leave_rows_out(tmp_path: Path) -> None:
    """A signal that a trace doesn't tell: each candidate has the numbers that `simulate` has for it."""
    rows = [
        {**row, "code": None if number % 3 == 0 else row["code"], "turns": None if number % 4 == 0 else row["turns"]}
        for number, row in enumerate(rows_of(300))
    ]
    path = tmp_path / "unknown.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with sweeping([example()], [path], catalog(), HELD) as (sweep,):
        found = sweep.totals(candidates())
    assert len({periods.whole.unknown for periods in found}) > 1
    for place in range(0, len(found), 13):
        result, totals = held(candidates()[place], path), found[place].whole
        by_class = {line["class"]: line["rows"] for line in result["accounting"]}
        assert (totals.unknown, totals.refused, totals.unroutable) == (
            by_class["not replayable"],
            by_class["refused"],
            by_class["unroutable"],
        )
        assert (totals.old, totals.new) == (
            picodollars(result["headline"]["baseline_usd"]),
            picodollars(result["headline"]["routed_usd"]),
        )


@pytest.mark.parametrize("name", EXAMPLES)
def test_totals_are_those_of_simulate(name: str) -> None:
    """Over the example traces, with usage held: the same to the picodollar, and the same for the baseline of another policy."""
    policy, path = policy_of(f"policies/{name}.route"), ROOT / "traces" / f"{name}.parquet"
    for baseline in (None, policy_of("policies/hello.route")):
        headline = held(policy, path, baseline_policy=baseline)["headline"]
        options = Options(prompt_cache="held", failures=False, baseline_policy=baseline)
        with sweeping([policy], [path], catalog(), options) as (sweep,):
            totals = sweep.totals([policy])[0].whole
        wanted = (headline["rows"], headline["changed"], picodollars(headline["baseline_usd"]), picodollars(headline["routed_usd"]))
        assert (totals.priced, totals.changed, totals.old, totals.new) == wanted


def test_splits_threads_and_company_change_nothing(trace: Path, tmp_path: Path) -> None:
    """Totals are the same from two files in any order of rows, with one thread, and whatever other candidates are swept along."""
    table = pq.read_table(trace)
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for part, rows in zip(parts, (table.slice(0, 250), table.slice(250)), strict=True):
        pq.write_table(rows.take(list(reversed(range(rows.num_rows)))), part)
    with sweeping([example()], [trace], catalog(), HELD) as (sweep,):
        wanted = sweep.totals(candidates())
        alone = [sweep.totals([policy])[0] for policy in candidates()[:3]]
    with sweeping([example()], parts, catalog(), Options(prompt_cache="held", failures=False, threads=1)) as (sweep,):
        assert sweep.totals(candidates()) == wanted
    assert alone == wanted[:3]


def test_one_pass_for_many() -> None:
    """Requests fall into far fewer classes than there are requests: that is what makes a candidate cheap."""
    policy = policy_of("policies/support.route")
    moved = [tuned(policy, {"short": short, "long": long}) for short in range(20, 400, 40) for long in range(600, 8000, 800)]
    with sweeping([policy], [ROOT / "traces" / "support.parquet"], catalog(), HELD) as (sweep,):
        sweep.totals(moved)
        assert sweep.connection.table(f"{sweep.table}_classes").shape[0] < 300


def test_a_changed_model_finds_nothing_cached(trace: Path) -> None:
    """`--cache off` holds in a sweep too."""
    headline = replay(example(), trace, prompt_cache="off", failures=False)["headline"]
    with sweeping([example()], [trace], catalog(), Options(prompt_cache="off", failures=False)) as (sweep,):
        assert sweep.totals([example()])[0].whole.new == picodollars(headline["routed_usd"])


def test_a_baseline_that_a_policy_lacks() -> None:
    policies = [policy_of("policies/support.route"), policy_of("policies/hello.route")]
    with pytest.raises(SimulationError, match="no model `sonnet`"), sweeping(
        policies, [ROOT / "traces" / "support.parquet"], catalog(), Options(baseline="sonnet")
    ):  # fmt: skip
        pass


def test_totals_add_up() -> None:
    one, other = Totals(rows=2, old=5, tiers={"a": 1}), Totals(rows=1, old=7, tiers={"a": 2, "b": 1})
    assert added(one, other) == Totals(rows=3, old=12, tiers={"a": 3, "b": 1})
    assert added(one, other).saving == 12


# -- columns side by side ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"prompt_cache": "held", "failures": False}, {"lengths": "modelled"}])
def test_columns_are_what_simulate_says(options: dict[str, Any]) -> None:
    """Each column has the headline of its own replay, with whatever is reckoned; the first is the policy as it is written."""
    path = ROOT / "traces" / "support.parquet"
    moved = complete(check_file(ROOT / "policies/support.route", tunables={"long": 2000}).policy, catalog())[0]
    policies = [policy_of("policies/support.route"), moved]
    columns = compare(policies, [path], catalog(), Options(**options))
    for policy, column in zip(policies, columns, strict=True):
        found = replay(policy, path, **options)
        headline = found["headline"]
        assert {key: column[key] for key in ("rows", "changed", "baseline_usd", "routed_usd", "saving_usd", "saving_percent")} == {
            key: headline[key] for key in ("rows", "changed", "baseline_usd", "routed_usd", "saving_usd", "saving_percent")
        }
        assert column["interval"] == found["interval"]["saving_percent"]
        assert column["digest"] == policy.digest
    assert [column["policy"] for column in columns] == ["support long=1000", "support long=2000"]
    assert list(columns[0]["shares"]) == ["cheap", "standard", "premium"]


def test_columns_of_a_holdout_and_of_other_policies(trace: Path) -> None:
    """Policies with models of their own stand side by side; the hold-out has figures of its own."""
    other = policy_from(
        'tunable short : int 0..100 = 50\nmodel solo { id "gpt-4o-mini" }\nrule all { when tokens < short then solo }\notherwise { then solo }'
    )
    columns = compare([example(), other], [trace], catalog(), HELD, holdout=parse_holdout("25%"))
    assert columns[1]["shares"] == {"solo": "100.00"}
    for policy, column in zip((example(), other), columns, strict=True):
        headline = held(policy, trace)["headline"] if policy is example() else None
        assert headline is None or column["routed_usd"] == headline["routed_usd"]
        assert column["holdout"]["sentence"] == "the last 25 % of the requests"
        assert 0 < Decimal(column["holdout"]["baseline_usd"]) < Decimal(column["baseline_usd"])


def test_columns_of_twins_have_names_of_their_own(trace: Path) -> None:
    twins = [policy_from(f'model {name} {{ id "gpt-4o-mini" }}\notherwise {{ then {name} }}') for name in ("one", "two")]
    names = [column["policy"] for column in compare(twins, [trace], catalog(), HELD)]
    assert len(set(names)) == 2 and all(name.startswith("example (") for name in names)


def test_variants() -> None:
    assert variants({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert variants({}) == [{}]
    with pytest.raises(SimulationError, match="more than 100"):
        variants({"a": range(11), "b": range(10)})


# -- hold-outs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("7d", Holdout("7d", seconds=604_800)), (" 12h ", Holdout("12h", seconds=43_200)), ("25%", Holdout("25%", share=2_500)),
     ("12.5 %", Holdout("12.5 %", share=1_250)), ("90min", Holdout("90min", seconds=5_400))],
)  # fmt: skip
def test_holdouts(text: str, wanted: Holdout) -> None:
    assert parse_holdout(text) == wanted


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "0%", "91%", "-7d", "7 days", "99.99%"])
def test_what_is_no_holdout(text: str) -> None:
    with pytest.raises(SimulationError) as raised:
        parse_holdout(text)
    assert "--holdout" in raised.value.help


@pytest.mark.parametrize(
    ("days", "asked", "rows", "sentence"),
    [
        (28, "7d", 168, "the last 7d of the trace"),
        (10, "7d", 60, "the last 25 % of the requests; the trace is shorter than twice 7d"),
        (10, "50%", 120, "the last 50 % of the requests"),
    ],
)
def test_the_end_of_the_trace_is_held_out(tmp_path: Path, days: int, asked: str, rows: int, sentence: str) -> None:
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of(days * 24)), path)
    with sweeping([example()], [path], catalog(), HELD, holdout=parse_holdout(asked)) as (sweep,):
        (periods,) = sweep.totals([example()])
        assert (periods.late.rows, sweep.where.sentence, sweep.where.by) == (rows, sentence, "time")


def test_clusters_are_held_out_where_there_are_no_times(tmp_path: Path) -> None:
    """Nobody is on both sides."""
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.Table.from_pylist([{key: value for key, value in row.items() if key != "ts"} for row in rows_of(400)]), path)
    with sweeping([example()], [path], catalog(), HELD, holdout=parse_holdout("7d")) as (sweep,):
        assert sweep.where.by == "cluster" and "no dates" in sweep.where.sentence
        early, late = (set(sweep.bags(example(), late=side)) for side in (False, True))
    assert early and late and early.isdisjoint(late)


# -- candidates ----------------------------------------------------------------------------------------------------


def test_tuned_policies_are_the_ones_that_load() -> None:
    """Moving a value in a checked policy gives what checking the file with that value gives."""
    for name in EXAMPLES:
        policy = policy_of(f"policies/{name}.route")
        for moved in moving(policy):
            value = policy.tunables[moved].type.high
            checked = complete(check_file(ROOT / f"policies/{name}.route", tunables={moved: value}).policy, catalog())[0]
            mine = tuned(policy, {moved: value})
            assert (mine.rules, mine.forbids, mine.tunables) == (checked.rules, checked.forbids, checked.tunables)
            assert lifted(mine) == lifted(policy)


def test_what_a_tunable_is_compared_with() -> None:
    policy = example()
    assert moving(policy) == ("short", "long", "gap")
    assert [expression(one) for one in subjects(policy, "short")] == ['"last_tokens"']
    assert subjects(policy, "gap") == ()
    found = [threshold(leaf) for rule in policy.rules for leaf in leaves(rule.condition)]
    assert ("<", 60, "short") in [(each.operator, each.value, each.tunable) for each in found if each]


# -- values given when loading -------------------------------------------------------------------------------------


def test_given_values_change_the_policy_and_its_digest() -> None:
    path = ROOT / "policies" / "support.route"
    written = load(path)
    assert load(path, tunables={}).digest == load(path, tunables={"short": 60}).digest == written.digest
    changed = load(path, tunables={"short": 61})
    assert changed.digest != written.digest and changed.tunables["short"].value == 61
    assert changed.digest == check_text(path.read_text("utf-8").replace("= 60 ", "= 61 "), folder=path.parent).policy.digest


@pytest.mark.parametrize(
    ("given", "code", "message", "help_"),
    [
        ({"shrt": 60}, "unknown-name", "no tunable is named `shrt`", "did you mean `short`?"),
        ({"zebra": 1}, "unknown-name", "no tunable is named `zebra`", "tunables are `short`, `long`"),
        ({"short": 401}, "bad-range", "`short` can't be 401: its range is 20 to 400", "give a value inside the range, or widen it"),
        ({"short": 19}, "bad-range", "`short` can't be 19: its range is 20 to 400", "give a value inside the range, or widen it"),
    ],
)
def test_bad_values_are_diagnostics(given: dict[str, int], code: str, message: str, help_: str) -> None:
    path = ROOT / "policies" / "support.route"
    (found,) = check_file(path, tunables=given).diagnostics
    assert (found.code, found.message, found.help) == (code, message, help_)
    with pytest.raises(PolicyError):
        load(path, tunables=given)


def test_a_policy_without_tunables_says_how_to_have_one() -> None:
    checked = check_text('edition 1\npolicy x\nmodel a { id "gpt-4o" }\notherwise { then a }', tunables={"short": 1})
    assert [found.help for found in checked.diagnostics] == ["declare one: `tunable short : int 50..2k = 500`"]


# -- numerals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_numerals_change(name: str) -> None:
    """The text with other numbers is the policy with these values, still in the house's layout; words and comments stay."""
    path = ROOT / "policies" / f"{name}.route"
    source = Source(path.as_posix(), path.read_text("utf-8"))
    tunables = load(path).tunables
    assert renumbered(source, {each: tunables[each].value for each in tunables}) == source.text
    values = {each: one.type.high - 1 for each, one in tunables.items()}
    text = renumbered(source, values)
    assert check_text(text, folder=path.parent).policy.digest == load(path, tunables=values).digest
    assert format_source(Source("x", text)) == text
    lines = list(zip(source.text.splitlines(), text.splitlines(), strict=True))
    assert {before.split()[0] for before, after in lines if before != after} == {"tunable"}


def test_a_layout_of_ones_own_is_kept() -> None:
    text = "edition 1\npolicy x\r\ntunable   a:int 1..9k=5   # five\ntunable b : int 1..9 = 3 # three\n"
    wanted = text.replace("=5 ", "=2k ")
    assert renumbered(Source("x", text), {"a": 2000, "missing": 3}) == wanted
