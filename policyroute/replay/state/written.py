"""The transitions written out for one policy as a Python loop over columns, as `backends.live` writes out its rules.

What it means is said by `state.transitions`, by which the server steps; `tests/test_state_replay.py` holds the two to each other. Here it is
written so that a row costs about a microsecond: no calls, no objects but what is kept.

- A row for which something isn't known that a choice depends on is STUCK, and leaves nothing behind.
- `used` of a quota is an amount by window and key. Of a budget it is a list: the cost of all that was taken; by how much reservations that
  may still stand can raise and lower that; and these reservations, each with its place in the order at which it is settled. So they are
  only looked through where the bounds don't tell whether a request fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Any

from policyroute.backends.sql import STUCK
from policyroute.language.policy import Route
from policyroute.prices.caching import cache_rule
from policyroute.replay.state.rows import NEVER, Rows
from policyroute.state.transitions import KEPT, NONE, OVER, PLAIN, TIER, Transitions, transitions

Changed = tuple[int, int, int, int, int, int, int]  # row, source, model, tier, place, held, path
MANY = 64  # reservations of a budget that are kept before those that are settled are dropped
Batch = Callable[[dict[int, Any], list[dict[int, dict[int, Any]]], list[Changed], Sequence[memoryview]], None]


def written(rows: Rows) -> tuple[Batch, str]:
    """The loop over one batch of rows, and its source. It is given what conversations and limits keep, the list of changed rows, and the
    columns in the order of `rows.names`."""
    source = _Writer(rows).source()
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<state of {rows.policy.name}>", "exec"), namespace)
    return namespace["batch"], source


def exact(kept: list[Any], place: int) -> int:
    """What of a budget is used at a place in the order; drops reservations that are settled."""
    kept[3] = [each for each in kept[3] if each[0] > place]
    kept[1] = sum(change for _, change in kept[3] if change > 0)
    kept[2] = sum(change for _, change in kept[3] if change < 0)
    return int(kept[0]) + int(kept[1]) + int(kept[2])


class _Writer:
    def __init__(self, rows: Rows) -> None:
        self.rows, self.policy = rows, rows.policy
        self.transitions: Transitions = transitions(rows.policy)
        self.mode = self.transitions.mode

    def source(self) -> str:
        allowed = range(len(self.policy.allowances))
        opened = [f"used_{n} = used[{n}]; window_of_{n} = None; keys_{n} = None" for n in allowed]
        body = "\n".join([f"if guards < 0: stuck(({self._stuck()})); continue", *self._sticky(), *self._limits(), *self._kept()])
        read = [(place, name) for place, name in enumerate(self.rows.names) if re.search(rf"\b{name}\b", body)]
        columns = ", ".join(f"columns[{place}]" for place, _ in read)
        head = [*opened, "stuck = changed.append", f"for {', '.join(name for _, name in read)}, in zip({columns}):"]
        return (
            "from policyroute.replay.state.written import exact\n"
            f"def batch(lasts, used, changed, columns):\n{indent(chr(10).join(head), '    ')}\n{indent(body, '        ')}\n"
        )

    def _stuck(self) -> str:
        return f"row, {NONE}, {STUCK}, {NONE}, {NONE}, 0, 0"

    # -- sticky --------------------------------------------------------------------------------------------------------

    def _sticky(self) -> list[str]:
        lines = [f"model = plain; source = {PLAIN}; limit = {NONE}; path = 0; held = 0"]
        if self.mode is None:
            return lines
        lines += [
            "last = lasts.get(conversation) if conversation else None",
            f"if last is not None and moment - last[2] > {self.transitions.lifetime}: last = None",
        ]
        return lines + (self._raise() if self.mode == "never downgrade" else self._keep())

    def _raise(self) -> list[str]:
        tiers = range(len(self.policy.order))
        return [
            f"if last is not None and {NONE} < tier < last[0]:",
            f"    raised = {_chosen('tier', tiers)}",
            f"    if raised == {STUCK}: stuck(({self._stuck()})); continue",
            f"    if raised != {NONE}:",
            f"        source = {TIER}; held = 1; model = raised; tier = last[0]",
        ]

    def _keep(self) -> list[str]:
        warm = " and moment <= last[3] and last[0] >= tier" if self.mode == "keep while cached" else ""
        return [
            f"if last is not None and last[1] != model{warm}:",
            f"    if usable < 0: stuck(({self._stuck()})); continue",
            "    if usable >> last[1] & 1:",
            f"        source = {KEPT}; held = 1; model = last[1]; tier = last[0]",
        ]

    # -- quotas and budgets --------------------------------------------------------------------------------------------

    def _limits(self) -> list[str]:
        count = len(self.policy.allowances)
        if not count:
            return []
        if count == 1:  # it acts once at most: nothing has to be asked again
            return [*self._limit(0, again=False)]
        tests = [line for place in range(count) for line in self._limit(place, again=True)]
        fresh = " = ".join([*(f"taken_{place}" for place in range(count)), "False"])
        return [
            fresh,
            f"while model > {NONE}:",
            *(f"    {line}" for line in tests),
            "    break",
            f"if model == {STUCK}: stuck(({self._stuck()})); continue",
        ]

    def _limit(self, place: int, *, again: bool) -> list[str]:
        one, allowed = self.policy.allowances[place], self.transitions.allowed[place]
        steps = len(self.policy.allowances) + 1
        new = f"path * {steps} + {place + 1}"
        asked = f" and not taken_{place}" if again else ""
        target = f"beyond_{place}" if isinstance(one.target, Route) else str(NONE)
        ranks = tuple(allowed.tiers.get(number, NONE) for number in range(len(self.policy.models)))
        act = [
            f"model = {target}; source = {OVER}; limit = {place}; path = {new}",
            f"tier = {ranks!r}[model] if model > {NONE} else {NONE}",
        ]
        act += [f"taken_{place} = True", "continue"] if again else []
        covered = f"if guards >> {place} & 1 and model > {NONE} and {allowed.of} >> model & 1"
        return [
            f"{covered}{asked}:",
            *(f"    {line}" for line in self._opened(place)),
            *(f"    {line}" for line in self._full(place, [str(line) for line in act])),
            *([] if again else [f"if model == {STUCK}: stuck(({self._stuck()})); continue"]),
        ]

    def _opened(self, place: int) -> list[str]:
        """The keys of the row's window, which is mostly that of the row before."""
        return [
            f"if window_{place} != window_of_{place}:",
            f"    keys_{place} = used_{place}.get(window_{place})",
            f"    if keys_{place} is None: keys_{place} = used_{place}[window_{place}] = {{}}",
            f"    window_of_{place} = window_{place}",
        ]

    def _full(self, place: int, act: list[str]) -> list[str]:
        one = self.policy.allowances[place]
        if one.kind == "quota":
            return [f"if keys_{place}.get(key_{place}, 0) >= {one.amount}:", *(f"    {line}" for line in act)]
        return [
            f"most = {self._amount('most')}",
            f"if most == {NEVER}: model = {STUCK}; break"
            if len(self.policy.allowances) > 1
            else f"if most == {NEVER}: stuck(({self._stuck()})); continue",
            f"kept = keys_{place}.get(key_{place})",
            f"if kept is None: kept = keys_{place}[key_{place}] = [0, 0, 0, []]",
            f"room = {one.amount} - most - kept[0]",
            "if room < kept[1] and (room < kept[2] or room < exact(kept, place) - kept[0]):",
            *(f"    {line}" for line in act),
        ]

    # -- what is kept --------------------------------------------------------------------------------------------------

    def _kept(self) -> list[str]:
        lines = [
            f"if model == {NONE}:",
            f"    if held or path: changed.append((row, source, {NONE}, tier, limit, held, path))",
            "    continue",
        ]
        lines += self._warm()
        if self.rows.priced:
            lines.append(f"most = {self._amount('most')}")
        for place, one in enumerate(self.policy.allowances):
            if one.kind == "budget":
                covers = f"guards >> {place} & 1 and {self.transitions.allowed[place].of} >> model & 1"
                lines.append(f"if most == {NEVER} and {covers}: stuck(({self._stuck()})); continue")
        for place, one in enumerate(self.policy.allowances):
            covered = f"if guards >> {place} & 1 and {self.transitions.allowed[place].of} >> model & 1:"
            lines += [covered, *(f"    {line}" for line in (*self._opened(place), *self._take(place, one.kind == "budget")))]
        if self.mode is not None:
            lines += [
                "if conversation:",
                "    if last is None: lasts[conversation] = (tier, model, moment, warm)",
                f"    else: lasts[conversation] = (tier if tier != {NONE} else last[0], model, moment if moment > last[2] else last[2], warm)",
            ]
        return [*lines, "if held or path: changed.append((row, source, model, tier, limit, held, path))"]

    def _take(self, place: int, budget: bool) -> list[str]:
        if not budget:
            return [f"keys_{place}[key_{place}] = keys_{place}.get(key_{place}, 0) + 1"]
        return [
            f"paid = {'charged if seen == model else ' if self.rows.served else ''}{self._amount('cost')}",
            f"if paid == {NEVER}: paid = most",
            f"kept = keys_{place}.get(key_{place})",
            f"if kept is None: kept = keys_{place}[key_{place}] = [0, 0, 0, []]",
            "kept[0] += paid",
            "change = most - paid",
            "if change and settles > place:",
            "    kept[3].append((settles, change))",
            "    if change > 0: kept[1] += change",
            "    else: kept[2] += change",
            f"    if len(kept[3]) > {MANY}: exact(kept, place)",
        ]

    def _amount(self, of: str) -> str:
        """What the row costs with the chosen model, at most or for its recorded tokens."""
        each = (f"{of}_{number}" if number in self.rows.priced else "0" for number in range(len(self.policy.models)))
        return f"({', '.join(each)},)[model]"

    def _warm(self) -> list[str]:
        if self.mode is None:
            return []
        if self.mode != "keep while cached":
            return ["warm = moment"]
        rules = [cache_rule(model.provider or "") for model in self.policy.models.values()]
        least = tuple(rule.minimum if rule else NEVER for rule in rules)
        lifetime = tuple(rule.lifetime * 1_000_000 if rule else 0 for rule in rules)
        return [
            f"if tokens < 0: stuck(({self._stuck()})); continue",
            f"warm = moment - 1 if tokens < {least!r}[model] else moment + {lifetime!r}[model]",
        ]


def _chosen(name: str, numbers: range) -> str:
    return f"({', '.join(f'{name}_{number}' for number in numbers)},)[last[0]]"
