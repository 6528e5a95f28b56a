"""Every error that EFaaS raises on purpose, in one tree.

::

    EfaasError
    ├── InputError                 the caller gave something that can never work; retrying is useless
    │   ├── ManifestError          a document or a field of it (`place` is its path)
    │   │   └── ManifestFaults     several of them, found in one reading
    │   ├── CircuitError           a circuit was refused (unparsable, unbounded, too large, old QPY)
    │   └── ParameterError         parameter vectors of the wrong shape or not finite
    ├── ProgramNotDeterministic    a resumed program asked for something else than it did before
    ├── SessionEnded               the session reached a limit, was cancelled or fenced off
    ├── JobFailed                  the QPU gave up on a job; `retry` tells whether another try can help
    └── QpuUnavailable             no QPU could be reached; always worth a retry

Catching `EfaasError` catches all. Each error holds a stable `code` for programs, the `place` it blames
(a field path such as ``spec.problem.terms[3].pauli``) and whether a `retry` can help; its text is one
sentence with the place and the remedy, for people.
"""

from __future__ import annotations


class EfaasError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one sentence that names the fault and the remedy, without the place.
        place: path of the field, file or argument at fault; empty when there is none.
    """

    code: str = "Error"
    retry: bool = False

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message, place)
        self.message = message
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class InputError(EfaasError):
    """The caller gave something that can never work."""

    code = "BadInput"


class ManifestError(InputError):
    """A document, or one of its fields, is not what the API takes."""

    code = "BadManifest"


class CircuitError(InputError):
    """A circuit was refused before it ran."""

    code = "BadCircuit"


class ParameterError(InputError):
    """Parameter vectors have the wrong shape, or a value is not finite."""

    code = "BadParameters"


class ProgramNotDeterministic(EfaasError):
    """A resumed program's n-th submit differs from the one in its journal."""

    code = "ProgramNotDeterministic"


class SessionEnded(EfaasError):
    """The session reached a limit, was cancelled, or was fenced off by a newer lease."""

    code = "SessionEnded"


class JobFailed(EfaasError):
    """The QPU gave up on a job.

    Args:
        message: what happened, in one sentence.
        retry: whether submitting the same job again can succeed.
    """

    code = "JobFailed"

    def __init__(self, message: str, *, place: str = "", retry: bool = False) -> None:
        super().__init__(message, place=place)
        self.retry = retry


class QpuUnavailable(EfaasError):
    """No QPU server could be reached."""

    code = "QpuUnavailable"
    retry = True


class ManifestFaults(ManifestError):
    """Several faults found in one reading, so that a person can mend them all at once.

    Args:
        faults: at least one error, in the order of the files.
    """

    def __init__(self, faults: tuple[ManifestError, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults
