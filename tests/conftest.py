"""Profiles: `default` for every run, `long` for a thorough search (`pytest --hypothesis-profile=long`)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("default", deadline=None, suppress_health_check=_QUIET, max_examples=120)
settings.register_profile("long", deadline=None, suppress_health_check=_QUIET, max_examples=5_000)
settings.register_profile("quick", deadline=timedelta(seconds=5), suppress_health_check=_QUIET, max_examples=10)
settings.load_profile("default")
