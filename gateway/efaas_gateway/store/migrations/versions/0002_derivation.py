"""How far each journal's records were derived; when each record came.

Until now records were derived in the transaction that took them, so all that are here have been.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the cursors, standing at the ends of the journals."""
    op.create_table(
        "derivation",
        sa.Column("journal", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["journal"], ["journals.id"], name=op.f("fk_derivation_journal"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("journal", name=op.f("pk_derivation")),
    )
    op.execute(
        "INSERT INTO derivation (journal, generation, next) SELECT id, generation, length FROM journals"
    )
    op.add_column("journal_records", sa.Column("at", sa.Double(), nullable=True))
