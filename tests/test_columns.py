"""Columns of facts: the same values as live, NULL without content, fit for a pool of processes."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from policyroute.language.policy import TextSet
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals import columns
from policyroute.signals.columns import EXTRACTED, Plan, digest, extract
from policyroute.signals.facts import Facts
from policyroute.signals.text import Scanner
from policyroute.signals.tokens import ENCODING

URGENT = TextSet("urgent", ("outage", "data loss"))
FAQ = TextSet("faq", ("opening hours",))
TRACE = TextSet("stack_trace", pattern=r"(?i)traceback")
PLAN = Plan(EXTRACTED, (("prompt", URGENT), ("last", FAQ), ("prompt", TRACE), ("system", URGENT)))

CALL = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "grep", "arguments": "{}"}}]}
CONVERSATIONS: list[Any] = [
    [{"role": "system", "content": "Watch for an outage."}, {"role": "user", "content": "What are your opening hours?"}],
    [
        {"role": "user", "content": "DATA\nLOSS! 日本"},
        CALL,
        {"role": "tool", "tool_call_id": "c", "content": "Traceback (most recent call last)"},
    ],
    [{"role": "user", "content": [{"type": "text", "text": "```x```"}, {"type": "image", "source": {"data": ""}}]}],
    [{"role": "user", "content": "lone \ud800 surrogate, opening hours"}],
    [],
]
TOOLS: list[Any] = [None, [{"type": "function", "function": {"name": "grep", "parameters": {}}}], [], None, None]


def batch() -> pa.Table:
    count = len(CONVERSATIONS)
    return pa.table(
        {
            "row": pa.array(range(10, 12 + count), pa.int64()),
            "messages": [*map(json.dumps, CONVERSATIONS), None, "no json"],
            "tools": [*(None if tools is None else json.dumps(tools) for tools in TOOLS), None, None],
            "response_format": [None, '{"type": "json_object"}', '{"type": "text"}', None, None, None, None],
            "extra": ["x"] * (count + 2),
        }
    )


def expected() -> list[dict[str, Any]]:
    table = batch().to_pylist()
    rows = []
    for row in table:
        facts = Facts.of_row(row["messages"], row["tools"], row["response_format"])
        values = {"row": row["row"]} | {name: getattr(facts, name) for name in PLAN.signals}
        for text, words in PLAN.scans:
            content = getattr(facts, text)
            values[f"{text} has {words.name}"] = None if content is None else bool(Scanner([words]).mask(content))
        rows.append(values)
    return rows


@pytest.mark.parametrize("size", [1, 3, 100])
def test_columns_hold_what_live_facts_say(size: int) -> None:
    batches = batch().to_batches(max_chunksize=size)
    assert [row for part in batches for row in extract(part, PLAN).to_pylist()] == expected()
    assert extract(batch(), PLAN).to_pylist() == expected()


def test_some_values_by_hand() -> None:
    rows = extract(batch(), PLAN).to_pylist()
    assert [row["row"] for row in rows] == list(range(10, 17))
    assert [row["turns"] for row in rows] == [1, 1, 1, 1, 0, None, None]
    assert [row["tool"] for row in rows] == ["none", "grep", "none", "none", "none", None, None]
    assert [row["tool_failed"] for row in rows] == [False, True, False, False, False, None, None]
    assert [row["tools"] for row in rows] == [None, 1, 0, None, None, None, None]
    assert [row["json"] for row in rows] == [None, True, False, None, None, None, None]
    assert [row["code"] for row in rows] == [False, False, True, False, False, None, None]
    assert [row["images"] for row in rows] == [False, False, True, False, False, None, None]
    assert [row["prompt has urgent"] for row in rows] == [True, True, False, False, False, None, None]
    assert [row["last has faq"] for row in rows] == [True, False, False, True, False, None, None]
    assert [row["prompt has stack_trace"] for row in rows] == [False, True, False, False, False, None, None]
    assert [row["system has urgent"] for row in rows] == [True, False, False, False, False, None, None]


def test_types() -> None:
    kinds = {field.name: str(field.type) for field in extract(batch(), PLAN).schema}
    assert (kinds["row"], kinds["tokens"], kinds["tool"], kinds["code"], kinds["prompt has urgent"]) == (
        "int64",
        "int64",
        "string",
        "bool",
        "bool",
    )
    assert tuple(kinds) == ("row", *PLAN.columns)
    assert extract(batch().slice(0, 0), PLAN).schema == columns.schema(PLAN)
    assert extract(batch().slice(0, 0), PLAN).num_rows == 0


def test_only_what_the_plan_needs_is_read() -> None:
    assert Plan(("turns",)).content == ("messages",)
    assert Plan(("tokens",)).content == ("messages", "tools")
    assert Plan(("json",)).content == ("response_format",)
    assert Plan(("tools",), (("last", FAQ),)).content == ("messages", "tools")
    narrow = extract(pa.table({"row": [1], "messages": ['[{"role": "user", "content": "x"}]']}), Plan(("turns", "json")))
    assert narrow.to_pylist() == [{"row": 1, "turns": 1, "json": None}]


def test_extracted_signals_are_those_with_content() -> None:
    assert set(EXTRACTED) == {
        "tokens",
        "last_tokens",
        "turns",
        "steps",
        "tools",
        "tool",
        "tool_failed",
        "images",
        "json",
        "code",
        "conversation",
    }
    assert set(EXTRACTED) <= set(SIGNALS)


@pytest.mark.parametrize("plan", [(("hour",), ()), (("prompt",), ()), (("nothing",), ()), ((), (("user", FAQ),))])
def test_a_plan_for_something_else_is_refused(plan: Any) -> None:
    with pytest.raises(ValueError, match="not extracted from content"):
        Plan(*plan)


def test_a_pool_of_processes_gives_the_same() -> None:
    assert pickle.loads(pickle.dumps(PLAN)) == PLAN
    batches = batch().to_batches(max_chunksize=2)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(extract, batches, [PLAN] * len(batches)))
    assert pa.concat_tables(parts).to_pylist() == expected()


def test_the_version_names_the_unit() -> None:
    assert ENCODING in columns.VERSION


def test_digests_tell_plans_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [
        Plan(), Plan(("tokens",)), Plan(("tokens", "turns")), Plan(("turns", "tokens")), Plan((), (("prompt", FAQ),)), Plan((), (("last", FAQ),)),
        Plan((), (("last", TextSet("faq", ("other",))),)), Plan((), (("last", TextSet("other", FAQ.phrases)),)),
        Plan((), (("last", TextSet("faq", pattern="x")),)),
    ]  # fmt: skip
    digests = [digest(plan) for plan in plans]
    assert len(set(digests)) == len(plans)
    assert digest(Plan((), (("last", TextSet("faq", (" opening  hours ",))),))) == digest(Plan((), (("last", FAQ),)))
    monkeypatch.setattr(columns, "VERSION", "2/" + ENCODING)
    assert digest(plans[1]) != digests[1]
