"""Parameters that do not fit or are not numbers are refused with one sentence that names the place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Execute, Limits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from efaas.errors import CircuitError, ParameterError


@pytest.fixture(scope="module")
def three(make_engine: Any, as_qpy: Any) -> Engine:
    angles = ParameterVector("t", 3)
    circuit = QuantumCircuit(1)
    for angle in angles:
        circuit.rx(angle, 0)
        circuit.rz(angle, 0)
    engine: Engine = make_engine(limits=Limits(result_bytes=1 << 20))
    engine.prepare("c", as_qpy(circuit))
    engine.prepare_observable("z", (("Z", 1.0),))
    engine.prepare_observable("zz", (("ZZ", 1.0),))
    return engine


@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
def test_only_one_row_a_set_and_one_column_a_parameter_fit(three: Engine, shape: tuple[int, ...]) -> None:
    request = Execute("0-x", 1, "c", ("z",), np.zeros(shape), 8)
    if len(shape) == 2 and shape[1] == 3 and shape[0] > 0:
        assert len(three.execute(request).evaluations) == shape[0]
    else:
        with pytest.raises(ParameterError):
            three.execute(request)


@given(
    row=st.integers(0, 3),
    column=st.integers(0, 2),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_a_value_that_is_not_finite_is_named(three: Engine, row: int, column: int, value: float) -> None:
    parameters = np.zeros((4, 3))
    parameters[row, column] = value
    with pytest.raises(ParameterError) as caught:
        three.execute(Execute("0-x", 1, "c", ("z",), parameters, 8))
    assert caught.value.place == f"submit.parameters[{row}][{column}]"


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_finite_angles_run(three: Engine, parameters: Any) -> None:
    for evaluation in three.execute(Execute("0-x", 1, "c", ("z",), parameters, 8)).evaluations:
        assert -1 <= evaluation.values[0] <= 1


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_are_refused(three: Engine, shots: int) -> None:
    with pytest.raises(ParameterError, match="at least one"):
        three.execute(Execute("0-x", 1, "c", ("z",), np.zeros((1, 3)), shots))


def test_more_outcomes_than_fit_are_refused(three: Engine) -> None:
    with pytest.raises(CircuitError, match="split the job"):
        three.execute(Execute("0-x", 1, "c", (), np.zeros((1, 3)), 10**12, per_shot=True))


def test_observables_of_another_width_are_refused(three: Engine) -> None:
    with pytest.raises(CircuitError, match="the observable is on 2 qubits, the circuit has 1"):
        three.execute(Execute("0-x", 1, "c", ("zz",), np.zeros((1, 3)), 8))


@pytest.mark.parametrize(("circuit", "observables"), [("other", ("z",)), ("c", ("other",))])
def test_unknown_handles_are_named(three: Engine, circuit: str, observables: tuple[str, ...]) -> None:
    with pytest.raises(CircuitError) as caught:
        three.execute(Execute("0-x", 1, circuit, observables, np.zeros((1, 3)), 8))
    assert caught.value.place == "other"
