"""Where a process keeps its journal: in its folder, or at the gateway if the environment names one.

`efaas.journal.address` says which variables name it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from efaas.journal.address import GatewayAddress
from efaas.journal.directory import DirectoryJournal
from efaas.journal.protocol import Journal


def open_journal(
    folder: Path,
    kind: str,
    name: str,
    lease_epoch: int | None,
    variables: Mapping[str, str] = os.environ,
) -> Journal:
    """Open a journal for writing.

    Args:
        folder: of the journal; at the gateway it holds what could not be delivered yet.
        kind: ``session`` or ``device``.
        name: ``namespace/name`` of the session, or the device's name.
        lease_epoch: of the writer; None: whoever comes takes over from whoever was there.
        variables: the environment.

    Raises:
        SessionEnded: the journal belongs to a newer writer.
        GatewayUnavailable: the gateway could not be reached.
        InputError: the journal is damaged, or the gateway refuses.
    """
    address = GatewayAddress.from_environment(variables)
    if address is None:
        return DirectoryJournal(folder, lease_epoch or 0)
    from efaas.journal.remote import GatewayJournal

    folder.mkdir(parents=True, exist_ok=True)
    return GatewayJournal(
        address,
        kind,
        name,
        buffer=folder / "undelivered",
        lease_epoch=lease_epoch,
    )
