"""Documents from documents: no clock, no network, the same answer for the same arguments."""

from efaas_operator.build.qpu import build_qpu_claim, build_qpu_config, build_qpu_pod, build_qpu_service
from efaas_operator.build.runner import build_assignment, build_runner_pod
from efaas_operator.build.status import build_session_status

__all__ = [
    "build_assignment",
    "build_qpu_claim",
    "build_qpu_config",
    "build_qpu_pod",
    "build_qpu_service",
    "build_runner_pod",
    "build_session_status",
]
