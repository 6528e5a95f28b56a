"""Routing in a runner: what QPUs say decides where iterations go, and a move changes nothing."""

import time
from dataclasses import replace

import numpy as np
import pytest

from efaas.client.describing import Description
from efaas.core.placement import DeviceView, Health
from efaas.runner import routes as routing
from efaas.runner.dispatch import Dispatcher
from efaas.runner.environment import QpuTarget
from efaas.runner.jobs import Request
from efaas.runner.progress import Progress
from efaas.runner.routes import Routes

TERMS = (("ZZ", 1.0),)
NEVER = float("inf")


class Asked:
    """Answers for QPUs; tests change `views`, `due_s` and `now_s`."""

    def __init__(self, *names):
        self.views = {name: DeviceView(name, 5, local_calibration_s=20.0) for name in names}
        self.due_s = dict.fromkeys(names, NEVER)
        self.silent = set()
        self.now_s = 0.0
        self.pace = 1.0

    def clock(self):
        return self.now_s

    def change(self, name, **values):
        self.views[name] = replace(self.views[name], **values)

    def ask(self, endpoints):
        return {
            name: Description(self.views[name], self.now_s * self.pace, self.due_s[name], self.now_s)
            for name in endpoints
            if name not in self.silent
        }

    def close(self):
        pass


def routes_over(asked, limit_s=None):
    targets = [QpuTarget(name, name) for name in asked.views]
    routes = Routes("ns/s", targets, asked, max_calibration_age_s=limit_s, clock=asked.clock)
    routes.look()
    return routes


@pytest.fixture
def asked():
    return Asked("own", "other")


def test_nothing_is_decided_before_the_own_device_was_seen(asked):
    asked.silent = {"own"}
    assert routes_over(asked).next("c") is None


def test_a_calibrating_device_is_left_and_a_silent_one_counts_as_down(asked):
    routes = routes_over(asked)
    assert routes.next("c").device == "own"
    asked.change("own", health=Health.CALIBRATING)
    routes.look()
    assert routes.next("c").reason == "own is calibrating"

    routes = routes_over(Asked("own", "other"))
    routes.lost("own")
    assert (routes.next("c").device, routes.next("c").moved) == ("other", False)

    asked = Asked("own", "other")
    routes = routes_over(asked)
    asked.silent, asked.now_s = {"own"}, 2.0
    routes.look()
    assert routes.next("c").reason == "own: down"


def test_calibrations_age_between_looks_at_the_pace_of_the_device(asked):
    asked.pace = 50.0
    routes = routes_over(asked, limit_s=100.0)
    asked.now_s = 1.0
    asked.change("own", calibration_age_s=90.0)
    routes.look()
    assert routes.next("c").device == "own"
    asked.now_s = 1.3  # 15 device seconds later
    assert routes.next("c").reason == "own is past the calibration age limit"


def test_a_localised_calibration_of_the_circuit_counts(asked):
    routes = routes_over(asked, limit_s=100.0)
    asked.change("own", calibration_age_s=150.0)
    asked.change("other", calibration_age_s=150.0)
    routes.look()
    routes.took(result_on("own", age_s=1.0))
    assert routes.next("c").moved is False
    asked.now_s = 120.0
    routes.look()
    assert "past the calibration age limit" in routes.next("c").reason


def result_on(device, age_s):
    from efaas.client.results import JobResult, Timing

    return JobResult("id", device, (), Timing(), 1, age_s, 1, 1.0)


def test_a_move_is_foreseen_shortly_before_a_calibration_and_only_where_the_circuit_is_cold(asked):
    routes = routes_over(asked, limit_s=1000.0)
    assert routes.foreseen("c") is None
    asked.due_s["own"] = routing.LOOKAHEAD_S / 2
    routes.look()
    assert routes.foreseen("c") == "other"
    asked.change("other", warm_circuits=frozenset({"c"}))
    routes.look()
    assert routes.foreseen("c") is None


def test_the_session_limit_makes_a_move_foreseen_too(asked):
    routes = routes_over(asked, limit_s=100.0)
    asked.change("own", calibration_age_s=99.8)
    routes.look()
    assert routes.foreseen("c") == "other"


def test_a_full_or_cordoned_device_takes_back_a_session_that_has_its_place_there(asked):
    routes = routes_over(asked)
    routes.took(result_on("own", 0.0))
    asked.change("own", health=Health.CALIBRATING)
    routes.look()
    assert routes.next("c").device == "other"
    asked.now_s = 100.0
    asked.change("own", health=Health.READY, slots=1, slots_used=1, cordoned=True)
    asked.change("other", queue_s=50.0)
    routes.look()
    assert (routes.next("c").device, routes.next("c").moved) == ("own", False)


# --- the dispatcher -------------------------------------------------------------------------------


