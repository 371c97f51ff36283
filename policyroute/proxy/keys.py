"""API keys: who calls, what the key states, and which models it may use.

Rules of this module
- A key is looked up by its SHA-256 (`key_file` says why a plain one); its text is kept nowhere.
- A keys file is checked against the policy: a signal, value or model that the policy doesn't know is an error at load, not a
  surprise at request time.
- `trust` has the rules of which claims count; what they come to for a key is settled when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.policy import BoolType, EnumType, IntType, Policy, Signal, Value
from policyroute.proxy.key_file import AS_ALL, Entry, Keeping, KeysError, entries, hashed, place_of, text_of
from policyroute.proxy.trust import IDENTITIES, Terms, agreed, clash, first_place
from policyroute.signals.facts import Facts

__all__ = ["LOCAL", "Caller", "Keys", "KeysError", "facts_of", "keys_of", "load_keys"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, by the key. `models` are the allowed ones (None: all); `owned` are the names that any key of the file states.

    `terms` are how the caller's requests are read under the policy that the file was loaded with.
    """

    name: str = ""
    user: str = ""
    team: str = ""
    signals: Mapping[str, Value] = field(default_factory=dict, hash=False)
    models: frozenset[str] | None = None
    trusted: bool = False
    expires: date | None = None
    cache: Keeping = AS_ALL
    owned: frozenset[str] = frozenset()
    terms: Terms | None = field(default=None, compare=False, repr=False)

    def permitted(self, chain: tuple[str, ...], policy: Policy) -> tuple[str, ...]:
        """Those of `chain` that the key may use, in order."""
        return chain if self.models is None else tuple(model for model in chain if model in self.models)

    @property
    def states(self) -> bool:
        """Whether the key states a signal, a user or a team."""
        return bool(self.signals or self.user or self.team)


