"""`explain REQUEST.json`: what is said of a request is what decides it, in every part, and costs are exact."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from policyroute.backends.explain import explanation, failing, removed, signal_values
from policyroute.backends.live import compile_policy
from policyroute.cli import cli
from policyroute.language import check_text
from policyroute.language.policy import Given
from policyroute.language.reference import decide, evaluate
from policyroute.language.source import Source
from policyroute.prices.catalog import load_catalog
from policyroute.prices.cost import Usage, cost
from policyroute.proxy import explain as dry_run
from policyroute.proxy.service import Deciding
from policyroute.render.explanation import explanation as printed
from policyroute.signals.facts import Facts
from policyroute.signals.given import Requests
from policyroute.signals.values import Reader
from policyroute.state.deciding import Decided
from tests import strategies

AT = datetime(2026, 11, 25, 10, tzinfo=UTC)
POLICY = """edition 1
policy desk
signal region : us | eu = us  from header "x-region"
signal plan   : free | pro = free  from header "x-plan", metadata "plan"
words urgent = "outage"
model mini   { provider openai  id "mini"  in $1  out $4  context 1k }
model strong { provider openai  id "strong"  in $10  out $40 }
model far    { provider openai  id "far"  in $0.10  out $0.40 }
tier cheap = far, mini, strong
let  short = tokens < 500
forbid far when region is eu because "no EU endpoint"
rule incident { when last has urgent and plan is pro and (short or   # a comment
  escalated) then strong }
