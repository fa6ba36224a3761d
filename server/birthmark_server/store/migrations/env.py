"""Run by Alembic for each command: on the connection given by migrate.py, within its transaction."""

from alembic import context

from birthmark_server.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by making it anew
    transactional_ddl=True,  # on SQLite too: migrate.py says BEGIN
)
context.run_migrations()
