"""The extender's configuration file, read strictly.

Everything has a default, so an empty file is a configuration. A field that is not known, a value out of range
and settings that contradict each other are refused before the process listens, with the field's path.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from efaas.api.address import Address, host_and_port
from efaas.api.configuration import read_configuration
from efaas.api.meta import Model
from efaas.api.names import SCHEDULER_NAME
from efaas.api.quantities import Duration


class Tls(Model):
    """Files of the server's certificate."""

    cert_file: Annotated[str, Field(min_length=1)]
    """Certificate chain, PEM."""
    key_file: Annotated[str, Field(min_length=1)]
    """Private key, PEM."""
    client_ca_file: Annotated[str, Field(min_length=1)] | None = None
    """Certificates that clients' own are checked with; clients need none if not given."""


class Limits(Model):
    """Bounds on what is taken from outside."""

    request_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 64 << 20
    """Largest request; full nodes of a large cluster take some tens of MiB."""
    request_time: Duration = timedelta(seconds=5)
    """Longest time for a request to arrive."""
    idle_time: Duration = timedelta(seconds=120)
    """How long a connection may be idle."""


class Gateway(Model):
    """Where the accounts of tenants come from."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]
    """The gateway's HTTP API."""
    token_file: Annotated[str, Field(min_length=1)] = "/var/run/secrets/efaas/efaas-gateway"
    """Token with the audience ``efaas-gateway``."""
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    """Certificates that the gateway's own is checked with; the system's without."""
    server_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Name that its certificate must have, if not the one in the address."""


class Configuration(Model):
    """What the extender can be told."""

    listen: Address = "127.0.0.1:8888"
    """HOST:PORT for kube-scheduler, people, probes and metrics."""
    metrics_listen: Address | None = None
    """HOST:PORT for those who come from elsewhere: metrics and probes, nothing else; without TLS."""
    tls: Tls | None = None
    """Needed where kube-scheduler is not in the same pod."""
    scheduler_name: Annotated[str, Field(min_length=1, max_length=253)] = SCHEDULER_NAME
    """``schedulerName`` of the pods that are looked at."""
    staleness_limit: Duration = timedelta(seconds=60)
    """Without contact to the API server for longer than this, no pod is placed."""
    relist_interval: Duration = timedelta(minutes=10)
    """Everything is read anew this often, whatever the watches said."""
    prediction_time: Duration = timedelta(seconds=10)
    """How long a pod that was sent to a node counts there before the API server confirms it."""
    hold_limit: Duration = timedelta(seconds=15)
    """How long a free slot is kept for a pod of a tenant that was served less without one taking it."""
    nodes_to_rank: Annotated[int, Field(ge=2, le=10_000)] | Literal[0] = 11
    """Of more than 100 open nodes so many, the best, are answered and ranked; 0: all of them."""
    calibration_patience: Duration = timedelta(minutes=30)
    """A stale device that cannot be fresh within this is refused."""
    half_life: Duration = timedelta(minutes=30)
    """Time after which past use counts half in a tenant's share."""
    recheck_interval: Duration = timedelta(seconds=60)
    """Refused pods are tried again at least this often."""
    weights: Annotated[dict[str, Annotated[int, Field(ge=1, le=1000)]], Field(max_length=10_000)] = Field(
        default_factory=dict
    )
    """Share of a namespace among all; 1 for those not named."""
    gateway: Gateway | None = None
    """Tells what tenants used on all devices, and their weights; statuses of sessions go without."""
    limits: Limits = Field(default_factory=Limits)
    """Bounds on requests."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of what is logged."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on; an empty host is all of them."""
        return host_and_port(self.listen)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the page for those from elsewhere."""
        return None if self.metrics_listen is None else host_and_port(self.metrics_listen)

    @model_validator(mode="after")
    def _consistent(self) -> Configuration:
        local = self.address[0] in ("127.0.0.1", "::1", "localhost")
        if self.tls is None and not local:
            raise ValueError("listen: without tls only 127.0.0.1 is served; set tls or listen there")
        for name in (
            "staleness_limit",
            "relist_interval",
            "prediction_time",
            "half_life",
            "recheck_interval",
        ):
            if getattr(self, name) <= timedelta(0):
                raise ValueError(f"{name}: must be above 0")
        if self.staleness_limit < timedelta(seconds=3):
            raise ValueError("staleness_limit: must be at least 3s; a quiet watch is heard of once a second")
        return self


def load_configuration(path: Path | None) -> Configuration:
    """Read a configuration file; the defaults without one.

    Raises:
        ManifestError: the file cannot be read, is not YAML, or holds something that is not understood.
    """
    return Configuration() if path is None else read_configuration(Configuration, path)
