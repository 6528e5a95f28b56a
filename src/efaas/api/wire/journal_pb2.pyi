from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefusalCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERNAL: _ClassVar[RefusalCode]
    BAD_MESSAGE: _ClassVar[RefusalCode]
    UNAUTHENTICATED: _ClassVar[RefusalCode]
    FENCED: _ClassVar[RefusalCode]
    OUT_OF_ORDER: _ClassVar[RefusalCode]
    TOO_LARGE: _ClassVar[RefusalCode]
    STORE_UNAVAILABLE: _ClassVar[RefusalCode]
INTERNAL: RefusalCode
BAD_MESSAGE: RefusalCode
UNAUTHENTICATED: RefusalCode
FENCED: RefusalCode
OUT_OF_ORDER: RefusalCode
TOO_LARGE: RefusalCode
STORE_UNAVAILABLE: RefusalCode

class Subject(_message.Message):
    __slots__ = ("kind", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class JournalRequest(_message.Message):
    __slots__ = ("open", "append", "replace")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    append: Append
    replace: Replace
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., append: _Optional[_Union[Append, _Mapping]] = ..., replace: _Optional[_Union[Replace, _Mapping]] = ...) -> None: ...

class JournalReply(_message.Message):
    __slots__ = ("opened", "acknowledged", "refused")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    acknowledged: Acknowledged
    refused: Refused
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "subject", "lease_epoch", "next_epoch", "writer", "token")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEXT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    subject: Subject
    lease_epoch: int
    next_epoch: bool
    writer: str
    token: str
    def __init__(self, protocol: _Optional[int] = ..., subject: _Optional[_Union[Subject, _Mapping]] = ..., lease_epoch: _Optional[int] = ..., next_epoch: _Optional[bool] = ..., writer: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("lease_epoch", "generation", "first", "length")
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    lease_epoch: int
    generation: int
    first: int
    length: int
    def __init__(self, lease_epoch: _Optional[int] = ..., generation: _Optional[int] = ..., first: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Append(_message.Message):
    __slots__ = ("sequence", "records")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sequence: _Optional[int] = ..., records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Replace(_message.Message):
    __slots__ = ("generation", "records")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, generation: _Optional[int] = ..., records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("generation", "length")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    generation: int
    length: int
    def __init__(self, generation: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "message", "place", "retry")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    code: RefusalCode
    message: str
    place: str
    retry: bool
    def __init__(self, code: _Optional[_Union[RefusalCode, str]] = ..., message: _Optional[str] = ..., place: _Optional[str] = ..., retry: _Optional[bool] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("subject", "start", "token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    start: int
    token: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., start: _Optional[int] = ..., token: _Optional[str] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("sequence", "records")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sequence: _Optional[int] = ..., records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("token", "reports")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    token: str
    reports: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, token: _Optional[str] = ..., reports: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ("taken",)
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    taken: int
    def __init__(self, taken: _Optional[int] = ...) -> None: ...

class AccountsRequest(_message.Message):
    __slots__ = ("token", "device")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    token: str
    device: str
    def __init__(self, token: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class TenantAccount(_message.Message):
    __slots__ = ("tenant", "weight", "cpu_s", "qpu_s", "elsewhere_cpu_s", "elsewhere_qpu_s")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    QPU_S_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_CPU_S_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_QPU_S_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    weight: float
    cpu_s: float
    qpu_s: float
    elsewhere_cpu_s: float
    elsewhere_qpu_s: float
    def __init__(self, tenant: _Optional[str] = ..., weight: _Optional[float] = ..., cpu_s: _Optional[float] = ..., qpu_s: _Optional[float] = ..., elsewhere_cpu_s: _Optional[float] = ..., elsewhere_qpu_s: _Optional[float] = ...) -> None: ...

class TenantAccounts(_message.Message):
    __slots__ = ("half_life_s", "accounts")
    HALF_LIFE_S_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    half_life_s: float
    accounts: _containers.RepeatedCompositeFieldContainer[TenantAccount]
    def __init__(self, half_life_s: _Optional[float] = ..., accounts: _Optional[_Iterable[_Union[TenantAccount, _Mapping]]] = ...) -> None: ...
