"""Who may read, cancel and write: one protocol, two answers.

On one machine a secret admits to everything (`LocalAccess`): it is in the address that `efaas run --ui`
prints, and in a file that only its user can read. In a cluster Kubernetes decides (`efaas_gateway.cluster`).

Two verbs, on VQASessions of a namespace: ``get`` and ``delete`` (cancel). Devices belong to the cluster, and
whoever may read something may see them; sessions of others on them are not named.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal, Protocol

from efaas.errors import EfaasError

Verb = Literal["get", "delete"]

MAX_TOKEN_BYTES = 16 * 1024


class Unauthenticated(EfaasError):
    """The token is missing, or is not known."""

    code = "Unauthenticated"


class Forbidden(EfaasError):
    """The token is known, and its owner may not do this."""

    code = "Forbidden"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    token: str = ""
    """What the user showed; a cancel is done with it, as that user."""
    pod_uid: str = ""
    """Pod that the token is bound to; empty: none."""


class Access(Protocol):
    """Decides; every method may ask another server."""

    async def user(self, token: str) -> User:
        """Whose token it is.

        Raises:
            Unauthenticated: nobody's.
            EfaasError: (``retry``) whoever knows could not be asked.
        """
        ...

    async def may(self, user: User, verb: Verb, namespace: str) -> bool:
        """Whether a user may do this to the VQASessions of a namespace; an empty one means all."""
        ...

    async def writer(self, token: str, kind: str, name: str, lease_epoch: int | None = None) -> None:
        """See that a token admits the writer of this journal; ``kind`` ``report`` for reports and accounts.

        Args:
            token: what the writer showed.
            kind: ``session``, ``device`` or ``report``.
            name: of the journal's session or device.
            lease_epoch: under which it wants to write; None: it only reads.

        Raises:
            Unauthenticated: nobody's.
            Forbidden: somebody else's.
        """
        ...


class LocalAccess:
    """One secret for everything.

    Args:
        token: the secret; at least 16 characters.
    """

    def __init__(self, token: str) -> None:
        if len(token) < 16:
            raise ValueError("a token needs at least 16 characters")
        self._token = token.encode()

    async def user(self, token: str) -> User:
        """The only user there is."""
        self._check(token)
        return User("local", token=token)

    async def may(self, user: User, verb: Verb, namespace: str) -> bool:
        """Everything."""
        del user, verb, namespace
        return True

    async def writer(self, token: str, kind: str, name: str, lease_epoch: int | None = None) -> None:
        """Everything, with the secret."""
        del kind, name, lease_epoch
        self._check(token)

    def _check(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(errors="replace"), self._token):
            raise Unauthenticated("the token is not the one of this gateway; open the printed address anew")
