"""A discrete-event host of the machines that run QPUs: what is measured here is what the servers run."""

from __future__ import annotations

from efaas.simulator.host import Simulator
from efaas.simulator.measures import Iteration, Measures, percentile
from efaas.simulator.workload import BatchStream, LoopSession

__all__ = ["BatchStream", "Iteration", "LoopSession", "Measures", "Simulator", "percentile"]
