"""What a session has used, and `spec.limits`, which ends it as Expired when it has used too much.

Elapsed time counts while a runner of the session is alive. It is journalled with every record, so a session
that was stopped overnight and resumed does not find its limit used up by the night; a runner that was
killed loses at most the time since its last record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from efaas.api.quantities import seconds

if TYPE_CHECKING:
    from efaas.api.session import Limits as LimitsSpec


@dataclass(slots=True)
class Usage:
    """What a session has used so far."""

    shots: int = 0
    """Charged."""
    qpu_s: float = 0.0
    """Device seconds charged."""
    cpu_s: float = 0.0
    """CPU seconds of the classical side."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`spec.limits` as numbers; None is no limit."""

    duration_s: float | None = None
    """Wall seconds in which a runner was alive."""
    idle_s: float | None = None
    """Wall seconds without a job on its way."""
    shots: int | None = None
    qpu_s: float | None = None
    """Device seconds."""

    @classmethod
    def from_spec(cls, limits: LimitsSpec) -> Limits:
        """The numbers of `spec.limits`."""
        return cls(
            duration_s=None if limits.duration is None else seconds(limits.duration),
            idle_s=None if limits.idle is None else seconds(limits.idle),
            shots=limits.shots,
            qpu_s=None if limits.qpu_time is None else seconds(limits.qpu_time),
        )

    def reached(self, usage: Usage, elapsed_s: float, idle_s: float = 0.0) -> str | None:
        """Which limit is reached, as a sentence; None if none is."""
        if self.duration_s is not None and elapsed_s >= self.duration_s:
            return (
                f"it has run for {elapsed_s:.1f} s, its limit spec.limits.duration is {self.duration_s:g} s"
            )
        if self.idle_s is not None and idle_s >= self.idle_s:
            return f"no job for {idle_s:.1f} s, its limit spec.limits.idle is {self.idle_s:g} s"
        if self.shots is not None and usage.shots >= self.shots:
            return f"{usage.shots} shots are used, its limit spec.limits.shots is {self.shots}"
        if self.qpu_s is not None and usage.qpu_s >= self.qpu_s:
            return (
                f"{usage.qpu_s:.3f} s of device time are used, "
                f"its limit spec.limits.qpuTime is {self.qpu_s:g} s"
            )
        return None
