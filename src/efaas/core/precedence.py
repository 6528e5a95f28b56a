"""Who of several tenants gets a session slot next when there are too few.

A cluster scheduler takes waiting pods one by one, oldest first, so a tenant that comes early with many pods
would take every slot as it falls free. Precedence holds a pod back while a pod of a tenant that was served
less could use the same slot and slots are short:

- A tenant's **share** is the larger of its shares of CPU and of session slots, counting what it holds now and
  what it used in the past, decayed; divided by its weight (the dominant share of `efaas.core.fairness`).
- A pod is **ahead** of another if its tenant's share is lower; equal shares hold nobody back, so two tenants
  never wait for each other.
- A slot is **contested** if the pods ahead that fit it need all the free slots that they could use: then the
  one in question leaves it. While slots are plenty nobody is held back.

How long a pod may be held back at most is the caller's affair: what is ahead may be kept from the slot by
something that is not seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from efaas.core.fairness import dominant_share


@dataclass(frozen=True, slots=True)
class Standing:
    """What a tenant has of the two resources: holdings now and decayed past use, in one unit each."""

    cpus: float = 0.0
    slots: float = 0.0
    weight: float = 1.0

    def share(self, cpus: float, slots: float) -> float:
        """Dominant share ÷ weight, of a capacity of so many CPUs and slots."""
        capacity = (max(cpus, 1e-9), max(slots, 1e-9))
        return dominant_share((self.cpus, self.slots), capacity) / self.weight


@dataclass(frozen=True, slots=True)
class Waiting:
    """Pods of one tenant that wait and ask for the same."""

    tenant: str
    count: int
    fits: npt.NDArray[np.bool_]
    """Devices that are open to them; shape (devices,)."""


def ahead(tenant: str, shares: Mapping[str, float], waiting: Mapping[str, int]) -> list[str]:
    """Tenants with waiting pods that were served less, least served first."""
    own = shares.get(tenant, 0.0)
    less = [
        (share, name)
        for name in waiting
        if name != tenant and waiting[name] > 0 and (share := shares.get(name, 0.0)) < own
    ]
    return [name for _, name in sorted(less)]


def contested(free: npt.NDArray[np.int64], others: Sequence[Waiting]) -> npt.NDArray[np.bool_]:
    """Devices whose free slots are all wanted by those ahead.

    Args:
        free: free slots of each device; shape (devices,).
        others: pods ahead.

    Returns:
        Whether a device is to be left to them; shape (devices,).
    """
    taken = np.zeros(len(free), dtype=np.bool_)
    union = np.zeros(len(free), dtype=np.bool_)
    total = 0
    for each in others:
        if each.count and each.fits.any():
            union |= each.fits
            total += each.count
            if each.count >= free[each.fits].sum():
                taken |= each.fits
    if total and total >= free[union].sum():
        taken |= union
    return taken


def overuse(tenant: str, shares: Mapping[str, float], active: Sequence[str]) -> float:
    """By how much a tenant's share exceeds an equal one of all active tenants' shares; 0 if it does not.

    Shares are already divided by weights, so an equal part of their sum is what each deserves.
    """
    names = {*active, tenant}
    total = sum(shares.get(name, 0.0) for name in names)
    if total <= 0:
        return 0.0
    return max(0.0, shares.get(tenant, 0.0) * len(names) / total - 1.0)
