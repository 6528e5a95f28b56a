"""What a job is, and where its randomness comes from.

A job's id names the computation (session, evaluation number, digest of circuit, parameters and shots) and
never the attempt, the slice or the speculation that carries it out. Each shot draws its randomness from the
id alone, so counts do not depend on how, when or in which order a job was sliced, restarted or speculated:

- For shot k of pair p (one parameter set in one measurement basis) the uniform number is draw k of the
  counter-based generator Philox keyed with H(session seed, job id, p). Any run of shots can be drawn without
  those before it.
- A simulation that must be seeded as a whole (noise trajectories) gets, for block b, the seed
  H(session seed, id, p, b).

Blocks have `BLOCK_SHOTS` shots. The canonical order of a job's work is block-major: block 0 of every pair,
then block 1 of every pair, so that the first slice is an estimate of the whole. A slice is a run of
(block, pair) cells in this order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BLOCK_SHOTS = 256
"""Shots in one block; a multiple of four, the draws of one Philox step."""

_DIGEST_BYTES = 16


def digest(*parts: bytes | str | int | float) -> str:
    """Hex digest of a sequence; parts are framed by type and length, so that joining makes no collisions."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        if isinstance(part, bytes):
            tag, data = b"b", part
        elif isinstance(part, str):
            tag, data = b"s", part.encode()
        elif isinstance(part, int):
            tag, data = b"i", str(part).encode()
        else:
            tag, data = b"f", float(part).hex().encode()
        state.update(tag + len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def circuit_digest(program: str | bytes) -> str:
    """Handle of a circuit: the digest of its OpenQASM 3 text or its QPY bytes."""
    return digest("circuit", program)


def observable_digest(terms: Iterable[tuple[str, float]]) -> str:
    """Handle of an observable: the digest of its (Pauli string, coefficient) terms in their order."""
    parts: list[str | float] = ["observable"]
    for pauli, coefficient in terms:
        parts += [pauli, float(coefficient)]
    return digest(*parts)


def job_id(
    session: str,
    evaluation: int,
    circuit: str,
    observables: Iterable[str],
    parameters: NDArray[np.float64],
    shots: int,
    *,
    readout_mitigation: bool = False,
) -> str:
    """Id of a job.

    Args:
        session: ``namespace/name`` of the session.
        evaluation: running number of the submit in its session, from 0.
        circuit: handle of the circuit.
        observables: handles of the observables, in order.
        parameters: shape (parameter sets, parameters), radians.
        shots: for each parameter set and measurement basis.
        readout_mitigation: whether values are corrected.

    Returns:
        ``<evaluation>-<digest>``; the session is part of the digest.
    """
    values = np.ascontiguousarray(parameters, dtype="<f8")
    inner = digest(
        session,
        evaluation,
        circuit,
        *observables,
        *values.shape,
        values.tobytes(),
        shots,
        int(readout_mitigation),
    )
    return f"{evaluation}-{inner}"


def _key(session_seed: int, job: str, pair: int) -> bytes:
    return bytes.fromhex(digest("shots", session_seed, job, pair))


def shot_uniforms(session_seed: int, job: str, pair: int, first_shot: int, shots: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) of a run of shots of one (parameter set, basis) pair.

    Args:
        session_seed: the session's seed.
        job: the job's id.
        pair: index of the pair, parameter set major.
        first_shot: first shot of the run; a multiple of four (blocks are).
        shots: length of the run.

    Returns:
        Shape (shots,). ``shot_uniforms(…, 0, n)[a:b] == shot_uniforms(…, a, b - a)`` for a divisible by four.
    """
    if first_shot % 4:
        raise ValueError(f"first_shot {first_shot} is not a multiple of 4, the draws of one Philox step")
    generator = np.random.Philox(key=int.from_bytes(_key(session_seed, job, pair), "little"))
    if first_shot:
        generator.advance(first_shot // 4)
    return np.random.Generator(generator).random(shots)


class ShotSource:
    """`shot_uniforms` for a caller that draws often: the same numbers from one generator, at half the cost.

    Making a generator takes longer than drawing a block from it. One source serves one thread.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._nothing = np.zeros(4, dtype=np.uint64)

    def uniforms(
        self, session_seed: int, job: str, pair: int, first_shot: int, shots: int
    ) -> NDArray[np.float64]:
        """Uniform numbers of a run of shots; see `shot_uniforms`."""
        if first_shot % 4:
            raise ValueError(f"first_shot {first_shot} is not a multiple of 4, the draws of one Philox step")
        key = np.frombuffer(_key(session_seed, job, pair), dtype="<u8")
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {"counter": np.array([first_shot // 4, 0, 0, 0], dtype=np.uint64), "key": key},
            "buffer": self._nothing,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator.random(shots)


def block_seed(session_seed: int, job: str, pair: int, block: int) -> int:
    """Seed (below 2^63) of the simulation of one block of a pair, for methods that are seeded as a whole."""
    return int(digest("block", session_seed, job, pair, block)[:16], 16) >> 1
