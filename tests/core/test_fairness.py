"""The ledger and the allocations, against published numbers and cases worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.fairness import UsageLedger, drf_shares, drf_tasks, max_min_shares
from efaas.errors import InputError


class TestHalfLife:
    def test_use_counts_half_after_a_half_life_and_a_quarter_after_two(self) -> None:
        ledger = UsageLedger(600)
        ledger.add("a", 0, 80, now_s=0)
        assert ledger.usage("a", 0).qpu_s == 80
        assert ledger.usage("a", 600).qpu_s == 40
        assert ledger.usage("a", 1200).qpu_s == 20

    def test_steady_use_of_a_part_of_the_device_levels_off_at_part_times_half_life_over_ln_2(self) -> None:
        ledger = UsageLedger(100)
        for second in range(3000):
            ledger.add("a", 0, 0.25, now_s=second)
        assert ledger.usage("a", 3000).qpu_s == pytest.approx(0.25 * 100 / math.log(2), rel=0.01)

    def test_time_alone_changes_no_order_and_no_key(self) -> None:
        ledger = UsageLedger(10)
        ledger.add("a", 0, 5, now_s=0)
        ledger.add("b", 0, 4, now_s=1)
        before = ledger.key("a"), ledger.key("b")
        assert ledger.order("ab") == ["b", "a"]
        assert ledger.dominant_share("b", 1e6) == 0.0  # far below the smallest number
        assert (ledger.key("a"), ledger.key("b")) == before

    def test_late_use_outweighs_more_use_long_ago(self) -> None:
        ledger = UsageLedger(10)
        ledger.add("long ago", 0, 5, now_s=0)
        ledger.add("just now", 0, 3, now_s=10)  # 5 counts 2.5 by now
        assert ledger.order(["just now", "long ago"]) == ["long ago", "just now"]

    def test_keys_stay_finite_after_a_year(self) -> None:
        ledger = UsageLedger(1)
        ledger.add("a", 0, 1, now_s=365 * 86_400)
        assert math.isfinite(ledger.key("a"))

    @given(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0, 50)),
            min_size=1,
            max_size=30,
        )
    )
    def test_keys_order_tenants_as_dominant_shares_do(
        self, uses: list[tuple[str, float, float, float]]
    ) -> None:
        ledger = UsageLedger(30, cpu_capacity=4)
        now_s = 0.0
        past: list[tuple[str, float, float, float]] = []
        for name, cpu_s, qpu_s, wait_s in uses:
            now_s += wait_s
            ledger.add(name, cpu_s, qpu_s, now_s)
            past.append((name, cpu_s, qpu_s, now_s))

        def share(name: str) -> float:
            cpu = math.fsum(c * 2 ** ((at - now_s) / 30) for n, c, _, at in past if n == name)
            qpu = math.fsum(q * 2 ** ((at - now_s) / 30) for n, _, q, at in past if n == name)
            return max(cpu / 4, qpu)

        for one in "abc":
            assert ledger.dominant_share(one, now_s) == pytest.approx(share(one), rel=1e-9)
            for other in "abc":
                if share(one) < share(other) * (1 - 1e-6):
                    assert ledger.key(one) < ledger.key(other)


class TestPenalties:
    def test_entry_counts_the_part_that_a_period_decays(self) -> None:
        ledger = UsageLedger(60, penalty_period_s=60)
        ledger.enter("a", "job 1", 0, 10, now_s=0)
        assert ledger.usage("a", 0).qpu_s == 5  # 1 - 2^-1

    def test_entering_twice_replaces_and_leaving_takes_back_exactly(self) -> None:
        ledger = UsageLedger(60)
        ledger.add("a", 0.1, 0.7, now_s=3)
        before = ledger.key("a"), ledger.usage("a", 3)
        ledger.enter("a", "job", 0.3, 1 / 3, now_s=3)
        ledger.enter("a", "job", 0.1, 0.2, now_s=3)
        ledger.enter("a", "other", 0.1, 0.9, now_s=3)
        ledger.leave("a", "other")
        ledger.leave("a", "job")
        ledger.leave("a", "job")
        assert (ledger.key("a"), ledger.usage("a", 3)) == before

    def test_a_burst_of_a_rested_tenant_stands_behind_after_its_first_entry(self) -> None:
        ledger = UsageLedger(600)
        ledger.add("steady", 0, 0.1, now_s=0)
        ledger.enter("rested", "first of the burst", 0, 5, now_s=0)
        assert ledger.order(["rested", "steady"]) == ["steady", "rested"]


class TestDominantShare:
    """Numbers of Mesos' `sorter_tests.cpp`: totals (100, 100)."""

    def ledger(self, **uses: tuple[float, float]) -> UsageLedger:
        ledger = UsageLedger(600, cpu_capacity=100, qpu_capacity=100)
        for name, (cpu_s, qpu_s) in uses.items():
            ledger.add(name, cpu_s, qpu_s, now_s=0)
        return ledger

    def test_order_is_that_of_the_larger_shares(self) -> None:
        ledger = self.ledger(a=(5, 5), b=(6, 6), c=(1, 1), d=(3, 1))
        assert ledger.order("abcd") == ["c", "d", "a", "b"]

    def test_a_weight_divides_the_share(self) -> None:
        ledger = self.ledger(a=(5, 5), b=(6, 6))
        ledger.set_weight("b", 2)
        assert ledger.dominant_share("a", 0) == pytest.approx(0.05)
        assert ledger.dominant_share("b", 0) == pytest.approx(0.03)
        assert ledger.order("ab") == ["b", "a"]

    def test_another_capacity_may_reorder(self) -> None:
        ledger = UsageLedger(600, cpu_capacity=10, qpu_capacity=100)
        ledger.add("cpu user", 2, 1, now_s=0)  # 0.2 of CPUs
        ledger.add("qpu user", 1, 15, now_s=0)  # 0.15 of the device
        assert ledger.order(["cpu user", "qpu user"]) == ["qpu user", "cpu user"]
        wider = UsageLedger(600, cpu_capacity=100, qpu_capacity=100)
        wider.add("cpu user", 2, 1, now_s=0)
        wider.add("qpu user", 1, 15, now_s=0)
        assert wider.order(["cpu user", "qpu user"]) == ["cpu user", "qpu user"]

    def test_use_elsewhere_is_replaced_by_each_report(self) -> None:
        ledger = self.ledger(a=(0, 5))
        ledger.report("a", 0, 20, now_s=0)
        ledger.report("a", 0, 10, now_s=0)
        assert ledger.usage("a", 0).qpu_s == 15
        assert ledger.usage("a", 600).qpu_s == 7.5

    @pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
    def test_impossible_weights_are_refused_by_name(self, weight: float) -> None:
        with pytest.raises(InputError, match="'greedy'"):
            UsageLedger(600).set_weight("greedy", weight)


