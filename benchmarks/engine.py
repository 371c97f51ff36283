"""Live decisions: ours against policy engines with the signals given, and from raw prompts against tiktoken and `re`.

python benchmarks/engine.py [--smoke]
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import peers
import rules
from harness import Report, cpu, median, percentile, ratio, rounds, run
from rules import STRUCTURED, Value

from policyroute.backends.live import compile_policy
from policyroute.language import check_text
from policyroute.language.policy import Policy
from policyroute.signals import tokens
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader

Row = Mapping[str, Value]
Peer = Callable[[Row], int]
REQUESTS = rules.requests(1_000)
COMPARED = 200  # decisions that must be equal before an engine is timed


def policy_of(text: str) -> Policy:
    checked = check_text(text)
    assert not checked.failed, checked.diagnostics
    return checked.policy


# -- peers: each takes a request's signals as a dict and gives the number of the rule --------------------------------------


def cel_python(smoke: bool) -> Peer:
    """One expression, compiled once; values are converted to CEL's types, as its documentation has it."""
    celpy = peers.module("cel-python", smoke)
    environment = celpy.Environment()
    program = environment.program(environment.compile(rules.cel(STRUCTURED)))
    return lambda row: int(program.evaluate({name: celpy.json_to_cel(value) for name, value in row.items()}))


def cel_rust(smoke: bool) -> Peer:
    """One expression, compiled once."""
    program = peers.module("common-expression-language", smoke).compile(rules.cel(STRUCTURED))
    return lambda row: program.execute(row)


def cedar(smoke: bool) -> Peer:
    """A policy set parsed once. Cedar has no order: all policies are evaluated and the lowest id taken."""
    cedarpy = peers.module("cedarpy", smoke)
    policies = cedarpy.PolicySet.from_str(rules.cedar(STRUCTURED))
    entities = cedarpy.Entities.from_json_str("[]")
    request = {"principal": 'User::"u"', "action": 'Action::"route"', "resource": 'Model::"any"'}

    def decide(row: Row) -> int:
        found = cedarpy.is_authorized({**request, "context": dict(row)}, policies, entities)
        return min(map(int, found.diagnostics.id_annotations_by_reason.values()))

    return decide


def regorus(smoke: bool) -> Peer:
    """OPA's language through regorus, input as JSON (the binding's dict input turns booleans into numbers)."""
    engine = peers.module("hobofan-regorus", smoke).Engine()
    engine.add_policy("benchmark.rego", rules.rego(STRUCTURED))

    def decide(row: Row) -> int:
        engine.set_input_json(json.dumps(row))
        return int(engine.eval_rule("data.benchmark.route"))

    return decide


def rule_engine(smoke: bool) -> Peer:
    """Twenty rules, asked in order."""
    module = peers.module("rule-engine", smoke)
    made = [module.Rule(text) for text in rules.rule_engine(STRUCTURED)]
    return lambda row: next((number for number, rule in enumerate(made) if rule.matches(row)), len(made))


def datalogic(smoke: bool) -> Peer:
    """JSONLogic, compiled once, evaluated in a session on the dict: its fastest form that takes the request as it comes."""
    engine = peers.module("datalogic-py", smoke).Engine()
    rule = engine.compile(json.dumps(rules.json_logic(STRUCTURED)))
    evaluate = engine.session().evaluate
    return lambda row: int(evaluate(rule, row))


def datalogic_parsed(smoke: bool) -> Peer:
    """The same on inputs that were parsed beforehand, as ours are objects beforehand."""
    module = peers.module("datalogic-py", smoke)
    engine = module.Engine()
    rule = engine.compile(json.dumps(rules.json_logic(STRUCTURED)))
    evaluate = engine.session().evaluate_int
    parsed = {id(row): module.DataHandle(json.dumps(row)) for row in REQUESTS}
    return lambda row: int(evaluate(rule, parsed[id(row)]))


def plain_closures(_smoke: bool) -> Peer:
    """Closures, a rule engine written in an afternoon."""
    made: Peer = rules.closures(STRUCTURED)
    return made


