"""What all invented workloads share: dice, texts with alternatives, people, hours of the day.

Every draw goes through `Dice`, which asks `random.Random` for nothing but `random()`: its sequence is the same in every
version of Python (floats are added with `fsum`, since `sum` adds them differently from 3.12 on).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

Item = TypeVar("Item")
Message = dict[str, Any]

START = datetime(2026, 10, 5)  # a Monday
DAYS = 14

_INNERMOST = re.compile(r"\{([^{}]*)\}")
_WEEKDAY = (1, 1, 1, 1, 1, 2, 4, 9, 20, 30, 32, 30, 24, 28, 32, 31, 27, 20, 12, 9, 8, 6, 4, 2)
_WEEKEND = (2, 1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 8, 7, 7, 7, 7, 6, 6, 6, 6, 6, 5, 4, 3)


class Dice:
    """Seeded chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, share: float) -> bool:
        return self._random() < share

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.between(0, len(items) - 1)]

    def several(self, items: Sequence[Item], number: int) -> list[Item]:
        """`number` different items, or all of them, in random order."""
        left = list(items)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(min(number, len(left)))]

    def weighted(self, items: Sequence[Item], weights: Sequence[float]) -> Item:
        drawn = self._random() * math.fsum(weights)
        for item, weight in zip(items, weights, strict=True):
            drawn -= weight
            if drawn < 0:
                return item
        return items[-1]

    def around(self, median: float, spread: float) -> float:
        """A positive number, half of the time below `median`, with a long tail upwards."""
        normal = math.fsum(self._random() for _ in range(12)) - 6
        return median * math.exp(spread * normal)

    def spin(self, text: str) -> str:
        """`text` with one alternative chosen for each `{a|b|c}`; braces nest."""
        while (found := _INNERMOST.search(text)) is not None:
            text = text[: found.start()] + self.pick(found.group(1).split("|")) + text[found.end() :]
        return text


@dataclass(frozen=True, slots=True)
class User:
    """A person with what a company knows of them; `about` are further columns of the trace."""

    id: str
    team: str
    plan: str
    weight: float
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model: the prompt, the assistant's message that answers it, seconds since the call before it."""

    messages: tuple[Message, ...]
    answer: Message
    pause: float
    tools: str = ""  # definitions as JSON text; empty where none are offered
    json: bool = False
    max_output: int | None = None
    feature: str | None = None
    stream: bool = True
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """A trace to be invented: who, with which models (id and share), how conversations go, and which columns it adds."""

    name: str
    seed: int
    requests: int
    users: Callable[[Dice], list[User]]
    models: tuple[tuple[str, str, float], ...]  # provider, id, share
    conversation: Callable[[Dice, User, datetime], Iterator[Call]]
    columns: tuple[str, ...]  # of `User.about` and `Call.about`
    caches: frozenset[str]  # models that cache this workload's prompts


def people(dice: Dice, number: int, teams: Sequence[tuple[str, str]], prefix: str) -> list[User]:
    """Users whose activity falls off as one over their rank: a few write most of it. `teams` are names with a plan."""
    chosen = [dice.pick(teams) for _ in range(number)]
    return [User(f"{prefix}{rank:03d}", team, plan, 1 / rank) for rank, (team, plan) in enumerate(chosen, start=1)]


def moment(dice: Dice) -> datetime:
    """A time in the two weeks: busy by day, quiet at night and at the weekend."""
    days = range(DAYS)
    day = dice.weighted(days, [sum(_WEEKEND if number % 7 >= 5 else _WEEKDAY) for number in days])
    hour = dice.weighted(range(24), _WEEKEND if day % 7 >= 5 else _WEEKDAY)
    return START + timedelta(days=day, hours=hour, milliseconds=dice.between(0, 3_599_999))


def say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def calls(identifier: str, tool: str, arguments: str) -> Message:
    """The assistant's message that calls one tool."""
    function = {"name": tool, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": identifier, "type": "function", "function": function}]}


def result(identifier: str, tool: str, content: str) -> Message:
    """The tool's message that answers the call `identifier`."""
    return {"role": "tool", "tool_call_id": identifier, "name": tool, "content": content}
