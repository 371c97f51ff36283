"""Attempts: exact sequences to read, promises for any sequence; circuits against a model of them; the clauses as values.

A story is one request. `circuit b open 12`: b's circuit opens at moment 0 for 12 s. A line is a moment, what is reported then, and
what the machine says; `elsewhere` is another request with the same model. `asking 7` is a Retry-After, `at 15%` is how much of the answer the client has. Circuits are real ones.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from math import ceil, inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from policyroute.backends.live import compile_policy
from policyroute.language import Policy, check_text
from policyroute.language.limits import blocked
from policyroute.language.reference import evaluate, why_not
from policyroute.language.statements import OnFailure, OnStreamFailure
from policyroute.proxy.attempts import Attempts, Continue, Fail, Failure, Finish, GiveUp, Pass, Restart, Try
from policyroute.proxy.breaker import CLOSED, Breaker, Circuit, allows, entered, failed, succeeded
from tests import strategies

# -- the clauses as values -------------------------------------------------------------------------------------------

HEAD = 'edition 1\npolicy p\nmodel a { id "a" in $1 out $1 }\n'


def policy_with(clauses: str) -> Policy:
    found = check_text(f"{HEAD}{clauses}\notherwise {{ then a }}\n")
    assert not found.diagnostics, found.diagnostics
    return found.policy


@pytest.mark.parametrize(
    ("clause", "wanted"),
    [
        ("", None),
        ("on failure { }", OnFailure()),
        ("on failure { then next }", OnFailure(0, (), True, None, "")),
        ("on failure { retry 2 on 429, 500, timeout, 429 }", OnFailure(2, ("429", "500", "timeout"))),
        ('on failure { last answer "Busy." within 1500ms }', OnFailure(within=1_500, last_answer="Busy.")),
        (
            'on failure { retry 1 on 429, timeout then next within 30s last answer "Busy." }',
            OnFailure(1, ("429", "timeout"), True, 30_000, "Busy."),
        ),
    ],
)
def test_on_failure_is_a_value(clause: str, wanted: OnFailure | None) -> None:
    assert policy_with(clause).on_failure == wanted


@pytest.mark.parametrize(
    ("clause", "wanted"),
    [
        ("", None),
        ("on stream failure { }", OnStreamFailure()),
        ("on stream failure { otherwise finish }", OnStreamFailure(None, "finish", "finish")),
        ("on stream failure { before 20% restart }", OnStreamFailure(2_000, "restart", "fail")),
        ("on stream failure { before 0.5% continue otherwise finish }", OnStreamFailure(50, "continue", "finish")),
    ],
)
def test_on_stream_failure_is_a_value(clause: str, wanted: OnStreamFailure | None) -> None:
    assert policy_with(clause).on_stream_failure == wanted


def test_of_two_clauses_the_first_is_kept() -> None:
    """A policy with errors is a value too: what its diagnostics call the second one isn't in it."""
    found = check_text(f"{HEAD}on failure {{ within 1s within 2s }}\non failure {{ then next }}\notherwise {{ then a }}\n")
    assert {one.code for one in found.diagnostics} == {"duplicate-item", "declared-twice"}
    assert found.policy.on_failure == OnFailure(within=1_000)


def test_the_digest_is_of_the_text_as_before() -> None:
    """The clauses were part of the digest before they had a value: journals and reports name it."""
    clauses = 'on failure { retry 2 on 429, timeout then next within 30s last answer "Busy." }\n'
    policy = policy_with(clauses + "on stream failure { before 20% restart otherwise finish }")
    assert policy.digest == "4d3d08b1a3d99b47c0f834554fe70269f0f73b122831b113863a110ed31074a5"


# -- limits of models that no rule names ------------------------------------------------------------------------------


@given(st.data())
def test_limits_of_every_model_agree_with_the_reference(data: st.DataObject) -> None:
    """`blocked` holds for all declared models, reachable or not: nothing above a chain escapes a `forbid`."""
    policy = data.draw(strategies.policies)
    live = compile_policy(policy)
    for row in data.draw(st.lists(strategies.values(policy), min_size=5, max_size=5)):
        found = {name: limit(live.given(row)) for name, limit in live.blocked.items()}
        assert found == {name: bool(why_not(policy, model, row)) for name, model in policy.models.items()}
        assert found == {name: evaluate(blocked(policy, name), row) for name in policy.models}


