"""Calendar windows of quotas and budgets, in a policy's time zone.

A window is named by the wall clock at its beginning, as microseconds since 1970 on that clock. So the hour that a clock goes back
over is one window, and a day is as long as the calendar says. The same in SQL: `label_sql`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from policyroute.language.statements import Period

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """A moment (a naive one is UTC) as microseconds since 1970, UTC."""
    return (_naive(at) - EPOCH) // MICROSECOND


def moment(at: int) -> datetime:
    """The moment, in UTC, of microseconds since 1970."""
    return (EPOCH + timedelta(microseconds=at)).replace(tzinfo=UTC)


def window(period: Period, at: datetime, zone: str) -> int:
    """The name of the window that `at` lies in."""
    local = at.astimezone(_zone(zone)).replace(tzinfo=None, microsecond=0, second=0, fold=0)
    if period != "minute":
        local = local.replace(minute=0)
    if period not in ("minute", "hour"):
        local = local.replace(hour=0)
    if period == "week":
        local -= timedelta(days=local.weekday())
    elif period == "month":
        local = local.replace(day=1)
    return (local - EPOCH) // MICROSECOND


def end(period: Period, name: int, zone: str) -> datetime:
    """The moment, in UTC, at which the window with this name is over."""
    start = EPOCH + timedelta(microseconds=name)
    if period == "month":
        after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    else:
        after = start + _LENGTHS[period]
    return after.replace(tzinfo=_zone(zone)).astimezone(UTC)


def label_sql(period: Period, moment_sql: str, zone: str) -> str:
    """The name of a row's window, as DuckDB computes it from a naive UTC timestamp."""
    local = moment_sql if zone == "UTC" else f"timezone('{zone}', timezone('UTC', {moment_sql}))"
    return f"epoch_us(date_trunc('{period}', {local}))"


_LENGTHS = {
    "minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1),
}  # fmt: skip


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
