"""Settings that hold for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.services import SERVICES

# gRPC would do things in every forked child, and fall over the threads that the child does not have. It reads
# this when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_LEFT_OUT = pytest.StashKey[list[str]]()

# Speed belongs to benchmarks: a slow machine must not fail a property. Derandomised, so that a red run is
# red again; a longer search is a matter of `--hypothesis-profile=search`.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True)
settings.register_profile("search", _patient, max_examples=2000)
settings.load_profile("ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that start a control plane last; leave out what this machine cannot have."""
    for item in items:
        if "postgresql" in item.name:
            item.add_marker("postgres")
    items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)
    for service in SERVICES:
        unwanted = os.environ.get(f"EFAAS_WITHOUT_{service.marker.upper()}") == "1"
        if not unwanted and (os.environ.get("CI") == "true" or service.can_be_had()):
            continue
        left_out = [item for item in items if item.get_closest_marker(service.marker)]
        if left_out:
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)
            config.stash.setdefault(_LEFT_OUT, []).append(
                f"{len(left_out)} tests were left out: they need {service.remedy}"
            )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out where a person looks: at the end."""
    for line in config.stash.get(_LEFT_OUT, []):
        terminalreporter.write_line(line, yellow=True)