class WithBounds:
    """Values whose costly numbers have bounds, and that say when one is counted exactly."""

    def __init__(self, tokens: int, slack: int) -> None:
        self.s_tokens_LOW, self.s_tokens_HIGH = tokens - slack, tokens + slack
        self.s_max_output, self.exact, self._tokens = 1_000, 0, tokens

    @property
    def s_tokens(self) -> int:
        self.exact += 1
        return self._tokens


@pytest.mark.parametrize(("tokens", "wanted", "counted"), [(100, False, 0), (6_950, False, 1), (7_050, True, 1), (60_000, True, 0)])
def test_a_limit_counts_tokens_only_where_bounds_do_not_decide(tokens: int, wanted: bool, counted: int) -> None:
    text = f'{HEAD}model small {{ id "s" in $1 out $1 context 8k }}\notherwise {{ then a }}\n'
    values = WithBounds(tokens, 100)
    assert compile_policy(check_text(text).policy, bounds=True).blocked["small"](values) is wanted
    assert values.exact == counted


# -- stories -----------------------------------------------------------------------------------------------------------

STORIES = """
The fallbacks of the chain hold without any clause; nothing is retried
chain a, b, c
0    start            -> try a
1    timeout          -> try b
1    503              -> try c
2    connection       -> give up, 1 s: No model could answer, please try again later.

The client's own error is handed on as it is
chain a, b
0    start            -> try a
1    400              -> pass

... whichever model answers with it
chain a, b
0    start            -> try a
1    500              -> try b
2    422              -> pass

A status that the clause lists is the upstream's fault
chain a, b
on failure { retry 1 on 422 }
0    start            -> try a
1    422              -> try a after 0.21 s
2    422              -> try b

What is wrong with an account or a model's name is the upstream's fault
chain a, b, c, d
0    start            -> try a
0    401              -> try b
0    404              -> try c
0    402              -> try d
0    409              -> give up, 1 s: No model could answer, please try again later.

A retry waits longer each time, drawn from half of it to the whole: 0.25, 0.5, 1, 2, 4 and 8 s
chain a, b
on failure { retry 4 on 500, 502 }
0    start            -> try a
1    500              -> try a after 0.21 s
2    502              -> try a after 0.31 s
3    500              -> try a after 0.5 s
4    500              -> try a after 1.45 s
6    500              -> try b

Each model has retries of its own
chain a, b
on failure { retry 1 on timeout }
0    start            -> try a
1    timeout          -> try a after 0.21 s
2    timeout          -> try b
3    timeout          -> try b after 0.17 s
4    timeout          -> give up, 1 s: No model could answer, please try again later.

A cause that isn't listed is not retried
chain a, b
on failure { retry 3 on 429 }
0    start            -> try a
1    timeout          -> try b

`connection` covers what breaks a connection and what makes no sense
chain a, b
on failure { retry 3 on connection }
0    start            -> try a
0    connection       -> try a after 0.21 s
1    cut              -> try a after 0.31 s
2    malformed        -> try a after 0.5 s
3    timeout          -> try b

An error inside a stream counts as its status; it is no answer that could be handed on
chain a, b, c
on failure { retry 1 on 529 }
0    start                  -> try a
1    overloaded_error       -> try a after 0.21 s
2    overloaded_error       -> try b
3    invalid_request_error  -> try c
4    brand_new_error        -> give up, 1 s: No model could answer, please try again later.

A short Retry-After is waited for
chain a, b
on failure { retry 1 on 429 }
0    start            -> try a
1    429 asking 1.5   -> try a after 1.5 s

A longer one gives way to another model
chain a, b
on failure { retry 1 on 429 }
0    start            -> try a
1    429 asking 3     -> try b

... and is waited for where there is no other, up to 10 s
chain a
on failure { retry 2 on 429 }
0    start            -> try a
1    429 asking 7     -> try a after 7 s
9    429 asking 20    -> give up, 20 s: No model could answer, please try again later.

... or where the other's circuit is open
chain a, b
circuit b open 30
on failure { retry 1 on 503 }
0    start            -> try a
1    503 asking 4     -> try a after 4 s (b: circuit open)

Longer than 10 s it is handed on: the soonest moment that is known
chain a, b
0    start            -> try a
1    429 asking 40    -> try b
3    429 asking 50    -> give up, 38 s: No model could answer, please try again later.

... where the last word of each counts
chain a, b
on failure { retry 1 on 429 }
0    start            -> try a
1    429 asking 2     -> try a after 2 s
4    500              -> try b
5    429 asking 30    -> give up, 30 s: No model could answer, please try again later.

A circuit that another request has opened meanwhile is waited for no longer than the retry
chain a, b
on failure { retry 1 on 500 }
0    start            -> try a
1    429 asking 1 elsewhere
1.2  500              -> try b

... where there is no other, the answer says when it lets a request through
chain a
on failure { retry 1 on 500 }
0    start            -> try a
1    429 asking 5 elsewhere
1.2  500              -> give up, 5 s: No model could answer, please try again later.

Behind the chain come the tiers above, each model once
chain a
above a, b, b, c
on failure { then next }
0    start            -> try a
1    500              -> try b
2    500              -> try c
3    500              -> give up, 1 s: No model could answer, please try again later.

... only where it is asked for
chain a
above b
on failure { retry 1 on 429 }
0    start            -> try a
1    500              -> give up, 1 s: No model could answer, please try again later.

The time is for all attempts together
chain a, b, c
on failure { within 30s last answer "We are busy, please try again." }
0    start            -> try a
15   timeout          -> try b
30   timeout          -> give up, 1 s: We are busy, please try again.

A retry that would end behind the deadline is not waited for
chain a, b
on failure { retry 1 on 429 within 3s }
0    start            -> try a
1.5  429 asking 1.5   -> try b

Ten minutes where the policy doesn't say
chain a, b, c
0    start            -> try a
599  timeout          -> try b
600  timeout          -> give up, 1 s: No model answered in time, please try again later.

A model whose circuit is open is passed over
chain a, b
circuit a open 5
0    start            -> try b (a: circuit open)
1    500              -> give up, 4 s: No model could answer, please try again later.

With every circuit open, the answer says when the first one lets a request through
chain a, b
above c
circuit a open 40
circuit b open 7.5
circuit c open 50
on failure { then next }
1    start            -> give up, 7 s: No model is available at the moment, please try again later. (a: circuit open, b: circuit open, c: circuit open)

Five failures open a circuit, also for the retries of this request
chain a, b
on failure { retry 9 on 500 }
0    start            -> try a
1    500              -> try a after 0.21 s
2    500              -> try a after 0.31 s
3    500              -> try a after 0.5 s
4    500              -> try a after 1.45 s
6    500              -> try b

A cut answer is an error where the policy says nothing
chain a, b
0    start            -> try a
5    cut at 10%       -> fail

Early it is begun anew by the next model, late it is finished
chain a, b
on stream failure { before 20% restart otherwise finish }
0    start            -> try a
5    timeout at 19.9% -> restart b
9    cut at 19.9%     -> finish

... to the last digit of the share
chain a, b
on stream failure { before 20% restart otherwise finish }
0    start            -> try a
5    cut at 20%       -> finish

Without another model the other arm acts, if it is `finish`
chain a
on stream failure { before 20% restart otherwise finish }
0    start            -> try a
5    cut at 1%        -> finish

... and else it fails
chain a
on stream failure { before 20% restart otherwise continue }
0    start            -> try a
5    cut at 1%        -> fail

... also where the other's circuit is open
chain a, b
circuit b open 60
on stream failure { before 20% restart otherwise finish }
0    start            -> try a
5    cut at 1%        -> finish (b: circuit open)

Going on, once; and the tiers above may do it
chain a
above b, c
on failure { then next }
on stream failure { otherwise continue }
0    start            -> try a
5    cut at 50%       -> continue b
6    cut at 60%       -> fail

Nothing goes on after a tool call has begun
chain a, b
on stream failure { before 20% restart otherwise finish }
0    start                 -> try a
5    cut at 1% in a tool   -> fail

... nor does it finish
chain a, b
on stream failure { otherwise finish }
0    start                 -> try a
5    cut at 90% in a tool  -> fail

JSON can't be joined to other JSON
chain a, b
on stream failure { before 20% restart otherwise finish }
0    start                 -> try a
5    cut at 1% of JSON     -> fail

... though it can be ended
chain a, b
on stream failure { before 20% restart otherwise finish }
0    start                 -> try a
5    cut at 50% of JSON    -> finish

A restart has the time anew
chain a, b
on failure { within 10s }
on stream failure { otherwise restart }
0    start            -> try a
60   cut at 50%       -> restart b
"""