LOCAL = Caller("local", trusted=True)
"""The caller where there is no keys file: this machine, without restriction."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The callers of a keys file, by the hash of their keys."""

    callers: Mapping[str, Caller]

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept for a key of its own accord."""
        return any(caller.cache.ttl for caller in self.callers.values())

    def find(self, headers: Mapping[str, str], now: datetime) -> Caller | None:
        """The caller whose key is in `headers` (lower-case names), None without a key that is valid `now` (aware).

        `authorization: Bearer`, then `x-api-key`, then `api-key`: client libraries may send a dummy in one of them.
        """
        for key in _keys_in(headers):
            caller = self.callers.get(hashed(key))
            if caller is not None and (caller.expires is None or now.astimezone(UTC).date() <= caller.expires):
                return caller
        return None


def facts_of(fields: Mapping[str, Any], headers: Mapping[str, str], caller: Caller, at: datetime, policy: Policy) -> Facts:
    """The facts of a request, with the claims that count from this caller (`trust` has the rules). `fields` is not changed."""
    if caller.trusted and not caller.states:
        return Facts.of_body(fields, headers, at, policy.timezone)
    terms = caller.terms
    if terms is None or terms.policy is not policy:
        terms = _terms(caller.signals, caller.user, caller.team, caller.owned, caller.trusted, policy)
    return terms.facts(fields, headers, at)


def load_keys(path: Path, policy: Policy) -> Keys:
    """The keys of a file, checked against the policy. Raises KeysError: which key, what is wrong, and the remedy."""
    return keys_of(text_of(path), path, policy)


def keys_of(text: str, path: Path, policy: Policy) -> Keys:
    """As `load_keys`, of a text that is or will be in the file at `path`."""
    read = entries(text, path)
    signals = [_checked(entry, place_of(path, number, entry.name), policy) for number, entry in enumerate(read, 1)]
    owned = frozenset(name for entry in read for name in (*entry.signals, *(each for each in IDENTITIES if getattr(entry, each))))
    callers = {}
    for number, (entry, stated) in enumerate(zip(read, signals, strict=True), 1):
        models = _models(entry, place_of(path, number, entry.name), policy)
        terms = _terms(stated, entry.user, entry.team, owned, entry.trusted, policy)
        callers[entry.sha256] = Caller(
            entry.name, entry.user, entry.team, stated, models, entry.trusted, entry.expires, entry.cache, owned, terms
        )  # fmt: skip
    return Keys(callers)


def _terms(signals: Mapping[str, Value], user: str, team: str, owned: frozenset[str], trusted: bool, policy: Policy) -> Terms:
    return agreed(policy, signals, {"user": user, "team": team}, owned, trusted=trusted)


def _keys_in(headers: Mapping[str, str]) -> list[str]:
    scheme, _, bearer = headers.get("authorization", "").strip().partition(" ")
    sent = (bearer if scheme.lower() == "bearer" else "", headers.get("x-api-key", ""), headers.get("api-key", ""))
    return [key for each in sent if (key := each.strip())]


# -- against the policy ------------------------------------------------------------------------------------------------


def _models(entry: Entry, place: str, policy: Policy) -> frozenset[str] | None:
    """The models that `models` names: themselves, or by their tier."""
    if entry.models is None:
        return None
    found: set[str] = set()
    for name in entry.models:
        if name not in policy.models and name not in policy.tiers:
            known = (*policy.models, *policy.tiers)
            raise KeysError(
                f"{place}: no model or tier is named `{name}`", did_you_mean(name, known) or f"the policy has {', '.join(known)}"
            )
        found.update((name,) if name in policy.models else policy.tiers[name])
    return frozenset(found)


def _checked(entry: Entry, place: str, policy: Policy) -> dict[str, Value]:
    stated = {name: _value(name, value, place, policy) for name, value in entry.signals.items()}
    _refuse_clashes({**stated, **{name: value for name in IDENTITIES if (value := getattr(entry, name))}}, place, policy)
    return stated


def _value(name: str, value: Value, place: str, policy: Policy) -> Value:
    signal = policy.signals.get(name)
    if signal is None:
        raise KeysError(
            f"{place}: no signal is named `{name}`",
            did_you_mean(name, policy.signals) or f'declare it: `signal {name} : ... from header "..."`',
        )
    if name in IDENTITIES:
        raise KeysError(f"{place}: `{name}` is no signal of a key's `signals`", f'write `{name} = "..."` beside `name`')
    if first_place(policy, name) is None:
        raise KeysError(
            f"{place}: the policy takes `{name}` from no place of a request",
            f'a key states a declared signal: `signal {name} : ... from header "..."`',
        )
    return _typed(signal, value, place)


def _typed(signal: Signal, value: Value, place: str) -> Value:
    """`value`, if it is one of the signal's type."""
    name = signal.name
    match signal.type:
        case IntType(low, high):
            if type(value) is not int:
                raise KeysError(f"{place}: `{name}` is not a whole number", f"write `{name} = {low}`, without quotes")
            if not low <= value <= high:
                raise KeysError(f"{place}: `{name}` is {value}, outside its range", f"it goes from {low} to {high}")
        case BoolType():
            if type(value) is not bool:
                raise KeysError(f"{place}: `{name}` is not true or false", f"write `{name} = true`, without quotes")
        case EnumType(members=members, open=open_):
            if type(value) is not str or not (open_ or value in members):
                raise KeysError(
                    f"{place}: `{name}` has no member `{value}`",
                    did_you_mean(str(value), members) or f"its members are {', '.join(members)}",
                )
        case _:
            if type(value) is int:
                return str(value)
            if type(value) is not str:
                raise KeysError(f"{place}: `{name}` is not a text", f'write `{name} = "..."`')
    if type(value) is str and not (value.isprintable() and value == value.strip()):
        raise KeysError(f"{place}: `{name}` is not a plain text", "a value has no control characters and no white space around it")
    return value


def _refuse_clashes(stated: Mapping[str, Value], place: str, policy: Policy) -> None:
    """Two values that would be written into one place."""
    first = {name: found for name in stated if (found := first_place(policy, name)) is not None}
    names = list(first)
    for number, one in enumerate(names):
        for other in names[:number]:
            if clash(first[one], first[other]) and (
                first[one].name.lower() != first[other].name.lower() or stated[one] != stated[other]
            ):
                raise KeysError(
                    f"{place}: `{other}` and `{one}` are read from one place, and can't both be stated",
                    f'give one of them a first place of its own in the policy: `signal {one} : ... from metadata "{one}"`',
                )