class TestMaxMin:
    @pytest.mark.parametrize(
        ("capacity", "demands", "weights", "minimums", "wanted"),
        [
            # 10 for demands 2, 2.6, 4, 5: a gets 2, b 2.6, the rest halves what is left (textbook example).
            (10, {"a": 2, "b": 2.6, "c": 4, "d": 5}, {}, {}, {"a": 2, "b": 2.6, "c": 2.7, "d": 2.7}),
            # Textbook example with weights: a and b have their demands at level 1.6; 10 are left for c
            # and d as 0.5 : 1, which gives d 6.7, capped at 4, so c gets 6.
            (
                16,
                {"a": 4, "b": 2, "c": 10, "d": 4},
                {"a": 2.5, "b": 4, "c": 0.5, "d": 1},
                {},
                {"a": 4, "b": 2, "c": 6, "d": 4},
            ),
            # Nothing is scarce: all get what they want.
            (100, {"a": 1, "b": 2}, {}, {}, {"a": 1, "b": 2}),
            # A minimum above the fair level holds, the others share the rest.
            (12, {"a": 10, "b": 10, "c": 10}, {}, {"a": 6}, {"a": 6, "b": 3, "c": 3}),
            # A minimum below the fair level changes nothing.
            (12, {"a": 10, "b": 10, "c": 10}, {}, {"a": 3}, {"a": 4, "b": 4, "c": 4}),
            # Weights, a cap and a minimum: b is capped at 3; 9 are left for a and c alike.
            (12, {"a": 9, "b": 3, "c": 9}, {"b": 3}, {"c": 4}, {"a": 4.5, "b": 3, "c": 4.5}),
            # Minimums take everything.
            (6, {"a": 9, "b": 9}, {}, {"a": 4, "b": 2}, {"a": 4, "b": 2}),
            # Two subtrees with guaranteed halves, one idle (a case of the HDRF paper in one resource).
            (10, {"sci": 5, "dev": 10, "prod": 0}, {}, {}, {"sci": 5, "dev": 5, "prod": 0}),
            (0, {"a": 1}, {}, {}, {"a": 0}),
        ],
    )
    def test_by_hand(
        self,
        capacity: float,
        demands: dict[str, float],
        weights: dict[str, float],
        minimums: dict[str, float],
        wanted: dict[str, float],
    ) -> None:
        shares = max_min_shares(capacity, demands, weights=weights, minimums=minimums)
        assert shares == pytest.approx(wanted)

    @given(
        st.floats(0, 100),
        st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=6),
    )
    def test_is_feasible_wastes_nothing_and_raising_one_lowers_a_poorer_one(
        self, capacity: float, rows: list[tuple[float, float, float]]
    ) -> None:
        names = [str(n) for n in range(len(rows))]
        demands = {n: row[0] for n, row in zip(names, rows, strict=True)}
        weights = {n: row[1] for n, row in zip(names, rows, strict=True)}
        scale = capacity / max(1e-9, sum(demands.values()))
        minimums = {n: row[0] * row[2] * min(1.0, scale) * 0.99 for n, row in zip(names, rows, strict=True)}
        shares = max_min_shares(capacity, demands, weights=weights, minimums=minimums)
        slack = 1e-6 * (1 + capacity)
        for n in names:
            assert minimums[n] - slack <= shares[n] <= demands[n] + slack
        assert sum(shares.values()) == pytest.approx(min(capacity, sum(demands.values())), abs=slack)
        # Max-min: who wants more has at least the level of everyone above their minimum.
        for poor in names:
            if shares[poor] < demands[poor] - slack:
                for rich in names:
                    if shares[rich] > minimums[rich] + slack:
                        level = shares[rich] / weights[rich]
                        assert shares[poor] / weights[poor] >= level - slack / min(weights.values())

    def test_who_has_all_it_wants_takes_no_part_in_what_is_left(self) -> None:
        # The second one's demand ÷ weight × weight is less than its demand by a rounding error.
        shares = max_min_shares(12.0, {"a": 2.0, "b": 10.796875}, weights={"b": 9.99609375})
        assert shares == pytest.approx({"a": 1.203125, "b": 10.796875})

    def test_minimums_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(InputError, match="minimums: the minimums add up to more than the capacity 3"):
            max_min_shares(3, {"a": 4, "b": 4}, minimums={"a": 2, "b": 2})

    def test_a_negative_weight_is_refused_by_name(self) -> None:
        with pytest.raises(InputError, match="the weight -1 of 'b'"):
            max_min_shares(3, {"a": 4, "b": 4}, weights={"b": -1})


