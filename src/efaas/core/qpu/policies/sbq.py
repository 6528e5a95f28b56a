"""SBQ, the stateless batch queue: every iteration is a new job at the tail of one line.

Nothing is known of sessions. A job that finds the device's calibration older than τ pays a full one.
"""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from efaas.core.qpu.lifecycle import JobRecord
from efaas.core.qpu.policies.fifo import Fifo


class StatelessBatchQueue(Fifo):
    """SBQ."""

    name = "sbq"

    def calibration_limit_s(self, job: JobRecord) -> float:
        return self.config.tau_s
