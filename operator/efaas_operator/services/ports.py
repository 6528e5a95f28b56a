"""What services ask of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from efaas.core.admission import Waiting
from efaas_operator.work import WorkQueue


@dataclass(frozen=True, slots=True)
class Charged:
    """What the QPU servers have charged a session for, over all devices."""

    shots: int = 0
    qpu_s: float = 0.0
    """Device seconds."""
    last_job_s: float = 0.0
    """Wall seconds since 1970 of its last job; 0: none yet."""


class DeviceService(Protocol):
    """Keeps QPU pods, nodes and devices' statuses; reaches QPU servers.

    `reconcile` is the work queue's: called with a QPUDevice's name whenever that device, its pod, its node or
    (with every device) a node labelled for QPUs changed, and in every full pass.
    """

    async def reconcile(self, name: str) -> float | None:
        """Bring one device to what its specification says; returns after how many seconds to look again."""
        ...

    async def run(self) -> None:
        """Whatever goes on all the time (questions to QPU servers); until cancelled."""
        ...

    async def fence(self, session: str, lease_epoch: int, device: str) -> bool:
        """Have every device that the session may have reached refuse this epoch and all before it.

        Args:
            session: ``namespace/name``.
            lease_epoch: of the runner that nobody shall listen to any more.
            device: where the session was placed; empty if nowhere.

        Returns:
            Whether all of them do now. A device whose server is not there counts as one that does if its own
            pod is gone for certain: a new server reads `status.runner` before it takes anybody.
        """
        ...

    async def close_session(self, session: str) -> bool:
        """Take a session's jobs off all devices' queues; whether all have said so (or are gone)."""
        ...

    def charged(self, session: str) -> Charged | None:
        """What is charged for a session so far, as last heard; None before anything was heard."""
        ...

    def targets(self, device: str) -> list[dict[str, str]]:
        """What ``EFAAS_QPUS`` holds for a session placed on `device`, that device first.

        Each has ``device`` and ``endpoint`` and, where known, ``twins``, ``caFile`` and ``serverName``.
        """
        ...

    def leaving(self) -> Mapping[str, str]:
        """Devices that sessions are to leave (drain), with the reason in words."""
        ...

    def attach(self, queue: WorkQueue, sessions: WorkQueue) -> None:
        """Take the queue of device names and the queue of session keys, to add to both."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is."""

    iterations: int = 0
    best: float | None = None
    """Lowest energy found."""
    ttns_p50_s: float | None = None
    """Median time to next shot, wall seconds."""


class ProgressSource(Protocol):
    """Knows how far sessions are."""

    def known(self, session: str) -> Progress | None:
        """As last heard; None before anything was heard."""
        ...

    def forget(self, session: str) -> None:
        """The session is gone."""
        ...

    async def charged(self, session: str, since_s: float) -> Charged | None:
        """What devices booked for a session since then, silent ones too; None if that is not known."""
        ...

    async def run(self) -> None:
        """Whatever goes on all the time; until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a session's status shows beside what its machine says."""

    progress: Progress | None = None
    charged: Charged | None = None
    cpu_s: float = 0.0
    """Requested cores times the time for which they were held."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What its runner left, as `efaas_operator.reading.result_of` reads it."""
    waiting: Waiting | None = None
    """What admission told it."""
