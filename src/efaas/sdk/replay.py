"""What a submit asks, in few bytes, and whether it is what it asked when the program ran before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efaas.core.identity import circuit_digest, digest, observable_digest
from efaas.errors import ProgramNotDeterministic
from efaas.runner.jobs import Request


def asked_of(request: Request) -> dict[str, Any]:
    """What a submit asks, in few bytes; the same again gives the same."""
    return {
        "circuit": circuit_digest(request.program),
        "observables": [observable_digest(terms) for terms in request.observables],
        "points": len(request.parameters),
        "parameters": digest(*request.parameters.shape, request.parameters.astype("<f8").tobytes()),
        "shots": request.shots,
        "readout_mitigation": request.readout_mitigation,
        "per_shot": request.per_shot,
    }


_IN_WORDS = {
    "circuit": "another circuit",
    "observables": "other observables",
    "points": "another number of points",
    "parameters": "other parameters",
    "shots": "another number of shots",
    "readout_mitigation": "readout mitigation the other way",
    "per_shot": "outcomes in another form",
}


def must_agree(number: int, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if submit `number` asks something else than the journal says.

    Raises:
        ProgramNotDeterministic: it names what differs.
    """
    different = [name for name in _IN_WORDS if before.get(name) != now[name]]
    if not different:
        return
    words = " and ".join(_IN_WORDS[name] for name in different)
    values = ", ".join(
        f"{name} {before.get(name)} before, {now[name]} now"
        for name in different
        if isinstance(now[name], bool | int)
    )
    raise ProgramNotDeterministic(
        f"asks for {words} than when it was journalled{f' ({values})' if values else ''}; "
        "seed random numbers with session.seed and let nothing depend on time or on the order of results, "
        "or start anew",
        place=f"submit {number}",
    )
