"""A policy as one Python function, generated as source and compiled: what a server runs for each request.

Values are read as attributes of one object (`signal.identifier`), so that a lazy object counts tokens only when
evaluation gets there. With `bounds`, a comparison of a costly number is first tried with its bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from policyroute.language.decision import NO_ARM, NO_MODEL, PARTS, Decision, draw, propensity
from policyroute.language.limits import blocked, reachable, read_signals
from policyroute.language.policy import (
    FALSE,
    REQUESTED,
    TRUE,
    Apply,
    Chain,
    Expression,
    Literal,
    Policy,
    Read,
    Refuse,
    Route,
    Rule,
    Split,
    Value,
    reads,
)  # fmt: skip
from policyroute.language.vocabulary import COMPARISONS, OPERATORS

# Numbers whose exact value costs a scan, and which a values object also offers as `<identifier>_LOW` and `_HIGH`. Names are
# lower-case, so no declared signal can collide with these.
COSTLY = frozenset({"tokens", "last_tokens"})
LARGEST_TABLE = 6  # models in a chain up to which all 2^n outcomes are made beforehand

Decide = Callable[[Any], Decision]


@dataclass(frozen=True)
class Live:
    """A compiled policy: `decide(values)` for any object with the attributes; `given(mapping)` makes such an object."""

    policy: Policy
    decide: Decide
    source: str
    values: type
    bounds: bool = False

    @cached_property
    def blocked(self) -> Mapping[str, Callable[[Any], bool]]:
        """For every declared model, reachable by a rule or not: whether a limit keeps a request from it, by `blocked[model](values)`.

        Compiled when first asked for: deciding doesn't need it, trying a model that no chain names does.
        """
        limits = {model: blocked(self.policy, model) for model in self.policy.models}
        return dict(zip(limits, self.conditions(tuple(limits.values())), strict=True))

    @cached_property
    def guards(self) -> tuple[Callable[[Any], bool], ...]:
        """The conditions of the policy's quotas and budgets, by their places."""
        return tuple(self.conditions(tuple(one.condition for one in self.policy.allowances)))

    def conditions(self, wanted: Sequence[Expression]) -> list[Callable[[Any], bool]]:
        """Functions of a values object, one for each condition."""
        writer = _Writer(self.policy, self.bounds)
        names = {condition: f"condition_{number}" for number, condition in enumerate(dict.fromkeys(wanted))}
        source = [f"def {name}(v): return {writer.condition(condition)}" for condition, name in names.items()]
        found = _run("\n".join(source), f"<conditions of {self.policy.name}>", writer.constants)
        return [found[names[condition]] for condition in wanted]

    def given(self, values: Mapping[str, Value]) -> Any:
        """An object that holds the given signal values, and the defaults for the others."""
        made, identifiers = self.values(), self._identifiers
        for name, value in values.items():
            setattr(made, identifiers[name], value)
        return made

    @cached_property
    def _identifiers(self) -> dict[str, str]:
        return {name: signal.identifier for name, signal in self.policy.signals.items()}


def compile_policy(policy: Policy, *, bounds: bool = False) -> Live:
    """Generate and compile the function. It is pure and can be called from any number of threads."""
    writer = _Writer(policy, bounds)
    source = writer.module()
    namespace = _run(source, f"<policy {policy.name}>", writer.constants)
    return Live(policy, namespace["decide"], source, _values_class(policy), bounds)


def _run(source: str, name: str, constants: Mapping[str, Any]) -> dict[str, Any]:
    namespace = dict(constants)
    exec(compile(source, name, "exec"), namespace)
    return namespace


def _values_class(policy: Policy) -> type:
    signals = [policy.signals[name] for name in read_signals(policy)]
    everyone = {signal.identifier: signal.default for signal in (*policy.signals.values(), *signals)}

    namespace: dict[str, Any] = {}
    exec(
        "\n".join(["def fill(self):", *(f"    self.{name} = {value!r}" for name, value in everyone.items()), "    pass"]), namespace
    )
    fill = namespace["fill"]
    return type("Values", (), {"__slots__": tuple(everyone), "__init__": fill, "__doc__": "Signal values of one request."})


