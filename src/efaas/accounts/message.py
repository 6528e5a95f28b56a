"""Accounts as the gateway tells them, and the text of server-sent events they come in.

An event is lines of ``field: value`` up to an empty line (WHATWG HTML, 9.2). What is not understood is passed
over, as the standard wants it; what calls itself accounts and is not is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from efaas.errors import InputError

ACCOUNTS_PATH = "/api/v1/accounts"
"""Of the gateway's HTTP API."""

ACCOUNTS_EVERY_S = 1.0
"""Wall seconds between two tellings; a listener must hear at least every 2 s."""

ACCOUNTS_VARIABLE = "EFAAS_ACCOUNTS_FILE"
"""Environment variable of a QPU server on one machine: file with the accounts of its tenants elsewhere."""

EVENT_LIMIT_BYTES = 8 * 1024 * 1024
"""Longest event; 10,000 tenants take about 1 MiB."""

_Amount = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e15)]


class TenantAccount(BaseModel):
    """Decayed use of one tenant on all devices."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tenant: Annotated[str, Field(min_length=1, max_length=253)]
    weight: Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)] = 1.0
    """Share of the tenant among all."""
    cpu_s: _Amount = 0.0
    """CPU seconds."""
    qpu_s: _Amount = 0.0
    """Device seconds."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    half_life_s: Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e9)]
    accounts: Annotated[tuple[TenantAccount, ...], Field(max_length=100_000)]


@dataclass(frozen=True, slots=True)
class Accounts:
    """All tenants' accounts at one moment."""

    half_life_s: float
    """Wall seconds after which use counts half."""
    tenants: Mapping[str, TenantAccount] = field(default_factory=dict)


def read_accounts(data: bytes | str) -> Accounts:
    """Read the data of an ``accounts`` event.

    Raises:
        InputError: it is not what the gateway tells.
    """
    try:
        message = _Message.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["accounts", *map(str, first["loc"])])
        raise InputError(first["msg"], place=place) from None
    return Accounts(message.half_life_s, {account.tenant: account for account in message.accounts})


def read_events(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (event, data) from the lines of a stream, without line breaks; an unfinished one is left."""
    event, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield event, "\n".join(data)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
