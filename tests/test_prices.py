"""Costs: our Python against genai-prices' own, our SQL against our Python, and the arithmetic of money."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.prices import cost as costs
from policyroute.prices.cost import FALLBACKS, MAX_TOKENS, Usage, cost
from policyroute.prices.flatten import CONTEXTS
from policyroute.prices.library import load_library
from policyroute.prices.money import PICODOLLARS, dollars, from_decimal, to_decimal
from policyroute.prices.price import TIERS, Price, PriceList, tier_of
from policyroute.prices.table import PriceTable, fallbacks_of

LIBRARY = load_library(Path(__file__) / "no folder")  # in memory: no test depends on the user's cache
MODELS = [(provider.id, model.id) for provider in providers for model in provider.models]
VARIED = [
    (provider.id, model.id)
    for provider in providers
    for model in provider.models
    if isinstance(model.prices, list) or model.price_variants or "tiers" in repr(model.prices)
]
# What a reseller sells at its maker's prices: standard ones only.
RESOLD = [
    (seller.id, model.id)
    for seller in providers
    for maker in providers
    if maker.id in (seller.fallback_model_providers or ())
    for model in maker.models
]

# -- strategies ----------------------------------------------------------------------------------------------------


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Possible counts, often at a size where prices jump."""
    total = draw(st.integers(0, 5_000) | st.integers(0, 2_000_000) | st.sampled_from([127_999, 128_000, 200_000, 200_001, 272_001]))
    first, second, third = sorted(draw(st.lists(st.integers(0, total), min_size=3, max_size=3)))
    return Usage(total, draw(st.integers(0, 100_000)), first, second - first, third - second)


JUMPS = [date(2025, 6, 10), date(2025, 2, 8), date(2025, 9, 5), date(2026, 10, 12), date(2026, 10, 14)]
MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)) | st.builds(
    lambda day, seconds: datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds),
    st.sampled_from(JUMPS),
    st.sampled_from([-1, 0, 1, 1799, 1800, 59_399, 59_400, 3600, 14_400]),
)


@st.composite
def stated_lists(draw: st.DrawFn) -> PriceList:
    """Lists as policies and files state them: dated or not, with or without cache rates, tiers and prompt sizes."""
    rates = st.integers(0, 200_000_000)
    maybe = st.none() | rates
    days = sorted(draw(st.sets(st.sampled_from(JUMPS), max_size=3)))
    starts = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    bounds = list(pairwise([*([] if starts and draw(st.booleans()) else [None]), *starts, None])) or [(None, None)]
    sizes = [0, *draw(st.sets(st.sampled_from([10, 128_000, 200_000]), max_size=2))]
    windows = draw(st.sampled_from([[None], [(0, 1800), (1800, 86_400)], [(0, 59_400)]]))
    prices = [
        Price(
            draw(rates),
            draw(maybe),
            draw(maybe),
            draw(maybe),
            draw(maybe),
            since,
            until,
            window,
            above,
            tier,
            draw(st.integers(0, 9)),
        )
        for tier in {"standard", draw(st.sampled_from(TIERS))}
        for since, until in bounds
        for window in windows
        for above in sizes
    ]
    return PriceList("stated", "", tuple(prices), "policy", exact=draw(st.booleans()))


# -- against the oracle --------------------------------------------------------------------------------------------


def theirs(provider: str, model: str, usage: Usage, at: datetime, tier: str) -> int:
    """Picodollars by genai-prices; its rates with more than six decimals are no whole picodollars per token."""
    usage_of_theirs = TheirUsage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.write_5m + usage.write_1h,
        cache_write_1h_tokens=usage.write_1h,
    )
    price = calc_price(usage_of_theirs, model, provider_id=provider, genai_request_timestamp=at, price_context=CONTEXTS[tier])
    exact = price.total_price * PICODOLLARS
    assert exact == int(exact)
    return int(exact)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MODELS) | st.sampled_from(VARIED) | st.sampled_from(RESOLD), usages(), MOMENTS, st.sampled_from(TIERS))