STORIES_TOLD = STORIES.strip().split("\n\n")


@pytest.mark.parametrize("story", STORIES_TOLD, ids=[story.split("\n")[0] for story in STORIES_TOLD])
def test_stories(story: str) -> None:
    """Each story comes out as it is written."""
    assert tell(story) == story


EVENT = re.compile(
    r"(?P<moment>\d[\d.]*) +(?P<cause>\w+)( asking (?P<asked>[\d.]+))?( at (?P<share>[\d.]+)%)?(?P<tool> in a tool)?(?P<json> of JSON)?"
)


def tell(story: str) -> str:
    """The story, with what the machine really says."""
    lines = story.split("\n")
    headers = {line.split()[0]: line for line in lines if line.split()[0] in ("chain", "above")}
    chain, above = (tuple(re.findall(r"\w+", headers.get(key, ""))[1:]) for key in ("chain", "above"))
    policy = policy_with("\n".join(line for line in lines if line.startswith("on ")))
    breaker = Breaker()
    for _, model, seconds in re.findall(r"^(circuit) (\w+) open ([\d.]+)$", story, re.MULTILINE):
        breaker.failed(model, Failure("429", float(seconds)), 0.0)
    clock = Clock()
    attempts = Attempts(
        chain, lambda: above, policy.on_failure, policy.on_stream_failure, "r1", 0.0, lambda model: breaker.closed(model, clock.now)
    )
    teller = Teller(attempts, breaker, clock)
    return "\n".join(teller.told(line) for line in lines)


