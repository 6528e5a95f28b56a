"""What a session leaves behind: `result.json`, and `problem.json` for the reference under noise."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = "efaas.dev/session-result/v1"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half of it."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


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
