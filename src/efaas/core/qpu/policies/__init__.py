"""Policies: who runs next on a device. One module each, one interface (`base.Policy`)."""

from __future__ import annotations

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.policies.base import Policy
from efaas.core.qpu.policies.efaas import DualResourceFairQueue
from efaas.core.qpu.policies.pf import PureFunctions
from efaas.core.qpu.policies.pq import PilotQueue
from efaas.core.qpu.policies.sbq import StatelessBatchQueue
from efaas.core.qpu.policies.session_fifo import SessionFifo
from efaas.core.qpu.policies.sr import StaticReservation

_POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        DualResourceFairQueue,
        StatelessBatchQueue,
        PureFunctions,
        StaticReservation,
        PilotQueue,
        SessionFifo,
    )
}


def make_policy(config: QpuConfig, calibration: CalibrationClock) -> Policy:
    """The policy that the settings name."""
    return _POLICIES[config.policy](config, calibration)


__all__ = ["Policy", "make_policy"]
