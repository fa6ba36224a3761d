"""Work orders, serial numbers that stations were given, entries that they signed; lines removed from the manifest; all
EKs that a refused device showed."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STANDS = sa.text("withdrawn_at_us IS NULL")
_ONCE = ("serial", "ek_sha256", "mac")


def upgrade() -> None:
    op.add_column("manifest", sa.Column("batch", sa.String(), nullable=False, server_default=""))
    op.add_column("refusals", sa.Column("other_ek_sha256", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "workorders",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("serials", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closes_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_workorders_model"),
        sa.PrimaryKeyConstraint("name", name="pk_workorders"),
    )
    op.create_table(
        "serial_blocks",
        sa.Column("workorder", sa.String(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["workorder"], ["workorders.name"], name="fk_serial_blocks_workorder"),
        sa.PrimaryKeyConstraint("workorder", "first", name="pk_serial_blocks"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "station_entries",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("workorder", sa.String(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=True),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("station_sha256", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.Column("brought_by", sa.String(), nullable=False),
        sa.Column("brought_at_us", sa.BigInteger(), nullable=False),
        sa.Column("jws", sa.LargeBinary(), nullable=False),
        sa.Column("withdrawn_at_us", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["workorder"], ["workorders.name"], name="fk_station_entries_workorder"),
        sa.PrimaryKeyConstraint("sha256", name="pk_station_entries"),
    )
    for column in _ONCE:
        op.create_index(
            f"ux_station_entries_{column}",
            "station_entries",
            [column],
            unique=True,
            sqlite_where=_STANDS,
            postgresql_where=_STANDS,
        )
    op.create_index("ix_station_entries_workorder_place", "station_entries", ["workorder", "place"])
    op.create_table(
        "manifest_removals",
        sa.Column("ek_sha256", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("imported_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("removed_by", sa.String(), nullable=False),
        sa.Column("removed_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ek_sha256", "serial", "imported_at_us", name="pk_manifest_removals"),
    )


def downgrade() -> None:
    for name in ("manifest_removals", "station_entries", "serial_blocks", "workorders"):
        op.drop_table(name)
    op.drop_column("refusals", "other_ek_sha256")
    op.drop_column("manifest", "batch")