def test_cost_is_that_of_genai_prices(model: tuple[str, str], usage: Usage, at: datetime, tier: str) -> None:
    prices = LIBRARY.find(model[1], model[0])
    ours = cost(usage, prices, at, tier)
    if prices is None or not prices.exact or ours is None:
        return
    assert ours.picodollars == theirs(*model, usage, at, tier)


def test_the_oracle_is_asked_about_most_models() -> None:
    usage, at = Usage(1000, 10), datetime(2026, 11, 1, tzinfo=UTC)
    lists = [LIBRARY.find(model, provider) for provider, model in MODELS]
    priced = [prices for prices in lists if prices and prices.exact and cost(usage, prices, at)]
    assert len(priced) > 0.85 * len(MODELS)


# -- anchors -------------------------------------------------------------------------------------------------------


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


MILLION = Usage(1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("model", "usage", "when", "tier", "shown"),
    [
        ("claude-sonnet-4-5", Usage(1000, 1000), "2025-11-01", None, "$0.018000"),
        ("claude-sonnet-4-5", Usage(1000, 0, cached=1000), "2025-11-01", None, "$0.000300"),
        ("claude-sonnet-4-5", Usage(1000, 0, write_5m=1000), "2025-11-01", None, "$0.003750"),
        ("claude-sonnet-4-5", Usage(1000, 0, write_1h=1000), "2025-11-01", None, "$0.006000"),
        ("o3", MILLION, "2025-06-09T23:59:59", None, "$50.000000"),
        ("o3", MILLION, "2025-06-10", None, "$10.000000"),
        ("o3", MILLION, "2026-11-01", "batch", "$5.000000"),
        ("deepseek/deepseek-chat", MILLION, "2025-05-01T12:00:00", None, "$1.370000"),
        ("deepseek/deepseek-chat", MILLION, "2025-05-01T20:00:00", None, "$0.685000"),
        ("gemini-2.5-pro", Usage(200_000, 0), "2026-01-01", None, "$0.250000"),
        ("gemini-2.5-pro", Usage(200_002, 0), "2026-01-01", None, "$0.500005"),
        ("text-embedding-3-small", Usage(1_000_000, 0), "2026-01-01", None, "$0.020000"),
    ],
)
def test_anchors(model: str, usage: Usage, when: str, tier: str | None, shown: str) -> None:
    found = cost(usage, LIBRARY.find(model), at(when), tier)
    assert found is not None
    assert dollars(found.picodollars, 6) == shown
    assert found.fallbacks == ()


PLAIN = PriceList("plain", "", (Price(3, 15),), "policy")
DATED = PriceList(
    "dated", "", (Price(9, 9, since=at("2026-01-01"), until=at("2026-02-01")), Price(5, 5, since=at("2026-02-01"))), "policy"
)
INPUT_ONLY = PriceList("embed", "", (Price(2, None),), "file")


@pytest.mark.parametrize(
    ("prices", "usage", "when", "tier", "picodollars", "fallbacks"),
    [
        (PLAIN, Usage(10, 2), "2026-01-01", None, 60, ()),
        (PLAIN, Usage(10, 2, cached=4), "2026-01-01", "standard", 60, (costs.NO_CACHED,)),
        (PLAIN, Usage(10, 2, write_1h=1), "2026-01-01", "default", 60, (costs.NO_WRITE,)),
        (PLAIN, Usage(10, 2), None, "batch", 60, (costs.TIER_NOT_PRICED,)),
        (PLAIN, Usage(10, 2), "2026-01-01", "scale", 60, (costs.TIER_NOT_PRICED,)),
        (DATED, Usage(10, 0), None, None, 50, (costs.NO_DATE,)),
        (DATED, Usage(10, 0), "2025-01-01", None, 90, (costs.BEFORE_FIRST,)),
        (DATED, Usage(10, 0), "2026-01-31", None, 90, ()),
        (DATED, Usage(10, 0), "2026-02-01", None, 50, ()),
        (INPUT_ONLY, Usage(10, 0), "2026-02-01", None, 20, ()),
    ],
)
def test_fallbacks_are_named(
    prices: PriceList, usage: Usage, when: str | None, tier: str | None, picodollars: int, fallbacks: tuple[str, ...]
) -> None:
    assert cost(usage, prices, at(when) if when else None, tier) == costs.Cost(picodollars, fallbacks)


