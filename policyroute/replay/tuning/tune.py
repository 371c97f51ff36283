"""Thresholds moved: values are tried and picked on the earlier part of a trace, and judged on the rest of it.

One or two tunables are tried on a grid, more of them by coordinate search from several starts. Values to try are quantiles of the numbers
that a tunable is compared with (before the cut), the present value, and the ends of its range. Among the candidates that meet the
constraints, and leave no more requests without an answer than the present values do, the one that saves most is picked; of equals the one
that changes fewer requests, then the one nearest to the present values.

The answer is `change`; or `leave it`, where the hold-out doesn't confirm that the difference is one or that the constraint holds; or `do not
route`, where nothing saves against the baseline, or one model alone is no dearer and scores no worse. Choosing holds usage as recorded; the
hold-out is reckoned with all that `simulate` reckons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path

from policyroute.backends.sql import expression
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.replay.ledger import Effects
from policyroute.replay.options import Options, SimulationError, Step, silent
from policyroute.replay.outcomes import served_numbers
from policyroute.replay.outcomes.cells import named
from policyroute.replay.traces import Trace
from policyroute.replay.traces.sql import one
from policyroute.replay.tuning.candidates import evenly, moving, subjects, tuned
from policyroute.replay.tuning.constraints import Constraint, Figure, Pair, default_figure
from policyroute.replay.tuning.effective import effects_of, paired
from policyroute.replay.tuning.holdout import DEFAULT, Cut, Holdout
from policyroute.replay.tuning.sweep import Arm, Sweep, sweeping
from policyroute.replay.tuning.totals import Periods

GRID = 12  # quantiles that are tried of each tunable
GRIDDED = 2  # tunables up to which all combinations are tried
ROUNDS = 12  # of a coordinate search from one start; it ends earlier where nothing improves

Point = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is asked: constraints, how many quantiles are tried, what is held out. The first constraint is the front's other axis."""

    constraints: tuple[Constraint, ...] = ()
    grid: int = GRID
    holdout: Holdout = DEFAULT


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of values, with what it does. `users` are those whose model changes, of all: before the cut, and in the hold-out."""

    point: Point
    periods: Periods
    users: tuple[Pair, Pair] = ((0, 0), (0, 0))

    def figure(self, figure: Figure, *, late: bool = False) -> Pair:
        """A figure of one of the periods."""
        return figure.of(self.periods.late if late else self.periods.early, self.users[late])

    def short_by(self, constraints: Iterable[Constraint], *, late: bool = False) -> Fraction:
        """How far the constraints are from being met, all together; 0 where they are."""
        return sum((one.short_by(self.figure(one.figure, late=late)) for one in constraints), Fraction(0))

    @property
    def unanswered(self) -> int:
        """Requests before the cut that no model answers, or whose decision isn't known."""
        early = self.periods.early
        return early.unknown + early.refused + early.unroutable


@dataclass(frozen=True)
class Tuned:
    """Everything that a report is made from.

    `values` are those that were tried, `seen` the least and the largest number that a tunable is compared with, before the cut. `chosen` is the
    best of the `candidates` there, None where none meets the constraints. `bags` is the money of the hold-out under
    the baseline, the present and the chosen values, by bag of clusters. `arms` is cost and score of the policy and each model in the hold-out.
    """

    policy: Policy
    asked: Tuning
    figure: Figure
    names: tuple[str, ...]
    idle: tuple[str, ...]
    values: dict[str, tuple[int, ...]]
    seen: dict[str, tuple[int, int]]
    compared_with: dict[str, tuple[str, ...]]
    kind: str
    candidates: tuple[Candidate, ...]
    present: Candidate
    chosen: Candidate | None
    bags: dict[int, tuple[int, int, int]]
    cut: Cut
    effects: Effects
    trace: Trace
    cluster: str | None
    cached: bool
    options: Options
    catalog: Catalog
    arms: tuple[Arm, ...] = ()
    starts: tuple[Point, ...] = field(default=())


