"""Metrics: what each request adds, that labels are bounded, that several processes add up exactly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from policyroute.language.decision import Decision
from policyroute.prices.cost import Cost, Usage
from policyroute.proxy.metric_rows import BY_NAME, CALLERS, METRICS, Bounds, markdown
from policyroute.proxy.metric_words import word_of
from policyroute.proxy.metrics import Metrics, newest_price
from policyroute.proxy.served import Attempt, Classified, Served, Shadow
from policyroute.proxy.settings import ServeError
from tests.served_support import AT, CANARY, ROOT, answered, catalog, loaded, served

GEN_AI = {
    "gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-4o-mini", "gen_ai_response_model": "gpt-4o-mini",
}  # fmt: skip
NAME = re.compile(r"[a-z][a-z0-9_]*")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, numbers in memory."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def numbers(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples of a text that is rendered and read back."""
    text = metrics.render()[0].decode()
    return {(one.name, frozenset(one.labels.items())): one.value for family in plain_text(text) for one in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample, None where it isn't there. `from` is written `from_`."""
    return numbers(metrics).get((name, frozenset((key.rstrip("_"), text) for key, text in labels.items())))


def fresh() -> Metrics:
    """Metrics of the support policy that have seen nothing."""
    return Metrics(loaded()[0], catalog())


def fallen_back() -> Served:
    """`mini` fails, `flash` is passed over, `haiku` of the next tier answers."""
    found = served(usage=None)
    found.attempts[:] = [
        Attempt("mini", 0, 5, "429"),
        Attempt("mini", 9, 5, "timeout"),
        Attempt("flash", 14, 0, "skipped: circuit open"),
    ]
    answered(found, "haiku", Usage(1_000, 100), loaded()[3])
    return found


def shadowed(model: str) -> Served:
    """A request that the shadow policy would have sent to `model`."""
    found = served()
    assert found.decision
    found.shadow = Shadow(found.policy, replace(found.decision, rule="tried", chain=(model,)), Cost(7 * 10**12))
    return found


def refused() -> Served:
    """A request that the policy refuses."""
    return served("word " * 5_000)


CASES: list[tuple[str, Callable[[], Served], str, dict[str, str], float | None]] = [
    ("input tokens", served, "gen_ai_client_token_usage_sum", GEN_AI | {"gen_ai_token_type": "input"}, 1_000),
    ("output tokens", served, "gen_ai_client_token_usage_sum", GEN_AI | {"gen_ai_token_type": "output"}, 101),
    ("a bound belongs to its bucket", lambda: served(usage=Usage(1_024, 1)), "gen_ai_client_token_usage_bucket",
     GEN_AI | {"gen_ai_token_type": "input", "le": "1024.0"}, 1),
    ("and not to the one below", lambda: served(usage=Usage(1_024, 1)), "gen_ai_client_token_usage_bucket",
     GEN_AI | {"gen_ai_token_type": "input", "le": "256.0"}, 0),
    ("beyond all bounds", lambda: served(usage=Usage(10**9, 1)), "gen_ai_client_token_usage_bucket",
     GEN_AI | {"gen_ai_token_type": "input", "le": "+Inf"}, 1),
    ("duration", served, "gen_ai_server_request_duration_seconds_sum", GEN_AI | {"error_type": ""}, 1.2),
    ("duration of an error", lambda: served(error="timeout"), "gen_ai_server_request_duration_seconds_count", GEN_AI | {"error_type": "timeout"}, 1),
    ("first token", served, "gen_ai_server_time_to_first_token_seconds_sum", GEN_AI, 0.2),
    ("no first token without a stream", lambda: served(stream=False), "gen_ai_server_time_to_first_token_seconds_sum", GEN_AI, None),
    ("per token", served, "gen_ai_server_time_per_output_token_seconds_sum", GEN_AI, 0.01),
    ("nothing after the only token", lambda: served(usage=Usage(10, 1)), "gen_ai_server_time_per_output_token_seconds_sum", GEN_AI, None),
    ("dated models are the declared ones", lambda: served(response_model="gpt-4o-mini-2024-07-18"), "gen_ai_server_time_to_first_token_seconds_sum", GEN_AI, 0.2),
    ("requests", served, "policyroute_requests_total", {"api": "chat", "verdict": "answered", "status": "2xx"}, 1),
    ("left before an answer", lambda: served(verdict="abandoned", status=0), "policyroute_requests_total",
     {"api": "chat", "verdict": "abandoned", "status": "none"}, 1),
    ("decisions", served, "policyroute_decisions_total", {"policy": "support", "rule": "order_lookup", "tier": "cheap", "target": "mini"}, 1),
    ("rules that took nothing are 0", served, "policyroute_decisions_total", {"policy": "support", "rule": "incident", "tier": "premium", "target": "sonnet"}, 0),
    ("refusals", refused, "policyroute_decisions_total", {"policy": "support", "rule": "pasted_log", "tier": "none", "target": "none"}, 1),
    ("refusals take no time upstream", refused, "gen_ai_server_request_duration_seconds_count", GEN_AI | {"error_type": "refused_by_policy"}, None),
    ("answers", served, "policyroute_answers_total", {"policy": "support", "tier": "cheap", "strongest": "no"}, 1),
    ("answers of the strongest", lambda: served("My lawyer will sue"), "policyroute_answers_total", {"policy": "support", "tier": "premium", "strongest": "yes"}, 1),
    ("answers of a higher tier", fallen_back, "policyroute_answers_total", {"policy": "support", "tier": "standard", "strongest": "no"}, 1),
    ("attempts", fallen_back, "policyroute_attempts_total", {"model": "mini", "result": "429"}, 1),
    ("models passed over", fallen_back, "policyroute_attempts_total", {"model": "flash", "result": "circuit_open"}, 1),
    ("a retry is no fallback", fallen_back, "policyroute_fallbacks_total", {"from_": "mini", "to": "mini", "reason": "429"}, None),
    ("fallbacks", fallen_back, "policyroute_fallbacks_total", {"from_": "mini", "to": "flash", "reason": "timeout"}, 1),
    ("fallbacks from a passed over model", fallen_back, "policyroute_fallbacks_total", {"from_": "flash", "to": "haiku", "reason": "circuit_open"}, 1),
    ("escalations", fallen_back, "policyroute_escalations_total", {"tier": "cheap", "to": "standard"}, 1),
    ("no escalation", served, "policyroute_escalations_total", {"tier": "cheap", "to": "cheap"}, None),
    ("changed by state", lambda: served(decision=Decision("otherwise", ("mini",), acted=("sticky conversation", "quota few"))), "policyroute_acted_total", {"by": "quota few"}, 1),
    ("a classifier's answer", lambda: served(classified=[Classified("difficulty", "hard", "asked", 3.0, Cost(5))]), "policyroute_classifications_total", {"classifier": "difficulty", "result": "asked"}, 1),
    ("a classifier's cost", lambda: served(classified=[Classified("difficulty", "hard", "asked", 3.0, Cost(5 * 10**12))]), "policyroute_classifier_cost_usd_total", {"classifier": "difficulty"}, 5),
    ("asked for more", lambda: served(headers={"x-escalate": "1"}), "policyroute_escalated_requests_total", {"rule": "asked_for_more"}, 1),
    ("cost", served, "policyroute_cost_usd_total", {"target": "mini", "tier": "cheap"}, (800 * 150_000 + 200 * 75_000 + 101 * 600_000) / 10**12),
    ("cost of a caller", served, "policyroute_caller_cost_usd_total", {"caller": "desk"}, (800 * 150_000 + 200 * 75_000 + 101 * 600_000) / 10**12),
    ("a cost that isn't known", lambda: served(cost=None), "policyroute_unknown_price_total", {"target": "mini"}, 1),
    ("nothing to price", lambda: served(usage=None), "policyroute_unknown_price_total", {"target": "mini"}, None),
    ("cached tokens", served, "policyroute_cached_tokens_total", {"target": "mini"}, 200),
    ("callers", served, "policyroute_caller_requests_total", {"caller": "desk"}, 1),
    ("no caller", lambda: served(caller=""), "policyroute_caller_requests_total", {"caller": "none"}, 1),
    ("answer cache", lambda: served(verdict="cached", saved=5 * 10**11), "policyroute_answer_cache_hits_total", {}, 1),
    ("saved by it", lambda: served(verdict="cached", saved=5 * 10**11), "policyroute_answer_cache_saved_usd_total", {}, 0.5),
    ("overhead", served, "policyroute_overhead_seconds_bucket", {"api": "chat", "le": "0.0005"}, 1),
    ("overhead below", served, "policyroute_overhead_seconds_bucket", {"api": "chat", "le": "0.00025"}, 0),
    ("odd values", lambda: served("An outage since nine", headers={"x-user-plan": "gold"}), "policyroute_odd_signal_values_total", {"signal": "plan"}, 1),
    ("shadow agrees", lambda: shadowed("mini"), "policyroute_shadow_decisions_total", {"rule": "tried", "agrees": "yes"}, 1),
    ("shadow disagrees", lambda: shadowed("sonnet"), "policyroute_shadow_decisions_total", {"rule": "tried", "agrees": "no"}, 1),
    ("shadow's cost", lambda: shadowed("mini"), "policyroute_shadow_cost_usd_total", {"side": "shadow"}, 7),
    ("shadow rules", lambda: served("Hi"), "policyroute_shadow_rule_matches_total", {"rule": "tiny"}, 1),
    ("client retries", lambda: served(retry=2), "policyroute_client_retries_total", {}, 1),
    ("passed through", lambda: served(decision=None, values=None, verdict="passed", api="embeddings", model="text-x", model_id="text-x"),
     "policyroute_cost_usd_total", {"target": "other", "tier": "none"}, (800 * 150_000 + 200 * 75_000 + 101 * 600_000) / 10**12),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "labels", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_a_request_adds(make: Callable[[], Served], name: str, labels: dict[str, str], wanted: float | None) -> None:
    """One finished request, and one sample of what it leaves."""
    metrics = fresh()
    metrics.observe(make())
    assert value(metrics, name, **labels) == (pytest.approx(wanted) if wanted is not None else None)


def test_every_metric_of_requests_is_tested() -> None:
    """No row of the table without a case above."""
    tested = {name for _, _, name, _, _ in CASES}
    assert [row.name for row in METRICS if row.read is not None and tested.isdisjoint(row.series)] == []


def test_names() -> None:
    """Names are unique and spelled as Prometheus wants them, so are labels; histograms have buckets that rise."""
    assert len(BY_NAME) == len(METRICS)
    for row in METRICS:
        assert NAME.fullmatch(row.name) and all(NAME.fullmatch(label) for label in row.labels) and row.doc
        assert (row.kind == "counter") == row.name.endswith("_total")
        assert (row.kind == "histogram") == bool(row.buckets) and list(row.buckets) == sorted(set(row.buckets))
        assert (row.kind == "gauge") == bool(row.across) and (row.read is None or row.kind != "gauge")


def test_page_holds_the_table() -> None:
    """docs/observability.md lists all metrics as they are."""
    assert markdown() in (ROOT / "docs" / "observability.md").read_text("utf-8")


def test_labels_are_bounded() -> None:
    """What a client or an upstream writes reaches no label, and one series at most is made for it."""
    metrics = fresh()
    for number in range(40):
        text = f"{CANARY}{number}"
        found = served(text, requested=text, error=text, response_model=text, model_id=text, provider=text)
        found.user = found.team = found.conversation = text
        found.attempts[-1].result = text
        metrics.observe(found)
        if number == 1:
            before = len(numbers(metrics))
    assert len(numbers(metrics)) == before and CANARY not in metrics.render()[0].decode()


def test_callers_are_bounded() -> None:
    """A keys file of any size makes a limited number of series."""
    metrics = fresh()
    found = served()
    for number in range(CALLERS + 50):
        found.caller = f"key{number}"
        metrics.observe(found)
    assert value(metrics, "policyroute_caller_requests_total", caller="other") == 50


@pytest.mark.parametrize(
    ("result", "word"),
    [("answered", "answered"), ("503", "503"), ("skipped: circuit open", "circuit_open"), ("skipped: it speaks another API", "skipped"),
     ("overloaded_error", "overloaded_error"), ("", "other"), ("²²²", "other"), ("1234", "other")],
)  # fmt: skip
def test_words(result: str, word: str) -> None:
    """Results become words of a fixed set."""
    assert word_of(result) == word


def test_tiers_of_models() -> None:
    """A model is counted in the tier that was decided if that holds it, else in the weakest that begins with it or holds it."""
    bounds = Bounds(loaded()[0])
    assert [bounds.tier(model, "") for model in ("mini", "flash", "haiku", "gpt_4o", "sonnet")] == [
        "cheap",
        "cheap",
        "standard",
        "standard",
        "premium",
    ]
    assert bounds.tier("gpt_4o", "premium") == "premium" and bounds.strongest == "premium" and bounds.tier("unknown", "") == "none"


def test_money_does_not_drift() -> None:
    """A hundred thousand costs of which none is a binary fraction: the sum is the nearest float of the exact one."""
    metrics = fresh()
    found = served()
    amounts = [100_000 * number + 1 for number in range(1, 5_001)]
    for amount in amounts:
        found.cost = Cost(amount)
        metrics.observe(found)
    assert value(metrics, "policyroute_cost_usd_total", target="mini", tier="cheap") == sum(amounts) / 10**12


def test_openmetrics() -> None:
    """The form is the one that is asked for; both can be read."""
    metrics = fresh()
    metrics.observe(served())
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0; q=0.5, text/plain; q=0.2")
    assert content_type.startswith("application/openmetrics-text") and text.endswith(b"# EOF\n")
    assert any(family.name == "policyroute_decisions" for family in open_metrics(text.decode()))
    assert metrics.render("text/plain")[1].startswith("text/plain; version=0.0.4")


def test_gauges_and_reload() -> None:
    """Circuits, journal, policy: each shows what was told last; counts of a worker's parts only grow."""
    metrics, (policy, *_) = fresh(), loaded()
    metrics.gauges(
        circuits={"mini": "open"}, journal_written=7, journal_lost=2, journal_healthy=False, streams=3, log_lost=1, state_missed=4
    )
    assert value(metrics, "policyroute_state_missed_total") == 4
    metrics.gauges(
        circuits={"mini": "half-open", "gpt_4o": "open"},
        journal_written=9,
        journal_lost=2,
        journal_healthy=False,
        streams=2,
        log_lost=1,
    )
    assert (
        value(metrics, "policyroute_circuit_open", model="mini") == 1
        and value(metrics, "policyroute_circuit_open", model="haiku") == 0
    )
    assert value(metrics, "policyroute_journal_rows_total") == 9 and value(metrics, "policyroute_journal_lost_total") == 2
    assert value(metrics, "policyroute_journal_healthy") == 0 and value(metrics, "policyroute_streams_open") == 2
    assert value(metrics, "policyroute_access_log_lost_total") == 1
    metrics.reload_failed()
    assert value(metrics, "policyroute_reload_failed") == 1 and value(metrics, "policyroute_reload_failures_total") == 1
    other = loaded("coding")[0]
    metrics.policy(other, catalog())
    assert value(metrics, "policyroute_policy_info", policy=policy.name, digest=policy.digest) == 0
    assert value(metrics, "policyroute_policy_info", policy=other.name, digest=other.digest) == 1
    assert value(metrics, "policyroute_circuit_open", model="gpt_4o") == 0 and value(metrics, "policyroute_reload_failed") == 0


def test_what_needs_no_request_is_there_at_once() -> None:
    """The first look shows the policy, a journal that isn't ill, and when the newest price began."""
    metrics, policy = fresh(), loaded()[0]
    assert value(metrics, "policyroute_policy_info", policy=policy.name, digest=policy.digest) == 1
    assert value(metrics, "policyroute_journal_healthy") == 1
    newest = newest_price(catalog())
    assert newest and newest <= datetime.now(UTC) and value(metrics, "policyroute_prices_timestamp_seconds") == newest.timestamp()
    assert (newest_price(catalog(), datetime(2026, 1, 1, tzinfo=UTC)) or AT) <= datetime(2026, 1, 1, tzinfo=UTC)


def test_follow() -> None:
    """Gauges are renewed without a request."""
    metrics, told = fresh(), threading.Event()
    calls: Iterator[dict[str, Any]] = iter([{"streams": 1}, {"streams": 5}])

    def read() -> dict[str, Any]:
        found = next(calls, None)
        if found is None:  # the second one's numbers are set by now
            told.set()
            threading.Event().wait()
        assert found
        return found

    metrics.follow(read, every=0.001)
    metrics.follow(read, every=0.001)
    assert told.wait(10) and value(metrics, "policyroute_streams_open") == 5


# -- several processes -------------------------------------------------------------------------------------------------

WORKERS = """
import os, sys
from tests.served_support import catalog, loaded, served
from policyroute.prices.cost import Cost
from policyroute.proxy.metrics import Metrics

policy = loaded()[0]
metrics = Metrics(policy, catalog())  # before the fork, as a preloading server makes it
found = served()

def work(number):
    for place in range(500):
        found.cost = Cost(number * 1_000_003)
        found.overhead = 0.04 if place % 2 else 40.0
        metrics.observe(found)
    metrics.gauges(circuits={"mini": "open"} if number == 2 else {}, streams=number, journal_healthy=number != 2, journal_written=number * 10)
    sys.stdout.write("done\\n")
    sys.stdout.flush()
    sys.stdin.readline()  # alive until it is told to go

for number in (1, 2):
    if os.fork() == 0:
        work(number)
        os._exit(0)
for number in (1, 2):
    os.wait()
"""

MONEY = {"target": "mini", "tier": "cheap"}


def test_two_processes_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forked workers write, a third process reads: exact sums while they live, no gauge of theirs once they are gone."""
    folder = tmp_path / "numbers"
    folder.mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    reading = fresh()
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as workers:
        assert workers.stdin and workers.stdout
        assert [workers.stdout.readline() for _ in range(2)] == ["done\n", "done\n"]
        assert value(reading, "policyroute_streams_open") == 3 and value(reading, "policyroute_circuit_open", model="mini") == 1
        assert value(reading, "policyroute_journal_healthy") == 0
        added_up(reading)
        workers.stdin.write("go\ngo\n")
    assert workers.returncode == 0
    assert value(reading, "policyroute_streams_open") == 0 and value(reading, "policyroute_journal_healthy") == 1
    assert value(reading, "policyroute_circuit_open", model="mini") in (0, None)
    added_up(reading)
    reading.observe(served())
    assert value(reading, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 1_001
    reading.close()
    reading.observe(served(verdict="cut", attempts=[], error="cut"))  # a straggler: no error
    assert value(reading, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 1_001


def added_up(reading: Metrics) -> None:
    """All that both workers counted."""
    assert value(reading, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 1_000
    assert value(reading, "gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="input") == 1_000_000
    assert value(reading, "policyroute_overhead_seconds_bucket", api="chat", le="5e-05") == 500
    assert value(reading, "policyroute_overhead_seconds_count", api="chat") == 1_000
    assert value(reading, "policyroute_cost_usd_total", **MONEY) == pytest.approx(3 * 500 * 1_000_003 / 10**12, rel=1e-15)
    assert value(reading, "policyroute_journal_rows_total") == 30


def test_several_gateways_in_a_process_share_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They write to the same file: neither overwrites the other."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    one, two = fresh(), fresh()
    for metrics in (one, two, one):
        metrics.observe(served())
    assert value(two, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 3
    one.close()
    again = fresh()
    again.observe(served())
    assert value(again, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 4
    again.close()


def test_what_keeps_it_from_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that isn't there and a package that isn't installed are said at once, with the remedy."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ServeError, match="names no folder"):
        fresh()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ServeError) as missing:
        fresh()
    assert "policyroute[serve]" in missing.value.help


def test_threads() -> None:
    """No count is lost between threads."""
    metrics, found = fresh(), served()
    threads = [threading.Thread(target=lambda: [metrics.observe(found) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "policyroute_requests_total", api="chat", verdict="answered", status="2xx") == 2_000
