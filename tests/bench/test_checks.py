"""The checks of the benchmark: they agree with theory, and they would notice if they did not."""

from __future__ import annotations

import math

import pytest

from efaas.bench import checks
from efaas.bench.records import Check


class TestClosedForms:
    def test_erlang_c_of_one_server_is_the_load(self) -> None:
        assert checks.erlang_c(1, 0.7) == pytest.approx(0.7)

    def test_erlang_c_of_two_servers_is_the_textbook_formula(self) -> None:
        load = 0.6
        assert checks.erlang_c(2, 2 * load) == pytest.approx(2 * load**2 / (1 + load))

    def test_cobham_with_one_class_is_m_m_1(self) -> None:
        assert checks.cobham([0.16], [5.0]) == pytest.approx([checks.m_m_1(0.8)])

    def test_cobham_conserves_work(self) -> None:
        """Kleinrock: the load-weighted sum of waits does not depend on who goes first."""
        rates, means_s = (0.1, 0.08), (3.0, 5.0)
        loads = [rate * mean_s for rate, mean_s in zip(rates, means_s, strict=True)]
        residual_s = sum(rate * mean_s**2 for rate, mean_s in zip(rates, means_s, strict=True))
        waits = checks.cobham(rates, means_s)
        total = sum(load * wait for load, wait in zip(loads, waits, strict=True))
        assert total == pytest.approx(sum(loads) * residual_s / (1 - sum(loads)))

    def test_simulated_waits_agree_with_theory(self) -> None:
        found = checks.closed_forms(seeds=3, horizon_s=8000.0)
        assert len(found) == 7
        for check in found:
            # Few and short runs: the interval is wide, but not so wide that another law would fit.
            assert check.half_width < 4 * check.theory
            assert check.holds, check

    def test_a_wrong_law_does_not_hold(self) -> None:
        assert not Check("", theory=1.0, measured=1.2, half_width=0.1).holds


class TestToldNothing:
    @pytest.mark.parametrize("policy", ["efaas", "pq", "sr", "session-fifo"])
    def test_a_policy_without_sessions_is_sbq(self, policy: str) -> None:
        assert checks.untold(policy, seed=5, horizon_s=600.0) == 0.0

    def test_a_policy_that_knows_them_is_not(self) -> None:
        from efaas.core.qpu import QpuConfig
        from efaas.simulator import BatchStream, LoopSession, Simulator

        starts = []
        for policy in ("efaas", "sbq"):
            config = QpuConfig(policy=policy, slice_s=None, gap_fitting=False)
            measures = Simulator(
                {"a": config},
                loops=[LoopSession("loop", "team", opens_s=50.0)],
                batch=[BatchStream("jobs", "all", 0.18)],
            ).run(300.0)
            starts.append([each.start_s for each in measures.iterations])
        assert starts[0] != starts[1]


def test_erlang_c_grows_with_the_load() -> None:
    waits = [checks.m_m_c(3, load) for load in (0.2, 0.5, 0.8, 0.95)]
    assert waits == sorted(waits)
    assert all(math.isfinite(wait) for wait in waits)
