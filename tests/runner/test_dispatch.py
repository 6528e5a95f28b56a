"""The dispatcher: straight through when it can, to the next QPU when it must, and every future ends."""

import time

import numpy as np
import pytest

from efaas.errors import CircuitError, InputError, JobFailed, ParameterError, QpuUnavailable, SessionEnded
from efaas.runner import dispatch, tasks
from efaas.runner.dispatch import Dispatcher
from efaas.runner.environment import QpuTarget
from efaas.runner.jobs import Request, as_matrix
from efaas.runner.progress import Progress

TERMS = (("ZZ", 1.0),)


def request(evaluation=0, program="circuit", value=0.1):
    return Request(program, np.array([[value]]), 64, evaluation, observables=(TERMS,))


@pytest.fixture
def dispatch_to():
    made = []

    def make(qpus, **options):
        """A dispatcher whose targets are these fake QPUs, at endpoints 0, 1, …"""
        targets = options.pop(
            "targets", [QpuTarget(qpu.device, str(index)) for index, qpu in enumerate(qpus)]
        )
        connect = options.pop("connect", lambda endpoint, *rest: qpus[int(endpoint)].connect(endpoint, *rest))
        options.setdefault("patience_s", 0.2)
        made.append(
            Dispatcher("default/test", targets, Progress(None, None), seed=1, connect=connect, **options)
        )
        return made[-1]

    yield make
    for dispatcher in made:
        dispatcher.close()


def test_results_have_the_id_that_was_promised(dispatch_to, qpu):
    dispatcher = dispatch_to([qpu])
    future = dispatcher.submit(request())
    assert future.result(5).job_id == future.id == dispatcher.name(request())


def test_circuits_and_observables_are_registered_once(dispatch_to, qpu):
    registered = []
    original = qpu.connect

    def connect(*arguments):
        connection = original(*arguments)
        register = connection.register_circuit
        connection.register_circuit = lambda program: (registered.append(program), register(program))
        return connection

    dispatcher = dispatch_to([qpu], connect=connect)
    dispatcher.prepare("circuit", TERMS)
    for evaluation in range(3):
        dispatcher.submit(request(evaluation)).result(5)
    assert registered == ["circuit"]


def test_a_qpu_that_is_down_is_passed_over(dispatch_to, make_qpu):
    first, second = make_qpu("first"), make_qpu("second")
    first.down = True
    dispatcher = dispatch_to([first, second])
    assert dispatcher.submit(request()).result(5).device == "second"
    assert dispatcher.device == "second"


def test_jobs_of_a_lost_qpu_go_to_the_next_under_the_same_ids(dispatch_to, make_qpu):
    first, second = make_qpu("first"), make_qpu("second")
    first.hold = True
    dispatcher = dispatch_to([first, second])
    futures = [dispatcher.submit(request(evaluation)) for evaluation in range(3)]
    wait_until(lambda: len(first.submitted) == 3)
    first.drop()
    assert [future.result(5).device for future in futures] == ["second"] * 3
    assert [message.job_id for message in second.submitted] == [future.id for future in futures]


def test_when_no_qpu_answers_every_future_says_so(dispatch_to, make_qpu):
    first, second = make_qpu("first"), make_qpu("second")
    first.down = second.down = True
    dispatcher = dispatch_to([first, second])
    with pytest.raises(QpuUnavailable, match=r"no QPU could be reached \(first: refused; second: refused\)"):
        dispatcher.submit(request()).result(5)
    with pytest.raises(QpuUnavailable):  # and those that come later
        dispatcher.submit(request()).result(5)


def test_a_server_that_writes_no_address_is_given_up(dispatch_to, tmp_path, qpu):
    target = QpuTarget("slow", address_file=tmp_path / "address")
    dispatcher = dispatch_to([qpu], targets=[target], patience_s=0.05)
    with pytest.raises(QpuUnavailable, match=r"slow: its server wrote no address within 0\.05 s"):
        dispatcher.submit(request()).result(5)


def test_an_address_that_comes_late_is_waited_for(dispatch_to, tmp_path, qpu):
    target = QpuTarget("late", address_file=tmp_path / "address")
    dispatcher = dispatch_to([qpu], targets=[target], patience_s=5)
    future = dispatcher.submit(request())
    (tmp_path / "address").write_text("0\n")
    assert future.result(5).device == "fake"


