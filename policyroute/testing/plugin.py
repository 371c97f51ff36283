"""A pytest plugin: collects the tests of `.route` files, one item each.

    policies/support.route::an enterprise outage reaches the best chain

It is loaded by every run of pytest where policyroute is installed, so it imports nothing until a `.route` file is met. Files without
rules (declarations for others) and without tests hold nothing to collect. `--no-policyroute`, or `policyroute = false` in pytest's
configuration, turns it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from policyroute.language.diagnostics import Diagnostic
    from policyroute.language.policy import Test
    from policyroute.language.source import Source
    from policyroute.testing.run import Suite

SUFFIX = ".route"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The switch, on the command line and in the configuration."""
    group = parser.getgroup("policyroute")
    group.addoption("--no-policyroute", action="store_true", help="do not collect the tests of .route files")
    parser.addini("policyroute", "collect the tests of .route files", type="bool", default=True)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PolicyFile | None:
    """A `.route` file is a collector of its own."""
    config = parent.config
    if file_path.suffix != SUFFIX or config.getoption("--no-policyroute") or not config.getini("policyroute"):
        return None
    return PolicyFile.from_parent(parent, path=file_path)


class PolicyError(Exception):
    """A policy that doesn't load; the message has its diagnostics, a line each."""


class PolicyFile(pytest.File):
    """One policy and its tests."""

    def collect(self) -> Iterator[PolicyTest]:
        """The tests in the order of the file. Raises PolicyError where the policy doesn't load."""
        from policyroute.language.load import check_file
        from policyroute.prices.catalog import complete, load_catalog
        from policyroute.testing.run import Suite

        try:
            checked = check_file(self.path, library=True)
        except (OSError, ValueError) as error:
            raise PolicyError(f"{self.path}: {error}") from None
        if checked.failed:
            raise PolicyError("\n".join(_told(found, checked.sources[found.span.file]) for found in checked.diagnostics))
        if not checked.policy.rules or not checked.policy.tests:
            return
        policy, _ = complete(checked.policy, load_catalog())
        suite = Suite(policy, self.path.parent)
        for test in policy.tests:
            yield PolicyTest.from_parent(self, name=test.name, test=test, suite=suite, source=checked.sources[test.span.file])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The diagnostics alone."""
        return str(excinfo.value) if isinstance(excinfo.value, PolicyError) else super().repr_failure(excinfo)


def _told(found: Diagnostic, source: Source) -> str:
    line, column = source.position(found.span.start)
    return f"{source.name}:{line}:{column}: {found.number} {found.message}" + (f" ({found.help})" if found.help else "")


class PolicyTestError(Exception):
    """A policy test that failed; the message explains it."""


class PolicyTest(pytest.Item):
    """One `test` block, decided by the reference, the live function and SQL."""

    def __init__(self, *, test: Test, suite: Suite, source: Source, **rest: Any) -> None:
        super().__init__(**rest)
        self._test, self._suite, self._source = test, suite, source

    def runtest(self) -> None:
        """Run it; a test that can't be run is skipped, and says why."""
        (outcome,) = self._suite.run([self._test])
        if outcome.status == "not run":
            pytest.skip(outcome.details[0])
        if outcome.status == "failed":
            raise PolicyTestError("\n".join(outcome.details))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was expected and what came, without a traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, PolicyTestError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line (from 0) and name, for reports."""
        line, _ = self._source.position(self._test.span.start)
        return self.path, line - 1, self.name
