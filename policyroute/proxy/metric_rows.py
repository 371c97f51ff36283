"""All metrics in one table: registry, documentation, dashboard and alerts read it.

Rules for whoever edits this file
- A metric is one row of `METRICS`. `read` says what one finished request adds to it; a row without `read` is set by the worker.
- A label's values are words of the policy, names of API keys or words of this file: what else comes is `other`, what is not there
  is `none`. Nothing that a client or an upstream writes becomes a label.
- Money is read in whole picodollars. `metrics` adds them up exactly and shows dollars.
- Names and buckets of `gen_ai_*` are those of OpenTelemetry's conventions for generative AI, in Prometheus' spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from policyroute.language.policy import Policy
from policyroute.proxy.metric_words import NONE, OTHER, error_of, operation_name, provider_name, word_of
from policyroute.proxy.served import Served

CALLERS = 1_000  # API keys that have series of their own
KEPT = 1_000  # spellings of models that are kept

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


class Bounds:
    """The words of a policy that may be labels, and its models' tiers."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.ids = {model.id: model.id for model in policy.models.values()}
        self.by_length = sorted(self.ids, key=len, reverse=True)
        self.providers = {name: provider_name(name) for model in policy.models.values() if (name := model.provider)}
        self.ranks = {tier: rank for rank, tier in enumerate(policy.order)}
        self.strongest = policy.order[-1] if policy.order else ""
        self.tiers = {name: _tier(policy, name) for name in policy.models}

    def model_id(self, found: str) -> str:
        """A model's id, or a dated form of it (`gpt-4o-2024-08-06`), as the policy declares it."""
        if not found:
            return NONE
        known = self.ids.get(found)
        if known is None:
            known = next((each for each in self.by_length if found.startswith(each) and found[len(each)] in "-@:"), OTHER)
            if len(self.ids) < KEPT and len(found) < 200:
                self.ids[found] = known
        return known

    def tier(self, model: str, named: str) -> str:
        """The tier in which `model` served: the one that the rule named if it holds the model, else the model's own."""
        if model in self.policy.tiers.get(named, ()):
            return named
        return self.tiers.get(model, NONE)


def _tier(policy: Policy, model: str) -> str:
    """The weakest tier whose first choice is `model`, else the weakest that holds it."""
    order = (*policy.order, *(tier for tier in policy.tiers if tier not in policy.order))
    held = [tier for tier in order if model in policy.tiers[tier]]
    return next((tier for tier in held if policy.tiers[tier][0] == model), held[0] if held else NONE)


