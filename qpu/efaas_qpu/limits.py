"""How much a session may ask of the server.

Everything that comes from outside is bounded before memory or time is spent on it. Bounds that depend on
the circuit (instructions, qubits, simulation memory) are the engine's; these are the stream's and the
host's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of streams, jobs and what is kept. Tests set small ones."""

    message_bytes: int = 16 << 20
    """Longest message of a client."""
    program_bytes: int = 512 << 10
    """Longest program of a circuit."""
    observable_terms: int = 20_000
    """Pauli terms of an observable."""
    pauli_letters: int = 1000
    """Letters of a Pauli string."""
    circuits: int = 256
    """Circuits registered by one session; the one registered longest ago makes way."""
    observables: int = 1024
    """Observables registered by one session; the one registered longest ago makes way."""
    parameter_sets: int = 4096
    """Parameter sets of a job."""
    parameters: int = 1 << 20
    """Numbers in all parameter sets of a job."""
    job_observables: int = 256
    """Observables of a job."""
    shots: int = 1_000_000
    """Shots for each parameter set and measurement basis."""
    job_shots: int = 100_000_000
    """Shots of a whole job."""
    result_bytes: int = 32 << 20
    """Outcomes of a job that the server is ready to hold and send."""
    unfinished_jobs: int = 256
    """Jobs of one session that have no result yet."""
    sessions: int = 1000
    """Sessions that are open at once."""
    streams: int = 1000
    """Streams that are open at once, greeted or not."""
    waiting_bytes: int = 64 << 20
    """Messages that wait for a client that reads slowly; past it the stream is dropped."""
    waiting_messages: int = 4096
    """As `waiting_bytes`, in messages."""
    hello_s: float = 10.0
    """Wall seconds in which a new stream must say hello."""
    absence_s: float = 120.0
    """Wall seconds that a session's waiting jobs outlive its stream."""
    kept_results: int = 4096
    """Results kept for another submit of the same job, all sessions together; the oldest make way."""
    kept_results_of_session: int = 512
    """As `kept_results`, of one session."""
    kept_bytes: int = 64 << 20
    """As `kept_results`, in bytes."""
    charge_keys: int = 200_000
    """Charges that are remembered so as not to book them twice; the oldest are forgotten."""
    known_sessions: int = 10_000
    """Sessions whose lease epoch and usage are remembered; those unheard of longest are forgotten."""
    log_bytes: int = 32 << 20
    """What the log may grow by before it is written anew."""
    drain_s: float = 3.0
    """Wall seconds that the running job may take when the server is told to end."""
