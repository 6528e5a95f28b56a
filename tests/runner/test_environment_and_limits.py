"""What a runner is told and how much it may use, read strictly."""

import json

import pytest

from efaas.api.session import Limits as LimitsSpec
from efaas.errors import InputError
from efaas.runner.account import spread
from efaas.runner.environment import QpuTarget, RunnerEnvironment
from efaas.runner.limits import Limits, Usage
from efaas.runner.progress import LINE_LIMIT_BYTES, Progress

GOOD = {
    "EFAAS_SESSION_FILE": "s.yaml",
    "EFAAS_QPUS": '[{"device": "a", "endpoint": "h:1", "tokenFile": "t"}]',
    "EFAAS_JOURNAL": "runs/s/journal",
    "EFAAS_LEASE_EPOCH": "3",
}


def test_everything_is_read():
    environment = RunnerEnvironment.read({**GOOD, "EFAAS_PROGRESS_FD": "5", "EFAAS_PROGRAM": "p.py"})
    assert environment.lease_epoch == 3
    assert environment.progress_fd == 5
    assert str(environment.folder) == "runs/s"
    assert environment.qpus[0].device == "a"
    assert str(environment.program) == "p.py"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("EFAAS_SESSION_FILE", "", "EFAAS_SESSION_FILE: is not set"),
        ("EFAAS_QPUS", "no", "EFAAS_QPUS: is not JSON"),
        ("EFAAS_QPUS", "[]", "EFAAS_QPUS: is not a list of at least one"),
        ("EFAAS_QPUS", "[1]", r"EFAAS_QPUS\[0\]: is not an object"),
        ("EFAAS_QPUS", '[{"device": "a"}]', r"EFAAS_QPUS\[0\]: needs device, and endpoint or addressFile"),
        ("EFAAS_LEASE_EPOCH", "-1", "EFAAS_LEASE_EPOCH: '-1' is not a number"),
        ("EFAAS_LEASE_EPOCH", "٣", "is not a number"),
        ("EFAAS_PROGRESS_FD", "x", "EFAAS_PROGRESS_FD: 'x' is not a number"),
    ],
)
def test_a_bad_variable_is_named(name, value, words):
    with pytest.raises(InputError, match=words):
        RunnerEnvironment.read({**GOOD, name: value})


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (None, "old:1"),
        ("", "old:1"),
        ("new:2\n", "new:2"),
        ('{"device": "a", "endpoint": "new:3", "pid": 1}', "new:3"),
        ('{"device": ', ""),
    ],
)
def test_an_address_file_corrects_the_endpoint(tmp_path, written, address):
    if written is not None:
        (tmp_path / "address").write_text(written)
    assert QpuTarget("a", "old:1", address_file=tmp_path / "address").address() == address


def test_a_missing_token_is_named(tmp_path):
    with pytest.raises(InputError, match="token: cannot be read"):
        QpuTarget("a", "h:1", token_file=tmp_path / "token").token()


@pytest.mark.parametrize(
    ("limits", "usage", "elapsed_s", "idle_s", "words"),
    [
        ({}, Usage(10**9, 1e9), 1e9, 1e9, None),
        ({"shots": 100}, Usage(99), 0, 0, None),
        ({"shots": 100}, Usage(100), 0, 0, "100 shots are used, its limit spec.limits.shots is 100"),
        ({"qpuTime": "2s"}, Usage(0, 1.999), 0, 0, None),
        ({"qpuTime": "2s"}, Usage(0, 2.0), 0, 0, "2.000 s of device time are used, its limit"),
        (
            {"duration": "1m"},
            Usage(),
            60.0,
            0,
            "it has run for 60.0 s, its limit spec.limits.duration is 60 s",
        ),
        ({"idle": "1s"}, Usage(), 60.0, 1.5, "no job for 1.5 s, its limit spec.limits.idle is 1 s"),
    ],
)
def test_limits(limits, usage, elapsed_s, idle_s, words):
    reached = Limits.from_spec(LimitsSpec.model_validate(limits)).reached(usage, elapsed_s, idle_s)
    assert reached is None if words is None else words in reached


def test_spread_agrees_with_order_statistics():
    assert spread([]) == {"p50": None, "p95": None, "n": 0}
    assert spread(range(101)) == {"p50": 50.0, "p95": 95.0, "n": 101}


def test_a_result_too_long_for_a_line_leaves_its_parameters_out(tmp_path):
    with (tmp_path / "pipe").open("w+b") as file:
        Progress(file.fileno()).finished({"energy": -1.0, "parameters": [0.1] * LINE_LIMIT_BYTES})
        file.seek(0)
        assert json.loads(file.read())["result"] == {"energy": -1.0, "parameters": None}


def test_nobody_has_to_listen():
    progress = Progress(10_000)  # no such descriptor
    progress.state("Running")
    progress.finished({})
