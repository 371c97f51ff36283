"""The columns of a journal: which there are, their types, and under which name a policy's signal is kept.

Rules for whoever edits this file
- The first ones are canonical: names and types as `docs/traces.md` lists them. All are written, though some may be null in every
  row: a reader that misses one would look for it under another name.
- A signal is kept ready made: a built-in one in the column that the vocabulary names first, a declared one in its `column`, else
  under its own name, a match under a name that carries the digest of its words (`signals.kept`). Where that column is
  another one's already, or would be read back as something else, it is kept as `signal NAME`, which a replay reads before all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

from policyroute.language.limits import requested_names
from policyroute.language.policy import ANY_OTHER, MISSING, REQUESTED, EnumType, Policy, Signal, TextType
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals.kept import kept_scan, kept_signal

CANONICAL: dict[str, str] = {
    "ts": "TIMESTAMP", "request_id": "VARCHAR", "conversation_id": "VARCHAR", "user_id": "VARCHAR", "team": "VARCHAR", "provider": "VARCHAR",
    "model": "VARCHAR", "requested_model": "VARCHAR", "response_model": "VARCHAR", "api": "VARCHAR", "input_tokens": "BIGINT", "cached_tokens": "BIGINT",
    "cache_write_5m_tokens": "BIGINT", "cache_write_1h_tokens": "BIGINT", "output_tokens": "BIGINT", "reasoning_tokens": "BIGINT",
    "max_output_tokens": "BIGINT", "messages": "JSON", "tools": "JSON", "response_format": "JSON", "output": "JSON", "stream": "BOOLEAN",
    "status_code": "INTEGER", "error_type": "VARCHAR", "finish_reason": "VARCHAR", "latency_ms": "DOUBLE", "ttft_ms": "DOUBLE",
    "cost_usd": "DECIMAL(24,12)", "service_tier": "VARCHAR", "metadata": "JSON",
}  # fmt: skip
OWN: dict[str, str] = {
    "verdict": "VARCHAR", "policy_name": "VARCHAR", "policy_digest": "VARCHAR", "decision_rule": "VARCHAR", "decision_arm": "BIGINT",
    "decision_chain": "VARCHAR", "decision_tier": "VARCHAR", "decision_refused": "VARCHAR", "decision_explored": "BOOLEAN", "decision_shadows": "VARCHAR",
    "decision_propensity": "DOUBLE", "propensity": "DOUBLE", "served_model": "VARCHAR", "attempts": "VARCHAR", "client_retry": "BIGINT", "caller": "VARCHAR",
    "answer_cached": "BOOLEAN", "saved_usd": "DECIMAL(24,12)", "overhead_ms": "DOUBLE", "extractor": "VARCHAR", "odd_signals": "VARCHAR",
    "shadow_policy_digest": "VARCHAR", "shadow_rule": "VARCHAR", "shadow_chain": "VARCHAR", "shadow_cost_usd": "DECIMAL(24,12)",
    "shortened": "VARCHAR", "withheld": "VARCHAR", "decision_acted": "VARCHAR", "state_store": "VARCHAR", "state_number": "BIGINT",
    "state_missed": "BOOLEAN", "settled_number": "BIGINT", "settled_usd": "DECIMAL(24,12)", "classified": "VARCHAR", "classifier_cost_usd": "DECIMAL(24,12)",
    "escalated_from": "VARCHAR", "escalated_input_tokens": "BIGINT", "escalated_output_tokens": "BIGINT", "escalated_cost_usd": "DECIMAL(24,12)",
}  # fmt: skip
COLUMNS = CANONICAL | OWN
READY = {column for row in SIGNALS.values() for column in row.columns}
TAKEN = frozenset({*COLUMNS, *READY, "row", "policyroute_row", "suspect_cost"})
TIMED = ("hour", "weekday")  # told by `ts`, unless a policy reads them from another place


class Kept(NamedTuple):
    """How one signal is kept: its attribute on the values, its column, and the value that is null there.

    `again` asks for `signal NAME` as well: always, or ("differs") only where the canonical column would be read back otherwise.
    """

    name: str
    identifier: str
    column: str
    null: str | None = None
    again: str = ""
    classifier: bool = False

    @property
    def plain(self) -> bool:
        """Whether the value goes into the column as it is, and nowhere else."""
        return self.null is None and not self.again and self.name != REQUESTED and not self.classifier


class Columns:
    """Where a policy's signals are kept, and how its models are named. `plain` signals are read at once, `others` one by one."""

    def __init__(self, policy: Policy) -> None:
        self.asked = requested_names(policy)
        self.labels = {name: _label(policy, name, self.asked) for name in policy.models}
        self.kept = tuple(_kept(policy))
        self.plain = tuple(kept for kept in self.kept if kept.plain)
        self.others = tuple(kept for kept in self.kept if not kept.plain)
        self.names = tuple(kept.column for kept in self.plain)
        self.read = attrgetter(*(kept.identifier for kept in self.plain))
        self.certain = policy.explore is None


def _kept(policy: Policy) -> list[Kept]:
    taken = set(TAKEN)
    found = []
    for signal in policy.signals.values():
        if isinstance(signal.type, TextType):
            continue
        if signal.kind == "match":
            found.append(Kept(signal.name, signal.identifier, kept_scan(signal.text, policy.texts[signal.words])))
        elif signal.kind == "builtin":
            found += _builtin(signal)
        else:
            found.append(_declared(signal, taken)._replace(classifier=signal.kind == "classifier"))
            taken.add(found[-1].column.casefold())
    return found


def _builtin(signal: Signal) -> list[Kept]:
    name, identifier = signal.name, signal.identifier
    if name in TIMED:
        return [Kept(name, identifier, kept_signal(name))] if signal.places else []
    column = SIGNALS[name].columns[0]
    placed = "always" if any(place.kind == "column" for place in signal.places) else ""
    return [Kept(name, identifier, column, again=placed or ("differs" if column in CANONICAL else ""))]


def _declared(signal: Signal, taken: set[str]) -> Kept:
    place = next((place.name for place in signal.places if place.kind == "column"), signal.name)
    if place.casefold() in taken or place.startswith("signal ") or " has " in place:
        return Kept(signal.name, signal.identifier, kept_signal(signal.name))
    null = MISSING if isinstance(signal.type, EnumType) and signal.type.optional else None
    return Kept(signal.name, signal.identifier, place, null)


def _label(policy: Policy, name: str, asked: Mapping[str, str]) -> str:
    """What a replay finds the declared model by: its id, unless another one has the same."""
    model = policy.models[name]
    ways = (model.id, f"{model.provider}/{model.id}" if model.provider else "", name)
    return next((way for way in ways if way and asked.get(way) == name), name)


def asked_model(columns: Columns, raw: str, value: object) -> object:
    """The column `requested`: as the caller wrote it, so that another policy can look it up, where that gives the value again."""
    return raw if raw and columns.asked.get(raw, ANY_OTHER) == value else value
