"""Loops that run ahead of their results ask what loops ask that do not, whatever comes when, and resume."""

import heapq
import itertools
import json
import queue
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efaas.api.session import Optimizer as OptimizerSpec
from efaas.client.exchange import SessionIdentity, submit_message
from efaas.client.results import Evaluation
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.messages import JobKind
from efaas.core.speculation import Mode
from efaas.errors import JobFailed
from efaas.journal import DirectoryJournal, read_records
from efaas.optimizers.factory import make_optimizer
from efaas.optimizers.stopping import StoppingRule
from efaas.runner.jobs import JobFuture
from efaas.runner.limits import Limits
from efaas.runner.loop import VariationalLoop
from efaas.runner.prepare import Prepared
from efaas.runner.progress import Progress
from efaas.runner.trajectory import Trajectory

METHODS = ("nelderMead", "cobyla", "powell", "spsa", "qnSpsa", "adam", "cmaEs", "rotosolve")
FINAL_SHOTS = 200
TIMES = ("elapsed_s", "cpu_s", "iteration_s", "jobs", "state", "route")


class World:
    """Virtual time: what is due happens when the loop looks into its inbox."""

    def __init__(self):
        self.now_s, self.due, self.messages = 0.0, [], []
        self.order = itertools.count()

    def clock(self):
        return self.now_s

    def after(self, delay_s, action):
        heapq.heappush(self.due, (self.now_s + delay_s, next(self.order), action))

    def put(self, message):
        self.messages.append(message)

    def get(self, timeout=None):
        while not self.messages:
            if not self.due:
                raise queue.Empty
            self.now_s, _, action = heapq.heappop(self.due)
            action()
        return self.messages.pop(0)


class Qpus:
    """Two twins in virtual time that answer by the job's id alone, and refuse and lose guesses at random."""

    device, route = "a", ""

    def __init__(self, world, fake, seed, drift=0.0):
        self.world, self.fake, self.drift = world, fake, drift
        self.random = random.Random(seed)
        self.identity = SessionIdentity("default/test", seed=5)
        self.claimed, self.guessed, self.withdrawn = [], {}, []

    def name(self, request):
        handles = [observable_digest(terms) for terms in request.observables]
        circuit = circuit_digest(request.program)
        return job_id("default/test", request.evaluation, circuit, handles, request.parameters, request.shots)

    def submit(self, request, *, cpu_s=0.0, device="", on_partial=None, at_once=False):
        future = JobFuture(self.name(request), lambda _: None)
        if device:
            assert self.guessed[future.id] == device
            self.claimed.append(future.id)
        delay_s = self.random.expovariate(1.0)
        if at_once or request.shots == FINAL_SHOTS:
            self._answer(future, request)
            return future
        if on_partial is not None:
            share = self.random.random()
            for part in (share / 2, share):
                self.world.after(delay_s * part, lambda: on_partial(64, self._estimate(request)))
        self.world.after(delay_s, lambda: self._answer(future, request))
        return future

    def submit_ahead(self, request, device):
        assert request.kind is JobKind.SPECULATIVE
        if self.random.random() < 0.2:
            return None
        future = JobFuture(self.name(request), lambda _: None)
        self.guessed[future.id] = device
        if self.random.random() < 0.2:
            self.world.after(self.random.random(), lambda: future.set_exception(JobFailed("the worker died")))
        else:
            self.world.after(self.random.expovariate(1.0), lambda: self._answer(future, request))
        return future

    def withdraw(self, name, device):
        self.withdrawn.append(name)

    def connect_also(self, device):
        pass

    def acknowledge(self, name):
        pass

    def _message(self, request):
        handles = [observable_digest(terms) for terms in request.observables]
        return submit_message(
            "default/test",
            circuit_digest(request.program),
            request.parameters,
            request.shots,
            evaluation=request.evaluation,
            observables=handles,
        )

    def _answer(self, future, request):
        if future.done():
            return
        result = self.fake.result(self.identity, self._message(request))
        for item in result.evaluations:
            item.values[:] += self.drift * np.sin(self.world.now_s)
        future.set_result(result)

    def _estimate(self, request):
        result = self.fake.result(self.identity, self._message(request))
        noise = [0.3 * (self.random.random() - 0.5) for _ in result.evaluations]
        return tuple(
            Evaluation(item.values + shift, item.std_errors * 2, item.outcomes, item.counts)
            for item, shift in zip(result.evaluations, noise, strict=True)
        )


