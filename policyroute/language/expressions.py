"""Conditions: from syntax to typed expressions of three node kinds.

Sugar ends here: `is`, `is not`, `not in`, `not has`, lets and tunables become literals, reads and operators of the
vocabulary. After an error an expression is replaced by `FALSE` or 0, and checking goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from policyroute.language import syntax
from policyroute.language.diagnostics import Diagnostic, Label, did_you_mean
from policyroute.language.missing import unsaid
from policyroute.language.policy import (
    ANY_OTHER,
    FALSE,
    MISSING,
    Apply,
    BoolType,
    EnumType,
    Expression,
    IntType,
    KeyType,
    Literal,
    Read,
    Signal,
    TextSet,
    TextType,
    Tunable,
    Type,
)  # fmt: skip
from policyroute.language.source import Span
from policyroute.language.vocabulary import COMPARISONS, SIGNALS

LARGEST_RESULT = 2**62
LARGEST_CONDITION = 5_000
DEEPEST_CONDITION = 100
ANSWER_STATES = ("empty", "truncated", "json")


@dataclass(frozen=True, slots=True)
class Expanded:
    """A let that has been checked: what it stands for, in how many parts, how many levels deep."""

    typed: Typed
    parts: int
    levels: int


@dataclass
class Scope:
    """The names that a policy's conditions can use, and the diagnostics found so far."""

    signals: dict[str, Signal] = field(default_factory=dict)
    texts: dict[str, TextSet] = field(default_factory=dict)
    tunables: dict[str, Tunable] = field(default_factory=dict)
    lets: dict[str, syntax.Let] = field(default_factory=dict)
    expanded: dict[str, Expanded] = field(default_factory=dict)
    matches: dict[str, Signal] = field(default_factory=dict)
    mentioned: dict[str, dict[str, None]] = field(default_factory=dict)  # of open enums
    models: tuple[str, ...] = ()
    model_ids: dict[str, str] = field(default_factory=dict)  # to names
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def report(self, code: str, message: str, span: Span, help_: str = "", *labels: Label) -> None:
        """Collect an error; `labels` are other places that it speaks of."""
        self.diagnostics.append(Diagnostic(code, message, span, help_, labels))


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression with its type, and for numbers the range that it stays in."""

    expression: Expression
    type: Type | None  # None after an error: anything goes
    low: int = 0
    high: int = 0


BOOL = BoolType()
BROKEN = Typed(FALSE, None)
_NO_ANSWER_YET = ("the answer exists only after the model has spoken", "test it in `escalate`")
_ANSWER_ALONE = ("the answer alone is no condition", "write `answer is empty`, or `answer has` and a set of words")


class ExpressionChecker:
    """Types and lowers expressions of one scope. With `answer`, the words about a model's answer are known too."""

    def __init__(self, scope: Scope, *, answer: bool = False) -> None:
        self.scope = scope
        self.answer = answer
        self._open_lets: list[str] = []
        self._parts = 0  # of the expression that is being checked, lets written out
        self._level = 0
        self._deepest = 0

    def condition(self, node: syntax.Expression) -> Expression:
        """The lowered condition; every problem in it is reported."""
        found = self.boolean(node)
        for span, name in unsaid(found, True, frozenset(), self._optional):
            self.scope.report(
                "missing-unsaid", f"this negative test of `{name}` doesn't say what `{MISSING}` means", span,
                f"`{name}` may be missing: write `{name} not in (..., {MISSING})`, or add `and {name} is not {MISSING}` or `or {name} is {MISSING}`",
            )  # fmt: skip
        return found

    def boolean(self, node: syntax.Expression) -> Expression:
        typed = self.typed(node)
        if typed.type is None or typed.type == BOOL:
            return typed.expression
        self.scope.report(
            "not-a-condition", f"a condition is wanted here, and this is {_noun(typed.type)}", node.span, _remedy(node, typed.type)
        )
        return FALSE

    def typed(self, node: syntax.Expression) -> Typed:
        """The lowered expression with its type; every problem in it is reported but `missing-unsaid`."""
        if self._level == 0:
            self._parts = self._deepest = 0
        self._level += 1
        found = self._lowered(node) if self._fits(node, 1, 0) else BROKEN
        self._level -= 1
        return found

    def _fits(self, node: syntax.Expression, parts: int, levels: int) -> bool:
        """Count what is added; an expression that has grown too large is reported once and checked no further."""
        already = self._parts > LARGEST_CONDITION
        self._parts += parts
        self._deepest = max(self._deepest, self._level + levels)
        if self._parts <= LARGEST_CONDITION and self._level + levels <= DEEPEST_CONDITION:
            return True
        if not already:
            self.scope.report(
                "condition-too-large",
                "with its lets written out, the condition is too large",
                node.span,
                f"a condition has at most {LARGEST_CONDITION} parts, nested at most {DEEPEST_CONDITION} deep",
            )
        self._parts = LARGEST_CONDITION + 1
        return False

    def _lowered(self, node: syntax.Expression) -> Typed:
        match node:
            case syntax.Reference():
                return self._reference(node)
            case syntax.Number(value, span):
                return Typed(Literal(value, span), IntType(value, value), value, value)
            case syntax.Membership():
                return self._membership(node)
            case syntax.Has():
                return self._has(node)
            case syntax.Operation(operator, arguments, span) if operator in ("and", "or", "not"):
                return Typed(_flat(operator, [self.boolean(argument) for argument in arguments], span), BOOL)
            case syntax.Operation():
                return self._numeric(node)

    # -- names -------------------------------------------------------------------------------------------------------

    def _reference(self, node: syntax.Reference) -> Typed:
        scope = self.scope
        if node.name in scope.lets:
            return self._let(node)
        if node.name in scope.tunables:
            tunable = scope.tunables[node.name]
            return Typed(Literal(tunable.value, node.span, tunable.name), tunable.type, tunable.type.low, tunable.type.high)
        if node.name in scope.signals:
            signal = scope.signals[node.name]
            low, high = (signal.type.low, signal.type.high) if isinstance(signal.type, IntType) else (0, 0)
            return Typed(Read(node.name, node.span), signal.type, low, high)
        if node.name == "answer":
            message, help_ = _ANSWER_ALONE if self.answer else _NO_ANSWER_YET
            scope.report("bad-answer-test", message, node.span, help_)
            return BROKEN
        help_ = did_you_mean(node.name, [*scope.signals, *scope.lets, *scope.tunables]) or self._member_help(node.name)
        help_ = help_ or "declare it as a `signal`, a `let` or a `tunable`"
        scope.report("unknown-name", f"no signal is named `{node.name}`", node.span, help_)
        return BROKEN

    def _member_help(self, name: str) -> str:
        owners = [s.name for s in self.scope.signals.values() if isinstance(s.type, EnumType) and name in s.type.members]
        return f"`{name}` is a member of `{owners[0]}`: write `{owners[0]} is {name}`" if owners else ""

    def _let(self, node: syntax.Reference) -> Typed:
        let = self.scope.lets[node.name]
        known = self.scope.expanded.get(node.name)
        if known is not None:
            fits = known.typed.type is None or self._fits(node, known.parts, known.levels)
            return known.typed if fits else BROKEN
        if node.name in self._open_lets:
            self.scope.report("let-cycle", f"`{node.name}` is defined by itself", let.name.span, "remove the circle")
            return BROKEN
        self._open_lets.append(node.name)
        found, parts, deepest = len(self.scope.diagnostics), self._parts, self._deepest
        self._deepest = self._level
        typed = self.typed(let.expression)
        self._open_lets.pop()
        typed = BROKEN if len(self.scope.diagnostics) > found else typed
        self.scope.expanded[node.name] = Expanded(typed, self._parts - parts, self._deepest - self._level)
        self._deepest = max(self._deepest, deepest)
        return typed

    # -- members -----------------------------------------------------------------------------------------------------

    def _membership(self, node: syntax.Membership) -> Typed:
        if isinstance(node.subject, syntax.Reference) and node.subject.name == "answer" and self.answer:
            return self._answer_state(node)
        subject = self.typed(node.subject)
        if subject.type is None:
            return BROKEN
        if not isinstance(subject.type, EnumType) or not isinstance(subject.expression, Read):
            self._not_an_enum(node, subject.type)
            return BROKEN
        name = subject.expression.signal
        members = tuple(self._member(name, subject.type, member) for member in node.members)
        inside = Apply("in", (subject.expression, *(Literal(member) for member in dict.fromkeys(members))), node.span)
        return Typed(Apply("not", (inside,), node.span) if node.negated else inside, BOOL)

    def _not_an_enum(self, node: syntax.Membership, type_: Type) -> None:
        if isinstance(type_, KeyType | TextType):
            self._never_compared(node.subject, type_)
            return
        help_ = "numbers are compared with `==`" if isinstance(type_, IntType) else "write the condition itself, or `not` before it"
        self.scope.report("not-an-enum", f"this is {_noun(type_)}, which has no members", node.subject.span, help_)

    def _member(self, signal: str, type_: EnumType, member: syntax.Name) -> str:
        if type_.open and signal != "requested":
            self.scope.mentioned.setdefault(signal, {})[member.value] = None
            return member.value
        if signal == "requested" and member.value in self.scope.model_ids:
            return self.scope.model_ids[member.value]
        known = self.scope.models if signal == "requested" else type_.all
        if member.value not in known:
            help_ = did_you_mean(member.value, known) or f"its members are {_listed(known)}"
            if member.value == MISSING:
                help_ = f"`{signal}` always has a value; declare it as `(...)?` if it can be missing"
            self.scope.report("unknown-member", f"`{signal}` has no member `{member.value}`", member.span, help_)
        return member.value

    def _answer_state(self, node: syntax.Membership) -> Typed:
        for member in node.members:
            if member.value not in ANSWER_STATES:
                help_ = (
                    did_you_mean(member.value, ANSWER_STATES) or f"an answer is {_listed(ANSWER_STATES)}, or `has` a set of words"
                )
                self.scope.report("bad-answer-test", f"an answer can't be `{member.value}`", member.span, help_)
        inside = _flat("or", [Read(f"answer is {member.value}", member.span) for member in node.members], node.span)
        return Typed(Apply("not", (inside,), node.span) if node.negated else inside, BOOL)

    # -- texts -------------------------------------------------------------------------------------------------------

    def _has(self, node: syntax.Has) -> Typed:
        if isinstance(node.subject, syntax.Reference) and node.subject.name == "answer" and self.answer:
            text = "answer"
        else:
            subject = self.typed(node.subject)
            if subject.type is not None and not isinstance(subject.type, TextType):
                texts = [row.name for row in SIGNALS.values() if isinstance(row.type, TextType)]
                self.scope.report(
                    "not-a-text",
                    f"`has` tests a text, and this is {_noun(subject.type)}",
                    node.subject.span,
                    f"texts are {_listed(texts)}",
                )
                return BROKEN
            text = subject.expression.signal if isinstance(subject.expression, Read) else ""
        if node.words.value not in self.scope.texts:
            help_ = did_you_mean(node.words.value, self.scope.texts) or f'declare it: `words {node.words.value} = "..."`'
            self.scope.report("unknown-words", f"no words or pattern are named `{node.words.value}`", node.words.span, help_)
            return BROKEN
        if not text:
            return BROKEN
        match = Signal(f"{text} has {node.words.value}", BOOL, False, "match", text=text, words=node.words.value, span=node.span)
        if text != "answer":
            self.scope.matches.setdefault(match.name, match)
        read = Read(match.name, node.span)
        return Typed(Apply("not", (read,), node.span) if node.negated else read, BOOL)

    def _never_compared(self, node: syntax.Expression, type_: Type) -> None:
        if isinstance(type_, TextType):
            self.scope.report(
                "key-compared", "a text is only tested with `has`", node.span, 'declare `words name = "..."` and write `has name`'
            )
        else:
            self.scope.report(
                "key-compared", "a key is only hashed, partitioned by or reported", node.span,
                "declare a signal with members for what the policy needs to know of a caller, such as `plan`",
            )  # fmt: skip

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _numeric(self, node: syntax.Operation) -> Typed:
        left, right = (self._number(argument) for argument in node.arguments)
        if left is None or right is None:
            return BROKEN
        expression = Apply(node.operator, (left.expression, right.expression), node.span)
        if node.operator in COMPARISONS:
            return Typed(expression, BOOL)
        if node.operator == "*" and not any(isinstance(side.expression, Literal) for side in (left, right)):
            self.scope.report(
                "product-of-signals",
                "one side of a product has to be a constant",
                node.span,
                "compare sums, or multiply by a number",
            )
            return BROKEN
        low, high = _range(node.operator, left, right)
        if max(abs(low), abs(high)) > LARGEST_RESULT:
            self.scope.report(
                "number-too-large",
                "this can leave the range of 63-bit integers",
                node.span,
                "use smaller constants, or narrow the signal's range",
            )
            return BROKEN
        return Typed(expression, IntType(low, high), low, high)

    def _number(self, node: syntax.Expression) -> Typed | None:
        typed = self.typed(node)
        if typed.type is None:
            return None
        if isinstance(typed.type, IntType):
            return typed
        if isinstance(typed.type, KeyType | TextType):
            self._never_compared(node, typed.type)
            return None
        help_ = (
            "members are tested with `is` or `in`"
            if isinstance(typed.type, EnumType)
            else "join conditions with `and`, `or`, `not`"
        )
        self.scope.report("not-a-number", f"a number is wanted here, and this is {_noun(typed.type)}", node.span, help_)
        return None

    def _optional(self, name: str) -> bool:
        signal = self.scope.signals.get(name)
        return signal is not None and isinstance(signal.type, EnumType) and signal.type.optional


