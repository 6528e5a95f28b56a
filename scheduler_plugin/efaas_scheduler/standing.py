"""Who holds and who used how much: the tenants' shares that precedence goes by.

A tenant (a namespace) holds the slots and CPUs of its placed pods, those on their way included; its past use
comes from the gateway's accounts once it has told any, and from the statuses of its sessions until then or
without one, and decays with a half-life. Past use is brought to the unit of holdings: holding one slot for
ever makes a decayed use of half-life ÷ ln 2 seconds, so use is divided by that.

While the gateway is away the last accounts hold and decay on; only what was used since is missing in them.
Statuses are not added to accounts, which know of the same use.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from efaas.accounts.message import Accounts, TenantAccount
from efaas.core.fairness import UsageLedger
from efaas.core.precedence import Standing

_REFRESH_S = 5.0
"""How long decayed shares are good for: much less than any half-life worth setting."""


class Standings:
    """Shares of tenants.

    Args:
        half_life_s: wall time after which past use counts half.
        weights: by tenant; 1 for those not named.
    """

    def __init__(self, half_life_s: float, weights: Mapping[str, float]) -> None:
        self._unit_s = half_life_s / math.log(2)
        self._ledger = UsageLedger(half_life_s)
        self._weights = weights
        self._held: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._counted: dict[str, tuple[float, float]] = {}
        self._capacity = (0.0, 0.0)
        self._shares: dict[str, float] = {}
        self._refreshed_s = -math.inf
        # What the gateway told: the accounts and the moment; replaced as a whole.
        self._told: Accounts | None = None
        self._told_s = 0.0

    def hear(self, accounts: Accounts, now_s: float) -> None:
        """Take the gateway's accounts in place of what statuses say; a weight in the configuration stays."""
        self._told, self._told_s = accounts, now_s
        self._shares.clear()

    def hold(self, tenant: str, cpus: float, slots: int) -> None:
        """Count what a pod holds; negative numbers give it back."""
        held = self._held[tenant]
        held[0] += cpus
        held[1] += slots
        if held[1] <= 0 and held[0] <= 1e-9:
            del self._held[tenant]
        self._shares.pop(tenant, None)

    def set_capacity(self, cpus: float, slots: float) -> None:
        """CPUs of all QPU nodes and slots of all devices."""
        if (cpus, slots) != self._capacity:
            self._capacity = (cpus, slots)
            self._shares.clear()

    def count_use(
        self,
        session: str,
        tenant: str,
        cpu_s: float,
        qpu_s: float,
        now_s: float,
        ended_s: float | None = None,
    ) -> None:
        """Take a session's use so far; what was counted before is not counted again.

        The use of a session that is first seen long after its end has decayed since then.
        """
        cpu_before_s, qpu_before_s = self._counted.get(session, (0.0, 0.0))
        more_cpu_s, more_qpu_s = max(0.0, cpu_s - cpu_before_s), max(0.0, qpu_s - qpu_before_s)
        self._counted[session] = (max(cpu_s, cpu_before_s), max(qpu_s, qpu_before_s))
        if more_cpu_s or more_qpu_s:
            rest = 1.0 if ended_s is None else math.exp2(min(0.0, ended_s - now_s) / self._ledger.half_life_s)
            self._ledger.add(tenant, more_cpu_s * rest, more_qpu_s * rest, now_s)
            self._shares.pop(tenant, None)

    def forget(self, session: str) -> None:
        """A session is gone; its use stays with its tenant."""
        self._counted.pop(session, None)

    def share(self, tenant: str, now_s: float) -> float:
        """Dominant share ÷ weight."""
        if now_s - self._refreshed_s > _REFRESH_S:
            self._shares.clear()
            self._refreshed_s = now_s
        share = self._shares.get(tenant)
        if share is None:
            share = self._shares[tenant] = self.standing(tenant, now_s).share(*self._capacity)
        return share

    def standing(self, tenant: str, now_s: float) -> Standing:
        """What a tenant holds and used."""
        held = self._held.get(tenant, (0.0, 0.0))
        weight = self._weights.get(tenant, 1.0)
        if self._told is None:
            used = self._ledger.usage(tenant, now_s)
            cpu_s, qpu_s, unit_s = used.cpu_s, used.qpu_s, self._unit_s
        else:
            account = self._told.tenants.get(tenant) or TenantAccount(tenant=tenant)
            rest = math.exp2(min(0.0, self._told_s - now_s) / self._told.half_life_s)
            cpu_s, qpu_s = account.cpu_s * rest, account.qpu_s * rest
            unit_s = self._told.half_life_s / math.log(2)
            weight = self._weights.get(tenant, account.weight)
        return Standing(cpus=held[0] + cpu_s / unit_s, slots=held[1] + qpu_s / unit_s, weight=weight)

    def holding(self) -> list[str]:
        """Tenants that hold something."""
        return list(self._held)
