"""The client's end of the stream, message by message, without a network."""

from __future__ import annotations

import math

import numpy as np
import pytest

from efaas.api.wire import qpu_pb2 as wire
from efaas.client import Exchange, SessionIdentity, submit_message
from efaas.client import exchange as ex
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.errors import (
    CircuitError,
    InputError,
    JobFailed,
    ParameterError,
    QpuUnavailable,
    SessionEnded,
)

IDENTITY = SessionIdentity("team/loop", lease_epoch=3, token="sesame", seed=7, weight=2)
PROGRAM = "OPENQASM 3.0;"
TERMS = [("ZZ", 1.0), ("XI", 0.5)]


def job(evaluation: int = 0) -> wire.Submit:
    return submit_message("team/loop", circuit_digest(PROGRAM), [0.5], 100, evaluation=evaluation)


def server(**message) -> wire.ServerMessage:
    return wire.ServerMessage(**message)


def result(message: wire.Submit, **fields) -> wire.ServerMessage:
    return server(
        result=wire.Result(job_id=message.job_id, evaluations=[wire.Evaluation(values=[1.0])], **fields)
    )


def kinds(messages) -> list[str]:
    return [message.WhichOneof("message") for message in messages]


def test_a_new_stream_is_told_everything_in_order():
    exchange = Exchange(IDENTITY)
    assert kinds(exchange.opening(0.0)) == ["hello"]
    exchange.submit(job(0), 0.0)
    exchange.register_observable(TERMS)
    exchange.register_circuit(PROGRAM)
    exchange.submit(job(1), 0.0)
    exchange.cancel(job(0).job_id)
    opening = exchange.opening(5.0)
    assert kinds(opening) == ["hello", "circuit", "observable", "submit", "cancel", "submit"]
    assert opening[0].hello == wire.Hello(
        protocol=1,
        session="team/loop",
        tenant="team",
        lease_epoch=3,
        token="sesame",
        session_seed=7,
        weight=2,
    )
    assert opening[1].circuit.handle == circuit_digest(PROGRAM)
    assert opening[2].observable.handle == observable_digest(TERMS)
    assert opening[3].submit == job(0)
    assert opening[4].cancel.job_id == job(0).job_id


def test_finished_jobs_and_refused_registrations_are_not_said_again():
    exchange = Exchange(IDENTITY)
    handle, _ = exchange.register_circuit(PROGRAM)
    exchange.submit(job(0), 0.0)
    exchange.submit(job(1), 0.0)
    exchange.receive(result(job(0)), 1.0)
    failed = wire.Error(code=wire.WORKER_FAILED, job_id=job(1).job_id, message="it died", retry=True)
    event = exchange.receive(server(error=failed), 1.0)
    assert isinstance(event, ex.JobErred)
    assert isinstance(event.error, JobFailed)
    assert event.error.retry
    event = exchange.receive(server(error=wire.Error(code=wire.BAD_CIRCUIT, handle=handle)), 1.0)
    assert isinstance(event, ex.RegistrationFailed)
    assert isinstance(event.error, CircuitError)
    assert kinds(exchange.opening(2.0)) == ["hello"]


def test_the_round_trip_is_counted_from_the_last_submit():
    exchange = Exchange(IDENTITY)
    exchange.submit(job(), 10.0)
    exchange.opening(20.0)
    done = exchange.receive(result(job(), timing=wire.Timing(server_s=1.0)), 24.0)
    assert isinstance(done, ex.JobDone)
    assert done.result.timing.round_trip_s == 4.0
    assert done.result.timing.network_s == 1.5


def test_answers_that_nobody_waits_for_are_passed_over():
    exchange = Exchange(IDENTITY)
    exchange.submit(job(), 0.0)
    name = job().job_id
    assert isinstance(exchange.receive(result(job()), 1.0), ex.JobDone)
    late = [
        result(job(), kept=True),
        server(queued=wire.Queued(job_id=name)),
        server(started=wire.Started(job_id=name)),
        server(partial=wire.Partial(job_id=name)),
        server(error=wire.Error(code=wire.CANCELLED, job_id=name)),
        server(),
    ]
    assert [exchange.receive(message, 2.0) for message in late] == [None] * len(late)
    assert exchange.cancel(name) is None


