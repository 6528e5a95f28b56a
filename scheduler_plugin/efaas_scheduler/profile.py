"""The KubeSchedulerConfiguration that goes with the extender.

Filters are kube-scheduler's own, so a session pod is placed by all the rules that hold for any pod. Score
plugins are off: they would add up to hundreds of points for reasons that have nothing to do with QPUs, and a
real difference between devices would drown in them.
"""

from __future__ import annotations

from typing import Any

from efaas.api.names import SCHEDULER_NAME, SESSION_RESOURCE


def scheduler_configuration(
    url: str | None,
    *,
    scheduler_name: str = SCHEDULER_NAME,
    ca_file: str | None = None,
    node_cache_capable: bool = True,
    requests_per_second: int = 200,
    lease_namespace: str | None = None,
    backoff_s: tuple[int, int] = (1, 5),
) -> dict[str, Any]:
    """A KubeSchedulerConfiguration.

    Args:
        url: of the extender; None leaves it out (for comparison).
        scheduler_name: what pods name.
        ca_file: CA of the extender's certificate, for an ``https`` URL. kube-scheduler does not check a
            certificate without one, so it is required then.
        node_cache_capable: whether names of nodes are sent instead of nodes.
        requests_per_second: of kube-scheduler to the API server.
        lease_namespace: elect a leader by a Lease in this namespace; no election if not given.
        backoff_s: first and longest pause before a pod is tried again.

    Raises:
        ValueError: an ``https`` URL without a CA.
    """
    configuration: dict[str, Any] = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"qps": requests_per_second, "burst": requests_per_second},
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": backoff_s[0],
        "podMaxBackoffSeconds": backoff_s[1],
        "profiles": [
            {"schedulerName": scheduler_name, "plugins": {"score": {"disabled": [{"name": "*"}]}}},
        ],
        "leaderElection": {"leaderElect": False},
    }
    if lease_namespace is not None:
        configuration["leaderElection"] = {
            "leaderElect": True,
            "resourceName": scheduler_name,
            "resourceNamespace": lease_namespace,
        }
    if url is not None:
        extender: dict[str, Any] = {
            "urlPrefix": url,
            "filterVerb": "filter",
            "prioritizeVerb": "prioritize",
            "preemptVerb": "preempt",
            "weight": 1,
            "httpTimeout": "5s",
            "nodeCacheCapable": node_cache_capable,
            "ignorable": False,
            # Not ignored by kube-scheduler: it goes on counting slots, and never oversubscribes a device.
            "managedResources": [{"name": SESSION_RESOURCE, "ignoredByScheduler": False}],
        }
        if url.startswith("https:"):
            if ca_file is None:
                raise ValueError(
                    "an https URL needs a CA file: kube-scheduler would trust anybody without one"
                )
            extender |= {"enableHTTPS": True, "tlsConfig": {"caFile": ca_file}}
        configuration["extenders"] = [extender]
    return configuration