def _range(operator: str, left: Typed, right: Typed) -> tuple[int, int]:
    if operator == "+":
        return left.low + right.low, left.high + right.high
    if operator == "-":
        return left.low - right.high, left.high - right.low
    corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
    return min(corners), max(corners)


def _flat(operator: str, arguments: list[Expression], span: Span) -> Expression:
    """`and` and `or` without nested ones of their own kind, so that readings stay shallow."""
    if operator == "not":
        return Apply("not", (arguments[0],), span)
    flat: list[Expression] = []
    for argument in arguments:
        flat += argument.arguments if isinstance(argument, Apply) and argument.operator == operator else (argument,)
    return flat[0] if len(flat) == 1 else Apply(operator, tuple(flat), span)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name != ANY_OTHER)


def _noun(type_: Type) -> str:
    match type_:
        case IntType():
            return "a number"
        case BoolType():
            return "a condition"
        case EnumType():
            return "a signal with members"
        case KeyType():
            return "a key"
        case TextType():
            return "a text"


def _remedy(node: syntax.Expression, type_: Type) -> str:
    name = node.name if isinstance(node, syntax.Reference) else "..."
    match type_:
        case IntType():
            return f"compare it: `{name} > 0`"
        case EnumType(members=members):
            return f"test it: `{name} is {members[0] if members else 'member'}`"
        case TextType():
            return f"test it: `{name} has words`"
        case KeyType():
            return "a key is only hashed, partitioned by or reported: `split by`, `explore ... by`, `quota ... by`"
        case _:
            return ""
