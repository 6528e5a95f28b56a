"""Who may speak for a session.

The stream's hello brings a token. On one machine it is a random text in a file of mode 0600, which `efaas
run` makes and shows to its own runners; in a cluster it will be a projected service-account token that the
API server reviews. The stream only knows `Authenticator`.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Protocol

from efaas.errors import InputError

LONGEST_TOKEN = 16 * 1024
"""Characters of a token."""


class Authenticator(Protocol):
    """Decides whether a token admits a session."""

    async def admits(self, session: str, token: str) -> bool:
        """Whether the bearer of `token` may speak for `session` (``namespace/name``).

        No session (empty): for the device itself, to calibrate or cordon it.
        """


class OpenDoor:
    """Admits everyone: for a server that only this machine's user can reach."""

    async def admits(self, session: str, token: str) -> bool:  # noqa: ARG002
        """Always true."""
        return True


class SharedToken:
    """Admits whoever knows one token; compared in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def admits(self, session: str, token: str) -> bool:  # noqa: ARG002
        """Whether it is the token."""
        return hmac.compare_digest(self._token, token.encode())


def token_from_file(path: Path) -> SharedToken:
    """The token in a file; white space around it does not count.

    Raises:
        InputError: the file cannot be read, is empty or too long, or others than its owner can read it.
    """
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token cannot be read: {error}", place=str(path)) from None
    if mode & 0o077:
        raise InputError(f"has mode {mode & 0o777:o}, others can read it; chmod 600 it", place=str(path))
    if not token or len(token) > LONGEST_TOKEN:
        raise InputError(f"holds no token of 1 to {LONGEST_TOKEN} characters", place=str(path))
    return SharedToken(token)
