"""One control plane for all tests of this folder that need one; each gets devices of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scheduler.scheduling import Scheduling


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduling]:
    with Scheduling(tmp_path_factory.mktemp("scheduling")) as scheduling:
        yield scheduling


@pytest.fixture
def scheduling(control_plane: Scheduling) -> Iterator[Scheduling]:
    yield control_plane
    for namespace in control_plane.api.items("/api/v1/namespaces"):
        name = namespace["metadata"]["name"]
        control_plane.api.delete(f"/api/v1/namespaces/{name}/pods", gracePeriodSeconds=0)
        control_plane.api.delete(f"/apis/efaas.dev/v1alpha1/namespaces/{name}/vqasessions")
    control_plane.remove_devices()


@pytest.fixture
def namespace(scheduling: Scheduling) -> Iterator[str]:
    with scheduling.cluster.fresh_namespace() as name:
        yield name