class _Writer:
    """Writes the module's source; `constants` are the names that it needs."""

    def __init__(self, policy: Policy, bounds: bool) -> None:
        self.policy = policy
        self.bounds = bounds
        self.constants: dict[str, Any] = {}
        self.limits = {model: blocked(policy, model) for model in reachable(policy)}

    def module(self) -> str:
        shadowed = any(rule.shadow for rule in self.policy.rules)
        functions: list[str] = []
        body = ["def decide(v):"] + (["    shadows = ()"] if shadowed else [])
        for number, rule in enumerate(self.policy.rules):
            condition = self.condition(rule.condition)
            if rule.shadow:
                body += [f"    if {condition}: shadows += ({rule.name!r},)"]
                continue
            call = self.rule(number, rule, functions)
            call = f"with_shadows({call}, shadows)" if shadowed else call
            body += [f"    return {call}"] if rule.condition == TRUE else [f"    if {condition}: return {call}"]
        self.constants["with_shadows"] = _with_shadows
        return "\n".join([*functions, *body, ""])

    # -- targets -----------------------------------------------------------------------------------------------------

    def rule(self, number: int, rule: Rule, functions: list[str]) -> str:
        """The expression that gives the rule's decision; helper functions are added to `functions`."""
        match rule.target:
            case Refuse(message):
                return self.constant(f"refused_{number}", Decision(rule.name, (), refused=message))
            case Route() as route:
                return self.route(f"route_{number}", rule, NO_ARM, PARTS, route, functions)
            case Split(key, arms):
                calls = [
                    self.route(f"route_{number}_{arm}", rule, arm, made.share, made.route, functions)
                    for arm, made in enumerate(arms)
                ]
                functions += self.split(f"split_{number}", rule, key, [arm.share for arm in arms], calls)
                return f"split_{number}(v)"

    def split(self, name: str, rule: Rule, key: str, shares: list[int], calls: list[str]) -> list[str]:
        self.constants["draw"] = draw
        lines = [
            f"def {name}(v):",
            f"    key = {self.read(key)}",
            f"    drawn = draw({self.policy.name!r}, {rule.name!r}, key) % {PARTS} if key else 0",
        ]
        upto = 0
        for share, call in zip(shares[:-1], calls[:-1], strict=True):
            upto += share
            lines.append(f"    if drawn < {upto}: return {call}")
        return [*lines, f"    return {calls[-1]}"]

    def route(self, name: str, rule: Rule, arm: int, share: int, route: Route, functions: list[str]) -> str:
        made = _Outcomes(self.policy, rule.name, arm, share)
        if REQUESTED in route.chain:
            return self.requested_route(name, made, route.chain, functions)
        limited = [(model, self.limits[model]) for model in route.chain if self.limits[model] != FALSE]
        table = self.constant(f"{name}_table", made.table(route.chain, tuple(model for model, _ in limited)))
        bits: dict[Expression, int] = {}  # models with the same limit share one test
        for bit, (_, limit) in enumerate(limited):
            bits[limit] = bits.get(limit, 0) | 1 << bit
        index = " | ".join(f"({mask} if {self.condition(limit)} else 0)" for limit, mask in bits.items()) or "0"
        found = f"{table}[{index}]"
        if self.policy.explore is None:
            return found
        explore = self.constant(f"{name}_explore", made.explore)
        return f"{explore}({found}, {self.read(self.policy.explore.key)})"

    def requested_route(self, name: str, made: _Outcomes, chain: Chain, functions: list[str]) -> str:
        """A chain that depends on the caller: its models' limits are asked one by one."""
        for model, limit in self.limits.items():
            if f"limit_{model}" not in self.constants:
                self.constants[f"limit_{model}"] = None
                functions += [f"def limit_{model}(v): return {self.condition(limit)}"]
        limits = "{" + ", ".join(f"{model!r}: limit_{model}" for model in self.limits) + "}"
        functions += [f"{name}_limits = {limits}"]
        settle = self.constant(f"{name}_settle", made.settle)
        key = self.read(self.policy.explore.key) if self.policy.explore else "''"
        return f"{settle}({chain!r}, {name}_limits, v, {self.read(REQUESTED)}, {key})"

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = value
        return name

    # -- conditions --------------------------------------------------------------------------------------------------

    def read(self, signal: str) -> str:
        return f"v.{self.policy.signals[signal].identifier}"

    def condition(self, node: Expression) -> str:
        if isinstance(node, Apply) and node.operator in COMPARISONS and self.bounds and COSTLY.intersection(reads(node)):
            return self.bounded(node)
        return self.expression(node)

    def expression(self, node: Expression, bound: str = "") -> str:
        """Python source; with `bound`, costly numbers are read as their lower or upper bound."""
        match node:
            case Literal(value):
                return repr(value)
            case Read(signal):
                return self.read(signal) + (bound if signal in COSTLY else "")
            case Apply("-", (left, right)) if bound:
                return f"({self.expression(left, bound)} - {self.expression(right, _OTHER[bound])})"
            case Apply(operator, arguments):
                written = [self.expression(a, bound) if bound else self.condition(a) for a in arguments]
                return f"({_write(OPERATORS[operator].python, written)})"

    def bounded(self, node: Apply) -> str:
        """A comparison that is decided by bounds where they decide, and by the exact number where not."""
        left, right = node.arguments
        exact = self.expression(node)
        low, high = (
            (self.expression(left, "_LOW"), self.expression(right, "_HIGH")),
            (self.expression(left, "_HIGH"), self.expression(right, "_LOW")),
        )
        match node.operator:
            case ">" | ">=":
                surely, perhaps = low, high
            case "<" | "<=":
                surely, perhaps = high, low
            case _:
                apart = f"({low[0]} > {low[1]} or {high[0]} < {high[1]})"
                return f"(not {apart} and {exact})" if node.operator == "==" else f"({apart} or {exact})"
        sign = node.operator
        return f"({surely[0]} {sign} {surely[1]} or ({perhaps[0]} {sign} {perhaps[1]} and {exact}))"


