"""The device as it is now, for the live table, the operator, Prometheus and people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

from efaas.api.wire import qpu_pb2 as wire
from efaas_qpu.host import QpuHost
from efaas_qpu.sessions import Session

_TYPICAL_QUBITS = 4
"""Qubits of the circuit for which the cost of a localised calibration is told."""

_WARM_NAMED = 256
"""Warm circuits that are named."""

_CHARGED_NAMED = 512
"""Sessions whose charges are told without being asked for: those heard of last."""

_CHARGED_ASKED = 4096
"""Sessions whose charges are told when they are asked for."""


def duty_cycle(host: QpuHost) -> float:
    """Device seconds of shots over the device time since the first job (QDC); 0 before it."""
    state = host.ledger.state
    if state.first_job_s is None:
        return 0.0
    elapsed = host.driver.clock.now_s() - state.first_job_s
    return min(1.0, state.busy_s / elapsed) if elapsed > 0 else 0.0


def condition(host: QpuHost) -> str:
    """What the device does, in a word."""
    if host.is_draining or host.availability == wire.DRAINED:
        return "Draining"
    if host.driver.calibrating:
        return "Calibrating"
    return "Ready" if host.worker else "WorkerStarting"


def describe(host: QpuHost, asked: Iterable[str] = (), *, everything: bool = True) -> wire.DeviceState:
    """The answer to Describe.

    Args:
        host: of the device.
        asked: sessions whose charges are told in any case.
        everything: whether who asks may hear of sessions.
    """
    state, driver, living, offer = host.ledger.state, host.driver, host.living, host.offer
    outlook, starts = driver.outlook(), living.starts
    errors, growth = living.errors, living.drifting.growth()
    warm = host.warm_circuits()
    described = wire.DeviceState(
        device=host.device,
        snapshot=host.snapshot,
        qubits=host.qubits,
        condition=condition(host),
        calibration_epoch=driver.calibration_epoch,
        calibration_age_s=driver.calibration_age_s,
        clock_s=driver.clock.now_s(),
        queue_depth=driver.queue_depth,
        busy_s=state.busy_s,
        calibrating_s=state.calibrating_s,
        duty_cycle=duty_cycle(host),
        worker=host.worker,
        slots=offer.slots,
        slots_used=len(host.sessions),
        availability=host.availability,
        labels=offer.labels,
        frozen=living.is_frozen,
        max_calibration_age_s=offer.max_age_s if math.isfinite(offer.max_age_s) else 0.0,
        calibration_left_s=outlook.calibration_left_s,
        calibration_due_s=outlook.calibration_due_s or 0.0,
        expected_wait_s=outlook.wait_s,
        local_calibration_s=offer.local_fixed_s + offer.local_per_qubit_s * min(_TYPICAL_QUBITS, host.qubits),
        local_fixed_s=offer.local_fixed_s,
        local_per_qubit_s=offer.local_per_qubit_s,
        one_qubit_error=errors.one_qubit,
        two_qubit_error=errors.two_qubit,
        readout_error=errors.readout,
        one_qubit_drift_per_s=growth.one_qubit_per_s,
        two_qubit_drift_per_s=growth.two_qubit_per_s,
        readout_drift_per_s=growth.readout_per_s,
        warm_circuits=list(warm)[:_WARM_NAMED],
        warm_circuit_count=len(warm),
        cold_starts=starts.cold,
        cold_start_s=starts.cold_s,
        warm_starts=starts.warm,
        warm_start_s=starts.warm_s,
        prepared_ahead=starts.ahead,
        true_two_qubit_error=living.true_two_qubit_error(driver.clock.now_s()),
    )
    if everything:
        described.sessions.extend(_describe_session(host, session) for session in host.sessions.values())
        described.charges.extend(_charges(host, asked))
        described.warm.extend(
            wire.WarmCircuit(handle=handle, epoch=living.layout_epoch, sessions=sessions)
            for handle, sessions in list(warm.items())[:_WARM_NAMED]
        )
    return described


def _charges(host: QpuHost, asked: Iterable[str]) -> list[wire.SessionCharge]:
    """What sessions are charged: open ones, those heard of last, and those asked for, as far as known."""
    known = host.ledger.state.sessions
    names = dict.fromkeys(host.sessions)
    names.update(dict.fromkeys(islice(reversed(known), _CHARGED_NAMED)))
    names.update(dict.fromkeys(islice(asked, _CHARGED_ASKED)))
    return [
        wire.SessionCharge(
            session=name,
            uid=known[name].uid,
            lease_epoch=known[name].lease_epoch,
            jobs_done=known[name].jobs_done,
            shots=known[name].shots,
            qpu_s=known[name].qpu_s,
            last_job_at_s=known[name].last_job_at_s,
        )
        for name in names
        if name in known
    ]


def calibrations(host: QpuHost, limit: int) -> wire.CalibrationHistory:
    """The answer to Calibrations: the newest `limit`, or all that are kept for 0."""
    history = list(host.ledger.state.history)[-limit:]
    return wire.CalibrationHistory(
        device=host.device,
        clock_s=host.driver.clock.now_s(),
        calibrations=[
            wire.PastCalibration(
                id=past.id,
                finished_s=past.finished_s,
                scope=past.scope.value,
                qubits=past.qubits,
                busy_s=past.busy_s,
                session=past.session or "",
                reason=past.reason,
                one_qubit_error=past.errors.one_qubit,
                two_qubit_error=past.errors.two_qubit,
                readout_error=past.errors.readout,
            )
            for past in history
        ],
    )


def _describe_session(host: QpuHost, session: Session) -> wire.SessionState:
    known = host.ledger.state.sessions.get(session.name)
    described = wire.SessionState(
        session=session.name,
        jobs_done=known.jobs_done if known else 0,
        shots=known.shots if known else 0,
        qpu_s=known.qpu_s if known else 0.0,
    )
    jobs = [host.driver.jobs[name] for name in session.jobs]
    waiting = [live for live in jobs if not live.holds_device and live.unclaimed is None]
    if any(live.holds_device for live in jobs):
        described.state = "Running"
    elif waiting:
        described.state = "Queued"
    else:
        described.state = "Classical" if session.outlet is not None else "Closed"
    reports = [live.report for live in waiting if live.report is not None]
    if reports:
        first = min(reports, key=lambda report: report.position)
        described.position = first.position + 1
        described.estimated_start_s = first.estimated_start_s
        described.reason = first.reason
    return described


def refresh_gauges(host: QpuHost) -> None:
    """Bring the metrics that show a state up to date; called every now and then."""
    metrics, state = host.metrics, host.ledger.state
    metrics.queue_depth.set(host.driver.queue_depth)
    metrics.sessions.set(len(host.sessions))
    metrics.duty_cycle.set(duty_cycle(host))
    metrics.calibration_epoch.set(host.driver.calibration_epoch)
    metrics.calibration_age.set(host.driver.calibration_age_s)
    metrics.kept_results.set(len(state.kept))
    metrics.kept_bytes.set(state.kept_bytes)
