"""Fair shares of two resources: a ledger of decayed use, and the allocations that theory asks for.

**The ledger** counts what each tenant used, CPU seconds and QPU seconds, with a half-life: after h seconds
past use counts half. A tenant's *dominant share* is the larger of its two uses, each divided by the
capacity behind it (Ghodsi et al., NSDI 2011); divided by the tenant's weight it orders tenants, least
served first.

All uses decay by the same factor, so time alone never changes an order. The ledger therefore keeps an order
*key*

    key = log2(dominant share / weight) + t / h        (t: the moment the use is stated for)

which stays as it is until the tenant uses something. Queues can keep it in a heap, and it neither overflows
nor underflows however long the device lives.

**Entry penalty** (as in Kueue's admission fair sharing, KEP-4136): what starts is counted in part before it
is used, A · request with A = 1 - 2^(-period / h). Otherwise a tenant that rested until its use had decayed
could start many things at once at no price. A penalty is recorded under the job's key and taken back
exactly when its use is known.

**The allocations** are the reference for tests and for admission: weighted max-min fairness of one resource
with minimums and maximums, and dominant resource fairness of several, in whole tasks or in fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from efaas.errors import InputError

_NOTHING = -math.inf


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of a tenant, decayed to one moment."""

    cpu_s: float
    qpu_s: float


@dataclass(slots=True)
class _Account:
    """One tenant's use."""

    weight: float = 1.0
    # Use decayed to `at_s`.
    cpu_s: float = 0.0
    qpu_s: float = 0.0
    at_s: float = 0.0
    # Use on other devices, decayed to its own moment; replaced as a whole by each report.
    elsewhere: tuple[float, float, float] = (0.0, 0.0, 0.0)
    reported: bool = False
    # Penalties in force: (cpu_s, qpu_s, moment) by key. Summed anew, never subtracted: no rounding is left
    # behind.
    penalties: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    key: float = _NOTHING


