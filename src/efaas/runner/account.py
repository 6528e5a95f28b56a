"""What a session has done so far, gathered from its jobs: use, times, devices, energies.

A live run and a resumed one go through the same door: `take` is given what is written into the journal,
whether it was written just now or is read back, so both end with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from efaas.runner.limits import Usage


class Account:
    """Sums and samples over the records of a session.

    Attributes:
        usage: shots, device seconds, CPU seconds.
        elapsed_s: wall seconds in which a runner was alive, as of the last record.
        evaluations: jobs that have a result.
        best: lowest energy estimate so far; infinite before the first.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.elapsed_s = 0.0
        self.evaluations = 0
        self.best = math.inf
        self._ttns_s: list[float] = []
        self._ttns_device_s: list[float] = []
        self._round_trip_s: list[float] = []
        self._iteration_s: list[float] = []
        self._devices: dict[str, dict[str, Any]] = {}
        self._charged: set[str] = set()
        self._moves: list[dict[str, Any]] = []
        self._device = ""

    def take(self, record: Mapping[str, Any]) -> None:
        """Count a record.

        Args:
            record: with ``jobs``, ``elapsed_s``, ``cpu_s`` and, perhaps, ``energy`` and ``iteration_s``.
        """
        for job in record["jobs"]:
            self._take_job(job)
            self._take_place(job, record.get("route", ""))
        self.usage.cpu_s += record["cpu_s"]
        self.elapsed_s = max(self.elapsed_s, record["elapsed_s"])
        if record.get("iteration_s") is not None:
            self._iteration_s.append(record["iteration_s"])
        energy = record.get("energy")
        if energy is not None:
            self.best = min(self.best, energy)

    def _take_place(self, job: Mapping[str, Any], route: str) -> None:
        """Note where a job ran, if that is somewhere else than the last one."""
        if self._device and job["device"] != self._device:
            self._moves.append(
                {
                    "evaluation": job["evaluation"],
                    "source": self._device,
                    "target": job["device"],
                    "reason": route,
                }
            )
        self._device = job["device"]

    def _take_job(self, job: Mapping[str, Any]) -> None:
        if job["id"] in self._charged:
            return
        self._charged.add(job["id"])
        self.evaluations += 1
        self.usage.shots += job["shots"]
        self.usage.qpu_s += job["qpu_s"]
        self._ttns_s.append(job["ttns_s"])
        self._ttns_device_s.append(job["ttns_device_s"])
        self._round_trip_s.append(job["timing"]["round_trip_s"])
        device = self._devices.setdefault(
            job["device"], {"jobs": 0, "shots": 0, "qpu_s": 0.0, "calibration_epochs": []}
        )
        device["jobs"] += 1
        device["shots"] += job["shots"]
        device["qpu_s"] += job["qpu_s"]
        if job["calibration_epoch"] not in device["calibration_epochs"]:
            device["calibration_epochs"].append(job["calibration_epoch"])

    def event(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The progress event of a record that `take` was given last."""
        first = record["jobs"][0]
        return {
            "iteration": record["iteration"],
            "evaluation": first["evaluation"],
            "energy": record.get("energy"),
            "std_error": record.get("std_error"),
            "best": self.best if math.isfinite(self.best) else None,
            "ttns_s": first["ttns_s"],
            "ttns_device_s": first["ttns_device_s"],
            "round_trip_s": max(job["timing"]["round_trip_s"] for job in record["jobs"]),
            "qpu_s": self.usage.qpu_s,
            "cpu_s": self.usage.cpu_s,
            "shots": self.usage.shots,
            "device": first["device"],
            "calibration_age_s": first["calibration_age_s"],
            "calibration_epoch": first["calibration_epoch"],
            "elapsed_s": record["elapsed_s"],
            "route": record.get("route", ""),
        }

    def summary(self) -> dict[str, Any]:
        """The part of `result.json` that is about use, times and devices."""
        return {
            "evaluations": self.evaluations,
            "best": self.best if math.isfinite(self.best) else None,
            "ttns_s": spread(self._ttns_s),
            "ttns_device_s": spread(self._ttns_device_s),
            "round_trip_s": spread(self._round_trip_s),
            "iteration_s": spread(self._iteration_s),
            "shots": self.usage.shots,
            "qpu_s": self.usage.qpu_s,
            "cpu_s": self.usage.cpu_s,
            "elapsed_s": self.elapsed_s,
            "devices": self._devices,
            "moves": self._moves,
        }


def spread(samples: Iterable[float]) -> dict[str, float | int | None]:
    """Median, 95th percentile (linear between order statistics) and number of samples."""
    values = list(samples)
    if not values:
        return {"p50": None, "p95": None, "n": 0}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "n": len(values)}