@pytest.mark.parametrize(
    ("prices", "usage"),
    [
        (None, Usage(10, 2)),
        (INPUT_ONLY, Usage(10, 2)),
        (PLAIN, Usage(10, 2, cached=11)),
        (PLAIN, Usage(10, 2, cached=6, write_5m=5)),
        (PLAIN, Usage(-1, 2)),
        (PLAIN, Usage(10, -2)),
        (PLAIN, Usage(MAX_TOKENS + 1, 2)),
        (PriceList("ended", "", (Price(1, 1, until=at("2020-01-01")),), "library"), Usage(10, 2)),
        (PriceList("empty", "", (), "library"), Usage(10, 2)),
    ],
)
def test_unknown_is_none_and_never_zero(prices: PriceList | None, usage: Usage) -> None:
    assert cost(usage, prices, at("2026-01-01")) is None


# -- SQL is Python -------------------------------------------------------------------------------------------------

TRACE = (
    "number INTEGER, ts TIMESTAMP, input BIGINT, output BIGINT, cached BIGINT, w5 BIGINT, w1 BIGINT, tier VARCHAR, place INTEGER"
)
LIBRARY_LISTS = [LIBRARY.find(model, provider) for provider, model in VARIED]
Row = tuple[int, datetime | None, Usage, str | None]


def by_sql(lists: list[PriceList | None], rows: list[Row]) -> list[tuple[int | None, int | None]]:
    """Costs and fallback bits of the rows, as a replay computes them."""
    table = PriceTable(lists)
    with duckdb.connect() as connection:
        connection.execute(table.create_sql())
        connection.execute(f"CREATE TABLE trace ({TRACE})")
        values = [
            (number, when and when.replace(tzinfo=None), use.input, use.output, use.cached, use.write_5m, use.write_1h, tier, place)
            for place, (number, when, use, tier) in enumerate(rows)
        ]
        connection.executemany(f"INSERT INTO trace VALUES ({', '.join('?' * 9)})", values)
        return connection.sql(f"""
            SELECT {table.cost_sql("p", "input", "cached", "w5", "w1", "output")}, {table.fallback_sql("p", "cached", "w5", "w1")}
            FROM (SELECT *, {table.slot_sql("number", "ts", "input", "tier")} AS slot FROM trace)
            JOIN price_slots AS p USING (slot) ORDER BY place""").fetchall()


def check_rows(lists: list[PriceList | None], rows: list[Row]) -> None:
    found = by_sql(lists, rows)
    assert len(found) == len(rows)
    for (number, when, usage, tier), (picodollars, bits) in zip(rows, found, strict=True):
        wanted = cost(usage, lists[number] if 0 <= number < len(lists) else None, when, tier)
        assert picodollars == (wanted and wanted.picodollars)
        assert wanted is None or set(fallbacks_of(bits or 0)) == set(wanted.fallbacks)