class Heard(Progress):
    """Remembers moves."""

    def __init__(self):
        super().__init__(None, None)
        self.moves = []

    def moved(self, source, target, reason):
        self.moves.append((source, target, reason))


@pytest.fixture
def session(make_qpu, monkeypatch, request):
    """A dispatcher over two fake QPUs with routes, which look when the test says so."""
    monkeypatch.setattr(routing, "LOOK_S", 0.01)
    qpus = {name: make_qpu(name) for name in ("own", "other")}
    asked, heard = Asked(*qpus), Heard()
    routes = routes_over(asked)
    dispatcher = Dispatcher(
        "ns/s",
        [QpuTarget(name, name) for name in qpus],
        heard,
        seed=1,
        connect=lambda endpoint, *rest: qpus[endpoint].connect(endpoint, *rest),
        patience_s=0.2,
        routes=routes,
        begin_at=getattr(request, "param", ""),
    )
    dispatcher.qpus, dispatcher.asked, dispatcher.heard, dispatcher.routes = qpus, asked, heard, routes
    yield dispatcher
    dispatcher.close()


def run(dispatcher, evaluation):
    request = Request("circuit", np.array([[0.1]]), 64, evaluation, observables=(TERMS,))
    return dispatcher.submit(request).result(5)


def until(happened):
    end = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_iterations_leave_a_calibrating_device_and_measure_the_same_elsewhere(session, make_qpu):
    first = run(session, 0)
    session.asked.change("own", health=Health.CALIBRATING)
    session.routes.look()
    second = run(session, 1)
    assert (first.device, second.device, session.device) == ("own", "other", "other")
    assert session.route == "own is calibrating"
    assert session.heard.moves == [("own", "other", "own is calibrating")]
    # The trajectory does not depend on where it was measured.
    alone = Dispatcher(
        "ns/s", [QpuTarget("alone", "0")], Heard(), seed=1, connect=make_qpu("alone").connect, patience_s=0.2
    )
    assert [run(alone, number).values.tolist() for number in (0, 1)] == [
        first.values.tolist(),
        second.values.tolist(),
    ]
    alone.close()


def test_the_connection_that_is_left_is_kept_and_hears_its_acknowledgements(session):
    first = run(session, 0)
    session.asked.change("own", health=Health.CALIBRATING)
    session.routes.look()
    second = run(session, 1)
    session.acknowledge(first.job_id)
    session.acknowledge(second.job_id)
    assert session.qpus["own"].acknowledged == {first.job_id}
    assert session.qpus["other"].acknowledged == {second.job_id}
    session.asked.change("own", health=Health.READY)
    session.asked.change("other", health=Health.DRAINING)
    session.routes.look()
    assert run(session, 2).device == "own"
    assert session.route == ""
    assert [len(qpu.connections) for qpu in session.qpus.values()] == [1, 1]


@pytest.mark.parametrize("session", ["other"], indirect=True)
def test_a_runner_that_goes_on_asks_first_where_the_last_one_was(session):
    """The job after the last record may have run there, and is charged."""
    assert run(session, 0).device == "other"
    assert session.route == "its last job ran on other"
    assert session.qpus["own"].submitted == []
    session.routes.look()
    assert run(session, 1).device == "own"
    assert session.route == ""


@pytest.mark.parametrize("session", ["gone"], indirect=True)
def test_a_device_that_is_offered_no_more_is_not_asked(session):
    assert run(session, 0).device == "own"


def test_a_foreseen_move_finds_its_circuit_registered(session):
    run(session, 0)
    session.asked.due_s["own"] = 0.1
    until(lambda: session.qpus["other"].connections and session.qpus["other"].connections[0].circuits)
    session.asked.change("own", health=Health.CALIBRATING)
    session.routes.look()
    assert run(session, 1).device == "other"
    assert len(session.qpus["other"].connections) == 1


def test_a_device_that_dies_sends_its_jobs_to_the_other_one(session):
    run(session, 0)
    session.qpus["own"].hold = True
    request = Request("circuit", np.array([[0.1]]), 64, 1, observables=(TERMS,))
    future = session.submit(request)
    session.qpus["own"].drop()
    assert future.result(5).device == "other"
    assert session.heard.moves == [("own", "other", "own: down")]


def test_an_iteration_that_waits_for_a_calibration_is_taken_to_the_other_device(session):
    run(session, 0)
    own = session.qpus["own"]
    own.hold = True
    request = Request("circuit", np.array([[0.1]]), 64, 1, observables=(TERMS,))
    future = session.submit(request)
    session.asked.change("own", health=Health.CALIBRATING, calibration_left_s=0.5)
    time.sleep(0.05)
    assert not future.done(), "not worth a move"
    session.asked.change("own", calibration_left_s=150.0)
    assert future.result(5).device == "other"
    assert future.id not in own.charged
    assert session.heard.moves == [("own", "other", "own is calibrating")]
