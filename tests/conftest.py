"""Profiles: `default` for every run, `long` for a thorough search (`pytest --hypothesis-profile=long`).

With CI set the default profile draws the same examples each time, so that a red run can be repeated; elsewhere it searches.
"""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
_SAME = bool(os.environ.get("CI"))
settings.register_profile("default", deadline=None, derandomize=_SAME, suppress_health_check=_QUIET, max_examples=120)
settings.register_profile("long", deadline=None, suppress_health_check=_QUIET, max_examples=5_000)
settings.register_profile("quick", deadline=timedelta(seconds=5), suppress_health_check=_QUIET, max_examples=10)
settings.load_profile("default")

collect_ignore_glob = ["*.route"]  # pieces of policies, for other tests: the plugin of ours would collect them
