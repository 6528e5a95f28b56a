"""The accounts of tenants within one run: each queue hears what its tenants used on the other devices.

In a cluster the gateway does this. Here the supervisor knows as much: servers tell what they charged
(`efaas.local.monitor`), runners tell their CPU time. So that a run depends on nothing more, each server gets
its accounts as a file, replaced as a whole every second (`EFAAS_ACCOUNTS_FILE`), and goes on with the last
one.

A device's account of elsewhere decays with that device's half-life on that device's clock, like the use that
its own queue counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from efaas.accounts.message import ACCOUNTS_EVERY_S
from efaas.api.quantities import seconds
from efaas.core.fairness import UsageLedger
from efaas.local.folder import RunFolder
from efaas.local.intake import Plan
from efaas.local.progress import RunRecord

ACCOUNTS_FILE = "accounts.json"
"""In a device's folder."""


class TenantAccounts:
    """Keeps and tells the accounts of a run.

    Args:
        folder: of the run.
        record: what servers and runners told so far.
        half_lives_s: of each device's queue, device seconds.
    """

    def __init__(self, folder: RunFolder, record: RunRecord, half_lives_s: Mapping[str, float]) -> None:
        self._folder = folder
        self._record = record
        # What each device's tenants used on all other devices.
        self._elsewhere = {name: UsageLedger(half_life_s) for name, half_life_s in half_lives_s.items()}
        self._charged: dict[tuple[str, str], float] = {}
        self._computed: dict[str, float] = {}
        self._tenants: set[str] = set(record.weights)
        self._told: dict[str, str] = {}

    @classmethod
    def of(cls, folder: RunFolder, record: RunRecord, plan: Plan) -> TenantAccounts:
        """For the devices of a plan."""
        devices = plan.documents.devices
        return cls(folder, record, {device.name: seconds(device.spec.queue.half_life) for device in devices})

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.take()
            self.tell()
            await asyncio.sleep(ACCOUNTS_EVERY_S)

    def take(self) -> None:
        """Count what was charged and computed since the last time."""
        for device in self._record.devices.values():
            for session, qpu_s in device.charged_s.items():
                before_s = self._charged.get((device.name, session), 0.0)
                if qpu_s > before_s:
                    self._charged[device.name, session] = qpu_s
                    self._add(session, device.name, 0.0, qpu_s - before_s)
        for session_record in self._record.sessions.values():
            before_s = self._computed.get(session_record.key, 0.0)
            if session_record.cpu_s > before_s:
                self._computed[session_record.key] = session_record.cpu_s
                self._add(session_record.key, session_record.device, session_record.cpu_s - before_s, 0.0)

    def _add(self, session: str, used_on: str, cpu_s: float, qpu_s: float) -> None:
        tenant = session.partition("/")[0]
        self._tenants.add(tenant)
        for name, ledger in self._elsewhere.items():
            if name != used_on:
                ledger.add(tenant, cpu_s, qpu_s, self._record.devices[name].clock_s)

    def tell(self) -> None:
        """Write each device's file, if it says something new."""
        for name, ledger in self._elsewhere.items():
            now_s = self._record.devices[name].clock_s
            accounts = []
            for tenant in sorted(self._tenants):
                use = ledger.usage(tenant, now_s)
                weight = self._record.weights.get(tenant, 1.0)
                accounts.append({"tenant": tenant, "weight": weight, "cpu_s": use.cpu_s, "qpu_s": use.qpu_s})
            text = json.dumps({"half_life_s": ledger.half_life_s, "accounts": accounts})
            if accounts and self._told.get(name) != text:
                # Replaced as a whole, and not synced: after a crash it is written anew.
                path = self._folder.device(name) / ACCOUNTS_FILE
                beside = path.with_name(f".{ACCOUNTS_FILE}.new")
                beside.write_text(text)
                beside.replace(path)
                self._told[name] = text
