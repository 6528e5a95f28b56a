"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Speed belongs to benchmarks: a slow machine must not fail a property. Derandomised, so that a red run is
# red again; a longer search is a matter of `--hypothesis-profile=search`.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True)
settings.register_profile("search", _patient, max_examples=2000)
settings.load_profile("ci")