@dataclass
class Clock:
    now: float = 0.0


@dataclass
class Teller:
    """Reports to machine and circuits as an exchange does."""

    attempts: Attempts
    breaker: Breaker
    clock: Clock
    model: str = ""

    def told(self, line: str) -> str:
        event = line.split(" -> ")[0]
        found = EVENT.match(event)
        if found is None:
            return line
        self.clock.now = float(found["moment"])
        if event.endswith("elsewhere"):
            self.breaker.failed(self.model, failure_of(found), self.clock.now)
            return line
        action = self.reported(found)
        self.model = getattr(action, "model", self.model)
        passed = ", ".join(f"{model}: {why}" for model, why in self.attempts.skipped)
        self.attempts.skipped.clear()
        return f"{event} -> {in_words(action)}" + (f" ({passed})" if passed else "")

    def reported(self, found: re.Match[str]) -> object:
        now = self.clock.now
        if found["cause"] == "start":
            return self.attempts.start(now)
        failure = failure_of(found)
        self.breaker.failed(self.model, failure, now)
        if found["share"]:
            return self.attempts.broke(failure, float(found["share"]) / 100, bool(found["tool"]), bool(found["json"]), now)
        return self.attempts.failed(failure, now)


def failure_of(found: re.Match[str]) -> Failure:
    return Failure(found["cause"], float(found["asked"]) if found["asked"] else None)


def in_words(action: object) -> str:
    match action:
        case Try(model, wait):
            return f"try {model} after {round(wait, 2):g} s" if wait else f"try {model}"
        case GiveUp(message, retry_after):
            return f"give up, {retry_after} s: {message}"
        case Restart(model) | Continue(model):
            return f"{type(action).__name__.lower()} {model}"
        case _:
            return type(action).__name__.lower()


