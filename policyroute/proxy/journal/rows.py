"""A finished request as a row of the journal: a canonical trace row, the signal values that it was decided by, and the decision.

- Money is exact decimal text, times are UTC with microseconds, what isn't known is None. The provider's usage is `input_tokens` and
  the like; `tokens` is ours, as the policy saw it.
- A replay reads the signals' columns before it looks at anything else, so that it decides by what live decided by.
- Texts (`prompt`, `last`, `system`) are never written. Messages, tools and answers are only with `prompts`, redacted.
- A row without content is at most `LARGEST` bytes: beyond it long values are cut, and `shortened` names their columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from policyroute.language.decision import Decision
from policyroute.language.policy import REQUESTED, Policy
from policyroute.prices.cost import Cost
from policyroute.prices.money import to_decimal
from policyroute.proxy.journal.columns import CANONICAL, Columns, asked_model
from policyroute.proxy.journal.content import content_of
from policyroute.proxy.served import Classified, Served
from policyroute.signals.facts import VERSION
from policyroute.signals.kept import kept_signal
from policyroute.signals.text import ScannerError
from policyroute.signals.values import Values

LARGEST = 1 << 20  # bytes of a row without content
LONG = 1_000  # characters that are left of a long value in a row that is larger
NAMELESS = ("none", "null", "nan", "undefined", "")  # what a canonical column of names takes for no name
KEPT_POLICIES = 64

Redact = Callable[[str], str]

_known: dict[str, Columns] = {}


def row_of(served: Served, *, prompts: bool = False, redact: Redact | None = None) -> dict[str, object]:
    """The row of a finished request, without columns of ours that are null. `prompts` adds its content, through `redact`. Reads all
    signals of its policy."""
    columns, values = _columns(served.policy), served.values
    own = _request(served, values) | _outcome(served, columns) | _decision(served, columns) | _state(served) | _around(served)
    row: dict[str, object] = {name: value for name, value in own.items() if value is not None}
    if values is not None:
        row |= _signals(served, values, columns, own)
        if odd := getattr(values, "odd", ()):
            row["odd_signals"] = ",".join(sorted(odd))
    row = row if _small(row) else _shortened(row)
    return row | content_of(served.prompt, served.answer, redact) if prompts else row


def _columns(policy: Policy) -> Columns:
    """A policy's columns, worked out once. The policy's digest covers all that they depend on."""
    found = _known.get(policy.digest)
    if found is None:
        if len(_known) >= KEPT_POLICIES:
            _known.clear()
        found = _known[policy.digest] = Columns(policy)
    return found


# -- canonical columns ---------------------------------------------------------------------------------------------


def _request(served: Served, values: Values | None) -> dict[str, object]:
    facts = getattr(values, "facts", None)
    return {
        "ts": moment(served.at), "request_id": served.id, "conversation_id": served.conversation or None, "user_id": served.user or None,
        "team": served.team or None, "requested_model": served.requested or None, "api": served.api,
        "max_output_tokens": facts.content.max_output if facts is not None else None, "stream": served.stream, "caller": served.caller or None,
        "client_retry": served.retry,
    }  # fmt: skip


def _outcome(served: Served, columns: Columns) -> dict[str, object]:
    usage, answering = served.usage, _answering(served)
    model = served.policy.models.get(answering)
    counts: tuple[int | None, ...] = (None,) * 5
    if usage is not None:
        counts = (usage.input, usage.cached, usage.write_5m, usage.write_1h, usage.output)
    names = ("input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")
    return {
        "provider": served.provider or (model.provider if model else None), "model": columns.labels.get(answering) or served.model_id or None,
        "response_model": served.response_model or None, **dict(zip(names, counts, strict=True)), "reasoning_tokens": served.reasoning,
        "status_code": served.status or None, "error_type": served.error or None, "finish_reason": served.finish_reason or None,
        "latency_ms": served.latency, "ttft_ms": served.first, "cost_usd": _cost(served), "service_tier": served.service_tier or None,
    }  # fmt: skip


def _answering(served: Served) -> str:
    """The model that answered; for a request that none answered, the one that was tried last: it is its provider that failed."""
    if served.model or served.verdict in ("refused", "cached"):
        return served.model
    return next((attempt.model for attempt in reversed(served.attempts) if not attempt.result.startswith("skipped")), "")


def _cost(served: Served) -> str | None:
    return "0" if served.verdict == "cached" else dollars(served.cost)


def dollars(cost: Cost | None) -> str | None:
    """Exact dollars as text."""
    return None if cost is None else format(to_decimal(cost.picodollars), "f")


def moment(at: datetime) -> str:
    """A time as ISO text in UTC, to the microsecond; a naive one is UTC."""
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat(timespec="microseconds")[:-6] + "Z"


# -- signals -------------------------------------------------------------------------------------------------------


def _signals(served: Served, values: Values, columns: Columns, own: Mapping[str, object]) -> dict[str, object]:
    """The signals' columns; `own` holds the canonical ones. All are there, also those that are null."""
    try:
        found: dict[str, object] = dict(zip(columns.names, columns.read(values), strict=True))
    except ScannerError:  # RE2 ran out of memory for words that the decision didn't need
        found = {kept.column: _value(values, kept.identifier) for kept in columns.plain}
    reached = getattr(values, "reached", None)
    for kept in columns.others:
        if kept.classifier and reached is not None and kept.name not in reached:
            found[kept.column] = None  # nobody read it: its `on failure` member is no answer
            continue
        value = _value(values, kept.identifier)
        if kept.name == REQUESTED:
            value = asked_model(columns, served.requested, value)
        if kept.column not in CANONICAL:
            found[kept.column] = None if kept.null is not None and value == kept.null else value
        if kept.again == "always" or (kept.again == "differs" and _read_back(own[kept.column], value) != value):
            found[kept_signal(kept.name)] = value
    return found


