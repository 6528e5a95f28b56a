"""Who may speak for a session.

The stream's hello brings a token. On one machine it is a random text in a file of mode 0600, which `efaas
run` makes and shows to its own runners; in a cluster it is a projected service-account token that the API
server reviews (`efaas_qpu.kubernetes`). The stream only knows `Authenticator`.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Protocol

from efaas.errors import InputError

LONGEST_TOKEN = 16 * 1024
"""Characters of a token."""


class NotAdmitted(Exception):
    """The bearer of a token may not do what was asked.

    Args:
        message: why, for the client; tells nothing that only a rightful bearer may know.
        retry: whether the same token may be good later.
        fenced: whether the token is good, and a newer runner owns the session.
    """

    def __init__(self, message: str, *, retry: bool = False, fenced: bool = False) -> None:
        super().__init__(message)
        self.message, self.retry, self.fenced = message, retry, fenced


class Authenticator(Protocol):
    """Decides what a token admits to; may ask another server."""

    tells_everyone: bool
    """Whether anyone who reaches the server may hear of sessions; else only the device's keeper may."""

    async def session(self, name: str, lease_epoch: int, token: str) -> str:
        """See that the bearer may speak for a session.

        Args:
            name: ``namespace/name`` of the session.
            lease_epoch: that the bearer says it has.
            token: what it shows.

        Returns:
            UID of the session's object; empty where there are no such objects.

        Raises:
            NotAdmitted: it may not.
        """

    async def keeper(self, token: str) -> None:
        """See that the bearer keeps the device: may calibrate and cordon it, and shut sessions out.

        Raises:
            NotAdmitted: it does not.
        """


class OpenDoor:
    """Admits everyone: for a server that only this machine's user can reach."""

    tells_everyone = True

    async def session(self, name: str, lease_epoch: int, token: str) -> str:  # noqa: ARG002
        """Everyone."""
        return ""

    async def keeper(self, token: str) -> None:
        """Everyone."""


class SharedToken:
    """Admits whoever knows one token, to everything; compared in constant time."""

    tells_everyone = True

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def session(self, name: str, lease_epoch: int, token: str) -> str:  # noqa: ARG002
        """Who shows the token."""
        if not self._is_it(token):
            raise NotAdmitted("the token does not admit this session")
        return ""

    async def keeper(self, token: str) -> None:
        """Who shows the token."""
        if not self._is_it(token):
            raise NotAdmitted("the token does not admit to the device")

    def _is_it(self, token: str) -> bool:
        return hmac.compare_digest(self._token, token.encode(errors="replace"))


def token_from_file(path: Path) -> SharedToken:
    """The token in a file; white space around it does not count.

    Raises:
        InputError: the file cannot be read, is empty or too long, or others than its owner can read it.
    """
    try:
        mode = path.stat().st_mode
        with path.open(encoding="utf-8") as file:
            token = file.read(2 * LONGEST_TOKEN).strip()
    except OSError as error:
        raise InputError(f"the token cannot be read: {error.strerror}", place=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("the token cannot be read: it is not UTF-8 text", place=str(path)) from None
    if mode & 0o077:
        raise InputError(f"has mode {mode & 0o777:o}, others can read it; chmod 600 it", place=str(path))
    if not token or len(token) > LONGEST_TOKEN:
        raise InputError(f"holds no token of 1 to {LONGEST_TOKEN} characters", place=str(path))
    return SharedToken(token)