# -- promises for any sequence ------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d", "e")
CAUSES = (
    "timeout", "connection", "malformed", "cut", "400", "401", "402", "403", "404", "408", "409", "413", "422", "429", "451", "500",
    "503", "529", "overloaded_error", "invalid_request_error", "rate_limit_error", "brand_new_error",
)  # fmt: skip
LISTED = ("timeout", "connection", "400", "404", "422", "429", "500", "503", "529")
UPSTREAMS = ("401", "402", "403", "404", "408", "409", "429")  # the 4xx that aren't the client's own
ACTIONS = ("restart", "continue", "finish", "fail")

clauses = st.none() | st.builds(
    OnFailure,
    st.integers(0, 4),
    st.lists(st.sampled_from(LISTED), unique=True).map(tuple),
    st.booleans(),
    st.none() | st.sampled_from([0, 100, 3_000, 30_000]),
    st.sampled_from(["", "Busy."]),
)
stream_clauses = st.none() | st.one_of(
    st.builds(OnStreamFailure, st.integers(0, 10_000), st.sampled_from(ACTIONS), st.sampled_from(ACTIONS)),
    st.sampled_from(ACTIONS).map(lambda action: OnStreamFailure(None, action, action)),
)
chains = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
asked = st.none() | st.sampled_from([-1.0, 0.0, 0.3, 1.9, 2.1, 9.0, 11.0, 1e9, inf, nan])
failures = st.builds(Failure, st.sampled_from(CAUSES), asked)
passing = st.sampled_from([0.0, 0.01, 0.4, 3.0, 40.0])  # seconds


@dataclass
class Request:
    """One request with drawn events. It counts what is tried, by rules that know nothing of the machine's insides."""

    data: st.DataObject
    chain: tuple[str, ...]
    above: tuple[str, ...]
    clause: OnFailure | None
    stream: OnStreamFailure | None
    started: float
    now: float = 0.0
    open_until: dict[str, float] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)  # moments of which a model, or its circuit, last said: not before
    leaves: list[tuple[str, float]] = field(default_factory=list)  # asked since the last event, and the answers
    asked_above: int = 0
    passed_over: list[str] = field(default_factory=list)

    def machine(self) -> Attempts:
        self.now = self.started
        return Attempts(self.chain, self.tiers, self.clause, self.stream, "seed", self.started, self.closed)

    def tiers(self) -> tuple[str, ...]:
        self.asked_above += 1
        return self.above

    def closed(self, model: str) -> float:
        left = max(0.0, self.open_until.get(model, 0.0) - self.now)
        self.leaves.append((model, left))
        return left

    @property
    def up(self) -> bool:
        return self.clause is not None and self.clause.up

    @property
    def given(self) -> list[str]:
        return list(dict.fromkeys((*self.chain, *(self.above if self.up else ()))))

    @property
    def within(self) -> float:
        return 600.0 if self.clause is None or self.clause.within is None else self.clause.within / 1000

    def goes_on(self) -> None:
        """Time passes, and circuits open."""
        self.now += self.data.draw(passing)
        self.leaves.clear()
        for model in self.data.draw(st.lists(st.sampled_from(NAMES), max_size=2)):
            self.open_until[model] = self.now + self.data.draw(st.sampled_from([0.2, 1.0, 5.0, 60.0]))

    def tried(self, model: str, moment: float, deadline: float) -> None:
        assert model in self.given
        assert moment < deadline
        assert self.open_until.get(model, 0.0) <= moment + 1e-9
        self.tries[model] += 1
        if model not in self.order:
            self.order.append(model)
        assert self.order == [each for each in self.given if each in self.order], "first tries in the order given"
        assert self.tries[model] <= 1 + (self.clause.retries if self.clause else 0)

    def skipped(self, attempts: Attempts) -> None:
        """What was passed over has an open circuit, was never tried, and is told once."""
        for model, why in attempts.skipped:
            assert why == "circuit open"
            assert dict(self.leaves)[model] > 0
            assert model not in self.passed_over
            assert not self.tries[model]
            self.passed_over.append(model)
            self.waits[model] = self.now + dict(self.leaves)[model]
        attempts.skipped.clear()


def clients_own(cause: str, clause: OnFailure | None) -> bool:
    listed = clause is not None and cause in clause.causes
    return cause.isdecimal() and 400 <= int(cause) <= 499 and cause not in UPSTREAMS and not listed


