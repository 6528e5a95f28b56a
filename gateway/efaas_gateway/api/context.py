"""What every request needs: the store, who asks and what that user may see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Path, Request
from sqlalchemy import Connection

from efaas.errors import EfaasError
from efaas_gateway.access import MAX_TOKEN_BYTES, Access, Forbidden, Unauthenticated, User, Verb
from efaas_gateway.accounts import Accounts
from efaas_gateway.hub import Hub
from efaas_gateway.store import Store, queries

T = TypeVar("T")

_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
NamespacePath = Annotated[str, Path(pattern=_NAME, max_length=253, description="Namespace")]
NamePath = Annotated[str, Path(pattern=_NAME, max_length=253, description="Name")]


class NotFound(EfaasError):
    """There is nothing of this name."""

    code = "NotFound"


class TooMany(EfaasError):
    """More requests than one user may send."""

    code = "TooManyRequests"
    retry = True


class Canceller(Protocol):
    """Carries a cancel to whoever runs the session."""

    async def cancel(self, user: User, namespace: str, name: str) -> None:
        """Cancel a session as this user.

        Raises:
            EfaasError: it was refused, or nobody could be reached.
        """
        ...


@dataclass(slots=True)
class Services:
    """What the application works with."""

    store: Store
    access: Access
    accounts: Accounts
    hub: Hub
    canceller: Canceller | None
    limiter: RateLimiter


class RateLimiter:
    """Token buckets, one for each user: `burst` requests at once, `per_s` in the long run.

    Args:
        per_s: requests a second.
        burst: requests that may come at once.
        clock: monotonic seconds.
    """

    def __init__(
        self, per_s: float = 50.0, burst: float = 200.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.per_s = per_s
        self.burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, who: str) -> None:
        """Count a request.

        Raises:
            TooMany: the bucket is empty.
        """
        now = self._clock()
        left, at = self._buckets.get(who, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.per_s)
        if left < 1.0:
            raise TooMany(f"more than {self.per_s:g} requests a second; wait a second", place="request")
        if len(self._buckets) > 10_000:
            # Whoever has not asked for a while has a full bucket again.
            self._buckets = {
                name: bucket
                for name, bucket in self._buckets.items()
                if now - bucket[1] < self.burst / self.per_s
            }
        self._buckets[who] = (left - 1.0, now)


@dataclass(slots=True)
class Asking:
    """A request with its user."""

    services: Services
    user: User

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Ask the store in another thread."""

        def ask() -> T:
            with self.services.store.read() as connection:
                return function(connection)

        return await asyncio.to_thread(ask)

    async def may(self, verb: Verb, namespace: str) -> bool:
        """Whether the user may do this."""
        return await self.services.access.may(self.user, verb, namespace)

    async def must(self, verb: Verb, namespace: str) -> None:
        """See that the user may do this.

        Raises:
            Forbidden: no.
        """
        if not await self.may(verb, namespace):
            raise Forbidden(
                f"{self.user.name} may not {verb} vqasessions.efaas.dev in namespace {namespace}",
                place=f"namespace {namespace}",
            )

    async def namespaces(self) -> frozenset[str] | None:
        """Namespaces that the user may see; None: all."""
        if await self.may("get", ""):
            return None
        known = await self.read(queries.known_namespaces)
        allowed = await asyncio.gather(*(self.may("get", name) for name in known))
        return frozenset(name for name, is_allowed in zip(known, allowed, strict=True) if is_allowed)

    def waiting(self, device: dict[str, Any], namespaces: frozenset[str] | None) -> list[dict[str, Any]]:
        """Who is on a device; those of other namespaces without their names."""
        listed = []
        for told in device.get("sessions", ()):
            seen = namespaces is None or told["session"].partition("/")[0] in namespaces
            listed.append(
                {
                    **told,
                    "device": device["name"],
                    "session": told["session"] if seen else None,
                    "reason": told["reason"] if seen else "",
                }
            )
        return sorted(listed, key=lambda entry: (entry["position"] == 0, entry["position"]))


async def asking(request: Request) -> Asking:
    """The user of a request, by its bearer token.

    Raises:
        Unauthenticated: there is none, or it is not known.
        TooMany: this user, or this address without one, asks too often.
    """
    services: Services = request.app.state.services
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    address = request.client.host if request.client else ""
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        services.limiter.take(f"address {address}")
        raise Unauthenticated("needs a bearer token; open the page by the address that was printed")
    try:
        user = await services.access.user(token)
    except Unauthenticated:
        services.limiter.take(f"address {address}")
        raise
    services.limiter.take(f"user {user.name}")
    return Asking(services, user)


AskingUser = Annotated[Asking, Depends(asking)]
