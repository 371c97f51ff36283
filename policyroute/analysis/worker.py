"""The process in which z3 runs: `python -m policyroute.analysis.worker`. It reads jobs from stdin and writes their results to stdout.

z3 keeps to its time limits only roughly, and a crash of it is a crash of the process: so it has one of its own, which can be killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from policyroute.analysis.disagreement import Comparison, compare
from policyroute.analysis.messages import receive, send
from policyroute.analysis.smt import Proofs
from policyroute.analysis.solver import Answer
from policyroute.language.policy import Expression, Policy


class Jobs:
    """What can be asked of the process. One policy at a time is open."""

    proofs: Proofs

    def open(self, policy: Policy, within: int) -> bool:
        """Take `policy` for the questions to come; `within` is the milliseconds that each may take."""
        self.proofs = Proofs(policy, within)
        return True

    def ask(self, wanted: Expression, passing: Sequence[int], minimal: bool) -> Answer:
        """See `Solver.ask`."""
        return self.proofs.ask(wanted, passing, minimal=minimal)

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """See `Solver.ask_taken`."""
        return self.proofs.ask_taken(wanted, takers)

    def compare(self, old: Policy, new: Policy, named: bool, most: int, within: int) -> Comparison:
        """See `disagreement.compare`."""
        return compare(old, new, named=named, most=most, within=within)


def main() -> None:
    """Serve jobs until the other end goes."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no message
    jobs = Jobs()
    while True:
        try:
            name, arguments = receive(sys.stdin.buffer)
        except EOFError:
            return
        job: Callable[..., Any] = getattr(jobs, name)
        send(answers, job(*arguments))


if __name__ == "__main__":
    sys.setrecursionlimit(20_000)
    main()