class TestDominantResourceFairness:
    def test_the_example_of_the_paper_three_tasks_and_two(self) -> None:
        assert drf_tasks((9, 18), {"A": (1, 4), "B": (3, 1)}) == {"A": 3, "B": 2}

    def test_the_example_of_the_paper_in_fractions(self) -> None:
        shares = drf_shares((9, 18), {"A": (1, 4), "B": (3, 1)})
        assert shares == pytest.approx({"A": 3, "B": 2})  # dominant shares 4·3/18 = 3·2/9 = 2/3

    def test_the_blocked_node_of_the_hdrf_paper(self) -> None:
        # 30 CPUs and 30 GB; three want CPU only, two want memory only: each resource is shared by its users.
        needs = {"n1": (1, 0), "n2": (1, 0), "n3": (1, 0), "n4": (0, 1), "n5": (0, 1)}
        wanted = {"n1": 10, "n2": 10, "n3": 10, "n4": 15, "n5": 15}
        assert drf_shares((30, 30), needs) == pytest.approx(wanted)

    def test_a_weight_doubles_the_dominant_share(self) -> None:
        shares = drf_shares((12, 12), {"a": (1, 1), "b": (1, 1)}, weights={"b": 2})
        assert shares == pytest.approx({"a": 4, "b": 8})

    def test_what_one_does_not_want_goes_to_the_others(self) -> None:
        shares = drf_shares((12, 12), {"a": (1, 1), "b": (1, 1)}, maximums={"a": 2})
        assert shares == pytest.approx({"a": 2, "b": 10})

    needs = st.tuples(st.floats(0.1, 5), st.floats(0.1, 5))

    @given(st.lists(needs, min_size=2, max_size=5))
    def test_sharing_incentive_envy_freeness_and_pareto_efficiency(
        self, rows: list[tuple[float, float]]
    ) -> None:
        capacity = (20.0, 30.0)
        needs = {str(n): row for n, row in enumerate(rows)}
        tasks = drf_shares(capacity, needs)

        def runs(need: tuple[float, float], bundle: tuple[float, float]) -> float:
            return min(b / n for b, n in zip(bundle, need, strict=True))

        for name, need in needs.items():
            # Nobody is better off with an equal part of everything.
            equal = tuple(c / len(needs) for c in capacity)
            assert tasks[name] >= runs(need, (equal[0], equal[1])) * (1 - 1e-9)
            # Nobody would rather have another's resources.
            for other, theirs in needs.items():
                bundle = (tasks[other] * theirs[0], tasks[other] * theirs[1])
                assert tasks[name] >= runs(need, bundle) * (1 - 1e-9)
        # Something that everybody needs is used up, so nobody can have more at nobody's cost.
        used = [sum(tasks[n] * needs[n][r] for n in needs) for r in range(2)]
        assert any(u == pytest.approx(c, rel=1e-9) for u, c in zip(used, capacity, strict=True))
        assert all(u <= c * (1 + 1e-9) for u, c in zip(used, capacity, strict=True))

    @given(st.lists(needs, min_size=2, max_size=4))
    def test_more_capacity_harms_nobody(self, rows: list[tuple[float, float]]) -> None:
        """Resource monotonicity holds for one resource; for DRF it holds when all resources grow alike."""
        needs = {str(n): row for n, row in enumerate(rows)}
        before, after = drf_shares((10, 10), needs), drf_shares((11, 11), needs)
        assert all(after[n] >= before[n] * (1 - 1e-9) for n in needs)