def run(folder, fake, method, mode, *, seed=0, iterations=12, drift=0.0, lease=0):
    """Run a loop; its records without times, the QPUs, and its outcome."""
    spec = OptimizerSpec.model_validate({method: {}})
    initial = np.array([0.1, 0.2, 0.3]) + 0.01 * seed
    ready = Prepared(
        program="ansatz",
        terms=(("ZZ", 1.0),),
        initial=initial,
        make_optimizer=lambda: make_optimizer(spec, initial, seed),
        identity={"optimizer": method},
        exact=lambda: -3.0,
        shots=100,
        final_shots=FINAL_SHOTS,
        overlap_program="overlap",
    )
    world = World()
    qpus = Qpus(world, fake, seed, drift)
    rule = StoppingRule(max_iterations=iterations)
    with DirectoryJournal(folder, lease) as journal:
        trajectory = Trajectory(ready.identity, ready.make_optimizer, journal, rule, Progress(None, None))
        loop = VariationalLoop(
            ready,
            trajectory,
            qpus if mode is not Mode.OFF else AtOnce(qpus),
            rule,
            Limits(),
            world.clock,
            speculation=mode,
            twins=lambda device: ("b",) if device == "a" else ("a",),
            inbox=world,
        )
        loop.run()
        return essence(folder), qpus, loop.outcome()


class AtOnce:
    """The same QPUs, for a loop that waits."""

    device, route = "a", ""

    def __init__(self, qpus):
        self.qpus = qpus
        self.acknowledge = qpus.acknowledge

    def submit(self, request, *, cpu_s=0.0):
        return self.qpus.submit(request, at_once=True)


def essence(folder):
    return [
        {
            **{name: value for name, value in record.items() if name not in TIMES},
            "ids": [job["id"] for job in record.get("jobs", [])],
        }
        for record in read_records(folder)
    ]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(method=st.sampled_from(METHODS), seed=st.integers(0, 10_000))
def test_exact_speculation_leaves_the_trajectory_as_it_is_to_the_bit(
    tmp_path_factory, make_qpu, method, seed
):
    off, _, _ = run(tmp_path_factory.mktemp("off"), make_qpu(), method, Mode.OFF, seed=seed)
    exact, _, _ = run(tmp_path_factory.mktemp("exact"), make_qpu(), method, Mode.EXACT, seed=seed)
    assert exact == off


def test_nelder_mead_claims_what_it_guessed_and_says_so(tmp_path, qpu):
    _, qpus, outcome = run(tmp_path, qpu, "nelderMead", Mode.EXACT, iterations=40)
    report = outcome["speculation"]
    assert report["hit_rate"] > 0.5
    assert report["speculative_hits"] == len(qpus.claimed) > 0
    assert report["speculative_jobs"] >= report["speculative_hits"]
    assert set(qpus.guessed.values()) <= {"a", "b"}


def test_a_step_of_qn_spsa_that_is_cut_is_one_of_two_and_found(tmp_path, qpu):
    _, qpus, outcome = run(tmp_path, qpu, "qnSpsa", Mode.EXACT, iterations=40)
    assert outcome["speculation"]["hit_rate"] > 0.3
    assert len(qpus.claimed) > 0


def test_spsa_in_exact_mode_prepares_nothing_that_cannot_come_true(tmp_path, qpu):
    _, qpus, outcome = run(tmp_path, qpu, "spsa", Mode.EXACT, iterations=20)
    # The points after the calibration are known; all others move with the pending value.
    assert outcome["speculation"]["hits"] == 1
    assert len(qpus.guessed) <= 1


