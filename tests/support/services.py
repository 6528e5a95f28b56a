"""What tests need of the machine beside Python, and whether that can be had here.

A test that needs a service carries its marker. Where the service can be had, the test runs, and fails if the
service does not come up. Where it cannot (a laptop without Kubernetes' server programs), `make test` leaves
the test out and says so in one line. Under ``CI=true`` nothing is left out: what is missing fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import PROGRAMS, SETUP


@dataclass(frozen=True)
class Service:
    """One of them."""

    marker: str
    remedy: str
    can_be_had: Callable[[], bool]


def _has_cluster() -> bool:
    return SETUP.is_file() or all(shutil.which(name) for name in PROGRAMS)


def _has_postgres() -> bool:
    return shutil.which("initdb") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


SERVICES = (
    Service("cluster", "Kubernetes' server programs and kwok on PATH", _has_cluster),
    Service("postgres", "PostgreSQL (Debian's package postgresql)", _has_postgres),
    Service("browser", "Chromium (Debian's package chromium)", lambda: shutil.which("chromium") is not None),
)
