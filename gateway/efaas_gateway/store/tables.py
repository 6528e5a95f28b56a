"""The tables, as SQLAlchemy sees them; `migrations` holds how they came to be.

Moments are seconds since 1970 (UTC) on the gateway's clock, columns named ``…_at``; durations say their unit
in the name, device seconds and wall seconds alike. Records, results and states are kept as the JSON text that
arrived, because a journal must come back to the bit.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of type INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")

journals = Table(
    "journals",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    # "session" or "device"; name is namespace/name or the device's name.
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    # Row of a session's journal in `sessions`.
    Column("session", BigInteger, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("lease_epoch", BigInteger, nullable=False),
    # Drawn by each writer; with the epoch it says who may append.
    Column("writer", Text, nullable=False),
    # Times that all records were replaced.
    Column("generation", BigInteger, nullable=False),
    # Sequence number of the next record, and of the oldest that is still here.
    Column("length", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("compacted_at", Double),
    UniqueConstraint("kind", "name"),
)

records = Table(
    "journal_records",
    metadata,
    Column("journal", BigInteger, ForeignKey("journals.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    # When it came; not known of records of the first schema.
    Column("at", Double),
)

derivation = Table(
    "derivation",
    metadata,
    Column("journal", BigInteger, ForeignKey("journals.id", ondelete="CASCADE"), primary_key=True),
    # Everything before this (generation, sequence) has been derived.
    Column("generation", BigInteger, nullable=False),
    Column("next", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("device", Text, nullable=False, default=""),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("iterations", BigInteger, nullable=False, default=0),
    Column("evaluations", BigInteger, nullable=False, default=0),
    Column("energy", Double),
    Column("std_error", Double),
    Column("best", Double),
    Column("exact", Double),
    Column("noisy_best", Double),
    Column("shots", BigInteger, nullable=False, default=0),
    Column("qpu_s", Double, nullable=False, default=0.0),
    Column("cpu_s", Double, nullable=False, default=0.0),
    Column("ttns_s", Double),
    Column("elapsed_s", Double),
    Column("queue_position", BigInteger, nullable=False, default=0),
    Column("estimated_start_s", Double),
    Column("calibration_age_s", Double),
    Column("restarts", BigInteger, nullable=False, default=0),
    Column("limits", Text, nullable=False, default="{}"),
    Column("result", Text),
    UniqueConstraint("namespace", "name"),
    Index(None, "state"),
    Index(None, "updated_at"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("session", BigInteger, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("evaluation", BigInteger, primary_key=True),
    Column("iteration", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("energy", Double),
    Column("std_error", Double),
    Column("best", Double),
    Column("ttns_s", Double),
    Column("network_s", Double),
    Column("queue_s", Double),
    Column("calibration_s", Double),
    Column("execution_s", Double),
    Column("round_trip_s", Double),
    Column("cpu_s", Double),
    Column("speculative_s", Double),
    Column("shots", BigInteger),
    Column("qpu_s", Double),
    Column("device", Text, nullable=False),
    Column("calibration_epoch", BigInteger),
    Column("calibration_age_s", Double),
    Column("elapsed_s", Double),
)

usage = Table(
    "usage",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    # Who charged it and under which key: the same again is the same charge.
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("tenant", Text, nullable=False),
    # namespace/name; empty: nobody's.
    Column("session", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("cpu_s", Double, nullable=False),
    Column("qpu_s", Double, nullable=False),
    Column("shots", BigInteger, nullable=False),
    UniqueConstraint("source", "key"),
    Index(None, "at"),
    Index(None, "tenant", "at"),
    Index(None, "session"),
)

results = Table(
    "results",
    metadata,
    Column("device", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("session", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("acknowledged", Boolean, nullable=False, default=False),
    Index(None, "session"),
)

devices = Table(
    "devices",
    metadata,
    Column("name", Text, primary_key=True),
    Column("updated_at", Double, nullable=False),
    Column("condition", Text, nullable=False, default=""),
    Column("state", Text, nullable=False, default="{}"),
)

device_states = Table(
    "device_states",
    metadata,
    Column("device", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("clock_s", Double),
    Column("condition", Text, nullable=False, default=""),
    Column("calibration_epoch", BigInteger),
    Column("calibration_age_s", Double),
    Column("queue_depth", BigInteger),
    Column("busy_s", Double),
    Column("calibrating_s", Double),
    Column("duty_cycle", Double),
    Column("known_error", Double),
    Column("true_error", Double),
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("clock_s", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("detail", Text, nullable=False, default="{}"),
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "namespace", "session", "id"),
    Index(None, "at"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", Text, primary_key=True),
    Column("weight", Double, nullable=False),
)