shadow rule maybe { when short then far }
rule weekend  { when tokens > 5 and weekday in (sat, sun) then mini }
rule refused  { when tokens > 90k then refuse "too [long]" }
rule usual    { when short then cheap }
otherwise     { then requested }
"""
BODY: dict[str, Any] = {"model": "mini", "messages": [{"role": "user", "content": "We have an outage"}], "max_tokens": 2_000}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all commands, so that prices are flattened once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a policy and a request."""
    monkeypatch.setenv("POLICYROUTE_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    Path("desk.route").write_text(POLICY, "utf-8")
    Path("request.json").write_text(json.dumps(BODY), "utf-8")
    return tmp_path


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", *arguments], input=stdin)


def explained(*arguments: str) -> dict[str, Any]:
    found = run("request.json", "--policy", "desk.route", "--at", "2026-11-25T10:00:00", "--json", *arguments)
    assert found.exit_code == 0, found.output
    result: dict[str, Any] = json.loads(found.stdout)
    return result


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_request(place: Path) -> None:
    """Rules in order with the parts that failed, who kept which model away, and both ends of each cost."""
    found = explained("--header", "X-Region: eu", "--header", "x-plan:free")
    assert (found["api"], found["at"], found["policy"]) == ("chat", "2026-11-25T10:00:00+00:00", "desk")
    assert found["decision"]["rule"] == "usual" and found["decision"]["chain"] == ["strong"]
    assert found["decision"]["tier"] == "cheap" and found["decision"]["shadow_rules"] == ["maybe"]
    assert [(rule["rule"], rule["takes"], rule["why_not"]) for rule in found["tried"]] == [
        ("incident", False, ["plan is pro (plan is free)"]),
        ("maybe", True, []),
        ("weekend", False, ["weekday in (sat, sun) (weekday is wed)"]),
        ("refused", False, [f"tokens > 90k (tokens is {found['signals']['tokens']})"]),
        ("usual", True, []),
    ]
    assert found["below"] == ["otherwise"]
    wanted = found["signals"]["tokens"] + 2_000
    assert found["removed"] == [
        {"model": "mini", "why": f"context: {wanted} tokens wanted, 1000 there", "by": "", "named": True},
        {"model": "far", "why": "forbidden: no EU endpoint", "by": "forbid when region is eu (region is eu)", "named": True},
    ]
    tokens = found["signals"]["tokens"]
    assert {name: [Decimal(model["cost_usd"][end]) for end in ("least", "most")] for name, model in found["models"].items()} == {
        name: [Decimal(tokens * rate) / 10**7, Decimal(tokens * rate + 2_000 * 4 * rate) / 10**7]
        for name, rate in {"mini": 10, "strong": 100, "far": 1}.items()
    }


def test_a_comment_and_a_let_are_written_plainly(place: Path) -> None:
    """What fails is told in the policy's own words, without what stands between them."""
    found = explained("--header", "x-plan: pro", "--at", "2026-11-28")
    assert found["decision"]["rule"] == "incident"
    Path("request.json").write_text(json.dumps(BODY | {"messages": [{"role": "user", "content": "outage " * 600}]}), "utf-8")
    found = explained("--header", "x-plan: pro")
    tokens = found["signals"]["tokens"]
    assert found["tried"][0]["why_not"] == [f"tokens < 500 or escalated (tokens is {tokens}, escalated is False)"]


APIS: dict[str, tuple[dict[str, Any], str]] = {
    "chat": (BODY, "chat"),
    "responses": ({"model": "mini", "input": "We have an outage"}, "responses"),
    "messages": (BODY | {"system": "You help."}, "messages"),
}


@pytest.mark.parametrize("name", APIS)
def test_apis(place: Path, name: str) -> None:
    """Which API a body is made to is told by its fields; what it says is read alike."""
    body, api = APIS[name]
    Path("request.json").write_text(json.dumps(body), "utf-8")
    found = explained("--header", "x-plan: pro")
    assert found["api"] == api and found["decision"]["rule"] == "incident" and found["signals"]["requested"] == "mini"


def test_metadata_and_stdin(place: Path) -> None:
    """`-` reads the body from stdin; what a policy finds in metadata is found there."""
    body = json.dumps(BODY | {"metadata": {"plan": "pro"}}).encode()
    found = run("-", "--policy", "desk.route", "--json", stdin=body)
    assert json.loads(found.stdout)["decision"]["rule"] == "incident"


def test_it_is_what_the_gateway_says(place: Path) -> None:
    """The dry run of the gateway has the same words and figures."""
    checked = check_text(POLICY)
    policy, catalog = checked.policy, load_catalog()
    deciding = Deciding(policy, compile_policy(policy, bounds=True), Reader(policy), catalog.for_policy(policy))
    values = deciding.reader(Facts.of_body(BODY, {"x-region": "eu"}, AT))
    told = dry_run.explanation(deciding, checked.sources, values, Decided(deciding.decide(values)), AT)
    mine = explained("--header", "x-region: eu")
    assert {name: value for name, value in mine.items() if name in told} == json.loads(json.dumps(told))


def test_text(place: Path) -> None:
    """The terminal's form holds every rule, model, condition and cost; names that look like markup are shown as they are."""
    found = explained("--header", "x-region: eu")
    console = Console(file=StringIO(), width=160)
    printed(found | {"request": "[bold]request.json"}, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert told.startswith(
        "[bold]request.json to Chat Completions, 2026-11-25 10:00 UTC, under desk\nDecided  usual → strong (tier cheap)\n"
    )
    for words in (
        "plan is pro (plan is free)",
        "1 rule below: otherwise",
        "forbidden: no EU endpoint",
        "forbid when region is eu (region is eu)",
    ):
        assert words in told
    assert all(f"${model['cost_usd'][end]}" in told for model in found["models"].values() for end in ("least", "most"))
    plain = run("request.json", "--policy", "desk.route")
    assert plain.exit_code == 0 and "Decided" in plain.stdout
    Path("request.json").write_text(json.dumps(BODY | {"messages": [{"role": "user", "content": "word " * 99_000}]}), "utf-8")
    assert 'refused → refused "too [long]"' in run("request.json", "--policy", "desk.route").stdout


def test_what_one_request_does_not_tell(place: Path) -> None:
    """Statements whose effect depends on other requests, and classifiers, are named."""
    more = """sticky by conversation for 30min { never downgrade }
classifier hard : yes | no { ask mini about last prompt "Hard?" within 300ms remember 10min on failure no }
order cheap < premium
tier premium = strong
"""
    Path("desk.route").write_text(POLICY + more, "utf-8")
    assert sorted(explained()["left_out"]) == ["classifier hard", "sticky by conversation"]
    told = run("request.json", "--policy", "desk.route").stdout
    assert "doesn't tell what `sticky by conversation` would do" in told and "`classifier hard` is not asked" in told


WRONG: tuple[tuple[str, str, str], ...] = (
    ("nothing.json", "there is no file `nothing.json`", "as JSON"),
    ("nothing.json --policy desk.route", "there is no file `nothing.json`", "REQUEST.json --policy FILE"),
    ("--json", "there is no request to explain", "REQUEST.json"),
    ("broken.json --policy desk.route", "`broken.json` is no request: the body is not JSON", "Chat Completions"),
    ("list.json --policy desk.route", "`list.json` is no request: the body is not a JSON object", "Chat Completions"),
    ("empty.json --policy desk.route", "it has no `messages`", "a chat body has `messages`"),
    ("request.json --policy desk.route --api responses", "it has no `input`", "`--api chat`"),
    ("request.json --policy desk.route --header x-plan", "`--header x-plan` is not a name and a value", "x-plan: pro"),
    ("request.json --policy desk.route --at noon", "`--at noon` is no time", "2026-11-25T10:00:00Z"),
    ("request.json --policy bad.route", "has 1 error", ""),
)


@pytest.mark.parametrize("arguments,reason,remedy", WRONG)
def test_mistakes(place: Path, arguments: str, reason: str, remedy: str) -> None:
    """What can't be explained ends with 2, a reason and a remedy."""
    for name, text in {"broken": "{", "list": "[]", "empty": "{}"}.items():
        Path(f"{name}.json").write_text(text, "utf-8")
    Path("bad.route").write_text(POLICY.replace("tokens > 90k", "token > 90k"), "utf-8")
    found = run(*arguments.split())
    assert found.exit_code == 2 and reason in found.stderr and remedy in found.stderr


def test_a_code_is_still_a_code(place: Path) -> None:
    """Where no such file exists, the argument is a code."""
    assert run("PR101").stdout.startswith("PR101 duplicate-name")


# -- of any request ----------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(st.data())
def test_explanations_are_true(data: st.DataObject) -> None:
    """For generated policies and requests: what is said follows from the reference, and what is left of a chain is the chain."""
    text = data.draw(strategies.policy_texts())
    policy, sources = strategies.checked(text), (Source("generated", text),)
    known = data.draw(strategies.values(policy))
    values = Requests(policy)(Given(tuple(known.items())))
    decision, prices = decide(policy, known), load_catalog().for_policy(policy)
    assert signal_values(policy, values) == known
    found = explanation(policy, prices, sources, values, decision, AT)
    json.dumps(found)
    assert found["tried"][-1]["rule"] == decision.rule and found["tried"][-1]["takes"]
    for told, rule in zip(found["tried"], policy.rules, strict=False):
        parts = list(failing(rule.condition, known))
        assert told["takes"] == bool(evaluate(rule.condition, known)) == (not told["why_not"]) and len(told["why_not"]) == len(
            parts
        )
        assert all(why.count("(") == why.count(")") for why in told["why_not"])
    gone = removed(policy, sources, values, decision)
    assert not {one["model"] for one in gone} & set(decision.chain)
    rule = next(rule for rule in policy.rules if rule.name == decision.rule)
    if rule.routes:
        chain = rule.routes[max(decision.arm, 0)].chain
        named = {str(known["requested"]) if name == "requested" else name for name in chain} & set(policy.models)
        assert named == set(decision.chain) | {one["model"] for one in gone if one["named"]}
    for name, model in found["models"].items():
        most = cost(Usage(int(known["tokens"]), int(known["max_output"])), prices[name], AT)
        assert most and Decimal(model["cost_usd"]["most"]) * 10**12 == most.picodollars
        assert (model["why_not"] is not None) == any(one["model"] == name for one in gone)
