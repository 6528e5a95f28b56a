"""A limit is noticed while a job runs: the job is cancelled and the session expires."""

import concurrent.futures

import pytest

from efaas.runner.account import Account
from efaas.runner.limits import Limits
from efaas.runner.waiting import LimitReached, Waiting


class Job(concurrent.futures.Future):
    cancelled_for_good = False

    def cancel(self):
        self.cancelled_for_good = True
        return True


def test_a_job_that_outlasts_the_limit_is_cancelled():
    waiting = Waiting(Limits(duration_s=5), Account(), lambda: 6.0, lambda: 6.0)
    job = Job()
    with pytest.raises(LimitReached, match=r"spec\.limits\.duration"):
        waiting.result(job)
    assert job.cancelled_for_good


def test_time_without_a_job_is_idle_and_time_with_one_is_not():
    now = [0.0]
    waiting = Waiting(Limits(idle_s=1.0), Account(), lambda: now[0], lambda: now[0])
    job = Job()
    job.set_result("result")
    now[0] = 0.9
    waiting.check()
    assert waiting.result(job) == "result"
    now[0] = 1.8  # 0.9 since the result
    waiting.check()
    now[0] = 2.0
    with pytest.raises(LimitReached, match=r"spec\.limits\.idle"):
        waiting.check()
