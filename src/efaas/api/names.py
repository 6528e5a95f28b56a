"""Names that the parts agree on in a cluster: the operator writes them, the scheduler reads them.

They are part of the API as much as the fields of VQASession and QPUDevice are: a name never changes its
meaning within a version of the API.
"""

from __future__ import annotations

from typing import Final

from efaas.api.meta import GROUP

SESSION_RESOURCE: Final = f"{GROUP}/session"
"""Extended resource of a QPU node: one unit is one session slot. A runner pod asks for one."""

SCHEDULER_NAME: Final = "efaas-scheduler"
"""``schedulerName`` of runner pods."""

QPU_LABEL: Final = f"{GROUP}/qpu"
"""Label of a node that may hold a QPU pod, and key of the taint that keeps other pods off it."""

DEVICE_LABEL: Final = f"{GROUP}/device"
"""Label that every device carries by itself; its value is the device's name."""

SESSION_NAME_ANNOTATION: Final = f"{GROUP}/session-name"
"""On a runner pod: name of its VQASession, which is in the pod's namespace."""

CALIBRATION_EPOCH_ANNOTATION: Final = f"{GROUP}/calibration-epoch"
"""On a QPU node: what the scheduler must look at anew. Written whenever a device's state, slots or
calibration change in a way that can let a waiting pod in: kube-scheduler wakes pods by changes of Nodes,
never of QPUDevices."""

ADMISSION_GATE: Final = f"{GROUP}/admission"
"""Scheduling gate that holds a runner pod until it is its turn."""

WEIGHT_LABEL: Final = f"{GROUP}/weight"
"""On a Namespace: its weight among all in the order of admission, a whole number from 1 to 1000."""