# Name, what makes it, requests in a round (slow engines get fewer), the ratio to hold.
ENGINES: tuple[tuple[str, Callable[[bool], Peer], int, float | None], ...] = (
    ("cel-python", cel_python, 10, 5_000),
    ("Cedar (cedarpy)", cedar, 200, 150),
    ("OPA (regorus)", regorus, 500, 25),
    ("CEL (Rust binding)", cel_rust, 500, 20),
    ("rule-engine", rule_engine, 200, 120),
    ("datalogic-py (JSONLogic in Rust)", datalogic, 1_000, 3),
    ("datalogic-py, input parsed beforehand", datalogic_parsed, 1_000, None),
    ("closures", plain_closures, 1_000, None),
)


def given_signals(report: Report, smoke: bool) -> None:
    policy = policy_of(rules.route(STRUCTURED))
    live = compile_policy(policy)
    objects = [live.given(row) for row in REQUESTS]
    expected = [rules.number_of(live.decide(values).rule, STRUCTURED) for values in objects]
    report.facts["rules hit"] = {str(number): expected.count(number) for number in sorted(set(expected))}
    latencies = _latencies(live.decide, objects)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: [_all(live.decide, objects) for _ in range(20)],
        "ours from a dict": lambda: _all(lambda row: live.decide(live.given(row)), REQUESTS),
    }
    counts = {"ours": 20 * len(objects), "ours from a dict": len(REQUESTS)}
    absent: dict[str, str] = {}
    for name, make, count, _ in ENGINES:
        try:
            decide = make(smoke)
        except peers.AbsentError as reason:
            absent[name] = str(reason)
            continue
        compared = [decide(row) for row in REQUESTS[:COMPARED]]
        wrong = sum(a != b for a, b in zip(compared, expected, strict=False))
        if wrong:
            absent[name] = f"{wrong} of {COMPARED} decisions differ"
            continue
        works[name] = partial(_all, decide, REQUESTS[:count])
        counts[name] = count
    taken = rounds(works, 5 if smoke else 9)
    per = {name: [seconds / counts[name] for seconds in values] for name, values in taken.items()}
    report.add(
        "live decision, 20 rules, signals given: mean", median(per["ours"]) * 1e6, "µs", note="decide(values) with chain resolution"
    )
    report.add("live decision: p50", percentile(latencies, 0.5) * 1e6, "µs", claim=0.5, at_most=True)
    report.add("live decision: p99", percentile(latencies, 0.99) * 1e6, "µs", claim=1.0, at_most=True)
    report.add("live decision, a dict of signals copied into the object first: mean", median(per["ours from a dict"]) * 1e6, "µs")
    for name, _, _, claim in ENGINES:
        if name in absent:
            report.add(name, note=absent[name], claim=claim)
        else:
            report.add(name, median(per[name]) * 1e6, "µs", ratio=ratio(per[name], per["ours"]), claim=claim)


def _all(decide: Callable[[Any], object], requests: Sequence[Any]) -> None:
    for request in requests:
        decide(request)


def _latencies(decide: Callable[[Any], object], objects: Sequence[Any]) -> list[float]:
    """Seconds of each request: the least of 7 calls, so that what is measured is the call and not the machine's other work."""
    clock = time.perf_counter_ns
    found = []
    for values in objects:
        least = 1 << 60
        for _ in range(7):
            start = clock()
            decide(values)
            least = min(least, clock() - start)
        found.append(least / 1e9)
    return found


# -- from a raw prompt -----------------------------------------------------------------------------------------------


def raw_policy(keywords: Sequence[str]) -> str:
    """Rules over tokens, 50 keywords in five sets, and three patterns."""
    sets = [keywords[start::5] for start in range(5)]
    words = [f"words set_{number} = {', '.join(json.dumps(word) for word in each)}" for number, each in enumerate(sets)]
    return "\n".join([
        "edition 1", "policy raw", *words,
        r"pattern stack_trace = /(?i)traceback \(most recent/",
        r"pattern number = /\b\d{3}-\d{2}-\d{4}\b/",
        r"pattern fenced = /```(?:python|js)/",
        'model mini   { provider openai id "gpt-4o-mini" in $0.15 out $0.60 context 128k }',
        'model strong { provider openai id "gpt-4o" in $2.50 out $10.00 context 128k }',
        "rule giant     { when tokens > 3k then strong fallback mini }",
        "rule trace     { when prompt has stack_trace then strong }",
        "rule secret    { when prompt has number then strong }",
        "rule set_0     { when prompt has set_0 and tokens > 100 then strong }",
        "rule set_1     { when prompt has set_1 and tokens <= 400 then mini }",
        "rule set_2     { when prompt has set_2 and turns >= 2 then strong }",
        "rule set_3     { when prompt has set_3 then mini }",
        "rule set_4     { when prompt has set_4 and tokens > 50 then strong fallback mini }",
        "rule fenced    { when prompt has fenced then strong }",
        "rule longish   { when tokens > 500 then strong fallback mini }",
        "rule short     { when tokens < 60 then mini }",
        "otherwise      { then mini fallback strong }", "",
    ])  # fmt: skip