def test_a_server_started_anew_elsewhere_is_followed(dispatch_to, tmp_path, make_qpu, monkeypatch):
    monkeypatch.setattr(dispatch, "_POLL_S", 0.01)
    old, new = make_qpu("one"), make_qpu("one")
    old.hold = True
    address = tmp_path / "address"
    address.write_text("0")
    dispatcher = dispatch_to([old, new], targets=[QpuTarget("one", address_file=address)])
    future = dispatcher.submit(request())
    wait_until(lambda: old.submitted)
    address.write_text("1")
    assert future.result(5).job_id == new.submitted[0].job_id


def test_a_job_that_failed_on_the_way_is_tried_again_under_the_same_id(dispatch_to, qpu, monkeypatch):
    monkeypatch.setattr(tasks, "RETRY_DELAY_S", 0.001)
    qpu.errors = [JobFailed("the worker died", retry=True)] * tasks.RETRIES
    future = dispatch_to([qpu]).submit(request())
    assert future.result(5).job_id == future.id
    assert {message.job_id for message in qpu.submitted} == {future.id}
    assert len(qpu.submitted) == tasks.RETRIES + 1


def test_a_job_that_keeps_failing_is_given_up(dispatch_to, qpu, monkeypatch):
    monkeypatch.setattr(tasks, "RETRY_DELAY_S", 0.001)
    qpu.errors = [JobFailed("the worker died", retry=True)] * (tasks.RETRIES + 1)
    with pytest.raises(JobFailed, match="the worker died"):
        dispatch_to([qpu]).submit(request()).result(5)


@pytest.mark.parametrize(
    "error", [JobFailed("no", retry=False), ParameterError("no"), SessionEnded("fenced")]
)
def test_what_a_retry_cannot_mend_is_not_tried_again(dispatch_to, qpu, error):
    qpu.errors = [error]
    with pytest.raises(type(error)):
        dispatch_to([qpu]).submit(request()).result(5)
    assert len(qpu.submitted) == 1


def test_a_refused_circuit_fails_its_own_job_only(dispatch_to, qpu):
    original = qpu.connect

    def connect(*arguments):
        connection = original(*arguments)
        register = connection.register_circuit

        def register_circuit(program):
            if program == "bad":
                raise CircuitError("cannot be read", place="circuit")
            register(program)

        connection.register_circuit = register_circuit
        return connection

    dispatcher = dispatch_to([qpu], connect=connect)
    dispatcher.prepare("bad", "circuit")
    bad, good = dispatcher.submit(request(0, "bad")), dispatcher.submit(request(1))
    assert good.result(5).job_id == good.id
    with pytest.raises(CircuitError, match="cannot be read"):
        bad.result(5)


def test_a_bad_token_ends_everything(dispatch_to, qpu):
    def connect(*arguments):
        raise InputError("the token is wrong", place="token")

    with pytest.raises(InputError, match="token"):
        dispatch_to([qpu], connect=connect).submit(request()).result(5)


def test_a_waiting_job_can_be_cancelled(dispatch_to, tmp_path, qpu):
    dispatcher = dispatch_to([qpu], targets=[QpuTarget("none", address_file=tmp_path / "x")], patience_s=5)
    future = dispatcher.submit(request())
    assert future.cancel()
    with pytest.raises(JobFailed, match="cancelled"):
        future.result(5)


def test_closing_ends_all_futures_at_once(dispatch_to, qpu):
    qpu.hold = True
    dispatcher = dispatch_to([qpu])
    future = dispatcher.submit(request())
    wait_until(lambda: qpu.submitted)
    dispatcher.close()
    with pytest.raises(SessionEnded):
        future.result(5)
    with pytest.raises(SessionEnded):
        dispatcher.submit(request(1)).result(5)
    assert qpu.connections[0].closed


def test_who_only_leaves_keeps_the_qpu_at_work(dispatch_to, qpu):
    qpu.hold = True
    dispatcher = dispatch_to([qpu])
    future = dispatcher.submit(request())
    wait_until(lambda: qpu.submitted)
    dispatcher.close(over=False)
    with pytest.raises(SessionEnded):
        future.result(5)
    assert not qpu.connections[0].closed


@pytest.mark.parametrize(
    ("given", "shape"), [([0.1, 0.2], (1, 2)), ([[0.1], [0.2]], (2, 1)), (np.empty((1, 0)), (1, 0))]
)
def test_parameters_become_a_matrix_of_points(given, shape):
    assert as_matrix(given).shape == shape


def wait_until(condition, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