def is_listed(cause: str, clause: OnFailure | None) -> bool:
    names = {
        "connection": {"connection", "malformed", "cut"}, "timeout": {"timeout"}, "529": {"529", "overloaded_error"},
        "429": {"429", "rate_limit_error"}, "500": {"500", "brand_new_error"}, "400": {"400", "invalid_request_error"},
    }  # fmt: skip
    return clause is not None and any(cause in names.get(listed, {listed}) for listed in clause.causes)


@given(st.data(), chains, chains, clauses, stream_clauses)
def test_promises(
    data: st.DataObject, chain: tuple[str, ...], above: tuple[str, ...], clause: OnFailure | None, stream: OnStreamFailure | None
) -> None:
    request = Request(data, chain, above, clause, stream, data.draw(st.sampled_from([0.0, 1e6])))
    request.goes_on()
    attempts = request.machine()
    deadline = attempts.deadline
    assert deadline == request.started + request.within
    action: object = attempts.start(request.now)
    request.skipped(attempts)
    listed = st.builds(Failure, st.sampled_from(clause.causes if clause and clause.causes else CAUSES), asked)
    limit = len(request.given) * (1 + (clause.retries if clause else 0))
    for _ in range(limit + 1):
        if not isinstance(action, Try):
            break
        request.tried(action.model, request.now + action.wait, deadline)
        request.now += action.wait
        request.goes_on()
        if data.draw(st.integers(0, 5)) == 0:
            broken(request, attempts)
            return
        before, failure = action, data.draw(listed | failures)
        action = attempts.failed(failure, request.now)
        request.skipped(attempts)
        assert isinstance(action, Pass) == clients_own(failure.cause, clause)
        asking = failure.retry_after or 0.0
        request.waits.pop(before.model, None)
        if asking > 0:
            request.waits[before.model] = request.now + min(asking, 86_400.0)
        if dict(request.leaves).get(before.model, 0.0):  # asked for a retry that was not made
            request.waits[before.model] = request.now + dict(request.leaves)[before.model]
        if isinstance(action, Try) and action.model == before.model:
            assert is_listed(failure.cause, clause)
            assert max(0.125, asking) <= action.wait <= 10
        elif isinstance(action, Try):
            assert action.wait == 0, "another model is asked at once"
    assert isinstance(action, Pass | GiveUp), "it ends"
    if isinstance(action, GiveUp):
        given_up(request, action)
    nothing_follows(request, attempts)


def given_up(request: Request, action: GiveUp) -> None:
    """Every model was tried or passed over, or time is up; the Retry-After is what is known."""
    reached = {*request.order, *request.passed_over}
    assert reached == set(request.given) or request.now >= request.started + request.within
    assert action.retry_after == max(1, ceil(min(request.waits.values(), default=request.now) - request.now))
    assert action.message == ("Busy." if request.clause and request.clause.last_answer else action.message)
    assert action.message


def broken(request: Request, attempts: Attempts) -> None:
    """The answer has begun, and breaks off, again and again."""
    again = 0
    while True:
        share, tool, structured = request.data.draw(st.tuples(st.floats(0, 1.5), st.booleans(), st.booleans()))
        action = attempts.broke(request.data.draw(failures), share, tool, structured, request.now)
        request.skipped(attempts)
        if not isinstance(action, Restart | Continue):
            break
        again += 1
        stream = request.stream
        assert again == 1
        assert stream is not None
        assert not tool
        assert not structured
        assert type(action).__name__.lower() in (stream.early, stream.late)
        assert not request.tries[action.model]
        assert attempts.deadline == request.now + request.within
        request.tried(action.model, request.now, attempts.deadline)
        request.goes_on()
    if isinstance(action, Finish):
        assert not tool
        assert request.stream is not None
        assert "finish" in (request.stream.early, request.stream.late)
    else:
        assert action == Fail()
    nothing_follows(request, attempts)


def nothing_follows(request: Request, attempts: Attempts) -> None:
    """Whatever is reported after the end, no model is tried."""
    request.open_until.clear()
    assert request.asked_above <= (1 if request.up else 0)
    assert not attempts.more
    assert isinstance(attempts.failed(Failure("500"), request.now), GiveUp)
    assert isinstance(attempts.failed(Failure("timeout"), request.now), GiveUp)
    assert isinstance(attempts.broke(Failure("cut"), 0.0, False, False, request.now), Fail | Finish)
    assert request.asked_above <= (1 if request.up else 0)


