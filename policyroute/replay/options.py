"""What a replay can be told, and how it says that it can't be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from policyroute.language.policy import Policy, Value
from policyroute.language.statements import Gate

# Constructs that change decisions or money of a replay. It can be told to leave them out by name, and then says so.
DECISIVE = ("sticky", "quota", "budget", "escalate")


CLUSTER, DAY = "$cluster", "$day"  # the segments that intervals and the daily series are computed from


class SimulationError(Exception):
    """The replay can't be done as asked: what is wrong, and the remedy."""

    def __init__(self, message: str, help_: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help_


@dataclass(frozen=True)
class Options:
    """What `simulate` can be told.

    `cluster` is the column (or `day`) whose values are drawn for intervals, None for the best that the trace has; `cache` is
    the folder of extracted signals, None to keep none. `lengths` is `held`, `modelled`, `paired` or a file of ratios;
    `prompt_cache` is `held`, `model`, `off`, or None for `model` where the trace tells enough; `failures` replays the recorded
    outages where there are any. `outcomes` is a file of what several models answered, `feedback` are columns of outcomes of the
    logged calls, `mix` draws answers of classifiers that nobody has asked (shares of their members in parts of ten thousand), `ask` asks
    them now, `gates` are judged. `details` adds what costs further passes: examples (`with_text`: with
    their last user messages), each rule's marginal value, switches.
    """

    baseline: str = "recorded"
    baseline_policy: Policy | None = None
    assume: Mapping[str, Value] = field(default_factory=dict)
    without: Sequence[str] = ()
    by: Sequence[str] = ()
    cluster: str | None = None
    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    incumbent: str | None = None
    cache: Path | None = None
    output: Path | None = None
    lengths: str | Path = "held"
    outcomes: Path | None = None
    outcomes_format: str | None = None
    feedback: Sequence[str] = ()
    gates: Sequence[Gate] = ()
    mix: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ask: Callable[[str, object], tuple[str, int | None]] | None = None
    prompt_cache: str | None = None
    failures: bool = True
    details: bool = False
    with_text: bool = False
    threads: int | None = None
    memory: str | None = None


Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def silent(_what: str, _rows: int) -> AbstractContextManager[Callable[[int], None]]:
    """No progress is shown."""
    return nullcontext(lambda _rows: None)
