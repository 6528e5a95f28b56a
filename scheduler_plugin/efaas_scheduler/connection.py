"""How the API server is reached: `efaas.kubernetes.connection`, as the operator reaches it too."""

from __future__ import annotations

from efaas.kubernetes.connection import IN_CLUSTER, Connection, connect

__all__ = ["IN_CLUSTER", "Connection", "connect"]
