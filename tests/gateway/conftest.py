"""Databases to test on (SQLite in a file, PostgreSQL started here) and gateways that serve them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from efaas_gateway.store import Store

from tests.gateway.running import PostgresServer, RunningGateway


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    # Not under pytest's folder: that one belongs to this user alone, and the server runs as another.
    folder = Path(tempfile.mkdtemp(prefix="efaas-postgres-"))
    server = PostgresServer(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to open a store: each test runs on both databases."""
    if request.param == "sqlite":
        return str(tmp_path / "gateway.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    opened = Store(location)
    yield opened
    opened.close()


@pytest.fixture
def gateway(location: str) -> Iterator[RunningGateway]:
    running = RunningGateway(location)
    yield running
    running.stop()


@pytest.fixture
def sqlite_gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    running = RunningGateway(str(tmp_path / "gateway.db"))
    yield running
    running.stop()