def eager(policy: Policy) -> Callable[[dict[str, Any]], str]:
    """What people write: count with tiktoken, search with `re`, then decide."""
    encode = tokens.reference().encode_ordinary
    searches = {}
    for name, text_set in policy.texts.items():
        if text_set.pattern:
            searches[name] = re.compile(text_set.pattern).search
        else:
            searches[name] = re.compile(rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, text_set.phrases))})(?!\w)").search

    def decide(body: dict[str, Any]) -> str:
        prompt = "\n".join(message["content"] for message in body["messages"])
        count = 7 + len(encode(prompt))  # the framing of one message
        has = {name: search(prompt) is not None for name, search in searches.items()}
        turns = sum(message["role"] == "user" for message in body["messages"])
        if count > 3_000:
            return "giant"
        if has["stack_trace"]:
            return "trace"
        if has["number"]:
            return "secret"
        if has["set_0"] and count > 100:
            return "set_0"
        if has["set_1"] and count <= 400:
            return "set_1"
        if has["set_2"] and turns >= 2:
            return "set_2"
        if has["set_3"]:
            return "set_3"
        if has["set_4"] and count > 50:
            return "set_4"
        if has["fenced"]:
            return "fenced"
        return "longish" if count > 500 else "short" if count < 60 else "otherwise"

    return decide


def raw_prompts(report: Report, smoke: bool) -> None:
    import corpus

    each = 400 if smoke else 1_200  # prompts of a round; no text comes twice
    theirs_each = each // 4
    count = 4 if smoke else 8
    bodies = [
        {"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}], "stream": True}
        for prompt in corpus.prompts((each + theirs_each) * count, 600)
    ]
    policy = policy_of(raw_policy(corpus.keywords(50)))
    live, reader = compile_policy(policy, bounds=True), Reader(policy)

    def ours(body: dict[str, Any]) -> str:
        return live.decide(reader(Facts.of_body(body))).rule

    theirs = eager(policy)
    tokens.counter()
    differ = sum(ours(body) != theirs(body) for body in bodies[-theirs_each:])
    report.facts["raw prompts"] = {"mean characters": sum(len(b["messages"][0]["content"]) for b in bodies) // len(bodies),
                                   "decisions that differ from tiktoken and re": differ, "of": theirs_each,
                                   "tokenizer": tokens.counter().name}  # fmt: skip
    start = iter(range(0, len(bodies), each + theirs_each))
    ours_seconds, theirs_seconds = [], []
    for at in start:
        mine, other = bodies[at : at + each], bodies[at + each : at + each + theirs_each]
        ours_seconds.append(cpu(partial(_all, ours, mine)) / len(mine))
        theirs_seconds.append(cpu(partial(_all, theirs, other)) / len(other))
    report.add(
        "live decision from a fresh raw prompt of 600 characters: mean",
        median(ours_seconds[1:]) * 1e6,
        "µs",
        claim=25,
        at_most=True,
    )
    report.add("tiktoken + `re`, the same policy", median(theirs_seconds[1:]) * 1e6, "µs",
               ratio=ratio(theirs_seconds[1:], ours_seconds[1:]), claim=8)  # fmt: skip


def make(smoke: bool) -> Report:
    report = Report("engine", "Live decisions", ["policyroute", "tiktoken", "gigatoken", "quicktok-v1", "google-re2", *peers.PEERS])
    given_signals(report, smoke)
    raw_prompts(report, smoke)
    return report


if __name__ == "__main__":
    run(make)
