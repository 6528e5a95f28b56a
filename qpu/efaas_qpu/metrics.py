"""What Prometheus sees of a QPU server; `docs/metrics.md` describes each one, and a test keeps the two equal.

Every server has its own registry, so that several can live in one process (tests). Device seconds are those
of the simulated device's clock.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SERVER_S = (0.0005, *_SHORT_S)


class Metrics:
    """All metrics of one server.

    Args:
        registry: where they are registered; a new one if not given.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"efaas_qpu_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"efaas_qpu_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"efaas_qpu_{name}", text, labels, registry=self.registry, buckets=_SERVER_S)

        self.jobs = counter("jobs_total", "Jobs that ended, by kind and outcome.", ("kind", "outcome"))
        self.results_returned_again = counter(
            "results_returned_again_total", "Submits that were answered with a kept result, without a run."
        )
        self.shots = counter("shots_total", "Shots of completed jobs.")
        self.busy = counter("busy_device_seconds_total", "Device seconds that shots held the device.")
        self.calibrating = counter(
            "calibrating_device_seconds_total", "Device seconds that calibrations held the device."
        )
        self.calibrations = counter("calibrations_total", "Calibrations that ended, by scope.", ("scope",))
        self.duty_cycle = gauge(
            "duty_cycle_ratio", "Device seconds of shots over the device time since the first job (QDC)."
        )
        self.calibration_epoch = gauge("calibration_epoch", "Number of the last calibration.")
        self.calibration_age = gauge("calibration_age_device_seconds", "Age of the last calibration.")
        self.queue_depth = gauge("queue_depth", "Jobs without a result that do not hold the device.")
        self.sessions = gauge("sessions", "Sessions that are open.")
        self.streams = gauge("streams", "Streams that are connected.")
        self.stream_errors = counter(
            "stream_errors_total", "Errors sent to clients, by code of the protocol.", ("code",)
        )
        self.queue_wait = histogram(
            "queue_wait_device_seconds",
            "Part of the time to next shot: device seconds from arrival to start, without calibration.",
        )
        self.calibration_wait = histogram(
            "calibration_wait_device_seconds",
            "Part of the time to next shot: device seconds that a job waited for a calibration it needed.",
        )
        self.start_wait = histogram(
            "start_wait_seconds",
            "Part of the time to next shot: wall seconds from arrival to start, calibration included.",
        )
        self.server_time = histogram(
            "server_seconds", "Wall seconds from the arrival of a submit to the sending of its result."
        )
        self.parse_time = histogram(
            "parse_seconds", "Wall seconds of a job that Aer spent reading circuits and noise."
        )
        self.simulate_time = histogram("simulate_seconds", "Wall seconds of a job that Aer spent simulating.")
        self.prepare_time = histogram(
            "prepare_seconds", "Wall seconds to read, transpile and prepare a circuit."
        )
        self.starts = counter(
            "circuit_starts_total", "Registrations and jobs by whether their circuit was ready.", ("start",)
        )
        self.start_seconds = counter(
            "circuit_start_seconds_total",
            "Wall seconds to make circuits ready while a session waited; warm ones for moved noise.",
            ("start",),
        )
        self.prepared_ahead = counter(
            "circuits_prepared_ahead_total", "Circuits prepared in the background after a full calibration."
        )
        self.late_jobs = counter(
            "late_jobs_total", "Jobs whose simulation took longer than the device time it stands for."
        )
        self.worker_failures = counter(
            "worker_failures_total", "Times that the Aer worker died or hung and was started anew.", ("how",)
        )
        self.kept_results = gauge("kept_results", "Results kept for another submit of the same job.")
        self.kept_bytes = gauge("kept_result_bytes", "Bytes of the kept results.")
        self.log_compactions = counter("log_compactions_total", "Times that the log was written anew.")
