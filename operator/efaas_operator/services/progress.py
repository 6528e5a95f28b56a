"""How far sessions are, as the gateway knows it."""

from __future__ import annotations

from efaas_operator.services.ports import Progress


class NoProgress:
    """Without a gateway nobody tells how far a session is, before its runner has ended."""

    def known(self, session: str) -> Progress | None:
        """Nothing."""
        del session
        return None

    def forget(self, session: str) -> None:
        """Nothing was remembered."""
        del session
