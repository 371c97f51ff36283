"""Money as whole picodollars: exact, signed, and rounded only where it is shown.

One dollar is 10**12 picodollars, so a dollar per million tokens is 10**6 of them per token. No float enters or leaves.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

PICODOLLARS = 10**12
"""Picodollars of one dollar."""

PICODOLLARS_PER_TOKEN = 10**6
"""Picodollars per token of one dollar per million tokens."""

_DIGITS = 12  # decimals that a picodollar has
_WIDE = Context(prec=1000)  # more digits than an amount is ever written with
_EXACT = Context(prec=60)  # 60 digits hold every sum of a trace; nothing is rounded to the default 28


def dollars(picodollars: int, places: int | None = 2) -> str:
    """`$1,234.56`, `-$0.03`: with `places` decimals, rounded half to even and never shown as `-$0.00`.

    `places=None` is the compact form: two decimals from a cent on, and below that two significant digits (`$0.0021`).
    """
    shown = _compact_places(picodollars) if places is None else places
    whole = _round_half_even(abs(picodollars), 10 ** max(_DIGITS - shown, 0))
    units, rest = divmod(whole, 10 ** min(shown, _DIGITS))
    sign = "-" if picodollars < 0 and whole else ""
    decimals = f"{rest:0{min(shown, _DIGITS)}d}".ljust(shown, "0") if shown else ""
    return f"{sign}${units:,}{'.' if shown else ''}{decimals}"


def from_decimal(amount: Decimal) -> int:
    """Picodollars of a dollar amount, rounded half to even below a picodollar.

    Raises ValueError when the amount isn't finite, or is 10**48 dollars or more.
    """
    if not amount.is_finite() or (amount and amount.adjusted() >= 48):
        raise ValueError(f"not an amount of money: {amount}")
    return int(amount.scaleb(_DIGITS, _WIDE).to_integral_value(ROUND_HALF_EVEN))


def to_decimal(picodollars: int) -> Decimal:
    """The amount in dollars, exactly; for amounts below 10**48 dollars."""
    return Decimal(picodollars).scaleb(-_DIGITS, _EXACT)


def exact_dollars(picodollars: int) -> str:
    """Dollars to the last digit, without a sign for the currency and without zeros behind it: `0.00000585`."""
    return format(to_decimal(picodollars).normalize(_EXACT), "f")


def _round_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))


def _compact_places(picodollars: int) -> int:
    size = abs(picodollars)
    if size == 0 or size >= PICODOLLARS // 100:
        return 2
    return min(_DIGITS, _DIGITS - len(str(size)) + 2)