@given(st.text(max_size=5), st.sampled_from(NAMES), st.integers(0, 40))
def test_backoff_lies_between_half_and_whole(seed: str, model: str, retries: int) -> None:
    """Doubling, held to 8 s, the same for the same request."""

    def waits() -> list[float]:
        attempts = Attempts((model,), tuple, OnFailure(retries, ("500",)), None, seed, 0.0, lambda model: 0.0)
        attempts.start(0.0)
        found = [attempts.failed(Failure("500"), 0.0) for _ in range(retries)]
        return [action.wait for action in found if isinstance(action, Try)]

    found = waits()
    assert found == waits()
    assert len(found) == retries
    for number, wait in enumerate(found):
        whole = min(0.25 * 2**number, 8)
        assert whole / 2 <= wait <= whole


def test_requests_that_fail_together_come_back_apart() -> None:
    def wait(seed: str) -> float:
        attempts = Attempts(("a",), tuple, OnFailure(1, ("500",)), None, seed, 0.0, lambda model: 0.0)
        attempts.start(0.0)
        action = attempts.failed(Failure("500"), 0.0)
        assert isinstance(action, Try)
        return action.wait

    assert len({wait(f"request {number}") for number in range(100)}) == 100


@pytest.mark.parametrize(
    ("chain", "above", "clause", "wanted"),
    [
        (("a", "b"), (), None, [True, False]),
        (("a",), ("b",), None, [False]),
        (("a",), ("b",), OnFailure(up=True), [True, False]),
        (("a",), ("a",), OnFailure(up=True), [False]),
        (("a",), (), OnFailure(1, ("timeout",)), [True, False]),
        (("a",), (), OnFailure(1, ("429",)), [False]),
    ],
)
def test_more_says_whether_a_timeout_is_the_end(
    chain: tuple[str, ...], above: tuple[str, ...], clause: OnFailure | None, wanted: list[bool]
) -> None:
    """Only a try that another one can follow has to leave time for it."""
    attempts = Attempts(chain, lambda: above, clause, None, "seed", 0.0, lambda model: 0.0)
    action: object = attempts.start(0.0)
    found = []
    while isinstance(action, Try):
        found.append(attempts.more)
        action = attempts.failed(Failure("timeout"), 0.0)
    assert found == wanted


# -- circuits ------------------------------------------------------------------------------------------------------------


def opened(cause: str, times: int, asking: float | None = None) -> Circuit:
    circuit = CLOSED
    for _ in range(times):
        circuit = failed(circuit, Failure(cause, asking), 100.0)
    return circuit


@pytest.mark.parametrize(
    ("cause", "asking", "times", "seconds"),
    [
        ("timeout", None, 4, 0), ("timeout", None, 5, 10), ("connection", None, 5, 10), ("malformed", None, 5, 10), ("cut", None, 5, 10),
        ("500", None, 5, 10), ("529", None, 5, 10), ("overloaded_error", None, 5, 10), ("401", None, 5, 10), ("403", None, 5, 10),
        ("404", None, 5, 10), ("400", None, 50, 0), ("422", 30.0, 50, 0), ("invalid_request_error", None, 50, 0),
        ("429", None, 4, 0), ("429", None, 5, 10), ("429", 7.0, 1, 7), ("rate_limit_error", 7.0, 1, 7), ("429", 3_600.0, 1, 60),
        ("429", 0.0, 4, 0), ("503", 30.0, 1, 0), ("429", nan, 1, 0),
    ],
)  # fmt: skip
def test_what_opens_a_circuit(cause: str, asking: float | None, times: int, seconds: float) -> None:
    assert allows(opened(cause, times, asking), 100.0) == seconds


def test_a_circuit_stays_open_longer_each_time() -> None:
    circuit, now, found = opened("500", 5), 100.0, []
    for _ in range(7):
        found.append(allows(circuit, now))
        now += found[-1]
        assert circuit.state(now) == "half-open"
        circuit = failed(entered(circuit, now), Failure("timeout"), now)
    assert found == [10, 20, 40, 80, 120, 120, 120]
    assert succeeded(entered(circuit, now)) == CLOSED


