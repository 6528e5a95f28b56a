"""Results of jobs as JSON, to the bit: what journals keep of them.

Energies and their errors are numbers that people can read; outcomes of shots are bytes in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.errors import InputError

if TYPE_CHECKING:
    from efaas.client import JobResult


def last_device(records: Iterable[Mapping[str, Any]]) -> str:
    """Where the last job of a journal ran; empty if none did.

    The job after it, which no record tells of yet, was sent there too. A runner that goes on asks there
    first, as the device has the result, or works on it, and has charged it.
    """
    device = ""
    for record in records:
        for job in record.get("jobs") or ():
            device = job["device"]
    return device


def job_record(result: JobResult, evaluation: int) -> dict[str, Any]:
    """Where and when a job ran and what it cost, without what it measured."""
    return {
        "id": result.job_id,
        "evaluation": evaluation,
        "device": result.device,
        "calibration_epoch": result.calibration_epoch,
        "calibration_age_s": result.calibration_age_s,
        "shots": result.shots,
        "qpu_s": result.qpu_s,
        "kept": result.kept,
        "ttns_s": result.timing.ttns_s,
        "ttns_device_s": device_ttns_s(result),
        "timing": asdict(result.timing),
    }


def device_ttns_s(result: JobResult) -> float:
    """Time to next shot in device seconds: network + queue + calibration.

    The network part is wall time; it counts as device time one to one, as it does on a device that runs as
    fast as it simulates, whose clock advances by the wall time for which it is idle.
    """
    timing = result.timing
    return timing.network_s + timing.queue_s + timing.calibration_s


def result_record(result: JobResult, evaluation: int) -> dict[str, Any]:
    """The whole result, outcomes included."""
    return {
        **job_record(result, evaluation),
        "evaluations": [
            {
                "values": item.values.tolist(),
                "std_errors": item.std_errors.tolist(),
                "bits": item.bits,
                "outcomes": base64.b64encode(item.outcomes.tobytes()).decode("ascii"),
                "counts": item.counts.tolist(),
            }
            for item in result.evaluations
        ],
    }


def result_from_record(record: dict[str, Any]) -> JobResult:
    """Read a whole result back.

    Raises:
        InputError: it is not such a record.
    """
    from efaas.client.results import Evaluation, JobResult, Timing

    try:
        evaluations = []
        for item in record["evaluations"]:
            width = (item["bits"] + 7) // 8
            outcomes = np.frombuffer(base64.b64decode(item["outcomes"], validate=True), dtype=np.uint8)
            evaluations.append(
                Evaluation(
                    values=np.array(item["values"], dtype=np.float64),
                    std_errors=np.array(item["std_errors"], dtype=np.float64),
                    outcomes=outcomes.reshape(-1, width) if width else outcomes.reshape(0, 0),
                    counts=np.array(item["counts"], dtype=np.uint64),
                    bits=item["bits"],
                )
            )
        return JobResult(
            job_id=record["id"],
            device=record["device"],
            evaluations=tuple(evaluations),
            timing=Timing(**record["timing"]),
            calibration_epoch=record["calibration_epoch"],
            calibration_age_s=record["calibration_age_s"],
            shots=record["shots"],
            qpu_s=record["qpu_s"],
            kept=record["kept"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"is not the result of a job ({error!r})", place="journal") from None