def test_a_draining_server_does_not_end_a_job():
    exchange = Exchange(IDENTITY)
    exchange.submit(job(), 0.0)
    draining = wire.Error(code=wire.DRAINING, job_id=job().job_id, retry=True)
    assert exchange.receive(server(error=draining), 1.0) is None
    assert exchange.unfinished == (job().job_id,)
    refused = exchange.receive(server(error=wire.Error(code=wire.DRAINING, retry=True)), 1.0)
    assert isinstance(refused, ex.StreamRefused)
    assert refused.error.retry


def test_the_same_job_is_not_sent_twice_at_once():
    exchange = Exchange(IDENTITY)
    exchange.submit(job(), 0.0)
    with pytest.raises(InputError, match="already"):
        exchange.submit(job(), 0.0)
    assert exchange.cancel(job().job_id) is not None
    assert exchange.cancel(job().job_id) is None


@pytest.mark.parametrize("code", list(wire.ErrorCode.values()))
def test_every_code_has_an_error(code):
    error = ex.error_from_wire(wire.Error(code=code, message="why", place="submit.shots", retry=False))
    wanted = {
        wire.BAD_CIRCUIT: CircuitError,
        wire.BAD_PARAMETERS: ParameterError,
        wire.BAD_OBSERVABLE: InputError,
        wire.UNKNOWN_HANDLE: InputError,
        wire.BAD_MESSAGE: InputError,
        wire.UNAUTHENTICATED: InputError,
        wire.LIMIT_REACHED: InputError,
        wire.FENCED: SessionEnded,
        wire.DRAINING: QpuUnavailable,
        wire.CANCELLED: JobFailed,
        wire.WORKER_FAILED: JobFailed,
        wire.INTERNAL: JobFailed,
    }
    assert type(error) is wanted[code]
    assert (error.message, error.place) == ("why", "submit.shots")


@pytest.mark.parametrize(
    ("parameters", "shots", "place"),
    [
        ([[0.0, math.inf]], 1, "parameters[0][1]"),
        ([[[0.0]]], 1, "parameters"),
        (np.empty((0, 2)), 1, "parameters"),
        ([0.0], 0, "shots"),
    ],
)
def test_bad_parameters_never_travel(parameters, shots, place):
    with pytest.raises(ParameterError) as caught:
        submit_message("team/loop", "0" * 32, parameters, shots, evaluation=0)
    assert caught.value.place == place


def test_a_vector_is_one_parameter_set_and_the_id_is_that_of_the_contract():
    message = submit_message(
        "team/loop", "0" * 32, [0.1, 0.2], 50, evaluation=4, observables=["1" * 32], readout_mitigation=True
    )
    assert message.parameter_sets == 1
    wanted = job_id("team/loop", 4, "0" * 32, ["1" * 32], np.array([[0.1, 0.2]]), 50, readout_mitigation=True)
    assert message.job_id == wanted


def test_outcomes_are_decoded_to_the_bit():
    outcomes = wire.Outcomes(bits=10, outcomes=bytes([0b11, 0b10, 0, 0]), counts=[3, 4])
    evaluation = ex.evaluation_from_wire(wire.Evaluation(outcomes=outcomes))
    assert evaluation.counts_by_bitstring() == {"1000000011": 3, "0000000000": 4}
    torn = wire.Evaluation(outcomes=wire.Outcomes(bits=10, outcomes=b"\x00"))
    with pytest.raises(JobFailed):
        ex.evaluation_from_wire(torn)


def test_values_that_are_not_finite_are_no_result():
    exchange = Exchange(IDENTITY)
    exchange.submit(job(), 0.0)
    evaluations = [wire.Evaluation(values=[math.nan])]
    event = exchange.receive(server(result=wire.Result(job_id=job().job_id, evaluations=evaluations)), 1.0)
    assert isinstance(event, ex.JobErred)
    assert exchange.unfinished == ()
