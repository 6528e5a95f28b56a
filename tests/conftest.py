"""Settings that hold for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Speed belongs to benchmarks: a slow machine must not fail a property. Derandomised, so that a red run is
# red again; a longer search is a matter of `--hypothesis-profile=search`.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True)
settings.register_profile("search", _patient, max_examples=2000)
settings.load_profile("ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that start a control plane last; leave them out only if that is asked for."""
    items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)
    if os.environ.get("EFAAS_WITHOUT_CLUSTER") == "1":
        left_out = [item for item in items if item.get_closest_marker("cluster")]
        items[:] = [item for item in items if not item.get_closest_marker("cluster")]
        config.hook.pytest_deselected(items=left_out)
