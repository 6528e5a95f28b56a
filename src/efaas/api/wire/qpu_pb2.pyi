from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOOP: _ClassVar[JobKind]
    BATCH: _ClassVar[JobKind]
    SPECULATIVE: _ClassVar[JobKind]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERNAL: _ClassVar[ErrorCode]
    BAD_MESSAGE: _ClassVar[ErrorCode]
    UNAUTHENTICATED: _ClassVar[ErrorCode]
    FENCED: _ClassVar[ErrorCode]
    BAD_CIRCUIT: _ClassVar[ErrorCode]
    BAD_OBSERVABLE: _ClassVar[ErrorCode]
    BAD_PARAMETERS: _ClassVar[ErrorCode]
    UNKNOWN_HANDLE: _ClassVar[ErrorCode]
    CANCELLED: _ClassVar[ErrorCode]
    WORKER_FAILED: _ClassVar[ErrorCode]
    LIMIT_REACHED: _ClassVar[ErrorCode]
    DRAINING: _ClassVar[ErrorCode]

class Availability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPEN: _ClassVar[Availability]
    CORDONED: _ClassVar[Availability]
    DRAINED: _ClassVar[Availability]
LOOP: JobKind
BATCH: JobKind
SPECULATIVE: JobKind
INTERNAL: ErrorCode
BAD_MESSAGE: ErrorCode
UNAUTHENTICATED: ErrorCode
FENCED: ErrorCode
BAD_CIRCUIT: ErrorCode
BAD_OBSERVABLE: ErrorCode
BAD_PARAMETERS: ErrorCode
UNKNOWN_HANDLE: ErrorCode
CANCELLED: ErrorCode
WORKER_FAILED: ErrorCode
LIMIT_REACHED: ErrorCode
DRAINING: ErrorCode
OPEN: Availability
CORDONED: Availability
DRAINED: Availability

