"""What Prometheus is told of the operator; `docs/metrics.md` is its page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SHORT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_LONG_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("efaas_operator_sessions", "Sessions by state.", ("state",), registry=registry)
        self.admission_wait = Histogram(
            "efaas_operator_admission_wait_seconds",
            "Wall seconds from a session's creation to its first admission.",
            buckets=_LONG_S,
            registry=registry,
        )
        self.reconciling = Histogram(
            "efaas_operator_reconcile_seconds",
            "Wall seconds of one look at an object, writes included.",
            ("kind",),
            buckets=_SHORT_S,
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "efaas_operator_reconcile_errors_total",
            "Looks at an object that failed and are tried again.",
            ("kind",),
            registry=registry,
        )
        self.waiting_keys = Gauge(
            "efaas_operator_queue_depth", "Objects that wait for a look.", ("kind",), registry=registry
        )
        self.calls = Counter(
            "efaas_operator_api_calls_total",
            "Answers of the API server by verb and code; code 0: none came.",
            ("verb", "code"),
            registry=registry,
        )
        self.call_seconds = Histogram(
            "efaas_operator_api_call_seconds",
            "Wall seconds of one call, repetitions apart.",
            ("verb",),
            buckets=_SHORT_S,
            registry=registry,
        )
        self.watch_events = Counter(
            "efaas_operator_watch_events_total", "Objects told by watches.", ("kind",), registry=registry
        )
        self.repaired = Counter(
            "efaas_operator_repaired_total",
            "Differences that the periodic pass found and no watch had told.",
            ("kind",),
            registry=registry,
        )
        self.objects = Gauge("efaas_operator_objects", "Objects known by kind.", ("kind",), registry=registry)
        self.leader = Gauge(
            "efaas_operator_leader", "1 while this replica is the one that works.", registry=registry
        )
        self.usage = Gauge(
            "efaas_operator_usage_seconds",
            "Use by namespace, decayed: core seconds and QPU seconds.",
            ("namespace", "resource"),
            registry=registry,
        )
        self.share = Gauge(
            "efaas_operator_dominant_share_seconds",
            "What the order of admission comes from, by namespace: dominant share by weight.",
            ("namespace",),
            registry=registry,
        )
        self.ttns = Histogram(
            "efaas_operator_session_ttns_seconds",
            "Median time to next shot of sessions that ended, as their runners measured it.",
            buckets=_SHORT_S,
            registry=registry,
        )
        self.duty_cycle = Gauge(
            "efaas_operator_device_duty_cycle_ratio",
            "Share of device time spent on shots (QDC), as each device reports it.",
            ("device",),
            registry=registry,
        )
        self.freshness = Gauge(
            "efaas_operator_device_calibration_age_seconds",
            "Age of each device's calibration in device seconds.",
            ("device",),
            registry=registry,
        )

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
