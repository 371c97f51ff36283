"""Quantiles of Student's t and the standard normal, for any degrees of freedom from 1 up, without a numerical library.

The distribution is the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, evaluated by
Lentz's method as modified by Thompson and Barnett 1986); the quantile is found by bisection. Binary floats, as every figure
here is a factor on a standard error and none is money; the result is rounded to 12 digits.
"""

from __future__ import annotations

from decimal import Decimal
from math import exp, lgamma, log, log1p
from statistics import NormalDist

_TINY, _CLOSE, _TERMS, _STEPS = 1e-300, 1e-15, 10_000, 200
_DIGITS = ".12g"


def student(confidence: Decimal, freedom: Decimal) -> Decimal:
    """The t with probability `confidence` (between 0 and 1) of lying in -t..t, at `freedom` degrees of freedom, 1 or more."""
    outside, df = 1 - float(confidence), float(freedom)
    low, high = 0.0, 1.0
    while _outside(high, df) > outside:
        low, high = high, high * 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _outside(middle, df) > outside else (low, middle)
    return Decimal(format(high, _DIGITS))


def normal(confidence: Decimal) -> Decimal:
    """The z with probability `confidence` (between 0 and 1) of lying in -z..z."""
    return Decimal(format(NormalDist().inv_cdf((1 + float(confidence)) / 2), _DIGITS))


def _outside(t: float, df: float) -> float:
    """Probability of |T| > t: I_x(df/2, 1/2) at x = df / (df + t²)."""
    if t == 0:
        return 1.0
    a, b, x, rest = df / 2, 0.5, df / (df + t * t), t * t / (df + t * t)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) - a * log1p(t * t / df) + b * log(rest))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function."""
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _away(1 + term * d), _away(1 + term / c)
            found *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return found


def _away(value: float) -> float:
    """Away from zero, since it divides."""
    return value if abs(value) > _TINY else _TINY