def rows_for(count: int) -> st.SearchStrategy[list[Row]]:
    odd = st.sampled_from(
        [Usage(5, 1, cached=6), Usage(-3, 1), Usage(MAX_TOKENS + 1), Usage(2**62, 2**62, 2**62, 2**62, 2**62), Usage(0)]
    )
    tiers = st.none() | st.sampled_from(["standard", "default", "Batch", "flex", "priority", "scale", ""])
    row = st.tuples(st.integers(-1, count), st.none() | MOMENTS, usages() | odd, tiers)
    return st.lists(row, min_size=20, max_size=60)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_sql_is_python_on_library_prices(data: st.DataObject) -> None:
    lists = data.draw(st.lists(st.sampled_from([*LIBRARY_LISTS, None]), min_size=1, max_size=12))
    check_rows(lists, data.draw(rows_for(len(lists))))


@settings(max_examples=40, deadline=None)
@given(st.lists(stated_lists(), min_size=1, max_size=4), st.data())
def test_sql_is_python_on_stated_prices(lists: list[PriceList], data: st.DataObject) -> None:
    check_rows([*lists, None], data.draw(rows_for(len(lists))))


def test_large_amounts_do_not_overflow() -> None:
    dear = PriceList("dear", "", (Price(10**9, 10**9, 10**9, 10**9, 10**9),), "policy")  # $1000 per million
    dearest = PriceList("dearest", "", (Price(10**15, 10**15),), "policy")
    usage = Usage(10**8, 10**8, 10**7)
    check_rows([dear], [(0, None, usage, None)] * 3)
    check_rows([dear, dearest], [(0, None, usage, None), (1, None, Usage(MAX_TOKENS, MAX_TOKENS), None)])


def test_missing_counts() -> None:
    table = PriceTable([PLAIN])
    with duckdb.connect() as connection:
        connection.execute(table.create_sql())
        sql = table.cost_sql("p", "i", "c", "NULL::BIGINT", "NULL::BIGINT", "o")
        rows = "(VALUES (10, NULL, 2), (NULL, 0, 2), (10, 0, NULL), (10, 4, 2)) AS t(i, c, o)"
        found = connection.sql(f"SELECT {sql} FROM {rows}, price_slots AS p WHERE p.slot = 0").fetchall()
    assert sorted(found, key=str) == [(60,), (60,), (None,), (None,)]


# -- money ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picodollars", "places", "text"),
    [
        (1_234_560_000_000_000, 2, "$1,234.56"),
        (-30_000_000_000, 2, "-$0.03"),
        (-1, 2, "$0.00"),
        (0, 2, "$0.00"),
        (5_000_000_000, 2, "$0.00"),  # half a cent goes to the even cent
        (15_000_000_000, 2, "$0.02"),
        (25_000_000_000, 2, "$0.02"),
        (999_999_999_999, 0, "$1"),
        (1, 12, "$0.000000000001"),
        (1, 14, "$0.00000000000100"),
        (2_100_000_000, None, "$0.0021"),
        (-2_149_000_000, None, "-$0.0021"),
        (9_990_000_000, None, "$0.0100"),
        (1_500_000_000_000, None, "$1.50"),
        (0, None, "$0.00"),
        (7, None, "$0.000000000007"),
    ],
)
def test_dollars(picodollars: int, places: int | None, text: str) -> None:
    assert dollars(picodollars, places) == text


@given(st.integers(-(10**40), 10**40))
def test_decimal_round_trip(picodollars: int) -> None:
    assert from_decimal(to_decimal(picodollars)) == picodollars


@pytest.mark.parametrize(
    ("text", "picodollars"), [("0.0000000000005", 0), ("0.0000000000015", 2), ("-1.25", -1_250_000_000_000), ("1e-99999", 0)]
)
def test_from_decimal(text: str, picodollars: int) -> None:
    assert from_decimal(Decimal(text)) == picodollars


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e48"])
def test_not_an_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        from_decimal(Decimal(text))


def test_tiers_have_one_name() -> None:
    names = [None, "", "Default", "auto", "BATCH", "flex", "priority", "scale"]
    assert [tier_of(name) for name in names] == ["standard"] * 4 + ["batch", "flex", "priority", "other"]
    assert len(FALLBACKS) == len(set(FALLBACKS))
