"""Where a process keeps its journal: in its folder, or at the gateway if the environment names one.

============================ =================================================================================
``EFAAS_GATEWAY``            ``host:port`` of the gateway's stream; without it, the folder
``EFAAS_GATEWAY_TOKEN_FILE`` file with the token that admits; read anew for each connection
============================ =================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

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
    endpoint = variables.get("EFAAS_GATEWAY", "")
    if not endpoint:
        return DirectoryJournal(folder, lease_epoch or 0)
    from efaas.journal.remote import GatewayJournal

    folder.mkdir(parents=True, exist_ok=True)
    file = variables.get("EFAAS_GATEWAY_TOKEN_FILE", "")
    return GatewayJournal(
        endpoint,
        kind,
        name,
        buffer=folder / "undelivered",
        lease_epoch=lease_epoch,
        token=(lambda: Path(file).read_text().strip()) if file else "",
    )
