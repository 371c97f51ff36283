"""The answer cache: what is kept, for whom, how long and how much; the rest is checked against a model of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.prices.cost import Cost
from policyroute.proxy.answers import OVERHEAD, AnswerCache, Kept
from policyroute.proxy.key_file import Keeping
from policyroute.proxy.keys import LOCAL, Caller
from policyroute.proxy.served import Served
from tests.served_support import served

ASKED = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
STORED = ASKED | {"store": False}


def answered(body: bytes | None = b"{}", **changes: Any) -> Served:
    return served(**{"stream": False, "answer": body, "cost": Cost(7), **changes})


def kept(fields: dict[str, Any], api: str = "chat", **changes: Any) -> Kept | None:
    cache = AnswerCache()
    cache.keep(LOCAL, api, fields, answered(**changes), 60.0, 0.0)
    return cache.find(LOCAL, api, fields, 1.0)


def test_an_equal_question_gets_the_answer() -> None:
    done = answered(b'{"a": 1}')
    cache = AnswerCache()
    cache.keep(LOCAL, "chat", ASKED, done, 60.0, 0.0)
    same = dict(reversed(ASKED.items()))
    assert cache.find(LOCAL, "chat", same, 59.9) == Kept(
        b'{"a": 1}', "application/json", done.model, done.model_id, done.provider, 7
    )
    assert kept(ASKED, cost=None) == Kept(b"{}", "application/json", done.model, done.model_id, done.provider, 0)


@pytest.mark.parametrize(
    ("caller", "api", "fields"),
    [
        (Caller("other"), "chat", ASKED),
        (LOCAL, "messages", ASKED),
        (LOCAL, "chat", ASKED | {"model": "mini"}),
        (LOCAL, "chat", ASKED | {"seed": 1}),
        (LOCAL, "chat", ASKED | {"temperature": 0.0}),  # another text: a miss costs little, a wrong answer much
        (LOCAL, "chat", ASKED | {"messages": [{"role": "user", "content": "hi "}]}),
        (LOCAL, "chat", ASKED | {"stream": True}),
    ],
)
def test_another_question_does_not(caller: Caller, api: str, fields: dict[str, Any]) -> None:
    cache = AnswerCache()
    cache.keep(LOCAL, "chat", ASKED, answered(), 60.0, 0.0)
    assert cache.find(caller, api, fields, 1.0) is None


KEEPS = [
    ("chat", ASKED, True),
    ("chat", ASKED | {"temperature": 0.0}, True),
    ("chat", ASKED | {"n": 1, "tools": [], "stream": False, "store": False}, True),
    ("messages", ASKED, True),
    ("responses", STORED, True),
    ("responses", ASKED, False),  # stored by the provider unless it says no
    ("responses", STORED | {"store": True}, False),
    ("responses", STORED | {"previous_response_id": "r"}, False),
    ("responses", STORED | {"conversation": {"id": "c"}}, False),
    ("responses", STORED | {"background": True}, False),
    ("chat", ASKED | {"store": True}, False),
    ("chat", ASKED | {"temperature": 0.1}, False),
    ("chat", ASKED | {"temperature": -1}, False),
    ("chat", ASKED | {"temperature": False}, False),
    ("chat", ASKED | {"temperature": "0"}, False),
    ("chat", ASKED | {"temperature": None}, False),
    ("chat", {"model": "auto"}, False),
    ("chat", ASKED | {"n": 2}, False),
    ("chat", ASKED | {"n": True}, False),
    ("chat", ASKED | {"tools": [{}]}, False),
    ("chat", ASKED | {"functions": [{}]}, False),
    ("chat", ASKED | {"web_search_options": {"a": 1}}, False),
    ("chat", ASKED | {"stream": True}, False),
    ("chat", ASKED | {"seed": 10**5_000}, False),  # Python refuses to write it out
]


@pytest.mark.parametrize(
    ("api", "fields", "wanted"), KEEPS, ids=lambda value: repr(value)[:40] if not isinstance(value, dict) else ""
)
def test_which_questions_are_kept(api: str, fields: dict[str, Any], wanted: bool) -> None:
    assert (kept(fields, api) is not None) is wanted


@pytest.mark.parametrize("changes", [{"status": 400}, {"status": 201}, {"body": None}, {"stream": True}])
def test_which_answers_are_not(changes: dict[str, Any]) -> None:
    assert kept(ASKED, **changes) is None


FREED = [  # what the key's `cache` has, the question, whether its answer is kept
    ({"tools": True}, ASKED | {"tools": [{}]}, True),
    ({"tools": True}, ASKED | {"functions": [{}]}, True),
    ({"tools": True}, ASKED | {"tools": [{}], "temperature": 1}, False),
    ({"tools": True}, ASKED | {"tools": [{}], "web_search_options": {"a": 1}}, False),
    ({"temperature": True}, {"model": "auto"}, True),
    ({"temperature": True}, ASKED | {"temperature": 1.3, "n": 3}, True),
    ({"temperature": True}, ASKED | {"tools": [{}]}, False),
    ({"temperature": True}, {"model": "auto", "store": True}, False),
    ({"temperature": True, "tools": True}, {"model": "auto", "tools": [{}]}, True),
    ({"temperature": True, "tools": True}, {"model": "auto", "stream": True}, False),
]


@pytest.mark.parametrize(("cache", "fields", "wanted"), FREED)
def test_a_key_may_ask_for_more(cache: dict[str, bool], fields: dict[str, Any], wanted: bool) -> None:
    caller, answers = Caller("desk", cache=Keeping(**cache)), AnswerCache()
    answers.keep(caller, "chat", fields, answered(), 60.0, 0.0)
    assert (answers.find(caller, "chat", fields, 1.0) is not None) is wanted


@pytest.mark.parametrize(
    ("ttl", "of_key", "last"), [(60.0, None, 59.0), (60.0, 10.0, 9.0), (0.0, 10.0, 9.0), (60.0, 0.0, None), (0.0, None, None)]
)
def test_a_key_s_time_wins(ttl: float, of_key: float | None, last: float | None) -> None:
    caller, answers = Caller("desk", cache=Keeping(of_key)), AnswerCache()
    answers.keep(caller, "chat", ASKED, answered(), ttl, 0.0)
    assert (answers.find(caller, "chat", ASKED, last or 0.0) is not None) is (last is not None)
    assert answers.find(caller, "chat", ASKED, (last or 0.0) + 1.0) is None


def test_what_else_an_answer_hangs_on() -> None:
    answers = AnswerCache()
    answers.keep(LOCAL, "chat", ASKED, answered(), 60.0, 0.0, ("strong", ""))
    assert answers.find(LOCAL, "chat", ASKED, 1.0, ("strong", ""))
    for apart in ((), ("mini", ""), ("", "strong"), ("strong",), ("strong", "", "")):
        assert answers.find(LOCAL, "chat", ASKED, 1.0, apart) is None


def test_an_answer_larger_than_the_cache_leaves_it_as_it_is() -> None:
    cache = AnswerCache(2_000)
    cache.keep(LOCAL, "chat", ASKED, answered(), 60.0, 0.0)
    cache.keep(LOCAL, "chat", ASKED | {"seed": 1}, answered(b"x" * 2_000), 60.0, 0.0)
    assert len(cache) == 1 and cache.find(LOCAL, "chat", ASKED, 1.0)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["keep", "find"]), st.integers(0, 5), st.integers(0, 400), st.integers(0, 8), st.integers(0, 3)),
    max_size=60,
)


@given(_STEPS)
def test_against_a_model(steps: list[tuple[str, int, int, int, int]]) -> None:
    limit, now = 3 * OVERHEAD, 0.0
    cache = AnswerCache(limit)
    known: list[tuple[int, bytes, float]] = []  # question, answer, until; the longest unused first
    base = answered()
    for action, question, size, ttl, passed in steps:
        now += passed
        fields = ASKED | {"seed": question}
        mine = next((each for each in known if each[0] == question), None)
        if action == "find":
            found = cache.find(LOCAL, "chat", fields, now)
            good = mine is not None and now < mine[2]
            assert (found.body if found else None) == (mine[1] if mine and good else None)
            if mine:
                known.remove(mine)
                known += [mine] if good else []
        else:
            base.answer = bytes([question]) * size
            cache.keep(LOCAL, "chat", fields, base, float(ttl), now)
            if ttl:
                known = [*(each for each in known if each[0] != question), (question, base.answer, now + ttl)]
            while sum(len(body) + OVERHEAD for _, body, _ in known) > limit:
                known.pop(0)
        assert len(cache) == len(known)
        assert cache.size == sum(len(body) + OVERHEAD for _, body, _ in known) <= limit


def test_threads_share_it() -> None:
    cache = AnswerCache(20 * OVERHEAD)

    def work(number: int) -> None:
        for step in range(200):
            fields = ASKED | {"seed": (number + step) % 30}
            cache.keep(LOCAL, "chat", fields, answered_with(fields), 9.0, 0.0)
            found = cache.find(LOCAL, "chat", fields, 1.0)
            assert found is None or found.body == str(fields["seed"]).encode()

    base = answered()

    def answered_with(fields: dict[str, Any]) -> Served:
        made = Served("pr_1", base.at, "chat", base.policy, status=200)
        made.answer = str(fields["seed"]).encode()
        return made

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert 0 < cache.size <= 20 * OVERHEAD
