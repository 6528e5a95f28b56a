"""The operator's configuration file, read strictly.

Only the images have no default. A field that is not known, a value out of range and settings that contradict
each other are refused before the process does anything, with the field's path.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from efaas.api.address import Address, host_and_port
from efaas.api.configuration import read_configuration
from efaas.api.meta import Model, Name
from efaas.api.quantities import Duration, seconds
from efaas_operator import settings

_Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[KMGTP]i?)?$", max_length=32)]
_Image = Annotated[str, Field(min_length=1, max_length=512)]
_File = Annotated[str, Field(min_length=1, max_length=4096)]


class Resources(Model):
    """What a container asks for; of memory it also gets no more."""

    cpu: _Quantity = "1"
    """Cores."""
    memory: _Quantity = "1Gi"
    """Memory."""


class Images(Model):
    """What pods run."""

    runner: _Image
    """Image with `efaas[run]`."""
    qpu: _Image
    """Image with `efaas[qpu]`."""


class Gateway(Model):
    """The store that outlives pods."""

    stream: Address
    """HOST:PORT of its writers' stream, as runner pods and the operator reach it."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)] | None = None
    """Its HTTP API; without it the operator shows no progress of sessions."""
    ca_file: _File | None = None
    """Certificates that its own is checked with; its stream is not encrypted without."""


class QpuTls(Model):
    """Certificates of QPU servers."""

    secret: Name
    """Secret in the system's namespace: ``tls.crt`` for ``*.NAMESPACE.svc``, ``tls.key``, ``ca.crt``."""
    ca_file: _File
    """Its ``ca.crt`` as the operator itself reads it; runners are given it too."""


class Election(Model):
    """Which of several replicas works."""

    lease: Name = "efaas-operator"
    """Name of the Lease, in the system's namespace."""
    duration: Duration = timedelta(seconds=10)
    """A leader that has not renewed for this long is replaced."""
    renew: Duration = timedelta(seconds=2)
    """Between renewals, and between looks of a standby."""


class Pace(Model):
    """Bounds on what the operator does a second."""

    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Objects that are reconciled at the same time."""
    status_writes_per_second: Annotated[int, Field(ge=1, le=1000)] = 50
    """Writes of statuses in all."""
    status_interval: Duration = timedelta(seconds=2)
    """Between two writes of one session's status."""
    position_interval: Duration = timedelta(seconds=30)
    """Between two writes of one session's queue position."""
    full_pass: Duration = timedelta(seconds=60)
    """Everything is listed and looked at anew this often, whatever the watches said."""
    repair_interval: Duration = timedelta(seconds=10)
    """Between two looks at what a person can mend: a script that is missing, a pod that was refused."""
    progress_interval: Duration = timedelta(seconds=5)
    """Between two questions to the gateway and the devices about how far sessions are."""


class Configuration(Model):
    """What the operator can be told."""

    images: Images
    """Images of the pods that it makes."""
    system_namespace: Name = "efaas-system"
    """Where QPU pods, the Lease and the ConfigMap with weights are."""
    qpu_service_account: Name = "efaas-qpu"
    """Of QPU pods."""
    runner_service_account: Name = "default"
    """Of runner pods, in each session's namespace."""
    operator_service_account: Name = "efaas-operator"
    """The operator's own, in the system's namespace: QPU servers take its word."""
    runner: Resources = Resources()
    """Of a runner pod."""
    qpu: Resources = Resources(memory="2Gi")
    """Of a QPU pod."""
    qpu_storage: _Quantity = "1Gi"
    """Of the volume with a QPU server's log."""
    attend_devices: bool = True
    """Whether the operator keeps QPU servers and nodes; if not, it reads devices' statuses, as others write
    them, and changes nothing about devices."""
    qpu_tls: QpuTls | None = None
    """Without it the streams to QPU servers are not encrypted."""
    user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 65532
    """User and group of all containers."""
    gateway: Gateway | None = None
    """Without one, journals stay in the pods and a lost node loses a session's past."""
    weights: Name = "efaas-weights"
    """ConfigMap in the system's namespace: a namespace's name to its weight."""
    half_life: Duration = timedelta(minutes=30)
    """After this, past use counts half in a namespace's share."""
    listen: Address = ":8080"
    """HOST:PORT of probes and metrics."""
    qpu_token_file: _File = "/var/run/secrets/efaas/efaas-qpu"
    """Token of the operator for QPU servers."""
    gateway_token_file: _File = "/var/run/secrets/efaas/efaas-gateway"
    """Token of the operator for the gateway."""
    election: Election = Election()
    """Of the replica that works."""
    pace: Pace = Pace()
    """Bounds on its work."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of what is logged."""

    @property
    def host(self) -> str:
        """Host to listen on; empty for all."""
        return host_and_port(self.listen)[0]

    @property
    def port(self) -> int:
        """Port to listen on."""
        return host_and_port(self.listen)[1]

    def settings(self) -> settings.Settings:
        """What the builders need of it."""
        return settings.Settings(
            runner_image=self.images.runner,
            qpu_image=self.images.qpu,
            system_namespace=self.system_namespace,
            qpu_service_account=self.qpu_service_account,
            runner_service_account=self.runner_service_account,
            gateway=self.gateway.stream if self.gateway is not None else "",
            runner=settings.Resources(self.runner.cpu, self.runner.memory),
            qpu=settings.Resources(self.qpu.cpu, self.qpu.memory),
            qpu_storage=self.qpu_storage,
            user=self.user,
            operator_service_account=self.operator_service_account,
            qpu_tls_secret=self.qpu_tls.secret if self.qpu_tls is not None else "",
        )

    @model_validator(mode="after")
    def _consistent(self) -> Configuration:
        if seconds(self.election.renew) <= 0 or 3 * self.election.renew > self.election.duration:
            raise ValueError("election.renew: must be above 0 and at most a third of election.duration")
        for name in ("full_pass", "progress_interval", "position_interval", "repair_interval"):
            if getattr(self.pace, name) < timedelta(seconds=1):
                raise ValueError(f"pace.{name}: must be at least 1s")
        if self.half_life <= timedelta(0):
            raise ValueError("half_life: must be above 0")
        return self


def load_configuration(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        ManifestError: the file cannot be read, is not YAML, or holds something that is not understood.
    """
    return read_configuration(Configuration, path)
