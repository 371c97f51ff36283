"""The parser's callbacks: each grammar rule becomes the syntax node of its name.

A callback is called while the parser runs, with the children of its rule in order; optional parts that are absent are None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lark import Token

from policyroute.language import syntax
from policyroute.language.leaves import PICODOLLARS, PICODOLLARS_PER_TOKEN, Leaves
from policyroute.language.source import Span
from policyroute.language.syntax import Item, Leaf


class TreeBuilder(Leaves):
    """Builds syntax nodes."""

    # -- lists -----------------------------------------------------------------------------------------------------

    def names(self, children: Sequence[Token]) -> syntax.Names:
        return tuple(self.word(child) for child in children)

    members = names

    def strings(self, children: Sequence[Token]) -> tuple[Leaf[str], ...]:
        return tuple(self.text(child) for child in children)

    def member_list(self, children: Sequence[Token]) -> syntax.Names:
        return tuple(self.member_leaf(child) for child in children)

    def member_leaf(self, token: Token) -> Leaf[str]:
        return self.text(token) if token.type == "STRING" else self.word(token)

    def places(self, children: Sequence[syntax.Place]) -> tuple[syntax.Place, ...]:
        return tuple(children)

    def place(self, children: Sequence[Token]) -> syntax.Place:
        return syntax.Place(str(children[0]), self.text(children[1]))

    # -- file, signals, sets -----------------------------------------------------------------------------------------

    def edition(self, children: Sequence[Token]) -> syntax.Edition:
        return syntax.Edition(self.whole(children[0]))

    def policy(self, children: Sequence[Token]) -> syntax.Header:
        return syntax.Header(self.word(children[0]), self.doc(children[1]))

    def doc(self, token: Token | None) -> str:
        return str(token)[1:-1] if token else ""

    def use(self, children: Sequence[Token]) -> syntax.Use:
        return syntax.Use(self.text(children[0]))

    def timezone(self, children: Sequence[Token]) -> syntax.Timezone:
        return syntax.Timezone(self.text(children[0]))

    def range(self, children: Sequence[Token]) -> syntax.TypeNode:
        low, high = self.whole(children[0]), self.whole(children[1])
        return syntax.TypeNode("int", low.span.to(high.span), low.value, high.value)

    def int_type(self, children: Sequence[syntax.TypeNode]) -> syntax.TypeNode:
        return children[0]

    def bool_type(self, children: Sequence[Token]) -> syntax.TypeNode:
        return syntax.TypeNode("bool", Span.NONE)

    def key_type(self, children: Sequence[Token]) -> syntax.TypeNode:
        return syntax.TypeNode("key", Span.NONE)

    def enum_type(self, children: Sequence[syntax.Names]) -> syntax.TypeNode:
        members = children[0]
        return syntax.TypeNode("enum", members[0].span.to(members[-1].span), members=members)

    def optional_type(self, children: Sequence[syntax.Names]) -> syntax.TypeNode:
        members = children[0]
        return syntax.TypeNode("enum", members[0].span.to(members[-1].span), members=members, optional=True)

    def signal(self, children: Sequence[Any]) -> syntax.Signal:
        name, type_, default, places = children
        return syntax.Signal(self.word(name), type_, self.value(default) if default else None, places or ())

    def words(self, children: Sequence[Any]) -> syntax.Words:
        return syntax.Words(self.word(children[0]), children[1])

    def words_from(self, children: Sequence[Token]) -> syntax.Words:
        return syntax.Words(self.word(children[0]), (), self.text(children[1]))

    def pattern(self, children: Sequence[Token]) -> syntax.Pattern:
        return syntax.Pattern(self.word(children[0]), self.text(children[1]))

    def let(self, children: Sequence[Any]) -> syntax.Let:
        return syntax.Let(self.word(children[0]), children[1])

    def tunable(self, children: Sequence[Any]) -> syntax.Tunable:
        return syntax.Tunable(self.word(children[0]), children[1], self.whole(children[2]))

    # -- blocks of items ---------------------------------------------------------------------------------------------

    def classifier(self, children: Sequence[Any]) -> syntax.Classifier:
        name, members, *items = children
        return syntax.Classifier(self.word(name), members, tuple(items))

    def ask(self, children: Sequence[Any]) -> Item:
        model = self.word(children[0])
        return Item("ask", (model, children[1]), model.span)

    def about_last(self, children: Sequence[Token]) -> Leaf[int]:
        return self.whole(children[0])

    def about_text(self, children: Sequence[Token]) -> Leaf[str]:
        return self.word(children[0])

    def model(self, children: Sequence[Any]) -> syntax.Model:
        return syntax.Model(self.word(children[0]), tuple(children[1:]))

    def can(self, children: Sequence[syntax.Names]) -> Item:
        names = children[0]
        return Item("can", names, names[0].span.to(names[-1].span))

    def tier(self, children: Sequence[Any]) -> syntax.Tier:
        return syntax.Tier(self.word(children[0]), children[1])

    def order(self, children: Sequence[Token]) -> syntax.Order:
        return syntax.Order(self.names(children))

    # -- rules -------------------------------------------------------------------------------------------------------

    def forbid(self, children: Sequence[Any]) -> syntax.Forbid:
        names, condition, because = children
        return syntax.Forbid(names, condition, self.doc(because), names[0].span.to(names[-1].span))

    def rule(self, children: Sequence[Any]) -> syntax.Rule:
        shadow, name, doc, *items, condition, target = children
        return syntax.Rule(self.word(name), self.doc(doc), tuple(items), condition, target, shadow is not None)

    def otherwise(self, children: Sequence[Any]) -> syntax.Rule:
        name, doc, *items, target = children
        return syntax.Rule(self.word(name), self.doc(doc), tuple(items), None, target)

    def chain(self, children: Sequence[Any]) -> syntax.Chain:
        first, fallback = self.word(children[0]), children[1] or ()
        return syntax.Chain(first, fallback, first.span.to(fallback[-1].span) if fallback else first.span)

    def split(self, children: Sequence[Any]) -> syntax.Split:
        key = self.word(children[0])
        return syntax.Split(key, tuple(children[1:]), key.span.to(children[-1].name.span))

    def arm(self, children: Sequence[Token]) -> syntax.Arm:
        return syntax.Arm(self.percent(children[0]), self.word(children[1]))

    def refuse(self, children: Sequence[Token]) -> syntax.Refuse:
        message = self.text(children[0])
        return syntax.Refuse(message, message.span)

    def explore(self, children: Sequence[Token]) -> syntax.Explore:
        return syntax.Explore(self.percent(children[0]), self.word(children[1]))

    # -- state, failure, escalation ----------------------------------------------------------------------------------

    def sticky(self, children: Sequence[Any]) -> syntax.Sticky:
        return syntax.Sticky(self.word(children[0]), self.milliseconds(children[1]), children[2])

    def never_downgrade(self, children: Sequence[Token]) -> str:
        return "never downgrade"

    def keep_model(self, children: Sequence[Token]) -> str:
        return "keep model"

    def keep_while_cached(self, children: Sequence[Token]) -> str:
        return "keep while cached"

    def quota(self, children: Sequence[Any]) -> syntax.Limit:
        return self._limit("quota", self.whole(children[1]), children)

    def budget(self, children: Sequence[Any]) -> syntax.Limit:
        return self._limit("budget", self.dollars(children[1], PICODOLLARS), children)

    def _limit(self, kind: str, amount: Leaf[int], children: Sequence[Any]) -> syntax.Limit:
        name, _, period, key, of, condition, target = children
        return syntax.Limit(kind, self.word(name), amount, str(period), self.word(key), of or (), condition, target)

    def on_failure(self, children: Sequence[Any]) -> syntax.OnFailure:
        return syntax.OnFailure("on failure", tuple(children[1:]), self.span(children[0]))

    def on_stream_failure(self, children: Sequence[Any]) -> syntax.OnFailure:
        return syntax.OnFailure("on stream failure", tuple(children[1:]), self.span(children[0]))

    def retry(self, children: Sequence[Any]) -> Item:
        count = self.whole(children[0])
        return Item("retry", (count, children[1]), count.span)

    def causes(self, children: Sequence[Token]) -> syntax.Names:
        return tuple(self.word(child) for child in children)

    def then_next(self, children: Sequence[Token]) -> Item:
        return Item("then next", None, self.span(children[0]))

    def stream_before(self, children: Sequence[Token]) -> Item:
        share = self.percent(children[0])
        return Item("before", (share, str(children[1])), share.span)

    def stream_otherwise(self, children: Sequence[Token]) -> Item:
        return Item("otherwise", str(children[0]), self.span(children[0]))

    def escalate(self, children: Sequence[Any]) -> syntax.Escalate:
        return syntax.Escalate(children[0], children[1] is not None, children[2])

    # -- claims ------------------------------------------------------------------------------------------------------

    def guarantee(self, children: Sequence[Any]) -> syntax.Guarantee:
        name, quantifier, (subjects, cost), condition = children
        return syntax.Guarantee(self.word(name), str(quantifier or ""), subjects, cost, condition)

    def claim_names(self, children: Sequence[syntax.Names]) -> tuple[syntax.Names, None]:
        return children[0], None

    def claim_cost(self, children: Sequence[Token]) -> tuple[syntax.Names, tuple[str, Leaf[int]]]:
        return (), (str(children[0]), self.dollars(children[1], PICODOLLARS))

    def test(self, children: Sequence[Any]) -> syntax.Test:
        return syntax.Test(self.text(children[0]), tuple(children[1:]))

    def step(self, children: Sequence[Any]) -> syntax.Step:
        *pairs, repeated, rule, kind, actor, chain = children
        name = self.word(rule)
        acted = (self.word(kind), self.word(actor)) if kind else None
        span = pairs[0].name.span.to(chain[-1].span if chain else name.span)
        return syntax.Step(tuple(pairs), self.whole(repeated) if repeated else None, name, acted, chain, span)

    def pair(self, children: Sequence[Any]) -> syntax.Pair:
        name, value = children
        return syntax.Pair(self.word(name), self.value(value) if value else None, bool(value) and value.type == "STRING")

    def pair_has(self, children: Sequence[Token], negated: bool = False) -> syntax.Pair:
        return syntax.Pair(self.word(children[0]), None, words=self.word(children[1]), negated=negated)

    def pair_not_has(self, children: Sequence[Token]) -> syntax.Pair:
        return self.pair_has(children, negated=True)

    def pair_named(self, children: Sequence[Token]) -> syntax.Pair:
        name, key, value = children
        return syntax.Pair(self.word(name), self.value(value), value.type == "STRING", key=self.text(key))

    def gate(self, children: Sequence[Any]) -> syntax.Gate:
        name, trace, baseline, *requirements = children
        return syntax.Gate(self.word(name), self.text(trace), self.word(baseline), tuple(requirements))

    def metric(self, children: Sequence[Any]) -> tuple[Leaf[str], Leaf[str] | None]:
        return self.word(children[0]), self.word(children[1]) if children[1] else None

    def requirement(self, children: Sequence[Any]) -> syntax.Requirement:
        (metric, argument), relation, bound, confidence = children
        return syntax.Requirement(
            metric, argument, str(relation), Leaf(str(bound), self.span(bound)), self.percent(confidence) if confidence else None
        )

    # -- conditions ----------------------------------------------------------------------------------------------------

    def name(self, children: Sequence[Token]) -> syntax.Reference:
        return syntax.Reference(str(children[0]), self.span(children[0]))

    def number(self, children: Sequence[Token]) -> syntax.Number:
        leaf = self.whole(children[0])
        return syntax.Number(leaf.value, leaf.span)

    def group(self, children: Sequence[Any]) -> Any:
        return children[0]

    def _operation(self, operator: str, arguments: Sequence[Any]) -> syntax.Operation:
        node = syntax.Operation(operator, tuple(arguments), arguments[0].span.to(arguments[-1].span))
        return self.nested(node, *arguments)  # type: ignore[no-any-return]

    def or_(self, children: Sequence[Any]) -> syntax.Operation:
        return self._operation("or", children)

    def and_(self, children: Sequence[Any]) -> syntax.Operation:
        return self._operation("and", children)

    def not_(self, children: Sequence[Any]) -> syntax.Operation:
        return self._operation("not", children)

    def compare(self, children: Sequence[Any]) -> syntax.Operation:
        return self._operation(str(children[1]), (children[0], children[2]))

    arithmetic = compare

    def is_(self, children: Sequence[Any], negated: bool = False) -> syntax.Membership:
        member = self.member_leaf(children[1])
        node = syntax.Membership(children[0], (member,), negated, children[0].span.to(member.span))
        return self.nested(node, children[0])  # type: ignore[no-any-return]

    def is_not(self, children: Sequence[Any]) -> syntax.Membership:
        return self.is_(children, negated=True)

    def in_(self, children: Sequence[Any], negated: bool = False) -> syntax.Membership:
        subject, members = children
        node = syntax.Membership(subject, members, negated, subject.span.to(members[-1].span))
        return self.nested(node, subject)  # type: ignore[no-any-return]

    def not_in(self, children: Sequence[Any]) -> syntax.Membership:
        return self.in_(children, negated=True)

    def has(self, children: Sequence[Any], negated: bool = False) -> syntax.Has:
        words = self.word(children[1])
        node = syntax.Has(children[0], words, negated, children[0].span.to(words.span))
        return self.nested(node, children[0])  # type: ignore[no-any-return]

    def not_has(self, children: Sequence[Any]) -> syntax.Has:
        return self.has(children, negated=True)


def _item(key: str, convert: Callable[[TreeBuilder, Token], Leaf[Any]]) -> Callable[[TreeBuilder, Sequence[Token]], Item]:
    def callback(self: TreeBuilder, children: Sequence[Token]) -> Item:
        leaf = convert(self, children[0])
        return Item(key, leaf, leaf.span)

    return callback


def _price(self: TreeBuilder, token: Token) -> Leaf[int]:
    return self.dollars(token, PICODOLLARS_PER_TOKEN)


# Entries of blocks that hold one literal: the grammar's name, the item's key, the literal's reading.
for _rule, _key, _convert in (
    ("ask_prompt", "prompt", TreeBuilder.text), ("within", "within", TreeBuilder.milliseconds),
    ("remember", "remember", TreeBuilder.milliseconds), ("on_failure_member", "on failure", TreeBuilder.word),
    ("column", "column", TreeBuilder.text), ("provider", "provider", TreeBuilder.word), ("id", "id", TreeBuilder.text),
    ("url", "url", TreeBuilder.text), ("price_in", "in", _price), ("price_out", "out", _price),
    ("price_cached", "cached", _price), ("price_write", "write", _price), ("price_from", "from", TreeBuilder.day),
    ("context", "context", TreeBuilder.whole), ("owner", "owner", TreeBuilder.text), ("expires", "expires", TreeBuilder.day),
    ("last_answer", "last answer", TreeBuilder.text),
):  # fmt: skip
    setattr(TreeBuilder, _rule, _item(_key, _convert))
