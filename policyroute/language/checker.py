"""Syntax to `Policy`: names resolved, types checked, sugar lowered. Diagnostics are collected, never thrown.

The order of declarations in a file doesn't matter, but for rules. So declarations are taken kind by kind: what others
refer to comes first.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from policyroute.language import syntax
from policyroute.language.claims import Claims, covered
from policyroute.language.declarations import (
    Targets,
    builtin_signals,
    declare_pattern,
    declare_signal,
    declare_tunable,
    declare_words,
    unknown_tunables,
    with_mentioned,
)  # fmt: skip
from policyroute.language.diagnostics import Diagnostic, Label
from policyroute.language.effects import Effects, canonical, classifier, classifier_signal, on_failure, on_stream_failure, sticky
from policyroute.language.expressions import ExpressionChecker, Scope
from policyroute.language.policy import TRUE, Arm, Explore, Forbid, Policy, Refuse, Route, Rule, Split, Target
from policyroute.language.source import Span
from policyroute.language.statements import Allowance, Construct, Escalation

EDITION = 1
OTHERWISE = "otherwise"
ANSWER = "answer"  # what `escalate` tests
SHARES = 10_000

# What a used file may hold; the rest belongs to the policy's own file.
SHAREABLE = (
    syntax.Edition, syntax.Use, syntax.Signal, syntax.Words, syntax.Pattern, syntax.Let, syntax.Tunable, syntax.Classifier,
    syntax.Model, syntax.Tier, syntax.Order,
)  # fmt: skip

Node = TypeVar("Node")


@dataclass(frozen=True)
class Unit:
    """A parsed file: its declarations, the phrases of the word files that it names, the texts of those that its tests do."""

    declarations: Sequence[syntax.Declaration]
    phrases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)


def check(main: Unit, used: Sequence[Unit] = (), values: Mapping[str, int] | None = None) -> tuple[Policy, list[Diagnostic]]:
    """The policy of `main` with the declarations of the `used` files, and every error found; `values` replace tunables' own.

    With errors the policy is what could be understood; it must not be used to decide.
    """
    checker = _Checker(main, used, values or {})
    return checker.policy(), checker.scope.diagnostics


class _Checker:
    def __init__(self, main: Unit, used: Sequence[Unit], values: Mapping[str, int]) -> None:
        self.values = values
        self.scope = Scope(signals=builtin_signals())
        self.targets = Targets(self.scope)
        self.main = main
        self.units = (*used, main)
        self.effects = Effects(self.scope, self.targets)

    def every(self, kind: type[Node]) -> Iterator[Node]:
        for unit in self.units:
            for node in unit.declarations:
                if isinstance(node, kind):
                    yield node

    def own(self, kind: type[Node]) -> list[Node]:
        return [node for node in self.main.declarations if isinstance(node, kind)]

    def once(self, kind: type[Node], what: str, place: Callable[[Node], Span]) -> Node | None:
        found = self.own(kind)
        for again in found[1:]:
            self.scope.report("declared-twice", f"{what} is declared again", place(again), "keep one of them")
        return found[0] if found else None

    # -- the file ----------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        header = self._head()
        self._names()
        self._declare()
        rules = tuple(self._rules())
        explore = self.once(syntax.Explore, "`explore`", lambda node: node.share.span)
        constructs = self._constructs()
        titles = {construct.title: construct for construct in constructs}
        claims = Claims(self.scope, self.targets, rules, titles, self.main.recorded)
        tests = tuple(claims.test(node) for node in self._named(syntax.Test, "test"))
        guarantees = {node: claims.guarantee(node) for node in self._named(syntax.Guarantee, "guarantee")}
        constructs += [covered("guarantee", node) for node in guarantees]
        gates = {node: claims.gate(node) for node in self._named(syntax.Gate, "gate")}
        forbids = tuple(self._forbid(node) for node in self.own(syntax.Forbid))
        zone = self._zone()
        parts: dict[str, Any] = dict(
            name=header.name.value if header else "", timezone=zone, signals={**with_mentioned(self.scope), **self.scope.matches},
            texts=self.scope.texts, tunables=self.scope.tunables, models=self.targets.models, tiers=self.targets.tiers,
            order=self.targets.order, forbids=forbids, rules=rules, explore=self._explore(explore), constructs=tuple(constructs),
        )  # fmt: skip
        content = {**parts, "constructs": (*constructs, *(covered("gate", node) for node in gates))}
        digest = hashlib.sha256(canonical(content).encode()).hexdigest()
        failures = self.own(syntax.OnFailure)
        return Policy(
            **parts, doc=header.doc if header else "", tests=tests, digest=digest, gates=tuple(gates.values()), guarantees=tuple(guarantees.values()),
            on_failure=on_failure(failures), on_stream_failure=on_stream_failure(failures), allowances=tuple(map(self._allowance, self.own(syntax.Limit))),
            sticky=next(map(sticky, self.own(syntax.Sticky)), None), classifiers={node.name.value: classifier(node) for node in self.every(syntax.Classifier)},
            escalations=tuple(map(self._escalation, self.own(syntax.Escalate))),
        )  # fmt: skip

    def _head(self) -> syntax.Header | None:
        start = Span(0, 0, 0)
        editions = list(self.every(syntax.Edition))
        for edition in editions:
            if edition.number.value != EDITION:
                self.scope.report(
                    "edition-unknown",
                    f"edition {edition.number.value} is not known",
                    edition.number.span,
                    f"this version reads edition {EDITION}",
                )
        if not self.own(syntax.Edition):
            self.scope.report("edition-missing", "the file doesn't say its edition", start, f"begin with `edition {EDITION}`")
        self.once(syntax.Edition, "the edition", lambda node: node.number.span)
        header = self.once(syntax.Header, "the policy's name", lambda node: node.name.span)
        if header is None:
            self.scope.report(
                "policy-missing", "the policy has no name", start, 'write `policy NAME "what it is for"` after the edition'
            )
        return header

    def _zone(self) -> str:
        node = self.once(syntax.Timezone, "the time zone", lambda node: node.zone.span)
        if node is None:
            return "UTC"
        try:
            zoneinfo.ZoneInfo(node.zone.value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            self.scope.report(
                "unknown-zone", f"no time zone is named `{node.zone.value}`", node.zone.span, "write its IANA name: `Europe/Berlin`"
            )
            return "UTC"
        return node.zone.value

    # -- names ---------------------------------------------------------------------------------------------------------

    def _names(self) -> None:
        """A name has one meaning among what conditions read, among texts, among what can be called, among rules."""
        self._distinct(
            self.every(syntax.Signal),
            self.every(syntax.Let),
            self.every(syntax.Tunable),
            self.every(syntax.Classifier),
            taken=set(),
        )
        read = (*self.every(syntax.Let), *self.every(syntax.Tunable), *self.every(syntax.Classifier))
        names = [node.name for node in read if isinstance(node, syntax.Let | syntax.Tunable | syntax.Classifier)]
        names += [node.name for node in self.every(syntax.Signal) if node.name.value == ANSWER]
        for name in names:
            if name.value in self.scope.signals or name.value == ANSWER:
                self.scope.report(
                    "duplicate-name", f"`{name.value}` has a meaning of its own in the language", name.span, "choose another name"
                )
        self._distinct(self.every(syntax.Words), self.every(syntax.Pattern), taken=set())
        self._distinct(self.every(syntax.Model), self.every(syntax.Tier), taken={"requested", "refused"})
        self._distinct(self.own(syntax.Rule), taken=set(), skip=OTHERWISE)
        self._distinct(self.own(syntax.Limit), taken=set())

    def _distinct(self, *groups: Iterable[Any], taken: set[str], skip: str = "") -> None:
        seen: dict[str, Span] = {}
        nodes = [node for group in groups for node in group]
        nodes.sort(key=lambda node: (node.name.span.file == 0, node.name.span.file, node.name.span.start))  # the policy's own last
        for node in nodes:
            name = node.name.value
            if name in taken:
                self.scope.report(
                    "duplicate-name", f"`{name}` has a meaning of its own in the language", node.name.span, "choose another name"
                )
            elif name in seen and name != skip:
                self.scope.report(
                    "duplicate-name", f"`{name}` is declared again", node.name.span, "choose another name, or remove one of them",
                    Label(seen[name], "first declared here"),
                )  # fmt: skip
            seen.setdefault(name, node.name.span)

    def _named(self, kind: type[Node], what: str) -> list[Node]:
        nodes: list[Any] = self.own(kind)
        seen: set[str] = set()
        for node in nodes:
            if node.name.value in seen:
                self.scope.report(
                    "duplicate-name", f"a {what} named `{node.name.value}` stands above", node.name.span, "choose another name"
                )
            seen.add(node.name.value)
        return nodes

    # -- declarations --------------------------------------------------------------------------------------------------

    def _declare(self) -> None:
        for unit in self.units:
            for words in (node for node in unit.declarations if isinstance(node, syntax.Words)):
                from_file = unit.phrases.get(words.path.value, ("?",)) if words.path else ()
                declare_words(self.scope, words, from_file if words.path else [phrase.value for phrase in words.phrases])
        for pattern in self.every(syntax.Pattern):
            declare_pattern(self.scope, pattern)
        for signal in self.every(syntax.Signal):
            declare_signal(self.scope, signal)
        for asked in self.every(syntax.Classifier):
            self.scope.signals[asked.name.value] = classifier_signal(asked)
        for tunable in self.every(syntax.Tunable):
            declare_tunable(self.scope, tunable, self.values.get(tunable.name.value))
        unknown_tunables(self.scope, self.values, next((node.name.span for node in self.own(syntax.Header)), Span(0, 0, 0)))
        for model in self.every(syntax.Model):
            self.targets.declare_model(model)
        self.targets.below = frozenset(tier.name.value for tier in self.every(syntax.Tier)) - self.targets.models.keys()
        for tier in self.every(syntax.Tier):
            self.targets.declare_tier(tier)
        for number, order in enumerate(self.every(syntax.Order)):
            if number:
                span = order.tiers[0].span.to(order.tiers[-1].span)
                self.scope.report("declared-twice", "the order of tiers is declared again", span, "rank all tiers in one `order`")
            self.targets.declare_order(order)
        self.scope.models = tuple(self.targets.models)
        self.scope.model_ids = {model.id: name for name, model in reversed(self.targets.models.items())}
        self.scope.lets = {let.name.value: let for let in self.every(syntax.Let)}
        checker = ExpressionChecker(self.scope)
        for let in self.scope.lets.values():
            checker.typed(syntax.Reference(let.name.value, let.name.span))

    def _constructs(self) -> list[Construct]:
        self.once(syntax.Sticky, "`sticky`", lambda node: node.key.span)
        failures = self.own(syntax.OnFailure)
        for number, again in enumerate(failures):
            if again.kind in [other.kind for other in failures[:number]]:
                self.scope.report("declared-twice", f"`{again.kind}` is declared again", again.span, "keep one of them")
        found = [self.effects.check(node) for unit in self.units for node in unit.declarations]
        return [construct for construct in found if construct is not None]

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _rules(self) -> Iterator[Rule]:
        ended = False
        for node in self.own(syntax.Rule):
            if ended:
                self.scope.report(
                    "rule-after-otherwise",
                    f"`{node.name.value}` stands behind `otherwise`",
                    node.name.span,
                    "`otherwise` is the last rule, once",
                )
            if node.name.value == OTHERWISE and node.condition is not None:
                help_ = "a rule has a name of its own; the last one is `otherwise { then ... }`"
                self.scope.report("duplicate-name", "a rule with a condition is named `otherwise`", node.name.span, help_)
            ended = ended or node.condition is None
            yield self._rule(node)
        if not ended:
            self.scope.report(
                "otherwise-missing",
                "the policy doesn't end in `otherwise`",
                self._end(),
                "say where all other requests go: `otherwise { then MODEL }`",
            )

    def _end(self) -> Span:
        header = self.own(syntax.Header)
        rules = self.own(syntax.Rule)
        return rules[-1].name.span if rules else header[0].name.span if header else Span(0, 0, 0)

    def _rule(self, node: syntax.Rule) -> Rule:
        items = self.targets.items(node.items)
        condition = TRUE if node.condition is None else ExpressionChecker(self.scope).condition(node.condition)
        owner, expires = items.get("owner"), items.get("expires")
        return Rule(
            node.name.value, condition, self._target(node.target), node.doc, node.shadow,
            owner.value if owner else "", expires.value if expires else None, node.name.span,
        )  # fmt: skip

    def _target(self, node: syntax.Target) -> Target:
        match node:
            case syntax.Refuse(message):
                return Refuse(message.value)
            case syntax.Chain(first, fallback, span):
                return Route(
                    self.targets.expand((first, *fallback)),
                    first.value if first.value in self.targets.tiers and not fallback else "",
                    span,
                )
            case syntax.Split(key, arms, span):
                shares = [arm.share.value for arm in arms]
                help_ = "every arm needs a share above 0 %, and all of them 100 %"
                if sum(shares) != SHARES:
                    self.scope.report("shares-not-100", f"the shares add up to {_percent(sum(shares))}", span, help_)
                for arm in arms:
                    if arm.share.value == 0:
                        self.scope.report("shares-not-100", "the share is 0 %", arm.share.span, help_)
                routes = [self._target(syntax.Chain(arm.name, (), arm.name.span)) for arm in arms]
                return Split(
                    self.effects.key(key),
                    tuple(Arm(share, route) for share, route in zip(shares, routes, strict=True) if isinstance(route, Route)),
                )

    def _allowance(self, node: syntax.Limit) -> Allowance:
        condition = TRUE if node.condition is None else ExpressionChecker(self.scope).condition(node.condition)
        of, target = self.targets.expand(node.of, requested=False), self._target(node.target)
        kind: Any = node.kind
        period: Any = node.period
        return Allowance(kind, node.name.value, node.amount.value, period, node.key.value, of, condition, target, node.name.span)

    def _escalation(self, node: syntax.Escalate) -> Escalation:
        tiers = tuple(dict.fromkeys(tier.value for tier in node.tiers))
        condition = ExpressionChecker(self.scope, answer=True).condition(node.condition)
        return Escalation(tiers, condition, node.buffer, node.tiers[0].span)

    def _forbid(self, node: syntax.Forbid) -> Forbid:
        condition = TRUE if node.condition is None else ExpressionChecker(self.scope).condition(node.condition)
        return Forbid(self.targets.expand(node.models, requested=False), condition, node.because, node.span)

    def _explore(self, node: syntax.Explore | None) -> Explore | None:
        if node is None:
            return None
        if not 0 < node.share.value <= SHARES:
            self.scope.report(
                "shares-not-100",
                "the share lies outside 0 % to 100 %",
                node.share.span,
                "write a small share: `explore 1% by user`",
            )
        return Explore(node.share.value, self.effects.key(node.key))


def _percent(shares: int) -> str:
    whole, rest = divmod(shares, SHARES // 100)
    return f"{whole}.{rest:02d} %" if rest else f"{whole} %"