def test_a_later_estimate_that_speaks_against_a_step_gives_another_one(tmp_path, qpu, monkeypatch):
    from efaas.runner import foresight

    taken = {}
    for tolerance in (0.0, 1e9):
        monkeypatch.setattr(foresight, "TOLERANCE", tolerance)
        _, qpus, _ = run(tmp_path / str(tolerance), qpu, "spsa", Mode.TOLERANT, iterations=10)
        taken[tolerance] = len(qpus.guessed)
    assert taken[0.0] > taken[1e9]


@pytest.mark.parametrize("mode", [Mode.EXACT, Mode.TOLERANT])
@pytest.mark.parametrize("method", ["nelderMead", "cobyla", "spsa", "qnSpsa"])
def test_with_drift_every_step_is_the_optimizers_reply_to_what_it_was_told(tmp_path, qpu, method, mode):
    records, _, _ = run(tmp_path, qpu, method, mode, drift=0.2)
    steps = [record for record in records if record["kind"] == "iteration"]
    reply = make_optimizer(OptimizerSpec.model_validate({method: {}}), np.array([0.1, 0.2, 0.3]), 0)
    told_estimates = 0
    for record in steps:
        assert reply.ask().points.tolist() == record["asked"]["points"]
        told = answers(record["told"])
        stepped_on = record.get("stepped_on")
        following = None if stepped_on is None else reply.preview(answers(stepped_on))
        reply.tell(told)
        if "next" in record:
            assert following.points.tolist() == record["next"]["points"]
            reply.ask_instead(following)
        if stepped_on is not None:
            told_estimates += 1
            final = record["final"] if "final" in record else record["told"]
            for value, estimate, error in zip(
                final["values"], stepped_on["values"], stepped_on["std_errors"], strict=True
            ):
                assert abs(value - estimate) <= 2 * error
    assert (told_estimates > 0) == (mode is Mode.TOLERANT)


def answers(record):
    from efaas.optimizers.base import Tell

    return Tell(
        np.array(record["values"]), np.array(record["std_errors"]), np.array(record.get("overlaps", ()))
    )


def test_a_step_that_was_rolled_back_leaves_no_trace(tmp_path, qpu, monkeypatch):
    from efaas.runner import foresight

    monkeypatch.setattr(foresight, "TOLERANCE", 0.0)
    off, _, _ = run(tmp_path / "off", qpu, "spsa", Mode.OFF)
    rolled, _, outcome = run(tmp_path / "tolerant", qpu, "spsa", Mode.TOLERANT)
    assert rolled == off
    assert outcome["speculation"]["speculative_jobs"] > 0


@pytest.mark.parametrize("method", ["nelderMead", "cobyla"])
def test_killed_after_any_record_an_exact_loop_goes_on_to_the_same_trajectory(tmp_path, make_qpu, method):
    expected, _, _ = run(tmp_path / "whole", make_qpu(), method, Mode.OFF, iterations=6)
    run(tmp_path / "exact", make_qpu(), method, Mode.EXACT, iterations=6)
    lines = (tmp_path / "exact" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        found, _, _ = run(folder, make_qpu(), method, Mode.EXACT, seed=0, iterations=6, lease=1)
        assert found == expected


@pytest.mark.parametrize("method", ["spsa", "qnSpsa", "nelderMead"])
def test_a_tolerant_loop_goes_on_from_the_points_that_its_estimates_chose(tmp_path, make_qpu, method):
    records, _, _ = run(tmp_path / "whole", make_qpu(), method, Mode.TOLERANT, iterations=8)
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    stepped = 0
    for kept in range(2, len(lines) - 1):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        found, _, _ = run(folder, make_qpu(), method, Mode.TOLERANT, iterations=8, lease=1)
        stepped += "stepped_on" in records[kept - 1]
        assert found[kept]["asked"] == records[kept]["asked"]
        assert json.dumps(found[:kept]) == json.dumps(records[:kept])
    assert stepped