class UsageLedger:
    """Decayed use of tenants.

    Args:
        half_life_s: seconds after which use counts half.
        cpu_capacity: CPUs that CPU seconds are divided by.
        qpu_capacity: devices that QPU seconds are divided by.
        penalty_period_s: period whose use an entry counts in advance.

    Raises:
        InputError: a value is not finite or not above 0.
    """

    def __init__(
        self,
        half_life_s: float,
        *,
        cpu_capacity: float = 1.0,
        qpu_capacity: float = 1.0,
        penalty_period_s: float = 60.0,
    ) -> None:
        for place, value in (
            ("half_life_s", half_life_s),
            ("cpu_capacity", cpu_capacity),
            ("qpu_capacity", qpu_capacity),
            ("penalty_period_s", penalty_period_s),
        ):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{value} must be a finite number above 0", place=place)
        self.half_life_s = half_life_s
        self.penalty_factor = 1.0 - 2.0 ** (-penalty_period_s / half_life_s)
        self._cpu_capacity = cpu_capacity
        self._qpu_capacity = qpu_capacity
        self._accounts: dict[str, _Account] = {}

    def set_weight(self, name: str, weight: float) -> None:
        """Give a tenant its weight; 1 until then.

        Raises:
            InputError: the weight is not finite or not above 0.
        """
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(
                f"the weight {weight} of {name!r} must be a finite number above 0", place="weight"
            )
        account = self._account(name)
        account.weight = weight
        self._rekey(account)

    def add(self, name: str, cpu_s: float, qpu_s: float, now_s: float) -> None:
        """Count use that ended now."""
        account = self._account(name)
        self._bring_to(account, now_s)
        account.cpu_s += cpu_s
        account.qpu_s += qpu_s
        self._rekey(account)

    def enter(self, name: str, key: str, cpu_s: float, qpu_s: float, now_s: float) -> None:
        """Count a part of a request in advance; the same key again replaces what it said before."""
        account = self._account(name)
        self._bring_to(account, now_s)
        account.penalties[key] = (self.penalty_factor * cpu_s, self.penalty_factor * qpu_s, now_s)
        self._rekey(account)

    def leave(self, name: str, key: str) -> None:
        """Take a penalty back; one that is not in force is ignored."""
        account = self._account(name)
        if account.penalties.pop(key, None) is not None:
            self._rekey(account)

    def report(self, name: str, cpu_s: float, qpu_s: float, now_s: float) -> None:
        """Replace what is known of a tenant's use elsewhere."""
        account = self._account(name)
        self._bring_to(account, now_s)
        account.elsewhere = (cpu_s, qpu_s, now_s)
        account.reported = True
        self._rekey(account)

    def usage(self, name: str, now_s: float) -> Usage:
        """Use as counted now: past use, use elsewhere and penalties, all decayed."""
        account = self._accounts.get(name, _Account())
        cpu_s, qpu_s = self._total(account)
        factor = self._decay(now_s - account.at_s)
        return Usage(cpu_s * factor, qpu_s * factor)

    def dominant_share(self, name: str, now_s: float) -> float:
        """The larger of the two uses, each in seconds of its whole capacity, divided by the weight."""
        account = self._accounts.get(name, _Account())
        usage = self.usage(name, now_s)
        return max(usage.cpu_s / self._cpu_capacity, usage.qpu_s / self._qpu_capacity) / account.weight

    def share_with(self, name: str, cpu_s: float, qpu_s: float, now_s: float) -> float:
        """The dominant share that the tenant would have if it had used this much more; nothing is counted."""
        account = self._accounts.get(name, _Account())
        usage = self.usage(name, now_s)
        cpu_share = (usage.cpu_s + cpu_s) / self._cpu_capacity
        return max(cpu_share, (usage.qpu_s + qpu_s) / self._qpu_capacity) / account.weight

    def key(self, name: str) -> float:
        """Order key, least served lowest; -inf for a tenant that used nothing."""
        account = self._accounts.get(name)
        return _NOTHING if account is None else account.key

    def order(self, names: Iterable[str]) -> list[str]:
        """Names by dominant share ÷ weight, least served first, then by name."""
        return sorted(names, key=lambda name: (self.key(name), name))

    def forget(self, name: str) -> None:
        """Drop an account (of a session that ended)."""
        self._accounts.pop(name, None)

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account()
        return account

    def _decay(self, seconds: float) -> float:
        return math.exp2(-seconds / self.half_life_s)

    def _bring_to(self, account: _Account, now_s: float) -> None:
        if now_s > account.at_s:
            factor = math.exp2((account.at_s - now_s) / self.half_life_s)
            account.cpu_s *= factor
            account.qpu_s *= factor
            account.at_s = now_s

    def _total(self, account: _Account) -> tuple[float, float]:
        """Everything counted, decayed to the account's moment."""
        cpu_s, qpu_s = account.cpu_s, account.qpu_s
        other_cpu_s, other_qpu_s, moment_s = account.elsewhere
        if account.reported:
            factor = self._decay(account.at_s - moment_s)
            cpu_s += other_cpu_s * factor
            qpu_s += other_qpu_s * factor
        for penalty_cpu_s, penalty_qpu_s, moment_s in account.penalties.values():
            factor = math.exp2((moment_s - account.at_s) / self.half_life_s)
            cpu_s += penalty_cpu_s * factor
            qpu_s += penalty_qpu_s * factor
        return cpu_s, qpu_s

    def _rekey(self, account: _Account) -> None:
        if account.penalties or account.reported:
            cpu_s, qpu_s = self._total(account)
        else:
            cpu_s, qpu_s = account.cpu_s, account.qpu_s
        cpu_share, qpu_share = cpu_s / self._cpu_capacity, qpu_s / self._qpu_capacity
        share = (cpu_share if cpu_share > qpu_share else qpu_share) / account.weight
        account.key = math.log2(share) + account.at_s / self.half_life_s if share > 0 else _NOTHING


# --- allocations ----------------------------------------------------------------------------------


