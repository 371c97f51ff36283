"""Findings on declarations: what nothing uses, and what is declared twice under two names.

Lets are written out in a checked policy, and tiers partly; so this reads the text's own declarations. Only the policy's file counts:
what a used file holds may be there for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

from policyroute.analysis.finding import Finding
from policyroute.language import syntax
from policyroute.language.diagnostics import Diagnostic, Label, Severity
from policyroute.language.parser import parse
from policyroute.language.policy import Policy
from policyroute.language.source import Source, Span
from policyroute.language.vocabulary import SIGNALS

DECLARATIONS: Mapping[type, str] = {
    syntax.Signal: "signal", syntax.Words: "words", syntax.Pattern: "pattern", syntax.Let: "let", syntax.Tunable: "tunable",
    syntax.Model: "model", syntax.Tier: "tier", syntax.Classifier: "classifier",
}  # fmt: skip


def findings(policy: Policy, source: Source) -> Iterator[Finding]:
    """Unused and repeated declarations of the policy's own file, which is `source`."""
    nodes, _ = parse(source, 0)
    users: dict[str, set[int]] = {}
    for number, node in enumerate(nodes):
        for name in _names(node):
            users.setdefault(name, set()).add(number)
    for number, node in enumerate(nodes):
        kind = DECLARATIONS.get(type(node), "")
        declared: syntax.Name | None = getattr(node, "name", None) if kind else None
        if declared is None or users[declared.value] - {number} or _elsewhere(policy, kind, declared.value):
            continue
        message = f"nothing uses the {kind} `{declared.value}`"
        severity = Severity.INFO if kind == "signal" else Severity.WARNING  # reports still show what it says of callers
        yield Finding(Diagnostic("unused-declaration", message, declared.span, "use it, or remove it", severity=severity))
    places = {
        node.name.value: node.name.span
        for node in nodes
        if isinstance(node, syntax.Model | syntax.Tier | syntax.Words | syntax.Pattern)
    }
    yield from _repeated(policy, places)


def _elsewhere(policy: Policy, kind: str, name: str) -> bool:
    """Used without being named: a built-in signal's range, and a model that callers may ask for."""
    if kind == "signal":
        return name in SIGNALS
    return kind == "model" and any("requested" in route.chain for rule in policy.rules for route in rule.routes)


def _names(node: object) -> Iterator[str]:
    """All words in a node."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, tuple | list):
        for part in node:
            yield from _names(part)
    elif is_dataclass(node) and not isinstance(node, Span | type):
        for field in fields(node):
            yield from _names(getattr(node, field.name))


def _repeated(policy: Policy, places: Mapping[str, Span]) -> Iterator[Finding]:
    """Declarations that say what another one says; `places` are those of the policy's own file."""
    models = ((m.name, (m.id, m.provider, m.url, m.rates, m.context, m.can)) for m in policy.models.values())
    texts = ((text.name, (frozenset(text.phrases), text.pattern)) for text in policy.texts.values())
    kinds: tuple[tuple[str, Iterable[tuple[str, object]]], ...] = (
        ("model", models),
        ("tier", policy.tiers.items()),
        ("set of words", texts),
    )
    for kind, listed in kinds:
        first: dict[object, str] = {}
        for name, content in listed:
            other = first.setdefault(content, name)
            if other != name and name in places:
                labels = (Label(places[other], f"`{other}` stands here"),) if other in places else ()
                message = f"the {kind} `{name}` is the same as `{other}`"
                yield Finding(
                    Diagnostic("duplicate-declaration", message, places[name], "keep one of them", labels, Severity.WARNING)
                )