_OTHER = {"_LOW": "_HIGH", "_HIGH": "_LOW"}  # constants are never negative, so only `-` turns a bound around


def _write(template: str, arguments: list[str]) -> str:
    if "{" not in template:
        return template.join(arguments)
    return template.format(*arguments, rest=", ".join(arguments[1:]))


def _with_shadows(decision: Decision, shadows: tuple[str, ...]) -> Decision:
    return replace(decision, shadows=shadows) if shadows else decision


@dataclass(frozen=True)
class _Outcomes:
    """The decisions that one route can end in."""

    policy: Policy
    rule: str
    arm: int
    share: int

    def decision(self, chain: Chain) -> Decision:
        return Decision(self.rule, chain, self.arm, propensity(self.share, 0, 0, False), "" if chain else NO_MODEL)

    def table(self, chain: Chain, limited: tuple[str, ...]) -> Any:
        """The decision for each set of blocked models, as bits in the order of `limited`."""
        if len(limited) <= LARGEST_TABLE:
            return tuple(self._without(chain, limited, bits) for bits in range(1 << len(limited)))
        return _Lazy(lambda bits: self._without(chain, limited, bits))

    def _without(self, chain: Chain, limited: tuple[str, ...], bits: int) -> Decision:
        gone = {model for bit, model in enumerate(limited) if bits >> bit & 1}
        return self.decision(tuple(model for model in chain if model not in gone))

    def explore(self, decision: Decision, key: str) -> Decision:
        explore = self.policy.explore
        others = len(decision.chain) - 1
        if explore is None or others < 1 or not key:
            return decision
        explored = draw(self.policy.name, "explore", key) % PARTS < explore.share
        chain = decision.chain
        if explored:
            other = 1 + draw(self.policy.name, "explore model", key) % others
            chain = (chain[other], *chain[:other], *chain[other + 1 :])
        return replace(decision, chain=chain, propensity=propensity(self.share, explore.share, others, explored), explored=explored)

    def settle(self, chain: Chain, limits: dict[str, Callable[[Any], bool]], values: Any, asked: str, key: str) -> Decision:
        named = dict.fromkeys(asked if model == REQUESTED else model for model in chain)
        left = tuple(model for model in named if model in limits and not limits[model](values))
        return self.explore(self.decision(left), key)


class _Lazy(dict[int, Decision]):
    """Outcomes of a long chain, made when first met."""

    def __init__(self, make: Callable[[int], Decision]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, bits: int) -> Decision:
        made = self[bits] = self._make(bits)
        return made
