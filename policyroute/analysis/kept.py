"""Answers that are kept between runs, so that a policy that didn't change is proved once.

A file holds the answers of one policy, by a hash of the question. Its name is a hash of all that an answer depends on: signals, texts,
rules, and the program that answers. What was "unknown" is asked again. A file that can't be read or written is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from policyroute.analysis.solver import Answer, Solver
from policyroute.language.effects import canonical
from policyroute.language.policy import Expression, Policy
from policyroute.prices.library import cache_folder

FILES = 200  # policies whose answers are kept; the oldest go
SOURCES = ("analysis", "backends", "signals", "language")


class Kept:
    """A solver that asks another one what it hasn't asked before. `save()` writes down what is new."""

    def __init__(self, solver: Solver, folder: Path | None = None) -> None:
        self.policy = solver.policy
        self._solver = solver
        self._file = (folder or cache_folder() / "proofs") / f"{fingerprint(self.policy)}.json"
        self._answers = _read(self._file)
        self._new = False

    def ask(self, wanted: Expression, passing: Sequence[int] = (), *, minimal: bool = True) -> Answer:
        """See `Solver.ask`."""
        question = f"{canonical(wanted)} {list(passing)}"
        keys = [_key(question), *([] if minimal else [_key(question, "any")])]
        return self._answer(keys, lambda: self._solver.ask(wanted, passing, minimal=minimal))

    def ask_taken(self, wanted: Expression, takers: Sequence[int]) -> Answer:
        """See `Solver.ask_taken`."""
        return self._answer([_key(canonical(wanted), list(takers))], lambda: self._solver.ask_taken(wanted, takers))

    def _answer(self, keys: Sequence[str], ask: Callable[[], Answer]) -> Answer:
        """The answer kept under one of the keys, else a new one, which is kept under the last."""
        stored = next((self._answers[key] for key in keys if key in self._answers), None)
        if stored is not None:
            return Answer(stored[0], stored[1], tuple(stored[2]))
        answer = ask()
        if answer.status != "unknown":
            self._answers[keys[-1]] = (answer.status, dict(answer.values), list(answer.core))
            self._new = True
        return answer

    def save(self) -> None:
        """Write the answers down, whole or not at all."""
        if not self._new:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, suffix=".part")
            with os.fdopen(handle, "w") as file:
                json.dump(self._answers, file)
            Path(name).replace(self._file)
            _prune(self._file.parent)


def _key(*question: object) -> str:
    return hashlib.sha256(repr(question).encode()).hexdigest()[:32]


def fingerprint(policy: Policy) -> str:
    """A hash of what answers about `policy` depend on."""
    parts = (policy.signals, policy.texts, [rule.condition for rule in policy.rules], [rule.shadow for rule in policy.rules])
    return hashlib.sha256(f"{_program()} {canonical(parts)}".encode()).hexdigest()[:40]


@cache
def _program() -> str:
    """A hash of the sources that answers come from, so that a new version asks again."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    good = isinstance(found, dict) and all(isinstance(row, list) and len(row) == 3 for row in found.values())
    return found if good else {}


def _prune(folder: Path) -> None:
    for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-FILES]:
        old.unlink(missing_ok=True)