class Seen:
    """One finished request in the words that labels may have. `answered` says that a model's answer was passed on to its end."""

    __slots__ = ("answer_tier", "answered", "bounds", "caller", "gen_ai", "rule", "served", "target", "tier")

    def __init__(self, served: Served, bounds: Bounds, caller: str) -> None:
        self.served, self.bounds, self.caller = served, bounds, caller
        decision, model = served.decision, served.model
        self.rule = decision.rule if decision else NONE
        first = decision.chain[0] if decision and decision.chain else ""
        self.tier = bounds.tier(first, served.tier) if first else NONE
        self.target = model if model in bounds.tiers else OTHER if model else NONE
        self.answer_tier = bounds.tier(model, served.tier) if model else NONE
        self.answered = any(attempt.result == "answered" for attempt in served.attempts)
        provider = served.provider
        self.gen_ai = (
            operation_name(served.api),
            bounds.providers.get(provider, OTHER) if provider else NONE,
            bounds.model_id(served.model_id),
            bounds.model_id(served.response_model),
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as Prometheus shows it, a counter's with its `_total`.

    `read` gives the labels and amounts that one request adds; `money` says that they are picodollars. `known` are label sets that
    a policy is certain to have, shown as 0 before their first request. `across` is how a gauge's values in several workers become
    one: `livemax`, `livemin`, `livesum`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    doc: str
    read: Callable[[Seen], Samples] | None = None
    buckets: tuple[float, ...] = ()
    money: bool = False
    known: Callable[[Bounds], Iterable[Labels]] | None = None
    across: str = ""

    @property
    def family(self) -> str:
        """The name without a counter's `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its samples are found."""
        return tuple(f"{self.name}{end}" for end in ("_bucket", "_sum", "_count")) if self.kind == "histogram" else (self.name,)


# -- what a request adds -----------------------------------------------------------------------------------------------


def _tokens(seen: Seen) -> Samples:
    usage, labels = seen.served.usage, seen.gen_ai
    return () if usage is None else (((*labels, "input"), usage.input), ((*labels, "output"), usage.output))


def _duration(seen: Seen) -> Samples:
    served = seen.served
    return (((*seen.gen_ai, error_of(served.error)), served.latency / 1000),) if served.attempts else ()


def _first(seen: Seen) -> Samples:
    served = seen.served
    return ((seen.gen_ai, served.first / 1000),) if served.stream and served.first is not None and seen.answered else ()


def _per_token(seen: Seen) -> Samples:
    served = seen.served
    if not served.stream or served.first is None or not seen.answered or served.usage is None or served.usage.output < 2:
        return ()
    return ((seen.gen_ai, max(0.0, served.latency - served.first) / (served.usage.output - 1) / 1000),)


def _requests(seen: Seen) -> Samples:
    served = seen.served
    status = f"{served.status // 100}xx" if 100 <= served.status < 600 else NONE
    return (((served.api, served.verdict, status), 1),)


def _requests_known(bounds: Bounds) -> Iterator[Labels]:
    for api in ("chat", "responses", "messages"):
        for verdict, status in (("answered", "2xx"), ("failed", "5xx"), ("cut", "2xx")):
            yield api, verdict, status


def _decisions(seen: Seen) -> Samples:
    decision = seen.served.decision
    if decision is None:
        return ()
    return (((seen.bounds.policy.name, decision.rule, seen.tier, decision.chain[0] if decision.chain else NONE), 1),)


def _decisions_known(bounds: Bounds) -> Iterator[Labels]:
    policy = bounds.policy
    for rule in policy.rules:
        for route in () if rule.shadow else rule.routes:
            first = next((model for model in route.chain if model in policy.models), NONE)
            yield policy.name, rule.name, bounds.tier(first, route.tier), first


def _answers(seen: Seen) -> Samples:
    if not seen.answered or seen.served.decision is None:
        return ()
    strongest = "yes" if seen.answer_tier == seen.bounds.strongest else "no"
    return (((seen.bounds.policy.name, seen.answer_tier, strongest), 1),)


def _answers_known(bounds: Bounds) -> Iterator[Labels]:
    for tier in bounds.policy.tiers:
        yield bounds.policy.name, tier, "yes" if tier == bounds.strongest else "no"


def _attempts(seen: Seen) -> Samples:
    tiers = seen.bounds.tiers
    return [((one.model if one.model in tiers else OTHER, word_of(one.result)), 1) for one in seen.served.attempts]


def _fallbacks(seen: Seen) -> Samples:
    attempts = seen.served.attempts
    if len(attempts) < 2:
        return ()
    return [((one.model, then.model, word_of(one.result)), 1) for one, then in pairwise(attempts) if one.model != then.model]


def _escalations(seen: Seen) -> Samples:
    if not seen.answered or seen.served.decision is None:
        return ()
    ranks = seen.bounds.ranks
    up = ranks.get(seen.answer_tier, -1) > ranks.get(seen.tier, len(ranks))
    return (((seen.tier, seen.answer_tier), 1),) if up else ()


def _asked_for_more(seen: Seen) -> Samples:
    values = seen.served.values
    return (((seen.rule,), 1),) if values is not None and values.s_escalated else ()


def _cost(seen: Seen) -> Samples:
    cost = seen.served.cost
    return (((seen.target, seen.answer_tier), cost.picodollars),) if cost is not None else ()


def _unknown_price(seen: Seen) -> Samples:
    return (((seen.target,), 1),) if seen.served.usage is not None and seen.served.cost is None else ()


def _cached_tokens(seen: Seen) -> Samples:
    usage = seen.served.usage
    return (((seen.target,), usage.cached),) if usage is not None and usage.cached > 0 else ()


def _caller(seen: Seen) -> Samples:
    return (((seen.caller,), 1),)


def _caller_cost(seen: Seen) -> Samples:
    cost = seen.served.cost
    return (((seen.caller,), cost.picodollars),) if cost is not None else ()


def _cache_hits(seen: Seen) -> Samples:
    return (((), 1),) if seen.served.verdict == "cached" else ()


def _saved(seen: Seen) -> Samples:
    return (((), seen.served.saved),) if seen.served.saved else ()


def _overhead(seen: Seen) -> Samples:
    return (((seen.served.api,), seen.served.overhead / 1000),)


def _odd(seen: Seen) -> Samples:
    values = seen.served.values
    return [((name,), 1) for name in values.odd] if values is not None and values.odd else ()


def _shadows(seen: Seen) -> Samples:
    served = seen.served
    if served.shadow is None or served.decision is None:
        return ()
    other = served.shadow.decision
    ours = seen.bounds.policy.models[served.decision.chain[0]].id if served.decision.chain else ""
    theirs = served.shadow.policy.models[other.chain[0]].id if other.chain else ""
    return (((other.rule, "yes" if ours == theirs else "no"), 1),)


def _shadow_cost(seen: Seen) -> Samples:
    served = seen.served
    if served.shadow is None or served.shadow.cost is None or served.cost is None:
        return ()
    return ((("served",), served.cost.picodollars), (("shadow",), served.shadow.cost.picodollars))


def _shadow_rules(seen: Seen) -> Samples:
    decision = seen.served.decision
    return [((rule,), 1) for rule in decision.shadows] if decision is not None and decision.shadows else ()


def _acted(seen: Seen) -> Samples:
    decision = seen.served.decision
    return [((title,), 1) for title in decision.acted] if decision is not None and decision.acted else ()


def _acted_known(bounds: Bounds) -> Iterator[Labels]:
    policy = bounds.policy
    yield from ((one.title,) for one in (*((policy.sticky,) if policy.sticky else ()), *policy.allowances))


def _classified(seen: Seen) -> Samples:
    return [((one.name, word_of(one.result)), 1) for one in seen.served.classified]


def _classifier_cost(seen: Seen) -> Samples:
    return [((one.name,), one.cost.picodollars) for one in seen.served.classified if one.cost is not None]


def _client_retries(seen: Seen) -> Samples:
    return (((), 1),) if seen.served.retry > 0 else ()


# -- the table ---------------------------------------------------------------------------------------------------------

GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
TOKENS = tuple(float(4**power) for power in range(14))
DURATION = tuple(0.01 * 2**power for power in range(14))
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

METRICS: tuple[Metric, ...] = (
    Metric("gen_ai_client_token_usage", "histogram", (*GEN_AI, "gen_ai_token_type"),
           "input and output tokens of a request as the provider counts them, cached input included", _tokens, TOKENS),
    Metric("gen_ai_server_request_duration_seconds", "histogram", (*GEN_AI, "error_type"),
           "from a request's arrival to the end of its answer, for requests that an upstream was asked for", _duration, DURATION),
    Metric("gen_ai_server_time_to_first_token_seconds", "histogram", GEN_AI,
           "from a request's arrival to the first byte of content, streamed answers", _first, FIRST_TOKEN),
    Metric("gen_ai_server_time_per_output_token_seconds", "histogram", GEN_AI,
           "time after the first content, per output token after the first, streamed answers", _per_token, PER_TOKEN),
    Metric("policyroute_requests_total", "counter", ("api", "verdict", "status"), "requests by how they ended and class of status", _requests, known=_requests_known),
    Metric("policyroute_decisions_total", "counter", ("policy", "rule", "tier", "target"),
           "decisions; `target` is the first choice, `none` for a refusal", _decisions, known=_decisions_known),
    Metric("policyroute_answers_total", "counter", ("policy", "tier", "strongest"),
           "requests that a model answered, by the tier that it served in; `strongest` is `yes` for the highest of `order`", _answers, known=_answers_known),
    Metric("policyroute_attempts_total", "counter", ("model", "result"), "calls of upstreams, and models passed over, by result", _attempts),
    Metric("policyroute_fallbacks_total", "counter", ("from", "to", "reason"), "moves from one model to another within a request", _fallbacks),
    Metric("policyroute_escalations_total", "counter", ("tier", "to"), "answers from a higher tier than the decided one", _escalations),
    Metric("policyroute_acted_total", "counter", ("by",), "decisions that `sticky`, a quota or a budget changed", _acted, known=_acted_known),
    Metric("policyroute_classifications_total", "counter", ("classifier", "result"), "answers of classifiers: asked, remembered, or why there was none", _classified),
    Metric("policyroute_classifier_cost_usd_total", "counter", ("classifier",), "dollars that classifiers cost beside the answers", _classifier_cost, money=True),
    Metric("policyroute_escalated_requests_total", "counter", ("rule",), "requests that ask for a better answer (signal `escalated`)", _asked_for_more),
    Metric("policyroute_cost_usd_total", "counter", ("target", "tier"), "dollars, by the model that answered and its tier", _cost, money=True),
    Metric("policyroute_unknown_price_total", "counter", ("target",), "answers with usage whose cost could not be known", _unknown_price),
    Metric("policyroute_cached_tokens_total", "counter", ("target",), "input tokens that providers read from their caches", _cached_tokens),
    Metric("policyroute_caller_requests_total", "counter", ("caller",), "requests by the name of the API key", _caller),
    Metric("policyroute_caller_cost_usd_total", "counter", ("caller",), "dollars by the name of the API key", _caller_cost, money=True),
    Metric("policyroute_answer_cache_hits_total", "counter", (), "requests answered from the answer cache", _cache_hits),
    Metric("policyroute_answer_cache_saved_usd_total", "counter", (), "dollars that the stored answers had cost", _saved, money=True),
    Metric("policyroute_overhead_seconds", "histogram", ("api",), "a request's time that wasn't spent waiting for upstream or client", _overhead, OVERHEAD),
    Metric("policyroute_odd_signal_values_total", "counter", ("signal",), "values that a decision read and that were outside their signal's type: clamped, or replaced by the default", _odd),
    Metric("policyroute_shadow_decisions_total", "counter", ("rule", "agrees"),
           "decisions of the shadow policy; `agrees`: whether its first choice is the served policy's", _shadows),
    Metric("policyroute_shadow_cost_usd_total", "counter", ("side",),
           "dollars of requests that both policies can price, as `served` and as the `shadow` policy's first choice", _shadow_cost, money=True),
    Metric("policyroute_shadow_rule_matches_total", "counter", ("rule",), "requests that a `shadow rule` would have taken", _shadow_rules),
    Metric("policyroute_client_retries_total", "counter", (), "requests that a client library marks as its retry", _client_retries),
    Metric("policyroute_policy_info", "gauge", ("policy", "digest"), "1 for each policy that a worker serves", across="livemax"),
    Metric("policyroute_policy_loaded_timestamp_seconds", "gauge", (), "when the served policy was loaded; the earliest of the workers", across="livemin"),
    Metric("policyroute_reload_failures_total", "counter", (), "reloads that left the last good policy in place"),
    Metric("policyroute_reload_failed", "gauge", (), "1 while the newest files are not what is served", across="livemax"),
    Metric("policyroute_prices_timestamp_seconds", "gauge", (), "start of the newest price in the price library that has begun", across="livemin"),
    Metric("policyroute_journal_rows_total", "counter", (), "rows handed to the journal's files"),
    Metric("policyroute_journal_lost_total", "counter", (), "rows that the journal could not keep"),
    Metric("policyroute_journal_healthy", "gauge", (), "0 while a worker's journal can't write", across="livemin"),
    Metric("policyroute_access_log_lost_total", "counter", (), "lines that the access log could not write"),
    Metric("policyroute_state_missed_total", "counter", (), "requests for which the store of conversations, quotas and budgets was out of reach"),
    Metric("policyroute_circuit_open", "gauge", ("model",), "1 while a worker sends a model no requests, or one to try it", across="livemax"),
    Metric("policyroute_streams_open", "gauge", (), "streamed answers under way", across="livesum"),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}


def markdown() -> str:
    """The table as `docs/observability.md` holds it."""
    head = ["| metric | kind | labels | what it counts |", "| --- | --- | --- | --- |"]
    rows = [
        f"| `{row.name}` | {row.kind} | {', '.join(f'`{label}`' for label in row.labels) or '-'} | {row.doc} |" for row in METRICS
    ]
    return "\n".join([*head, *rows]) + "\n"
