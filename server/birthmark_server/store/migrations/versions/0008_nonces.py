"""An index for the jobs under way, which are counted at each device's ack."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_OPEN = sa.text("ended_at_us IS NULL")


def upgrade() -> None:
    op.create_index(
        "ix_jobs_nonce_expires_at_us",
        "jobs",
        ["nonce_expires_at_us"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_nonce_expires_at_us", "jobs")
