"""Writes sessions' statuses: only what changed, and no faster than agreed.

A change is worth more or less haste: where a session is in its life is written after two seconds at most
(as long as all writes together stay below their rate), progress after a few, a place in the queue or a
growing use after half a minute. What something waits for (the record before a runner is made, the runner's
name before it is told anything) is written at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from efaas.api.quantities import seconds
from efaas.core.session import SessionState
from efaas.errors import InputError
from efaas_operator import paths
from efaas_operator.build.figures import build_session_figures
from efaas_operator.build.status import build_session_status
from efaas_operator.configuration import Pace
from efaas_operator.keeping import Kept, kept_from_text, kept_to_text
from efaas_operator.kubernetes import Document, KubernetesApi, NotFound
from efaas_operator.pace import WritePace
from efaas_operator.reading import epoch_of
from efaas_operator.services.ports import Known
from efaas_operator.world import World

_UNHURRIED = frozenset({"usage", "queue", "reason", "conditions", "record"})
"""Fields whose change alone can wait long, as long as no word in them changed."""


class Statuses:
    """Statuses of sessions.

    Args:
        api: the API server.
        world: what is known; answers go there at once.
        pace: bounds.
        location: URL that results are told to be at; empty for none.
    """

    def __init__(self, api: KubernetesApi, world: World, pace: Pace, location: str = "") -> None:
        self._api = api
        self._world = world
        self._pace = WritePace(pace.status_writes_per_second, seconds(pace.status_interval))
        self._progress_s = seconds(pace.progress_interval)
        self._slow_s = seconds(pace.position_interval)
        self._location = location

    def holds_record(self, session: Mapping[str, Any], kept: Kept) -> bool:
        """Whether the present epoch is written down."""
        text = (session.get("status") or {}).get("record", "")
        if not text:
            return False
        try:
            written = kept_from_text(text).record
        except InputError:
            return False
        return written.epoch == kept.record.epoch and (written.runner is None) == (kept.record.runner is None)

    def names_runner(self, session: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
        """Whether the status names this pod as the runner."""
        runner = (session.get("status") or {}).get("runner") or {}
        return runner.get("uid") == pod["metadata"]["uid"] and runner.get("leaseEpoch") == epoch_of(pod)

    async def write(
        self,
        session: Mapping[str, Any],
        kept: Kept,
        pod: Mapping[str, Any] | None,
        known: Known,
        now_s: float,
        *,
        urgent: bool,
    ) -> float | None:
        """Write what changed, if it is time; returns for how long it is not, None if nothing is left.

        Args:
            session: the VQASession as it is known.
            kept: what is kept of it.
            pod: of its present runner.
            known: figures.
            now_s: wall seconds.
            urgent: something depends on it: write now.
        """
        previous = session.get("status") or {}
        wanted = self._wanted(session, kept, pod, known, now_s)
        change = difference(previous, wanted)
        if not change:
            return None
        metadata = session["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        moment_s = time.monotonic()
        if not urgent:
            wait_s = self._pace.wait_s(key, moment_s, self._haste_s(previous, wanted, change))
            if wait_s > 0:
                return wait_s
        try:
            stored = await self._api.patch(
                paths.session(metadata["namespace"], metadata["name"]) + "/status",
                {"metadata": {"uid": metadata["uid"]}, "status": change},
            )
        except NotFound:
            self._world.sessions.gone(session)
            return None
        finally:
            self._pace.written(key, moment_s)
        self._world.sessions.put(stored)
        return None

    def forget(self, key: str) -> None:
        """The session is gone."""
        self._pace.forget(key)

    def _wanted(
        self,
        session: Mapping[str, Any],
        kept: Kept,
        pod: Mapping[str, Any] | None,
        known: Known,
        now_s: float,
    ) -> Document:
        metadata, record = session["metadata"], kept.record
        previous = session.get("status") or {}
        waiting = known.waiting if record.state is SessionState.PENDING else None
        status = build_session_status(record, previous, int(metadata.get("generation", 0)), now_s, waiting)
        location = ""
        if self._location:
            location = f"{self._location}/{metadata['namespace']}/{metadata['name']}"
        status |= build_session_figures(
            record,
            previous,
            pod,
            now_s,
            cpu_s=known.cpu_s,
            best=known.progress.best if known.progress is not None else None,
            ttns_p50_s=known.result.get("ttns_p50_s", known.progress and known.progress.ttns_p50_s),
            result=known.result,
            location=location,
        )
        status["record"] = kept_to_text(kept)
        return status

    def _haste_s(
        self, previous: Mapping[str, Any], wanted: Mapping[str, Any], change: Mapping[str, Any]
    ) -> float:
        """Seconds since the last write that this change is not worth more than."""
        others = set(change) - _UNHURRIED
        if others - {"progress"} or _words(previous) != _words(wanted):
            return 0.0
        return self._progress_s if others else self._slow_s


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """A merge patch that makes the fields of `after` what they are there; others are left alone."""
    change: Document = {}
    for name, value in after.items():
        old = before.get(name)
        if value == old or (value in (None, "", [], {}) and old in (None, "", [], {})):
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            change[name] = {**dict.fromkeys(old.keys() - value.keys()), **value}
        else:
            change[name] = value
    return change


_COUNTING = frozenset({"WaitingForSlot", "WaitingForFairShare", "NoDeviceReady"})
"""Reasons whose sentences change with every release and every report of a device."""


def _words(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            each["type"],
            each["status"],
            each["reason"],
            "" if each["reason"] in _COUNTING else each.get("message", ""),
        )
        for each in status.get("conditions") or ()
    ]
