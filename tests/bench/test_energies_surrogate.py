"""The surrogate for circuits that are too large for Aer with noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from efaas.bench.energies_problems import named_problem
from efaas.bench.energies_source import Circuit
from efaas.bench.energies_surrogate import SurrogateSource, fit, groups_of, points_of, sample
from efaas.bench.energies_targets import surrogate_error


class LinearDevice:
    """A device whose noise is just what the surrogate supposes: a shift, and a factor for each group."""

    shift, factors, bend = 0.3, (0.9, 0.7), 0.0

    def groups(self, point: list[float]) -> np.ndarray:
        return np.array([np.cos(point).sum(), np.sin(point).sum()])

    def ask(self, circuit: Circuit, op: str, **request: Any) -> dict[str, Any]:
        points = request["points"]
        if op == "evaluate":
            assert request["ideal"]
            values = [float(self.groups(point).sum()) + 0.01 for point in points]
            return {"values": values, "std_errors": [0.02] * len(values)}
        found = [self.groups(point) for point in points]
        if request.get("ideal"):
            return {"energies": [one.tolist() for one in found]}
        return {
            "energies": [
                self.shift + float(one @ self.factors) + self.bend * float(one[0]) ** 2 for one in found
            ]
        }

    def bases(self, circuit: Circuit) -> int:
        return 2


def test_terms_of_one_kind_are_one_group() -> None:
    terms = (("ZZI", -1.0), ("IXI", -0.5), ("IZZ", -1.0), ("XII", -0.5))
    assert groups_of(terms) == ((("IXI", -0.5), ("XII", -0.5)), (("ZZI", -1.0), ("IZZ", -1.0)))


def test_noise_that_is_linear_is_recovered_exactly() -> None:
    problem = named_problem("ising-9-realamplitudes")
    found = fit(LinearDevice(), problem)  # type: ignore[arg-type]
    assert found.shift == pytest.approx(0.3)
    assert found.factors == pytest.approx((0.9, 0.7))


def test_larger_circuits_take_the_factors_and_a_larger_shift() -> None:
    found = fit(LinearDevice(), named_problem("ising-12-realamplitudes"))  # type: ignore[arg-type]
    assert found.factors == pytest.approx((0.9, 0.7))
    assert found.shift == pytest.approx(0.3 * (11 + 12) / (8 + 9))


def test_shots_keep_their_noise_and_get_the_devices_mean() -> None:
    problem = named_problem("ising-9-realamplitudes")
    device = LinearDevice()
    source = SurrogateSource(device, problem)  # type: ignore[arg-type]
    point = points_of(problem, 1, seed=9)[0].tolist()
    answer = source.ask(
        problem.circuit, "evaluate", seed=1, age_s=5.0, points=[point], centre=point, shots=10
    )
    noisy = 0.3 + float(device.groups(point) @ device.factors)
    assert answer["energy"] == pytest.approx(noisy)
    assert answer["values"] == pytest.approx([noisy + 0.01])


def test_the_error_is_measured_on_points_that_were_not_trained_on(tmp_path: Path) -> None:
    device = LinearDevice()
    device.bend = 0.01
    sample(tmp_path, device, problems={"ising-9-realamplitudes": 6})  # type: ignore[arg-type]
    rows = pq.read_table(tmp_path / "data" / "energies" / "surrogate.parquet").to_pylist()
    assert len(rows) == 6
    problem = named_problem("ising-9-realamplitudes")
    trained = points_of(problem, 24, seed=1).tolist()
    assert not any(point in trained for point in points_of(problem, 6, seed=2).tolist())
    found = surrogate_error(rows)
    assert found.value == pytest.approx(np.mean([abs(row["surrogate"] - row["aer"]) / 0.02 for row in rows]))
    assert found.value > 0