def _value(values: Values, identifier: str) -> object:
    try:
        return getattr(values, identifier)
    except ScannerError:
        return None


def _read_back(found: object, value: object) -> object:
    """What a replay makes of a canonical column that holds a signal's value."""
    if isinstance(value, bool):
        return found if isinstance(found, bool) else False
    return "" if found is None or str(found).lower() in NAMELESS else found


# -- the decision --------------------------------------------------------------------------------------------------


def _decision(served: Served, columns: Columns) -> dict[str, object]:
    decision = served.decision
    found: dict[str, object] = {
        "policy_name": served.policy.name, "policy_digest": served.digest or served.policy.digest, "extractor": VERSION,
        "verdict": served.verdict, "served_model": served.model or None,
    }  # fmt: skip
    if decision is None:
        return found
    return found | {
        "decision_rule": decision.rule, "decision_arm": None if decision.arm < 0 else decision.arm, "decision_chain": ",".join(decision.chain),
        "decision_tier": served.tier or None, "decision_refused": decision.refused or None, "decision_explored": decision.explored,
        "decision_shadows": ",".join(decision.shadows) or None, "decision_propensity": decision.propensity,
        "propensity": _propensity(served, decision, columns),
    }  # fmt: skip


def _propensity(served: Served, decision: Decision, columns: Columns) -> float | None:
    """The probability with which the model that answered was chosen; None where it isn't known, as for a fallback's answer."""
    if not decision.chain or served.model not in ("", decision.chain[0]):
        return None
    certain = columns.certain and decision.arm < 0
    return 1.0 if certain and served.propensity is None else served.propensity


def _state(served: Served) -> dict[str, object]:
    """What state, classifiers and a weak first answer had to do with it."""
    decision = served.decision
    found: dict[str, object] = {}
    if decision is not None and (served.state is not None or served.missed):
        number = served.state.number if served.state is not None else None
        found = {
            "decision_acted": ",".join(decision.acted), "state_store": served.store or None, "state_number": number, "state_missed": served.missed,
            "settled_number": served.settled_number, "settled_usd": None if served.settled is None else dollars(Cost(served.settled)),
        }  # fmt: skip
    if served.classified:
        found |= {"classified": _classified(served.classified), "classifier_cost_usd": dollars(_total(served.classified))}
    if served.escalated_from:
        usage = served.first_usage
        found |= {
            "escalated_from": served.escalated_from, "escalated_input_tokens": usage.input if usage else None,
            "escalated_output_tokens": usage.output if usage else None, "escalated_cost_usd": dollars(served.first_cost),
        }  # fmt: skip
    return found


def _classified(answers: Sequence[Classified]) -> str:
    told = [
        {"name": a.name, "member": a.member, "result": a.result, "took_ms": a.took, "cost_usd": dollars(a.cost)} for a in answers
    ]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _total(answers: Sequence[Classified]) -> Cost | None:
    """What the classifiers cost together, None where one's cost isn't known."""
    costs = [answer.cost for answer in answers]
    return None if None in costs else Cost(sum(cost.picodollars for cost in costs if cost is not None))


def _around(served: Served) -> dict[str, object]:
    shadow = served.shadow
    tries = [{"model": a.model, "began_ms": a.began, "took_ms": a.took, "result": a.result} for a in served.attempts]
    found: dict[str, object] = {
        "attempts": json.dumps(tries, ensure_ascii=False, separators=(",", ":")) if tries else None,
        "answer_cached": served.verdict == "cached", "saved_usd": dollars(Cost(served.saved)) if served.saved else "0", "overhead_ms": served.overhead,
    }  # fmt: skip
    if shadow is None:
        return found
    return found | {
        "shadow_policy_digest": shadow.policy.digest, "shadow_rule": shadow.decision.rule, "shadow_chain": ",".join(shadow.decision.chain),
        "shadow_cost_usd": dollars(shadow.cost),
    }  # fmt: skip


# -- size ----------------------------------------------------------------------------------------------------------


def _small(row: Mapping[str, Any]) -> bool:
    """Whether the row is surely within `LARGEST`: a character takes up to six bytes (`\\u0000`)."""
    return sum(len(value) for value in row.values() if type(value) is str) * 6 + len(row) * 100 <= LARGEST


def _shortened(row: Mapping[str, Any]) -> dict[str, object]:
    long = [name for name, value in row.items() if type(value) is str and len(value) > LONG]
    return {name: value[:LONG] if name in long else value for name, value in row.items()} | {"shortened": ",".join(long)}
