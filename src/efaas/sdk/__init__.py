"""What a user's own program imports: the session it runs as, and futures of quantum jobs.

A program is an ordinary script. It is made resumable by its journal: each result is on disk before the
program sees it, and when the program is run again its n-th submit is answered from there, without a QPU,
until it comes to what was not done yet. That works if the program asks the same things again:
`Session.seed` seeds its random numbers, and nothing it submits may depend on the time or on the order in
which results came in.
"""

from efaas.sdk.current import session
from efaas.sdk.future import QuantumFuture, RunningEstimate, StepFuture, as_completed, wait
from efaas.sdk.loop import LoopReport
from efaas.sdk.session import Session
from efaas.sdk.steps import NextJob

__all__ = [
    "LoopReport",
    "NextJob",
    "QuantumFuture",
    "RunningEstimate",
    "Session",
    "StepFuture",
    "as_completed",
    "session",
    "wait",
]
