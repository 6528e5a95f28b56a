"""What a session leaves behind: `result.json`, and `problem.json` for the reference under noise."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = "efaas.dev/session-result/v1"
_LONGEST_REASON = 500


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half of it."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def leave_summary(path: Path | None, result: Mapping[str, Any]) -> None:
    """Leave what a cluster shows of a result, where a kubelet takes it from; nothing without a path.

    A kubelet keeps 4 KiB. A file that cannot be written costs the summary and never the session: the whole
    result is in the journal and beside it.

    Args:
        path: of the file; it is there already and is written over, as it may be a mount.
        result: as `session_result` makes it, or at least ``status`` and ``reason``.
    """
    if path is None:
        return
    names = ("status", "reason", "energy", "std_error", "exact", "iterations", "shots", "best")
    summary = {name: result[name] for name in names if result.get(name) is not None}
    ttns_s = (result.get("ttns_s") or {}).get("p50")
    if ttns_s is not None:
        summary["ttns_p50_s"] = ttns_s
    summary["reason"] = str(summary.get("reason", ""))[:_LONGEST_REASON]
    with contextlib.suppress(OSError, ValueError):
        path.write_text(json.dumps(summary, allow_nan=False), encoding="utf-8")


def session_result(
    session: str,
    status: str,
    reason: str,
    outcome: Mapping[str, Any],
    account: Mapping[str, Any],
    exact: float | None,
) -> dict[str, Any]:
    """The session's result as one JSON document; `docs/journal.md` describes its fields.

    Args:
        session: ``namespace/name``.
        status: Completed, Failed or Expired.
        reason: why it ended, in words.
        outcome: energy, parameters, iterations, and whatever else the loop or the program says.
        account: use, times and devices.
        exact: exact ground-state energy, where it is known.
    """
    energy = outcome.get("energy")
    return {
        "schema": SCHEMA,
        "session": session,
        "status": status,
        "reason": reason,
        **outcome,
        "exact": exact,
        "error": energy - exact if energy is not None and exact is not None else None,
        **account,
    }


def problem_document(
    program: str | bytes,
    terms: Sequence[tuple[str, float]],
    starts: Sequence[Sequence[float]],
    readout_mitigation: bool,
) -> dict[str, Any]:
    """What `efaas-qpu best-energy` needs to find the best energy of the ansatz under a device's noise.

    Args:
        program: OpenQASM 3 text or QPY bytes (then base64 under ``program``).
        terms: of the Hamiltonian.
        starts: points worth starting from, radians.
        readout_mitigation: whether the session corrects readout errors.
    """
    circuit = (
        {"openqasm3": program}
        if isinstance(program, str)
        else {"program": base64.b64encode(program).decode("ascii")}
    )
    return {
        **circuit,
        "terms": [list(term) for term in terms],
        "starts": [list(start) for start in starts],
        "readoutMitigation": readout_mitigation,
    }
