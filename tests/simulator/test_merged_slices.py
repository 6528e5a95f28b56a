"""Several slices started as one change nothing but the number of events."""

from __future__ import annotations

import pytest

from efaas.core.qpu import CalibrationConfig, QpuConfig
from efaas.simulator import BatchStream, LoopSession, Measures, Simulator


def simulate(
    *,
    merged: bool,
    tenants: int,
    load: float,
    loops: int,
    calibrated: bool,
    seed: int,
    horizon_s: float = 200.0,
) -> Measures:
    calibration = CalibrationConfig(frozen=not calibrated, interval_s=150.0, duration_s=10.0)
    config = QpuConfig(merge_slices=merged, calibration=calibration, validate=True)
    limit_s = 80.0 if calibrated else None
    return Simulator(
        {"a": config, "b": config},
        loops=[LoopSession(f"l{n}", f"t{n}", max_calibration_age_s=limit_s) for n in range(loops)],
        batch=[BatchStream(f"b{n}", f"g{n}", load * 2 / 5 / tenants) for n in range(tenants)],
        seed=seed,
        routed=True,
        nodes=4,
    ).run(horizon_s)


def story(measures: Measures) -> list[tuple[object, ...]]:
    iterations = [(i.session, i.evaluation, i.device, _rounded(i.start_s)) for i in measures.iterations]
    batch = [(b.job, b.device, _rounded(b.start_s), _rounded(b.end_s)) for b in measures.batch]
    calibrations = [(c.device, c.scope, _rounded(c.start_s)) for c in measures.calibrations]
    return [*iterations, *batch, *calibrations]


def _rounded(moment_s: float | None) -> float | None:
    return None if moment_s is None else round(moment_s, 6)


@pytest.mark.parametrize(
    ("tenants", "load", "loops", "calibrated", "seed"),
    [
        (1, 0.2, 0, False, 1),
        (1, 0.6, 1, True, 2),
        (2, 1.2, 2, False, 3),
        (4, 0.6, 2, True, 4),
        (4, 1.2, 1, False, 5),
        (4, 0.2, 3, True, 6),
    ],
)
def test_everything_starts_and_ends_when_it_would_slice_by_slice(
    tenants: int, load: float, loops: int, calibrated: bool, seed: int
) -> None:
    single, merged = (
        simulate(merged=merged, tenants=tenants, load=load, loops=loops, calibrated=calibrated, seed=seed)
        for merged in (False, True)
    )
    assert story(single) == story(merged)
    assert merged.events <= single.events


@pytest.mark.parametrize(
    ("tenants", "loops", "calibrated", "seed"),
    [(2, 1, True, 43), (2, 3, True, 47), (4, 3, False, 5)],
)
def test_where_two_tenants_are_as_good_as_equal_the_difference_is_a_turn(
    tenants: int, loops: int, calibrated: bool, seed: int
) -> None:
    """Use is booked at the end of a run, so shares that decay differ a little from those of single slices.

    Rarely that decides who of two equals goes on. These are such cases; no measure of them shows it.
    """
    single, merged = (
        simulate(merged=merged, tenants=tenants, load=1.2, loops=loops, calibrated=calibrated, seed=seed)
        for merged in (False, True)
    )
    waits = [sum(m.ttns_s()) / len(m.ttns_s()) for m in (single, merged)]
    assert waits[0] == pytest.approx(waits[1], rel=0.02)
    assert single.duty_cycle == pytest.approx(merged.duty_cycle, abs=2e-3)


@pytest.mark.parametrize("load", [0.3])
def test_a_long_job_alone_is_one_event(load: float) -> None:
    single, merged = (
        simulate(merged=merged, tenants=1, load=load, loops=0, calibrated=False, seed=1)
        for merged in (False, True)
    )
    jobs = len(single.batch)
    assert merged.events < 3.5 * jobs
    assert single.events > 10 * jobs
