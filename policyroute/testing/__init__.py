"""Policies' own tests, run through every reading, and what tests of a policy in Python are made of.

from policyroute.testing import assert_route
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyroute.testing.assertions import assert_route

__all__ = ["assert_route"]


def __getattr__(name: str) -> Any:
    """`assert_route`, imported when it is asked for: pytest loads this package for its plugin in every run."""
    if name != "assert_route":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from policyroute.testing.assertions import assert_route

    return assert_route
