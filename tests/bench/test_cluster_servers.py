"""Pods of the benchmark: no way in but a forwarded port, and a sentence where EFaaS is not installed."""

from __future__ import annotations

from typing import Any, cast

import pytest
import yaml

from efaas.bench.cluster_servers import installed_image, pod
from efaas.bench.live_servers import manifest
from efaas.cluster.connection import Cluster
from efaas.errors import InputError


class Installed:
    """The one ConfigMap that is asked for, or none."""

    def __init__(self, found: dict[str, Any] | None) -> None:
        self._found = found

    def find(self, path: str) -> dict[str, Any] | None:
        assert path == "/api/v1/namespaces/here/configmaps/efaas-operator"
        return self._found


def test_streams_are_served_on_the_pods_loopback_and_the_pod_has_no_token() -> None:
    spec = pod("qpu-0-sr", "efaas-qpu:1")["spec"]
    (container,) = spec["containers"]
    assert [word for word in container["args"] if word.startswith("--listen")] == ["--listen=127.0.0.1:9000"]
    assert spec["automountServiceAccountToken"] is False
    assert container["image"] == "efaas-qpu:1"


def test_the_image_is_the_one_that_the_operator_was_told() -> None:
    config = yaml.safe_dump({"images": {"qpu": "registry/efaas-qpu:2", "runner": "r"}})
    cluster = Installed({"data": {"operator.yaml": config}})
    assert installed_image(cast(Cluster, cluster), "here") == "registry/efaas-qpu:2"


def test_without_an_installation_one_sentence_says_what_to_do() -> None:
    with pytest.raises(InputError, match="install EFaaS with its chart first"):
        installed_image(cast(Cluster, Installed(None)), "here")


def test_the_device_has_the_policy_and_the_time_scale() -> None:
    spec = yaml.safe_load(manifest("qpu-1", "manila-5", "session-fifo", 0.2))["spec"]
    assert (spec["queue"]["policy"], float(spec["simulation"]["timeScale"])) == ("session-fifo", 0.2)
