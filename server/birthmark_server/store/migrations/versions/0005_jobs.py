"""Jobs of devices, certificates that wait to be retired, and campaigns."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = sa.text("ended_at_us IS NULL")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("send_at_us", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("nonce_expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("certificate_sha256", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_jobs_device_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sqlite_with_rowid=False,
    )
    op.create_index("ux_jobs_open", "jobs", ["device_id"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
    for column in ("send_at_us", "deadline_us"):
        op.create_index(f"ix_jobs_{column}", "jobs", [column], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_jobs_device_id_sequence", "jobs", ["device_id", "sequence"])
    op.create_index("ix_jobs_campaign_id_created_at_us", "jobs", ["campaign_id", "created_at_us"])
    op.create_table(
        "retirements",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("certificate_sha256", sa.String(), nullable=False),
        sa.Column("serial_number", sa.String(), nullable=False),
        sa.Column("asked_at_us", sa.BigInteger(), nullable=False),
        sa.Column("look_at_us", sa.BigInteger(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_retirements_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_retirements"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_retirements_look_at_us", "retirements", ["look_at_us"])
    _campaigns()


def _campaigns() -> None:
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("selector", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("approved", sa.Integer(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), nullable=True),
        sa.Column("rollout_at_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("looked_at_us", sa.BigInteger(), nullable=False),
        sa.Column("check_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", name="pk_campaigns"),
    )
    op.create_index("ix_campaigns_state", "campaigns", ["state"])
    op.create_table(
        "campaign_members",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.campaign_id"], name="fk_campaign_members_campaign_id"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_campaign_members_device_id"),
        sa.PrimaryKeyConstraint("campaign_id", "device_id", name="pk_campaign_members"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_campaign_members_standing", "campaign_members", ["campaign_id", "standing", "stage", "place", "job_id"]
    )
    op.create_table(
        "campaign_stages",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("queued", "done", "failed", "cancelled", "skipped")
        ),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.campaign_id"], name="fk_campaign_stages_campaign_id"),
        sa.PrimaryKeyConstraint("campaign_id", "stage", name="pk_campaign_stages"),
    )
    op.create_table(
        "campaign_events",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("happened_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.campaign_id"], name="fk_campaign_events_campaign_id"),
        sa.PrimaryKeyConstraint("campaign_id", "revision", name="pk_campaign_events"),
    )


def downgrade() -> None:
    op.drop_table("campaign_events")
    op.drop_table("campaign_stages")
    op.drop_table("campaign_members")
    op.drop_table("campaigns")
    op.drop_table("retirements")
    op.drop_table("jobs")
