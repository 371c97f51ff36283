"""Single tokens to leaves: words, texts and numbers with their places, and the limits that these have."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from lark import Token, Transformer

from policyroute.language.source import Span
from policyroute.language.syntax import Expression, Leaf

PICODOLLARS_PER_TOKEN = 10**6  # of one dollar per million tokens
PICODOLLARS = 10**12  # of one dollar
SHARES = 10_000  # parts of one whole
MILLISECONDS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
LARGEST = 10**15
DEEPEST = 100  # levels of a condition; far below what Python and DuckDB can nest


class TreeError(Exception):
    """What has the right form and no meaning, such as `1.5` or `2027-02-30`, or too many levels."""

    def __init__(self, message: str, span: Span, help_: str, code: str = "bad-number") -> None:
        super().__init__(message)
        self.message, self.span, self.help, self.code = message, span, help_, code


class Leaves(Transformer[Token, Any]):
    """The part of the tree builder that reads single tokens; `file` and `offset` say where the parsed piece begins."""

    file = 0
    offset = 0

    def begin(self, file: int, offset: int) -> None:
        """Before a piece is parsed: the number of its file, and where it begins in it."""
        self.file, self.offset = file, offset
        self.depths: dict[int, int] = {}

    def nested(self, node: Expression, *inside: Expression) -> Any:
        """`node`, if it isn't nested too deeply: every reading of a condition is recursive."""
        depth = 1 + max(self.depths.get(id(part), 0) for part in inside)
        if depth > DEEPEST:
            message = f"the condition is nested more than {DEEPEST} deep"
            raise TreeError(message, inside[-1].span, "give a part of it a name: `let NAME = ...`", "condition-too-large")
        self.depths[id(node)] = depth
        return node

    def span(self, token: Token) -> Span:
        return Span((token.start_pos or 0) + self.offset, (token.end_pos or 0) + self.offset, self.file)

    def word(self, token: Token) -> Leaf[str]:
        return Leaf(str(token), self.span(token))

    def text(self, token: Token) -> Leaf[str]:
        return Leaf(str(token)[1:-1], self.span(token))

    def whole(self, token: Token) -> Leaf[int]:
        factor = {"k": 1_000, "M": 1_000_000}.get(token[-1], 1)
        value = Decimal(token.rstrip("kM").replace("_", "")) * factor
        return self._exact(token, value, "a whole number", "numbers are whole: write `1500` or `1.5k`")

    def dollars(self, token: Token, unit: int) -> Leaf[int]:
        value = Decimal(token[1:].replace("_", "")) * unit
        return self._exact(token, value, "an exact amount", "six decimals are the most that a price can have")

    def percent(self, token: Token) -> Leaf[int]:
        value = Decimal(token[:-1]) * (SHARES // 100)
        return self._exact(token, value, "an exact share", "two decimals are the most that a share can have")

    def _exact(self, token: Token, value: Decimal, what: str, help_: str) -> Leaf[int]:
        if value != int(value):
            raise TreeError(f"`{_short(token)}` is not {what}", self.span(token), help_)
        if value > LARGEST:
            raise TreeError(f"`{_short(token)}` is too large", self.span(token), "the largest number is 10 to the power of 15")
        return Leaf(int(value), self.span(token))

    def milliseconds(self, token: Token) -> Leaf[int]:
        digits = token.rstrip("abcdefghijklmnopqrstuvwxyz")
        value = Decimal(digits) * MILLISECONDS[token[len(digits) :]]
        return self._exact(token, value, "a whole number", "")

    def day(self, token: Token) -> Leaf[date]:
        try:
            return Leaf(date.fromisoformat(token), self.span(token))
        except ValueError:
            raise TreeError(f"`{token}` is not a date", self.span(token), "write year, month and day: `2027-03-31`") from None

    def value(self, token: Token) -> Leaf[str | int]:
        leaf: Leaf[Any] = self._literal(token)
        return leaf

    def _literal(self, token: Token) -> Leaf[Any]:
        match token.type:
            case "NUMBER":
                return self.whole(token)
            case "STRING":
                return self.text(token)
            case _:
                return self.word(token)


def _short(token: str) -> str:
    return token if len(token) <= 40 else token[:37] + "..."
