"""HOST:PORT as people write it in configurations and on command lines."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from efaas.errors import InputError

_FORM = r"^(\[[0-9a-fA-F:]+\]|[-.a-zA-Z0-9]*):[0-9]{1,5}$"
_LAST_PORT = 65_535


def host_and_port(address: str) -> tuple[str, int]:
    """Host, without the brackets of IPv6 and empty for all, and port of an `Address`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _in_range(address: str) -> str:
    if host_and_port(address)[1] > _LAST_PORT:
        raise ValueError(f"a port is at most {_LAST_PORT}")
    return address


Address = Annotated[str, Field(pattern=_FORM), AfterValidator(_in_range)]
"""HOST:PORT; without a host, to listen on, all of them."""


def checked_address(text: str, place: str) -> tuple[str, int]:
    """Host and port of what was typed; gRPC itself would take any number for a port.

    Raises:
        InputError: it is no `Address`.
    """
    if not re.match(_FORM, text) or host_and_port(text)[1] > _LAST_PORT:
        raise InputError(f"{text!r} is not HOST:PORT with a port from 0 to {_LAST_PORT}", place=place)
    return host_and_port(text)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
