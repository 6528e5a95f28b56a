"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """The extender's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.handling = Histogram(
            "efaas_scheduler_handling_seconds",
            "Wall seconds from the whole request read to the whole answer made.",
            ("verb",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.answers = Counter(
            "efaas_scheduler_answers_total",
            "Answers by verb and outcome (ok, none, error, bad_request).",
            ("verb", "outcome"),
            registry=self.registry,
        )
        self.held = Counter(
            "efaas_scheduler_held_total",
            "Filter answers that left slots to tenants served less.",
            registry=self.registry,
        )
        self.staleness = Gauge(
            "efaas_scheduler_staleness_seconds",
            "Seconds since the API server was last heard of, by resource.",
            ("resource",),
            registry=self.registry,
        )
        self.lists = Gauge(
            "efaas_scheduler_lists", "Full lists read, by resource.", ("resource",), registry=self.registry
        )
        self.broken = Gauge(
            "efaas_scheduler_watch_restarts",
            "Watches that broke, by resource.",
            ("resource",),
            registry=self.registry,
        )
        self.objects = Gauge(
            "efaas_scheduler_objects", "Objects known, by kind.", ("kind",), registry=self.registry
        )
        self.waiting = Gauge(
            "efaas_scheduler_refused_pods", "Pods that no node would take.", registry=self.registry
        )
        self.expected = Gauge(
            "efaas_scheduler_expected_pods",
            "Pods sent to a node and not yet seen there.",
            registry=self.registry,
        )
        self.wakes = Gauge(
            "efaas_scheduler_wakes", "Times that waiting pods were woken.", registry=self.registry
        )

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
