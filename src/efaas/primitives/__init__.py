"""Qiskit's primitives on EFaaS: the program of a tutorial runs with its imports changed and nothing else.

::

    from efaas import EstimatorV2 as Estimator, Session

    with Session(backend="manila-5") as session:
        estimator = Estimator(mode=session)
        job = estimator.run([(circuit, observable, parameters)])
        print(job.result()[0].data.evs)

Outside of a runner the session starts a QPU server on this machine; inside of one it uses the session's QPUs
and journal. See docs/primitives.md for what is taken and what is refused.
"""

from efaas.primitives.backend import Backend
from efaas.primitives.estimator import EstimatorV2
from efaas.primitives.job import PrimitiveJob
from efaas.primitives.options import EstimatorOptions, ResilienceOptions, SamplerOptions, ZneOptions
from efaas.primitives.sampler import SamplerV2
from efaas.primitives.session import Session

__all__ = [
    "Backend",
    "EstimatorOptions",
    "EstimatorV2",
    "PrimitiveJob",
    "ResilienceOptions",
    "SamplerOptions",
    "SamplerV2",
    "Session",
    "ZneOptions",
]