class ClientMessage(_message.Message):
    __slots__ = ("hello", "circuit", "observable", "submit", "cancel", "acknowledge", "close")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_FIELD_NUMBER: _ClassVar[int]
    OBSERVABLE_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    circuit: RegisterCircuit
    observable: RegisterObservable
    submit: Submit
    cancel: Cancel
    acknowledge: Acknowledge
    close: Close
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., circuit: _Optional[_Union[RegisterCircuit, _Mapping]] = ..., observable: _Optional[_Union[RegisterObservable, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("welcome", "circuit", "observable", "queued", "started", "partial", "result", "error")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_FIELD_NUMBER: _ClassVar[int]
    OBSERVABLE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    circuit: CircuitRegistered
    observable: ObservableRegistered
    queued: Queued
    started: Started
    partial: Partial
    result: Result
    error: Error
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., circuit: _Optional[_Union[CircuitRegistered, _Mapping]] = ..., observable: _Optional[_Union[ObservableRegistered, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., partial: _Optional[_Union[Partial, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "session", "tenant", "lease_epoch", "token", "session_seed", "weight", "max_calibration_age_s")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_SEED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    session: str
    tenant: str
    lease_epoch: int
    token: str
    session_seed: int
    weight: int
    max_calibration_age_s: float
    def __init__(self, protocol: _Optional[int] = ..., session: _Optional[str] = ..., tenant: _Optional[str] = ..., lease_epoch: _Optional[int] = ..., token: _Optional[str] = ..., session_seed: _Optional[int] = ..., weight: _Optional[int] = ..., max_calibration_age_s: _Optional[float] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("device", "qubits", "calibration_epoch", "calibration_age_s", "block_shots", "version")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SHOTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    device: str
    qubits: int
    calibration_epoch: int
    calibration_age_s: float
    block_shots: int
    version: str
    def __init__(self, device: _Optional[str] = ..., qubits: _Optional[int] = ..., calibration_epoch: _Optional[int] = ..., calibration_age_s: _Optional[float] = ..., block_shots: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class RegisterCircuit(_message.Message):
    __slots__ = ("handle", "openqasm3", "qpy")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OPENQASM3_FIELD_NUMBER: _ClassVar[int]
    QPY_FIELD_NUMBER: _ClassVar[int]
    handle: str
    openqasm3: str
    qpy: bytes
    def __init__(self, handle: _Optional[str] = ..., openqasm3: _Optional[str] = ..., qpy: _Optional[bytes] = ...) -> None: ...

class CircuitRegistered(_message.Message):
    __slots__ = ("handle", "parameters", "qubits", "duration_us", "shot_s", "layout", "prepare_s")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    SHOT_S_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    PREPARE_S_FIELD_NUMBER: _ClassVar[int]
    handle: str
    parameters: _containers.RepeatedScalarFieldContainer[str]
    qubits: int
    duration_us: float
    shot_s: float
    layout: _containers.RepeatedScalarFieldContainer[int]
    prepare_s: float
    def __init__(self, handle: _Optional[str] = ..., parameters: _Optional[_Iterable[str]] = ..., qubits: _Optional[int] = ..., duration_us: _Optional[float] = ..., shot_s: _Optional[float] = ..., layout: _Optional[_Iterable[int]] = ..., prepare_s: _Optional[float] = ...) -> None: ...

class PauliTerm(_message.Message):
    __slots__ = ("pauli", "coefficient")
    PAULI_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    pauli: str
    coefficient: float
    def __init__(self, pauli: _Optional[str] = ..., coefficient: _Optional[float] = ...) -> None: ...

class RegisterObservable(_message.Message):
    __slots__ = ("handle", "terms")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    handle: str
    terms: _containers.RepeatedCompositeFieldContainer[PauliTerm]
    def __init__(self, handle: _Optional[str] = ..., terms: _Optional[_Iterable[_Union[PauliTerm, _Mapping]]] = ...) -> None: ...

class ObservableRegistered(_message.Message):
    __slots__ = ("handle", "bases")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    BASES_FIELD_NUMBER: _ClassVar[int]
    handle: str
    bases: int
    def __init__(self, handle: _Optional[str] = ..., bases: _Optional[int] = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ("job_id", "evaluation", "kind", "circuit", "observables", "parameter_sets", "parameters", "shots", "readout_mitigation", "per_shot", "cpu_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_FIELD_NUMBER: _ClassVar[int]
    OBSERVABLES_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_SETS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    READOUT_MITIGATION_FIELD_NUMBER: _ClassVar[int]
    PER_SHOT_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    evaluation: int
    kind: JobKind
    circuit: str
    observables: _containers.RepeatedScalarFieldContainer[str]
    parameter_sets: int
    parameters: _containers.RepeatedScalarFieldContainer[float]
    shots: int
    readout_mitigation: bool
    per_shot: bool
    cpu_s: float
    def __init__(self, job_id: _Optional[str] = ..., evaluation: _Optional[int] = ..., kind: _Optional[_Union[JobKind, str]] = ..., circuit: _Optional[str] = ..., observables: _Optional[_Iterable[str]] = ..., parameter_sets: _Optional[int] = ..., parameters: _Optional[_Iterable[float]] = ..., shots: _Optional[int] = ..., readout_mitigation: _Optional[bool] = ..., per_shot: _Optional[bool] = ..., cpu_s: _Optional[float] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Queued(_message.Message):
    __slots__ = ("job_id", "position", "estimated_start_s", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    position: int
    estimated_start_s: float
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., position: _Optional[int] = ..., estimated_start_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Partial(_message.Message):
    __slots__ = ("job_id", "shots", "evaluations")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    shots: int
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    def __init__(self, job_id: _Optional[str] = ..., shots: _Optional[int] = ..., evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("values", "std_errors", "outcomes")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STD_ERRORS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    std_errors: _containers.RepeatedScalarFieldContainer[float]
    outcomes: Outcomes
    def __init__(self, values: _Optional[_Iterable[float]] = ..., std_errors: _Optional[_Iterable[float]] = ..., outcomes: _Optional[_Union[Outcomes, _Mapping]] = ...) -> None: ...

class Outcomes(_message.Message):
    __slots__ = ("bits", "outcomes", "counts")
    BITS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    bits: int
    outcomes: bytes
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, bits: _Optional[int] = ..., outcomes: _Optional[bytes] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_s", "calibration_s", "execution_s", "wall_queue_s", "wall_execution_s", "server_s", "parse_s", "simulate_s", "late", "slices", "attempts", "wall_calibration_s")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_S_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_S_FIELD_NUMBER: _ClassVar[int]
    WALL_QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    WALL_EXECUTION_S_FIELD_NUMBER: _ClassVar[int]
    SERVER_S_FIELD_NUMBER: _ClassVar[int]
    PARSE_S_FIELD_NUMBER: _ClassVar[int]
    SIMULATE_S_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WALL_CALIBRATION_S_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    calibration_s: float
    execution_s: float
    wall_queue_s: float
    wall_execution_s: float
    server_s: float
    parse_s: float
    simulate_s: float
    late: bool
    slices: int
    attempts: int
    wall_calibration_s: float
    def __init__(self, queue_s: _Optional[float] = ..., calibration_s: _Optional[float] = ..., execution_s: _Optional[float] = ..., wall_queue_s: _Optional[float] = ..., wall_execution_s: _Optional[float] = ..., server_s: _Optional[float] = ..., parse_s: _Optional[float] = ..., simulate_s: _Optional[float] = ..., late: _Optional[bool] = ..., slices: _Optional[int] = ..., attempts: _Optional[int] = ..., wall_calibration_s: _Optional[float] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("job_id", "evaluations", "timing", "calibration_epoch", "calibration_age_s", "shots", "qpu_s", "kept")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    QPU_S_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    timing: Timing
    calibration_epoch: int
    calibration_age_s: float
    shots: int
    qpu_s: float
    kept: bool
    def __init__(self, job_id: _Optional[str] = ..., evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., calibration_epoch: _Optional[int] = ..., calibration_age_s: _Optional[float] = ..., shots: _Optional[int] = ..., qpu_s: _Optional[float] = ..., kept: _Optional[bool] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "place", "retry", "job_id", "handle")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    place: str
    retry: bool
    job_id: str
    handle: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., place: _Optional[str] = ..., retry: _Optional[bool] = ..., job_id: _Optional[str] = ..., handle: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sessions: _Optional[_Iterable[str]] = ...) -> None: ...

class SessionState(_message.Message):
    __slots__ = ("session", "state", "jobs_done", "shots", "qpu_s", "position", "estimated_start_s", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    JOBS_DONE_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    QPU_S_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    state: str
    jobs_done: int
    shots: int
    qpu_s: float
    position: int
    estimated_start_s: float
    reason: str
    def __init__(self, session: _Optional[str] = ..., state: _Optional[str] = ..., jobs_done: _Optional[int] = ..., shots: _Optional[int] = ..., qpu_s: _Optional[float] = ..., position: _Optional[int] = ..., estimated_start_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("device", "snapshot", "qubits", "condition", "calibration_epoch", "calibration_age_s", "clock_s", "queue_depth", "busy_s", "calibrating_s", "duty_cycle", "sessions", "worker", "slots", "slots_used", "availability", "labels", "frozen", "max_calibration_age_s", "calibration_left_s", "calibration_due_s", "expected_wait_s", "local_calibration_s", "local_fixed_s", "local_per_qubit_s", "one_qubit_error", "two_qubit_error", "readout_error", "one_qubit_drift_per_s", "two_qubit_drift_per_s", "readout_drift_per_s", "warm_circuits", "warm_circuit_count", "cold_starts", "cold_start_s", "warm_starts", "warm_start_s", "prepared_ahead", "true_two_qubit_error", "charges", "warm")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    CLOCK_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    CALIBRATING_S_FIELD_NUMBER: _ClassVar[int]
    DUTY_CYCLE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    MAX_CALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_LEFT_S_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_DUE_S_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    LOCAL_CALIBRATION_S_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIXED_S_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PER_QUBIT_S_FIELD_NUMBER: _ClassVar[int]
    ONE_QUBIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    TWO_QUBIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    READOUT_ERROR_FIELD_NUMBER: _ClassVar[int]
    ONE_QUBIT_DRIFT_PER_S_FIELD_NUMBER: _ClassVar[int]
    TWO_QUBIT_DRIFT_PER_S_FIELD_NUMBER: _ClassVar[int]
    READOUT_DRIFT_PER_S_FIELD_NUMBER: _ClassVar[int]
    WARM_CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    WARM_CIRCUIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    COLD_STARTS_FIELD_NUMBER: _ClassVar[int]
    COLD_START_S_FIELD_NUMBER: _ClassVar[int]
    WARM_STARTS_FIELD_NUMBER: _ClassVar[int]
    WARM_START_S_FIELD_NUMBER: _ClassVar[int]
    PREPARED_AHEAD_FIELD_NUMBER: _ClassVar[int]
    TRUE_TWO_QUBIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    CHARGES_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    device: str
    snapshot: str
    qubits: int
    condition: str
    calibration_epoch: int
    calibration_age_s: float
    clock_s: float
    queue_depth: int
    busy_s: float
    calibrating_s: float
    duty_cycle: float
    sessions: _containers.RepeatedCompositeFieldContainer[SessionState]
    worker: str
    slots: int
    slots_used: int
    availability: Availability
    labels: _containers.ScalarMap[str, str]
    frozen: bool
    max_calibration_age_s: float
    calibration_left_s: float
    calibration_due_s: float
    expected_wait_s: float
    local_calibration_s: float
    local_fixed_s: float
    local_per_qubit_s: float
    one_qubit_error: float
    two_qubit_error: float
    readout_error: float
    one_qubit_drift_per_s: float
    two_qubit_drift_per_s: float
    readout_drift_per_s: float
    warm_circuits: _containers.RepeatedScalarFieldContainer[str]
    warm_circuit_count: int
    cold_starts: int
    cold_start_s: float
    warm_starts: int
    warm_start_s: float
    prepared_ahead: int
    true_two_qubit_error: float
    charges: _containers.RepeatedCompositeFieldContainer[SessionCharge]
    warm: _containers.RepeatedCompositeFieldContainer[WarmCircuit]
    def __init__(self, device: _Optional[str] = ..., snapshot: _Optional[str] = ..., qubits: _Optional[int] = ..., condition: _Optional[str] = ..., calibration_epoch: _Optional[int] = ..., calibration_age_s: _Optional[float] = ..., clock_s: _Optional[float] = ..., queue_depth: _Optional[int] = ..., busy_s: _Optional[float] = ..., calibrating_s: _Optional[float] = ..., duty_cycle: _Optional[float] = ..., sessions: _Optional[_Iterable[_Union[SessionState, _Mapping]]] = ..., worker: _Optional[str] = ..., slots: _Optional[int] = ..., slots_used: _Optional[int] = ..., availability: _Optional[_Union[Availability, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., frozen: _Optional[bool] = ..., max_calibration_age_s: _Optional[float] = ..., calibration_left_s: _Optional[float] = ..., calibration_due_s: _Optional[float] = ..., expected_wait_s: _Optional[float] = ..., local_calibration_s: _Optional[float] = ..., local_fixed_s: _Optional[float] = ..., local_per_qubit_s: _Optional[float] = ..., one_qubit_error: _Optional[float] = ..., two_qubit_error: _Optional[float] = ..., readout_error: _Optional[float] = ..., one_qubit_drift_per_s: _Optional[float] = ..., two_qubit_drift_per_s: _Optional[float] = ..., readout_drift_per_s: _Optional[float] = ..., warm_circuits: _Optional[_Iterable[str]] = ..., warm_circuit_count: _Optional[int] = ..., cold_starts: _Optional[int] = ..., cold_start_s: _Optional[float] = ..., warm_starts: _Optional[int] = ..., warm_start_s: _Optional[float] = ..., prepared_ahead: _Optional[int] = ..., true_two_qubit_error: _Optional[float] = ..., charges: _Optional[_Iterable[_Union[SessionCharge, _Mapping]]] = ..., warm: _Optional[_Iterable[_Union[WarmCircuit, _Mapping]]] = ...) -> None: ...

class SessionCharge(_message.Message):
    __slots__ = ("session", "uid", "lease_epoch", "jobs_done", "shots", "qpu_s", "last_job_at_s")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    JOBS_DONE_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    QPU_S_FIELD_NUMBER: _ClassVar[int]
    LAST_JOB_AT_S_FIELD_NUMBER: _ClassVar[int]
    session: str
    uid: str
    lease_epoch: int
    jobs_done: int
    shots: int
    qpu_s: float
    last_job_at_s: float
    def __init__(self, session: _Optional[str] = ..., uid: _Optional[str] = ..., lease_epoch: _Optional[int] = ..., jobs_done: _Optional[int] = ..., shots: _Optional[int] = ..., qpu_s: _Optional[float] = ..., last_job_at_s: _Optional[float] = ...) -> None: ...

class WarmCircuit(_message.Message):
    __slots__ = ("handle", "epoch", "sessions")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    handle: str
    epoch: int
    sessions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, handle: _Optional[str] = ..., epoch: _Optional[int] = ..., sessions: _Optional[_Iterable[str]] = ...) -> None: ...

class CalibrationsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class CalibrationHistory(_message.Message):
    __slots__ = ("device", "clock_s", "calibrations")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_S_FIELD_NUMBER: _ClassVar[int]
    CALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    device: str
    clock_s: float
    calibrations: _containers.RepeatedCompositeFieldContainer[PastCalibration]
    def __init__(self, device: _Optional[str] = ..., clock_s: _Optional[float] = ..., calibrations: _Optional[_Iterable[_Union[PastCalibration, _Mapping]]] = ...) -> None: ...

class PastCalibration(_message.Message):
    __slots__ = ("id", "finished_s", "scope", "qubits", "busy_s", "session", "reason", "one_qubit_error", "two_qubit_error", "readout_error")
    ID_FIELD_NUMBER: _ClassVar[int]
    FINISHED_S_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ONE_QUBIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    TWO_QUBIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    READOUT_ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    finished_s: float
    scope: str
    qubits: _containers.RepeatedScalarFieldContainer[int]
    busy_s: float
    session: str
    reason: str
    one_qubit_error: float
    two_qubit_error: float
    readout_error: float
    def __init__(self, id: _Optional[int] = ..., finished_s: _Optional[float] = ..., scope: _Optional[str] = ..., qubits: _Optional[_Iterable[int]] = ..., busy_s: _Optional[float] = ..., session: _Optional[str] = ..., reason: _Optional[str] = ..., one_qubit_error: _Optional[float] = ..., two_qubit_error: _Optional[float] = ..., readout_error: _Optional[float] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CalibrateAnswer(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class CordonRequest(_message.Message):
    __slots__ = ("availability",)
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    availability: Availability
    def __init__(self, availability: _Optional[_Union[Availability, str]] = ...) -> None: ...

class CordonAnswer(_message.Message):
    __slots__ = ("availability",)
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    availability: Availability
    def __init__(self, availability: _Optional[_Union[Availability, str]] = ...) -> None: ...

class FenceRequest(_message.Message):
    __slots__ = ("session", "lease_epoch", "uid")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    session: str
    lease_epoch: int
    uid: str
    def __init__(self, session: _Optional[str] = ..., lease_epoch: _Optional[int] = ..., uid: _Optional[str] = ...) -> None: ...

class FenceAnswer(_message.Message):
    __slots__ = ("least_epoch",)
    LEAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    least_epoch: int
    def __init__(self, least_epoch: _Optional[int] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class CloseSessionAnswer(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: int
    def __init__(self, jobs: _Optional[int] = ...) -> None: ...
