"""Which claims of a request count: what a key states, what a trusted caller says, and what anybody may say.

Rules of this module
- What a key states for a signal counts, whoever calls and whatever the request says.
- A signal (or user, or team) that any key of the file states is taken from no other untrusted caller's headers, metadata or body:
  what one key pays for, another can't claim.
- Headers that name user or team, and the header places of a policy's signals, count from trusted callers only. `x-escalate` is the
  user's own wish, and a conversation's headers only keep its requests together: both count from all, wherever the policy has them.
- A trusted caller may name another user or team than its key does: it speaks for its own users.
- A value is stated as if the request held it: it is written into the first place where the policy looks for the signal, and goes
  through the signal's type like any other. The client's body is never changed; copies are made along the way to a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policyroute.language.policy import Place, Policy, Value
from policyroute.signals import request
from policyroute.signals.callers import TEAM, USER
from policyroute.signals.facts import Facts

IDENTITIES = ("user", "team")
FREE = frozenset({"escalated", "conversation"})  # built-in signals that anybody may set

Path = tuple[str, ...]
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """How one caller's requests are read under one policy, settled once.

    `barred_...` are the names that don't count from this caller, `headers`, `metadata` and `fields` what its key states instead.
    `known` are the facts that are settled (None: nobody is named), `offered` those that count where the request names none.
    """

    policy: Policy
    barred_headers: frozenset[str]
    barred_metadata: frozenset[str]
    barred_fields: tuple[Path, ...]
    headers: Mapping[str, str]
    metadata: Mapping[str, Value]
    fields: tuple[tuple[Path, Value], ...]
    known: Mapping[str, str | None]
    offered: Mapping[str, str]

    def facts(self, body: Fields, headers: Mapping[str, str], at: datetime) -> Facts:
        """The facts of a request, as far as they count. `headers` has lower-case names."""
        facts = Facts(self._content(body), self._headers(headers), at, self.policy.timezone)
        facts.__dict__.update(self.known)
        for name, value in self.offered.items():
            if not _named(facts, self.policy, name):
                facts = _offered(facts, self.policy, name, value, at)
        return facts

    def _headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        if not self.barred_headers.isdisjoint(headers):
            headers = {name: value for name, value in headers.items() if name not in self.barred_headers}
        return {**headers, **self.headers} if self.headers else headers

    def _content(self, body: Fields) -> request.Content:
        content = request.of_body(body)
        metadata, fields = content.metadata, content.fields
        if metadata and not self.barred_metadata.isdisjoint(metadata):
            metadata = {name: value for name, value in metadata.items() if name not in self.barred_metadata}
        if self.metadata:
            metadata = {**(metadata or {}), **self.metadata}
        for path in self.barred_fields:
            if _at(fields, path) is not None:
                fields = _with(fields, path, None)
        for path, value in self.fields:
            fields = _with(fields, path, value)
        changed = metadata is not content.metadata or fields is not content.fields
        return content._replace(metadata=metadata, fields=fields) if changed else content


def agreed(
    policy: Policy, signals: Mapping[str, Value], identities: Mapping[str, str], owned: frozenset[str], *, trusted: bool
) -> Terms:
    """The terms of a caller whose key states `signals`, and `user` and `team` in `identities` (empty: none).

    `owned` are the names that any key states. Signals that `policy` doesn't look for in a request are left out.
    """
    identities = {name: value for name, value in identities.items() if value}
    stated: dict[str, Value] = dict(signals) if trusted else {**signals, **identities}
    headers: dict[str, str] = {}
    metadata: dict[str, Value] = {}
    fields: list[tuple[Path, Value]] = []
    for name, value in stated.items():
        match first_place(policy, name):
            case Place("header", place):
                headers[place.lower()] = _as_header(value)
            case Place("metadata", place):
                metadata[place] = value
            case Place("body", place):
                fields.append((tuple(place.split(".")), value))
    if trusted:
        return Terms(policy, frozenset(), frozenset(), (), headers, metadata, tuple(fields), {}, identities)
    foreign = [place for name in owned - stated.keys() for place in places(policy, name)]
    known = {name: identities.get(name) for name in IDENTITIES if name in owned or name in identities}
    return Terms(
        policy, _barred_headers(policy, foreign), frozenset(place.name for place in foreign if place.kind == "metadata"),
        tuple(tuple(place.name.split(".")) for place in foreign if place.kind == "body"), headers, metadata, tuple(fields), known, {},
    )  # fmt: skip


def places(policy: Policy, name: str) -> tuple[Place, ...]:
    """Where a live request may hold the signal, first place first; none for a signal of traces only."""
    signal = policy.signals.get(name)
    return tuple(place for place in signal.places if place.kind != "column") if signal else ()


def first_place(policy: Policy, name: str) -> Place | None:
    """The place that is looked at first."""
    found = places(policy, name)
    return found[0] if found else None


def clash(one: Place, other: Place) -> bool:
    """Whether what is written into one place is also found in the other, or takes it away."""
    if one.kind != other.kind:
        return False
    if one.kind == "header":
        return one.name.lower() == other.name.lower()
    if one.kind == "metadata":
        return one.name == other.name
    first, second = sorted((one.name.split("."), other.name.split(".")), key=len)
    return second[: len(first)] == first


def _barred_headers(policy: Policy, foreign: list[Place]) -> frozenset[str]:
    declared = [place for name in policy.signals if name not in FREE for place in places(policy, name)]
    named = {place.name.lower() for place in (*declared, *foreign) if place.kind == "header"}
    return frozenset({*named, *USER.headers, *TEAM.headers})


def _as_header(value: Value) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


# -- a trusted caller's own user and team ------------------------------------------------------------------------------


def _named(facts: Facts, policy: Policy, name: str) -> bool:
    """Whether the request names a user or team, in a place of the policy's or in a usual one."""
    return any(_claim(facts, place) for place in places(policy, name)) or bool(getattr(facts, name))


def _claim(facts: Facts, place: Place) -> object:
    match place.kind:
        case "header":
            return facts.headers.get(place.name.lower())
        case "metadata":
            return (facts.content.metadata or {}).get(place.name)
        case _:
            return _at(facts.content.fields, tuple(place.name.split(".")))


def _offered(facts: Facts, policy: Policy, name: str, value: str, at: datetime) -> Facts:
    place = first_place(policy, name)
    known = {each: facts.__dict__[each] for each in IDENTITIES if each in facts.__dict__} | {name: value}
    if place is not None:
        content, headers = facts.content, facts.headers
        match place.kind:
            case "header":
                headers = {**headers, place.name.lower(): value}
            case "metadata":
                content = content._replace(metadata={**(content.metadata or {}), place.name: value})
            case _:
                content = content._replace(fields=_with(content.fields, tuple(place.name.split(".")), value))
        facts = Facts(content, headers, at, policy.timezone)
    facts.__dict__.update(known)
    return facts


# -- places in a body --------------------------------------------------------------------------------------------------


def _at(fields: Fields | None, path: Path) -> object:
    found: object = fields
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _with(fields: object, path: Path, value: Value | None) -> dict[str, Any]:
    """A copy of `fields` with a value at `path`; what is beside the path is shared with the original."""
    copied = dict(fields) if isinstance(fields, Mapping) else {}
    copied[path[0]] = value if len(path) == 1 else _with(copied.get(path[0]), path[1:], value)
    return copied
