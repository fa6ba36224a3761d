"""Tags, groups, what agents say they are, and the answers kept for idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_tags",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_device_tags_device_id"),
        sa.PrimaryKeyConstraint("device_id", "tag", name="pk_device_tags"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_device_tags_tag_device_id", "device_tags", ["tag", "device_id"])
    op.create_table(
        "agent_reports",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("heard_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_agent_reports_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_agent_reports"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_groups",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("saved_by", sa.String(), nullable=False),
        sa.Column("saved_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_device_groups"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at_us", "idempotency_keys", ["expires_at_us"])


def downgrade() -> None:
    for table in ("idempotency_keys", "device_groups", "agent_reports", "device_tags"):
        op.drop_table(table)