def tune(
    policy: Policy,
    paths: Sequence[str | Path],
    catalog: Catalog,
    options: Options,
    asked: Tuning | None = None,
    step: Step = silent,
) -> Tuned:
    """Move the tunables of `policy`, whose models are completed from `catalog`, over the trace in `paths`.

    Raises `TraceError` for a trace that can't be read and `SimulationError` where there is nothing to move or a constraint can't be told.
    """
    asked = asked or Tuning()
    names = moving(policy)
    if not names:
        raise SimulationError(*_nothing_to_move(policy))
    with sweeping([policy], paths, catalog, options, step, asked.holdout) as (sweep,):
        figure = asked.constraints[0].figure if asked.constraints else default_figure(policy)
        _prepare_figures(sweep, policy, [figure, *(each.figure for each in asked.constraints)])
        search = _Search(sweep, policy, names, asked, figure, step)
        search.run()
        present, chosen = search.pool[search.present], search.best()
        now = search.policy_at(chosen.point) if chosen else policy
        return Tuned(
            policy=policy, asked=asked, figure=figure, names=names, idle=tuple(name for name in policy.tunables if name not in names),
            values=search.values, seen=search.seen, compared_with={name: tuple(map(expression, subjects(policy, name))) for name in names}, kind=search.kind,
            candidates=tuple(search.pool[point] for point in sorted(search.pool)), present=present, chosen=chosen,
            bags=paired(sweep, policy, now), cut=sweep.where, effects=effects_of(sweep), trace=sweep.trace, cluster=sweep.view.cluster,
            cached="cached_tokens" in sweep.trace.present, options=options, catalog=catalog, arms=sweep.arms(now) if sweep.scores else (),
            starts=search.starts,
        )  # fmt: skip


def _nothing_to_move(policy: Policy) -> tuple[str, str]:
    example = "give a threshold a name and a range, `tunable short : int 50..2k = 500`, and write `tokens < short` in a rule"
    if policy.tunables:
        return f"no rule of `{policy.name}` reads {', '.join(f'`{name}`' for name in policy.tunables)}", example
    return f"`{policy.name}` has no tunable, so there is nothing to move", example


def _prepare_figures(sweep: Sweep, policy: Policy, figures: Sequence[Figure]) -> None:
    """Read outcomes where there are any; say what can't be told from this trace."""
    wanted = {figure.metric for figure in figures}
    if "users" in wanted and not sweep.users:
        raise SimulationError("the trace has no users to count", "`--map user_id=FIELD` names the column, or constrain `changed`")
    outcomes = sweep.ready.outcomes
    if outcomes is None:
        if "quality" in wanted:
            raise SimulationError(
                "quality is not identifiable from these traces",
                "give what several models answered to the same requests as `--outcomes FILE`",
            )
        return
    numbers = served_numbers(policy, sweep.ready.served, outcomes)
    lacking = [name for name, number in zip(policy.models, sweep.ledger.numbers, strict=True) if number not in numbers.values()]
    if not lacking:
        names = " UNION ALL ".join(f"({named(source)})" for source, _ in sweep.sources)
        sweep.score(names, outcomes.numbered(numbers, "tuning_outcomes"), frozenset(sweep.numbers))
    elif "quality" in wanted:
        raise SimulationError(
            f"quality can't be told: the outcomes have no {', '.join(f'`{name}`' for name in lacking)}",
            "every model of the policy needs scores of the same requests",
        )


# -- search --------------------------------------------------------------------------------------------------------


