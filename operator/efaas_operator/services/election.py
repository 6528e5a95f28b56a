"""Which of several replicas works: the one that holds a Lease.

A leader renews every two seconds and stops being one when it could not for two thirds of the lease's
duration, while a standby waits for the whole duration, by its own clock from when it saw the last change:
clocks of two machines are never compared, and the old leader has stopped before a new one begins. A leader
that ends in order gives the Lease back, so its successor need not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from efaas_operator import paths
from efaas_operator.kubernetes import AlreadyExists, ApiError, Document, KubernetesApi, NotFound

_LOG = logging.getLogger(__name__)


class LostLease(Exception):
    """Another one may be the leader now: whatever goes on must end at once."""


class Election:
    """One candidate.

    Args:
        api: the API server; its calls must give up well within the lease's duration.
        namespace: of the Lease.
        name: of the Lease.
        identity: of this process, unlike all others.
        duration_s: a leader that has not renewed for this long is replaced.
        renew_s: between renewals, and between looks of a standby.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, name: str, identity: str, duration_s: float, renew_s: float
    ) -> None:
        self._api = api
        self._collection = paths.lease(namespace)
        self._path = paths.lease(namespace, name)
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed_s = 0.0
        self.looked_s = 0.0
        """Monotonic seconds at which the Lease was last read or written."""

    async def win(self) -> None:
        """Wait until this candidate holds the Lease."""
        while True:
            try:
                if await self._try():
                    _LOG.info("leads", extra={"identity": self.identity})
                    return
            except ApiError as error:
                _LOG.info("lease not looked at", extra={"error": str(error)})
            await asyncio.sleep(self._renew_s)

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            LostLease: it could not be renewed in time, or somebody else has it.
        """
        while True:
            left_s = self._renewed_s + self._duration_s * 2 / 3 - time.monotonic()
            if left_s <= 0:
                raise LostLease("the lease could not be renewed in time")
            try:
                async with asyncio.timeout(left_s):
                    if not await self._try():
                        raise LostLease("somebody else has the lease")
            except (ApiError, TimeoutError) as error:
                _LOG.warning("lease not renewed", extra={"error": str(error)})
                await asyncio.sleep(min(0.5, self._renew_s))
                continue
            await asyncio.sleep(self._renew_s)

    async def give_back(self) -> None:
        """Let the next one begin at once."""
        try:
            async with asyncio.timeout(2):
                lease = await self._api.get(self._path)
                if lease["spec"].get("holderIdentity") == self.identity:
                    lease["spec"]["holderIdentity"] = ""
                    await self._api.replace(self._path, lease)
        except (ApiError, TimeoutError) as error:
            _LOG.info("lease not given back", extra={"error": str(error)})

    async def _try(self) -> bool:
        """Take or renew the Lease if that may be; whether it is held now."""
        asked_s = time.monotonic()
        try:
            lease = await self._api.get(self._path)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            try:
                await self._api.create(self._collection, lease)
            except AlreadyExists:
                return False
            self._renewed_s = self.looked_s = asked_s
            return True
        self.looked_s = time.monotonic()
        spec = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self.identity):
            mark = f"{holder} {spec.get('renewTime')} {spec.get('leaseTransitions')}"
            if mark != self._seen[0]:
                self._seen = (mark, time.monotonic())
            last_s = max(self._duration_s, float(spec.get("leaseDurationSeconds") or 0))
            if time.monotonic() - self._seen[1] < last_s:
                return False
        lease["spec"] = self._spec(spec)
        try:
            # With the version that was read: of two who try, one is refused.
            await self._api.replace(self._path, lease)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self._renewed_s = asked_s
        return True

    def _spec(self, before: Document) -> Document:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        own = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": before.get("acquireTime") if own and before.get("acquireTime") else moment,
            "renewTime": moment,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if own else 1),
        }
