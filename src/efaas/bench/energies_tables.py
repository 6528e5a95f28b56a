"""Tables of ``data/energies/``: trajectories, convergence, energy against age, and the surrogate's errors."""

from __future__ import annotations

import pyarrow as pa

_TEXT, _REAL, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _schema(table: str, columns: list[tuple[str, pa.DataType, str]]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"doc": doc}) for name, kind, doc in columns]
    return pa.schema(fields, metadata={"table": table})


TRAJECTORIES = _schema(
    "trajectories",
    [
        ("run", _TEXT, "as in the experiment's tables"),
        ("session", _TEXT, ""),
        ("optimizer", _TEXT, "spsa or nelder-mead"),
        ("evaluation", _WHOLE, "iteration that measured around this point; one more for the last point"),
        ("known_s", _REAL, "from the session's first parameters to the moment the optimizer stood here"),
        ("age_s", _REAL, "of the calibration, the middle of its cell; null: frozen device"),
        ("value", _REAL, "mean of what was measured around the point"),
        ("std_error", _REAL, "of that"),
        ("energy", _REAL, "at the point without shot noise, on the device at that age"),
        ("relative_error", _REAL, "(energy - exact) ÷ width of the spectrum"),
    ],
)

CONVERGENCE = _schema(
    "convergence",
    [
        ("run", _TEXT, ""),
        ("experiment", _TEXT, ""),
        ("cell", _TEXT, ""),
        ("policy", _TEXT, ""),
        ("seed", _WHOLE, ""),
        ("session", _TEXT, ""),
        ("optimizer", _TEXT, "spsa or nelder-mead"),
        ("problem", _TEXT, ""),
        ("tolerance", _REAL, "share of the spectrum's width"),
        ("converged_s", _REAL, "from the first parameters; null: does not stay within the tolerance"),
        ("iterations_done", _WHOLE, ""),
        ("complete", _FLAG, "all iterations asked for were done by the horizon"),
        ("final_error", _REAL, "mean over the last tenth of the points, in the problem's unit"),
        ("final_relative_error", _REAL, "the same ÷ width of the spectrum"),
    ],
)

AGES = _schema(
    "ages",
    [
        ("circuit", _TEXT, ""),
        ("seed", _WHOLE, ""),
        ("age_s", _REAL, "of the calibration"),
        ("error", _REAL, "energy error at fixed parameters without shot noise, in the problem's unit"),
    ],
)

SURROGATE = _schema(
    "surrogate",
    [
        ("circuit", _TEXT, ""),
        ("qubits", _WHOLE, ""),
        ("point", _WHOLE, "number of the sample point"),
        ("age_s", _REAL, "of the calibration"),
        ("aer", _REAL, "energy by Aer with the device's noise, without shot noise"),
        ("surrogate", _REAL, "energy by the surrogate"),
        ("shot_error", _REAL, "standard error of one measurement with the shots of an iteration"),
    ],
)
