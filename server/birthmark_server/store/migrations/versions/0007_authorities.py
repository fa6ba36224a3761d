"""Where each authority stands, trust bundles, and who knows them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "authorities",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("root_sha256", sa.String(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_authorities"),
        sa.UniqueConstraint("sha256", name="uq_authorities_sha256"),
    )
    op.create_table(
        "authority_acts",
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("acted_by", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("quorum", sa.Float(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_authority_acts"),
    )
    op.create_table(
        "trust_bundles",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_trust_bundles"),
    )
    op.create_table(
        "device_trust",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("heard_at_us", sa.BigInteger(), nullable=True),
        sa.Column("offered", sa.BigInteger(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("send_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_device_trust_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_trust"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_device_trust_version", "device_trust", ["version"])
    for peer in ("broker", "replica"):
        op.create_table(
            f"{peer}_reports",
            sa.Column("name", sa.String(), nullable=False),
            sa.Column("issuers", sa.String(), nullable=False),
            sa.Column("heard_at_us", sa.BigInteger(), nullable=False),
            sa.Column("detail", sa.String(), nullable=False),
            sa.PrimaryKeyConstraint("name", name=f"pk_{peer}_reports"),
        )


def downgrade() -> None:
    for name in (
        "replica_reports",
        "broker_reports",
        "device_trust",
        "trust_bundles",
        "authority_acts",
        "authorities",
    ):
        op.drop_table(name)
