"""Where the device's time went, to the nanosecond.

Each nanosecond for which the device was held is either billed to a session, or unbilled for a reason (a
rerun after a fault, dropped speculation, a calibration that nobody caused), or still pending with a job
that is not complete. Sums are integers, so billed + unbilled + pending = busy holds exactly at every
moment.
"""

from __future__ import annotations

from efaas.core.qpu.lifecycle import NS, JobRecord, SessionRecord, to_ns
from efaas.core.qpu.messages import Charge


class DeviceAccounts:
    """Sums of one device, in nanoseconds."""

    def __init__(self) -> None:
        self.shots_ns = 0
        """Time of shots, whatever became of them."""
        self.turn_ns = 0
        """Time lost by turning from one job to another."""
        self.calibrating_ns = 0
        """Time of calibrations."""
        self.billed_ns = 0
        self.unbilled_ns = 0

    @property
    def busy_ns(self) -> int:
        """Time for which the device was held."""
        return self.shots_ns + self.turn_ns + self.calibrating_ns

    def slice_ended(self, job: JobRecord, busy_s: float, turn_s: float) -> None:
        """Book a slice on its job; the cost of turning counts first."""
        busy_ns = to_ns(busy_s)
        turn_ns = min(busy_ns, to_ns(turn_s))
        job.turn_ns += turn_ns
        job.shots_ns += busy_ns - turn_ns
        self.turn_ns += turn_ns
        self.shots_ns += busy_ns - turn_ns

    def bill(self, session: SessionRecord, key: str, ns: int, shots: int, what: str) -> Charge:
        """A charge to a session."""
        self.billed_ns += ns
        session.charged_ns += ns
        session.charged_shots += shots
        return Charge(key, session.name, ns / NS, shots, what)

    def write_off(self, key: str, ns: int, what: str, shots: int = 0) -> Charge:
        """A charge to nobody."""
        self.unbilled_ns += ns
        return Charge(key, None, ns / NS, shots, what)

    def bill_job(self, job: JobRecord, shots: int, suffix: str = "") -> list[Charge]:
        """The charges of a job's present attempt; its sums start anew."""
        charges = []
        if job.shots_ns or shots:
            charges.append(
                self.bill(job.session, f"{job.id}/iteration{suffix}", job.shots_ns, shots, "iteration")
            )
        if job.turn_ns:
            charges.append(
                self.bill(job.session, f"{job.id}/slice-cost{suffix}", job.turn_ns, 0, "slice-cost")
            )
        job.shots_ns = job.turn_ns = 0
        return charges

    def write_off_job(self, job: JobRecord, key: str, what: str, shots: int = 0) -> list[Charge]:
        """Book a job's present attempt on nobody; its sums start anew."""
        ns = job.shots_ns + job.turn_ns
        job.shots_ns = job.turn_ns = 0
        return [self.write_off(key, ns, what, shots)] if ns else []
