"""A policy's conditions as terms of z3: linear integers, members as numbers, booleans.

Texts and keys have no term: a condition sees a text only through its matches, and a key not at all. A chance that hangs on a
key is open to every solver's question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import z3

from policyroute.language.policy import (
    Apply,
    BoolType,
    EnumType,
    Expression,
    IntType,
    Literal,
    Policy,
    Read,
    Signal,
    TextType,
    Value,
)  # fmt: skip
from policyroute.language.vocabulary import OPERATORS
from policyroute.signals.members import members

_LOGIC: Mapping[str, Any] = {"and": z3.And, "or": z3.Or, "not": z3.Not}


class Terms:
    """The terms of one policy in a z3 context of its own, so that two policies can be asked of at once."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.context = z3.Context()
        self.bounds: list[Any] = []  # what holds of the variables made so far
        self._variables: dict[str, Any] = {}
        self._members: dict[str, dict[str, int]] = {}

    def condition(self, node: Expression) -> Any:
        """The term of a condition or number."""
        match node:
            case Literal(bool() as value):
                return z3.BoolVal(value, self.context)
            case Literal(int() as value):
                return z3.IntVal(value, self.context)
            case Read(signal):
                return self.variable(signal)
            case Apply("in", (Read(signal), *members)):
                subject = self.variable(signal)
                numbers = [self._number(signal, member) for member in members]
                return self._any([subject == number for number in numbers if number is not None])
            case Apply(operator, arguments):
                terms = [self.condition(argument) for argument in arguments]
                return _LOGIC[operator](*terms) if operator in _LOGIC else OPERATORS[operator].meaning(*terms)
        raise AssertionError("members stand only behind `in`")

    def variable(self, name: str) -> Any:
        """The variable of a signal, made when first asked for."""
        if name not in self._variables:
            self._variables[name] = self._made(self.policy.signals[name])
        return self._variables[name]

    def values(self, model: Any) -> dict[str, Value]:
        """A model's value of each signal but texts; what no term was made of has its default."""
        found = {name: signal.default for name, signal in self.policy.signals.items() if not isinstance(signal.type, TextType)}
        return found | {
            name: self._value(name, model.eval(variable, model_completion=True)) for name, variable in self._variables.items()
        }

    def _made(self, signal: Signal) -> Any:
        match signal.type:
            case BoolType():
                return z3.Bool(signal.name, self.context)
            case IntType(low, high):
                number = z3.Int(signal.name, self.context)
                self.bounds += [number >= low, number <= high]
                return number
            case EnumType():
                numbers = self.members(signal.name)
                number = z3.Int(signal.name, self.context)
                self.bounds += [number >= 0, number < len(numbers)]
                return number
        raise AssertionError(f"`{signal.name}` can't be compared")

    def members(self, name: str) -> dict[str, int]:
        """The numbers of an enum's members."""
        if name not in self._members:
            self._members[name] = {member: number for number, member in enumerate(members(self.policy.signals[name]))}
        return self._members[name]

    def _number(self, signal: str, member: Expression) -> int | None:
        assert isinstance(member, Literal)
        return self.members(signal).get(str(member.value))

    def _value(self, name: str, found: Any) -> Value:
        match self.policy.signals[name].type:
            case BoolType():
                return bool(z3.is_true(found))
            case IntType():
                return int(found.as_long())
        return list(self.members(name))[int(found.as_long())]

    def _any(self, terms: Sequence[Any]) -> Any:
        return z3.Or(*terms) if terms else z3.BoolVal(False, self.context)
