"""Every method finds minima that are known by other means, without noise and with it."""

from __future__ import annotations

import numpy as np
import pytest

from efaas.optimizers import Tell

START = [0.4, -0.3, 0.2, 0.1]

# Options, iterations and how far from the minimum (Hartree) the end may be without noise.
EXACT = {
    "spsa": ({}, 300, 2e-3),
    "qn_spsa": ({}, 300, 2e-2),
    "adam": ({}, 150, 1e-4),
    "rotosolve": ({}, 60, 1e-5),
    "cma_es": ({}, 60, 1e-4),
    "nelder_mead": ({}, 200, 1e-6),
    "cobyla": ({}, 300, 1e-5),
    "powell": ({}, 500, 1e-4),
    "scan": ({"points": 3000, "points_per_job": 100}, 30, 0.1),
}
NOISE = 0.01
ROUNDING = 1e-12
# The same with noise of 10 mHa in each value.
NOISY = {
    "spsa": ({"last_average": 20}, 300, 1e-2),
    "qn_spsa": ({}, 300, 3e-2),
    "adam": ({"learning_rate": "0.05"}, 150, 1e-2),
    "rotosolve": ({"reset_interval": 4}, 60, 1e-2),
    "cma_es": ({"population": 12}, 80, 1e-2),
    "nelder_mead": ({}, 80, 5e-2),
    "cobyla": ({}, 100, 1e-1),
    "powell": ({}, 300, 5e-2),
    "scan": ({"points": 3000, "points_per_job": 100}, 30, 0.1),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_vqe_without_noise_reaches_its_ground_state(bench, vqe, method, seed):
    options, iterations, allowed = EXACT[method]
    optimizer = bench.run(bench.make(method, START, seed, **options), iterations=iterations)
    assert -ROUNDING <= vqe.energy(optimizer.point) - vqe.minimum < allowed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_vqe_with_shot_noise_comes_close(bench, vqe, method, seed):
    options, iterations, allowed = NOISY[method]
    optimizer = bench.make(method, START, seed, **options)
    bench.run(optimizer, iterations=iterations, noise=NOISE, seed=seed)
    assert -ROUNDING <= vqe.energy(optimizer.point) - vqe.minimum < allowed


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def quadratic(x):
    """Condition number 10, minimum 0 at (0.1, 0.2, ...)."""
    return float(np.sum(np.linspace(1, 10, x.size) * (x - 0.1 * np.arange(1, x.size + 1)) ** 2))


@pytest.mark.parametrize("chosen", ["cma_es", "nelder_mead", "cobyla", "powell", "spsa"])
def test_a_quadratic_bowl_is_descended(bench, chosen):
    optimizer = bench.make(chosen, [1.0, -1.0, 0.5], 4)
    bench.run(optimizer, quadratic, iterations=600)
    assert quadratic(optimizer.point) < 1e-3


@pytest.mark.parametrize("chosen", ["cma_es", "nelder_mead", "powell"])
def test_a_curved_valley_is_followed(bench, chosen):
    optimizer = bench.make(chosen, [-1.2, 1.0], 4)
    bench.run(optimizer, rosenbrock, iterations=1000)
    assert rosenbrock(optimizer.point) < 1e-6


def test_estimates_come_down_to_the_minimum(bench, vqe, method):
    options, iterations, _ = EXACT[method]
    optimizer = bench.make(method, START, 1, **options)
    assert optimizer.estimate is None
    bench.run(optimizer, iterations=iterations)
    # SPSA's is an average over both sides of its centre, hence above the value there.
    assert optimizer.estimate.value == pytest.approx(vqe.minimum, abs=0.1 if method == "scan" else 0.03)
    assert optimizer.estimate.std_error == 0.0


def test_qn_spsa_learns_the_metric_from_fidelities_alone(bench):
    """RY(x) on one qubit and RY(2 y) on another: the Fubini-Study metric is diag(1/4, 1) everywhere."""
    optimizer = bench.make("qn_spsa", [0.3, 0.2], 11)
    for _ in range(600):
        step = optimizer.ask().overlaps[:, 1] - optimizer.ask().overlaps[:, 0]
        fidelities = np.cos(step[:, 0] / 2) ** 2 * np.cos(step[:, 1]) ** 2
        optimizer.tell(Tell(np.zeros(2), np.zeros(2), fidelities))
    assert np.allclose(optimizer.metric, np.diag([0.25, 1.0]), atol=0.06)
