"""State, failure and escalation: checked here in full; their effects are computed by the floors above.

Each becomes a `Construct`: its word, its title, and its canonical content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from policyroute.language import syntax
from policyroute.language.declarations import Targets
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.expressions import ExpressionChecker, Scope
from policyroute.language.policy import EnumType, KeyType, Place, Signal
from policyroute.language.source import Span
from policyroute.language.statements import Classifier, Construct, OnFailure, OnStreamFailure, Sticky

CAUSES = ("timeout", "connection")
SHARES = 10_000
ABOUT = ("prompt", "last", "system")
DEFAULT_ABOUT = "last"  # what a classifier is shown where it isn't said


@dataclass
class Effects:
    """Checks the declarations that act after, or beside, the rules."""

    scope: Scope
    targets: Targets

    def check(self, node: syntax.Declaration) -> Construct | None:
        """The construct that `node` declares, or None where it is no such declaration."""
        checks: dict[type, tuple[Callable[[Any], None], Callable[[Any], tuple[str, str, Span]]]] = {
            syntax.Sticky: (self._sticky, lambda n: ("sticky", f"sticky by {n.key.value}", n.key.span)),
            syntax.Limit: (self._limit, lambda n: (n.kind, f"{n.kind} {n.name.value}", n.name.span)),
            syntax.OnFailure: (self._on_failure, lambda n: (n.kind, n.kind, n.span)),
            syntax.Escalate: (
                self._escalate,
                lambda n: ("escalate", f"escalate {', '.join(t.value for t in n.tiers)}", n.tiers[0].span),
            ),
            syntax.Classifier: (self._classifier, lambda n: ("classifier", f"classifier {n.name.value}", n.name.span)),
        }
        if type(node) not in checks:
            return None
        checker, describe = checks[type(node)]
        checker(node)
        kind, title, span = describe(node)
        return Construct(kind, title, canonical(node), span)

    def key(self, name: syntax.Name) -> str:
        """A key signal's name; anything else is reported."""
        signal = self.scope.signals.get(name.value)
        if signal is None or not isinstance(signal.type, KeyType):
            keys = [s.name for s in self.scope.signals.values() if isinstance(s.type, KeyType)]
            help_ = (
                did_you_mean(name.value, keys)
                or f"keys are {', '.join(f'`{key}`' for key in keys)}; declare another one as `signal NAME : key`"
            )
            self.scope.report("unknown-key", f"`{name.value}` is not a key", name.span, help_)
        return name.value

    def _sticky(self, node: syntax.Sticky) -> None:
        self.key(node.key)
        if node.mode == "never downgrade" and not self.targets.order:
            self.scope.report(
                "order-missing", "`never downgrade` needs an order of tiers", node.key.span, "rank them: `order cheap < premium`"
            )

    def _limit(self, node: syntax.Limit) -> None:
        self.key(node.key)
        self.targets.expand(node.of, requested=False)
        if node.amount.value <= 0:
            self.scope.report(
                "bad-limit", f"the {node.kind} allows nothing", node.amount.span, "`forbid` is for what is never allowed"
            )
        if node.condition is not None:
            ExpressionChecker(self.scope).condition(node.condition)
        if isinstance(node.target, syntax.Chain):
            self.targets.expand((node.target.first, *node.target.fallback))
        elif isinstance(node.target, syntax.Split):
            self.scope.report(
                "bad-limit", f"a {node.kind} can't overflow into a split", node.target.span, "name a tier, a model or `refuse`"
            )

    def _on_failure(self, node: syntax.OnFailure) -> None:
        items = self.targets.items(node.items)
        self._on_stream_failure(items)
        for cause in items["retry"][1] if "retry" in items else ():
            known = cause.value in CAUSES or (len(cause.value) == 3 and "400" <= cause.value <= "599")
            if not known:
                help_ = did_you_mean(cause.value, CAUSES) or "causes are status codes from 400 to 599, `timeout` and `connection`"
                self.scope.report("bad-failure-clause", f"nothing fails as `{cause.value}`", cause.span, help_)

    def _on_stream_failure(self, items: dict[str, Any]) -> None:
        share = items["before"][0] if "before" in items else None
        if share is not None and share.value > SHARES:
            help_ = "the share is of the answer that was expected: `before 20% restart`"
            self.scope.report("bad-failure-clause", "an answer has no more than 100 %", share.span, help_)

    def _escalate(self, node: syntax.Escalate) -> None:
        for tier in node.tiers:
            if not self.targets.expand((tier,), requested=False) and tier.value not in self.targets.tiers:
                continue
            if tier.value not in self.targets.order:
                ranked = tier.value in self.targets.tiers
                help_ = (
                    "rank it, so that `up` has a meaning: `order cheap < premium`" if ranked else "escalation goes up from tiers"
                )
                self.scope.report("order-missing", f"`order` doesn't rank `{tier.value}`", tier.span, help_)
        ExpressionChecker(self.scope, answer=True).condition(node.condition)

    def _classifier(self, node: syntax.Classifier) -> None:
        items = self.targets.items(node.items)
        for wanted in ("ask", "prompt", "on failure"):
            if wanted not in items:
                self.scope.report(
                    "classifier-incomplete",
                    f"`{node.name.value}` lacks `{wanted}`",
                    node.name.span,
                    'it needs `ask MODEL`, `prompt "..."` and `on failure MEMBER`',
                )
        if "ask" in items:
            self._asked(*items["ask"])
        for number, member in enumerate(node.members):
            if member.value in [other.value for other in node.members[:number]]:
                self.scope.report("duplicate-name", f"`{member.value}` stands there twice", member.span, "name it once")
        failed = items.get("on failure")
        members = [member.value for member in node.members]
        if failed is not None and failed.value not in members:
            help_ = did_you_mean(failed.value, members) or f"its members are {', '.join(f'`{m}`' for m in members)}"
            self.scope.report("unknown-member", f"`{node.name.value}` has no member `{failed.value}`", failed.span, help_)

    def _asked(self, model: syntax.Name, about: Any) -> None:
        self.targets.expand((model,), requested=False)
        if about is not None and isinstance(about.value, str) and about.value not in ABOUT:
            help_ = did_you_mean(about.value, ABOUT) or "texts are `prompt`, `last` and `system`; or `about last 3 messages`"
            self.scope.report("not-a-text", f"a classifier is asked about a text, and `{about.value}` is none", about.span, help_)


