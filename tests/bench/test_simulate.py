"""One run of the benchmark: laws that hold in each, arms that differ in what they say, bounds that bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from efaas.bench.arms import ARMS
from efaas.bench.records import ARMS as NAMES
from efaas.bench.records import BOUNDS, RIVALS, TABLES
from efaas.bench.scenario import Circuit, Scenario, background, cell_name, devices, loops
from efaas.bench.simulate import simulate

SHORT = Scenario(iterations=10, warm_up_s=60.0, opening_s=20.0, horizon_s=400.0)
DRIFTING = replace(SHORT, calibrated=True, tau_s=60.0, t_calib_s=20.0, interval_s=600.0, iterations=40)


def run(scenario: Scenario, policy: str, seed: int = 1) -> dict[str, Any]:
    row: dict[str, Any] = simulate("headline", "x", scenario, policy, seed)["runs"][0]
    return row


def test_every_name_is_an_arm_or_a_bound() -> None:
    assert {*ARMS, *BOUNDS} == set(NAMES)


class TestLaws:
    @pytest.mark.parametrize("policy", sorted(ARMS))
    def test_hold_in_every_run(self, policy: str) -> None:
        row = run(DRIFTING, policy)
        assert row["little_gap"] < 1e-9
        assert row["conservation_gap_s"] < 1e-6
        shares = row["qdc"] + row["turning_share"] + row["calibrating_share"]
        assert 0 < shares <= 1 + 1e-9

    @pytest.mark.parametrize("policy", sorted(NAMES))
    def test_rows_fit_their_tables(self, policy: str) -> None:
        for table, rows in simulate("headline", "x", SHORT, policy, 1).items():
            for row in rows:
                assert set(row) <= set(TABLES[table].names), table
                assert row["run"] == f"headline/x/{policy}/1"

    def test_the_same_seed_gives_the_same_rows(self) -> None:
        assert simulate("e", "c", DRIFTING, "efaas", 3) == simulate("e", "c", DRIFTING, "efaas", 3)

    def test_arms_meet_the_same_jobs(self) -> None:
        rows = [simulate("e", "c", SHORT, policy, 2) for policy in ("efaas", "sr", "bound-work-conserving")]
        jobs = [
            sorted((row["job"], row["arrived_s"], row["device_s"]) for row in tables["batch"])
            for tables in rows[:2]
        ]
        assert jobs[0] == jobs[1]
        assert rows[2]["runs"][0]["background_jobs"] == rows[0]["runs"][0]["background_jobs"]


class TestBounds:
    @pytest.mark.parametrize("policy", ["efaas", *RIVALS])
    def test_no_policy_passes_them(self, policy: str) -> None:
        for scenario in (SHORT, replace(SHORT, load=1.2), replace(SHORT, load=0.3, sessions=6)):
            row = run(scenario, policy)
            assert row["ttns_mean_s"] >= run(scenario, "bound-zero-wait")["ttns_mean_s"] - 1e-9
            assert row["qdc"] <= run(scenario, "bound-work-conserving")["qdc"] + 0.01

    def test_zero_wait_is_the_network_alone(self) -> None:
        row = run(replace(SHORT, t_net_s=0.3), "bound-zero-wait")
        assert row["ttns_mean_s"] == pytest.approx(0.3)


class TestArms:
    def test_only_sessions_of_efaas_state_a_limit(self) -> None:
        for name, arm in ARMS.items():
            limits = {spec.max_calibration_age_s for spec in loops(DRIFTING, arm, 1)}
            assert limits == ({60.0 * arm.tau_factor} if arm.policy == "efaas" else {None}), name

    def test_efaas_never_iterates_on_a_stale_calibration_and_reservation_does(self) -> None:
        ours = run(DRIFTING, "efaas")
        assert ours["ran_stale"] == 0
        assert 0 < ours["oldest_calibration_s"] <= 60.0
        assert run(DRIFTING, "session-fifo")["ran_stale"] > 0

    def test_without_slices_or_classes_iterations_wait_longer(self) -> None:
        ours = run(SHORT, "efaas")["ttns_later_s"]
        assert run(SHORT, "efaas-no-slicing")["ttns_later_s"] > 2 * ours
        assert run(SHORT, "efaas-alpha-0")["ttns_later_s"] > 2 * ours

    def test_without_warm_caches_calibration_takes_more_of_the_devices(self) -> None:
        whole = run(DRIFTING, "efaas-no-warm-caches")["calibrating_share"]
        assert whole > run(DRIFTING, "efaas")["calibrating_share"]

    @pytest.mark.parametrize(("policy", "least"), [("efaas-exact", 0.7), ("efaas-tolerant", 0.8)])
    def test_running_ahead_shortens_iterations(self, policy: str, least: float) -> None:
        longer = replace(SHORT, iterations=30)
        ahead, plain = run(longer, policy), run(longer, "efaas")
        assert ahead["speculation_hits"] > least
        assert ahead["iteration_mean_s"] < 0.75 * plain["iteration_mean_s"]

    def test_session_fifo_takes_the_device_from_an_idle_session(self) -> None:
        """IBM's rule: no job within the interactive time to live, and the session queues again."""
        slow = replace(SHORT, t_cpu_s=90.0, iterations=3, sessions=3, horizon_s=900.0)
        patient = run(slow, "sr")
        assert run(slow, "session-fifo")["ttns_later_s"] > patient["ttns_later_s"] + 1


class TestScenario:
    def test_background_offers_the_load(self) -> None:
        streams = background(Scenario(load=0.9), 1)
        assert sum(spec.rate * spec.mean_s for spec in streams) == pytest.approx(0.9 * 3)
        assert background(Scenario(load=0.0), 1) == []

    def test_sessions_open_after_the_warm_up_each_at_its_own_moment(self) -> None:
        opens = [spec.opens_s for spec in loops(Scenario(sessions=6), ARMS["efaas"], 1)]
        assert len(set(opens)) == 6
        assert all(300 <= at_s <= 360 for at_s in opens)

    def test_devices_were_calibrated_at_different_moments(self) -> None:
        configs = devices(Scenario(calibrated=True), ARMS["efaas"], 1).values()
        ages = {-config.calibration.calibrated_at_s for config in configs}
        assert len(ages) == 3
        assert all(0 <= age_s <= 3600 for age_s in ages)

    def test_circuits_go_round(self) -> None:
        scenario = Scenario(sessions=3, circuits=(Circuit("a", 2, 1.0), Circuit("b", 3, 2.0)))
        specs = loops(scenario, ARMS["efaas"], 1)
        assert [(spec.circuit, len(spec.qubits), spec.t_qpu_s) for spec in specs] == [
            ("a", 2, 1.0),
            ("b", 3, 2.0),
            ("a", 2, 1.0),
        ]

    def test_cells_are_named_by_what_varies(self) -> None:
        assert cell_name({"iterations": 100, "t_net_s": 0.05}) == "iterations=100,t_net_s=0.05"