def max_min_shares(
    capacity: float,
    demands: Mapping[str, float],
    *,
    weights: Mapping[str, float] | None = None,
    minimums: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Weighted max-min fair shares of one resource.

    Everyone gets the same level times its weight, but at least its minimum and at most its demand; nothing
    is left while someone wants more.

    Args:
        capacity: what there is.
        demands: what each wants at most.
        weights: 1 for those not named.
        minimums: 0 for those not named; together at most the capacity, each at most the demand.

    Raises:
        InputError: a negative number, a weight that is not above 0, or minimums that do not fit.
    """
    weights = weights or {}
    minimums = minimums or {}
    weight = {name: _weight(name, weights.get(name, 1.0)) for name in demands}
    least = {name: minimums.get(name, 0.0) for name in demands}
    for name, demand in demands.items():
        if not demand >= 0 or not least[name] >= 0:
            raise InputError(f"{name!r} has a negative demand or minimum", place="demands")
        if least[name] > demand:
            raise InputError(f"the minimum of {name!r} is above its demand {demand}", place="minimums")
    if not capacity >= 0 or sum(least.values()) > capacity * (1 + 1e-12):
        raise InputError(f"the minimums add up to more than the capacity {capacity}", place="minimums")

    def given(level: float) -> dict[str, float]:
        return {name: min(demands[name], max(least[name], level * weight[name])) for name in demands}

    # What is given grows with the level in straight pieces that bend where a minimum is left or a demand
    # reached.
    bends = sorted(
        {0.0, *(least[n] / weight[n] for n in demands)}
        | {demands[n] / weight[n] for n in demands if math.isfinite(demands[n])}
    )
    low = 0.0
    for bend in bends:
        if sum(given(bend).values()) > capacity:
            break
        low = bend
    start = given(low)
    # Levels are compared with the very quotients that made the bends: a level times a weight may miss the
    # demand it came from by a rounding error, and who has all it wants would seem to grow.
    growing = [
        name for name in sorted(demands) if least[name] / weight[name] <= low < demands[name] / weight[name]
    ]
    if growing:
        low += max(0.0, capacity - sum(start.values())) / sum(weight[name] for name in growing)
    return given(low)


def drf_tasks(
    capacity: Sequence[float],
    demands: Mapping[str, Sequence[float]],
    *,
    weights: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Dominant resource fairness in whole tasks (Ghodsi et al., algorithm 1).

    The one with the lowest weighted dominant share starts its next task; who cannot start one is done.

    Args:
        capacity: shape (resources,).
        demands: what one task of each needs, shape (resources,); a task needs something.
        weights: 1 for those not named.

    Returns:
        Number of tasks of each.
    """
    weights = weights or {}
    for name, need in demands.items():
        _weight(name, weights.get(name, 1.0))
        if len(need) != len(capacity) or min(need) < 0 or max(need) <= 0:
            raise InputError(
                f"a task of {name!r} must need something of {len(capacity)} resources", place="demands"
            )
    tasks = dict.fromkeys(demands, 0)
    used = [0.0] * len(capacity)
    able = set(demands)
    while able:
        name = min(
            sorted(able),
            key=lambda n: tasks[n] * dominant_share(demands[n], capacity) / weights.get(n, 1.0),
        )
        after = [u + d for u, d in zip(used, demands[name], strict=True)]
        if all(u <= c * (1 + 1e-12) for u, c in zip(after, capacity, strict=True)):
            used = after
            tasks[name] += 1
        else:
            able.discard(name)
    return tasks


def drf_shares(
    capacity: Sequence[float],
    demands: Mapping[str, Sequence[float]],
    *,
    weights: Mapping[str, float] | None = None,
    maximums: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Dominant resource fairness in fractions, by progressive filling.

    All dominant shares grow together in proportion to the weights; who needs a resource that is used up, or
    has its maximum of tasks, stops.

    Returns:
        Number of tasks of each, as a fraction.
    """
    weights = weights or {}
    maximums = maximums or {}
    names = sorted(demands)
    rate = {  # tasks for each unit of the level
        name: _weight(name, weights.get(name, 1.0)) / dominant_share(demands[name], capacity)
        for name in names
    }
    tasks = dict.fromkeys(names, 0.0)
    left = [float(c) for c in capacity]
    growing = set(names)
    while growing:
        speed = [sum(rate[n] * demands[n][r] for n in growing) for r in range(len(left))]
        steps = [left[r] / speed[r] for r in range(len(left)) if speed[r] > 0]
        steps += [(maximums[n] - tasks[n]) / rate[n] for n in growing if n in maximums]
        step = max(0.0, min(steps))
        for name in growing:
            tasks[name] += rate[name] * step
        left = [max(0.0, rest - pace * step) for rest, pace in zip(left, speed, strict=True)]
        empty = {r for r in range(len(left)) if left[r] <= 1e-12 * capacity[r]}
        growing = {
            name
            for name in growing
            if not any(demands[name][r] > 0 for r in empty)
            and not (name in maximums and tasks[name] >= maximums[name] * (1 - 1e-12))
        }
    return tasks


def dominant_share(use: Sequence[float], capacity: Sequence[float]) -> float:
    """The largest share of any resource."""
    return max(u / c for u, c in zip(use, capacity, strict=True) if c > 0)


def _weight(name: str, weight: float) -> float:
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(f"the weight {weight} of {name!r} must be a finite number above 0", place="weights")
    return weight
