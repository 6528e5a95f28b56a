"""PF, pure functions: SBQ, and each iteration waits for a container to start first; the session is forgotten.

The start takes between the two values of `cold_start_s`, evenly spread, drawn from the job's id: the same
in every run. It does not hold the device. Batch jobs need no container of ours.
"""

# ruff: noqa: D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from efaas.core.identity import digest
from efaas.core.qpu.lifecycle import JobRecord
from efaas.core.qpu.messages import JobKind
from efaas.core.qpu.policies.sbq import StatelessBatchQueue


class PureFunctions(StatelessBatchQueue):
    """PF."""

    name = "pf"

    def ready_s(self, job: JobRecord, now_s: float) -> float:
        if job.kind is not JobKind.LOOP:
            return now_s
        least, most = self.config.cold_start_s
        part = int(digest("cold start", job.session.name, job.id)[:13], 16) / 16**13
        return now_s + least + (most - least) * part