def classifier_signal(node: syntax.Classifier) -> Signal:
    """The signal that a classifier answers; its default is the member taken on failure."""
    members = tuple(dict.fromkeys(member.value for member in node.members))
    failed = next((item.value.value for item in node.items if item.key == "on failure"), members[0])  # type: ignore[attr-defined]
    return Signal(
        node.name.value,
        EnumType(members),
        failed if failed in members else members[0],
        "classifier",
        _columns(node),
        span=node.name.span,
    )


def _columns(node: syntax.Classifier) -> tuple[Place, ...]:
    """The column of a trace that holds a classifier's answers, where it is named."""
    return tuple(Place("column", item.value.value) for item in node.items if item.key == "column")  # type: ignore[attr-defined]


def classifier(node: syntax.Classifier) -> Classifier:
    """A classifier as a value; what the checks report as lacking is empty."""
    items: dict[str, Any] = {item.key: item.value for item in reversed(node.items)}
    model, about = items.get("ask", (None, None))
    shown = about.value if about is not None else DEFAULT_ABOUT
    signal = classifier_signal(node)
    assert isinstance(signal.type, EnumType)
    return Classifier(
        node.name.value, signal.type.members, model.value if model else "", _value(items, "prompt", ""), str(signal.default),
        messages=shown if isinstance(shown, int) else 0, text=shown if isinstance(shown, str) else "", within=_value(items, "within", None),
        remember=_value(items, "remember", 0), column=_value(items, "column", ""), span=node.name.span,
    )  # fmt: skip


def _value(items: dict[str, Any], key: str, otherwise: Any) -> Any:
    return items[key].value if key in items else otherwise


def sticky(node: syntax.Sticky) -> Sticky:
    """`sticky` as a value."""
    mode: Any = node.mode
    return Sticky(node.key.value, node.lifetime.value, mode, node.key.span)


def on_failure(nodes: Iterable[syntax.OnFailure]) -> OnFailure | None:
    """The policy's `on failure` as a value, None where there is none."""
    items = _clause(nodes, "on failure")
    if items is None:
        return None
    retries, causes = items.get("retry", (None, ()))
    within, last = items.get("within"), items.get("last answer")
    return OnFailure(
        retries.value if retries else 0,
        tuple(dict.fromkeys(cause.value for cause in causes)),
        "then next" in items,
        within.value if within else None,
        last.value if last else "",
    )


def on_stream_failure(nodes: Iterable[syntax.OnFailure]) -> OnStreamFailure | None:
    """The policy's `on stream failure` as a value, None where there is none."""
    items = _clause(nodes, "on stream failure")
    if items is None:
        return None
    late = items.get("otherwise", "fail")
    if "before" not in items:
        return OnStreamFailure(None, late, late)
    share, early = items["before"]
    return OnStreamFailure(share.value, early, late)


def _clause(nodes: Iterable[syntax.OnFailure], kind: str) -> dict[str, Any] | None:
    """The entries of the first clause of a kind; of what is given twice, the first (the checks report it)."""
    node = next((node for node in nodes if node.kind == kind), None)
    return None if node is None else {item.key: item.value for item in reversed(node.items)}


def canonical(value: Any) -> str:
    """A value's content without places: equal for two policies that mean the same, whatever their layout."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return repr(value)
    if kind is tuple or kind is list:
        return f"[{','.join([canonical(item) for item in value])}]"
    if kind is dict:
        return "{" + ",".join([f"{key!r}:{canonical(item)}" for key, item in value.items()]) + "}"
    if kind is frozenset:
        return f"{{{','.join(sorted(canonical(item) for item in value))}}}"
    if is_dataclass(kind):
        return f"{kind.__name__}({','.join([canonical(getattr(value, name)) for name in _content(kind)])})"
    return repr(value)


@cache
def _content(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.compare and field.name != "span")
