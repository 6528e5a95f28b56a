"""Runs migrations on the connection that `efaas_gateway.store.schema` hands over."""

from alembic import context
from efaas_gateway.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