class _Search:
    """Values tried so far, in `pool`. Everything is a function of the earlier part of the trace."""

    def __init__(self, sweep: Sweep, policy: Policy, names: tuple[str, ...], asked: Tuning, figure: Figure, step: Step) -> None:
        self.sweep, self.policy, self.names, self.asked, self.step = sweep, policy, names, asked, step
        self.seen: dict[str, tuple[int, int]] = {}
        self.values = {name: self._values(name) for name in names}
        self.present: Point = tuple(policy.tunables[name].value for name in names)
        self.kind = "grid" if len(names) <= GRIDDED else "coordinate search"
        self.counts_users = any(one.metric == "users" for one in (figure, *(each.figure for each in asked.constraints)))
        self.pool: dict[Point, Candidate] = {}
        self.starts: tuple[Point, ...] = ()

    def _values(self, name: str) -> tuple[int, ...]:
        tunable, count = self.policy.tunables[name], self.asked.grid
        low, high = tunable.type.low, tunable.type.high
        found = {low, high, tunable.value}
        for subject in subjects(self.policy, name):
            sql = expression(subject)
            shares = ", ".join(f"{place} / {count + 1}" for place in range(count + 2))
            early = f"SELECT {sql} AS number FROM {self.sweep.table} WHERE NOT ({self.sweep.where.late})"
            least, most = one(self.sweep.connection, f"SELECT min(number), max(number) FROM ({early})")
            if least is None:
                continue
            known = self.seen.get(name, (least, most))
            self.seen[name] = (min(known[0], least), max(known[1], most))
            (quantiles,) = one(
                self.sweep.connection,
                f"SELECT quantile_disc(number, [{shares}]) FROM ({early}) WHERE number BETWEEN {low} AND {high}",
            )
            # One more than the largest number is the first threshold that all requests lie below.
            found |= {value for value in (*map(int, quantiles or ()), most + 1) if low <= value <= high}
        return tuple(sorted(found if name in self.seen else {*found, *evenly(tunable.type, count)}))

    def policy_at(self, point: Point) -> Policy:
        return tuned(self.policy, dict(zip(self.names, point, strict=True)))

    def run(self) -> None:
        """Fill the pool."""
        self._try([self.present])
        if len(self.names) <= GRIDDED:
            self._try(product(*self.values.values()))
            return
        low, high = (tuple(values[end] for values in self.values.values()) for end in (0, -1))
        middle = tuple(values[len(values) // 2] for values in self.values.values())
        self.starts = tuple(dict.fromkeys((self.present, low, high, middle)))
        self._try(self.starts)
        for start in self.starts:
            self._climb(start)

    def _climb(self, point: Point) -> None:
        """Move one tunable after the other to its best value, until none moves."""
        for _ in range(ROUNDS):
            before = point
            for place, values in enumerate(self.values.values()):
                line = [(*point[:place], value, *point[place + 1 :]) for value in values]
                self._try(line)
                point = max((self.pool[each] for each in line), key=self._rank).point
            if point == before:
                return

    def _try(self, points: Iterable[Point]) -> None:
        new = [point for point in dict.fromkeys(points) if point not in self.pool]
        if not new:
            return
        policies = [self.policy_at(point) for point in new]
        users = [self.sweep.moved_users(policy) for policy in policies] if self.counts_users else [((0, 0), (0, 0))] * len(new)
        for point, periods, counted in zip(new, self.sweep.totals(policies, self.step), users, strict=True):
            self.pool[point] = Candidate(point, periods, counted)

    def _rank(self, candidate: Candidate) -> tuple[Fraction | int, ...]:
        """Larger is better; no two candidates are equal."""
        worse = max(0, candidate.unanswered - self.pool[self.present].unanswered)
        places = zip(candidate.point, self.present, self.values.values(), strict=True)
        distance = sum(abs(values.index(value) - values.index(now)) for value, now, values in places)
        early = candidate.periods.early
        return (
            -worse,
            -candidate.short_by(self.asked.constraints),
            early.saving,
            -early.moved,
            -distance,
            *(-value for value in candidate.point),
        )

    def best(self) -> Candidate | None:
        """The candidate to choose, None where none meets the constraints."""
        best = max(self.pool.values(), key=self._rank)
        return None if best.short_by(self.asked.constraints) else best


# -- the front -----------------------------------------------------------------------------------------------------


def front(tuned_: Tuned) -> list[Candidate]:
    """The candidates of which none other saves as much with as good a figure, before the cut; those that save most come last."""
    usable = [
        each for each in tuned_.candidates if each.unanswered <= tuned_.present.unanswered and each.figure(tuned_.figure)[1] > 0
    ]
    ordered = sorted(
        usable, key=lambda each: (-each.periods.early.saving, _cost_of(each, tuned_.figure), each.periods.early.moved, each.point)
    )
    return list(reversed(list(_undominated(ordered, tuned_.figure))))


def _undominated(ordered: Iterable[Candidate], figure: Figure) -> Iterator[Candidate]:
    best: Fraction | None = None
    for each in ordered:
        cost = _cost_of(each, figure)
        if best is None or cost < best:
            best = cost
            yield each


def _cost_of(candidate: Candidate, figure: Figure) -> Fraction:
    """The figure before the cut, so that less is better."""
    part, whole = candidate.figure(figure)
    value = Fraction(part, whole)
    return value if figure.less else -value
