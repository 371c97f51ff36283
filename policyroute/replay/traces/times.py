"""Times of the sources that are converted in Python; `casts.timestamp` is the same rule in SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # naive, as canonical times are
_MICROS = ((1e11, 10**6), (1e14, 10**3), (1e17, 1))


def parse(value: object) -> datetime | None:
    """Naive UTC of a unix time (seconds, milli-, micro- or nanoseconds) or an ISO text; None where it is neither."""
    if isinstance(value, str):
        return _iso(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 9e18:
        return None
    scale = next((micros for limit, micros in _MICROS if value < limit), None)
    return _EPOCH + timedelta(microseconds=round(value * scale) if scale else int(value) // 1000)


def _iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def milliseconds(start: datetime | None, end: datetime | None) -> float | None:
    """From start to end, or None where either is unknown or the end comes first."""
    return (end - start) / timedelta(milliseconds=1) if start is not None and end is not None and end >= start else None
