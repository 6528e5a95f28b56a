"""What each tenant used lately on all devices, for every queue to add to its own newer use.

Use is counted with the half-life of the fair queues (`efaas.core.fairness.UsageLedger`) in wall seconds: the
devices' clocks run apart, the gateway's does not. After a restart it is summed anew from the usage that is in
the store; what is older than twenty half-lives weighs less than a millionth and is left out.

A queue needs what its tenants used *elsewhere*, because its own use it knows better and sooner. So use is
kept for each device as well, and the answer to a device names both. A queue goes on with the last answer
while the gateway is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from efaas.core.fairness import UsageLedger
from efaas_gateway.store.derive import Charge
from efaas_gateway.store.tables import tenants, usage

HALF_LIFE_S = 600.0
"""As in `efaas.api.device.Queue.half_life`."""

_REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's use, decayed to one moment."""

    tenant: str
    weight: float
    cpu_s: float
    qpu_s: float
    elsewhere_cpu_s: float
    elsewhere_qpu_s: float


class Accounts:
    """The accounts of all tenants.

    Args:
        half_life_s: wall seconds after which use counts half.
        clock: seconds since 1970.
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S, clock: Callable[[], float] = time.time) -> None:
        self.half_life_s = half_life_s
        self._clock = clock
        # The ledger counts from a moment near by: its keys are sums of a time and a logarithm.
        self._origin_s = clock()
        self._everywhere = UsageLedger(half_life_s)
        self._on_device: dict[str, UsageLedger] = {}
        self._weights: dict[str, float] = {}
        self._tenants: set[str] = set()

    def load(self, connection: Connection) -> None:
        """Take weights and recent usage from the store, in place of what was known."""
        self._everywhere = UsageLedger(self.half_life_s)
        self._on_device = {}
        for name, weight in connection.execute(select(tenants.c.name, tenants.c.weight)):
            self.set_weight(name, weight)
        oldest = self._clock() - _REMEMBERED * self.half_life_s
        rows = connection.execute(
            select(usage.c.tenant, usage.c.session, usage.c.device, usage.c.cpu_s, usage.c.qpu_s, usage.c.at)
            .where(usage.c.at > oldest)
            .order_by(usage.c.at)
        )
        for tenant, session, device, cpu_s, qpu_s, at in rows:
            if tenant:
                self._add(Charge(tenant, session, device, cpu_s, qpu_s), at - self._origin_s)

    def add(self, charges: Iterable[Charge]) -> None:
        """Count use that was charged now."""
        now_s = self._now_s()
        for charge in charges:
            self._add(charge, now_s)

    def set_weight(self, tenant: str, weight: float) -> None:
        """Give a tenant its weight."""
        self._tenants.add(tenant)
        self._weights[tenant] = weight
        self._everywhere.set_weight(tenant, weight)

    def all(self, device: str = "") -> list[Account]:
        """Every tenant's account now, by name.

        Args:
            device: whose own reports are left out of ``elsewhere``.
        """
        now_s = self._now_s()
        own = self._on_device.get(device)
        accounts = []
        for tenant in sorted(self._tenants):
            total = self._everywhere.usage(tenant, now_s)
            here = own.usage(tenant, now_s) if own is not None else None
            accounts.append(
                Account(
                    tenant,
                    self._weights.get(tenant, 1.0),
                    total.cpu_s,
                    total.qpu_s,
                    max(0.0, total.cpu_s - (here.cpu_s if here else 0.0)),
                    max(0.0, total.qpu_s - (here.qpu_s if here else 0.0)),
                )
            )
        return accounts

    def shares(self) -> dict[str, float]:
        """Dominant share of each tenant divided by its weight, decayed to now."""
        now_s = self._now_s()
        return {name: self._everywhere.dominant_share(name, now_s) for name in sorted(self._tenants)}

    def _now_s(self) -> float:
        return self._clock() - self._origin_s

    def _add(self, charge: Charge, now_s: float) -> None:
        self._tenants.add(charge.tenant)
        self._everywhere.add(charge.tenant, charge.cpu_s, charge.qpu_s, now_s)
        if charge.device:
            ledger = self._on_device.get(charge.device)
            if ledger is None:
                ledger = self._on_device[charge.device] = UsageLedger(self.half_life_s)
            ledger.add(charge.tenant, charge.cpu_s, charge.qpu_s, now_s)