def test_a_probe_that_does_not_report_is_forgotten() -> None:
    circuit = entered(opened("500", 5), 110.0)
    assert [allows(circuit, now) for now in (110.0, 169.0, 169.5, 170.0)] == [1, 1, 0.5, 0]


def test_late_reports_change_nothing_of_an_open_circuit() -> None:
    circuit = opened("500", 5)
    assert failed(circuit, Failure("500"), 105.0) == circuit
    assert succeeded(circuit) == circuit
    assert allows(failed(circuit, Failure("429", 30.0), 105.0), 105.0) == 30


def test_a_success_between_starts_the_count_anew() -> None:
    circuit = succeeded(opened("500", 4))
    for _ in range(4):
        circuit = failed(circuit, Failure("500"), 100.0)
    assert circuit.state(100.0) == "closed"


def test_one_probe_among_threads() -> None:
    """Of many requests that come when a circuit is half-open, one is let through."""
    breaker = Breaker()
    breaker.failed("a", Failure("429", 1.0), 0.0)
    together, found = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        found.extend(breaker.closed("a", 1.0) for _ in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(found) == {0.0: 1, 1.0: 1_599}


@dataclass
class Model:
    """A circuit as the documentation tells it, in other words: what was reported since the last success, and spans of time."""

    since_success: list[str] = field(default_factory=list)  # causes, in a row
    openings: int = 0
    closed_until: float | None = None
    probe: float | None = None

    def state(self, now: float) -> str:
        return "closed" if self.closed_until is None else "half-open" if now >= self.closed_until else "open"

    def leave(self, now: float) -> bool:
        state = self.state(now)
        if state == "half-open" and (self.probe is None or now - self.probe >= 60):
            self.probe = now
            return True
        return state == "closed"

    def good(self) -> None:
        if self.closed_until is None or self.probe is not None:
            self.since_success, self.openings, self.closed_until, self.probe = [], 0, None, None

    def bad(self, now: float, asking: float) -> None:
        state = self.state(now)
        if asking:
            self.since_success.append("asked")
            self.closed_until, self.probe = max(self.closed_until or 0.0, now + min(asking, 60)), None
            return
        if state == "open":
            return
        self.since_success.append("failed")
        if state == "half-open" or len(self.since_success) >= 5:
            self.closed_until = now + (10, 20, 40, 80, 120)[min(self.openings, 4)]
            self.openings += 1
            self.probe = None


class Circuits(RuleBasedStateMachine):
    """Two models of a breaker, against the model of each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.breaker = Breaker()
        self.models = {"a": Model(), "b": Model()}

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 10.0, 20.0, 60.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        model=st.sampled_from("ab"),
        cause=st.sampled_from(["timeout", "cut", "500", "404", "overloaded_error"]),
        times=st.integers(1, 5),
    )
    def fails(self, model: str, cause: str, times: int) -> None:
        for _ in range(times):
            self.breaker.failed(model, Failure(cause), self.now)
            self.models[model].bad(self.now, 0.0)

    @rule(model=st.sampled_from("ab"), seconds=st.sampled_from([0.5, 30.0, 500.0]))
    def asks_to_wait(self, model: str, seconds: float) -> None:
        self.breaker.failed(model, Failure("429", seconds), self.now)
        self.models[model].bad(self.now, seconds)

    @rule(model=st.sampled_from("ab"), own=st.booleans())
    def answers(self, model: str, own: bool) -> None:
        if own:
            self.breaker.failed(model, Failure("400"), self.now)
        else:
            self.breaker.succeeded(model)
        self.models[model].good()

    @rule(model=st.sampled_from("ab"))
    def is_asked(self, model: str) -> None:
        wanted = self.models[model].leave(self.now)
        found = self.breaker.closed(model, self.now)
        assert (found == 0) is wanted
        assert 0 <= found <= 120

    @invariant()
    def states_agree(self) -> None:
        found = self.breaker.states(self.now)
        assert {name: found.get(name, "closed") for name in self.models} == {
            name: model.state(self.now) for name, model in self.models.items()
        }


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(stateful_step_count=40)
